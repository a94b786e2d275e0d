package runs

import (
	"time"

	"github.com/distgear/distgear/internal/codec"
	"github.com/distgear/distgear/internal/fault"
	"github.com/distgear/distgear/internal/plan"
	"github.com/distgear/distgear/internal/wire"
	"github.com/distgear/distgear/record"
)

// maxShown bounds, in bytes, an input or result as records show it.
const maxShown = 16 << 10

// Record is the run as others may read it; plans only if whole.
func (r *Run) Record(whole bool) record.Run {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.recordLocked(whole)
}

func (r *Run) recordLocked(whole bool) record.Run {
	rec := record.Run{
		ID: r.id, Event: r.event, Node: r.host.Here.Node, State: r.state(), Version: uint64(r.version),
		Started: instant(r.started),
	}
	end := r.end
	if end == nil {
		end = &ending{}
	}
	rec.Ended = instant(end.at)
	if end.err != nil {
		rec.Error = fault.Clip(end.err.Error())
	}
	if !whole {
		return rec
	}
	rec.Input, rec.Result = codec.Show(r.input, maxShown), codec.Show(end.out, maxShown)
	for _, x := range r.plans {
		p := record.Plan{Name: x.p.Name, Rollback: x.p.Rollback, Steps: make([]record.Step, len(x.p.Steps))}
		for i, s := range x.p.Steps {
			rec := &p.Steps[i]
			*rec = record.Step{Name: s.Name, Kind: s.Kind, Target: s.On.String(), Started: instant(s.Began), Ended: instant(s.Over)}
			for _, a := range s.After {
				rec.After = append(rec.After, x.p.Steps[a].Name)
			}
			if x.d == nil {
				rec.State, rec.Node, rec.Attempt = record.StepState(plan.Done.String()), s.Node, 1
			} else {
				x.d.record(i, rec)
			}
		}
		rec.Plans = append(rec.Plans, p)
	}
	return rec
}

// instant is a time in ns since 1970; zero is none.
func instant(ns int64) time.Time {
	if ns == 0 {
		return time.Time{}
	}
	return time.Unix(0, ns)
}

func (r *Run) state() record.RunState {
	var stuck, rolling, unwound bool
	for _, x := range r.plans {
		d := x.d
		if d == nil {
			continue
		}
		stuck = stuck || d.stuck()
		rolling = rolling || d.m.Phase() == plan.RollingBack
		unwound = unwound || d.p.Rollback && d.m.RolledBack()
	}
	ended, ok := r.end != nil, r.end != nil && r.end.outcome == wire.OK
	switch {
	case stuck:
		return record.Stuck
	case rolling:
		return record.RollingBack
	case !ended && (r.stopped || r.ctx != nil && r.ctx.Cancelled() != nil):
		return record.Cancelling
	case !ended:
		return record.Running
	case ok && !unwound:
		return record.OK
	case r.stopped:
		return record.Cancelled
	case unwound && r.clean():
		return record.RolledBack
	case ok:
		return record.OK
	}
	return record.Failed
}

// record adds what the drive knows of a step.
func (d *drive) record(i int, rec *record.Step) {
	t := &d.tracks[i]
	rec.State, rec.Node, rec.Error = record.StepState(d.m.State(i).String()), t.at.Node, t.message
	rec.Attempt, rec.UndoAttempt, rec.Late = int(t.tries), int(t.undos), int(t.late)
	if d.log != nil {
		for n, a := range d.log.sent {
			if a != nil && int(a.step) == i {
				rec.Attempts = append(rec.Attempts, d.log.history[n])
			}
		}
	}
	switch d.m.State(i) {
	case plan.Running:
		if t.waiting && t.tries > 0 {
			rec.State = "retrying"
		}
		if t.stuck {
			rec.State = "stuck"
		}
		rec.Ended = time.Time{}
	case plan.Undoing, plan.Undone: // t.undos counts those that failed
		rec.UndoAttempt++
	}
}
