package shared_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/distgear/distgear"
	"github.com/distgear/distgear/geartest"
	"github.com/distgear/distgear/internal/client"
	"github.com/distgear/distgear/internal/engine"
	"github.com/distgear/distgear/internal/operation"
	"github.com/distgear/distgear/shared"
)

// loseSession makes the hub end a node's session, and returns when the node has
// another.
func loseSession(t *testing.T, n *distgear.Node, hub string) {
	t.Helper()
	c, err := engine.Dial(t.Context(), engine.ConnConfig{URLs: hub})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := n.Room().Ledger.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	was, _ := n.Room().Ledger.Session()
	if err := c.Publish(client.EntrySubject("dg.default"), operation.AppendEntry(nil, &operation.Entry{Type: operation.EntryExpire, Session: was})); err != nil {
		t.Fatal(err)
	}
	c.Settle()
	geartest.Eventually(t, 20*time.Second, "another session", func() bool {
		now, ok := n.Room().Ledger.Session()
		return ok && now != was
	})
}

func noError(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantLoad[K comparable, V comparable](t *testing.T, m *shared.Map[K, V], k K, want V, there bool) {
	t.Helper()
	v, ok, err := m.Load(t.Context(), k)
	if err != nil || ok != there || v != want {
		t.Fatalf("Load(%v) = %v, %t, %v; want %v, %t", k, v, ok, err, want, there)
	}
}

func TestMap_EachMethod(t *testing.T) {
	placements(t, func(t *testing.T, nodes []*distgear.Node) {
		ctx := t.Context()
		a, b := shared.NewMap[string, int](nodes[0], "m"), shared.NewMap[string, int](nodes[1], "m")
		wantLoad(t, a, "x", 0, false)
		noError(t, a.Store(ctx, "x", 1))
		wantLoad(t, b, "x", 1, true)
		wantLoad(t, b, "x", 1, true)
		if v, loaded, err := b.LoadOrStore(ctx, "x", 5); v != 1 || !loaded || err != nil {
			t.Fatal(v, loaded, err)
		}
		if v, loaded, err := b.LoadOrStore(ctx, "y", 5); v != 5 || loaded || err != nil {
			t.Fatal(v, loaded, err)
		}
		if v, had, err := a.Swap(ctx, "y", 6); v != 5 || !had || err != nil {
			t.Fatal(v, had, err)
		}
		if v, had, err := a.Swap(ctx, "z", 7); v != 0 || had || err != nil {
			t.Fatal(v, had, err)
		}
		v, rev, err := a.LoadLatest(ctx, "z")
		if v != 7 || rev == 0 || err != nil {
			t.Fatal(v, rev, err)
		}
		if now, ok, err := b.CompareAndSwap(ctx, "z", rev-1, 8); ok || now != rev || err != nil {
			t.Fatal(now, ok, err)
		}
		now, ok, err := b.CompareAndSwap(ctx, "z", rev, 8)
		if !ok || now <= rev || err != nil {
			t.Fatal(now, ok, err)
		}
		if _, ok, err := b.CompareAndSwap(ctx, "z", 0, 9); ok || err != nil {
			t.Fatal(ok, err)
		}
		if ok, err := b.CompareAndDelete(ctx, "z", rev); ok || err != nil {
			t.Fatal(ok, err)
		}
		if n, err := b.Len(ctx); n != 3 || err != nil {
			t.Fatal(n, err)
		}
		if ok, err := b.CompareAndDelete(ctx, "z", now); !ok || err != nil {
			t.Fatal(ok, err)
		}
		if _, rev, err := a.LoadLatest(ctx, "z"); rev != 0 || err != nil {
			t.Fatal(rev, err)
		}
		if ok, err := a.Delete(ctx, "z"); ok || err != nil {
			t.Fatal(ok, err)
		}
		if v, ok, err := a.Compute(ctx, "x", func(old int, ok bool) (int, bool) { return old, !ok }); v != 0 || ok || err != nil {
			t.Fatal(v, ok, err)
		}
		wantLoad(t, a, "x", 0, false)
		if v, ok, err := a.Compute(ctx, "x", func(old int, ok bool) (int, bool) { return 3, ok }); v != 0 || ok || err != nil {
			t.Fatal(v, ok, err)
		}
		if n, err := b.Clear(ctx); n != 1 || err != nil {
			t.Fatal(n, err)
		}
		if n, err := a.Len(ctx); n != 0 || err != nil {
			t.Fatal(n, err)
		}
		wantLoad(t, b, "y", 0, false)
		noError(t, a.Store(ctx, "x", 1))
		noError(t, a.Destroy(ctx))
		noError(t, b.Destroy(ctx)) // the second is no error
		if n, err := a.Len(ctx); n != 0 || err != nil {
			t.Fatal(n, err)
		}
	})
}

func TestMap_ReadYourWrites(t *testing.T) {
	placements(t, func(t *testing.T, nodes []*distgear.Node) {
		var wg sync.WaitGroup
		for i := range 3 {
			m := shared.NewMap[int, int](nodes[i], "m")
			for g := range 3 {
				wg.Go(func() {
					k := i*3 + g
					for r := range 100 {
						if err := m.Store(t.Context(), k, r); err != nil {
							t.Error(err)
							return
						}
						if v, ok, err := m.Load(t.Context(), k); v != r || !ok || err != nil {
							t.Errorf("%d, %t, %v instead of %d", v, ok, err, r)
							return
						}
						if _, _, err := m.Load(t.Context(), (k+3)%9); err != nil { // another node's
							t.Error(err)
						}
					}
				})
			}
		}
		wg.Wait()
	})
}

// TestMap_LockThenRead has a writer and readers under one mutex on several nodes: what
// a reader keeps is gone before it gets the lock after the writer.
func TestMap_LockThenRead(t *testing.T) {
	placements(t, func(t *testing.T, nodes []*distgear.Node) {
		const rounds = 1000
		var guard sync.Mutex // see TestMutex_L01_MutualExclusion
		round := 0           // under the mutex
		var wg sync.WaitGroup
		for i, n := range nodes {
			lock, m := shared.NewMutex(n, "lock"), shared.NewMap[string, int](n, "m")
			wg.Go(func() {
				for {
					s, err := lock.Lock(t.Context())
					if err != nil {
						t.Error(err)
						return
					}
					guard.Lock()
					want := round
					guard.Unlock()
					v, _, err := m.Load(t.Context(), "k")
					again, _, err2 := m.Load(t.Context(), "k") // from what is kept
					if v != want || again != want || err != nil || err2 != nil {
						t.Errorf("node %d: %d and %d instead of %d: %v, %v", i, v, again, want, err, err2)
					}
					if want < rounds && want%2 == i%2 && !t.Failed() {
						want++
						if err := m.Store(t.Context(), "k", want); err != nil {
							t.Error(err)
						}
						guard.Lock()
						round = want
						guard.Unlock()
					}
					if err := s.Unlock(); err != nil {
						t.Error(err)
					}
					if want == rounds || t.Failed() {
						return
					}
				}
			})
		}
		wg.Wait()
	})
}

func TestMap_ComputeStorm(t *testing.T) {
	placements(t, func(t *testing.T, nodes []*distgear.Node) {
		const each = 30
		var wg sync.WaitGroup
		for i := range 9 {
			m := shared.NewMap[string, int](nodes[i%3], "m")
			wg.Go(func() {
				for range each {
					if _, _, err := m.Compute(t.Context(), "n", func(old int, _ bool) (int, bool) { return old + 1, true }); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		if v, _, err := shared.NewMap[string, int](nodes[1], "m").LoadLatest(t.Context(), "n"); v != 9*each || err != nil {
			t.Fatal(v, err)
		}
	})
}

// changes runs the loop of a watch in a goroutine.
func changes[K comparable, V any](t *testing.T, seq iter.Seq2[shared.Change[K, V], error]) <-chan shared.Change[K, V] {
	c := make(chan shared.Change[K, V], 4096) // more than any test makes
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer close(c)
		for e, err := range seq {
			if err != nil {
				if !errors.Is(err, context.Canceled) {
					t.Error(err)
				}
				return
			}
			c <- e
		}
	}()
	t.Cleanup(func() { <-done })
	return c
}

func TestMap_TTL(t *testing.T) {
	placements(t, func(t *testing.T, nodes []*distgear.Node) {
		ctx := t.Context()
		a, b := shared.NewMap[string, int](nodes[0], "m"), shared.NewMap[string, int](nodes[1], "m")
		seen := changes(t, b.WatchAll(ctx))
		noError(t, a.Store(ctx, "short", 1, shared.TTL(80*time.Millisecond)))
		noError(t, a.Store(ctx, "stays", 1, shared.TTL(time.Millisecond/2)))
		noError(t, a.Store(ctx, "stays", 2)) // no TTL any more, if it was in time
		noError(t, a.Store(ctx, "long", 2, shared.TTL(math.MaxInt64)))
		if _, _, err := b.Load(ctx, "short"); err != nil { // and keep it
			t.Fatal(err)
		}
		for e := range seen {
			if e.Kind == shared.Expired && e.Key == "short" {
				break
			}
		}
		wantLoad(t, b, "short", 0, false)
		wantLoad(t, a, "stays", 2, true)
		wantLoad(t, a, "long", 2, true)
		for _, bad := range []shared.TTL{0, -1, math.MinInt64} {
			if err := a.Store(ctx, "x", 1, bad); !errors.Is(err, shared.ErrInvalid) {
				t.Fatal(err)
			}
		}
		if n, err := b.Len(ctx); n != 2 || err != nil {
			t.Fatal(n, err)
		}
	})
}

func TestMap_WatchIsInOrder(t *testing.T) {
	placements(t, func(t *testing.T, nodes []*distgear.Node) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		a, b := shared.NewMap[string, int](nodes[0], "m"), shared.NewMap[string, int](nodes[1], "m")
		all, one := changes(t, b.WatchAll(ctx)), changes(t, b.Watch(ctx, "1"))
		const n = 300
		for i := range n {
			noError(t, a.Store(ctx, fmt.Sprint(i%3), i))
		}
		if _, err := a.Delete(ctx, "1"); err != nil {
			t.Fatal(err)
		}
		if _, err := a.Clear(ctx); err != nil {
			t.Fatal(err)
		}
		var last shared.Revision
		next := func(c <-chan shared.Change[string, int]) shared.Change[string, int] {
			e := <-c
			if e.Revision <= last {
				t.Fatalf("revision %d after %d", e.Revision, last)
			}
			last = e.Revision
			return e
		}
		for i := range n {
			if e := next(all); e.Kind != shared.Stored || e.Value != i || e.Key != fmt.Sprint(i%3) {
				t.Fatalf("%d: %+v", i, e)
			}
		}
		if e := next(all); e.Kind != shared.Deleted || e.Key != "1" {
			t.Fatalf("%+v", e)
		}
		if e := next(all); e.Kind != shared.Cleared || e.Key != "" {
			t.Fatalf("%+v", e)
		}
		last = 0
		for i := 1; i < n; i += 3 {
			if e := next(one); e.Value != i {
				t.Fatalf("%d: %+v", i, e)
			}
		}
		if d, c := next(one), next(one); d.Kind != shared.Deleted || c.Kind != shared.Cleared {
			t.Fatal(d, c)
		}
		cancel()
		for range all {
			t.Fatal("after the end")
		}
	})
}

func TestMap_SlowWatcherHoldsNobodyUp(t *testing.T) {
	placements(t, func(t *testing.T, nodes []*distgear.Node) {
		ctx := t.Context()
		a, b := shared.NewMap[int, int](nodes[0], "m"), shared.NewMap[int, int](nodes[1], "m")
		slow := b.WatchAll(ctx) // its loop does not run
		var wg sync.WaitGroup
		for g := range 16 {
			wg.Go(func() {
				for i := range 600 {
					if err := a.Store(ctx, g, i); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		wg.Wait()
		if v, rev, err := b.LoadLatest(ctx, 1); v != 599 || rev == 0 || err != nil { // behind the changes in b's stream
			t.Fatal(v, rev, err)
		}
		n := 0
		var last error
		for _, last = range slow {
			n++
		}
		if !errors.Is(last, distgear.ErrOverloaded) || n < 1000 || n >= 16*600 {
			t.Fatal(n, last)
		}
	})
}

func TestMap_ClearWhileRanging(t *testing.T) {
	placements(t, func(t *testing.T, nodes []*distgear.Node) {
		ctx := t.Context()
		a, b := shared.NewMap[int, string](nodes[0], "m"), shared.NewMap[int, string](nodes[1], "m")
		const n = 3000
		fill := func() {
			var wg sync.WaitGroup
			for g := range 30 {
				wg.Go(func() {
					for i := g; i < n; i += 30 {
						if err := a.Store(ctx, i, fmt.Sprint(i)); err != nil {
							t.Error(err)
						}
					}
				})
			}
			wg.Wait()
		}
		fill()
		seen := map[int]bool{}
		for e, err := range b.All(ctx) {
			if err != nil || e.Value != fmt.Sprint(e.Key) || e.Revision == 0 || seen[e.Key] {
				t.Fatal(e, err)
			}
			seen[e.Key] = true
		}
		if len(seen) != n {
			t.Fatal(len(seen))
		}
		got := 0
		for _, err := range b.All(ctx) {
			noError(t, err)
			if got == 10 {
				if cleared, err := a.Clear(ctx); cleared != n || err != nil {
					t.Fatal(cleared, err)
				}
			}
			got++
		}
		if got < 11 || got > n/2 {
			t.Fatal(got)
		}
		for e, err := range b.All(ctx) {
			t.Fatal(e, err)
		}
	})
}

// TestMap_LargeValuesInPages has more bytes in a map than a session may have on
// its way.
func TestMap_LargeValuesInPages(t *testing.T) {
	placements(t, func(t *testing.T, nodes []*distgear.Node) {
		ctx := t.Context()
		a, b := shared.NewMap[int, string](nodes[0], "m"), shared.NewMap[int, string](nodes[1], "m")
		for i := range 40 {
			noError(t, a.Store(ctx, i, strings.Repeat(string(rune('a'+i%26)), 600<<10)))
		}
		n := 0
		for e, err := range b.All(ctx) {
			if err != nil || len(e.Value) != 600<<10 || e.Value[0] != byte('a'+e.Key%26) {
				t.Fatal(e.Key, len(e.Value), err)
			}
			n++
		}
		if n != 40 {
			t.Fatal(n)
		}
		for range 2 { // more than a node keeps
			for i := range 60 {
				if _, _, err := b.Load(ctx, i); err != nil {
					t.Fatal(err)
				}
			}
		}
		noError(t, a.Store(ctx, 3, "x"))
		if v, _, err := b.LoadLatest(ctx, 3); v != "x" || err != nil {
			t.Fatal(len(v), err)
		}
	})
}

func TestMap_KeysAndValuesOfManyTypes(t *testing.T) {
	type point struct {
		X, Y int
		Name string
	}
	placements(t, func(t *testing.T, nodes []*distgear.Node) {
		ctx := t.Context()
		points := shared.NewMap[point, []int](nodes[0], "points")
		noError(t, points.Store(ctx, point{1, 2, "a"}, []int{1}))
		v, ok, err := shared.NewMap[point, []int](nodes[1], "points").Load(ctx, point{1, 2, "a"})
		if len(v) != 1 || !ok || err != nil {
			t.Fatal(v, ok, err)
		}
		if _, ok, err := points.Load(ctx, point{1, 2, "\xff"}); ok || !errors.Is(err, shared.ErrInvalid) {
			t.Fatal(ok, err)
		}
		empty := shared.NewMap[struct{}, string](nodes[0], "one entry")
		noError(t, empty.Store(ctx, struct{}{}, "x"))
		noError(t, empty.Store(ctx, struct{}{}, ""))
		wantLoad(t, shared.NewMap[struct{}, string](nodes[1], "one entry"), struct{}{}, "", true)
		fl := shared.NewMap[float64, int](nodes[0], "floats")
		noError(t, fl.Store(ctx, math.Copysign(0, -1), 1))
		wantLoad(t, fl, 0, 1, true)
		wantLoad(t, shared.NewMap[float64, int](nodes[1], "floats"), 0, 1, true)
		u := shared.NewMap[uint64, bool](nodes[0], "big")
		noError(t, u.Store(ctx, math.MaxUint64, true))
		wantLoad(t, shared.NewMap[uint64, bool](nodes[1], "big"), math.MaxUint64, true, true)
	})
}

func TestMap_BadInput(t *testing.T) {
	type hidden struct{ A, b int }
	placements(t, func(t *testing.T, nodes []*distgear.Node) {
		ctx := t.Context()
		n := nodes[0]
		invalid := func(err error) {
			t.Helper()
			if !errors.Is(err, shared.ErrInvalid) {
				t.Fatal(err)
			}
		}
		invalid(shared.NewMap[float64, int](n, "floats").Store(ctx, math.NaN(), 1))
		_, _, err := shared.NewMap[float64, int](n, "floats").Load(ctx, math.Inf(1))
		invalid(err)
		invalid(shared.NewMap[hidden, int](n, "hidden").Store(ctx, hidden{1, 2}, 1))
		noError(t, shared.NewMap[hidden, int](n, "hidden").Store(ctx, hidden{A: 1}, 1))
		invalid(shared.NewMap[any, int](n, "any").Store(ctx, "x", 1))
		invalid(shared.NewMap[*int, int](n, "pointers").Store(ctx, nil, 1))
		invalid(shared.NewMap[int, int](n, "").Store(ctx, 1, 1))
		invalid(shared.NewMap[int, int](n, strings.Repeat("x", 257)).Store(ctx, 1, 1))
		_, err = shared.NewMap[float64, int](n, "floats").Key(math.NaN()).Lock(ctx)
		invalid(err)
		for _, err := range shared.NewMap[float64, int](n, "floats").Watch(ctx, math.NaN()) {
			invalid(err)
		}
		for _, err := range shared.NewMap[int, int](n, "").All(ctx) {
			invalid(err)
		}
		m := shared.NewMap[string, string](n, "m")
		invalid(m.Store(ctx, strings.Repeat("k", 800<<10), "v"))
		if !n.Room().Ledger.Alone() {
			invalid(m.Store(ctx, "k", strings.Repeat("v", 800<<10)))
			invalid(shared.NewMap[string, chan int](n, "channels").Store(ctx, "k", make(chan int)))
		}
		_, err = m.CompareAndDelete(ctx, "k", 0)
		invalid(err)
		if size, err := m.Len(ctx); size != 0 || err != nil {
			t.Fatal(size, err)
		}
		if err := shared.NewMap[int, string](n, "m").Store(ctx, 1, ""); !errors.Is(err, shared.ErrMismatch) {
			t.Fatal(err)
		}
		if err := shared.NewQueue[int](n, "m", 0).Put(ctx, 1); !errors.Is(err, shared.ErrMismatch) {
			t.Fatal(err)
		}
		if _, err := shared.NewMutex(n, "m").Lock(ctx); !errors.Is(err, shared.ErrMismatch) && !n.Room().Ledger.Alone() {
			t.Fatal(err)
		}
		watch := m.WatchAll(ctx)
		noError(t, m.Destroy(ctx))
		for _, err := range watch {
			if !errors.Is(err, shared.ErrDestroyed) {
				t.Fatal(err)
			}
		}
		noError(t, m.Store(ctx, "k", "v")) // anew
	})
}

func TestMap_LocksOfKeys(t *testing.T) {
	placements(t, func(t *testing.T, nodes []*distgear.Node) {
		ctx := t.Context()
		for _, name := range []string{"m", strings.Repeat("x", 256)} {
			a, b := shared.NewMap[string, int](nodes[0], name), shared.NewMap[string, int](nodes[1], name)
			s, err := a.Key("1").Lock(ctx)
			noError(t, err)
			if _, ok, err := b.Key("1").TryLock(ctx); ok || err != nil {
				t.Fatal(ok, err)
			}
			other, ok, err := b.Key("2").TryLock(ctx)
			if !ok || err != nil {
				t.Fatal(ok, err)
			}
			noError(t, errors.Join(other.Unlock(), s.Unlock()))
		}
	})
}

func TestMap_SessionLost(t *testing.T) {
	hub := join(t, distgear.Config{Name: "n0", Serve: "127.0.0.1:0"})
	n := join(t, distgear.Config{Name: "n1", Hub: hub.HubURL()})
	ctx := t.Context()
	far, m := shared.NewMap[string, int](hub, "m"), shared.NewMap[string, int](n, "m")
	noError(t, far.Store(ctx, "k", 0))
	for i := range 5 {
		wantLoad(t, m, "k", i, true)
		wantLoad(t, m, "k", i, true) // kept
		watch := m.WatchAll(ctx)
		loseSession(t, n, hub.HubURL())
		noError(t, far.Store(ctx, "k", i+1)) // which the lost session is not told
		wantLoad(t, m, "k", i+1, true)
		for _, err := range watch {
			if !errors.Is(err, shared.ErrSessionLost) {
				t.Fatal(err)
			}
		}
	}
}

func TestMap_AfterLeave(t *testing.T) {
	n, err := distgear.Join(t.Context(), distgear.Config{})
	noError(t, err)
	m, q := shared.NewMap[string, int](n, "m"), shared.NewQueue[int](n, "q", 1)
	noError(t, m.Store(t.Context(), "k", 1, shared.TTL(time.Hour)))
	watch := m.WatchAll(t.Context())
	took := make(chan error, 1)
	go func() { _, err := q.Take(t.Context()); took <- err }()
	noError(t, n.Leave(t.Context()))
	for _, err := range watch {
		if !errors.Is(err, distgear.ErrLeft) {
			t.Fatal(err)
		}
	}
	if _, _, err := m.Load(t.Context(), "k"); !errors.Is(err, distgear.ErrLeft) {
		t.Fatal(err)
	}
	if err := <-took; !errors.Is(err, distgear.ErrLeft) {
		t.Fatal(err)
	}
	if err := q.Put(t.Context(), 1); !errors.Is(err, distgear.ErrLeft) {
		t.Fatal(err)
	}
}
