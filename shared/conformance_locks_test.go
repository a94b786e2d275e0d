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
	"github.com/distgear/distgear/geartest"
	"github.com/distgear/distgear/shared"
)

// Readers are inside together; no reader sees half of what a writer writes; readers that come and go do not starve writers.
func TestRWMutex_L02_ReadersTogetherWritersAlone(t *testing.T) {
	placements(t, func(t *testing.T, nodes []*distgear.Node) {
		ctx := t.Context()
		var met, all sync.WaitGroup
		met.Add(3)
		for i := range 3 {
			all.Go(func() {
				if err := shared.NewRWMutex(nodes[i], "l").DoRead(ctx, func(context.Context, shared.Token) error {
					met.Done()
					met.Wait() // for ever, if they were not together
					return nil
				}); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		var writing atomic.Int64
		writing.Store(2)
		var writers, readers sync.WaitGroup
		for i := range 2 {
			writers.Go(func() {
				defer writing.Add(-1)
				pair := shared.NewMap[string, int](nodes[i], "pair")
				for k := range 15 {
					if err := shared.NewRWMutex(nodes[i], "l").Do(ctx, func(ctx context.Context, _ shared.Token) error {
						v := 1000*i + k
						return errors.Join(pair.Store(ctx, "a", v), pair.Store(ctx, "b", v))
					}); err != nil {
						t.Error(err)
					}
				}
			})
		}
		for i := range 6 {
			readers.Go(func() {
				pair := shared.NewMap[string, int](nodes[i%3], "pair")
				for writing.Load() > 0 {
					if err := shared.NewRWMutex(nodes[i%3], "l").DoRead(ctx, func(ctx context.Context, _ shared.Token) error {
						a, _, err := pair.Load(ctx, "a")
						b, _, err2 := pair.Load(ctx, "b")
						if a != b {
							t.Errorf("torn: %d and %d", a, b)
						}
						return errors.Join(err, err2)
					}); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		writers.Wait()
		readers.Wait()
	})
}

// queued waits until so many stand in line for a lock, as the hub sees it: nodes, or alone goroutines.
func queued(t *testing.T, n *distgear.Node, lock string, want int) {
	t.Helper()
	geartest.Eventually(t, 0, fmt.Sprint(want, " stand in line"), func() bool {
		for _, l := range collect(t, shared.Locks(t.Context(), n, lock)) {
			return l.Queued == want
		}
		return false
	})
}

func TestMutex_L03_FirstComeFirstServed(t *testing.T) {
	placements(t, func(t *testing.T, nodes []*distgear.Node) {
		ctx := t.Context()
		s, err := shared.NewMutex(nodes[0], "line").Lock(ctx)
		must(t, err)
		order := make(chan int, 2) // all
		var wg sync.WaitGroup
		for i := 1; i <= 2; i++ {
			wg.Go(func() {
				if err := shared.NewMutex(nodes[i], "line").Do(ctx, func(context.Context, shared.Token) error { order <- i; return nil }); err != nil {
					t.Error(err)
				}
			})
			queued(t, nodes[0], "line", i)
		}
		if s2, ok, err := shared.NewMutex(nodes[1], "line").TryLock(ctx); ok || err != nil { // does not pass who waits
			t.Error(s2, ok, err)
		}
		must(t, s.Unlock())
		wg.Wait()
		if a, b := <-order, <-order; a != 1 || b != 2 {
			t.Errorf("%d before %d", a, b)
		}
	})
}

// L05, L06: what may be asked for inside, by the context that Do gives.
func TestRWMutex_L06_InsideOthers(t *testing.T) {
	placements(t, func(t *testing.T, nodes []*distgear.Node) {
		m := shared.NewRWMutex(nodes[0], "nested")
		asks := func(ctx context.Context) map[string]error {
			_, lock := m.Lock(ctx)
			_, _, try := m.TryLock(ctx)
			read, err := m.RLock(ctx)
			tried, _, err2 := m.TryRLock(ctx)
			for _, s := range []shared.Lease{read, tried} { // a reader may read once more, if nobody waits
				if s.Token() != 0 {
					must(t, s.Unlock())
				}
			}
			return map[string]error{"lock": lock, "try": try, "read": err, "try to read": err2}
		}
		must(t, m.Do(t.Context(), func(ctx context.Context, _ shared.Token) error {
			for what, err := range asks(ctx) {
				is(t, what+" inside a writer", err, shared.ErrHeld)
			}
			return shared.NewRWMutex(nodes[0], "another").Do(ctx, nothing) // another one is fine
		}))
		must(t, m.DoRead(t.Context(), func(ctx context.Context, _ shared.Token) error {
			for what, err := range asks(ctx) {
				if what == "lock" || what == "try" {
					is(t, what+" inside a reader", err, shared.ErrUpgrade)
				} else if err != nil && !errors.Is(err, shared.ErrHeld) {
					t.Errorf("%s inside a reader: %v", what, err)
				}
			}
			return nil
		}))
		s, err := m.Lock(t.Context())
		must(t, err)
		must(t, m.Downgrade(s))
		must(t, shared.NewRWMutex(nodes[1], "nested").DoRead(t.Context(), nothing)) // the others may read now
		_, ok, err := shared.NewRWMutex(nodes[2], "nested").TryLock(t.Context())
		if ok || err != nil {
			t.Error(ok, err)
		}
		must(t, s.Unlock())
		must(t, shared.NewRWMutex(nodes[2], "nested").Do(t.Context(), nothing)) // nothing was left held
	})
}

func TestMutex_L07_TryAndTimedAgainstLock(t *testing.T) {
	placements(t, func(t *testing.T, nodes []*distgear.Node) {
		ctx := t.Context()
		var inside, got, tried atomic.Int64
		var wg sync.WaitGroup
		use := func(s shared.Lease) {
			if inside.Add(1) != 1 {
				t.Error("two inside")
			}
			inside.Add(-1)
			got.Add(1)
			if err := s.Unlock(); err != nil {
				t.Error(err)
			}
		}
		for i := range 9 {
			m := shared.NewMutex(nodes[i%3], "raced")
			wg.Go(func() {
				for range 100 {
					ok := true
					var s shared.Lease
					var err error
					switch i / 3 {
					case 0:
						s, err = m.Lock(ctx)
					case 1:
						s, ok, err = m.TryLock(ctx)
						tried.Add(1)
					default:
						short, cancel := context.WithTimeout(ctx, time.Millisecond)
						s, err = m.Lock(short)
						if cancel(); errors.Is(err, context.DeadlineExceeded) {
							ok, err = false, nil
						}
					}
					if err != nil {
						t.Error(err)
						return
					}
					if ok {
						use(s)
					}
				}
			})
		}
		wg.Wait()
		if got.Load() < 300 || tried.Load() != 300 {
			t.Error(got.Load(), tried.Load())
		}
		must(t, shared.NewMutex(nodes[2], "raced").Do(ctx, nothing)) // nothing was left held
	})
}

// A try gets what another node has and does not use, however often it wanders.
func TestMutex_L08_TryRecallsIdleHolder(t *testing.T) {
	placements(t, func(t *testing.T, nodes []*distgear.Node) {
		for i := range 30 {
			s, ok, err := shared.NewMutex(nodes[i%3], "idle").TryLock(t.Context())
			if !ok || err != nil {
				t.Fatalf("try %d: %v, %v", i, ok, err)
			}
			must(t, s.Unlock())
			r, ok, err := shared.NewRWMutex(nodes[i%3], "idle rw").TryLock(t.Context())
			if !ok || err != nil {
				t.Fatalf("try %d: %v, %v", i, ok, err)
			}
			must(t, r.Unlock())
		}
	})
}

// waiting is a goroutine that waits on a condition.
type waiting struct {
	err  chan error
	name int
}

// waitOn lets a goroutine of a node wait, and returns when it does: it tells woken its name then, with the lock held.
func waitOn(ctx context.Context, t *testing.T, m *shared.Mutex, c *shared.Cond, name int, woken chan<- int) waiting {
	t.Helper()
	w := waiting{make(chan error, 1), name}
	held := make(chan struct{})
	go func() {
		s, err := m.Lock(ctx)
		close(held)
		if err == nil {
			if err = c.Wait(ctx, &s); err == nil {
				woken <- name
			}
			if s.Token() != 0 {
				err = errors.Join(err, s.Unlock())
			}
		}
		w.err <- err
	}()
	<-held
	must(t, m.Do(t.Context(), nothing)) // when we have it, the other waits
	return w
}

func TestCond_L10_SignalBroadcastTimed(t *testing.T) {
	placements(t, func(t *testing.T, nodes []*distgear.Node) {
		ctx := t.Context()
		woken := make(chan int, 10) // more than there are
		var ws []waiting
		on := func(i int, name string) (*shared.Mutex, *shared.Cond) {
			m := shared.NewMutex(nodes[i%3], "m")
			return m, shared.NewCond(m, name)
		}
		for i := range 5 {
			m, c := on(i, "a")
			ws = append(ws, waitOn(ctx, t, m, c, i, woken))
		}
		m, other := on(1, "b")
		apart := waitOn(ctx, t, m, other, 100, woken)
		m, c := on(2, "a")
		with := func(f func(shared.Lease) error) {
			t.Helper()
			s, err := m.Lock(ctx)
			must(t, err)
			must(t, f(s))
			if len(woken) > 0 {
				t.Error("woken while the lock is held")
			}
			must(t, s.Unlock())
		}
		with(c.Signal) // the one that has waited longest
		if got := <-woken; got != 0 {
			t.Errorf("%d was woken", got)
		}
		with(c.Broadcast)
		seen := map[int]bool{}
		for range 4 {
			seen[<-woken] = true
		}
		if len(seen) != 4 || seen[0] || seen[100] {
			t.Errorf("woken: %v", seen)
		}
		for _, w := range ws {
			must(t, <-w.err)
		}
		with(c.Broadcast) // nobody waits: nothing happens, also not later
		s, err := m.Lock(ctx)
		must(t, err)
		before := s.Token()
		is(t, "timed", c.Wait(brief(t, 5), &s), context.DeadlineExceeded)
		if s.Token() <= before {
			t.Error("the lock is not held anew")
		}
		must(t, shared.NewCond(m, "b").Signal(s))
		must(t, s.Unlock())
		if got := <-woken; got != 100 {
			t.Errorf("%d was woken", got)
		}
		must(t, <-apart.err)
	})
}

// Who does not hold the lock for writing is told so, and nothing happens.
func TestCond_L11_IllegalMonitor(t *testing.T) {
	placements(t, func(t *testing.T, nodes []*distgear.Node) {
		ctx := t.Context()
		m, another := shared.NewRWMutex(nodes[0], "m"), shared.NewRWMutex(nodes[0], "n")
		c := shared.NewCond(m, "c")
		refused := func(what string, s shared.Lease, want error) {
			t.Helper()
			held := s
			is(t, what+": wait", c.Wait(ctx, &s), want)
			is(t, what+": signal", c.Signal(s), want)
			is(t, what+": broadcast", c.Broadcast(s), want)
			if s != held {
				t.Errorf("%s: the lease was changed", what)
			}
		}
		refused("no lock", shared.Lease{}, shared.ErrNotHeld)
		s, err := another.Lock(ctx)
		must(t, err)
		refused("another lock", s, shared.ErrNotHeld)
		must(t, s.Unlock())
		s, err = m.RLock(ctx)
		must(t, err)
		refused("a read lock", s, shared.ErrNotHeld)
		must(t, s.Unlock())
		refused("released", s, shared.ErrNotHeld)
		must(t, shared.NewRWMutex(nodes[1], "m").Do(ctx, nothing))
	})
}
