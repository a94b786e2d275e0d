package shared_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/distgear/distgear"
	"github.com/distgear/distgear/shared"
)

// Ids count, not calls (L10).
func TestLatch_L10_CountsIDs(t *testing.T) {
	placements(t, func(t *testing.T, nodes []*distgear.Node) {
		ctx := t.Context()
		const count = 30
		waits := make(chan error, 3)
		for _, n := range nodes {
			go func() { waits <- shared.NewLatch(n, "l", count).Wait(ctx) }()
		}
		if missing, err := shared.NewLatch(nodes[0], "l", count).Missing(ctx); missing != count || err != nil {
			t.Error(missing, err)
		}
		var wg sync.WaitGroup
		for _, n := range nodes { // each counts all but one of the ids, twice
			l := shared.NewLatch(n, "l", count)
			wg.Go(func() {
				for range 2 {
					for id := range count - 1 {
						if missing, err := l.CountDown(ctx, fmt.Sprint(id)); missing < 1 || err != nil {
							t.Error(missing, err)
						}
					}
				}
			})
		}
		wg.Wait()
		l := shared.NewLatch(nodes[1], "l", count)
		if missing, err := l.Missing(ctx); missing != 1 || err != nil {
			t.Error(missing, err)
		}
		is(t, "context", l.Wait(brief(t, 20)), context.DeadlineExceeded)
		select {
		case err := <-waits:
			t.Error("opened too early:", err)
		default:
		}
		if missing, err := l.CountDown(ctx, "last"); missing != 0 || err != nil {
			t.Error(missing, err)
		}
		for range nodes {
			must(t, <-waits)
		}
		if missing, err := l.CountDown(ctx, "more"); missing != 0 || err != nil {
			t.Error(missing, err)
		}
		must(t, l.Wait(ctx))
		must(t, l.Destroy(ctx))
		if missing, err := shared.NewLatch(nodes[1], "l", count).Missing(ctx); missing != count || err != nil {
			t.Error("after destroy:", missing, err)
		}
		must(t, shared.NewLatch(nodes[2], "open", 0).Wait(ctx))
	})
}

func TestWaitGroup_L25(t *testing.T) {
	placements(t, func(t *testing.T, nodes []*distgear.Node) {
		ctx := t.Context()
		g := shared.NewWaitGroup(nodes[0], "g")
		must(t, g.Wait(ctx))
		const jobs = 30
		must(t, g.Add(ctx, jobs))
		var done atomic.Int64
		waits := make(chan int64, 3)
		for _, n := range nodes {
			go func() {
				if err := shared.NewWaitGroup(n, "g").Wait(ctx); err != nil {
					t.Error(err)
				}
				waits <- done.Load()
			}()
		}
		is(t, "context", g.Wait(brief(t, 20)), context.DeadlineExceeded)
		var wg sync.WaitGroup
		for i := range jobs {
			wg.Go(func() {
				done.Add(1)
				if err := shared.NewWaitGroup(nodes[i%3], "g").Done(ctx); err != nil {
					t.Error(err)
				}
			})
		}
		for range nodes {
			if n := <-waits; n != jobs {
				t.Errorf("waited until %d were done", n)
			}
		}
		wg.Wait()
		is(t, "below zero", g.Done(ctx), shared.ErrInvalid)
		is(t, "do", g.Do(ctx, func(ctx context.Context) error {
			if err := shared.NewWaitGroup(nodes[1], "g").Wait(brief(t, 20)); !errors.Is(err, context.DeadlineExceeded) {
				t.Error("not counted:", err)
			}
			return errBoom
		}), errBoom)
		must(t, g.Wait(ctx))
	})
}

func TestLatch_DestroyEndsWaits(t *testing.T) {
	placements(t, func(t *testing.T, nodes []*distgear.Node) {
		ctx := t.Context()
		l, g := shared.NewLatch(nodes[0], "l", 1), shared.NewWaitGroup(nodes[0], "g")
		waits := make(chan error, 2)
		go func() { waits <- shared.NewLatch(nodes[1], "l", 1).Wait(ctx) }()
		for ended := false; !ended; { // until it waits
			must(t, l.Destroy(ctx))
			select {
			case err := <-waits:
				is(t, "latch", err, shared.ErrDestroyed)
				ended = true
			default:
			}
		}
		wait := func() { waits <- shared.NewWaitGroup(nodes[1], "g").Wait(ctx) }
		must(t, g.Add(ctx, 1))
		go wait()
		for ended := false; !ended; {
			must(t, g.Destroy(ctx))
			must(t, shared.NewWaitGroup(nodes[0], "g").Add(ctx, 1))
			select {
			case err := <-waits:
				if ended = err != nil; ended {
					is(t, "wait group", err, shared.ErrDestroyed)
				} else { // it came between the two
					go wait()
				}
			default:
			}
		}
	})
}

func TestOnce(t *testing.T) {
	placements(t, func(t *testing.T, nodes []*distgear.Node) {
		ctx := t.Context()
		var ran, inside atomic.Int64
		var wg sync.WaitGroup
		for i := range 9 {
			o := shared.NewOnce(nodes[i%3], "o")
			wg.Go(func() {
				err := o.Do(ctx, func(context.Context) error {
					if inside.Add(1) != 1 {
						t.Error("two at once")
					}
					defer inside.Add(-1)
					if ran.Add(1) < 3 {
						return errBoom
					}
					return nil
				})
				if err != nil && !errors.Is(err, errBoom) || ran.Load() < 1 {
					t.Error(ran.Load(), err)
				}
			})
		}
		wg.Wait()
		if ran.Load() != 3 {
			t.Errorf("ran %d times, of which two failed", ran.Load())
		}
		o := shared.NewOnce(nodes[0], "o")
		if done, err := o.Done(ctx); !done || err != nil {
			t.Error(done, err)
		}
		must(t, o.Destroy(ctx))
		func() {
			defer func() { _ = recover() }()
			_ = o.Do(ctx, func(context.Context) error { panic(errBoom) })
		}()
		is(t, "nested", o.Do(ctx, func(ctx context.Context) error { return o.Do(ctx, nil) }), shared.ErrHeld)
		for { // it hears soon that it was destroyed
			done, err := shared.NewOnce(nodes[1], "o").Done(ctx)
			if err != nil && !errors.Is(err, shared.ErrDestroyed) {
				t.Fatal(err)
			}
			if err == nil && !done {
				break
			}
		}
		must(t, shared.NewOnce(nodes[0], "o").Do(ctx, func(context.Context) error { return nil }))

		held := make(chan struct{})
		other := make(chan error, 1)
		go func() {
			other <- shared.NewOnce(nodes[1], "slow").Do(ctx, func(context.Context) error { <-held; return nil })
		}()
		is(t, "context", shared.NewOnce(nodes[2], "slow").Do(brief(t, 30), func(ctx context.Context) error {
			<-ctx.Done()
			return context.Cause(ctx)
		}), context.DeadlineExceeded)
		close(held)
		must(t, <-other)
	})
}
