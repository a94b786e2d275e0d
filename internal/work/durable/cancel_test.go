package durable_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/distgear/distgear"
	"github.com/distgear/distgear/executor"
	"github.com/distgear/distgear/geartest"
)

// TestDurable_CancelChaos: tasks are cancelled and parked by futures and by operators,
// at any time, while one of the workers is cut off and comes back, and are then retried.
// Each ends as it should, and all agree how.
func TestDurable_CancelChaos(t *testing.T) {
	seed := *chaosSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("-seed %d", seed)
	var ran sync.Map // times a task began, by its key
	act := &distgear.Action[int, int]{Name: "act", Idempotent: true, Do: func(ctx context.Context, n int) (int, error) {
		times, _ := ran.LoadOrStore(distgear.KeyOf(ctx), new(atomic.Int64))
		times.(*atomic.Int64).Add(1) //nolint:forcetypeassert // stored above
		timer := time.NewTimer(time.Duration(n%4) * time.Millisecond)
		defer timer.Stop()
		select {
		case <-timer.C:
			return 3 * n, nil
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}}
	var working sync.WaitGroup
	t.Cleanup(working.Wait)
	c := geartest.StartCluster(t, geartest.Nodes{Count: 2, Proxied: true, Handlers: func(n *distgear.Node) []distgear.Handler {
		working.Go(func() {
			if err := worksDurably(n, slots, act); err != nil {
				t.Errorf("work: %v", err)
			}
		})
		return nil
	}})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	ex, ops := durably.New(c.Here(), durableName), executor.Operate(c.Here())
	const each, by = 60, 4
	var ended [3]atomic.Int64 // OK at once; cancelled; parked
	one := func(r *rand.Rand, n int) error {
		id := executor.TaskID(fmt.Sprint("c-", n))
		f, err := executor.Submit(ctx, ex, act, n, executor.ID(id), executor.Key(fmt.Sprint(n%3)))
		if err != nil {
			return err
		}
		if r.IntN(2) == 0 { // it may run by now
			timer := time.NewTimer(time.Duration(r.IntN(20)) * time.Millisecond)
			<-timer.C
		}
		switch r.IntN(4) {
		case 0:
			f.Cancel()
		case 1:
			err = ops.Cancel(ctx, durableName, id)
		case 2:
			err = ops.Park(ctx, durableName, id, "for a while")
		}
		if err != nil && !errors.Is(err, executor.ErrState) { // it has ended
			return err
		}
		v, err := f.Wait(ctx)
		switch {
		case err == nil:
			ended[0].Add(1)
		case errors.Is(err, distgear.ErrCancelled), errors.Is(err, executor.ErrParked):
			how := 1
			if errors.Is(err, executor.ErrParked) {
				how = 2
			}
			ended[how].Add(1)
			if err = ops.Retry(ctx, durableName, id); err != nil {
				return err
			}
			again, bad := executor.Find[int](ctx, ex, id)
			if bad != nil {
				return bad
			}
			if v, err = again.Wait(ctx); err != nil {
				return fmt.Errorf("retried: %w", err)
			}
		default:
			return err
		}
		if v != 3*n {
			return fmt.Errorf("result %d", v)
		}
		if _, ok := ran.Load(string(id)); !ok {
			return errors.New("it is OK and never ran")
		}
		info, err := ops.Task(ctx, durableName, id)
		if err != nil || info.State != "ok" {
			return fmt.Errorf("the hub says %s, %w", info.State, err)
		}
		return nil
	}
	var wg sync.WaitGroup
	for g := range by {
		r := rand.New(rand.NewPCG(seed, uint64(g))) //nolint:gosec // to be repeated
		wg.Go(func() {
			for i := range each {
				if err := one(r, g*each+i); err != nil {
					t.Errorf("task %d: %v", g*each+i, err)
				}
			}
		})
	}
	geartest.Eventually(t, 0, "a few have ended", func() bool { return ended[0].Load()+ended[1].Load()+ended[2].Load() > 20 })
	c.Cut(c.Name(1))
	before := ended[0].Load()
	geartest.Eventually(t, 0, "others go on", func() bool { return ended[0].Load() > before+5 })
	c.Heal(c.Name(1))
	wg.Wait()
	t.Logf("%d OK, %d cancelled, %d parked", ended[0].Load(), ended[1].Load(), ended[2].Load())
	if s, err := ex.Stats(ctx); err != nil || s.Waiting+s.Leased+s.Parked != 0 || s.Ended != each*by {
		t.Errorf("left: %+v, %v", s, err)
	}
}
