package runs

import (
	"encoding/json"
	"time"

	"github.com/distgear/distgear/internal/codec"
	"github.com/distgear/distgear/internal/fault"
	"github.com/distgear/distgear/internal/plan"
	"github.com/distgear/distgear/internal/wire"
	"github.com/distgear/distgear/record"
)

// maxShown bounds, in bytes, an input or result as records show it.
const maxShown = 16 << 10

// record is the run as others may read it; plans only if whole.
func (r *Run) record(whole bool) record.Run {
	r.mu.Lock()
	defer r.mu.Unlock()
	rec := record.Run{
		ID: r.id, Event: r.event, Node: r.host.Here.Node, State: r.state(), Version: uint64(r.version),
		Started: instant(r.started), Ended: instant(r.end.at),
	}
	if r.end.err != nil {
		rec.Error = fault.Clip(r.end.err.Error())
	}
	if !whole {
		return rec
	}
	rec.Input, rec.Result = shown(r.input), shown(r.end.out)
	for _, d := range r.drives {
		p := record.Plan{Name: d.p.Name, Rollback: d.p.Rollback, Steps: make([]record.Step, len(d.p.Steps))}
		for i := range d.p.Steps {
			p.Steps[i] = d.record(i)
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

func shown(payload []byte) json.RawMessage {
	if len(payload) == 0 {
		return nil
	}
	if len(payload) > maxShown {
		return json.RawMessage(`"(large)"`)
	}
	b, err := codec.ToJSON(payload)
	if err != nil {
		return nil
	}
	return b
}

func (r *Run) state() record.RunState {
	var stuck, rolling, unwound bool
	for _, d := range r.drives {
		stuck = stuck || d.stuck()
		rolling = rolling || d.m.Phase() == plan.RollingBack
		unwound = unwound || d.p.Rollback && d.m.RolledBack()
	}
	ended, ok := r.end.at != 0, r.end.outcome == wire.OK
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

func (d *drive) record(i int) record.Step {
	s, t := d.p.Steps[i], &d.tracks[i]
	rec := record.Step{
		Name: s.Name, Kind: s.Kind, Target: s.On.String(), State: record.StepState(d.m.State(i).String()), Node: t.at.Node,
		Attempt: int(t.tries), UndoAttempt: int(t.undos), Late: int(t.late),
		Started: instant(t.began), Ended: instant(t.over), Error: t.message,
	}
	for _, a := range s.After {
		rec.After = append(rec.After, d.p.Steps[a].Name)
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
	return rec
}
