package runs

import (
	"errors"
	"fmt"
	"time"

	"github.com/distgear/distgear/internal/fault"
	"github.com/distgear/distgear/internal/place"
	"github.com/distgear/distgear/internal/plan"
	"github.com/distgear/distgear/internal/wire"
)

// undoLimit is how many attempts an undo gets before it is stuck (S10).
const undoLimit = 8

// dispatchUndo makes the next attempt to undo a step.
func (d *drive) dispatchUndo(i int) {
	s, t := d.p.Steps[i], &d.tracks[i]
	if d.folding() {
		t.waiting = true
		return
	}
	at, err := d.placeUndo(s, t)
	if err != nil {
		d.undoUnplaced(i, err)
		return
	}
	if d.log != nil {
		d.commit(i, at, true)
		return
	}
	u := s.UndoInput(t.outcome, t.at.Node, t.result, t.message)
	s.UndoCommand(&d.cmd, int(t.undos)+1, &u)
	a := &attempt{r: d.r, plan: int32(d.index), step: int32(i), undo: true, at: at}
	t.cur = a
	f, err := d.h.Start(at, &d.cmd, time.Time{}, s.Lost(), a)
	if err != nil {
		d.undoFailed(i, err, nil)
		return
	}
	a.f = f
}

// undoUnplaced waits for a node to send the undo to, for the grace.
func (d *drive) undoUnplaced(i int, err error) {
	t := &d.tracks[i]
	t.message = err.Error()
	switch {
	case d.folding(): // a record tells what came of it
		t.waiting = true
	case !d.patience(t):
		d.later(i, LookAgain, d.dispatchUndo)
	default:
		d.ended(i, true, err)
		d.undoFailed(i, err, nil)
	}
}

// placeUndo is where the step ran, if that node lives, also in a new life. For
// a step that any node could do, another will undo it when that one is gone.
func (d *drive) placeUndo(s *Step, t *track) (place.Place, error) {
	at, err := d.h.Place(place.Target{Name: t.at.Node}, s.Kind, t.at.Node, 0)
	if err == nil {
		return at, nil
	}
	if s.On.Name == "" {
		return d.h.Place(s.On, s.Kind, d.r.joining(), 0)
	}
	return at, fmt.Errorf("%w: %s, where it is to be undone, is gone", fault.ErrNoNode, t.at.Node)
}

// undone takes the report of an undo in.
func (d *drive) undone(i int, a *attempt, r *wire.Report) {
	t := &d.tracks[i]
	if a != t.cur {
		return
	}
	stuck := d.m.State(i) == plan.Stuck
	if r.Outcome == wire.OK {
		t.cur, d.p.Steps[i].Over = nil, d.now.UnixNano()
		if stuck { // it said so after all
			fx, _ := d.m.Resolve(i, plan.RetryUndo, nil)
			if len(fx) == 0 {
				return // its turn comes again
			}
		}
		d.fx = d.m.UndoReport(i, true, d.fx)
		return
	}
	err := d.h.Error(*r, a.at.Node, "undo of "+d.p.Steps[i].Kind)
	t.message = err.Error()
	switch {
	case stuck:
	case r.Outcome == wire.Unknown && !r.Over: // it may be running: not a second one beside it
		d.fx = d.m.UndoReport(i, false, d.fx)
	case d.log != nil && r.Outcome == wire.NeverRan && flagged(r, fault.Refused): // it was not sent after all
		if a.attached {
			d.later(i, 0, d.dispatchUndo)
			return
		}
		d.undoUnplaced(i, err)
	default:
		d.undoFailed(i, err, r)
	}
}

// undoFailed tries again later, or gives up. r is nil when nothing was sent.
func (d *drive) undoFailed(i int, err error, r *wire.Report) {
	t := &d.tracks[i]
	t.message = err.Error()
	t.undos++
	if t.undos >= undoLimit || r != nil && flagged(r, fault.Permanent) || errors.Is(err, fault.ErrInvalid) {
		t.cur = nil
		d.getStuck(i, "undo is stuck: retry, skip or mark it")
		d.fx = d.m.UndoReport(i, false, d.fx)
		return
	}
	wait := min(2*time.Second, 50*time.Millisecond<<min(t.undos-1, 8))
	if r != nil && r.Error != nil {
		wait = max(wait, time.Duration(r.Error.AfterMS)*time.Millisecond)
	}
	d.later(i, wait, d.dispatchUndo)
}
