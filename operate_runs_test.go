package distgear_test

import (
	"context"
	"errors"
	"testing"

	"github.com/distgear/distgear"
	"github.com/distgear/distgear/geartest"
	"github.com/distgear/distgear/record"
)

// A stuck undo is decided about while no node owns the run: the next owner carries
// that out.
func TestDurable_S10_ResolvedWhileNobodyOwnsTheRun(t *testing.T) {
	keep := &distgear.Action[int, int]{Name: "keep", Do: func(_ context.Context, in int) (int, error) { return in, nil },
		Undo: func(context.Context, distgear.Did[int, int]) error { return distgear.Permanent(errors.New("it cannot be undone")) }}
	bad := &distgear.Action[int, int]{Name: "bad", Do: func(context.Context, int) (int, error) { return 0, errors.New("as it was told") }}
	event := &distgear.Event[int, int]{Name: "order", Durable: true, On: func(ctx context.Context, r *distgear.Run, in int) (int, error) {
		p := distgear.Plan{Name: "p", Rollback: true}
		bad.Step(&p, distgear.Any(), 0, keep.Step(&p, distgear.Any(), in))
		return 0, r.Do(ctx, &p)
	}}
	c := geartest.StartCluster(t, geartest.Nodes{Count: 2, Handlers: func(n *distgear.Node) []distgear.Handler {
		if n.Name() == "node-1" {
			return []distgear.Handler{event}
		}
		return []distgear.Handler{keep, bad}
	}})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	n := c.Here()
	f, err := event.Raise(ctx, n, 1)
	if err != nil {
		t.Fatal(err)
	}
	stuck := func(owner bool) func() bool {
		return func() bool {
			rec, err := n.FindRun(ctx, f.ID())
			return err == nil && rec.State == record.Stuck && (rec.Node != "") == owner
		}
	}
	geartest.Eventually(t, patience, "the undo is stuck", stuck(true))
	if err := c.Node("node-1").Leave(ctx); err != nil {
		t.Fatal(err)
	}
	geartest.Eventually(t, patience, "nobody owns it", stuck(false))
	if err := n.ResolveUndo(ctx, f.ID(), "bad", record.Skip, "x"); !errors.Is(err, distgear.ErrInvalid) {
		t.Errorf("a step that is not stuck: %v", err)
	}
	if err := n.ResolveUndo(ctx, f.ID(), "keep", record.Skip, ""); !errors.Is(err, distgear.ErrInvalid) {
		t.Errorf("without a reason: %v", err)
	}
	if err := n.ResolveUndo(ctx, f.ID(), "keep", record.MarkDone, "by hand"); err != nil {
		t.Fatal(err)
	}
	c.Start("node-1")
	if _, err := f.Wait(ctx); err == nil {
		t.Error("it is ok")
	}
	if rec, err := n.FindRun(ctx, f.ID()); err != nil || rec.Plans[0].Steps[0].State != "marked undone" {
		t.Errorf("%+v %v", rec, err)
	}
}
