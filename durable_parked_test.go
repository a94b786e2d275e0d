package distgear_test

import (
	"context"
	"sync/atomic"
	"testing"

	"github.com/distgear/distgear"
	"github.com/distgear/distgear/geartest"
	"github.com/distgear/distgear/record"
)

// A handler that panics again and again is not called for ever: its run is parked (D9).
// When a person has it go on, who raised it is told its end.
func TestDurable_D9_APanicParks(t *testing.T) {
	var well atomic.Bool
	var called atomic.Int64
	o := newOrder(func(_ context.Context, _ *order, _ *distgear.Run, in int) (int, error) {
		called.Add(1)
		if !well.Load() {
			panic("as it was told")
		}
		return in, nil
	})
	placements(t, o, func(t *testing.T, n *distgear.Node) {
		well.Store(false)
		called.Store(0)
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		f, err := o.event.Raise(ctx, n, 4, distgear.ID("o-5"))
		if err != nil {
			t.Fatal(err)
		}
		geartest.Eventually(t, patience, "the run is parked", func() bool {
			rec, err := n.FindRun(ctx, f.ID())
			return err == nil && rec.State == record.Parked
		})
		if c := called.Load(); c != 3 {
			t.Errorf("its handler was called %d times", c)
		}
		found, err := o.event.Find(ctx, n, f.ID()) // which is told its end too
		if err != nil {
			t.Fatal(err)
		}
		well.Store(true)
		if err := n.AdoptRun(ctx, f.ID()); err != nil {
			t.Fatal(err)
		}
		for _, f := range []*distgear.Future[int]{f, found} {
			if out, err := f.Wait(ctx); err != nil || out != 4 {
				t.Error(out, err)
			}
		}
	})
}
