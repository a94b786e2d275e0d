package executor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/distgear/distgear"
	"github.com/distgear/distgear/cluster"
	"github.com/distgear/distgear/internal/machine/tasks"
	"github.com/distgear/distgear/internal/orders"
	"github.com/distgear/distgear/internal/work"
	"github.com/distgear/distgear/internal/work/durable"
)

// Task is a task of an executor, with its history and values. ErrNoExecutor, ErrNoTask.
func (o Ops) Task(ctx context.Context, executor string, id TaskID) (TaskInfo, error) {
	infos, err := o.named(ctx, executor)
	if err != nil {
		return TaskInfo{}, err
	}
	return o.task(ctx, infos, id)
}

func (o Ops) task(ctx context.Context, infos []Info, id TaskID) (TaskInfo, error) {
	executor := infos[0].Name
	if id == "" {
		return TaskInfo{}, fmt.Errorf("%w: the ID of the task is empty", distgear.ErrInvalid)
	}
	for _, in := range infos {
		for p, err := range (source{node: in.Node}).pages(ctx, o.n, orders.Query{What: orders.Tasks, Executor: executor, ID: string(id)}) {
			if err != nil {
				return TaskInfo{}, err
			}
			if len(p.Page.Tasks) > 0 {
				return taskInfo(&p.Page.Tasks[0], executor, in.Node, p.Zero), nil
			}
		}
	}
	var ids []string
	for t, err := range o.Tasks(ctx, executor, TaskFilter{}) {
		if err != nil || len(ids) == 1000 {
			break
		}
		ids = append(ids, string(t.ID))
	}
	return TaskInfo{}, fmt.Errorf("%w: %q of executor %q%s", ErrNoTask, id, executor, meant(string(id), ids))
}

// Cancel asks that a task ends: one that waits ends at once, what runs when its action
// has returned. ErrState: it has ended.
func (o Ops) Cancel(ctx context.Context, executor string, id TaskID) error {
	return o.do(ctx, executor, id, durable.CancelTask, "")
}

// Retry has a task that is parked or failed run again, as if it were new.
// ErrState: it is in another state, or in the memory of a process, whose
// program has the failure already.
func (o Ops) Retry(ctx context.Context, executor string, id TaskID) error {
	return o.do(ctx, executor, id, durable.RetryTask, "")
}

// Park keeps a task from being run until somebody retries or cancels it; what runs
// is cancelled. The reason, not empty, is for people. ErrState: it has
// ended, or is in the memory of a process.
func (o Ops) Park(ctx context.Context, executor string, id TaskID, reason string) error {
	if reason == "" {
		return fmt.Errorf("%w: say why task %q is parked", distgear.ErrInvalid, id)
	}
	return o.do(ctx, executor, id, durable.ParkTask, reason)
}

func (o Ops) do(ctx context.Context, executor string, id TaskID, what uint64, reason string) error {
	infos, err := o.named(ctx, executor)
	if err != nil {
		return err
	}
	t, err := o.task(ctx, infos, id)
	if err != nil {
		return err
	}
	if err := t.refuses(what); err != nil {
		return err
	}
	if t.Class == Fast {
		order := &orders.Order{Query: orders.Query{What: orders.Tasks, Executor: executor, ID: string(id)}, Do: orders.DoCancel}
		return o.order(ctx, t.Queue, order)
	}
	err = o.ledger(executor).Task(ctx, string(id), what, reason)
	if errors.Is(err, tasks.ErrEnded) || errors.Is(err, tasks.ErrNotRetried) { // in this very moment
		if t, err := o.task(ctx, infos, id); err == nil {
			if err := t.refuses(what); err != nil {
				return err
			}
		}
		return fmt.Errorf("%w: %w", ErrState, err)
	}
	return err
}

// refuses says why something cannot be done with the task, in a state like this.
func (t *TaskInfo) refuses(what uint64) error {
	ended := slices.Contains([]string{"ok", "failed", "cancelled", "late"}, t.State)
	verb, may := "cancelled", !ended
	switch what {
	case durable.RetryTask:
		verb, may = "retried", t.State == "parked" || ended && t.State != "ok"
	case durable.ParkTask:
		verb = "parked"
	}
	if t.Class == Fast && what != durable.CancelTask {
		return fmt.Errorf("%w: task %q of executor %q is in the memory of node %s, and cannot be %s: only durable ones can",
			ErrState, t.ID, t.Executor, t.Queue, verb)
	}
	if may {
		return nil
	}
	want := "one that has not ended can"
	if what == durable.RetryTask {
		want = "one that is parked, failed, cancelled or late can"
	}
	return fmt.Errorf("%w: task %q of executor %q is %s, and cannot be %s: %s", ErrState, t.ID, t.Executor, t.State, verb, want)
}

// ledger is the queue of an executor in the ledger. Its limits stay as they are.
func (o Ops) ledger(executor string) *durable.Queue {
	return durable.New(o.n.Room(), executor, work.Limits{}, false)
}

// order has a node do something with its queue.
func (o Ops) order(ctx context.Context, node cluster.NodeName, order *orders.Order) error {
	all, silent, err := orders.All(ctx, o.n.Room(), string(node), order)
	switch {
	case err != nil:
		return err
	case len(silent) > 0:
		return fmt.Errorf("%w: node %s did not answer", distgear.ErrUnknown, node)
	case len(all) == 0 || order.ID != "" && len(all[0].Page.Tasks) == 0:
		return fmt.Errorf("%w: %q of executor %q: it is over, and forgotten", ErrNoTask, order.ID, order.Executor)
	case all[0].Error != "":
		return fmt.Errorf("%w: node %s: %s", distgear.ErrRefused, node, all[0].Error)
	}
	return nil
}

// Pause keeps the tasks of an executor from being started, until Resume: in the ledger, and
// in the memory of all nodes that have it now. What runs goes on. The reason is for
// people; empty means "paused". ErrNoExecutor.
func (o Ops) Pause(ctx context.Context, executor, reason string) error {
	if reason == "" {
		reason = "paused"
	}
	return o.pause(ctx, executor, reason)
}

// Resume ends a Pause. ErrNoExecutor.
func (o Ops) Resume(ctx context.Context, executor string) error { return o.pause(ctx, executor, "") }

func (o Ops) pause(ctx context.Context, executor, reason string) error {
	infos, err := o.named(ctx, executor)
	if err != nil {
		return err
	}
	for _, in := range infos {
		if in.Class == Durable {
			err = errors.Join(err, o.ledger(executor).Pause(ctx, reason))
			continue
		}
		order := &orders.Order{Query: orders.Query{What: orders.Tasks, Executor: executor}, Do: orders.DoPause, Reason: reason}
		if reason == "" {
			order.Do = orders.DoResume
		}
		order.Limit = 1
		err = errors.Join(err, o.order(ctx, in.Node, order))
	}
	return err
}

// Named is a task for whoever works on the action of a name: a program that submits
// it need not know its types.
type Named struct {
	Action     string
	Input      json.RawMessage // nil: null
	Idempotent bool            // of the action, as Retries and Timeout
	Retries    int
	Timeout    time.Duration // zero means 30 s
	Options    []TaskOption
}

// Submit submits a task to an executor that is there: to the one in the ledger, else to
// the queue in this process if somebody works for it. durably: to the ledger also if
// nobody has it yet. ErrNoExecutor, and the errors of the function Submit.
func (o Ops) Submit(ctx context.Context, executor string, t Named, durably bool) (*Future[json.RawMessage], error) {
	if err := (Config{}).check(executor); err != nil {
		return nil, fmt.Errorf("%w: executor %q: %w", distgear.ErrInvalid, executor, err)
	}
	e, err := o.open(ctx, executor, durably)
	if err != nil {
		return nil, err
	}
	in := t.Input
	if len(in) == 0 {
		in = json.RawMessage("null")
	}
	a := &distgear.Action[json.RawMessage, json.RawMessage]{
		Name: t.Action, Idempotent: t.Idempotent, Retries: t.Retries, Timeout: t.Timeout,
		Do: func(context.Context, json.RawMessage) (json.RawMessage, error) { // in a process that is alone, where nobody works
			return nil, distgear.Permanent(distgear.Clean(fmt.Errorf("%w: nobody works on %q for executor %q: call Work with it", distgear.ErrNoNode, t.Action, executor)))
		},
	}
	return Submit(ctx, e, a, in, t.Options...)
}

// open is an executor as others have it.
func (o Ops) open(ctx context.Context, executor string, durably bool) (*Executor, error) {
	r := o.n.Room()
	alone := r.Ledger.Alone()
	if infos, err := o.named(ctx, executor); err == nil {
		durably = durably || slices.ContainsFunc(infos, func(in Info) bool { return in.Class == Durable })
	} else if works := !alone && len(r.Handling(work.KindOf(executor))) > 0; !errors.Is(err, ErrNoExecutor) || !durably && !works && !alone {
		return nil, err
	}
	if durably && !alone {
		return &Executor{&core{n: o.n, room: r, name: executor, cfg: Config{Durable: true}, class: o.ledger(executor)}}, nil
	}
	for _, v := range r.Values() {
		if e, ok := v.(*core); ok && e.name == executor {
			e = &core{n: o.n, room: r, name: executor, cfg: e.cfg, fault: e.fault, fast: e.fast, class: e.fast} // what it remembers of actions goes with it
			return &Executor{e}, nil
		}
	}
	return New(o.n, executor), nil
}

// meant says which names somebody may have meant.
func meant(name string, among []string) string {
	type near struct {
		name string
		far  int
	}
	var nears []near
	for _, s := range among {
		far := distance(name, s)
		if name != "" && (strings.HasPrefix(s, name) || strings.HasPrefix(name, s)) {
			far = min(far, 1)
		}
		if far <= max(2, len(name)/4) && !slices.ContainsFunc(nears, func(n near) bool { return n.name == s }) {
			nears = append(nears, near{s, far})
		}
	}
	slices.SortStableFunc(nears, func(a, b near) int { return a.far - b.far })
	var words []string
	for _, n := range nears[:min(len(nears), 3)] {
		words = append(words, fmt.Sprintf("%q", n.name))
	}
	if len(words) == 0 {
		return ""
	}
	return ": did you mean " + strings.Join(words, " or ") + "?"
}

// distance is how many letters must be put in, left out or replaced.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		before := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := before
			if a[i] != b[j] {
				cost++
			}
			before = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
