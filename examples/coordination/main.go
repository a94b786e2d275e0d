// Coordination counts primes in phases: all workers finish a phase before any
// begins the next. The workers are goroutines of one process, or of many:
//
//	coordination -here 4 -all 4                                    one process
//	distgear hub &                                       two processes
//	DISTGEAR_HUB=nats://localhost:4222 coordination -here 2 -all 4 &
//	DISTGEAR_HUB=nats://localhost:4222 coordination -here 2 -all 4
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
	phases = 5
	step   = 20_000 // numbers looked at in each
)

func main() {
	here := flag.Int("here", 4, "workers in this process")
	all := flag.Int("all", 4, "workers in all processes")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, *here, *all)
	stop()
	if err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, here, all int) (err error) {
	n, err := distgear.Join(ctx, distgear.Config{})
	if err != nil {
		return err
	}
	fmt.Println("joined as", n.Name())
	errs := make([]error, here)
	var workers sync.WaitGroup
	for i := range here {
		workers.Go(func() { errs[i] = work(ctx, n, all) })
	}
	workers.Wait()
	return errors.Join(errors.Join(errs...), n.Leave(context.WithoutCancel(ctx)))
}

func work(ctx context.Context, n *distgear.Node, all int) error {
	found := shared.NewCounter(n, "primes")
	together := shared.NewBarrier(n, "phase", all)
	me, err := shared.NewCounter(n, "workers").Add(ctx, 1) // 1, 2, 3 …
	if err != nil {
		return err
	}
	for phase := range phases {
		count := int64(0)
		for i := phase*step + int(me); i <= (phase+1)*step; i += all {
			if prime(i) {
				count++
			}
		}
		if _, err := found.Add(ctx, count); err != nil {
			return err
		}
		// The last to arrive says how far all are, before any goes on.
		_, _, err := together.AwaitDo(ctx, func(ctx context.Context) error {
			total, err := found.Load(ctx)
			fmt.Printf("phase %d: %d primes up to %d\n", phase+1, total, (phase+1)*step)
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func prime(n int) bool {
	for i := 2; i*i <= n; i++ {
		if n%i == 0 {
			return false
		}
	}
	return n > 1
}
