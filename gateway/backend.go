package gateway

import (
	"context"
	"encoding/json"
	"iter"
	"time"

	"github.com/distgear/distgear/cluster"
	"github.com/distgear/distgear/executor"
	"github.com/distgear/distgear/internal/scheduled"
	"github.com/distgear/distgear/internal/waitlist"
	"github.com/distgear/distgear/lifecycle"
	"github.com/distgear/distgear/record"
)

// backend is what a gateway needs of a node. It exists so that handlers can be
// tested against failures that a node does not produce on demand.
type backend interface {
	raise(ctx context.Context, event string, in json.RawMessage, o raiseOptions) (pending, error)
	runs(ctx context.Context) iter.Seq2[record.Run, error]
	find(ctx context.Context, id record.RunID) (record.Run, error)
	watch(ctx context.Context, id record.RunID) iter.Seq2[record.Run, error]
	cancel(ctx context.Context, id record.RunID) error
	resolve(ctx context.Context, id record.RunID, step string, how record.Resolution, reason string) error
	signal(ctx context.Context, id record.RunID, name string, value json.RawMessage) error // no bytes: nothing
	approve(ctx context.Context, id record.RunID, name string, a record.Approval) error
	fork(ctx context.Context, id record.RunID, from string, in json.RawMessage, as string) (record.RunID, error)
	adopt(ctx context.Context, id record.RunID) error
	terminate(ctx context.Context, id record.RunID, reason string) error
	members(ctx context.Context) iter.Seq2[cluster.Member, error]
	watchMembers(ctx context.Context) iter.Seq2[cluster.Member, error]
	look(ctx context.Context, what string, q lookQuery) (any, error) // what the hub knows
	tasks(ctx context.Context, of string, f executor.TaskFilter) iter.Seq2[executor.TaskInfo, error]
	task(ctx context.Context, of string, id executor.TaskID) (executor.TaskInfo, error)
	operate(ctx context.Context, verb, of string, id executor.TaskID, reason string) error
	submit(ctx context.Context, to string, t executor.Named, durably bool) (pendingTask, error)
	findSchedule(ctx context.Context, name scheduled.Name) (scheduled.Info, error)
	changeSchedule(ctx context.Context, verb scheduled.Verb, name scheduled.Name) (id string, err error)
	hear(ctx context.Context) iter.Seq2[lifecycle.Event, error] // an empty one first
	name() cluster.NodeName
	done() <-chan struct{} // closed when the node is out of its cluster
	err() error            // why, after done
}

type raiseOptions struct {
	id    string
	delay time.Duration
}

// result is to come.
type result interface {
	Done() <-chan struct{}
	Wait(ctx context.Context) (json.RawMessage, error) // returns at once after Done
}

// pending is a raised event whose result is to come; a Future.
type pending = waitlist.Pending

// pendingTask is a submitted task; an executor.Future.
type pendingTask interface {
	ID() executor.TaskID
	result
}
