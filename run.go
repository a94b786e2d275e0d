package distgear

import (
	"context"
	"fmt"
	"iter"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/distgear/distgear/cluster"
	"github.com/distgear/distgear/internal/codec"
	"github.com/distgear/distgear/internal/events"
	"github.com/distgear/distgear/internal/find"
	"github.com/distgear/distgear/internal/journal"
	"github.com/distgear/distgear/internal/memo"
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

// Now is the cluster's time. In a durable run it is what it was when the run
// came here first, as are Rand and Members.
func (r *Run) Now() time.Time { return memo.Now(&r.in) }

// Rand is a source of random numbers. It is not safe for concurrent use.
func (r *Run) Rand() *rand.Rand { return memo.Rand(&r.in) }

// Members are the members of the cluster.
func (r *Run) Members(ctx context.Context) ([]cluster.Member, error) {
	return memo.Members(&r.in, func() (ms []cluster.Member, err error) {
		for m, err := range r.n.Members(ctx) {
			if err != nil {
				return nil, err
			}
			ms = append(ms, m)
		}
		return ms, nil
	})
}

// Sleep waits for d, counted from when the run came here first. A durable run
// that only waits, for more than a second, is on no node meanwhile: Sleep returns
// an error then, as Signal and Approve do, for which the handler returns at once,
// and it is called again when the time has come.
func (r *Run) Sleep(ctx context.Context, d time.Duration) error { return r.in.Sleep(ctx, d) }

// Signal waits for a signal of that name to this run, which must be durable, and
// decodes what it carries into v; nil: nobody wants to know. Each signal is
// taken once. See Sleep.
func (r *Run) Signal(ctx context.Context, name string, v any) error {
	b, err := r.in.Signal(ctx, name)
	if err == nil && v != nil {
		if err = codec.DecodeAny(b, v); err != nil {
			err = fmt.Errorf("%w: signal %s: %w", ErrInvalid, name, err)
		}
	}
	return err
}

// Approve waits for somebody's decision (Node.ApproveRun). See Signal.
func (r *Run) Approve(ctx context.Context, name string) (record.Approval, error) {
	return memo.Approve(ctx, &r.in, name)
}

// Runs yields the runs that the live nodes remember and the durable ones that the
// hub knows, newest first, without their plans. A node that does not answer
// within 5 s is passed over.
func (n *Node) Runs(ctx context.Context) iter.Seq2[record.Run, error] { return n.finder().All(ctx) }

// FindRun is the record of a run, or ErrNoRun when no live node remembers it:
// nodes remember the last 1000, and those of up to 32 MiB. Durable ones are
// found for a day after their end, the last 10 000.
func (n *Node) FindRun(ctx context.Context, id record.RunID) (record.Run, error) {
	return n.finder().Find(ctx, id)
}

// WatchRun yields the record of a run now and after changes, the last time
// when it has ended. Changes in quick succession are yielded as one.
func (n *Node) WatchRun(ctx context.Context, id record.RunID) iter.Seq2[record.Run, error] {
	return n.finder().Watch(ctx, id)
}

func (n *Node) finder() find.Finder { return find.Finder{Nodes: n.runs, Desk: n.events} }

// CancelRun cancels a run: nothing more of it starts, what runs is cancelled,
// and plans with Rollback are undone. It returns when the run was told, not
// when it has ended. To cancel a run that has ended, or rolls back, does nothing.
func (n *Node) CancelRun(ctx context.Context, id record.RunID) error {
	return n.finder().Cancel(ctx, id)
}

// ResolveUndo decides about the stuck undo of a step. Skip and MarkDone need a
// reason; it is logged where the run is, and in the journal of a durable run, which
// keeps the decision for its next owner if nobody owns it now.
func (n *Node) ResolveUndo(ctx context.Context, id record.RunID, step string, how record.Resolution, reason string) error {
	return n.finder().Resolve(ctx, id, step, how, reason)
}

// SignalRun sends a signal to a durable run, which keeps it until its handler
// takes it (Run.Signal); v is what it carries, nil is nothing. Nil: it is kept for good.
// ErrUnknown: it may be. To a run that has ended it is ErrInvalid.
func (n *Node) SignalRun(ctx context.Context, id record.RunID, name string, v any) error {
	b, err := codec.AppendAny(nil, v)
	if err != nil {
		return fmt.Errorf("%w: signal %s: %w", ErrInvalid, name, err)
	}
	return n.events.Signal(ctx, string(id), journal.Signal{Name: name, Value: b})
}

// ApproveRun tells a durable run a decision that it waits for, or will
// (Run.Approve). Its errors are those of SignalRun.
func (n *Node) ApproveRun(ctx context.Context, id record.RunID, name string, a record.Approval) error {
	s, err := memo.Approval(name, a)
	if err != nil {
		return err
	}
	return n.events.Signal(ctx, string(id), s)
}

// AdoptRun lets a parked durable run go on: with the plans that its handler makes
// now, if it was parked because they have another shape than its journal.
func (n *Node) AdoptRun(ctx context.Context, id record.RunID) error {
	return n.events.Do(ctx, string(id), events.Adopt, "")
}

// ForkRun raises a run that goes on from a durable one, which has ended or is parked, from
// a step on: its name, or PLAN/STEP. That step, what comes after it, and what was not OK
// run anew; other steps keep their recorded results, and do not run again. in is the
// input of the new run: nil is that of the other. If it is rolled back, it undoes what it
// keeps, too. ErrInvalid says why a run cannot be forked: its journal is kept for a day
// after its end if it has at most 32 KiB.
func (n *Node) ForkRun(ctx context.Context, id record.RunID, from string, in any, opts ...RaiseOption) (record.RunID, error) {
	o := raising{id: string(n.runs.NewID())}
	for _, opt := range opts {
		opt.raise(&o)
	}
	err := events.Check(o.id, o.delay)
	f := &events.Fork{ID: o.id, Of: string(id), From: from, Delay: o.delay}
	if in != nil && err == nil {
		f.Input, err = codec.AppendAny(nil, in)
	}
	if err != nil {
		return "", fmt.Errorf("%w: fork of %s: %w", ErrInvalid, id, err)
	}
	return record.RunID(f.ID), n.events.Fork(ctx, f)
}

// TerminateRun ends a durable run at once. Nothing of it is undone: whoever does it
// says why, and sees to what it left behind.
func (n *Node) TerminateRun(ctx context.Context, id record.RunID, reason string) error {
	return n.events.Do(ctx, string(id), events.Terminate, reason)
}
