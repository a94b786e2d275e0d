package shared_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/distgear/distgear"
	"github.com/distgear/distgear/shared"
)

// Never more permits are held than there are, and in the end all are free.
func TestSemaphore_L25_NeverMoreThanTheSize(t *testing.T) {
	placements(t, func(t *testing.T, nodes []*distgear.Node) {
		const size = 7
		seed := rand.Uint64()
		t.Log("seed", seed)
		var held, most atomic.Int64
		var mu sync.Mutex
		var tokens []shared.Token
		var wg sync.WaitGroup
		for i := range 9 {
			s := shared.NewSemaphore(nodes[i%3], "s", size)
			r := rand.New(rand.NewPCG(seed, uint64(i)))
			wg.Go(func() {
				for range 60 {
					k := 1 + r.IntN(size)
					var p shared.Permits
					var err error
					ok := true
					switch r.IntN(4) {
					case 0:
						p, ok, err = s.TryAcquire(t.Context(), k)
					case 1:
						p, err = s.Acquire(brief(t, r.IntN(4)), k)
						if errors.Is(err, context.DeadlineExceeded) {
							ok, err = false, nil
						}
					default:
						p, err = s.Acquire(t.Context(), k)
					}
					if err != nil {
						t.Error(err)
						return
					}
					if !ok {
						continue
					}
					if now := held.Add(int64(k)); now > size {
						t.Errorf("%d of %d are held", now, size)
					} else if now > most.Load() {
						most.Store(now)
					}
					mu.Lock()
					tokens = append(tokens, p.Token())
					mu.Unlock()
					held.Add(-int64(k))
					if err := p.Release(); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		p, err := shared.NewSemaphore(nodes[2], "s", size).Acquire(t.Context(), size)
		must(t, err)
		slices.Sort(tokens)
		if n := len(slices.Compact(slices.Clone(tokens))); n != len(tokens) || p.Token() <= tokens[n-1] {
			t.Errorf("%d tokens for %d grants, then %d", n, len(tokens), p.Token())
		}
		t.Log("at most", most.Load(), "of", size)
		must(t, p.Release())
	})
}

func TestSemaphore_BadUse(t *testing.T) {
	placements(t, func(t *testing.T, nodes []*distgear.Node) {
		ctx := t.Context()
		a, b := shared.NewSemaphore(nodes[0], "s", 3), shared.NewSemaphore(nodes[1], "s", 3)
		p, err := a.Acquire(ctx, 2)
		must(t, err)
		if _, ok, err := b.TryAcquire(ctx, 2); ok || err != nil {
			t.Fatal(ok, err)
		}
		_, err = b.Acquire(brief(t, 20), 2)
		is(t, "context", err, context.DeadlineExceeded)
		ended, cancel := context.WithCancelCause(ctx)
		cancel(errBoom)
		_, err = b.Acquire(ended, 1)
		is(t, "ended context", err, errBoom)
		q, ok, err := b.TryAcquire(ctx, 1) // the waits above are gone
		if !ok || err != nil {
			t.Fatal(ok, err)
		}
		must(t, p.Release())
		is(t, "second release", p.Release(), shared.ErrNotHeld)
		<-p.Lost()
		must(t, q.Release())
		err = a.Do(ctx, 3, func(context.Context, shared.Token) error { return errBoom })
		is(t, "do", err, errBoom)
		p, err = b.Acquire(ctx, 3) // Do has given them back
		must(t, err)
		waits := make(chan error, 1)
		go func() {
			_, err := a.Acquire(ctx, 1)
			waits <- err
		}()
		lost := p.Lost()
		for queued := false; !queued; { // until the other waits
			select {
			case <-lost:
				t.Fatal("lost")
			default:
			}
			queued = len(waits) == 0
		}
		must(t, a.Destroy(ctx))
		<-lost
		is(t, "release of what was destroyed", p.Release(), shared.ErrDestroyed)
		if err := <-waits; err != nil { // it waited, or came later and had a new one
			is(t, "wait", err, shared.ErrDestroyed)
		}
	})
}

// A big request is not starved: small ones do not pass it.
func TestSemaphore_L03_InOrder(t *testing.T) {
	placements(t, func(t *testing.T, nodes []*distgear.Node) {
		ctx := t.Context()
		a, b, c := shared.NewSemaphore(nodes[0], "s", 5), shared.NewSemaphore(nodes[1], "s", 5), shared.NewSemaphore(nodes[2], "s", 5)
		first, err := a.Acquire(ctx, 4)
		must(t, err)
		tokens := make(chan shared.Token, 2)
		take := func(s *shared.Semaphore, k int) {
			err := s.Do(ctx, k, func(_ context.Context, token shared.Token) error { tokens <- token; return nil })
			if err != nil {
				t.Error(err)
			}
		}
		go take(b, 5)
		for waits := false; !waits; { // one is free, but for that the big one waits
			p, ok, err := a.TryAcquire(ctx, 1)
			must(t, err)
			if waits = !ok; ok {
				must(t, p.Release())
			}
		}
		small := make(chan struct{})
		go func() { take(c, 1); close(small) }()
		if _, ok, err := c.TryAcquire(ctx, 1); ok || err != nil {
			t.Fatal("passed the big one:", ok, err)
		}
		must(t, first.Release())
		if big, other := <-tokens, <-tokens; big > other {
			t.Errorf("token %d before %d", big, other)
		}
		<-small
	})
}

// A node that leaves gives back what it held, and waits no more (L10).
func TestSemaphore_L10_LeavingReturnsPermits(t *testing.T) {
	hub := join(t, distgear.Config{Name: "hub", Serve: "127.0.0.1:0"})
	other := join(t, distgear.Config{Name: "other", Hub: hub.HubURL()})
	ctx := t.Context()
	s, o := shared.NewSemaphore(hub, "s", 3), shared.NewSemaphore(other, "s", 3)
	held, err := s.Acquire(ctx, 1)
	must(t, err)
	p, err := o.Acquire(ctx, 2)
	must(t, err)
	waits := make(chan error, 1)
	go func() {
		_, err := o.Acquire(ctx, 2)
		waits <- err
	}()
	lost := p.Lost()
	must(t, other.Leave(ctx))
	<-lost
	is(t, "release after leaving", p.Release(), shared.ErrSessionLost)
	if err := <-waits; !errors.Is(err, shared.ErrSessionLost) && !errors.Is(err, distgear.ErrLeft) {
		t.Error("wait of who left:", err)
	}
	all, err := s.Acquire(ctx, 2)
	must(t, err)
	must(t, all.Release())
	must(t, held.Release())
}

var errBoom = errors.New("boom")
