package distgear

import (
	"encoding/json"
	"time"

	"github.com/distgear/distgear/internal/codec"
	"github.com/distgear/distgear/internal/plan"
	"github.com/distgear/distgear/internal/wire"
)

// RunRecord is what the node that ran an event remembers of the run. Times are
// that node's.
type RunRecord struct {
	ID      RunID           `json:"id"`
	Event   string          `json:"event"`
	Node    NodeName        `json:"node"`
	State   RunState        `json:"state"`
	Version uint64          `json:"version"` // grows with each change
	Started time.Time       `json:"started"`
	Ended   time.Time       `json:"ended,omitzero"`
	Input   json.RawMessage `json:"input,omitempty"`
	Result  json.RawMessage `json:"result,omitempty"`
	Error   string          `json:"error,omitempty"`
	Plans   []PlanRecord    `json:"plans,omitempty"`
}

// PlanRecord is one plan of a run.
type PlanRecord struct {
	Name     string       `json:"name"`
	Rollback bool         `json:"rollback"`
	Steps    []StepRecord `json:"steps"`
}

// StepRecord is one step of a plan.
type StepRecord struct {
	Name        string    `json:"name"`
	Kind        string    `json:"kind"`
	Target      string    `json:"target"`
	After       []string  `json:"after,omitempty"`
	State       StepState `json:"state"`
	Node        NodeName  `json:"node,omitempty"`    // where it ran last
	Attempt     int       `json:"attempt,omitempty"` // counted from 1
	UndoAttempt int       `json:"undo_attempt,omitempty"`
	Late        int       `json:"late,omitempty"` // results of given-up attempts that came later
	Started     time.Time `json:"started,omitzero"`
	Ended       time.Time `json:"ended,omitzero"`
	Error       string    `json:"error,omitempty"`
}

// RunState is the state of a run in words.
type RunState string

// The states of a run. The last four are final.
const (
	RunRunning     RunState = "running"
	RunCancelling  RunState = "cancelling"
	RunRollingBack RunState = "rolling back"
	RunStuck       RunState = "stuck" // an undo keeps failing and waits for ResolveUndo
	RunOK          RunState = "ok"
	RunFailed      RunState = "failed"
	RunRolledBack  RunState = "rolled back" // failed, and all that had to be undone was undone
	RunCancelled   RunState = "cancelled"
)

// Final tells whether the run has ended.
func (s RunState) Final() bool {
	return s == RunOK || s == RunFailed || s == RunRolledBack || s == RunCancelled
}

// StepState is the state of a step in words: "waiting", "running", "retrying",
// "ok", "failed", "unknown", "never ran", "skipped", "undoing", "undone",
// "stuck", "undo skipped" or "marked undone".
type StepState string

// maxRecorded bounds, in bytes, an input or result as records show it.
const maxRecorded = 16 << 10

// record is the run as others may read it; steps only if whole.
func (r *Run) record(whole bool) RunRecord {
	r.mu.Lock()
	defer r.mu.Unlock()
	rec := RunRecord{ID: r.id, Event: r.event, Node: r.n.name, State: r.state(), Version: uint64(r.version), Started: time.Unix(0, r.started)}
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
		p := PlanRecord{Name: d.name, Rollback: d.p.Rollback, Steps: make([]StepRecord, len(d.p.steps))}
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

func (r *Run) state() RunState {
	var stuck, rolling, unwound bool
	for _, d := range r.drives {
		stuck = stuck || d.m.Stuck()
		rolling = rolling || d.m.Phase() == plan.RollingBack
		unwound = unwound || d.p.Rollback && d.m.RolledBack()
	}
	switch {
	case stuck:
		return RunStuck
	case rolling:
		return RunRollingBack
	case r.end == nil && (r.stopped || r.ctx != nil && r.ctx.Cancelled() != nil):
		return RunCancelling
	case r.end == nil:
		return RunRunning
	case r.end.outcome == wire.OK && !unwound:
		return RunOK
	case r.stopped:
		return RunCancelled
	case unwound && r.clean():
		return RunRolledBack
	case r.end.outcome == wire.OK:
		return RunOK
	}
	return RunFailed
}

func (d *drive) record(i int) StepRecord {
	s, t := d.p.steps[i], &d.tracks[i]
	rec := StepRecord{
		Name: s.name, Kind: s.kind, Target: s.on.String(), State: StepState(d.m.State(i).String()), Node: t.at.node,
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
