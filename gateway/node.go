package gateway

import (
	"context"
	"encoding/json"
	"iter"
	"net/http"

	"github.com/distgear/distgear"
	"github.com/distgear/distgear/cluster"
	"github.com/distgear/distgear/executor"
	"github.com/distgear/distgear/record"
)

// New returns the gateway of n as a handler, for a server of the caller's own.
// With a zero Config it answers requests that come over loopback only; see the
// package comment. It starts nothing, needs no closing and is safe for
// concurrent use. It expects to be mounted at the root of its host.
func New(n *distgear.Node, cfg Config) http.Handler { return newHandler(node{n}, cfg, nil) }

// node is a distgear.Node as the backend of a gateway.
type node struct{ n *distgear.Node }

func (b node) raise(ctx context.Context, event string, in json.RawMessage, o raiseOptions) (pending, error) {
	var opts []distgear.RaiseOption
	if o.id != "" {
		opts = append(opts, distgear.ID(o.id))
	}
	if o.delay > 0 {
		opts = append(opts, distgear.Delay(o.delay))
	}
	e := distgear.Event[json.RawMessage, json.RawMessage]{Name: event}
	f, err := e.Raise(ctx, b.n, in, opts...)
	if err != nil {
		return nil, err // not f: a nil *Future is no nil pending
	}
	return f, nil
}

func (b node) runs(ctx context.Context) iter.Seq2[record.Run, error] { return b.n.Runs(ctx) }

func (b node) find(ctx context.Context, id record.RunID) (record.Run, error) {
	return b.n.FindRun(ctx, id)
}

func (b node) watch(ctx context.Context, id record.RunID) iter.Seq2[record.Run, error] {
	return b.n.WatchRun(ctx, id)
}

func (b node) cancel(ctx context.Context, id record.RunID) error { return b.n.CancelRun(ctx, id) }

func (b node) resolve(ctx context.Context, id record.RunID, step string, how record.Resolution, reason string) error {
	return b.n.ResolveUndo(ctx, id, step, how, reason)
}

func (b node) signal(ctx context.Context, id record.RunID, name string, value json.RawMessage) error {
	if len(value) == 0 {
		return b.n.SignalRun(ctx, id, name, nil)
	}
	return b.n.SignalRun(ctx, id, name, value)
}

func (b node) approve(ctx context.Context, id record.RunID, name string, a record.Approval) error {
	return b.n.ApproveRun(ctx, id, name, a)
}

func (b node) fork(ctx context.Context, id record.RunID, from string, in json.RawMessage, as string) (record.RunID, error) {
	var opts []distgear.RaiseOption
	if as != "" {
		opts = append(opts, distgear.ID(as))
	}
	if len(in) == 0 {
		return b.n.ForkRun(ctx, id, from, nil, opts...)
	}
	return b.n.ForkRun(ctx, id, from, in, opts...)
}

func (b node) adopt(ctx context.Context, id record.RunID) error { return b.n.AdoptRun(ctx, id) }

func (b node) terminate(ctx context.Context, id record.RunID, reason string) error {
	return b.n.TerminateRun(ctx, id, reason)
}

func (b node) members(ctx context.Context) iter.Seq2[cluster.Member, error] { return b.n.Members(ctx) }

func (b node) watchMembers(ctx context.Context) iter.Seq2[cluster.Member, error] {
	return b.n.Watch(ctx)
}

func (b node) tasks(ctx context.Context, name string, f executor.TaskFilter) iter.Seq2[executor.TaskInfo, error] {
	return executor.Operate(b.n).Tasks(ctx, name, f)
}

func (b node) task(ctx context.Context, name string, id executor.TaskID) (executor.TaskInfo, error) {
	return executor.Operate(b.n).Task(ctx, name, id)
}

func (b node) operate(ctx context.Context, verb, name string, id executor.TaskID, reason string) error {
	o := executor.Operate(b.n)
	switch verb {
	case verbCancel:
		return o.Cancel(ctx, name, id)
	case verbRetry:
		return o.Retry(ctx, name, id)
	case verbPark:
		return o.Park(ctx, name, id, reason)
	case verbPause:
		return o.Pause(ctx, name, reason)
	}
	return o.Resume(ctx, name)
}

func (b node) submit(ctx context.Context, name string, t executor.Named, durably bool) (pendingTask, error) {
	f, err := executor.Operate(b.n).Submit(ctx, name, t, durably)
	if err != nil {
		return nil, err // not f, as above
	}
	return f, nil
}

func (b node) name() cluster.NodeName { return b.n.Name() }
func (b node) done() <-chan struct{}  { return b.n.Done() }
func (b node) err() error             { return b.n.Err() }
