package events

import (
	"context"
	"fmt"
	"time"

	"github.com/distgear/distgear/internal/fault"
	"github.com/distgear/distgear/internal/journal"
	"github.com/distgear/distgear/internal/machine/pack"
	"github.com/distgear/distgear/internal/machine/runs"
	"github.com/distgear/distgear/internal/machine/tasks"
	"github.com/distgear/distgear/internal/machine/words"
	"github.com/distgear/distgear/internal/operation"
)

// Fork is a run to be raised that goes on from another.
type Fork struct {
	ID    string // of the new one
	Of    string
	From  string // the step, or PLAN/STEP, from which on it runs anew
	Input []byte // nil: that of the other
	Delay time.Duration
}

// maxFork is how large the journal may be that a fork begins with, and its input, in
// bytes, without what is kept elsewhere: they are one operation.
const maxFork = 640 << 10

// Fork raises a run that begins with part of the journal of another, which has ended or
// is parked, and returns once it is in the ledger. What is kept is journal.Fork's to say.
func (d *Desk) Fork(ctx context.Context, f *Fork) error {
	v, err := d.Look(ctx, f.Of)
	if err != nil {
		return err
	}
	switch {
	case v.State != tasks.Parked && v.State != tasks.Ended:
		return fmt.Errorf("%w: run %s goes on: cancel or terminate it, or wait for its end, before it is forked", fault.ErrInvalid, f.Of)
	case len(v.Journal) == 0:
		return fmt.Errorf("%w: the journal of run %s is not kept: it never began, or has ended and was large", fault.ErrInvalid, f.Of)
	}
	units, err := runs.Units(v.Journal)
	if err == nil {
		units, err = journal.Fork(units, f.Of, f.From)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", fault.ErrInvalid, err)
	}
	in := f.Input
	if in == nil {
		in = v.Input
	}
	if in, err = d.keep(ctx, f.ID, in); err != nil {
		return fmt.Errorf("%w: run %s was not forked: %w", fault.ErrNoNode, f.Of, err)
	}
	var b []byte
	for _, u := range units {
		kept, err := d.keep(ctx, f.ID, u)
		if err != nil {
			return fmt.Errorf("%w: run %s was not forked: %w", fault.ErrNoNode, f.Of, err)
		}
		if len(kept) < len(u) {
			kept = journal.Stand(u, kept)
		}
		b = pack.AppendBytes(b, kept)
	}
	if len(b)+len(in) > maxFork && !d.h.Room.Ledger.Alone() {
		return fmt.Errorf("%w: what is kept of run %s has %d bytes, %d are allowed: fork from an earlier step", fault.ErrInvalid, f.Of, len(b)+len(in), maxFork)
	}
	s := tasks.Spec{ID: f.ID, Kind: v.Kind, Idempotent: true, NotBefore: f.Delay.Milliseconds()}
	_, err = d.ask(ctx, f.ID, operation.Op{Verb: operation.VSubmit, A: operation.SubmitRuns | operation.SubmitForks, Key: b, Val: words.AppendSpec(nil, &s, nil, in)}, false)
	if err == nil { // the fork is what counts: it is there
		_ = d.Note(ctx, f.ID, "fork", fmt.Sprintf("of %s, from %s", f.Of, f.From))
		_ = d.Note(ctx, f.Of, "fork", fmt.Sprintf("as %s, from %s", f.ID, f.From))
	}
	return err
}
