package sides

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/distgear/distgear"
	"github.com/distgear/distgear/record"
)

// waitingRole is a process of the row durable-waiting: the caller raises runs that wait for a signal, and the worker owns them until they rest at the hub.
func waitingRole(sp spec, n *distgear.Node, rl *role) error {
	w := &waiting{sp: sp, n: n}
	w.event = &distgear.Event[int, int]{Name: "waiting", Durable: true, On: w.on}
	rl.Answers["heap"] = heap(sp)
	if sp.Role == "worker" {
		rl.Answers["rest"] = func(string) (reply, error) { return reply{}, w.rest() }
		return n.Handle(w.event)
	}
	rl.Answers["fill"] = func(string) (reply, error) { return w.fill() }
	rl.Answers["wake"] = func(string) (reply, error) { return reply{}, w.wake() }
	return nil
}

type waiting struct {
	sp      spec
	n       *distgear.Node
	event   *distgear.Event[int, int]
	resting atomic.Int64
}

// on ends with what the signal carries and its input, together.
func (w *waiting) on(ctx context.Context, r *distgear.Run, in int) (int, error) {
	var add int
	err := r.Signal(ctx, "go", &add)
	if err != nil { // suspended: wake would tell of another
		w.resting.Add(1)
	}
	return in + add, err
}

func (w *waiting) rest() error {
	for end := time.Now().Add(20 * time.Minute); w.resting.Load() < int64(w.sp.Count); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			return fmt.Errorf("%d of %d runs rest", w.resting.Load(), w.sp.Count)
		}
	}
	return nil
}

func (w *waiting) id(i int) record.RunID { return record.RunID(fmt.Sprint("waiting-", i)) }

// atOnce is how many runs are raised at the same time.
const atOnce = 1000

func (w *waiting) fill() (reply, error) {
	var wg sync.WaitGroup
	var next atomic.Int64
	failed := make(chan error, atOnce)
	for range atOnce {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < w.sp.Count; i = int(next.Add(1)) - 1 {
				if _, err := w.event.Raise(context.Background(), w.n, i, distgear.ID(string(w.id(i)))); err != nil {
					failed <- err
					return
				}
			}
		})
	}
	wg.Wait()
	close(failed)
	return reply{}, <-failed
}

// wake has some of them go on, and checks how they end.
func (w *waiting) wake() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for i := 0; i < w.sp.Count; i += max(w.sp.Count/100, 1) {
		if err := w.n.SignalRun(ctx, w.id(i), "go", 7); err != nil {
			return err
		}
		f, err := w.event.Find(ctx, w.n, w.id(i))
		if err != nil {
			return err
		}
		if err := ended(f, i+7); err != nil {
			return fmt.Errorf("run %d: %w", i, err)
		}
	}
	return nil
}
