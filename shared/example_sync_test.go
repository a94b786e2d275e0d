package shared_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"sync"

	"github.com/distgear/distgear"
	"github.com/distgear/distgear/shared"
)

// nodeAlone is a node alone; in a cluster the same code coordinates processes.
func nodeAlone() (ctx context.Context, n *distgear.Node, leave func()) {
	ctx = context.Background()
	n, err := distgear.Join(ctx, distgear.Config{})
	if err != nil {
		log.Fatal(err)
	}
	return ctx, n, func() { _ = n.Leave(ctx) }
}

func ExampleNewCounter() {
	ctx, n, leave := nodeAlone()
	defer leave()
	hits := shared.NewCounter(n, "hits")
	fmt.Println(hits.Add(ctx, 2))
	fmt.Println(hits.CompareAndSet(ctx, 2, 10))
	fmt.Println(hits.Load(ctx))
	// Output:
	// 2 <nil>
	// true <nil>
	// 10 <nil>
}

func ExampleNewSemaphore() {
	ctx, n, leave := nodeAlone()
	defer leave()
	licences := shared.NewSemaphore(n, "licences", 10)
	p, err := licences.Acquire(ctx, 7)
	if err != nil {
		log.Fatal(err)
	}
	_, ok, err := licences.TryAcquire(ctx, 4)
	fmt.Println("4 more:", ok, err)
	fmt.Println(p.Release())
	err = licences.Do(ctx, 4, func(context.Context, shared.Token) error {
		fmt.Println("4 are ours")
		return nil
	})
	fmt.Println(err)
	// Output:
	// 4 more: false <nil>
	// <nil>
	// 4 are ours
	// <nil>
}

func ExampleNewBarrier() {
	ctx, n, leave := nodeAlone()
	defer leave()
	var wg sync.WaitGroup
	for range 3 {
		b := shared.NewBarrier(n, "phase", 3)
		wg.Go(func() {
			_, _, err := b.AwaitDo(ctx, func(context.Context) error {
				fmt.Println("all have come")
				return nil
			})
			if errors.Is(err, shared.ErrBroken) {
				fmt.Println("somebody went before:", err)
			}
		})
	}
	wg.Wait()
	// Output: all have come
}

func ExampleNewLatch() {
	ctx, n, leave := nodeAlone()
	defer leave()
	ready := shared.NewLatch(n, "ready", 2)
	fmt.Println(ready.CountDown(ctx, "a"))
	fmt.Println(ready.CountDown(ctx, "a")) // repeated: counts once
	fmt.Println(ready.CountDown(ctx, "b"))
	fmt.Println(ready.Wait(ctx))
	// Output:
	// 1 <nil>
	// 1 <nil>
	// 0 <nil>
	// <nil>
}

func ExampleNewWaitGroup() {
	ctx, n, leave := nodeAlone()
	defer leave()
	jobs := shared.NewWaitGroup(n, "jobs")
	if err := jobs.Add(ctx, 3); err != nil {
		log.Fatal(err)
	}
	for range 3 {
		go func() { // at any node
			if err := jobs.Done(ctx); err != nil {
				log.Print(err)
			}
		}()
	}
	fmt.Println(jobs.Wait(ctx))
	// Output: <nil>
}

func ExampleNewOnce() {
	ctx, n, leave := nodeAlone()
	defer leave()
	for range 2 {
		err := shared.NewOnce(n, "schema").Do(ctx, func(context.Context) error {
			fmt.Println("made the schema")
			return nil
		})
		fmt.Println(err)
	}
	// Output:
	// made the schema
	// <nil>
	// <nil>
}

func ExampleNewTopic() {
	ctx, n, leave := nodeAlone()
	defer leave()
	news := shared.NewTopic[string](n, "news")
	sub, err := news.Subscribe(ctx, 0)
	if err != nil {
		log.Fatal(err)
	}
	for _, s := range []string{"hello", "goodbye"} {
		if _, err := news.Publish(ctx, s); err != nil {
			log.Fatal(err)
		}
	}
	for m, err := range sub.All(ctx) {
		fmt.Println(m.Number, m.Value, err)
		if m.Value == "goodbye" {
			sub.Close()
		}
	}
	// Output:
	// 1 hello <nil>
	// 2 goodbye <nil>
}

func ExampleNewElection() {
	ctx, n, leave := nodeAlone()
	defer leave()
	primary := shared.NewElection(n, "primary")
	lead, err := primary.Campaign(ctx, "10.0.0.1:80")
	if err != nil {
		log.Fatal(err)
	}
	leader, err := primary.Leader(ctx)
	fmt.Println(leader.Value, leader.Token == lead.Token(), err)
	fmt.Println(lead.Resign())
	for leader, err := range primary.Observe(ctx) {
		fmt.Println(leader == (shared.Leader{}), err)
		break
	}
	// Output:
	// 10.0.0.1:80 true <nil>
	// <nil>
	// true <nil>
}
