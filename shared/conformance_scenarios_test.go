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

// report is what a part knows of what it did, left in a shared map for who verifies.
type report struct {
	Sure   int   // how many it did, or the ids 0 … Sure-1 of which those in Unsure are not certain
	Unsure []int // ids, or one for each of what is not certain
	Missed int   // how many may be missing besides
}

// tell leaves a report. To store it again does no harm.
func tell(ctx context.Context, p *geartest.Part, name string, r report) error {
	for {
		err := shared.NewMap[int, report](p.Node, name).Store(ctx, p.Index, r)
		if err == nil || !errors.Is(err, shared.ErrSessionLost) {
			return err
		}
	}
}

// reports are what all parts told.
func reports(ctx context.Context, t testing.TB, n *distgear.Node, name string) map[int]report {
	t.Helper()
	all := map[int]report{}
	for e, err := range shared.NewMap[int, report](n, name).All(ctx) {
		if err != nil {
			t.Fatal(err)
		}
		all[e.Key] = e.Value
	}
	if len(all) != 3 {
		t.Errorf("%d of 3 parts have told what they did", len(all))
	}
	return all
}

// Q02: events go into one queue and on to another; at the end each is there, once.
func passEvents() geartest.Scenario {
	const room = 1_000_000 // ids of a part
	queues := func(n *distgear.Node) (*shared.Queue[int], *shared.Queue[int]) {
		return shared.NewQueue[int](n, "events in", 0), shared.NewQueue[int](n, "events out", 0)
	}
	return geartest.Scenario{
		Name: "Q02 events",
		Run: func(ctx context.Context, p *geartest.Part) error {
			in, out := queues(p.Node)
			var r report
			for step := 0; step < 60 || p.Going() && step < 20_000; step++ {
				switch p.Rand.IntN(4) {
				case 0, 1:
					id := p.Index*room + r.Sure
					r.Sure++
					if err := in.Put(ctx, id); errors.Is(err, shared.ErrSessionLost) {
						r.Unsure = append(r.Unsure, id)
					} else if err != nil {
						return err
					}
				case 2:
					short, cancel := context.WithTimeout(ctx, 2*time.Millisecond)
					_, err := in.Transfer(short, out)
					cancel()
					if expected(err) != nil {
						return err
					}
				default:
					id, ok, err := in.Poll(ctx)
					if errors.Is(err, shared.ErrSessionLost) {
						r.Missed++
						continue
					}
					if ok {
						if err = out.Put(ctx, id); errors.Is(err, shared.ErrSessionLost) {
							r.Unsure = append(r.Unsure, id)
							err = nil
						}
					}
					if err != nil {
						return err
					}
				}
			}
			return tell(ctx, p, "events report", r)
		},
		Verify: func(ctx context.Context, t testing.TB, n *distgear.Node) {
			in, out := queues(n)
			found := map[int]int{}
			for _, q := range []*shared.Queue[int]{in, out} {
				left, err := q.Len(ctx)
				if err != nil {
					t.Fatal(err)
				}
				items, err := q.Drain(ctx)
				if err != nil || len(items) != left {
					t.Errorf("%d drained of %d: %v", len(items), left, err)
				}
				for _, id := range items {
					if found[id]++; found[id] > 1 {
						t.Errorf("event %d is there %d times", id, found[id])
					}
				}
			}
			unsure, put, missing, mayMiss := map[int]bool{}, 0, []int{}, 0
			all := reports(ctx, t, n, "events report")
			for _, r := range all {
				mayMiss += r.Missed
				for _, id := range r.Unsure {
					unsure[id] = true
				}
			}
			for i, r := range all {
				for id := i * room; id < i*room+r.Sure; id++ {
					put++
					if found[id] == 0 && !unsure[id] {
						missing = append(missing, id)
					}
					delete(found, id)
				}
			}
			if len(missing) > mayMiss {
				t.Errorf("missing, when %d takes are unknown: %v", mayMiss, missing)
			}
			for id := range found {
				t.Errorf("event %d was never put", id)
			}
			t.Logf("%d events, %d unsure, %d takes unknown", put, len(unsure), mayMiss)
		},
	}
}

// L01: a number that is read and written under a lock; no addition is lost, also when a lock is.
func countUnderLock() geartest.Scenario {
	return geartest.Scenario{
		Name: "L01 sum",
		Run: func(ctx context.Context, p *geartest.Part) error {
			lock, sums := shared.NewMutex(p.Node, "sum lock"), shared.NewMap[string, int](p.Node, "sum")
			var mu sync.Mutex
			var r report
			errs := make(chan error, 2) // one each
			for range cap(errs) {
				go func() {
					for step := 0; step < 30 || p.Going() && step < 5_000; step++ {
						written := false
						err := lock.Do(ctx, func(ctx context.Context, _ shared.Token) error {
							v, _, err := sums.Load(ctx, "n")
							if err == nil {
								written = true // or maybe
								err = sums.Store(ctx, "n", v+1)
							}
							return err
						})
						mu.Lock()
						switch {
						case err == nil:
							r.Sure++
						case written:
							r.Unsure = append(r.Unsure, step)
						}
						mu.Unlock()
						if err != nil && !errors.Is(err, shared.ErrSessionLost) {
							errs <- err
							return
						}
					}
					errs <- nil
				}()
			}
			for range cap(errs) {
				if err := <-errs; err != nil {
					return err
				}
			}
			return tell(ctx, p, "sum report", r)
		},
		Verify: func(ctx context.Context, t testing.TB, n *distgear.Node) {
			got, _, err := shared.NewMap[string, int](n, "sum").Load(ctx, "n")
			if err != nil {
				t.Fatal(err)
			}
			sure, unsure := 0, 0
			for _, r := range reports(ctx, t, n, "sum report") {
				sure += r.Sure
				unsure += len(r.Unsure)
			}
			if got < sure || got > sure+unsure {
				t.Errorf("the sum is %d: %d were added, and maybe %d more", got, sure, unsure)
			}
			t.Logf("%d added, and maybe %d", sure, unsure)
		},
	}
}

// L12, L13, L14: putters and takers wait on two conditions, with and without a time limit. Nobody waits for ever, all that was put is taken.
func putAndTakeWithConditions() geartest.Scenario {
	const longest = 30 * time.Second // a wake-up that takes as long was lost
	var mu sync.Mutex                // a lock that was lost may be held twice
	var buffer []int
	var put, taken int
	var putting atomic.Int64
	putting.Store(3)
	return geartest.Scenario{
		Name: "L12 conditions",
		Run: func(ctx context.Context, p *geartest.Part) error {
			size := 4
			if p.Mode == geartest.Tiny {
				size = 1
			}
			m := shared.NewMutex(p.Node, "buffer")
			notFull, notEmpty := shared.NewCond(m, "not full"), shared.NewCond(m, "not empty")
			// under gets the lock, waits on c until ready, and tells the other side; again from the start if the lock is lost.
			under := func(c *shared.Cond, ready func() bool, tell func(s shared.Lease) error, timed func() bool) error {
				done := false
				for {
					s, err := m.Lock(ctx)
					for err == nil && !done {
						if mu.Lock(); ready() {
							done = true
						}
						mu.Unlock()
						if done {
							break
						}
						wait, cancel := context.WithTimeout(ctx, longest)
						short := timed()
						if short {
							cancel()
							wait, cancel = context.WithTimeout(ctx, 3*time.Millisecond)
						}
						err = c.Wait(wait, &s)
						cancel()
						if errors.Is(err, context.DeadlineExceeded) && short {
							err = nil // it has the lock again
						}
					}
					if err == nil {
						err = errors.Join(tell(s), s.Unlock())
					}
					if err == nil || !errors.Is(err, shared.ErrSessionLost) {
						return err
					}
				}
			}
			never := func() bool { return false }
			sometimes := func() bool { return p.Rand.IntN(3) == 0 }
			putter := make(chan error, 1)
			go func() {
				var err error
				for i := 0; err == nil && (i < 20 || p.Going() && i < 2_000); i++ {
					err = under(notFull, func() bool {
						if len(buffer) >= size {
							return false
						}
						put++
						buffer = append(buffer, put)
						return true
					}, notEmpty.Signal, never)
				}
				if putting.Add(-1) == 0 && err == nil { // all takers may go
					err = under(notFull, func() bool { return true }, notEmpty.Broadcast, never)
				}
				putter <- err
			}()
			for over := false; !over; {
				if err := under(notEmpty, func() bool {
					if len(buffer) == 0 {
						over = putting.Load() == 0
						return over
					}
					buffer = buffer[1:]
					taken++
					return true
				}, notFull.Signal, sometimes); err != nil {
					return errors.Join(fmt.Errorf("taking: %w", err), <-putter)
				}
			}
			return <-putter
		},
		Verify: func(_ context.Context, t testing.TB, _ *distgear.Node) {
			if put != taken || len(buffer) > 0 {
				t.Errorf("%d put, %d taken, %d left", put, taken, len(buffer))
			}
			t.Logf("%d put and taken", put)
		},
	}
}

// What Load says never goes back, and includes what its own node wrote.
func readNearby() geartest.Scenario {
	return geartest.Scenario{
		Name: "near cache",
		Run: func(ctx context.Context, p *geartest.Part) error {
			m := shared.NewMap[int, int](p.Node, "near")
			seen := map[int]int{}
			var own int
			for step := 0; step < 200 || p.Going() && step < 50_000; step++ {
				if p.Rand.IntN(8) == 0 {
					own++
					switch err := m.Store(ctx, p.Index, own); {
					case err == nil:
						seen[p.Index] = own
					case !errors.Is(err, shared.ErrSessionLost):
						return err
					}
					continue
				}
				k := p.Rand.IntN(p.Count)
				v, ok, err := m.Load(ctx, k)
				if expected(err) != nil {
					return err
				}
				if err == nil && (v < seen[k] || !ok && seen[k] > 0) {
					return fmt.Errorf("key %d is %d (%v), after %d", k, v, ok, seen[k])
				}
				if err == nil {
					seen[k] = v
				}
			}
			return nil
		},
	}
}

// All who subscribe hear the same messages under the same numbers, without a gap for as long as their session lasts.
func hearTopic() geartest.Scenario {
	var mu sync.Mutex
	said := map[uint64]string{} // by number
	heard := 0
	return geartest.Scenario{
		Name: "topic",
		Run: func(ctx context.Context, p *geartest.Part) error {
			topic := shared.NewTopic[string](p.Node, "told")
			listening, stop := context.WithCancel(ctx)
			listener := make(chan error, 1)
			go func() {
				listener <- func() error {
					for listening.Err() == nil {
						sub, err := topic.Subscribe(listening, 0)
						if err != nil && !errors.Is(err, shared.ErrSessionLost) && !errors.Is(err, context.Canceled) {
							return err
						}
						if err != nil {
							continue
						}
						var last uint64
						for m, err := range sub.All(listening) {
							if err != nil {
								if !errors.Is(err, shared.ErrSessionLost) && !errors.Is(err, shared.ErrSlow) && !errors.Is(err, context.Canceled) {
									return err
								}
								break
							}
							if last != 0 && m.Number != last+1 {
								return fmt.Errorf("message %d after %d", m.Number, last)
							}
							last = m.Number
							mu.Lock()
							heard++
							before, ok := said[m.Number]
							said[m.Number] = m.Value
							mu.Unlock()
							if ok && before != m.Value {
								return fmt.Errorf("message %d is %q to one and %q to another", m.Number, before, m.Value)
							}
						}
						sub.Close()
					}
					return nil
				}()
			}()
			var err error
			for i := 0; err == nil && (i < 50 || p.Going() && i < 5_000); i++ {
				_, err = topic.Publish(ctx, fmt.Sprint(p.Index, " ", i))
				err = expected(err)
			}
			stop()
			return errors.Join(err, <-listener)
		},
		Verify: func(_ context.Context, t testing.TB, _ *distgear.Node) {
			t.Logf("%d messages, heard %d times", len(said), heard)
		},
	}
}

// Each thing is done once; where sessions are lost it may be done again.
func doOnce() geartest.Scenario {
	const things = 20
	var did [things]atomic.Int64
	var calm atomic.Bool
	return geartest.Scenario{
		Name: "once",
		Run: func(ctx context.Context, p *geartest.Part) error {
			calm.Store(p.Mode == geartest.Calm || p.Mode == geartest.Tiny)
			for i := 0; i < things; i++ {
				err := shared.NewOnce(p.Node, fmt.Sprint("thing ", i)).Do(ctx, func(context.Context) error { did[i].Add(1); return nil })
				if errors.Is(err, shared.ErrSessionLost) {
					i--
				} else if err != nil {
					return err
				}
			}
			return nil
		},
		Verify: func(ctx context.Context, t testing.TB, n *distgear.Node) {
			for i := range did {
				done, err := shared.NewOnce(n, fmt.Sprint("thing ", i)).Done(ctx)
				if k := did[i].Load(); err != nil || !done || k < 1 || calm.Load() && k != 1 {
					t.Errorf("thing %d was done %d times; done: %v, %v", i, k, done, err)
				}
			}
		},
	}
}
