package distgear

import (
	"context"
	"iter"
	"strconv"

	"github.com/distgear/distgear/internal/runs"
	"github.com/distgear/distgear/record"
)

// Run is one execution of an event, as its handler sees it. It is safe for
// concurrent use.
type Run struct {
	n  *Node
	in runs.Run
}

// ID is the run's id.
func (r *Run) ID() record.RunID { return r.in.ID() }

// Node is the node that handles the event.
func (r *Run) Node() *Node { return r.n }

// Do runs a plan and returns when nothing of it runs any more: all steps are
// OK, or it returns a *PlanError that says which step failed, why, and whether
// all was rolled back. A faulty plan is ErrInvalid and nothing was sent.
//
// When ctx ends (the run was cancelled or its timeout is over), no further
// step starts, what runs is cancelled, and with Rollback all is undone before
// Do returns: a rollback does not heed ctx. While an undo is stuck Do waits
// for an operator (Node.ResolveUndo).
func (r *Run) Do(ctx context.Context, p *Plan) error {
	n := r.n
	if p.Via != nil {
		n = p.Via
	}
	if p.Name == "" {
		p.Name = strconv.Itoa(r.in.Plans() + 1)
	}
	if err := p.validate(n, r.in.ID()); err != nil {
		return err
	}
	p.in.Name, p.in.Rollback, p.in.Inputs = p.Name, p.Rollback, p.inputs
	if f := r.in.Do(ctx, n.host, &p.in); f != nil {
		return (*PlanError)(f)
	}
	return nil
}

// Runs yields the runs that the live nodes remember, newest first, without
// their plans. A node that does not answer within 5 s is passed over.
func (n *Node) Runs(ctx context.Context) iter.Seq2[record.Run, error] { return n.runs.All(ctx) }

// FindRun is the record of a run, or ErrNoRun when no live node remembers it:
// nodes remember the last 1000, and those of up to 32 MiB.
func (n *Node) FindRun(ctx context.Context, id record.RunID) (record.Run, error) {
	return n.runs.Find(ctx, id)
}

// WatchRun yields the record of a run now and after changes, the last time
// when it has ended. Changes in quick succession are yielded as one.
func (n *Node) WatchRun(ctx context.Context, id record.RunID) iter.Seq2[record.Run, error] {
	return n.runs.Watch(ctx, id)
}

// CancelRun cancels a run: nothing more of it starts, what runs is cancelled,
// and plans with Rollback are undone. It returns when the run was told, not
// when it has ended. To cancel a run that has ended, or rolls back, does nothing.
func (n *Node) CancelRun(ctx context.Context, id record.RunID) error { return n.runs.Cancel(ctx, id) }

// ResolveUndo decides about the stuck undo of a step. Skip and MarkDone need a
// reason; it is logged where the run is.
func (n *Node) ResolveUndo(ctx context.Context, id record.RunID, step string, how record.Resolution, reason string) error {
	return n.runs.Resolve(ctx, id, step, how, reason)
}
