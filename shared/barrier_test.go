package shared_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/distgear/distgear"
	"github.com/distgear/distgear/shared"
)

// 1,000 generations: nobody leaves one before all have come to it, indices are
// each given once, and the action is run once in each.
func TestBarrier_L24_Thrash(t *testing.T) {
	placements(t, func(t *testing.T, nodes []*distgear.Node) {
		const rounds, parties = 1000, 3
		var came [rounds + 1]atomic.Int64
		var acted, indices atomic.Int64
		var wg sync.WaitGroup
		for i := range parties {
			b := shared.NewBarrier(nodes[i], "b", parties)
			wg.Go(func() {
				last := uint64(0)
				for round := range rounds {
					came[round].Add(1)
					gen, index, err := b.AwaitDo(t.Context(), func(context.Context) error {
						if came[round].Load() != parties {
							t.Errorf("round %d: the action runs before all have come", round)
						}
						acted.Add(1)
						return nil
					})
					if err != nil {
						t.Error(err)
						return
					}
					if n := came[round].Load(); n != parties {
						t.Errorf("round %d: left when %d had come", round, n)
					}
					if gen != last+1 && last != 0 {
						t.Errorf("generation %d after %d", gen, last)
					}
					last = gen
					indices.Add(1 << (8 * index))
				}
			})
		}
		wg.Wait()
		if acted.Load() != rounds || indices.Load() != rounds*(1+1<<8+1<<16) {
			t.Errorf("%d actions, indices %x", acted.Load(), indices.Load())
		}
	})
}

// awaitAll lets all parties of a barrier await, and returns their errors.
func awaitAll(ctx context.Context, nodes []*distgear.Node, action func(context.Context) error) []error {
	errs := make([]error, len(nodes))
	var wg sync.WaitGroup
	for i, n := range nodes {
		wg.Go(func() { _, _, errs[i] = shared.NewBarrier(n, "b", len(nodes)).AwaitDo(ctx, action) })
	}
	wg.Wait()
	return errs
}

func TestBarrier_L24_BreaksForAll(t *testing.T) {
	placements(t, func(t *testing.T, nodes []*distgear.Node) {
		ctx := t.Context()
		b := shared.NewBarrier(nodes[0], "b", 3)
		broken := func(what string, err error, reason shared.BrokenReason) {
			t.Helper()
			e, ok := errors.AsType[*shared.BrokenError](err)
			if !ok || e.Reason != reason || !errors.Is(err, shared.ErrBroken) {
				t.Errorf("%s: got %v, want broken: %v", what, err, reason)
			}
		}
		whole := func() {
			t.Helper()
			_, err := b.Reset(ctx)
			must(t, err)
			for _, err := range awaitAll(ctx, nodes, nil) {
				must(t, err)
			}
		}
		whole()

		// The context of one ends while two wait.
		other := make(chan error, 1)
		go func() { _, _, err := b.Await(ctx); other <- err }()
		_, _, err := shared.NewBarrier(nodes[1], "b", 3).Await(brief(t, 30))
		broken("timeout", err, shared.BrokenAbandoned)
		is(t, "timeout", err, context.DeadlineExceeded)
		err = <-other
		broken("the other", err, shared.BrokenAbandoned)
		if errors.Is(err, context.DeadlineExceeded) {
			t.Error("another's context:", err)
		}
		_, _, err = b.Await(ctx)
		broken("who comes later", err, shared.BrokenAbandoned)
		whole()

		// The action fails.
		failed := 0
		for _, err := range awaitAll(ctx, nodes, func(context.Context) error { return errBoom }) {
			broken("failed action", err, shared.BrokenFailed)
			if errors.Is(err, errBoom) {
				failed++
			}
		}
		if failed != 1 {
			t.Errorf("%d parties know the error of the action", failed)
		}
		whole()

		// The action panics: that goes on in its party.
		panics := make(chan any, 3)
		var wg sync.WaitGroup
		for _, n := range nodes {
			wg.Go(func() {
				defer func() {
					if p := recover(); p != nil {
						panics <- p
					}
				}()
				_, _, err := shared.NewBarrier(n, "b", 3).AwaitDo(ctx, func(context.Context) error { panic(errBoom) })
				broken("panic", err, shared.BrokenFailed)
			})
		}
		wg.Wait()
		if p := <-panics; p != any(errBoom) || len(panics) > 0 {
			t.Errorf("panics: %v, and %d more", p, len(panics))
		}
		whole()

		// Reset while one waits, and while an action runs.
		go func() { _, _, err := b.Await(ctx); other <- err }()
		for reset := false; !reset; { // until it waits
			if _, err := shared.NewBarrier(nodes[2], "b", 3).Reset(ctx); err != nil {
				t.Fatal(err)
			}
			select {
			case err := <-other:
				broken("reset", err, shared.BrokenReset)
				reset = true
			default:
			}
		}
		for _, err := range awaitAll(ctx, nodes, func(ctx context.Context) error {
			if _, err := b.Reset(context.WithoutCancel(ctx)); err != nil {
				t.Error(err)
			}
			<-ctx.Done()
			is(t, "context of the action", context.Cause(ctx), shared.ErrBroken)
			return nil
		}) {
			broken("reset in the action", err, shared.BrokenReset)
		}
		whole()

		// A context that has ended does nothing.
		ended, cancel := context.WithCancel(ctx)
		cancel()
		_, _, err = b.Await(ended)
		is(t, "ended", err, context.Canceled)
		if errors.Is(err, shared.ErrBroken) {
			t.Error(err)
		}
		for _, err := range awaitAll(ctx, nodes, nil) {
			must(t, err)
		}

		// Destroy while one waits.
		go func() { _, _, err := shared.NewBarrier(nodes[1], "b", 3).Await(ctx); other <- err }()
		for gone := false; !gone; {
			must(t, b.Destroy(ctx))
			select {
			case err := <-other:
				is(t, "destroyed", err, shared.ErrDestroyed)
				gone = true
			default:
			}
		}
	})
}

// A node that leaves breaks the barrier for those who wait (L10).
func TestBarrier_L10_LeavingBreaks(t *testing.T) {
	hub := join(t, distgear.Config{Name: "hub", Serve: "127.0.0.1:0"})
	other := join(t, distgear.Config{Name: "other", Hub: hub.HubURL()})
	b := shared.NewBarrier(hub, "b", 3)
	errs := make(chan error, 2)
	acting := make(chan struct{})
	for range 2 {
		go func() { _, _, err := b.Await(t.Context()); errs <- err }()
	}
	go func() {
		for { // the last one: others must not be, for they have no action
			_, index, err := shared.NewBarrier(other, "b", 3).AwaitDo(t.Context(), func(ctx context.Context) error {
				close(acting)
				<-ctx.Done()
				return nil
			})
			if err != nil || index != 2 {
				return
			}
		}
	}()
	select {
	case <-acting:
	case err := <-errs: // it was not the last
		must(t, err)
		return
	}
	must(t, other.Leave(t.Context()))
	for range 2 {
		err := <-errs
		if e, ok := errors.AsType[*shared.BrokenError](err); !ok || e.Reason != shared.BrokenLost {
			t.Error(err)
		}
	}
}
