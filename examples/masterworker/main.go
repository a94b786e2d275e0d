// Masterworker is the pattern of the classic article "Distributed Computing Made Easy"
// (Jonas Bonér, 2006): a master puts work into a bounded queue, workers take it and run it on a
// pool of their own, and what they find comes back by another queue. The queues are shared, so
// what is one program with threads in it is a cluster when its configuration says so.
//
//	masterworker                         one process: the master and a worker
//	DISTGEAR_SERVE=127.0.0.1:4222 masterworker
//	                                     one process, which others may join while it runs
//
//	distgear hub &                       many processes: in a directory with the three
//	masterworker -work &                 lines of cluster/distgear.yaml, or with
//	masterworker                         DISTGEAR_HUB=nats://127.0.0.1:4222 in the environment
//
// Load balances itself: a worker takes work when its pool has room. One that is asked to end finishes what
// it took; one that crashes has lost that, and the master waits for it. Package
// executor is this pattern without that fault (see examples/primes). What queues can do between equals, with no
// master, is in examples/sharedqueue.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"math/rand/v2"
	"os"
	"os/signal"
	"runtime"
	"syscall"

	"github.com/distgear/distgear"
	"github.com/distgear/distgear/executor"
	"github.com/distgear/distgear/shared"
)

// job is to find the number from From to To whose Collatz sequence is the longest.
type job struct {
	Master   uint64 // who wants to know; results for a master that was killed may still be there
	From, To int
}

// result is what was found for a job.
type result struct {
	job

	Number, Length int
}

// cluster is what master and workers have in common.
type cluster struct {
	work    *shared.Queue[job]
	results *shared.Queue[result]
}

func main() {
	work := flag.Bool("work", false, "only work for a master, until interrupted")
	upTo := flag.Int("n", 3_000_000, "look at the numbers up to this one")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, *work, *upTo)
	stop()
	if err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, work bool, upTo int) (err error) {
	n, err := distgear.Join(ctx, distgear.Config{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, n.Leave(context.WithoutCancel(ctx))) }()
	c := &cluster{shared.NewQueue[job](n, "work", 20), shared.NewQueue[result](n, "results", 20)}
	if work {
		fmt.Println("works as", n.Name(), "until it is interrupted")
		return c.worker(ctx, n)
	}
	working, stop := context.WithCancel(ctx)
	worked := make(chan error, 1) // one answer
	go func() { worked <- c.worker(working, n) }()
	err = c.master(ctx, upTo)
	stop()
	return errors.Join(err, <-worked)
}

// master puts all the work, and takes all the results, at the same time: the queues are small.
func (c *cluster) master(ctx context.Context, upTo int) error {
	const size = 10_000 // numbers in a job
	me := rand.Uint64()
	putting, stop := context.WithCancelCause(ctx)
	all := make(chan error, 1) // one answer
	go func() {
		var err error
		for from := 1; from <= upTo && err == nil; from += size {
			err = c.work.Put(putting, job{me, from, min(from+size-1, upTo)}) // waits while the queue is full
		}
		all <- err
	}()
	var best result
	var err error
	for missing := (upTo + size - 1) / size; missing > 0 && err == nil; {
		var r result
		if r, err = c.results.Take(ctx); err != nil || r.Master != me {
			continue
		}
		missing--
		if r.Length > best.Length || r.Length == best.Length && r.Number < best.Number {
			best = r
		}
	}
	stop(err)
	if err = errors.Join(err, <-all); err == nil {
		fmt.Printf("up to %d: the longest sequence begins with %d and has %d numbers\n", upTo, best.Number, best.Length)
	}
	return err
}

// worker takes work as long as its pool has room, until ctx ends; then it finishes what it took.
func (c *cluster) worker(ctx context.Context, n *distgear.Node) error {
	search := &distgear.Action[job, bool]{Name: "search", Do: func(ctx context.Context, j job) (bool, error) {
		return true, c.results.Put(ctx, collatz(j))
	}}
	slots := runtime.GOMAXPROCS(0)
	pool := executor.Config{Capacity: 2 * slots}.New(n, "pool-of-"+string(n.Name())) // of its own: nobody else knows its name
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	ran := make(chan error, 1) // one answer
	go func() { ran <- pool.Work(running, slots, search) }()
	var err error
	for err == nil {
		var j job
		if j, err = c.work.Take(ctx); err == nil {
			_, err = executor.Submit(running, pool, search, j) // waits while the pool is full
		}
	}
	if ctx.Err() != nil {
		err = nil // it is asked to end
	}
	err = errors.Join(err, pool.Shutdown(running))
	stop()
	return errors.Join(err, <-ran)
}

// collatz looks at each number of a job.
func collatz(j job) result {
	r := result{job: j}
	for k := j.From; k <= j.To; k++ {
		length := 1
		for x := k; x != 1; length++ {
			if x%2 == 0 {
				x /= 2
			} else {
				x = 3*x + 1
			}
		}
		if length > r.Length {
			r.Number, r.Length = k, length
		}
	}
	return r
}
