package distgear

import (
	"encoding/json"
	"time"

	"github.com/distgear/distgear/internal/codec"
	"github.com/distgear/distgear/internal/plan"
	"github.com/distgear/distgear/internal/wire"
	"github.com/distgear/distgear/record"
)

// maxRecorded bounds, in bytes, an input or result as records show it.
const maxRecorded = 16 << 10

// record is the run as others may read it; steps only if whole.
func (r *Run) record(whole bool) record.Run {
	r.mu.Lock()
	defer r.mu.Unlock()
	rec := record.Run{ID: r.id, Event: r.event, Node: r.n.name, State: r.state(), Version: uint64(r.version), Started: time.Unix(0, r.started)}
	var out []byte
	if end := r.end; end != nil {
		rec.Ended, out = end.at, end.out
		if end.err != nil {
			rec.Error = clip(end.err.Error())
		}
	}
	if !whole {
		return rec
	}
	rec.Input, rec.Result = shown(r.input), shown(out)
	for _, d := range r.drives {
		p := record.Plan{Name: d.name, Rollback: d.p.Rollback, Steps: make([]record.Step, len(d.p.steps))}
		for i := range d.p.steps {
			p.Steps[i] = d.record(i)
		}
		rec.Plans = append(rec.Plans, p)
	}
	return rec
}

func shown(payload []byte) json.RawMessage {
	if len(payload) == 0 {
		return nil
	}
	if len(payload) > maxRecorded {
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
		stuck = stuck || d.m.Stuck()
		rolling = rolling || d.m.Phase() == plan.RollingBack
		unwound = unwound || d.p.Rollback && d.m.RolledBack()
	}
	switch {
	case stuck:
		return record.Stuck
	case rolling:
		return record.RollingBack
	case r.end == nil && (r.stopped || r.ctx != nil && r.ctx.Cancelled() != nil):
		return record.Cancelling
	case r.end == nil:
		return record.Running
	case r.end.outcome == wire.OK && !unwound:
		return record.OK
	case r.stopped:
		return record.Cancelled
	case unwound && r.clean():
		return record.RolledBack
	case r.end.outcome == wire.OK:
		return record.OK
	}
	return record.Failed
}

func (d *drive) record(i int) record.Step {
	s, t := d.p.steps[i], &d.tracks[i]
	rec := record.Step{
		Name: s.name, Kind: s.kind, Target: s.on.String(), State: record.StepState(d.m.State(i).String()), Node: t.at.node,
		Attempt: t.tries, UndoAttempt: t.undos, Late: t.late, Started: t.began, Ended: t.over, Error: t.message,
	}
	for _, a := range s.after {
		rec.After = append(rec.After, d.p.steps[a].name)
	}
	switch d.m.State(i) {
	case plan.Running:
		if t.waiting && t.tries > 0 {
			rec.State = "retrying"
		}
		rec.Ended = time.Time{}
	case plan.Undoing, plan.Undone: // t.undos counts those that failed
		rec.UndoAttempt++
	}
	return rec
}
