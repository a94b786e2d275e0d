// Package record is what nodes remember of runs: which steps their plans had,
// what became of each, and what an operator may decide. distgear.Node's Runs,
// FindRun and WatchRun yield records; the gateway and the command line show them.
//
//	r, err := n.FindRun(ctx, "deploy-7")
//	for _, p := range r.Plans {
//		for _, s := range p.Steps {
//			fmt.Println(p.Name, s.Name, s.State, s.Node)
//		}
//	}
//
// # Guarantees
//
// A record is a copy: it does not change. Its JSON is what the HTTP interface
// answers.
//
// # Failures
//
// None.
package record

import (
	"encoding/json"
	"time"

	"github.com/distgear/distgear/cluster"
)

// RunID names a run, for ever: it is never used again.
type RunID string

// Run is what the node that ran an event remembers of the run. Times are that
// node's.
type Run struct {
	ID      RunID            `json:"id"`
	Event   string           `json:"event"`
	Node    cluster.NodeName `json:"node"`
	State   RunState         `json:"state"`
	Version uint64           `json:"version"` // grows with each change
	Started time.Time        `json:"started"`
	Ended   time.Time        `json:"ended,omitzero"`
	Input   json.RawMessage  `json:"input,omitempty"`
	Result  json.RawMessage  `json:"result,omitempty"`
	Error   string           `json:"error,omitempty"`
	Plans   []Plan           `json:"plans,omitempty"`
	Durable bool             `json:"durable,omitempty"`
	Waits   []string         `json:"waits,omitempty"` // durable: the signals that it waits for; "approve NAME" is a decision
	Until   time.Time        `json:"until,omitzero"`  // durable: when it goes on by itself, if it waits for that
	Journal []Entry          `json:"-"`               // durable: what happened, in order, as FindRun and WatchRun tell it
}

// Entry is one thing that happened in a durable run. Of one that has ended, and whose
// journal was large, only what its plans tell is kept.
type Entry struct {
	At      time.Time        `json:"at"`
	What    Happening        `json:"what"`
	Plan    string           `json:"plan,omitempty"`
	Step    string           `json:"step,omitempty"`
	Undo    bool             `json:"undo,omitempty"`    // it is about undoing the step
	Attempt int              `json:"attempt,omitempty"` // counted from 1, apart for the step and its undo
	Node    cluster.NodeName `json:"node,omitempty"`
	Epoch   uint64           `json:"epoch,omitempty"`   // of the owner
	Began   time.Time        `json:"began,omitzero"`    // when the attempt was sent, or the owner began
	Outcome string           `json:"outcome,omitempty"` // as an Attempt's; how a run ended, as its State
	Name    string           `json:"name,omitempty"`    // of a signal or value; what an operator did
	How     Resolution       `json:"how,omitempty"`
	Until   time.Time        `json:"until,omitzero"` // of a Sleep
	Text    string           `json:"text,omitempty"` // an error, or a reason
	By      string           `json:"by,omitempty"`   // who, if that was said: see package audit
}

// Happening says in a word what an Entry is about.
type Happening string

// What may happen in a durable run.
const (
	Accepted   Happening = "accepted"
	Owned      Happening = "owned"      // by Node from then on
	OwnerGone  Happening = "owner gone" // Node was lost, or Text
	Planned    Happening = "planned"    // a plan began
	Sent       Happening = "sent"       // an attempt, to Node
	Reported   Happening = "reported"   // what became of it
	NotSent    Happening = "not sent"   // a step, or its undo, ended without another attempt
	Resolved   Happening = "resolved"   // somebody decided about a stuck undo
	PlanCancel Happening = "plan cancelled"
	Unwound    Happening = "unwound"   // a plan that had ended is to be undone
	Valued     Happening = "value"     // the handler took a value from its run
	Signalled  Happening = "signal"    // the handler took a signal
	Slept      Happening = "slept"     // the handler sleeps
	RunCancel  Happening = "cancelled" // the run was
	Adopted    Happening = "adopted"   // a plan goes on in another shape
	Finished   Happening = "finished"
	SetAside   Happening = "parked"
	BeginStuck Happening = "stuck"    // an undo, or a step after the pivot, needs a person from now on
	Operated   Happening = "operator" // somebody did Name ("cancel", "terminate", "signal" …), from Node
)

// Plan is one plan of a run.
type Plan struct {
	Name     string `json:"name"`
	Rollback bool   `json:"rollback"`
	Steps    []Step `json:"steps"`
}

// Step is one step of a plan.
type Step struct {
	Name        string           `json:"name"`
	Kind        string           `json:"kind"`
	Target      string           `json:"target"`
	After       []string         `json:"after,omitempty"`
	State       StepState        `json:"state"`
	Node        cluster.NodeName `json:"node,omitempty"`    // where it ran last
	Attempt     int              `json:"attempt,omitempty"` // counted from 1
	UndoAttempt int              `json:"undo_attempt,omitempty"`
	Late        int              `json:"late,omitempty"` // results of given-up attempts that came later
	Started     time.Time        `json:"started,omitzero"`
	Ended       time.Time        `json:"ended,omitzero"`
	Error       string           `json:"error,omitempty"`
	Attempts    []Attempt        `json:"attempts,omitempty"` // of a durable run: all of them, in order
}

// Attempt is one try of a step, or of its undo, in a durable run.
type Attempt struct {
	Number  int              `json:"number"`         // counted from 1, apart for the step and its undo
	Undo    bool             `json:"undo,omitempty"` // it was to undo the step
	Node    cluster.NodeName `json:"node"`
	Sent    time.Time        `json:"sent"`
	Ended   time.Time        `json:"ended,omitzero"`    // when the journal learnt its outcome
	Outcome string           `json:"outcome,omitempty"` // "ok", "failed, clean", "failed, dirty", "never ran" or "unknown"; empty while it is awaited
	Error   string           `json:"error,omitempty"`
}

// Approval is somebody's decision about what a durable run asked for.
type Approval struct {
	Approved bool   `json:"approved"`
	By       string `json:"by,omitempty"`
	Reason   string `json:"reason,omitempty"`
}

// RunState is the state of a run in words.
type RunState string

// The states of a run. The last four are final.
const (
	Running     RunState = "running"
	Cancelling  RunState = "cancelling"
	RollingBack RunState = "rolling back"
	Stuck       RunState = "stuck"   // an undo, or a step after the pivot, keeps failing and waits for distgear.Node's ResolveUndo
	Waiting     RunState = "waiting" // durable: for an instant or a signal, or for a node
	Parked      RunState = "parked"  // durable: a person has to decide how it goes on
	OK          RunState = "ok"
	Failed      RunState = "failed"
	RolledBack  RunState = "rolled back" // failed, and all that had to be undone was undone
	Cancelled   RunState = "cancelled"
)

// Final tells whether the run has ended.
func (s RunState) Final() bool {
	return s == OK || s == Failed || s == RolledBack || s == Cancelled
}

// StepState is the state of a step in words: "waiting", "running", "retrying",
// "ok", "failed", "unknown", "never ran", "skipped", "undoing", "undone",
// "stuck", "undo skipped" or "marked undone".
type StepState string

// Resolution is what an operator decides about a stuck undo.
type Resolution string

// The resolutions.
const (
	Retry    Resolution = "retry" // try the undo again
	Skip     Resolution = "skip"  // leave the step as it is; the run is not rolled back then
	MarkDone Resolution = "done"  // it was undone by hand
)
