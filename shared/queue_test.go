package shared_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/distgear/distgear"
	"github.com/distgear/distgear/geartest"
	"github.com/distgear/distgear/shared"
)

// ids notes which ids came out.
type ids struct {
	mu   sync.Mutex
	seen map[int]int
}

func (s *ids) add(all ...int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.seen == nil {
		s.seen = map[int]int{}
	}
	for _, id := range all {
		s.seen[id]++
	}
}

// check fails for ids that came twice, and returns how many of 0 … n-1 are missing.
func (s *ids) check(t *testing.T, n int) (missing int) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, times := range s.seen {
		if times > 1 || id < 0 || id >= n {
			t.Errorf("id %d came %d times", id, times)
		}
	}
	return n - len(s.seen)
}

func left(t *testing.T, q *shared.Queue[int], want int) {
	t.Helper()
	n, err := q.Len(t.Context())
	if err != nil || n != want {
		t.Fatalf("length %d, %v; want %d", n, err, want)
	}
}

func TestQueue_Q01_ProducersAndConsumers(t *testing.T) {
	placements(t, func(t *testing.T, nodes []*distgear.Node) {
		const each = 100
		var got ids
		var wg sync.WaitGroup
		for i := range 6 {
			q := shared.NewQueue[int](nodes[i%3], "q", 10)
			wg.Go(func() {
				for k := range each {
					if err := q.Put(t.Context(), i*each+k); err != nil {
						t.Error(err)
					}
				}
			})
			wg.Go(func() {
				last := map[int]int{} // of each producer
				for range each {
					id, err := q.Take(t.Context())
					if err != nil {
						t.Error(err)
						return
					}
					got.add(id)
					if was, ok := last[id/each]; ok && was >= id {
						t.Errorf("%d after %d", id, was)
					}
					last[id/each] = id
				}
			})
		}
		wg.Wait()
		if m := got.check(t, 6*each); m != 0 {
			t.Fatal("missing:", m)
		}
		left(t, shared.NewQueue[int](nodes[0], "q", 10), 0)
	})
}

func TestQueue_Q02_IdsThroughTwoQueues(t *testing.T) {
	placements(t, func(t *testing.T, nodes []*distgear.Node) {
		const n = 400
		var got ids
		var wg, moving sync.WaitGroup
		stop, cancel := context.WithCancel(t.Context())
		defer cancel()
		for i := range 3 {
			q1, q2 := shared.NewQueue[int](nodes[i], "q1", 7), shared.NewQueue[int](nodes[i], "q2", 5)
			wg.Go(func() {
				for id := i; id < n; id += 3 {
					if err := q1.Put(t.Context(), id); err != nil {
						t.Error(err)
					}
				}
			})
			for range 2 {
				moving.Go(func() {
					for {
						if _, err := q1.Transfer(stop, q2); err != nil {
							if !errors.Is(err, context.Canceled) {
								t.Error(err)
							}
							return
						}
					}
				})
			}
			wg.Go(func() {
				for id := i; id < n; id += 3 {
					v, err := q2.Take(t.Context())
					if err != nil {
						t.Error(err)
						return
					}
					got.add(v)
				}
			})
		}
		wg.Wait()
		cancel()
		moving.Wait()
		if m := got.check(t, n); m != 0 {
			t.Fatal("missing:", m)
		}
		left(t, shared.NewQueue[int](nodes[1], "q1", 7), 0)
		left(t, shared.NewQueue[int](nodes[1], "q2", 5), 0)
	})
}

func TestQueue_Q07_BackPressure(t *testing.T) {
	placements(t, func(t *testing.T, nodes []*distgear.Node) {
		ctx := t.Context()
		a, b := shared.NewQueue[int](nodes[0], "q", 2), shared.NewQueue[int](nodes[1], "q", 2)
		if n, err := a.PutAll(ctx, 0, 1); n != 2 || err != nil {
			t.Fatal(n, err)
		}
		if ok, err := b.Offer(ctx, 9); ok || err != nil {
			t.Fatal(ok, err)
		}
		short, cancel := context.WithCancel(ctx)
		put := make(chan error, 1)
		go func() { put <- a.Put(short, 9) }()
		many := make(chan int, 1)
		late, stop := context.WithCancel(ctx)
		go func() { n, err := b.PutAll(late, 9, 9, 9); many <- n; put <- err }()
		cancel()
		stop()
		for range 2 {
			if err := <-put; !errors.Is(err, context.Canceled) {
				t.Fatal(err)
			}
		}
		if n := <-many; n != 0 {
			t.Fatal(n)
		}
		go func() { n, _ := a.PutAll(ctx, 2, 3, 4, 5, 6, 7); many <- n }()
		for i := range 8 {
			if v, err := b.Take(ctx); v != i || err != nil {
				t.Fatal(v, err)
			}
		}
		if n := <-many; n != 6 {
			t.Fatal(n)
		}
		left(t, a, 0)
	})
}

// TestQueue_Q08_ConsumerDies loses the session of a node whose takers wait or take.
func TestQueue_Q08_ConsumerDies(t *testing.T) {
	hub := join(t, distgear.Config{Name: "n0", Serve: "127.0.0.1:0"})
	dies, lives := join(t, distgear.Config{Name: "n1", Hub: hub.HubURL()}), join(t, distgear.Config{Name: "n2", Hub: hub.HubURL()})
	const n, losses = 3000, 4
	var got ids
	var unknown atomic.Int64 // takes whose outcome is unknown
	stop, cancel := context.WithCancel(t.Context())
	var takers, putters sync.WaitGroup
	defer takers.Wait()
	defer putters.Wait()
	defer cancel()
	for i := range 6 {
		q := shared.NewQueue[int]([]*distgear.Node{dies, lives}[i%2], "q", 50)
		takers.Go(func() {
			for {
				v, err := q.Take(stop)
				switch {
				case err == nil:
					got.add(v)
				case errors.Is(err, shared.ErrSessionLost) && i%2 == 0:
					unknown.Add(1)
				case errors.Is(err, context.Canceled):
					return
				default:
					t.Error(err)
					return
				}
			}
		})
	}
	q := shared.NewQueue[int](hub, "q", 50)
	for i := range 3 {
		putters.Go(func() {
			for id := i; id < n; id += 3 {
				if err := q.Put(stop, id); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for range losses {
		loseSession(t, dies, hub.HubURL())
	}
	putters.Wait()
	geartest.Eventually(t, 0, "the queue to be empty", func() bool {
		n, err := q.Len(t.Context())
		return err == nil && n == 0
	})
	cancel()
	takers.Wait()
	if m := got.check(t, n); int64(m) > unknown.Load() {
		t.Fatalf("%d are missing, %d takes are unknown", m, unknown.Load())
	}
	// Takers of a lost session are not served.
	if err := q.Put(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	left(t, q, 1)
}

// TestQueue_TakeEndsAsAnItemComes takes back waits while items come: no item is lost.
func TestQueue_TakeEndsAsAnItemComes(t *testing.T) {
	placements(t, func(t *testing.T, nodes []*distgear.Node) {
		const n = 300
		var got ids
		a, b := shared.NewQueue[int](nodes[0], "q", 0), shared.NewQueue[int](nodes[1], "q", 0)
		for i := range n {
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan struct{})
			go func() {
				defer close(done)
				var some []int
				var err error
				if i%2 == 0 {
					var v int
					if v, err = b.Take(ctx); err == nil {
						some = append(some, v)
					}
				} else {
					some, err = b.TakeN(ctx, 10)
				}
				if err != nil && !errors.Is(err, context.Canceled) {
					t.Error(err)
				}
				got.add(some...)
			}()
			put := make(chan error, 1)
			go func() { put <- a.Put(t.Context(), i) }()
			if i%3 == 0 {
				if err := <-put; err != nil {
					t.Fatal(err)
				}
				put <- nil
			}
			cancel()
			<-done
			if err := <-put; err != nil {
				t.Fatal(err)
			}
		}
		rest, err := a.Drain(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		got.add(rest...)
		if m := got.check(t, n); m != 0 {
			t.Fatal("missing:", m)
		}
	})
}

func TestQueue_EachMethod(t *testing.T) {
	placements(t, func(t *testing.T, nodes []*distgear.Node) {
		ctx := t.Context()
		a, b := shared.NewQueue[string](nodes[0], "q", 0), shared.NewQueue[string](nodes[1], "q", 0)
		if v, ok, err := a.Peek(ctx); v != "" || ok || err != nil {
			t.Fatal(v, ok, err)
		}
		if v, ok, err := a.Poll(ctx); v != "" || ok || err != nil {
			t.Fatal(v, ok, err)
		}
		if all, err := a.Drain(ctx); len(all) != 0 || err != nil {
			t.Fatal(all, err)
		}
		words := strings.Fields("the quick brown fox jumps over the lazy dog and runs into the wood")
		if n, err := a.PutAll(ctx, words...); n != len(words) || err != nil {
			t.Fatal(n, err)
		}
		if v, ok, err := b.Peek(ctx); v != "the" || !ok || err != nil {
			t.Fatal(v, ok, err)
		}
		if v, ok, err := b.Poll(ctx); v != "the" || !ok || err != nil {
			t.Fatal(v, ok, err)
		}
		if some, err := b.TakeN(ctx, 2); !slices.Equal(some, words[1:3]) || err != nil {
			t.Fatal(some, err)
		}
		if v, err := b.Transfer(ctx, b); v != "fox" || err != nil { // to its own end
			t.Fatal(v, err)
		}
		if all, err := b.Drain(ctx); !slices.Equal(all, append(slices.Clone(words[4:]), "fox")) || err != nil {
			t.Fatal(all, err)
		}
		if ok, err := a.Offer(ctx, ""); !ok || err != nil {
			t.Fatal(ok, err)
		}
		if v, err := b.Take(ctx); v != "" || err != nil {
			t.Fatal(v, err)
		}
		big := strings.Repeat("x", 600<<10)
		for range 40 { // more than a session may have on its way
			if err := a.Put(ctx, big); err != nil {
				t.Fatal(err)
			}
		}
		some, err := b.TakeN(ctx, 1000)
		if len(some) == 0 || err != nil {
			t.Fatal(len(some), err)
		}
		all, err := b.Drain(ctx)
		if len(all)+len(some) != 40 || err != nil {
			t.Fatal(len(all), err)
		}
	})
}

func TestQueue_DestroyWakesWhoWaits(t *testing.T) {
	placements(t, func(t *testing.T, nodes []*distgear.Node) {
		ctx := t.Context()
		a, b := shared.NewQueue[int](nodes[0], "q", 1), shared.NewQueue[int](nodes[1], "q", 1)
		full := shared.NewQueue[int](nodes[1], "full", 1)
		if err := full.Put(ctx, 1); err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 4)
		go func() { _, err := b.Take(ctx); ended <- err }()
		go func() { _, err := b.Transfer(ctx, full); ended <- err }()
		go func() { ended <- full.Put(ctx, 2) }()
		go func() { _, err := full.Transfer(ctx, full); ended <- err }() // does not wait
		if err := <-ended; err != nil {
			t.Fatal(err)
		}
		// Whoever has not begun to wait when the queue goes finds a new one, and waits at that.
		for n := 0; n < 3; {
			if err := errors.Join(a.Destroy(ctx), shared.NewQueue[int](nodes[2], "full", 1).Destroy(ctx)); err != nil {
				t.Fatal(err)
			}
			select {
			case err := <-ended:
				if err != nil && !errors.Is(err, shared.ErrDestroyed) {
					t.Fatal(err)
				}
				n++
			default:
			}
		}
		for _, q := range []*shared.Queue[int]{a, b} {
			if ok, err := q.Offer(ctx, 1); err != nil && !errors.Is(err, shared.ErrDestroyed) {
				t.Fatal(ok, err) // the first of b may still find the old one
			}
		}
		if _, _, err := b.Peek(ctx); err != nil {
			t.Fatal(err)
		}
	})
}

func TestQueue_BadInput(t *testing.T) {
	placements(t, func(t *testing.T, nodes []*distgear.Node) {
		ctx := t.Context()
		n := nodes[0]
		for _, q := range []*shared.Queue[int]{
			shared.NewQueue[int](n, "", 1), shared.NewQueue[int](n, "a", -1), shared.NewQueue[int](n, "a", shared.MaxItems+1),
			shared.NewQueue[int](n, strings.Repeat("x", 257), 1),
		} {
			_, _, err := q.Peek(ctx)
			_, err2 := q.PutAll(ctx, 1)
			_, err3 := q.Transfer(ctx, shared.NewQueue[int](n, "ok", 1))
			_, err4 := q.TakeN(ctx, 1)
			_, err5 := q.Drain(ctx)
			for _, err := range []error{q.Put(ctx, 1), q.Destroy(ctx), err, err2, err3, err4, err5} {
				if !errors.Is(err, shared.ErrInvalid) {
					t.Fatal(err)
				}
			}
		}
		q := shared.NewQueue[int](n, "q", 3)
		if err := q.Put(ctx, 1); err != nil {
			t.Fatal(err)
		}
		for _, most := range []int{0, -1} {
			if _, err := q.TakeN(ctx, most); !errors.Is(err, shared.ErrInvalid) {
				t.Fatal(err)
			}
		}
		if _, err := q.Transfer(ctx, nil); !errors.Is(err, shared.ErrInvalid) {
			t.Fatal(err)
		}
		if err := shared.NewQueue[int](nodes[1], "q", 4).Put(ctx, 1); !errors.Is(err, shared.ErrMismatch) {
			t.Fatal(err)
		}
		if err := shared.NewQueue[string](n, "q", 3).Put(ctx, "x"); !errors.Is(err, shared.ErrMismatch) {
			t.Fatal(err)
		}
		if err := shared.NewMap[string, int](n, "q").Store(ctx, "x", 1); !errors.Is(err, shared.ErrMismatch) {
			t.Fatal(err)
		}
		if !n.Room().Ledger.Alone() {
			s := shared.NewQueue[string](n, "strings", 0)
			if err := s.Put(ctx, strings.Repeat("x", 800<<10)); !errors.Is(err, shared.ErrInvalid) {
				t.Fatal(err)
			}
			if done, err := s.PutAll(ctx, "a", strings.Repeat("x", 800<<10), "b"); done != 1 || !errors.Is(err, shared.ErrInvalid) {
				t.Fatal(done, err)
			}
			if v, err := shared.NewQueue[int](nodes[1], "strings", 0).Take(ctx); !errors.Is(err, shared.ErrInvalid) { // does not decode
				t.Fatal(v, err)
			}
		}
		left(t, q, 1)
	})
}
