// Primes counts the primes up to a number. The numbers are cut into chunks, each chunk is
// a task, and whoever has time takes the next one.
//
//	primes                               one process: all of its processors
//	DISTGEAR_SERVE=127.0.0.1:4222 primes -n 100000000000
//	                                     one process, which others may join while it runs
//
//	distgear hub &                       many processes, here or elsewhere
//	export DISTGEAR_HUB=nats://127.0.0.1:4222
//	primes -work &                       as many of these as you like, at any time
//	primes
//
// A worker may be killed (kill -9): others count what it had, and nothing is counted twice.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"iter"
	"log"
	"os"
	"os/signal"
	"syscall"

	"github.com/distgear/distgear"
	"github.com/distgear/distgear/executor"
)

// chunk is the numbers from From to To, both included.
type chunk struct{ From, To int }

// found is what is in a chunk.
type found struct {
	chunk

	Primes, Last int // how many, and the largest one; 0 if there is none
}

// count is what a task does. It may be done twice without harm, so it is done again elsewhere if a worker is lost.
var count = &distgear.Action[chunk, found]{Name: "count-primes", Idempotent: true,
	Do: func(_ context.Context, c chunk) (found, error) { return sieve(c), nil }}

func main() {
	work := flag.Bool("work", false, "only count for others, until interrupted")
	upTo := flag.Int("n", 20_000_000, "up to this number")
	size := flag.Int("chunk", 1_000_000, "numbers in a chunk")
	flag.Parse()
	if *size < 1 {
		log.Fatal("-chunk: want 1 or more")
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, *work, *upTo, *size)
	stop()
	if err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, work bool, upTo, size int) (err error) {
	n, err := distgear.Join(ctx, distgear.Config{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, n.Leave(context.WithoutCancel(ctx))) }()
	ex := executor.New(n, "primes")
	if work {
		fmt.Println("works as", n.Name(), "until it is interrupted")
		return ex.Work(ctx, 0, count) // 0: as many tasks at once as there are processors
	}

	working, stop := context.WithCancel(ctx)
	worked := make(chan error, 1) // one answer
	go func() { worked <- ex.Work(working, 0, count) }()
	err = report(ctx, ex, upTo, size)
	stop()
	return errors.Join(err, <-worked)
}

// report prints what is in each chunk, in their order, as soon as it is known.
func report(ctx context.Context, ex *executor.Executor, upTo, size int) error {
	all := 0
	for f, err := range executor.Map(ctx, ex, count, chunks(upTo, size), executor.Ordered(true)) {
		if err != nil {
			return err
		}
		all += f.Primes
		fmt.Printf("%d to %d: %d primes, the last is %d\n", f.From, f.To, f.Primes, f.Last)
	}
	fmt.Printf("%d primes in all\n", all)
	return nil
}

func chunks(upTo, size int) iter.Seq[chunk] {
	return func(yield func(chunk) bool) {
		for from := 1; from <= upTo; from += size {
			if !yield(chunk{from, min(from+size-1, upTo)}) {
				return
			}
		}
	}
}

// sieve crosses out the multiples of all numbers whose square is in the chunk or before it.
func sieve(c chunk) found {
	crossed := make([]bool, c.To-c.From+1)
	for d := 2; d*d <= c.To; d++ {
		first := max(d*d, (c.From+d-1)/d*d)
		for m := first; m <= c.To; m += d {
			crossed[m-c.From] = true
		}
	}
	f := found{chunk: c}
	for i, not := range crossed {
		if k := c.From + i; !not && k > 1 {
			f.Primes++
			f.Last = k
		}
	}
	return f
}
