package executor

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/distgear/distgear"
	"github.com/distgear/distgear/cluster"
	"github.com/distgear/distgear/internal/codec"
	"github.com/distgear/distgear/internal/machine"
	"github.com/distgear/distgear/internal/machine/tasks"
	"github.com/distgear/distgear/internal/orders"
	"github.com/distgear/distgear/internal/wire"
)

// The errors of Ops, besides those of executors. Nothing was done.
var (
	// ErrNoExecutor: nobody has an executor of that name.
	ErrNoExecutor = errors.New("executor: nobody has an executor of this name")
	// ErrState: the task is in a state in which that cannot be done.
	ErrState = errors.New("executor: the state of the task forbids it")
)

// Class says where the queue of an executor is.
type Class string

// The classes.
const (
	Durable Class = "durable" // in the cluster's ledger
	Fast    Class = "fast"    // in the process that submits
)

// Info is an executor as operators see it: the one in the ledger, or what one
// process has of that name.
type Info struct {
	Name      string           `json:"name"`
	Class     Class            `json:"class"`
	Node      cluster.NodeName `json:"node,omitempty"` // whose process has the queue; empty: the ledger
	Waiting   int              `json:"waiting"`        // Delayed, Ready, and in line while it is full
	Delayed   int              `json:"delayed"`
	Ready     int              `json:"ready"`
	Leased    int              `json:"leased"`           // with a worker
	Parked    int              `json:"parked"`           // waiting for a person
	Ended     int              `json:"ended"`            // and still known
	Total     uint64           `json:"total"`            // that ended since it began
	Rate      float64          `json:"rate"`             // that ended per second: lately; Fast: since somebody looked before
	Oldest    time.Time        `json:"oldest,omitzero"`  // when the oldest that is ready was submitted, about
	Workers   int              `json:"workers"`          // nodes that work for it; Fast: calls of Work
	Slots     int              `json:"slots"`            // of those
	Paused    string           `json:"paused,omitempty"` // why; empty: it is not
	Unserved  []string         `json:"unserved,omitempty"`
	Schedules int              `json:"schedules,omitempty"`
}

// TaskInfo is a task as operators see it.
type TaskInfo struct {
	ID         TaskID           `json:"id"`
	Executor   string           `json:"executor"`
	Class      Class            `json:"class"`
	Queue      cluster.NodeName `json:"queue,omitempty"` // whose process has it; empty: the ledger
	Number     uint64           `json:"number"`          // in its queue
	Action     string           `json:"action"`
	State      string           `json:"state"` // one of TaskStates, but not "ended"
	Key        string           `json:"key,omitempty"`
	Labels     []string         `json:"labels,omitempty"`
	Batch      string           `json:"batch,omitempty"`
	Priority   int              `json:"priority,omitempty"`
	Idempotent bool             `json:"idempotent,omitempty"`
	Attempts   int              `json:"attempts"` // that were reported
	Retries    int              `json:"retries"`
	Submitted  time.Time        `json:"submitted"`
	Since      time.Time        `json:"since"` // in its state; of a delayed one: until when
	Deadline   time.Time        `json:"deadline,omitzero"`
	Node       cluster.NodeName `json:"node,omitempty"`   // that has it leased
	Done       int64            `json:"done,omitempty"`   // see Progress
	Goal       int64            `json:"total,omitempty"`  // of Done
	Reason     string           `json:"reason,omitempty"` // why it is parked
	Error      string           `json:"error,omitempty"`  // of its last failure
	History    []AttemptInfo    `json:"history,omitempty"`
	Input      json.RawMessage  `json:"input,omitempty"`
	Result     json.RawMessage  `json:"result,omitempty"`
}

// AttemptInfo is an attempt of a task that failed, or whose worker was lost.
type AttemptInfo struct {
	Node    cluster.NodeName `json:"node,omitempty"` // empty: its session is over, see Session
	Session string           `json:"session"`
	Began   time.Time        `json:"began"`
	Ended   time.Time        `json:"ended"`
	Outcome string           `json:"outcome"` // clean, dirty, never ran, unknown
	Lost    bool             `json:"lost,omitempty"`
	Error   string           `json:"error,omitempty"`
}

// TaskStates are the states by which tasks are asked for. Of those that have
// ended it is what became of them; "ended" is any of these.
func TaskStates() []string { return tasks.Words() }

// TaskFilter says which tasks are asked for. Zero fields are not asked for.
type TaskFilter struct {
	State  string
	Action string
	Key    string
	Prefix string // of the ID
	After  string // those that come after this one: a TaskInfo's Place
}

// Place is where a task is in the list of its executor: TaskFilter.After.
func (t *TaskInfo) Place() string { return strconv.FormatUint(t.Number, 10) + "@" + string(t.Queue) }

// Ops is what operators do with executors, by name: those in the ledger, and those
// in the memory of any node. Make it with Operate. What changes something returns when
// the ledger has written it down, or the node has done it.
type Ops struct{ n *distgear.Node }

// Operate returns the Ops of n's cluster, or of its process if it is alone.
func Operate(n *distgear.Node) Ops { return Ops{n} }

// List yields the executors whose names begin with prefix, by name. Those in the
// memory of a node that does not answer are left out.
func (o Ops) List(ctx context.Context, prefix string) iter.Seq2[Info, error] {
	return func(yield func(Info, error) bool) {
		infos, err := o.list(ctx, prefix)
		if err != nil {
			yield(Info{}, err)
			return
		}
		for _, in := range infos {
			if !yield(in, nil) {
				return
			}
		}
	}
}

func (o Ops) list(ctx context.Context, prefix string) ([]Info, error) {
	all, err := orders.Standings(ctx, o.n.Room(), prefix)
	infos := make([]Info, len(all))
	for i := range all {
		infos[i] = info(&all[i])
	}
	slices.SortStableFunc(infos, func(a, b Info) int { return cmp.Compare(a.Name, b.Name) })
	return infos, err
}

func info(e *orders.Standing) Info {
	node := cluster.NodeName(e.Node)
	return Info{
		Name: e.Name, Class: classOf(node), Node: node, Waiting: e.Line + e.Delayed + e.Ready, Delayed: e.Delayed, Ready: e.Ready, Leased: e.Leased,
		Parked: e.Parked, Ended: e.Ended, Total: e.Total, Rate: e.Rate, Oldest: at(e.Zero, e.Oldest), Workers: e.Workers, Slots: e.Slots,
		Paused: e.Paused, Unserved: e.Unserved, Schedules: e.Schedules,
	}
}

func classOf(node cluster.NodeName) Class {
	if node == "" {
		return Durable
	}
	return Fast
}

func at(zero, ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(zero + ms).UTC()
}

// Tasks yields tasks of an executor, the newest first: those in the ledger, then
// those in the memory of each node. ErrNoExecutor, distgear.ErrInvalid.
func (o Ops) Tasks(ctx context.Context, executor string, f TaskFilter) iter.Seq2[TaskInfo, error] {
	return func(yield func(TaskInfo, error) bool) {
		q := orders.Query{What: orders.Tasks, Executor: executor, State: f.State, Kind: f.Action, Key: f.Key, Prefix: f.Prefix, Limit: 1000}
		if q.State != "" && !slices.Contains(TaskStates(), q.State) {
			yield(TaskInfo{}, fmt.Errorf("%w: state %q: want one of %s", distgear.ErrInvalid, q.State, strings.Join(TaskStates(), ", ")))
			return
		}
		from, err := o.from(ctx, executor, f.After)
		if err != nil {
			yield(TaskInfo{}, err)
			return
		}
		for _, s := range from {
			q.After = s.after
			for p, err := range s.pages(ctx, o.n, q) {
				if err != nil {
					yield(TaskInfo{}, err)
					return
				}
				for i := range p.Page.Tasks {
					if !yield(taskInfo(&p.Page.Tasks[i], executor, s.node, p.Zero), nil) {
						return
					}
				}
			}
		}
	}
}

// source is a queue that tasks are listed from.
type source struct {
	node  cluster.NodeName // empty: the ledger
	after string
}

// from is where an executor has queues, from a place on.
func (o Ops) from(ctx context.Context, executor, place string) ([]source, error) {
	number, node, ok := strings.Cut(place, "@")
	if n, err := strconv.ParseUint(number, 10, 64); place != "" && (!ok || err != nil || n == 0) {
		return nil, fmt.Errorf("%w: after %q: want the place of a task, as the page before told it", distgear.ErrInvalid, place)
	}
	infos, err := o.named(ctx, executor)
	if err != nil {
		return nil, err
	}
	var all []source
	for _, in := range infos {
		s := source{node: in.Node}
		switch {
		case place == "" || in.Node > cluster.NodeName(node):
		case in.Node == cluster.NodeName(node):
			s.after = number
		default:
			continue
		}
		all = append(all, s)
	}
	slices.SortFunc(all, func(a, b source) int { return cmp.Compare(a.node, b.node) })
	return all, nil
}

// named are the queues of one executor. ErrNoExecutor names those that are meant, maybe.
func (o Ops) named(ctx context.Context, executor string) ([]Info, error) {
	infos, err := o.list(ctx, executor) // a prefix too
	if err != nil {
		return nil, err
	}
	infos = slices.DeleteFunc(infos, func(in Info) bool { return in.Name != executor })
	if len(infos) > 0 {
		return infos, nil
	}
	var names []string
	if all, err := o.list(ctx, ""); err == nil {
		for _, in := range all {
			names = append(names, in.Name)
		}
	}
	return nil, fmt.Errorf("%w: %q%s", ErrNoExecutor, executor, meant(executor, names))
}

// pages yields what a source has.
func (s source) pages(ctx context.Context, n *distgear.Node, q orders.Query) iter.Seq2[orders.Inspection, error] {
	if s.node == "" {
		return orders.Pages(ctx, n.Room(), q)
	}
	return func(yield func(orders.Inspection, error) bool) {
		for q := q; ; {
			all, silent, err := orders.All(ctx, n.Room(), string(s.node), &orders.Order{Query: q})
			switch {
			case err != nil:
			case len(silent) > 0:
				err = fmt.Errorf("%w: node %s does not answer", distgear.ErrNoNode, s.node)
			case len(all) == 0:
				return // it is gone, and its queue with it
			case all[0].Error != "":
				err = fmt.Errorf("%w: node %s: %s", distgear.ErrRefused, s.node, all[0].Error)
			}
			if err != nil {
				yield(orders.Inspection{}, err)
				return
			}
			if !yield(all[0].Inspection, nil) || all[0].Page.Next == "" {
				return
			}
			q.After = all[0].Page.Next
		}
	}
}

func taskInfo(t *orders.TaskState, executor string, node cluster.NodeName, zero int64) TaskInfo {
	in := TaskInfo{
		ID: TaskID(t.ID), Executor: executor, Class: classOf(node), Queue: node, Number: t.Number, Action: t.Kind, State: t.State, Key: t.Key, Batch: t.Batch,
		Priority: int(t.Priority), Idempotent: t.Idempotent, Attempts: t.Attempts, Retries: t.Retries, Submitted: at(zero, t.Submitted), Since: at(zero, t.Since),
		Deadline: at(zero, t.Deadline), Node: cluster.NodeName(t.Node), Done: t.Done, Goal: t.Goal, Reason: t.Reason, Error: t.Message,
	}
	if t.Labels != "" {
		in.Labels = strings.Split(t.Labels, "\n")
	}
	if t.State == "parked" {
		switch t.Cause { //nolint:exhaustive // others say it in their reason
		case tasks.Lost:
			in.Reason = "its worker was lost, or could not say what became of it, and the action is not idempotent"
		case tasks.Poisonous:
			in.Reason = "each worker that had it was lost: it may be what ends them"
		}
	}
	for _, a := range t.History {
		in.History = append(in.History, AttemptInfo{
			cluster.NodeName(a.Node), session(a.Session), at(zero, a.Began), at(zero, a.Ended), outcome(a.Outcome), a.Lost, a.Message,
		})
	}
	switch v := value(t.Val); {
	case v == nil:
	case t.State == "ok":
		in.Result = v
	default:
		in.Input = v
	}
	return in
}

func session(s machine.Session) string { return strconv.FormatUint(uint64(s), 16) }

func outcome(o tasks.Outcome) string {
	switch o {
	case tasks.OK:
		return "ok"
	case tasks.Clean:
		return "clean"
	case tasks.Dirty:
		return "dirty"
	case tasks.NeverRan:
		return "never ran"
	}
	return "unknown"
}

// value is an encoded value as JSON; nil: there is none.
func value(b []byte) json.RawMessage {
	if ref, ok := wire.ParseRef(string(b)); ok {
		return text(fmt.Sprintf("(%d bytes, encoded, in the object store)", ref.Size))
	}
	if len(b) == 0 {
		return nil
	}
	v, err := codec.Of[json.RawMessage]{}.New(b)
	if err != nil || !json.Valid(v) {
		return text(fmt.Sprintf("(%d bytes that are no JSON)", len(b)))
	}
	return v
}

func text(s string) json.RawMessage {
	b, _ := json.Marshal(s) //nolint:errchkjson // a string can be
	return b
}
