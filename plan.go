package distgear

import (
	"errors"
	"fmt"
	"math"

	"github.com/distgear/distgear/cluster"
	"github.com/distgear/distgear/internal/codec"
	"github.com/distgear/distgear/internal/naming"
	"github.com/distgear/distgear/internal/payload"
	"github.com/distgear/distgear/internal/runs"
	"github.com/distgear/distgear/record"
)

// Plan is a graph of commands run as one by Run.Do. The zero value is an empty
// plan; a plan is run once. It is not safe for concurrent use.
type Plan struct {
	Name string // shown in records and part of the steps' keys; empty means its number in the run
	// Rollback: at the first failure no further step starts, what runs is
	// awaited, and then what was done, or may have been, is undone: dependents
	// first. Without it only what depends on a failed step is skipped.
	Rollback bool
	// Via is another cluster's node of this process: the steps run in that
	// cluster. Nil means the cluster of the run.
	Via *Node

	in     runs.Plan
	after  []int  // the edges, step by step
	inputs []byte // those that share an allocation
	faults []error
	ran    bool

	// Where the slices begin: most plans need no other space.
	space struct {
		steps  [8]*runs.Step
		after  [8]int
		inputs [96]byte
	}
}

// Dep is a step that another step comes after.
type Dep interface{ dep() (*Plan, int) }

// Step is a command's place in a plan. Its result can be read once Run.Do has
// returned, and in the StepFunc of steps that come after it.
type Step[Out any] struct {
	s     runs.Step
	plan  *Plan
	index int
}

func (s *Step[Out]) dep() (*Plan, int) {
	if s == nil {
		return nil, 0
	}
	return s.plan, s.index
}

// Named names the step: names are unique in a plan. A step that is not named
// is called after its kind.
func (s *Step[Out]) Named(name string) *Step[Out] {
	if name == "" {
		s.plan.faults = append(s.plan.faults, fmt.Errorf("step %d (%s) has an empty name", s.index+1, s.s.Kind))
	}
	s.s.Name = name
	return s
}

// Pivot marks the step after which the plan only goes forward: once it is OK,
// later failures are retried and nothing is rolled back.
func (s *Step[Out]) Pivot() *Step[Out] {
	s.s.Pivot = true
	return s
}

// Node is where the step ran last; empty if it never did.
func (s *Step[Out]) Node() cluster.NodeName { return s.s.Node }

// Result is the step's result, or why there is none.
func (s *Step[Out]) Result() (Out, error) {
	var none Out
	switch {
	case !s.s.Ended:
		return none, fmt.Errorf("%w: step %s has not run", ErrInvalid, s.s.Name)
	case s.s.Err != nil:
		return none, s.s.Err
	}
	out, err := codec.Of[Out]{}.New(s.s.Result)
	if err != nil {
		return none, fmt.Errorf("%w: result of step %s: %w", ErrInvalid, s.s.Name, err)
	}
	return out, nil
}

// Step adds a command to a plan, to run once all steps in after are OK.
// Faults (an input that cannot be encoded, a step of another plan) are told by
// Run.Do, all at once.
func (a *Action[In, Out]) Step(p *Plan, on Target, in In, after ...Dep) *Step[Out] {
	s := a.add(p, on, after)
	setInput(p, &s.s, in)
	return s
}

// StepFunc is Step with an input that is computed when the steps before it
// are OK. in is called on the goroutine of the handler, in Run.Do; its error
// fails the step, which then never ran. Of a durable event it should compute and
// do nothing else: a result that it sees is in the journal only together with what it
// returns, and if this node dies before that it is called again, elsewhere.
func (a *Action[In, Out]) StepFunc(p *Plan, on Target, in func() (In, error), after ...Dep) *Step[Out] {
	s := a.add(p, on, after)
	s.s.Encode = encoder(a.Name, in)
	return s
}

func (a *Action[In, Out]) add(p *Plan, on Target, after []Dep) *Step[Out] {
	s := &Step[Out]{plan: p, index: len(p.in.Steps)}
	s.s.Kind, s.s.Undo, s.s.Idem, s.s.Retries = a.Name, a.Undo != nil, a.Idempotent, int32(min(a.Retries, math.MaxInt32))
	s.s.Timeout, s.s.Queue = or(a.Timeout, defaultTimeout), or(a.Queue, defaultQueue)
	p.join(&s.s, on, after)
	return s
}

// Step adds an event as a step: it is handled at the target, which may be the
// master of a cluster of its own. Undoing the step rolls the event's run back,
// also when it has finished.
func (e *Event[In, Out]) Step(p *Plan, on Target, in In, after ...Dep) *Step[Out] {
	s := e.add(p, on, after)
	setInput(p, &s.s, in)
	return s
}

// StepFunc is Step with an input that is computed when the steps before it
// are OK; see Action.StepFunc.
func (e *Event[In, Out]) StepFunc(p *Plan, on Target, in func() (In, error), after ...Dep) *Step[Out] {
	s := e.add(p, on, after)
	s.s.Encode = encoder(e.Name, in)
	return s
}

func (e *Event[In, Out]) add(p *Plan, on Target, after []Dep) *Step[Out] {
	s := &Step[Out]{plan: p, index: len(p.in.Steps)}
	s.s.Kind, s.s.Event, s.s.Undo, s.s.Timeout, s.s.Queue = e.Name, true, true, e.Timeout, defaultQueue
	s.s.Durable, s.s.Idem = e.Durable, e.Durable // it is the same run wherever it is asked for
	p.join(&s.s, on, after)
	return s
}

func (p *Plan) join(s *runs.Step, on Target, after []Dep) {
	s.On = on.to
	if p.in.Steps == nil {
		p.in.Steps, p.after, p.inputs = p.space.steps[:0], p.space.after[:0], p.space.inputs[:0]
	}
	begin := len(p.after)
	for _, d := range after {
		var of *Plan
		var i int
		if d != nil {
			of, i = d.dep()
		}
		if of != p {
			p.faults = append(p.faults, fmt.Errorf("step %d (%s) comes after a step of another plan, or nil", len(p.in.Steps)+1, s.Kind))
			continue
		}
		p.after = append(p.after, i)
	}
	s.After = p.after[begin:len(p.after):len(p.after)]
	p.in.Steps = append(p.in.Steps, s)
}

// maxShared is how much of the inputs shares one allocation.
const maxShared = 4 << 10

func setInput[In any](p *Plan, s *runs.Step, in In) {
	if len(p.inputs) > maxShared {
		p.inputs = nil
	}
	begin := len(p.inputs)
	b, err := codec.Append(p.inputs, in)
	if err != nil {
		p.faults = append(p.faults, fmt.Errorf("input of step %d (%s): %w", len(p.in.Steps), s.Kind, err))
		return
	}
	p.inputs, s.Input = b, b[begin:len(b):len(b)]
}

// encoder appends what in returns.
func encoder[In any](kind string, in func() (In, error)) func([]byte) ([]byte, error) {
	return func(b []byte) (_ []byte, err error) {
		defer func() {
			if v := recover(); v != nil {
				err = fmt.Errorf("its input: panic: %v", v)
			}
		}()
		v, err := in()
		if err != nil {
			return nil, fmt.Errorf("its input: %w", err)
		}
		begin := len(b)
		if b, err = codec.Append(b, v); err == nil && len(b)-begin > MaxPayload {
			err = payload.TooLarge(kind, len(b)-begin)
		}
		return b, err
	}
}

// validate names the steps and finds all faults (S1).
func (p *Plan) validate(n *Node, run record.RunID) error {
	if p.ran {
		return fmt.Errorf("%w: plan %s has run already: make a new one", ErrInvalid, p.Name)
	}
	p.ran = true
	faults := append(p.faults, naming.Steps(string(run), p.Name, p.in.Steps)...)
	for _, s := range p.in.Steps {
		if err := s.On.Check(); err != nil {
			faults = append(faults, fmt.Errorf("step %s: %w", s.Name, err))
		}
		if len(s.Input) > MaxPayload {
			faults = append(faults, fmt.Errorf("step %s: %w", s.Name, payload.TooLarge(s.Kind, len(s.Input))))
		}
		if s.On.Name == "" || s.On.Name == n.name {
			if !n.where.Known(s.Kind) {
				faults = append(faults, fmt.Errorf("step %s: %w: nobody handles %q", s.Name, ErrNoNode, s.Kind))
			}
		}
	}
	if len(faults) > 0 {
		return fmt.Errorf("%w: plan %s: %w", ErrInvalid, p.Name, errors.Join(faults...))
	}
	return nil
}
