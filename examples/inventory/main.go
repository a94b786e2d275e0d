// Inventory keeps a stock that several processes sell from at once. A sale of two
// articles locks both, so that the stock is never seen, or left, half changed.
//
//	inventory                                           one process
//	distgear hub &                                       two processes
//	DISTGEAR_HUB=nats://localhost:4222 inventory -processes 2 &
//	DISTGEAR_HUB=nats://localhost:4222 inventory -processes 2
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"github.com/distgear/distgear"
	"github.com/distgear/distgear/shared"
)

const (
	articles = 6
	stocked  = 100 // of each article
	sellers  = 4   // in each process
)

func main() {
	processes := flag.Int("processes", 1, "processes in all")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, *processes)
	stop()
	if err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, processes int) error {
	n, err := distgear.Join(ctx, distgear.Config{})
	if err != nil {
		return err
	}
	fmt.Println("joined as", n.Name())
	stock := shared.NewMap[string, int](n, "stock")
	for i := range articles { // whoever is first
		if _, _, err := stock.LoadOrStore(ctx, article(i), stocked); err != nil {
			return err
		}
	}
	errs := make([]error, sellers)
	var all sync.WaitGroup
	for i := range sellers {
		all.Go(func() { errs[i] = sell(ctx, n, stock, i) })
	}
	all.Wait()
	// When all have sold what they could, the books are closed, by one of them.
	closing := shared.NewBarrier(n, "closing", processes)
	_, _, err = closing.AwaitDo(ctx, func(ctx context.Context) error { return report(ctx, n, stock) })
	return errors.Join(errors.Join(errs...), err, n.Leave(context.WithoutCancel(ctx)))
}

func article(i int) string { return fmt.Sprintf("article %d", i) }

// sell sells pairs of neighbouring articles until one of each pair is out.
func sell(ctx context.Context, n *distgear.Node, stock *shared.Map[string, int], seller int) error {
	sold := shared.NewCounter(n, "sold")
	for out := 0; out < articles/2; {
		out = 0
		for i := range articles / 2 {
			pair := (i + seller) % (articles / 2)
			ok, err := sellPair(ctx, stock, article(2*pair), article(2*pair+1))
			switch {
			case err != nil:
				return err
			case !ok:
				out++
			default:
				if _, err := sold.Add(ctx, 2); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// sellPair takes one of each, or nothing. All lock in the order of the names.
func sellPair(ctx context.Context, stock *shared.Map[string, int], a, b string) (ok bool, err error) {
	err = stock.Key(a).Do(ctx, func(ctx context.Context, _ shared.Token) error {
		return stock.Key(b).Do(ctx, func(ctx context.Context, _ shared.Token) error {
			left := map[string]int{}
			for _, k := range []string{a, b} {
				v, _, err := stock.Load(ctx, k)
				if err != nil {
					return err
				}
				left[k] = v
			}
			if ok = left[a] > 0 && left[b] > 0; !ok {
				return nil
			}
			return errors.Join(stock.Store(ctx, a, left[a]-1), stock.Store(ctx, b, left[b]-1))
		})
	})
	return ok, err
}

func report(ctx context.Context, n *distgear.Node, stock *shared.Map[string, int]) error {
	left := 0
	for e, err := range stock.All(ctx) {
		if err != nil {
			return err
		}
		left += e.Value
	}
	sold, err := shared.NewCounter(n, "sold").Load(ctx)
	fmt.Printf("sold %d of %d, %d left\n", sold, articles*stocked, left)
	return err
}
