package runs

import (
	"fmt"
	"strconv"
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
	Name    string // empty until NameSteps, unless the user named it
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
	Durable bool // the event is: its run outlives the node that it was raised at

	// What became of it; the user's to read once Do has returned, or a step
	// after it is OK.
	Err    error
	Result []byte
	Node   cluster.NodeName
	Ended  bool

	key   string // of its attempts
	began int64  // the first attempt, in ns since 1970
	over  int64  // the last, or its undo
}

// The ends of keys.
const (
	doEnd   = "/do"
	undoEnd = "/undo"
)

// fewSteps is up to how many steps a name is looked for without a map.
const fewSteps = 16

// NameSteps names the steps of a run's plan that have no name yet, after their
// kinds, and gives all of them their keys: run/plan/step/do. of is the plan.
// Names that are there twice are faults.
func NameSteps(run, of string, steps []*Step) (faults []error) {
	var numbers map[string]int // of many steps: the last number after a name, at least 1 if it is taken
	if len(steps) > fewSteps {
		numbers = make(map[string]int, len(steps))
	}
	taken := func(name []byte, by []*Step) bool {
		if numbers != nil {
			return numbers[string(name)] > 0
		}
		for _, s := range by {
			if s.Name == string(name) {
				return true
			}
		}
		return false
	}
	var space [160]byte
	size := 0
	for i, s := range steps {
		size += len(run) + len(of) + max(len(s.Name), len(s.Kind)+4) + 2 + len(doEnd)
		if s.Name == "" {
			continue
		}
		if taken(append(space[:0], s.Name...), steps[:i]) {
			faults = append(faults, fmt.Errorf("two steps are named %q", s.Name))
		} else if numbers != nil {
			numbers[s.Name] = 1
		}
	}
	var keys strings.Builder // names and keys are parts of one string
	keys.Grow(size)
	for _, s := range steps {
		name := append(space[:0], s.Name...)
		if s.Name == "" {
			name = append(name, s.Kind...)
			n := max(1, numbers[s.Kind])
			for taken(name, steps) {
				n++
				name = strconv.AppendInt(append(append(name[:0], s.Kind...), '-'), int64(n), 10)
			}
			if numbers != nil {
				numbers[s.Kind] = n
			}
		}
		begin := keys.Len()
		keys.WriteString(run)
		keys.WriteByte('/')
		keys.WriteString(of)
		keys.WriteByte('/')
		at := keys.Len()
		keys.Write(name)
		end := keys.Len()
		keys.WriteString(doEnd)
		s.Name, s.key = keys.String()[at:end], keys.String()[begin:]
		if numbers != nil {
			numbers[s.Name] = max(1, numbers[s.Name])
		}
	}
	return faults
}

// spec is the plan as the pure machine sees it, in a space if that is enough.
func (p *Plan) spec(space []plan.Step) plan.Spec {
	for _, s := range p.Steps {
		space = append(space, plan.Step{After: s.After, Undo: s.Undo, Pivot: s.Pivot})
	}
	return plan.Spec{Rollback: p.Rollback, Steps: space}
}

// command makes what a step sends.
func (s *Step) command(c *wire.Command, attempt int) {
	*c = wire.Command{Kind: s.Kind, Key: s.key, Attempt: uint32(attempt), Run: uint32(min(s.Timeout.Milliseconds(), 1<<31)), Input: s.Input}
	if s.Event {
		c.Flags |= wire.Nested | wire.Event
	}
}

// undoCommand makes what undoing a step sends.
func (s *Step) undoCommand(c *wire.Command, attempt int, u *wire.UndoInput) {
	s.command(c, attempt)
	c.Key = strings.TrimSuffix(s.key, doEnd) + undoEnd
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
