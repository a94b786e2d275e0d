package distgear_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/distgear/distgear"
	"github.com/distgear/distgear/cluster"
	"github.com/distgear/distgear/record"
)

// A step after the pivot that fails for good, or eight times, waits for an operator, who tries it again or says that it is done; it cannot be skipped.
func TestPlan_S15_Stuck(t *testing.T) {
	t.Parallel()
	for _, permanent := range []bool{true, false} {
		t.Run(fmt.Sprintf("permanent %v", permanent), func(t *testing.T) {
			t.Parallel()
			w := alone(t)
			var tries, inputs atomic.Int32
			w.do("c", func(context.Context, cluster.NodeName) (string, error) {
				if tries.Add(1); permanent {
					return "", distgear.Permanent(errBoom)
				}
				return "", errBoom
			})
			f := w.raise(func(ctx context.Context, r *distgear.Run) (string, error) {
				p := plan{Name: "p", Rollback: true}
				b := w.op.Step(&p, w.on(1), "b").Pivot()
				c := w.op.StepFunc(&p, w.on(2), func() (string, error) {
					if inputs.Add(1) == 1 { // asked again
						return "", errBoom
					}
					return "c", nil
				}, b).Named("c")
				w.op.Step(&p, w.on(0), "d", c)
				if err := r.Do(ctx, &p); err != nil {
					return "", err
				}
				return c.Result()
			})
			stuck := func() {
				t.Helper()
				rec := w.until(f.ID(), "stuck", func(r record.Run) bool { return r.State == record.Stuck })
				if s := state(rec, "c"); s != "stuck" {
					t.Errorf("step c is %s", s)
				}
			}
			stuck()
			want := int32(7) // its input failed once
			if permanent {
				want = 1
			}
			if n := tries.Load(); n != want {
				t.Errorf("stuck after %d attempts, not %d", n, want)
			}
			if err := w.Here().CancelRun(t.Context(), f.ID()); err != nil {
				t.Error(err)
			}
			if err := w.Here().ResolveUndo(t.Context(), f.ID(), "c", record.Skip, "so"); !errors.Is(err, distgear.ErrInvalid) {
				t.Errorf("skipping it: %v", err)
			}
			if permanent { // tried again, and still it fails
				if err := w.Here().ResolveUndo(t.Context(), f.ID(), "c", record.Retry, ""); err != nil {
					t.Error(err)
				}
				w.until(f.ID(), "tried again and stuck", func(r record.Run) bool { return r.State == record.Stuck && tries.Load() == 2 })
				w.do("c", func(context.Context, cluster.NodeName) (string, error) { return "at last", nil })
				if err := w.Here().ResolveUndo(t.Context(), f.ID(), "c", record.Retry, ""); err != nil {
					t.Error(err)
				}
			} else if err := w.Here().ResolveUndo(t.Context(), f.ID(), "c", record.MarkDone, "by hand"); err != nil {
				t.Error(err)
			}
			out, err := w.wait(f)
			if err != nil || permanent && out != "at last" || !permanent && out != "" {
				t.Errorf("the run: %q, %v", out, err)
			}
			w.order("do b", "do c", "do d", "end d")
			w.never("undo b", "undo c", "do ")
		})
	}
}
