// Order is a shop whose orders are one durable event: a payment, which is a request to
// an HTTP service, a thing reserved in the stock, which is a file, and a label for the carrier, which is
// another. Whoever is killed meanwhile, an order ends with all three, or with none.
//
//	order desk-1 lamp-2 desk-3@Atlantis  one process: the shop, its bank, and three orders, the last of which
//	                                     cannot be delivered: it is paid back, and returned to the stock
//
//	distgear hub --dir ledger &          many processes: in a directory with the three lines of
//	order -bank 127.0.0.1:8099 &         cluster/distgear.yaml, or with DISTGEAR_HUB in the environment
//	order -master &                      twice: one may be killed
//	order -work &                        twice likewise
//	order desk-1 lamp-2
//
// An order is a thing of the stock, a dash, a number, and @ with a place unless that is
// here. Its ID is the run's: the same order again is the same run.
//
// # What it takes
//
// Each step is found done, or not done, by a name that a second attempt has too:
// the bank is told the step's key (distgear.KeyOf) as Idempotency-Key, and files have the
// order's. Undoing leaves a mark where what comes late finds it: a charge that was on
// its way when its worker was given up is refused by the refund before it. So what a
// killed process did, or was about to do, may be asked for again (Idempotent), or undone.
// A master keeps nothing.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/distgear/distgear"
)

type options struct {
	bank, at, dir string
	master, work  bool
	orders        []string
}

func main() {
	var o options
	flag.StringVar(&o.bank, "bank", "", "only be the bank, at this address, until interrupted")
	flag.StringVar(&o.at, "at", "http://127.0.0.1:8099", "the bank, in a cluster")
	flag.StringVar(&o.dir, "dir", "shop", "where the stock, the labels and the bank's book are; the same for all workers")
	flag.BoolVar(&o.master, "master", false, "only handle orders, until interrupted")
	flag.BoolVar(&o.work, "work", false, "only do steps, until interrupted")
	flag.Parse()
	o.orders = flag.Args()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, &o)
	stop()
	if err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, o *options) (err error) {
	if o.bank != "" {
		url, closeBank, err := serveBank(ctx, o.bank, filepath.Join(o.dir, "bank"))
		if err != nil {
			return err
		}
		fmt.Println("bank at", url)
		<-ctx.Done()
		return closeBank()
	}
	n, err := distgear.Join(ctx, distgear.Config{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, n.Leave(context.WithoutCancel(ctx))) }()
	s := &shop{dir: o.dir, bank: o.at}
	if n.HubURL() == "" { // alone: it is all of them
		url, closeBank, err := serveBank(ctx, "127.0.0.1:0", filepath.Join(o.dir, "bank"))
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, closeBank()) }()
		s.bank = url
	}
	var offers []distgear.Handler
	if o.master || n.HubURL() == "" {
		offers = append(offers, s.ordered())
	}
	if o.work || n.HubURL() == "" {
		if err := s.stockUp(); err != nil {
			return err
		}
		offers = append(offers, s.pay(), s.reserve(), s.ship())
	}
	if err := n.Handle(offers...); err != nil {
		return err
	}
	if o.master || o.work {
		fmt.Println("serves as", n.Name(), "until it is interrupted")
		<-ctx.Done()
		return nil
	}
	return s.raise(ctx, n, o.orders)
}

// raise raises orders, all at once, and prints what becomes of each, in their order.
func (s *shop) raise(ctx context.Context, n *distgear.Node, texts []string) error {
	futures := make([]*distgear.Future[string], len(texts))
	for i, text := range texts {
		o, err := parse(text)
		if err == nil {
			futures[i], err = s.ordered().Raise(ctx, n, o, distgear.ID(o.ID))
		}
		if err != nil {
			return fmt.Errorf("order %s: %w", text, err)
		}
	}
	for i, f := range futures {
		if label, err := f.Wait(ctx); err == nil {
			fmt.Printf("%s: %s\n", texts[i], label)
		} else if errors.Is(err, errAddress) || errors.Is(err, errStock) || errors.Is(err, errMoney) {
			fmt.Printf("%s: not sent\n", texts[i])
		} else {
			return fmt.Errorf("order %s: %w", texts[i], err)
		}
	}
	return nil
}

// serveBank opens the bank's book in a directory and serves it, until it is closed.
func serveBank(ctx context.Context, addr, dir string) (url string, closeBank func() error, err error) {
	b, err := openBank(dir)
	if err != nil {
		return "", nil, err
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
	if err != nil {
		return "", nil, errors.Join(err, b.close())
	}
	srv := &http.Server{Handler: b.handler(), ReadHeaderTimeout: 10 * time.Second}
	served := make(chan error, 1) // one answer
	go func() { served <- srv.Serve(l) }()
	return "http://" + l.Addr().String(), func() error {
		err := srv.Close()
		if e := <-served; !errors.Is(e, http.ErrServerClosed) {
			err = errors.Join(err, e)
		}
		return errors.Join(err, b.close())
	}, nil
}
