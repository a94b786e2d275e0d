package runs

import (
	"strings"
	"time"

	"github.com/distgear/distgear/cluster"
	"github.com/distgear/distgear/internal/place"
	"github.com/distgear/distgear/internal/plan"
	"github.com/distgear/distgear/internal/wire"
)

// lostMargin is how long after its timeouts a report may come before the
// outcome counts as unknown.
const lostMargin = 5 * time.Second

// Plan is a graph of steps to drive.
type Plan struct {
	Name     string
	Rollback bool
	Steps    []*Step
	Inputs   []byte // those that are computed are appended; who serves a step may keep them
}

// Step is a command's place in a plan.
type Step struct {
	Name    string // empty until it is named, unless the user named it
	Kind    string
	On      place.Target
	After   []int
	Encode  func(b []byte) ([]byte, error) // appends the input; nil when Input holds it
	Input   []byte
	Timeout time.Duration // zero: no limit
	Queue   time.Duration
	Retries int32
	Event   bool
	Undo    bool
	Pivot   bool
	Idem    bool

	// What became of it; the user's to read once Do has returned, or a step
	// after it is OK.
	Err    error
	Result []byte
	Node   cluster.NodeName
	Ended  bool

	Durable bool // the event is: its run outlives the node that it was raised at

	Key   string // of its attempts: run/plan/step/do
	began int64  // the first attempt, in ns since 1970
	over  int64  // the last, or its undo
}

// The ends of keys.
const (
	DoEnd   = "/do"
	UndoEnd = "/undo"
)

// spec is the plan as the pure machine sees it, in a space if that is enough.
func (p *Plan) spec(space []plan.Step) plan.Spec {
	for _, s := range p.Steps {
		space = append(space, plan.Step{After: s.After, Undo: s.Undo, Pivot: s.Pivot})
	}
	return plan.Spec{Rollback: p.Rollback, Steps: space}
}

// command makes what a step sends.
func (s *Step) command(c *wire.Command, attempt int) {
	*c = wire.Command{Kind: s.Kind, Key: s.Key, Attempt: uint32(attempt), Run: uint32(min(s.Timeout.Milliseconds(), 1<<31)), Input: s.Input}
	if s.Event {
		c.Flags |= wire.Nested | wire.Event
	}
}

// undoCommand makes what undoing a step sends.
func (s *Step) undoCommand(c *wire.Command, attempt int, u *wire.UndoInput) {
	s.command(c, attempt)
	c.Key = strings.TrimSuffix(s.Key, DoEnd) + UndoEnd
	c.Flags |= wire.Undo
	c.Input = wire.AppendUndo(nil, u)
}

// lost is how long a report may take.
func (s *Step) lost() time.Duration {
	if s.Timeout == 0 {
		return 0
	}
	return s.Queue + s.Timeout + lostMargin
}

// Failure says how a plan failed, or was cancelled.
type Failure struct {
	Plan       string
	Step       string // the first that failed; empty when it was cancelled before
	Err        error  // why
	RolledBack bool   // all that had to be undone was undone
	Rollback   bool   // the plan has Rollback
}
