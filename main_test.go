package distgear_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/distgear/distgear"
	"github.com/distgear/distgear/cluster"
	"github.com/distgear/distgear/geartest"
	"github.com/distgear/distgear/record"
)

func TestMain(m *testing.M) {
	geartest.Main(m, geartest.Roles{"worker": geartest.NodeRole(workerHandlers), "hub": hubRole, "slow": geartest.NodeRole(slowHandlers), "jobs": geartest.NodeRole(jobHandlers), "hubs": geartest.HubsRole, "storm": stormRole})
}

// patience is how long a test waits for what should come at once.
const patience = 30 * time.Second

type (
	action = distgear.Action[string, string]
	event  = distgear.Event[string, string]
	did    = distgear.Did[string, string]
	plan   = distgear.Plan

	doFunc   func(ctx context.Context, at cluster.NodeName) (string, error)
	undoFunc func(ctx context.Context, d did) error
	planFunc func(ctx context.Context, r *distgear.Run) (string, error)
)

// world is a cluster whose every node offers the actions "op" and "bare" (the same without an undo) and the events "run" and "inner". What they do for an
// input is what the test says, and each beginning and end is a line of the journal.
type world struct {
	*geartest.Cluster
	t        *testing.T
	op, bare *action
	event    *event

	mu      sync.Mutex
	does    map[string]doFunc
	undoes  map[string]undoFunc
	plans   map[string]planFunc
	lines   []string
	changed chan struct{}
	raised  int
}

// slow is a time-to-live that a busy machine does not exceed, for tests that lose no node.
const slow = 20 * time.Second

func newWorld(t *testing.T) *world {
	w := &world{t: t, does: map[string]doFunc{}, undoes: map[string]undoFunc{}, plans: map[string]planFunc{}, changed: make(chan struct{})}
	w.op, w.bare, w.event = w.action("op", nil), w.action("bare", nil), w.events("run", nil)
	return w
}

// alone is a world of one node.
func alone(t *testing.T) *world {
	w := newWorld(t)
	w.Cluster = geartest.Alone(t, geartest.Nodes{Handlers: w.handlers})
	return w
}

// nodes is a world of a hub and three nodes; change may change what it is made of.
func nodes(t *testing.T, change func(*geartest.Nodes)) *world {
	w := newWorld(t)
	ns := geartest.Nodes{Handlers: w.handlers, Configure: func(c *distgear.Config) { c.TTL = slow }}
	if change != nil {
		change(&ns)
	}
	w.Cluster = geartest.StartCluster(t, ns)
	return w
}

// both runs a body on a node alone, and on three nodes of a cluster.
func both(t *testing.T, body func(t *testing.T, w *world)) {
	t.Helper()
	t.Run("alone", func(t *testing.T) { body(t, alone(t)) })
	t.Run("nodes", func(t *testing.T) { body(t, nodes(t, nil)) })
}

func (w *world) handlers(n *distgear.Node) []distgear.Handler {
	return []distgear.Handler{w.action("op", n), w.action("bare", n), w.events("run", n), w.events("inner", n)}
}

func (w *world) action(kind string, n *distgear.Node) *action {
	a := &action{Name: kind, Timeout: patience, Queue: patience, Do: func(ctx context.Context, in string) (string, error) {
		w.log("do " + in)
		defer w.log("end " + in)
		w.mu.Lock()
		f := w.does[in]
		w.mu.Unlock()
		if f != nil {
			return f(ctx, n.Name())
		}
		return "did " + in, nil
	}}
	if kind == "op" {
		a.Undo = func(ctx context.Context, d did) error {
			w.log("undo " + d.In)
			w.mu.Lock()
			f := w.undoes[d.In]
			w.mu.Unlock()
			var err error
			if f != nil {
				err = f(ctx, d)
			}
			if err == nil {
				w.log("undone " + d.In)
			}
			return err
		}
	}
	return a
}

// with is a handle on "op" with other settings.
func (w *world) with(change func(a *action)) *action {
	a := w.action("op", nil)
	change(a)
	return a
}

func (w *world) events(kind string, _ *distgear.Node) *event {
	return &event{Name: kind, On: func(ctx context.Context, r *distgear.Run, in string) (string, error) {
		w.mu.Lock()
		f := w.plans[in]
		w.mu.Unlock()
		if f == nil {
			return "", fmt.Errorf("no plan %q", in)
		}
		return f(ctx, r)
	}}
}

// driveHere makes the test's own node handle the events, whose view of the members the test can wait for.
func (w *world) driveHere() {
	w.t.Helper()
	if err := w.Here().Handle(w.events("run", nil)); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) do(in string, f doFunc) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.does[in] = f
}

func (w *world) undo(in string, f undoFunc) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.undoes[in] = f
}

func (w *world) plan(in string, f planFunc) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.plans[in] = f
}

// fails makes an action fail.
func (w *world) fails(in string, err error) {
	w.do(in, func(context.Context, cluster.NodeName) (string, error) { return "", err })
}

// on is the i-th node as a target.
func (w *world) on(i int) distgear.Target { return distgear.On(w.Name(i)) }

// raise begins a run of f.
func (w *world) raise(f planFunc, opts ...distgear.RaiseOption) *distgear.Future[string] {
	w.t.Helper()
	return w.raiseAs(w.event, f, opts...)
}

func (w *world) raiseAs(e *event, f planFunc, opts ...distgear.RaiseOption) *distgear.Future[string] {
	w.t.Helper()
	w.mu.Lock()
	w.raised++
	in := fmt.Sprintf("plan-%d", w.raised)
	w.plans[in] = f
	w.mu.Unlock()
	fut, err := e.Raise(w.t.Context(), w.Here(), in, opts...)
	if err != nil {
		w.t.Fatalf("Raise: %v", err)
	}
	return fut
}

// wait waits for the end of a run.
func (w *world) wait(f *distgear.Future[string]) (string, error) {
	w.t.Helper()
	ctx, cancel := context.WithTimeoutCause(w.t.Context(), patience, errors.New("the run does not end"))
	defer cancel()
	out, err := f.Wait(ctx)
	if ctx.Err() != nil {
		w.t.Fatalf("%v; the journal: %q", context.Cause(ctx), w.journal())
	}
	return out, err
}

// run raises an event whose handler runs one plan with rollback, and waits for its end.
func (w *world) run(f func(p *plan)) (record.Run, error) {
	w.t.Helper()
	return w.runPlan(&plan{Name: "p", Rollback: true}, f)
}

func (w *world) runPlan(p *plan, f func(p *plan)) (record.Run, error) {
	w.t.Helper()
	f(p)
	var planned error
	fut := w.raise(func(ctx context.Context, r *distgear.Run) (string, error) {
		planned = r.Do(ctx, p)
		return "", planned
	})
	_, err := w.wait(fut)
	if (err == nil) != (planned == nil) {
		w.t.Errorf("the future says %v, Run.Do said %v", err, planned)
	}
	return w.record(fut.ID()), planned
}

func (w *world) record(id record.RunID) record.Run {
	w.t.Helper()
	rec, err := w.Here().FindRun(w.t.Context(), id)
	if err != nil {
		w.t.Fatalf("FindRun(%s): %v", id, err)
	}
	return rec
}

// until waits until the run's record is as ok wants it.
func (w *world) until(id record.RunID, what string, ok func(record.Run) bool) record.Run {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	defer cancel()
	var last record.Run
	for rec, err := range w.Here().WatchRun(ctx, id) {
		if err != nil {
			w.t.Fatalf("WatchRun: %v", err)
		}
		if last = rec; ok(rec) {
			return rec
		}
	}
	w.t.Fatalf("run %s is not %s: %+v", id, what, last)
	return last
}

// state is the state of a step in a record.
func state(r record.Run, step string) record.StepState {
	for _, p := range r.Plans {
		for _, s := range p.Steps {
			if s.Name == step {
				return s.State
			}
		}
	}
	return "no such step"
}

func (w *world) log(line string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lines = append(w.lines, line)
	close(w.changed)
	w.changed = make(chan struct{})
}

func (w *world) journal() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.lines)
}

// saw waits until the journal has a line. It may be called on any goroutine.
func (w *world) saw(line string) bool {
	late := time.NewTimer(patience)
	defer late.Stop()
	for {
		w.mu.Lock()
		found, changed := slices.Contains(w.lines, line), w.changed
		w.mu.Unlock()
		if found {
			return true
		}
		select {
		case <-changed:
		case <-late.C:
			w.t.Errorf("no line %q in the journal: %q", line, w.journal())
			return false
		}
	}
}

// order checks that the journal has these lines in this order, whatever is between them.
func (w *world) order(lines ...string) {
	w.t.Helper()
	j := w.journal()
	at := -1
	for _, l := range lines {
		i := slices.Index(j, l)
		if i < 0 || i < at {
			w.t.Errorf("want %q in this order in the journal %q", lines, j)
			return
		}
		at = i
	}
}

// never checks that the journal lacks these lines.
func (w *world) never(lines ...string) {
	w.t.Helper()
	for _, l := range lines {
		if j := w.journal(); slices.Contains(j, l) {
			w.t.Errorf("%q is in the journal %q", l, j)
		}
	}
}

// count is how often a line is in the journal.
func (w *world) count(line string) (n int) {
	for _, l := range w.journal() {
		if l == line {
			n++
		}
	}
	return n
}

// expect waits for the channel.
func expect(t *testing.T, what string, c <-chan struct{}) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(patience):
		t.Fatalf("after %v still not: %s", patience, what)
	}
}

// workerHandlers are what a child process offers: "op" prints what it does. Its input is a verb and a name.
func workerHandlers(n *distgear.Node) []distgear.Handler {
	return []distgear.Handler{workerAction()}
}

func workerAction() *action {
	return &action{
		Name: "op",
		Do: func(ctx context.Context, in string) (string, error) {
			verb, name, _ := strings.Cut(in, " ")
			fmt.Println("do", name)
			defer fmt.Println("end", name)
			switch verb {
			case "hang": // until it is told to stop
				<-ctx.Done()
				return "", context.Cause(ctx)
			case "fail":
				return "", errors.New("as it was told")
			}
			return fmt.Sprint(os.Getpid()), nil
		},
		Undo: func(_ context.Context, d did) error {
			_, name, _ := strings.Cut(d.In, " ")
			fmt.Println("undo", name, d.Outcome)
			return nil
		},
	}
}
