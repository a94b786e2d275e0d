package distgear_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"runtime/metrics"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/distgear/distgear"
	"github.com/distgear/distgear/geartest"
	"github.com/distgear/distgear/record"
)

// order is a durable event of steps that count how often they run.
type order struct {
	pay, ship *distgear.Action[int, int]
	event     *distgear.Event[int, int]
	paid      atomic.Int64
	shipped   atomic.Int64
}

func newOrder(on func(ctx context.Context, o *order, r *distgear.Run, in int) (int, error)) *order {
	o := &order{}
	o.pay = &distgear.Action[int, int]{Name: "pay", Do: func(_ context.Context, in int) (int, error) { o.paid.Add(1); return in + 1, nil },
		Undo: func(context.Context, distgear.Did[int, int]) error { o.paid.Add(-1); return nil }}
	o.ship = &distgear.Action[int, int]{Name: "ship", Do: func(_ context.Context, in int) (int, error) { o.shipped.Add(1); return in * 10, nil },
		Undo: func(context.Context, distgear.Did[int, int]) error { o.shipped.Add(-1); return nil }}
	o.event = &distgear.Event[int, int]{Name: "order", Durable: true,
		On: func(ctx context.Context, r *distgear.Run, in int) (int, error) { return on(ctx, o, r, in) }}
	return o
}

// payAndShip is a plan of two steps.
func payAndShip(ctx context.Context, o *order, r *distgear.Run, in int) (int, error) {
	p := distgear.Plan{Name: "order", Rollback: true}
	paid := o.pay.Step(&p, distgear.Any(), in)
	s := o.ship.StepFunc(&p, distgear.Any(), func() (int, error) { return paid.Result() }, paid)
	if err := r.Do(ctx, &p); err != nil {
		return 0, err
	}
	return s.Result()
}

// placements runs a body alone, and on three nodes of a cluster.
func placements(t *testing.T, o *order, body func(t *testing.T, n *distgear.Node)) {
	hs := geartest.Nodes{Handlers: func(*distgear.Node) []distgear.Handler { return []distgear.Handler{o.pay, o.ship, o.event} }}
	t.Run("alone", func(t *testing.T) { body(t, geartest.Alone(t, hs).Here()) })
	t.Run("nodes", func(t *testing.T) { body(t, geartest.StartCluster(t, hs).Here()) })
}

func TestDurable_D1_RaisedOnceForItsID(t *testing.T) {
	o := newOrder(payAndShip)
	placements(t, o, func(t *testing.T, n *distgear.Node) { raisedOnce(t, n, o) })
}

func raisedOnce(t *testing.T, n *distgear.Node, o *order) {
	o.paid.Store(0)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	f, err := o.event.Raise(ctx, n, 4, distgear.ID("o-1"))
	if err != nil {
		t.Fatal(err)
	}
	if out, err := f.Wait(ctx); err != nil || out != 50 {
		t.Fatal(out, err)
	}
	f, err = o.event.Raise(ctx, n, 4, distgear.ID("o-1"))
	if err != nil {
		t.Fatal(err)
	}
	if out, err := f.Wait(ctx); err != nil || out != 50 || o.paid.Load() != 1 {
		t.Errorf("raised again: %d %v, paid %d times", out, err, o.paid.Load())
	}
	if _, err = o.event.Raise(ctx, n, 5, distgear.ID("o-1")); !errors.Is(err, distgear.ErrConflict) {
		t.Errorf("another input: %v", err)
	}
	listed := 0
	for rec, err := range n.Runs(ctx) { // the ledger tells of it: no node remembers it
		if err == nil && rec.ID == f.ID() && rec.State == record.OK && rec.Durable && rec.Node != "" && !rec.Started.IsZero() && !rec.Ended.IsZero() {
			listed++
		}
	}
	if rec, err := n.FindRun(ctx, f.ID()); err != nil || listed != 1 || rec.Node == "" || len(rec.Plans[0].Steps[1].Attempts) != 1 {
		t.Errorf("it is listed %d times, and is %+v, %v", listed, rec, err)
	}
}

// A signal wakes a run that waits for it on no node, and is kept until it is taken.
func TestDurable_D7_SignalsAndSleep(t *testing.T) {
	o := newOrder(func(ctx context.Context, o *order, r *distgear.Run, in int) (int, error) {
		var word int
		if err := r.Signal(ctx, "go", &word); err != nil {
			return 0, err
		}
		if err := r.Sleep(ctx, 1500*time.Millisecond); err != nil {
			return 0, err
		}
		a, err := r.Approve(ctx, "ship")
		if err != nil || !a.Approved {
			return 0, err
		}
		return payAndShip(ctx, o, r, in+word)
	})
	placements(t, o, func(t *testing.T, n *distgear.Node) {
		o.paid.Store(0)
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		f, err := o.event.Raise(ctx, n, 4, distgear.ID("o-2"))
		if err != nil {
			t.Fatal(err)
		}
		geartest.Eventually(t, patience, "the run waits", func() bool {
			rec, err := n.FindRun(ctx, f.ID())
			return err == nil && rec.State == record.Waiting
		})
		if err := n.SignalRun(ctx, f.ID(), "go", 5); err != nil {
			t.Fatal(err)
		}
		if err := n.ApproveRun(ctx, f.ID(), "ship", record.Approval{Approved: true, By: "me"}); err != nil {
			t.Fatal(err)
		}
		if out, err := f.Wait(ctx); err != nil || out != 100 {
			t.Fatal(out, err)
		}
		rec, err := n.FindRun(ctx, f.ID())
		if err != nil || rec.State != record.OK || len(rec.Plans) != 1 || len(rec.Plans[0].Steps) != 2 || string(rec.Result) != "100" {
			t.Errorf("%+v %v", rec, err)
		}
		if err := n.SignalRun(ctx, f.ID(), "go", 5); !errors.Is(err, distgear.ErrInvalid) {
			t.Errorf("a signal to a run that has ended: %v", err)
		}
		if err := n.SignalRun(ctx, "nobody", "go", 5); !errors.Is(err, distgear.ErrNoRun) {
			t.Errorf("a signal to no run: %v", err)
		}
	})
}

func TestDurable_Cancelled(t *testing.T) {
	o := newOrder(func(ctx context.Context, o *order, r *distgear.Run, in int) (int, error) {
		if _, err := payAndShip(ctx, o, r, in); err != nil {
			return 0, err
		}
		return 0, r.Signal(ctx, "never", nil)
	})
	placements(t, o, func(t *testing.T, n *distgear.Node) {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		f, err := o.event.Raise(ctx, n, 4, distgear.ID("o-3"))
		if err != nil {
			t.Fatal(err)
		}
		geartest.Eventually(t, patience, "the run waits", func() bool {
			rec, err := n.FindRun(ctx, f.ID())
			return err == nil && rec.State == record.Waiting && len(rec.Plans) == 1
		})
		if err := n.CancelRun(ctx, f.ID()); err != nil {
			t.Fatal(err)
		}
		if _, err := f.Wait(ctx); !errors.Is(err, distgear.ErrCancelled) {
			t.Errorf("%v", err)
		}
		var last record.Run
		for rec, err := range n.WatchRun(ctx, f.ID()) {
			if err != nil {
				t.Fatal(err)
			}
			last = rec
		}
		if last.State != record.Cancelled {
			t.Errorf("%+v", last)
		}
		listed := false
		for rec, err := range n.Runs(ctx) {
			listed = listed || err == nil && rec.ID == f.ID() && rec.State.Final()
		}
		if !listed {
			t.Error("it is not listed")
		}
		f, err = o.event.Raise(ctx, n, 4, distgear.ID("o-4"))
		if err != nil {
			t.Fatal(err)
		}
		if err := n.TerminateRun(ctx, f.ID(), "a test"); err != nil {
			t.Fatal(err)
		}
		if _, err := f.Wait(ctx); err == nil || !strings.Contains(err.Error(), "a test") {
			t.Errorf("terminated: %v", err)
		}
	})
}

// created is how many goroutines there have been.
func created() uint64 {
	s := []metrics.Sample{{Name: "/sched/goroutines-created:goroutines"}}
	metrics.Read(s)
	return s[0].Value.Uint64()
}

// A run that waits is on no node: there is no goroutine for it.
func TestDurable_D7_ManyRunsWait(t *testing.T) {
	const many = 10_000
	o := newOrder(func(ctx context.Context, _ *order, r *distgear.Run, in int) (int, error) {
		return in, r.Signal(ctx, "go", nil)
	})
	n := geartest.Alone(t, geartest.Nodes{Handlers: func(*distgear.Node) []distgear.Handler { return []distgear.Handler{o.event} }}).Here()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	before := runtime.NumGoroutine()
	fs := make([]*distgear.Future[int], many)
	for i := range fs {
		var err error
		if fs[i], err = o.event.Raise(ctx, n, i); err != nil {
			t.Fatal(err)
		}
	}
	geartest.Eventually(t, 0, "all wait, and hold nothing", func() bool {
		rec, err := n.FindRun(ctx, fs[many-1].ID())
		return err == nil && rec.State == record.Waiting && runtime.NumGoroutine() < before+200
	})
	// What waits for a signal is never due: nothing looks whether it is.
	began := created()
	<-time.After(100 * time.Millisecond)
	if n := created() - began; n > 1000 {
		t.Errorf("%d goroutines began in 100 ms while all wait", n)
	}
	for _, i := range []int{0, many / 2, many - 1} {
		if err := n.SignalRun(ctx, fs[i].ID(), "go", nil); err != nil {
			t.Fatal(err)
		}
		if out, err := fs[i].Wait(ctx); err != nil || out != i {
			t.Error(out, err)
		}
	}
}

// A durable event may be a step of another, which undoes it when it fails (S16).
func TestDurable_S16_NestedIsUndone(t *testing.T) {
	o := newOrder(payAndShip)
	bad := &distgear.Action[int, int]{Name: "bad", Do: func(context.Context, int) (int, error) { return 0, errors.New("as it was told") }}
	for _, durable := range []bool{false, true} {
		outer := &distgear.Event[bool, int]{Name: "outer", Durable: durable, On: func(ctx context.Context, r *distgear.Run, fails bool) (int, error) {
			p := distgear.Plan{Name: "outer", Rollback: true}
			s := o.event.Step(&p, distgear.Any(), 4)
			if fails {
				bad.Step(&p, distgear.Any(), 0, s)
			}
			if err := r.Do(ctx, &p); err != nil {
				return 0, err
			}
			return s.Result()
		}}
		hs := geartest.Nodes{Handlers: func(*distgear.Node) []distgear.Handler { return []distgear.Handler{o.pay, o.ship, o.event, bad, outer} }}
		body := func(t *testing.T, n *distgear.Node) {
			o.paid.Store(0)
			o.shipped.Store(0)
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			for _, fails := range []bool{false, true} {
				f, err := outer.Raise(ctx, n, fails)
				if err != nil {
					t.Fatal(err)
				}
				if out, err := f.Wait(ctx); fails == (err == nil) || !fails && out != 50 {
					t.Fatalf("fails %v: %d %v", fails, out, err)
				}
			}
			if o.paid.Load() != 1 || o.shipped.Load() != 1 {
				t.Errorf("paid %d, shipped %d: want what the first run did", o.paid.Load(), o.shipped.Load())
			}
		}
		t.Run(fmt.Sprint("durable ", durable, ", alone"), func(t *testing.T) { body(t, geartest.Alone(t, hs).Here()) })
		t.Run(fmt.Sprint("durable ", durable, ", nodes"), func(t *testing.T) { body(t, geartest.StartCluster(t, hs).Here()) })
	}
}

// A node that leaves gives its runs to others at once.
func TestDurable_LeavingGivesRunsAway(t *testing.T) {
	o := newOrder(nil)
	owners, open := make(chan *distgear.Node, 10), make(chan struct{})
	wait := &distgear.Action[int, int]{Name: "wait", Do: func(ctx context.Context, in int) (int, error) {
		select {
		case <-open:
		case <-ctx.Done():
		}
		return int(o.paid.Add(1)), context.Cause(ctx)
	}}
	c := geartest.StartCluster(t, geartest.Nodes{Handlers: func(n *distgear.Node) []distgear.Handler {
		if n.Name() == "node-3" {
			return []distgear.Handler{wait}
		}
		return []distgear.Handler{&distgear.Event[int, int]{Name: "order", Durable: true, On: func(ctx context.Context, r *distgear.Run, in int) (int, error) {
			owners <- n
			p := distgear.Plan{Name: "p"}
			s := wait.Step(&p, distgear.Any(), in)
			if err := r.Do(ctx, &p); err != nil {
				return 0, err
			}
			return s.Result()
		}}}
	}})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	f, err := o.event.Raise(ctx, c.Here(), 1)
	if err != nil {
		t.Fatal(err)
	}
	first := <-owners
	if err := first.Leave(ctx); err != nil {
		t.Error(err)
	}
	if second := <-owners; second == first {
		t.Error("the node that left owns it again")
	}
	close(open)
	if out, err := f.Wait(ctx); err != nil || out != 1 {
		t.Error(out, err)
	}
}
