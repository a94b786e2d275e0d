package distgear_test

import (
	"context"
	"errors"
	"maps"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/distgear/distgear"
	"github.com/distgear/distgear/geartest"
	"github.com/distgear/distgear/record"
)

// A stuck undo is decided about while no node owns the run: the next owner carries
// that out.
func TestDurable_S10_ResolvedWhileNobodyOwnsTheRun(t *testing.T) {
	keep := &distgear.Action[int, int]{Name: "keep", Do: func(_ context.Context, in int) (int, error) { return in, nil },
		Undo: func(context.Context, distgear.Did[int, int]) error {
			return distgear.Permanent(errors.New("it cannot be undone"))
		}}
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

// A run that failed, or is over, goes on as another from the step that it is forked at.
func TestDurable_D5_Fork(t *testing.T) {
	var fails atomic.Bool
	o := newOrder(nil)
	check := &distgear.Action[int, int]{Name: "check", Do: func(_ context.Context, in int) (int, error) {
		if fails.Load() {
			return 0, errors.New("as it was told")
		}
		return in, nil
	}}
	o.event.On = func(ctx context.Context, r *distgear.Run, in int) (int, error) {
		p := distgear.Plan{Name: "order"}
		paid := o.pay.Step(&p, distgear.Any(), 1)
		s := o.ship.Step(&p, distgear.Any(), in, check.Step(&p, distgear.Any(), in, paid))
		if err := r.Do(ctx, &p); err != nil {
			return 0, err
		}
		return s.Result()
	}
	hs := geartest.Nodes{Handlers: func(*distgear.Node) []distgear.Handler { return []distgear.Handler{o.pay, o.ship, o.event, check} }}
	body := func(t *testing.T, n *distgear.Node) {
		fails.Store(true)
		o.paid.Store(0)
		o.shipped.Store(0)
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		f, err := o.event.Raise(ctx, n, 4, distgear.ID("o-1"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Wait(ctx); err == nil {
			t.Fatal("it did not fail")
		}
		fails.Store(false)
		fork := func(id, from string, in any) (int, error) {
			of, err := n.ForkRun(ctx, "o-1", from, in, distgear.ID(id))
			if err != nil {
				return 0, err
			}
			f, err := o.event.Find(ctx, n, of)
			if err != nil {
				return 0, err
			}
			return f.Wait(ctx)
		}
		for range 2 { // the second time it is the same run
			if out, err := fork("o-2", "check", nil); err != nil || out != 40 {
				t.Fatalf("forked: %d %v", out, err)
			}
		}
		if out, err := fork("o-3", "order/check", 5); err != nil || out != 50 {
			t.Fatalf("forked with another input: %d %v", out, err)
		}
		if o.paid.Load() != 1 || o.shipped.Load() != 2 {
			t.Errorf("paid %d times, shipped %d", o.paid.Load(), o.shipped.Load())
		}
		for why, err := range map[string]error{
			`has no step "nothing": it has order/pay, order/check, order/ship`: second(fork("o-4", "nothing", nil)),
			"step ship of run o-1 comes after check, which is not ok":          second(fork("o-4", "ship", nil)),
		} {
			if !errors.Is(err, distgear.ErrInvalid) || !strings.Contains(err.Error(), why) {
				t.Errorf("%v, want %s", err, why)
			}
		}
		if _, err := fork("o-2", "pay", nil); !errors.Is(err, distgear.ErrConflict) {
			t.Errorf("another fork of that ID: %v", err)
		}
		if _, err := n.ForkRun(ctx, "nobody", "pay", nil); !errors.Is(err, distgear.ErrNoRun) {
			t.Errorf("a fork of no run: %v", err)
		}
		waits, err := o.event.Raise(ctx, n, 4, distgear.Delay(time.Minute))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := n.ForkRun(ctx, waits.ID(), "pay", nil); !errors.Is(err, distgear.ErrInvalid) || !strings.Contains(err.Error(), "goes on") {
			t.Errorf("a fork of a run that goes on: %v", err)
		}
	}
	t.Run("alone", func(t *testing.T) { body(t, geartest.Alone(t, hs).Here()) })
	t.Run("nodes", func(t *testing.T) { body(t, geartest.StartCluster(t, hs).Here()) })
}

func second(_ int, err error) error { return err }

// A list tells how durable runs have ended that no node remembers any more.
func TestRuns_ListedWhenTheirNodeHasLeft(t *testing.T) {
	o := newOrder(func(ctx context.Context, o *order, r *distgear.Run, in int) (int, error) {
		if in == 1 {
			return 0, r.Signal(ctx, "never", nil)
		}
		return payAndShip(ctx, o, r, in)
	})
	o.ship.Do = func(_ context.Context, in int) (int, error) {
		if in == 3 {
			return 0, distgear.Permanent(distgear.Clean(errors.New("no room")))
		}
		return in, nil
	}
	w := geartest.StartCluster(t, geartest.Nodes{Count: 1, Handlers: func(*distgear.Node) []distgear.Handler { return []distgear.Handler{o.pay, o.ship, o.event} }})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	want := map[record.RunID]record.RunState{"waits": record.Cancelled, "fails": record.RolledBack, "ends": record.OK}
	for id, in := range map[string]int{"waits": 1, "fails": 2, "ends": 4} {
		f, err := o.event.Raise(ctx, w.Here(), in, distgear.ID(id))
		if err != nil {
			t.Fatal(err)
		}
		if id == "waits" {
			if err := w.Here().CancelRun(ctx, f.ID()); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := f.Wait(ctx); (err == nil) != (id == "ends") {
			t.Fatal(id, err)
		}
	}
	if err := w.Node(w.Name(0)).Leave(ctx); err != nil {
		t.Fatal(err)
	}
	got := map[record.RunID]record.RunState{}
	for rec, err := range w.Here().Runs(ctx) {
		if err != nil {
			t.Fatal(err)
		}
		got[rec.ID] = rec.State
		whole, err := w.Here().FindRun(ctx, rec.ID)
		if err != nil || whole.State != rec.State {
			t.Errorf("%s is listed as %s, and is %s, %v", rec.ID, rec.State, whole.State, err)
		}
		for _, e := range whole.Journal {
			if e.What == record.OwnerGone && e.Text != "" {
				t.Errorf("the owner of %s, which has ended, is gone: %s", rec.ID, e.Text)
			}
		}
		if rec.Node != w.Name(0) && rec.ID != "waits" { // when that was cancelled nobody may have had it
			t.Errorf("%s ended on %q", rec.ID, rec.Node)
		}
	}
	if !maps.Equal(got, want) {
		t.Errorf("listed: %v, want %v", got, want)
	}
}
