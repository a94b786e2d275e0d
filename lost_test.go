package distgear_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/distgear/distgear"
	"github.com/distgear/distgear/cluster"
	"github.com/distgear/distgear/geartest"
	"github.com/distgear/distgear/record"
)

// processes is a cluster of workers that are processes, and the test's own node, which drives.
func processes(t *testing.T, count int) *world {
	w := newWorld(t)
	w.Cluster = geartest.StartCluster(t, geartest.Nodes{Count: count, Role: "worker", Handlers: func(*distgear.Node) []distgear.Handler { return []distgear.Handler{workerAction()} }})
	w.driveHere()
	return w
}

// A frozen worker never starts what it was sent when it wakes up too late.
func TestPlan_S03_QueueTimeout(t *testing.T) {
	t.Parallel()
	w := processes(t, 1)
	p := w.Process(w.Name(0))
	p.Pause()
	brief := w.with(func(a *action) { a.Queue, a.Timeout = 10*time.Millisecond, 10*time.Millisecond })
	if _, err := brief.Call(t.Context(), w.Here(), w.on(0), "ok too-late"); !errors.Is(err, distgear.ErrUnknown) {
		t.Errorf("from a frozen worker: %v", err)
	}
	p.Resume()
	geartest.Eventually(t, patience, "the worker serves again", func() bool {
		_, err := w.op.Call(t.Context(), w.Here(), w.on(0), "ok now")
		return err == nil
	})
	if strings.Contains(p.Output(), "too-late") {
		t.Errorf("it ran after its time:\n%s", p.Output())
	}
}

// Commands to a node that is killed: unknown. Without Idempotent they are not tried elsewhere; with it they are.
func TestPlan_S04_LostNode(t *testing.T) {
	for _, idempotent := range []bool{false, true} {
		t.Run(fmt.Sprint("idempotent ", idempotent), func(t *testing.T) {
			t.Parallel()
			w := processes(t, 2)
			some := w.with(func(a *action) { a.Idempotent, a.Retries = idempotent, 3 })
			f := w.raise(func(ctx context.Context, r *distgear.Run) (string, error) {
				p := plan{Name: "p", Rollback: true}
				s := some.Step(&p, distgear.Any(), "hang x").Named("x")
				err := r.Do(ctx, &p)
				return string(s.Node()), err
			})
			rec := w.until(f.ID(), "running", func(r record.Run) bool { return state(r, "x") == "running" && r.Plans[0].Steps[0].Node != "" })
			first := rec.Plans[0].Steps[0].Node
			second := w.Name(0)
			if first == second {
				second = w.Name(1)
			}
			w.Process(first).Line("do x")
			w.Process(first).Kill()
			other := w.Process(second)
			if !idempotent { // it is undone where the action is offered
				if got := other.Line("undo x"); got != "unknown" {
					t.Errorf("undone as %q", got)
				}
				if _, err := w.wait(f); !errors.Is(err, distgear.ErrUnknown) || strings.Contains(other.Output(), "do x\n") && !strings.Contains(other.Output(), "undo x") {
					t.Errorf("got %v", err)
				}
				if strings.Contains("\n"+other.Output(), "\ndo x") {
					t.Errorf("it was tried on another node:\n%s", other.Output())
				}
				if rec := w.record(f.ID()); rec.State != record.RolledBack {
					t.Errorf("the run is %s", rec.State)
				}
				return
			}
			other.Line("do x")
			if err := w.Here().CancelRun(t.Context(), f.ID()); err != nil {
				t.Fatal(err)
			}
			_, _ = w.wait(f)
			if got := w.record(f.ID()).Plans[0].Steps[0]; got.Attempt != 2 || got.Node != second {
				t.Errorf("%d attempts, the last on %s", got.Attempt, got.Node)
			}
			if !strings.Contains(other.Output(), "end x") {
				t.Errorf("it was not cancelled:\n%s", other.Output())
			}
		})
	}
}

// The undo of what ran on a paused node waits until the node's session is over, then for the node; and runs there.
func TestPlan_S09_LostNode(t *testing.T) {
	t.Parallel()
	w := processes(t, 2)
	w.op.Name = "op"
	f := w.raise(func(ctx context.Context, r *distgear.Run) (string, error) {
		p := plan{Name: "p", Rollback: true}
		w.op.Step(&p, w.on(0), "hang x").Named("x")
		w.op.Step(&p, w.on(1), "ok y").Named("y")
		return "", r.Do(ctx, &p)
	})
	p := w.Process(w.Name(0))
	p.Line("do x")
	w.Process(w.Name(1)).Line("do y") // else it may be cancelled before it began, and has nothing to undo
	p.Pause()
	if err := w.Here().CancelRun(t.Context(), f.ID()); err != nil {
		t.Fatal(err)
	}
	rec := w.until(f.ID(), "undoing x", func(r record.Run) bool { return state(r, "x") == "undoing" })
	if rec.Plans[0].Steps[0].Error == "" {
		t.Error("the record does not say what is wrong with x")
	}
	lost := false
	for m := range w.Here().Members(t.Context()) {
		lost = lost || m.Name == w.Name(0) && m.State == cluster.Lost
	}
	if !lost {
		t.Error("the undo began while the session of the node that may still do was alive")
	}
	p.Resume()
	p.Line("undo x")
	if _, err := w.wait(f); !errors.Is(err, distgear.ErrCancelled) {
		t.Errorf("got %v", err)
	}
	w.Process(w.Name(1)).Line("undo y")
}

// NodeLost is raised, with the member, when a node was killed; its handler can run plans on the others.
func TestNodeLost(t *testing.T) {
	t.Parallel()
	w := processes(t, 2)
	told := make(chan cluster.Member, 4)
	lost := &distgear.Event[cluster.Member, string]{Name: distgear.NodeLost, On: func(ctx context.Context, r *distgear.Run, m cluster.Member) (string, error) {
		var p plan
		w.op.Step(&p, w.on(1), "ok took-over")
		err := r.Do(ctx, &p)
		told <- m
		return "", err
	}}
	if err := w.Here().Handle(lost); err != nil {
		t.Fatal(err)
	}
	w.Process(w.Name(0)).Kill()
	select {
	case m := <-told:
		if m.Name != w.Name(0) || m.State != cluster.Lost || len(m.Kinds) == 0 {
			t.Errorf("told of %+v", m)
		}
	case <-time.After(patience):
		t.Fatal("NodeLost was not raised")
	}
	w.Process(w.Name(1)).Line("do took-over")
}
