package distgear

import (
	"context"
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
	if f := r.in.Do(ctx, n.host, &runs.Plan{Name: p.Name, Rollback: p.Rollback, Steps: p.steps}); f != nil {
		return (*PlanError)(f)
	}
	return nil
}
