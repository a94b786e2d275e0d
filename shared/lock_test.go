package shared_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/distgear/distgear"
	"github.com/distgear/distgear/cluster"
	"github.com/distgear/distgear/geartest"
	"github.com/distgear/distgear/shared"
)

func TestMain(m *testing.M) { geartest.Main(m, conformanceRoles()) }

func join(t testing.TB, cfg distgear.Config) *distgear.Node {
	t.Helper()
	n, err := distgear.Join(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := n.Leave(ctx); err != nil {
			t.Error(err)
		}
	})
	return n
}

// placements runs a body alone (all nodes are the same one) and in a cluster of
// three nodes.
func placements(t *testing.T, body func(t *testing.T, nodes []*distgear.Node)) {
	t.Run("alone", func(t *testing.T) {
		n := join(t, distgear.Config{Name: "alone"})
		body(t, []*distgear.Node{n, n, n})
	})
	t.Run("cluster", func(t *testing.T) {
		hub := join(t, distgear.Config{Name: "n0", Serve: "127.0.0.1:0"})
		nodes := []*distgear.Node{hub}
		for i := range 2 {
			nodes = append(nodes, join(t, distgear.Config{Name: cluster.NodeName(fmt.Sprint("n", i+1)), Hub: hub.HubURL()}))
		}
		body(t, nodes)
	})
}

func TestMutex_L01_MutualExclusion(t *testing.T) {
	placements(t, func(t *testing.T, nodes []*distgear.Node) {
		var total atomic.Int64
		var guard sync.Mutex // for the race detector, which sees no order between sockets; never contended
		var last shared.Token
		var wg sync.WaitGroup
		for i := range 9 {
			m := shared.NewMutex(nodes[i%3], "m")
			wg.Go(func() {
				for range 100 {
					s, err := m.Lock(t.Context())
					if err != nil {
						t.Error(err)
						return
					}
					if !guard.TryLock() {
						t.Error("two inside")
						return
					}
					if s.Token() <= last {
						t.Errorf("token %d after %d", s.Token(), last)
					}
					last = s.Token()
					total.Add(1)
					guard.Unlock()
					if err := s.Unlock(); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		if total.Load() != 900 {
			t.Fatal(total.Load())
		}
	})
}

func TestCond_L12_PutAndTake(t *testing.T) {
	placements(t, func(t *testing.T, nodes []*distgear.Node) {
		const each = 40
		var guard sync.Mutex // see TestMutex_L01_MutualExclusion
		var queue []int      // guarded by m
		var wg sync.WaitGroup
		var taken atomic.Int64
		empty := func() bool {
			guard.Lock()
			defer guard.Unlock()
			return len(queue) == 0
		}
		for i := range 3 {
			m := shared.NewMutex(nodes[i], "m")
			full := shared.NewCond(m, "full")
			wg.Go(func() {
				for k := range each {
					s, err := m.Lock(t.Context())
					if err != nil {
						t.Error(err)
						return
					}
					guard.Lock()
					queue = append(queue, k)
					guard.Unlock()
					if err := errors.Join(full.Signal(s), s.Unlock()); err != nil {
						t.Error(err)
					}
				}
			})
			wg.Go(func() {
				for range each {
					s, err := m.Lock(t.Context())
					if err != nil {
						t.Error(err)
						return
					}
					for empty() {
						if err := full.Wait(t.Context(), &s); err != nil {
							t.Error(err)
							return
						}
					}
					guard.Lock()
					queue = queue[1:]
					guard.Unlock()
					taken.Add(1)
					if err := s.Unlock(); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		if taken.Load() != 3*each || len(queue) != 0 {
			t.Fatal(taken.Load(), len(queue))
		}
	})
}

func TestMutex_BadUse(t *testing.T) {
	placements(t, func(t *testing.T, nodes []*distgear.Node) {
		ctx := t.Context()
		m := shared.NewMutex(nodes[0], "m")
		s, err := m.Lock(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if _, ok, err := shared.NewMutex(nodes[1], "m").TryLock(ctx); ok || err != nil {
			t.Fatal("try", ok, err)
		}
		short, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
		defer cancel()
		if _, err := shared.NewMutex(nodes[2], "m").Lock(short); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatal(err)
		}
		if err := s.Unlock(); err != nil {
			t.Fatal(err)
		}
		if err := s.Unlock(); !errors.Is(err, shared.ErrNotHeld) {
			t.Fatal(err)
		}
		next, err := shared.NewMutex(nodes[1], "m").Lock(ctx)
		must(t, err)
		is(t, "unlock under a lease of before", s.Unlock(), shared.ErrNotHeld)
		if other, ok, err := shared.NewMutex(nodes[2], "m").TryLock(ctx); ok || err != nil {
			t.Errorf("it freed the next one's: %v, %v", err, other.Unlock())
		}
		must(t, next.Unlock())
		// L11: it recalls the idle holder, as soon as the hub knows that the one above waits no more: tries do not pass who waits.
		geartest.Eventually(t, 10*time.Second, "the lock is free for a try", func() (ok bool) {
			if s, ok, err = shared.NewMutex(nodes[1], "m").TryLock(ctx); err != nil {
				t.Fatal("try", err)
			}
			return ok
		})
		if err := s.Unlock(); err != nil {
			t.Fatal(err)
		}
		if err := (shared.Lease{}).Unlock(); !errors.Is(err, shared.ErrNotHeld) {
			t.Fatal(err)
		}
		err = m.Do(ctx, func(ctx context.Context, _ shared.Token) error { _, err := m.Lock(ctx); return err })
		if !errors.Is(err, shared.ErrHeld) {
			t.Fatal(err)
		}
	})
}

// TestMutex_ClaimsItsName: a free lock has its name too, until it is destroyed.
func TestMutex_ClaimsItsName(t *testing.T) {
	placements(t, func(t *testing.T, nodes []*distgear.Node) {
		ctx := t.Context()
		m, rw, c := shared.NewMutex(nodes[0], "n"), shared.NewRWMutex(nodes[1], "n"), shared.NewCounter(nodes[2], "n")
		others := func(want error) {
			t.Helper()
			_, err := rw.RLock(ctx)
			_, err2 := c.Add(ctx, 1)
			if !errors.Is(err, want) || !errors.Is(err2, want) || !errors.Is(c.Destroy(ctx), want) {
				t.Fatal(err, err2)
			}
		}
		for range 2 {
			must(t, m.Do(ctx, nothing))
			must(t, m.Do(ctx, nothing))
			others(shared.ErrMismatch)
			s, err := m.Lock(ctx)
			must(t, err)
			must(t, m.Destroy(ctx))
			if err := s.Unlock(); !errors.Is(err, shared.ErrDestroyed) {
				t.Error(err)
			}
			if err := s.Unlock(); !errors.Is(err, shared.ErrNotHeld) {
				t.Error(err)
			}
			if _, err := c.Add(ctx, 1); err != nil {
				t.Fatal("the name is not free", err)
			}
			if _, err := m.Lock(ctx); !errors.Is(err, shared.ErrMismatch) {
				t.Fatal("the name is not claimed again", err)
			}
			must(t, c.Destroy(ctx))
		}
	})
}

func BenchmarkMutex(b *testing.B) {
	n, err := distgear.Join(b.Context(), distgear.Config{Name: "a", Serve: "127.0.0.1:0"})
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = n.Leave(context.Background()) }()
	alone, _ := distgear.Join(b.Context(), distgear.Config{})
	for name, n := range map[string]*distgear.Node{"hub": n, "alone": alone} {
		b.Run(name, func(b *testing.B) {
			m := shared.NewMutex(n, "m")
			b.ReportAllocs()
			for b.Loop() {
				s, err := m.Lock(b.Context())
				if err != nil {
					b.Fatal(err)
				}
				if err := s.Unlock(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// TestMutex_DestroyedElsewhere: also who has a handle, and neither holds it nor waits, is told.
func TestMutex_DestroyedElsewhere(t *testing.T) {
	placements(t, func(t *testing.T, nodes []*distgear.Node) {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		a, b := shared.NewMutex(nodes[1], "m"), shared.NewMutex(nodes[2], "m")
		for range 3 {
			must(t, a.Do(ctx, nothing))
			must(t, b.Do(ctx, nothing)) // the grant is there now
			must(t, b.Destroy(ctx))
			if err := a.Do(ctx, nothing); err != nil && !errors.Is(err, shared.ErrDestroyed) {
				t.Fatal(err)
			}
			must(t, a.Do(ctx, nothing))
		}
	})
}
