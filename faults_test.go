package distgear_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/distgear/distgear"
	"github.com/distgear/distgear/cluster"
	"github.com/distgear/distgear/geartest"
	"github.com/distgear/distgear/record"
)

// Panics of user code anywhere: an error with its stack to whom it concerns, and the node lives.
func TestPlan_S18_Panics(t *testing.T) {
	both(t, func(t *testing.T, w *world) {
		w.do("wild", func(context.Context, cluster.NodeName) (string, error) { panic("in Do") })
		for i := range 2 {
			_, err := w.op.Call(t.Context(), w.Here(), w.on(i), "wild")
			re, ok := errors.AsType[*distgear.RemoteError](err)
			if !ok || !strings.Contains(re.Message, "in Do") || !strings.Contains(re.Stack, "faults_test.go") || re.Outcome != distgear.FailedDirty || re.Node != w.Name(i) {
				t.Errorf("Do: %+v", err)
			}
		}
		var undos atomic.Int32
		w.undo("wild", func(context.Context, did) error {
			if undos.Add(1) < 3 {
				panic("in Undo")
			}
			return nil
		})
		if rec, err := w.run(func(p *plan) { w.op.Step(p, w.on(1), "wild") }); err == nil || rec.State != record.RolledBack || undos.Load() != 3 {
			t.Errorf("Undo: %v, %s after %d undos", err, rec.State, undos.Load())
		}
		_, err := w.run(func(p *plan) {
			a := w.op.Step(p, w.on(0), "a")
			w.op.StepFunc(p, w.on(1), func() (string, error) { panic("in the input") }, a)
		})
		if err == nil || !strings.Contains(err.Error(), "in the input") || w.count("undone a") != 1 {
			t.Errorf("StepFunc: %v", err)
		}
		f := w.raise(func(ctx context.Context, r *distgear.Run) (string, error) {
			p := plan{Rollback: true}
			w.op.Step(&p, w.on(0), "before")
			if err := r.Do(ctx, &p); err != nil {
				return "", err
			}
			panic("in On")
		})
		_, err = w.wait(f)
		if re, ok := errors.AsType[*distgear.RemoteError](err); !ok || !strings.Contains(re.Message, "in On") || re.Stack == "" {
			t.Errorf("On: %+v", err)
		}
		if rec := w.record(f.ID()); rec.State != record.Failed || !strings.Contains(rec.Error, "in On") {
			t.Errorf("the run is %s: %s", rec.State, rec.Error)
		}
		if _, err := w.run(func(p *plan) { w.op.Step(p, w.on(1), "after") }); err != nil {
			t.Errorf("afterwards: %v", err)
		}
	})
}

// A node that was cut off until it was lost rejoins by itself, and serves.
func TestPlan_S18_Rejoin(t *testing.T) {
	t.Parallel()
	w := nodes(t, func(n *geartest.Nodes) {
		n.Proxied, n.Count, n.Configure = true, 2, nil
	})
	w.do("long", func(ctx context.Context, _ cluster.NodeName) (string, error) {
		<-ctx.Done() // its session has lapsed: what it does may be done elsewhere
		return "", context.Cause(ctx)
	})
	answer := make(chan error, 1)
	go func() {
		_, err := w.op.Call(t.Context(), w.Here(), w.on(0), "long")
		answer <- err
	}()
	w.saw("do long")
	w.Cut(w.Name(0))
	w.Await(w.Name(0), cluster.Lost)
	if err := <-answer; !errors.Is(err, distgear.ErrUnknown) || distgear.OutcomeOf(err) != distgear.Unknown {
		t.Errorf("what ran on the lost node: %v", err)
	}
	w.saw("end long") // without hearing from anybody
	w.Heal(w.Name(0))
	w.Await(w.Name(0), cluster.Alive)
	w.Settle()
	if got, err := w.op.Call(t.Context(), w.Here(), w.on(0), "again"); got != "did again" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
}

// Ids of a node's second life are none of its first, nor is its incarnation.
func TestPlan_S19_NewLife(t *testing.T) {
	w := nodes(t, func(n *geartest.Nodes) { n.Count = 1 })
	name := w.Name(0)
	life := func() (ids map[record.RunID]bool, incarnation uint64) {
		ids = map[record.RunID]bool{}
		w.plan("one", func(context.Context, *distgear.Run) (string, error) { return "", nil })
		for range 20 {
			f, err := w.event.Raise(t.Context(), w.Node(name), "one")
			if err != nil {
				t.Fatal(err)
			}
			if _, err := w.wait(f); err != nil {
				t.Error(err)
			}
			ids[f.ID()] = true
		}
		for m := range w.Here().Members(t.Context()) {
			if m.Name == name {
				incarnation = m.Incarnation
			}
		}
		return ids, incarnation
	}
	first, i1 := life()
	if err := w.Node(name).Leave(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.Await(name, cluster.Left)
	w.Start(name)
	w.Settle()
	second, i2 := life()
	for id := range second {
		if first[id] {
			t.Errorf("id %s came twice", id)
		}
	}
	if len(first) != 20 || len(second) != 20 || i2 <= i1 {
		t.Errorf("%d and %d ids, incarnations %d and %d", len(first), len(second), i1, i2)
	}
}

// An undo that failed, or never ran, was labelled undone.
func TestFault01_UndoneMeansUndone(t *testing.T) {
	both(t, func(t *testing.T, w *world) {
		f := w.stuck() // it checks the states
		rec := w.record(f.ID())
		if state(rec, "b") != "stuck" || state(rec, "a") != "ok" || rec.State == record.RolledBack {
			t.Errorf("b is %s, a %s, the run %s", state(rec, "b"), state(rec, "a"), rec.State)
		}
		if err := w.Here().ResolveUndo(t.Context(), f.ID(), "b", record.Skip, "enough"); err != nil {
			t.Fatal(err)
		}
		_, _ = w.wait(f)
	})
}

// The undos of what comes before were skipped silently when one failed.
func TestFault02_AncestorsAreUndone(t *testing.T) {
	both(t, func(t *testing.T, w *world) {
		var tries atomic.Int32
		w.fails("c", errBoom)
		w.undo("b", func(context.Context, did) error {
			if tries.Add(1) == 1 {
				return errBoom
			}
			return nil
		})
		rec, _ := w.run(func(p *plan) {
			a := w.op.Step(p, w.on(0), "a")
			b := w.op.Step(p, w.on(1), "b", a)
			w.op.Step(p, w.on(2), "c", b)
		})
		w.order("undone c", "undone b", "undone a")
		if rec.State != record.RolledBack {
			t.Errorf("the run is %s", rec.State)
		}
	})
}

// A cycle cannot be written: a step names steps that exist. An unknown dependency crashed the master.
func TestFault04_UnknownDependency(t *testing.T) {
	w := alone(t)
	var none *distgear.Step[string]
	_, err := w.run(func(p *plan) { w.op.Step(p, w.on(0), "a", none) })
	if !errors.Is(err, distgear.ErrInvalid) {
		t.Errorf("got %v", err)
	}
	w.never("do a")
}

// A worker's exception looked like a timeout, three times thirty seconds.
func TestFault05_PanicIsReportedAtOnce(t *testing.T) {
	both(t, func(t *testing.T, w *world) {
		w.do("wild", func(context.Context, cluster.NodeName) (string, error) { panic("oh") })
		again := w.with(func(a *action) { a.Retries, a.Timeout = 3, time.Hour })
		_, err := w.run(func(p *plan) { again.Step(p, w.on(1), "wild") })
		if re, ok := errors.AsType[*distgear.RemoteError](err); !ok || re.Stack == "" || errors.Is(err, distgear.ErrTimeout) || w.count("do wild") != 1 {
			t.Errorf("got %+v after %d attempts", err, w.count("do wild"))
		}
	})
}

// A retry after a timeout got a new id, and ran beside the first.
func TestFault06_RetryIsTheSameCommand(t *testing.T) {
	both(t, func(t *testing.T, w *world) {
		keys := make(chan string, 2)
		var live atomic.Int32
		w.do("a", func(ctx context.Context, _ cluster.NodeName) (string, error) {
			if live.Add(1) != 1 {
				t.Error("two at once")
			}
			defer live.Add(-1)
			keys <- distgear.KeyOf(ctx)
			if len(keys) == 1 {
				<-ctx.Done()
				return "", distgear.Clean(context.Cause(ctx))
			}
			return "fine", nil
		})
		again := w.with(func(a *action) { a.Retries, a.Timeout = 1, 50*time.Millisecond })
		if _, err := w.run(func(p *plan) { again.Step(p, w.on(1), "a") }); err != nil {
			t.Fatal(err)
		}
		if a, b := <-keys, <-keys; a != b {
			t.Errorf("keys %q and %q", a, b)
		}
	})
}

// A command to an unknown node vanished.
func TestFault09_UnknownNode(t *testing.T) {
	both(t, func(t *testing.T, w *world) {
		for _, err := range []error{
			func() error { _, err := w.op.Call(t.Context(), w.Here(), distgear.On("nobody"), "a"); return err }(),
			w.op.Send(t.Context(), w.Here(), distgear.On("nobody"), "a"),
			func() error {
				_, err := w.op.Call(t.Context(), w.Here(), distgear.Any("zone=nowhere"), "a")
				return err
			}(),
		} {
			if !errors.Is(err, distgear.ErrNoNode) || distgear.OutcomeOf(err) != distgear.NeverRan {
				t.Errorf("got %v", err)
			}
		}
	})
}

// The heartbeat died with a handler.
func TestFault11_BeatsOutliveHandlers(t *testing.T) {
	t.Parallel()
	w := nodes(t, func(n *geartest.Nodes) { n.Count, n.Configure = 1, nil }) // a TTL of 1 s
	w.do("wild", func(context.Context, cluster.NodeName) (string, error) { panic("oh") })
	var before uint64
	for m := range w.Here().Members(t.Context()) {
		if m.Name == w.Name(0) {
			before = m.Incarnation
		}
	}
	for range 50 {
		if _, err := w.op.Call(t.Context(), w.Here(), w.on(0), "wild"); err == nil {
			t.Fatal("no error")
		}
	}
	w.do("busy", func(context.Context, cluster.NodeName) (string, error) {
		<-time.After(2 * time.Second) // longer than the TTL
		return "", nil
	})
	if _, err := w.op.Call(t.Context(), w.Here(), w.on(0), "busy"); err != nil {
		t.Error(err)
	}
	for m := range w.Here().Members(t.Context()) {
		if m.Name == w.Name(0) && (m.State == cluster.Lost || m.Incarnation != before) {
			t.Errorf("the node is %v, incarnation %d, was %d", m.State, m.Incarnation, before)
		}
	}
}

// No authentication: beyond loopback a hub needs a token, and a node without it is not let in.
func TestFault12_Token(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if n, err := distgear.Join(ctx, distgear.Config{Serve: "0.0.0.0:0"}); err == nil {
		_ = n.Leave(ctx)
		t.Error("a hub without a token listens to the world")
	}
	hub, err := distgear.Join(ctx, distgear.Config{Name: "hub", Serve: "127.0.0.1:0", Token: "secret"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = hub.Leave(ctx) }()
	for _, token := range []string{"", "wrong"} {
		if n, err := distgear.Join(ctx, distgear.Config{Hub: hub.HubURL(), Token: token}); err == nil {
			_ = n.Leave(ctx)
			t.Errorf("token %q is let in", token)
		}
	}
	n, err := distgear.Join(ctx, distgear.Config{Hub: hub.HubURL(), Token: "secret"})
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Leave(ctx); err != nil {
		t.Error(err)
	}
}

// An action without an undo broke the rollback of all that came before it.
func TestFault13_ActionWithoutUndo(t *testing.T) {
	both(t, func(t *testing.T, w *world) {
		w.fails("c", errBoom)
		rec, err := w.run(func(p *plan) {
			a := w.op.Step(p, w.on(0), "a")
			b := w.bare.Step(p, w.on(1), "b", a)
			w.bare.Step(p, w.on(2), "c", b)
		})
		w.order("undo a", "undone a")
		if !errors.Is(err, errBoom) || rec.State != record.RolledBack {
			t.Errorf("%v, the run is %s", err, rec.State)
		}
	})
}

// A malformed command crashed the worker.
func TestFault14_MalformedCommand(t *testing.T) {
	both(t, func(t *testing.T, w *world) {
		type shape struct{ A []map[string]float64 }
		for _, in := range []any{nil, true, 1.5, "x", []int{1}, map[string]any{"A": "b"}, shape{}} {
			a := &distgear.Action[any, string]{Name: "op"}
			_, err := a.Call(t.Context(), w.Here(), w.on(1), in)
			if _, text := in.(string); (err == nil) != (text || in == nil) {
				t.Errorf("%T: %v", in, err)
			}
		}
		if _, err := w.op.Call(t.Context(), w.Here(), w.on(1), "fine"); err != nil {
			t.Error(err)
		}
	})
}

// A command that had timed out was never undone.
func TestFault15_TimedOutIsUndone(t *testing.T) {
	both(t, func(t *testing.T, w *world) {
		w.do("b", func(ctx context.Context, _ cluster.NodeName) (string, error) { <-ctx.Done(); return "", ctx.Err() })
		brief := w.with(func(a *action) { a.Timeout = 20 * time.Millisecond })
		rec, err := w.run(func(p *plan) { brief.Step(p, w.on(1), "b", w.op.Step(p, w.on(0), "a")) })
		w.order("end b", "undone b", "undone a")
		if rec.State != record.RolledBack || !strings.Contains(fmt.Sprint(err), "rolled back") {
			t.Errorf("%v, the run is %s", err, rec.State)
		}
	})
}
