package shared_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/distgear/distgear"
	"github.com/distgear/distgear/shared"
)

// brief is a context that ends after ms; how long does not matter to what is tested.
func brief(t testing.TB, ms int) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Duration(ms)*time.Millisecond)
	t.Cleanup(cancel)
	return ctx
}

// must fails the test at an error.
func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// is fails the test unless err is each of these.
func is(t testing.TB, what string, err error, targets ...error) {
	t.Helper()
	for _, target := range targets {
		if !errors.Is(err, target) {
			t.Errorf("%s: got %v, want %v", what, err, target)
		}
	}
}

func TestCounter_L25_AddAndCompareAndSetStorms(t *testing.T) {
	placements(t, func(t *testing.T, nodes []*distgear.Node) {
		const each = 100
		var wg sync.WaitGroup
		for i := range 9 {
			added, compared := shared.NewCounter(nodes[i%3], "added"), shared.NewCounter(nodes[i%3], "compared")
			wg.Go(func() {
				for range each {
					if _, err := added.Add(t.Context(), 1); err != nil {
						t.Error(err)
						return
					}
				}
			})
			wg.Go(func() {
				for range each / 10 {
					for done := false; !done; {
						old, err := compared.Load(t.Context())
						if err == nil {
							done, err = compared.CompareAndSet(t.Context(), old, old+3)
						}
						if err != nil {
							t.Error(err)
							return
						}
					}
				}
			})
		}
		wg.Wait()
		for name, want := range map[string]int64{"added": 9 * each, "compared": 9 * each / 10 * 3} {
			if got, err := shared.NewCounter(nodes[1], name).Load(t.Context()); got != want || err != nil {
				t.Errorf("%s: %d, %v, want %d", name, got, err, want)
			}
		}
	})
}

// Each Add returns a sum that no other Add returns: so it is one step.
func TestCounter_L25_EverySumOnce(t *testing.T) {
	placements(t, func(t *testing.T, nodes []*distgear.Node) {
		var mu sync.Mutex
		seen := map[int64]bool{}
		var wg sync.WaitGroup
		for i := range 6 {
			c := shared.NewCounter(nodes[i%3], "c")
			wg.Go(func() {
				for last := int64(0); last < 300; {
					v, err := c.Add(t.Context(), 1)
					mu.Lock()
					if err != nil || seen[v] || v <= last {
						t.Errorf("%d after %d, again %v, %v", v, last, seen[v], err)
					}
					seen[v] = true
					mu.Unlock()
					if err != nil {
						return
					}
					last = v
				}
			})
		}
		wg.Wait()
	})
}

func TestCounter_StoreAndBounds(t *testing.T) {
	placements(t, func(t *testing.T, nodes []*distgear.Node) {
		ctx := t.Context()
		a, b := shared.NewCounter(nodes[0], "c"), shared.NewCounter(nodes[1], "c")
		must(t, a.Store(ctx, -1<<63))
		if v, err := b.Add(ctx, -1); v != 1<<63-1 || err != nil {
			t.Error("does not wrap:", v, err)
		}
		if ok, err := b.CompareAndSet(ctx, 5, 6); ok || err != nil {
			t.Error("compared equal:", ok, err)
		}
		if ok, err := a.CompareAndSet(ctx, 1<<63-1, -7); !ok || err != nil {
			t.Error(ok, err)
		}
		if v, err := b.Load(ctx); v != -7 || err != nil {
			t.Error(v, err)
		}
	})
}

// The name of an object is of one kind and size, until it is destroyed.
func TestNames_MismatchAndDestroy(t *testing.T) {
	placements(t, func(t *testing.T, nodes []*distgear.Node) {
		ctx := t.Context()
		n, m := nodes[0], nodes[2]
		uses := map[string]func(n *distgear.Node) error{ // each makes an object that is not idle, or says what is wrong
			"counter":        func(n *distgear.Node) error { return shared.NewCounter(n, "x").Store(ctx, 1) },
			"semaphore of 2": func(n *distgear.Node) error { _, err := shared.NewSemaphore(n, "x", 2).Acquire(ctx, 1); return err },
			"semaphore of 3": func(n *distgear.Node) error { _, err := shared.NewSemaphore(n, "x", 3).Acquire(ctx, 1); return err },
			"barrier of 1":   func(n *distgear.Node) error { _, _, err := shared.NewBarrier(n, "x", 1).Await(ctx); return err },
			"barrier of 2":   func(n *distgear.Node) error { _, err := shared.NewBarrier(n, "x", 2).Reset(ctx); return err },
			"latch of 2":     func(n *distgear.Node) error { _, err := shared.NewLatch(n, "x", 2).CountDown(ctx, "a"); return err },
			"latch of 3":     func(n *distgear.Node) error { _, err := shared.NewLatch(n, "x", 3).CountDown(ctx, "a"); return err },
			"wait group":     func(n *distgear.Node) error { return shared.NewWaitGroup(n, "x").Add(ctx, 1) },
			"topic":          func(n *distgear.Node) error { _, err := shared.NewTopic[int](n, "x").Subscribe(ctx, 0); return err },
			"election":       func(n *distgear.Node) error { _, err := shared.NewElection(n, "x").Campaign(ctx, "a"); return err },
			"once": func(n *distgear.Node) error {
				return shared.NewOnce(n, "x").Do(ctx, func(context.Context) error { return nil })
			},
			"mutex": func(n *distgear.Node) error { _, err := shared.NewMutex(n, "x").Lock(ctx); return err },
		}
		destroy := map[string]func(n *distgear.Node) error{
			"counter":        func(n *distgear.Node) error { return shared.NewCounter(n, "x").Destroy(ctx) },
			"semaphore of 2": func(n *distgear.Node) error { return shared.NewSemaphore(n, "x", 2).Destroy(ctx) },
			"barrier of 1":   func(n *distgear.Node) error { return shared.NewBarrier(n, "x", 1).Destroy(ctx) },
			"latch of 2":     func(n *distgear.Node) error { return shared.NewLatch(n, "x", 2).Destroy(ctx) },
			"wait group":     func(n *distgear.Node) error { return shared.NewWaitGroup(n, "x").Destroy(ctx) },
			"topic":          func(n *distgear.Node) error { return shared.NewTopic[int](n, "x").Destroy(ctx) },
			"election":       func(n *distgear.Node) error { return shared.NewElection(n, "x").Destroy(ctx) },
			"once":           func(n *distgear.Node) error { return shared.NewOnce(n, "x").Destroy(ctx) },
		}
		for what, end := range destroy {
			must(t, uses[what](n))
			for other, use := range uses {
				if other == what || other == "mutex" && n == m { // alone, a mutex that is free takes no name
					continue
				}
				if err := use(m); !errors.Is(err, shared.ErrMismatch) {
					t.Errorf("%s, used as %s: %v", what, other, err)
				}
			}
			if err := end(m); err != nil {
				t.Errorf("destroy of the %s by another node: %v", what, err)
			}
			if err := uses[what](m); err != nil {
				t.Errorf("%s anew: %v", what, err)
			}
			if n != m { // a subscription was told already; that a Once is done needs no message
				if err := uses[what](n); what != "once" && what != "topic" && !errors.Is(err, shared.ErrDestroyed) {
					t.Errorf("%s that was destroyed: %v", what, err)
				}
			}
			must(t, end(m))
		}
	})
}

func TestNames_Invalid(t *testing.T) {
	placements(t, func(t *testing.T, nodes []*distgear.Node) {
		ctx, n := t.Context(), nodes[1]
		long := strings.Repeat("x", 257)
		for _, name := range []string{"", long} {
			_, err := shared.NewCounter(n, name).Add(ctx, 1)
			is(t, "counter", err, shared.ErrInvalid)
			_, err = shared.NewSemaphore(n, name, 1).Acquire(ctx, 1)
			is(t, "semaphore", err, shared.ErrInvalid)
			_, _, err = shared.NewBarrier(n, name, 1).Await(ctx)
			is(t, "barrier", err, shared.ErrInvalid)
			is(t, "latch", shared.NewLatch(n, name, 1).Wait(ctx), shared.ErrInvalid)
			is(t, "wait group", shared.NewWaitGroup(n, name).Wait(ctx), shared.ErrInvalid)
			is(t, "once", shared.NewOnce(n, name).Do(ctx, nil), shared.ErrInvalid)
			_, err = shared.NewTopic[int](n, name).Subscribe(ctx, 0)
			is(t, "subscribe", err, shared.ErrInvalid)
			_, err = shared.NewTopic[int](n, name).Publish(ctx, 1)
			is(t, "publish", err, shared.ErrInvalid)
			_, err = shared.NewElection(n, name).Campaign(ctx, "")
			is(t, "campaign", err, shared.ErrInvalid)
			for _, err = range shared.NewElection(n, name).Observe(ctx) {
				is(t, "observe", err, shared.ErrInvalid)
			}
		}
		for _, size := range []int{0, -1} {
			_, err := shared.NewSemaphore(n, "s", size).Acquire(ctx, 1)
			is(t, "semaphore", err, shared.ErrInvalid)
			_, _, err = shared.NewBarrier(n, "b", size).Await(ctx)
			is(t, "barrier", err, shared.ErrInvalid)
		}
		is(t, "latch", shared.NewLatch(n, "l", -1).Wait(ctx), shared.ErrInvalid)
		for _, k := range []int{0, -1, 4} {
			_, err := shared.NewSemaphore(n, "s", 3).Acquire(ctx, k)
			is(t, "permits", err, shared.ErrInvalid)
		}
		_, err := shared.NewLatch(n, "l", 1).CountDown(ctx, "")
		is(t, "id", err, shared.ErrInvalid)
		_, err = shared.NewLatch(n, "l", 1).CountDown(ctx, long)
		is(t, "id", err, shared.ErrInvalid)
		is(t, "below zero", shared.NewWaitGroup(n, "g").Done(ctx), shared.ErrInvalid)
		_, err = shared.NewElection(n, "e").Campaign(ctx, strings.Repeat("x", 4097))
		is(t, "value", err, shared.ErrInvalid)
		_, err = shared.NewTopic[int](n, "t").Subscribe(ctx, -1)
		is(t, "buffer", err, shared.ErrInvalid)
		is(t, "permits", shared.Permits{}.Release(), shared.ErrNotHeld)
		is(t, "lead", shared.Leadership{}.Resign(), shared.ErrNotHeld)
		<-shared.Permits{}.Lost()
		<-shared.Leadership{}.Lost()
	})
}

func BenchmarkCounter(b *testing.B) {
	n, err := distgear.Join(b.Context(), distgear.Config{})
	if err != nil {
		b.Fatal(err)
	}
	b.Run("alone", func(b *testing.B) {
		c := shared.NewCounter(n, "c")
		b.ReportAllocs()
		for b.Loop() {
			if _, err := c.Add(b.Context(), 1); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkSemaphore(b *testing.B) {
	n, err := distgear.Join(b.Context(), distgear.Config{})
	if err != nil {
		b.Fatal(err)
	}
	b.Run("alone", func(b *testing.B) {
		s := shared.NewSemaphore(n, "s", 10)
		b.ReportAllocs()
		for b.Loop() {
			p, err := s.Acquire(b.Context(), 1+rand.IntN(3))
			if err != nil {
				b.Fatal(err)
			}
			if err := p.Release(); err != nil {
				b.Fatal(err)
			}
		}
	})
}
