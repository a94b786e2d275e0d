package durable_test

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
	"github.com/distgear/distgear/executor"
	"github.com/distgear/distgear/geartest"
)

// TestSessionLost cuts a node off until its session is over: one that submits and
// watches, or one that works. What was accepted ends OK; what was not is unknown, or is
// submitted in the next session.
func TestSessionLost(t *testing.T) {
	for _, cut := range []int{0, 1} {
		t.Run([]string{"a submitter", "a worker"}[cut], func(t *testing.T) {
			var wg sync.WaitGroup
			t.Cleanup(wg.Wait) // when all have left
			var runs atomic.Int64
			short := &distgear.Action[int, int]{Name: "short", Idempotent: true, Do: func(ctx context.Context, n int) (int, error) {
				runs.Add(1)
				timer := time.NewTimer(10 * time.Millisecond)
				defer timer.Stop()
				select {
				case <-timer.C:
					return n, nil
				case <-ctx.Done():
					return 0, ctx.Err()
				}
			}}
			c := geartest.StartCluster(t, geartest.Nodes{Count: 3, Proxied: true, Handlers: func(n *distgear.Node) []distgear.Handler {
				if n.Name() != "node-1" {
					wg.Go(func() {
						if err := worksDurably(n, slots, short); err != nil {
							t.Errorf("work: %v", err)
						}
					})
				}
				return nil
			}})
			ex := durably.New(c.Node(c.Name(0)), durableName)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			over := make(chan struct{})
			var unknown, ended atomic.Int64
			var submitters sync.WaitGroup
			for g := range 4 {
				submitters.Go(func() {
					for i := 0; ; i++ {
						select {
						case <-over:
							return
						default:
						}
						f, err := executor.Submit(ctx, ex, short, i, executor.ID(fmt.Sprint(g, "-", i)))
						if errors.Is(err, distgear.ErrUnknown) {
							unknown.Add(1)
							continue
						}
						if err != nil {
							t.Errorf("submit: %v", err)
							return
						}
						if v, err := f.Wait(ctx); v != i || err != nil {
							t.Errorf("task %d-%d: %d, %v", g, i, v, err)
						}
						ended.Add(1)
					}
				})
			}
			geartest.Eventually(t, 0, "some ended", func() bool { return ended.Load() > 20 })
			c.Cut(c.Name(cut))
			c.Await(c.Name(cut), cluster.Lost)
			before := ended.Load()
			if cut == 1 {
				geartest.Eventually(t, 0, "others go on", func() bool { return ended.Load() > before+20 })
			}
			c.Heal(c.Name(cut))
			before = ended.Load()
			geartest.Eventually(t, 0, "it goes on", func() bool { return ended.Load() > before+20 })
			close(over)
			submitters.Wait()
			if err := ex.Await(ctx); err != nil {
				t.Error(err)
			}
			t.Logf("%d ended, %d unknown, %d executions", ended.Load(), unknown.Load(), runs.Load())
			if cut == 1 {
				geartest.Eventually(t, 0, "both work again", func() bool { s, err := ex.Stats(ctx); return err == nil && s.Workers == 2 })
			}
		})
	}
}
