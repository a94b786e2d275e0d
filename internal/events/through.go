package events

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/distgear/distgear/internal/fault"
	"github.com/distgear/distgear/internal/wire"
	"github.com/distgear/distgear/record"
)

// Outcome is how a run ended, once that is known.
type Outcome struct {
	Node   string
	Report wire.Report
	done   chan struct{}
}

// Ended implements Ender.
func (o *Outcome) Ended(node string, r wire.Report) {
	o.Node, o.Report = node, r
	close(o.done)
}

// Through raises a run and waits for its end. When ctx ends the run is cancelled, and
// its end is waited for all the same: so it is with a step of a plan.
func (d *Desk) Through(ctx context.Context, r *Raise) (*Outcome, error) {
	o := &Outcome{done: make(chan struct{})}
	id := r.ID
	if err := d.Raise(ctx, r, o); err != nil {
		return nil, err
	}
	select {
	case <-o.done:
		return o, nil
	case <-ctx.Done():
	}
	if err := d.Do(d.ctx, id, Cancel, ""); err != nil && !errors.Is(err, fault.ErrInvalid) { // it may have ended
		return nil, err
	}
	<-o.done
	return o, nil
}

// Mark gives the error of the report what the report says of it besides.
func (o *Outcome) Mark(err error) error {
	f := o.Report.Error
	if err == nil || f == nil {
		return err
	}
	return fault.Marked(err, fault.Mark{
		Clean: o.Report.Outcome == wire.Clean, NeverRan: o.Report.Outcome == wire.NeverRan, Permanent: f.Flags&fault.Permanent != 0,
	})
}

// Undo undoes the run of a step whose undo has that key and input: it is cancelled
// unless it has ended, and then unwound (S16).
func (d *Desk) Undo(ctx context.Context, kind, key string, input []byte) error {
	u, err := wire.ParseUndo(input)
	if err != nil {
		return fmt.Errorf("%w: undo of %s: %w", fault.ErrInvalid, kind, err)
	}
	id, known := strings.TrimSuffix(key, "/undo")+"/do", u.Outcome == wire.OK // it is known to have begun
	for _, what := range []uint64{Cancel, Unwind} {
		err := d.Do(ctx, id, what, "")
		switch {
		case errors.Is(err, fault.ErrNoRun) && !known:
			return nil
		case errors.Is(err, fault.ErrInvalid): // it has ended, or has nothing to undo
		case err != nil:
			return err
		}
		o := &Outcome{done: make(chan struct{})}
		if err := d.Find(ctx, id, o); err != nil {
			return err
		}
		select {
		case <-o.done:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	v, err := d.Look(ctx, id)
	if err != nil {
		return err
	}
	var rec record.Run
	if err := json.Unmarshal(v.Summary, &rec); len(v.Summary) > 0 && err == nil && rec.State == record.OK && len(rec.Plans) > 0 {
		return fmt.Errorf("not all of run %s is undone", id)
	}
	return nil
}
