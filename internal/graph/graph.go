// Package graph is a plan as it is driven: its steps, what is sent for them, and what
// became of them.
//
//	p := &graph.Plan{Name: "1", Rollback: true, Steps: steps}
//	p.Steps[0].Command(&cmd, attempt)
//
// # Guarantees
//
// What is sent for a step depends on nothing but the step, the number of the attempt
// and, to undo it, what is known of it.
//
// # Failures
//
// None.
package graph

import (
	"strings"
	"time"

	"github.com/distgear/distgear/cluster"
	"github.com/distgear/distgear/internal/journal"
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
	Did   string // the key under which another run did it; empty: none did
	Began int64  // the first attempt, in ns since 1970; for who drives it
	Over  int64  // the last, or its undo
}

// The ends of keys.
const (
	DoEnd   = "/do"
	UndoEnd = "/undo"
)

// Size is about how many bytes it holds on to.
func (p *Plan) Size() (n int) {
	for _, s := range p.Steps {
		n += 512 + len(s.Input) + len(s.Result)
	}
	return n
}

// Spec is the plan as the pure machine sees it, in a space if that is enough.
func (p *Plan) Spec(space []plan.Step) plan.Spec {
	for _, s := range p.Steps {
		space = append(space, plan.Step{After: s.After, Undo: s.Undo, Pivot: s.Pivot})
	}
	return plan.Spec{Rollback: p.Rollback, Steps: space}
}

// Command makes what a step sends.
func (s *Step) Command(c *wire.Command, attempt int) {
	*c = wire.Command{Kind: s.Kind, Key: s.Key, Attempt: uint32(attempt), Run: uint32(min(s.Timeout.Milliseconds(), 1<<31)), Input: s.Input}
	if s.Event {
		c.Flags |= wire.Nested | wire.Event
	}
}

// UndoInput is what an undo is told (S7): the outcome of the step, where it ran last, its
// result if it is OK, else why it is not.
func (s *Step) UndoInput(o wire.Outcome, node cluster.NodeName, out []byte, message string) wire.UndoInput {
	u := wire.UndoInput{In: s.Input, Outcome: o, Node: string(node)}
	if s.Did != "" {
		u.Key = strings.TrimSuffix(s.Did, DoEnd) + UndoEnd
	}
	if o == wire.OK {
		u.Out = out
	} else {
		u.Message = message
	}
	return u
}

// UndoCommand makes what undoing a step sends.
func (s *Step) UndoCommand(c *wire.Command, attempt int, u *wire.UndoInput) {
	s.Command(c, attempt)
	c.Key = strings.TrimSuffix(s.Key, DoEnd) + UndoEnd
	c.Flags |= wire.Undo
	c.Input = wire.AppendUndo(nil, u)
}

// Lost is how long a report may take.
func (s *Step) Lost() time.Duration {
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

// Of is the inverse of Shape, for who has nothing but the journal: only what it
// tells can be driven. Where it has no policies, steps may be tried as often as they were.
func Of(x *journal.PastPlan) *Plan {
	p := &Plan{Name: x.Shape.Name, Rollback: x.Shape.Rollback, Steps: make([]*Step, len(x.Shape.Steps))}
	tries := make([]int32, len(p.Steps))
	for i := range x.Records {
		if t := &x.Records[i]; t.Kind == journal.Sent && !t.Undo {
			tries[t.Step]++
		}
	}
	for i := range x.Shape.Steps {
		was := &x.Shape.Steps[i]
		s := &Step{Name: was.Name, Kind: was.Kind, Event: was.Event, Undo: was.Undo, Pivot: was.Pivot, Retries: max(tries[i]-1, 0), Idem: tries[i] > 1}
		s.Was(was)
		for _, a := range was.After {
			s.After = append(s.After, int(a))
		}
		p.Steps[i] = s
	}
	return p
}

// Was makes of the step what the journal says that it was, as far as its program may have changed it since: its target, input and policies.
func (s *Step) Was(x *journal.Step) {
	s.On = place.Target{Name: cluster.NodeName(x.Node), Labels: x.Labels}
	if in := s.Input; !x.Computed {
		s.Input, s.Encode = x.Input, nil
	} else {
		if s.Encode == nil {
			s.Encode = func(b []byte) ([]byte, error) { return append(b, in...), nil }
		}
		s.Input = nil
	}
	if x.Policy {
		s.Retries, s.Idem, s.Durable = int32(min(x.Retries, 1<<30)), x.Idempotent, x.Durable
	}
}

// Shape is the plan as data.
func (p *Plan) Shape() *journal.Plan {
	x := &journal.Plan{Name: p.Name, Rollback: p.Rollback, Steps: make([]journal.Step, len(p.Steps))}
	for i, s := range p.Steps {
		x.Steps[i] = journal.Step{
			Name: s.Name, Kind: s.Kind, Node: string(s.On.Name), Labels: s.On.Labels, Event: s.Event, Undo: s.Undo, Pivot: s.Pivot, Computed: s.Encode != nil,
			Policy: true, Retries: uint32(max(s.Retries, 0)), Idempotent: s.Idem, Durable: s.Durable,
		}
		for _, a := range s.After {
			x.Steps[i].After = append(x.Steps[i].After, uint32(a))
		}
		if s.Encode == nil {
			x.Steps[i].Input = s.Input
		}
	}
	return x
}
