package distgear_test

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/distgear/distgear"
	"github.com/distgear/distgear/cluster"
	"github.com/distgear/distgear/geartest"
	"github.com/distgear/distgear/record"
)

// stuck runs a plan a → b, a → c, a → last where last fails and the undo of b fails for good, until that is stuck.
func (w *world) stuck() *distgear.Future[string] {
	w.t.Helper()
	w.fails("last", distgear.Clean(errBoom))
	w.undo("b", func(context.Context, did) error { return distgear.Permanent(errBoom) })
	f := w.raise(func(ctx context.Context, r *distgear.Run) (string, error) {
		p := plan{Name: "p", Rollback: true}
		a := w.op.Step(&p, w.on(0), "a").Named("a")
		b := w.op.Step(&p, w.on(1), "b", a).Named("b")
		c := w.op.Step(&p, w.on(2), "c", a).Named("c")
		w.op.Step(&p, w.on(0), "last", b, c).Named("last")
		return "", r.Do(ctx, &p)
	})
	w.until(f.ID(), "stuck, and c undone", func(r record.Run) bool {
		return r.State == record.Stuck && state(r, "b") == "stuck" && state(r, "c") == "undone"
	})
	w.never("undo a", "undone b")
	return f
}

func TestPlan_S10_Stuck(t *testing.T) {
	for _, c := range []struct {
		how    record.Resolution
		reason string
		b      record.StepState
		run    record.RunState
		whole  bool // PlanError.RolledBack
	}{
		{record.Retry, "", "undone", record.RolledBack, true},
		{record.Skip, "it does not matter", "undo skipped", record.Failed, false},
		{record.MarkDone, "by hand", "marked undone", record.Failed, false}, // a status never says undone unless the undo said so
	} {
		t.Run(string(c.how), func(t *testing.T) {
			both(t, func(t *testing.T, w *world) {
				f := w.stuck()
				ctx := t.Context()
				if err := w.Here().ResolveUndo(ctx, f.ID(), "a", record.Retry, ""); !errors.Is(err, distgear.ErrInvalid) {
					t.Errorf("resolving a step that is not stuck: %v", err)
				}
				if c.reason != "" {
					if err := w.Here().ResolveUndo(ctx, f.ID(), "b", c.how, ""); !errors.Is(err, distgear.ErrInvalid) {
						t.Errorf("without a reason: %v", err)
					}
				}
				if c.how == record.Retry { // in vain, then not
					if err := w.Here().ResolveUndo(ctx, f.ID(), "b", c.how, ""); err != nil {
						t.Fatal(err)
					}
					w.until(f.ID(), "stuck again", func(r record.Run) bool {
						return r.State == record.Stuck && w.count("undo b") == 2
					})
					w.undo("b", nil)
				}
				if err := w.Here().ResolveUndo(ctx, f.ID(), "b", c.how, c.reason); err != nil {
					t.Fatal(err)
				}
				_, err := w.wait(f)
				if err == nil || c.whole != strings.Contains(err.Error(), "(rolled back)") {
					t.Errorf("got %v", err)
				}
				rec := w.record(f.ID())
				if state(rec, "b") != c.b || state(rec, "a") != "undone" || rec.State != c.run {
					t.Errorf("b is %s, a %s, the run %s", state(rec, "b"), state(rec, "a"), rec.State)
				}
			})
		})
	}
}

// An undo that fails is tried again, eight times.
func TestPlan_S10_UndoRetries(t *testing.T) {
	t.Parallel()
	w := alone(t)
	w.fails("last", distgear.Clean(errBoom))
	var tries atomic.Int32
	key := make(chan string, 8)
	w.undo("a", func(_ context.Context, d did) error {
		key <- d.Key
		tries.Add(1)
		return errBoom
	})
	f := w.raise(func(ctx context.Context, r *distgear.Run) (string, error) {
		p := plan{Rollback: true}
		w.op.Step(&p, w.on(0), "last", w.op.Step(&p, w.on(0), "a").Named("a"))
		return "", r.Do(ctx, &p)
	})
	w.until(f.ID(), "stuck", func(r record.Run) bool { return r.State == record.Stuck })
	if got := w.record(f.ID()).Plans[0].Steps[0].UndoAttempt; tries.Load() != 8 || got != 8 {
		t.Errorf("%d attempts, %d in the record", tries.Load(), got)
	}
	first := <-key
	for range 7 {
		if k := <-key; k != first {
			t.Errorf("keys %q and %q", first, k)
		}
	}
	w.undo("a", nil)
	if err := w.Here().ResolveUndo(t.Context(), f.ID(), "a", record.Retry, ""); err != nil {
		t.Fatal(err)
	}
	_, _ = w.wait(f)
	if rec := w.record(f.ID()); rec.State != record.RolledBack {
		t.Errorf("the run is %s", rec.State)
	}
}

// Cancelling before the rollback stops dispatch, cancels what runs, and rolls back.
func TestPlan_S11_Cancel(t *testing.T) {
	both(t, func(t *testing.T, w *world) {
		w.do("b", func(ctx context.Context, _ cluster.NodeName) (string, error) {
			<-ctx.Done()
			return "done all the same", nil // the outcome is what the handler says
		})
		f := w.raise(func(ctx context.Context, r *distgear.Run) (string, error) {
			p := plan{Name: "p", Rollback: true}
			a := w.op.Step(&p, w.on(0), "a").Named("a")
			b := w.op.Step(&p, w.on(1), "b", a).Named("b")
			w.op.Step(&p, w.on(2), "c", b).Named("c")
			return "", r.Do(ctx, &p)
		})
		w.saw("do b")
		if err := w.Here().CancelRun(t.Context(), f.ID()); err != nil {
			t.Fatal(err)
		}
		_, err := w.wait(f)
		if !errors.Is(err, distgear.ErrCancelled) {
			t.Errorf("got %v", err)
		}
		w.order("end b", "undo b", "undone b", "undo a", "undone a")
		w.never("do c")
		rec := w.record(f.ID())
		if rec.State != record.Cancelled || state(rec, "c") != "skipped" {
			t.Errorf("the run is %s, c %s", rec.State, state(rec, "c"))
		}
		if err := w.Here().CancelRun(t.Context(), f.ID()); err != nil {
			t.Errorf("cancelling what has ended: %v", err)
		}
	})
}

// Cancelling during the rollback does nothing.
func TestPlan_S11_CancelInRollback(t *testing.T) {
	both(t, func(t *testing.T, w *world) {
		w.fails("b", errBoom)
		release := make(chan struct{})
		w.undo("b", func(ctx context.Context, _ did) error {
			select {
			case <-release:
			case <-ctx.Done():
				t.Error("the undo was told to stop")
			}
			return ctx.Err()
		})
		f := w.raise(func(ctx context.Context, r *distgear.Run) (string, error) {
			p := plan{Rollback: true}
			w.op.Step(&p, w.on(1), "b", w.op.Step(&p, w.on(0), "a"))
			return "", r.Do(ctx, &p)
		})
		w.saw("undo b")
		if err := w.Here().CancelRun(t.Context(), f.ID()); err != nil {
			t.Fatal(err)
		}
		close(release)
		if _, err := w.wait(f); !errors.Is(err, errBoom) {
			t.Errorf("got %v", err)
		}
		w.order("undone b", "undone a")
	})
}

// A deadline counts forward time only.
func TestPlan_S11_Deadline(t *testing.T) {
	both(t, func(t *testing.T, w *world) {
		w.do("b", func(ctx context.Context, _ cluster.NodeName) (string, error) {
			<-ctx.Done()
			return "", context.Cause(ctx)
		})
		w.undo("b", func(ctx context.Context, _ did) error {
			if ctx.Err() != nil {
				t.Error("the undo's context has ended")
			}
			return nil
		})
		var planned error
		brief := w.events("run", nil)
		brief.Timeout = 100 * time.Millisecond
		f := w.raiseAs(brief, func(ctx context.Context, r *distgear.Run) (string, error) {
			p := plan{Rollback: true}
			w.op.Step(&p, w.on(1), "b", w.op.Step(&p, w.on(0), "a"))
			planned = r.Do(ctx, &p)
			return "", planned
		})
		if _, err := w.wait(f); !errors.Is(err, distgear.ErrTimeout) || !errors.Is(planned, distgear.ErrTimeout) {
			t.Errorf("got %v from %v", err, planned)
		}
		w.order("end b", "undone b", "undone a")
		if rec := w.record(f.ID()); rec.State != record.RolledBack {
			t.Errorf("the run is %s", rec.State)
		}
	})
}

// A handler that outlives its timeout and the time its report may take: the outcome is unknown, and what it says later is adopted.
func TestPlan_S12_Late(t *testing.T) {
	t.Parallel()
	w := nodes(t, nil)
	release := make(chan struct{})
	var d did
	w.do("slow", func(context.Context, cluster.NodeName) (string, error) { <-release; return "late", nil })
	w.undo("slow", func(_ context.Context, got did) error { d = got; return nil })
	var forward, back error
	run := func(rollback bool, err *error) *distgear.Future[string] {
		return w.raise(func(ctx context.Context, r *distgear.Run) (string, error) {
			p := plan{Name: "p", Rollback: rollback}
			to := w.on(0)
			if r.Node().Name() == w.Name(0) {
				to = w.on(1) // a command to the own node is never lost
			}
			w.with(func(a *action) { a.Timeout, a.Queue = 10*time.Millisecond, 500*time.Millisecond }).Step(&p, to, "slow").Named("slow")
			*err = r.Do(ctx, &p)
			return "", *err
		})
	}
	f, b := run(false, &forward), run(true, &back)
	if _, err := w.wait(f); !errors.Is(err, distgear.ErrUnknown) || !errors.Is(forward, distgear.ErrUnknown) {
		t.Errorf("without rollback: %v from %v", err, forward)
	}
	w.until(b.ID(), "unknown", func(r record.Run) bool { return state(r, "slow") == "unknown" })
	w.never("undo slow") // it may be running still (S9)
	close(release)
	_, _ = w.wait(b)
	w.order("end slow", "undo slow", "undone slow")
	if d.Outcome != distgear.OK || d.Out != "late" {
		t.Errorf("undone with %+v", d)
	}
	geartest.Eventually(t, patience, "the late result is in the record", func() bool { return state(w.record(f.ID()), "slow") == "ok" })
	if rec := w.record(b.ID()); rec.State != record.RolledBack {
		t.Errorf("the run is %s", rec.State)
	}
}

// A node that takes nothing new still undoes.
func TestPlan_S13_UndoWhileDraining(t *testing.T) {
	w := nodes(t, nil)
	fail, hold := make(chan struct{}), make(chan struct{})
	w.do("b", func(context.Context, cluster.NodeName) (string, error) { <-fail; return "", errBoom })
	w.do("hold", func(context.Context, cluster.NodeName) (string, error) { <-hold; return "", nil })
	w.driveHere()
	held := make(chan error, 1)
	go func() {
		_, err := w.op.Call(t.Context(), w.Here(), w.on(1), "hold")
		held <- err
	}()
	f := w.raise(func(ctx context.Context, r *distgear.Run) (string, error) {
		p := plan{Rollback: true}
		w.op.Step(&p, w.on(0), "b", w.op.Step(&p, w.on(1), "a"))
		return "", r.Do(ctx, &p)
	})
	w.saw("do hold")
	w.saw("do b")
	left := make(chan error, 1)
	go func() { left <- w.Node(w.Name(1)).Leave(t.Context()) }()
	geartest.Eventually(t, patience, "the node refuses what is new", func() bool {
		_, err := w.op.Call(t.Context(), w.Here(), w.on(1), "new")
		return errors.Is(err, distgear.ErrLeft) && distgear.OutcomeOf(err) == distgear.NeverRan
	})
	close(fail)
	if _, err := w.wait(f); !errors.Is(err, errBoom) {
		t.Errorf("got %v", err)
	}
	w.order("undone b", "undone a")
	close(hold)
	if err := <-held; err != nil {
		t.Errorf("what was in flight when the node began to leave: %v", err)
	}
	if err := <-left; err != nil {
		t.Errorf("Leave: %v", err)
	}
}

// A named node that is gone is waited for.
func TestPlan_S14_ComesBack(t *testing.T) {
	w := nodes(t, nil)
	back := w.Name(0)
	if err := w.Node(back).Leave(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.Await(back, cluster.Left)
	w.driveHere()
	f := w.raise(func(ctx context.Context, r *distgear.Run) (string, error) {
		p := plan{Name: "p", Rollback: true}
		w.op.Step(&p, distgear.On(back), "a").Named("a")
		return "", r.Do(ctx, &p)
	})
	w.until(f.ID(), "waiting for the node", func(r record.Run) bool { return state(r, "a") == "running" })
	w.Start(back)
	if _, err := w.wait(f); err != nil || w.count("do a") != 1 {
		t.Errorf("got %v, %q", err, w.journal())
	}
}

// One that does not come back: it never ran.
func TestPlan_S14_DoesNotComeBack(t *testing.T) {
	t.Parallel()
	w := nodes(t, nil)
	if err := w.Node(w.Name(0)).Leave(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.Await(w.Name(0), cluster.Left)
	w.driveHere()
	rec, err := w.run(func(p *plan) {
		a := w.op.Step(p, w.on(1), "a").Named("a")
		w.op.Step(p, w.on(0), "b", a).Named("b")
	})
	if !errors.Is(err, distgear.ErrNoNode) || distgear.OutcomeOf(errors.Unwrap(err)) != distgear.NeverRan {
		t.Errorf("got %v", err)
	}
	if state(rec, "b") != "never ran" || rec.State != record.RolledBack {
		t.Errorf("b is %s, the run %s", state(rec, "b"), rec.State)
	}
	w.order("undone a")
	w.never("do b", "undo b")
	if got, err := w.op.Call(t.Context(), w.Here(), distgear.Any(), "any"); err != nil || got != "did any" { // another node will do
		t.Errorf("Any: %q, %v", got, err)
	}
}

func TestPlan_S15_Pivot(t *testing.T) {
	both(t, func(t *testing.T, w *world) {
		var tries atomic.Int32
		w.do("c", func(context.Context, cluster.NodeName) (string, error) {
			if tries.Add(1) < 4 {
				return "", errBoom
			}
			return "at last", nil
		})
		rec, err := w.run(func(p *plan) {
			a := w.op.Step(p, w.on(0), "a")
			b := w.op.Step(p, w.on(1), "b", a).Pivot()
			w.op.Step(p, w.on(2), "c", b)
		})
		if err != nil || tries.Load() != 4 || rec.State != record.OK {
			t.Errorf("%v after %d attempts, the run is %s", err, tries.Load(), rec.State)
		}
		w.never("undo a", "undo b", "undo c")

		w.fails("y", errBoom) // before the pivot
		_, err = w.run(func(p *plan) {
			x := w.op.Step(p, w.on(0), "x")
			y := w.op.Step(p, w.on(1), "y", x)
			w.op.Step(p, w.on(2), "z", y).Pivot()
		})
		if !errors.Is(err, errBoom) {
			t.Errorf("got %v", err)
		}
		w.order("undone y", "undone x")
		w.never("do z")
	})
}

// nested runs a plan a → inner(x → y) → last on three nodes.
func (w *world) nested(t *testing.T) (*distgear.Future[string], chan record.RunID) {
	ids := make(chan record.RunID, 1)
	w.plan("nested", func(ctx context.Context, r *distgear.Run) (string, error) {
		ids <- r.ID()
		p := plan{Name: "q", Rollback: true}
		x := w.op.Step(&p, w.on(2), "x")
		y := w.op.Step(&p, w.on(0), "y", x)
		if err := r.Do(ctx, &p); err != nil {
			return "", err
		}
		return y.Result()
	})
	inner := w.events("inner", nil)
	return w.raise(func(ctx context.Context, r *distgear.Run) (string, error) {
		p := plan{Name: "p", Rollback: true}
		a := w.op.Step(&p, w.on(0), "a")
		in := inner.Step(&p, w.on(1), "nested", a).Named("in")
		last := w.op.StepFunc(&p, w.on(2), in.Result, in)
		if err := r.Do(ctx, &p); err != nil {
			return "", err
		}
		return last.Result()
	}), ids
}

// A failure after the nested event has finished rolls that back, too.
func TestPlan_S16_NestedRollback(t *testing.T) {
	both(t, func(t *testing.T, w *world) {
		w.fails("did y", distgear.Clean(errBoom))
		f, ids := w.nested(t)
		if _, err := w.wait(f); !errors.Is(err, errBoom) {
			t.Errorf("got %v", err)
		}
		w.order("end a", "end x", "end y", "end did y", "undone y", "undone x", "undone a")
		id := <-ids
		if want := f.ID() + "/p/in/do"; id != want {
			t.Errorf("the nested run is %q, want %q", id, want)
		}
		if rec := w.record(id); rec.State != record.RolledBack || rec.Event != "inner" {
			t.Errorf("the nested run of %s is %s", rec.Event, rec.State)
		}
	})
}

func TestPlan_S16_NestedOK(t *testing.T) {
	both(t, func(t *testing.T, w *world) {
		f, _ := w.nested(t)
		if got, err := w.wait(f); got != "did did y" || err != nil {
			t.Errorf("got %q, %v", got, err)
		}
		w.never("undo a", "undo x", "undo y")
	})
}

// Cancelling goes leaves first.
func TestPlan_S16_NestedCancel(t *testing.T) {
	both(t, func(t *testing.T, w *world) {
		w.do("y", func(ctx context.Context, _ cluster.NodeName) (string, error) {
			<-ctx.Done()
			return "", context.Cause(ctx)
		})
		f, ids := w.nested(t)
		w.saw("do y")
		if err := w.Here().CancelRun(t.Context(), f.ID()); err != nil {
			t.Fatal(err)
		}
		if _, err := w.wait(f); !errors.Is(err, distgear.ErrCancelled) {
			t.Errorf("got %v", err)
		}
		w.order("end y", "undone y", "undone x", "undo a", "undone a")
		if n := w.count("undo x"); n != 1 {
			t.Errorf("x was undone %d times", n)
		}
		if rec := w.record(<-ids); rec.State != record.Cancelled && rec.State != record.RolledBack {
			t.Errorf("the nested run is %s", rec.State)
		}
	})
}

// says tells whether an error's text has all of these.
func says(err error, parts ...string) bool {
	return err != nil && !slices.ContainsFunc(parts, func(p string) bool { return !strings.Contains(err.Error(), p) })
}

// JSON of the wrong shape, no JSON, unknown events: an error, and all goes on.
func TestPlan_S17_WrongInput(t *testing.T) {
	both(t, func(t *testing.T, w *world) {
		raise := func(kind, in string) error {
			e := &distgear.Event[json.RawMessage, json.RawMessage]{Name: kind}
			f, err := e.Raise(t.Context(), w.Here(), json.RawMessage(in))
			if err != nil {
				return err
			}
			_, err = f.Wait(t.Context())
			return err
		}
		if err := raise("run", `{"a": [1, 2]}`); !errors.Is(err, distgear.ErrInvalid) || distgear.OutcomeOf(err) != distgear.NeverRan || !says(err, `event run`, `string`, `{"a": [1, 2]}`) {
			t.Errorf("wrong shape: %v", err)
		}
		if err := raise("run", `{"a":`); !errors.Is(err, distgear.ErrInvalid) {
			t.Errorf("no JSON: %v", err)
		}
		if err := raise("nobody-has-it", `1`); !errors.Is(err, distgear.ErrNoNode) || distgear.OutcomeOf(err) != distgear.NeverRan {
			t.Errorf("unknown event: %v", err)
		}
		number := &distgear.Action[map[string]int, int]{Name: "op"}
		for i := range 3 {
			if _, err := number.Call(t.Context(), w.Here(), w.on(i), map[string]int{"a": 1}); !errors.Is(err, distgear.ErrInvalid) || distgear.OutcomeOf(err) != distgear.NeverRan || !says(err, `action op`, `string`, `{"a":1}`) {
				t.Errorf("an input of another type: %v", err)
			}
			if _, err := w.op.Call(t.Context(), w.Here(), w.on(i), "fine"); err != nil {
				t.Errorf("afterwards: %v", err)
			}
		}
		if j := w.journal(); slices.ContainsFunc(j, func(l string) bool { return strings.HasPrefix(l, "do") && l != "do fine" }) {
			t.Errorf("something ran: %q", j)
		}
	})
}
