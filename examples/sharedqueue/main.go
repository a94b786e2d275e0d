// Sharedqueue puts jobs into a bounded queue and takes them out again, each once,
// in one process or in many. There is no master: all processes are equal, and a barrier
// and a value that means "end" tell them when all is done. With a master, results and a
// pool: examples/masterworker.
//
//	sharedqueue                                         one process
//	distgear hub &                                       two processes
//	DISTGEAR_HUB=nats://localhost:4222 sharedqueue -processes 2 &
//	DISTGEAR_HUB=nats://localhost:4222 sharedqueue -processes 2
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
	jobs    = 300 // in all
	workers = 3   // in each process
	stop    = 0   // tells a worker to end
)

func main() {
	processes := flag.Int("processes", 1, "processes in all")
	flag.Parse()
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, *processes)
	cancel()
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
	queue := shared.NewQueue[int](n, "jobs", 20) // small: who puts waits for who takes
	sum := shared.NewCounter(n, "sum of the squares")

	errs := make([]error, workers)
	var all sync.WaitGroup
	for i := range workers {
		all.Go(func() { errs[i] = work(ctx, queue, sum) })
	}
	// Numbers are given out by a counter, so each is put once, by whichever process.
	next := shared.NewCounter(n, "next job")
	for {
		job, err := next.Add(ctx, 1)
		if err != nil {
			return err
		}
		if job > jobs {
			break
		}
		if err := queue.Put(ctx, int(job)); err != nil {
			return err
		}
	}
	put := shared.NewBarrier(n, "all is put", processes)
	if _, _, err := put.Await(ctx); err != nil {
		return err
	}
	for range workers { // as many as there are here; it does not matter who takes which
		if err := queue.Put(ctx, stop); err != nil {
			return err
		}
	}
	all.Wait()
	_, _, err = shared.NewBarrier(n, "all is done", processes).AwaitDo(ctx, func(ctx context.Context) error {
		total, err := sum.Load(ctx)
		fmt.Printf("the squares of 1 to %d are %d in all\n", jobs, total)
		return err
	})
	return errors.Join(errors.Join(errs...), err, n.Leave(context.WithoutCancel(ctx)))
}

func work(ctx context.Context, queue *shared.Queue[int], sum *shared.Counter) error {
	for {
		job, err := queue.Take(ctx)
		if err != nil || job == stop {
			return err
		}
		if _, err := sum.Add(ctx, int64(job*job)); err != nil {
			return err
		}
	}
}
