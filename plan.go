package distgear

import (
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/distgear/distgear/cluster"
	"github.com/distgear/distgear/internal/codec"
	"github.com/distgear/distgear/internal/plan"
	"github.com/distgear/distgear/internal/wire"
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

	steps  []*step
	faults []error
	ran    bool
}

// Dep is a step that another step comes after.
type Dep interface{ dep() *step }

// step is the part of a Step that does not depend on types.
type step struct {
	plan    *Plan
	index   int
	name    string
	named   bool
	kind    string
	on      Target
	after   []int
	encode  func() ([]byte, error) // nil when input holds it
	input   []byte
	event   bool
	undo    bool
	pivot   bool
	idem    bool
	timeout time.Duration // zero: no limit
	queue   time.Duration
	retries int

	ended  bool // the fields below are set
	err    error
	result []byte
	node   cluster.NodeName
}

// Step is a command's place in a plan. Its result can be read once Run.Do has
// returned, and in the StepFunc of steps that come after it.
type Step[Out any] struct{ s step }

func (s *Step[Out]) dep() *step {
	if s == nil {
		return nil
	}
	return &s.s
}

// Named names the step: names are unique in a plan. A step that is not named
// is called after its kind.
func (s *Step[Out]) Named(name string) *Step[Out] {
	s.s.name, s.s.named = name, true
	return s
}

// Pivot marks the step after which the plan only goes forward: once it is OK,
// later failures are retried and nothing is rolled back.
func (s *Step[Out]) Pivot() *Step[Out] {
	s.s.pivot = true
	return s
}

// Node is where the step ran last; empty if it never did.
func (s *Step[Out]) Node() cluster.NodeName { return s.s.node }

// Result is the step's result, or why there is none.
func (s *Step[Out]) Result() (Out, error) {
	var out Out
	switch {
	case !s.s.ended:
		return out, fmt.Errorf("%w: step %s has not run", ErrInvalid, s.s.name)
	case s.s.err != nil:
		return out, s.s.err
	}
	if err := codec.Decode(s.s.result, &out); err != nil {
		return out, fmt.Errorf("%w: result of step %s: %w", ErrInvalid, s.s.name, err)
	}
	return out, nil
}

// Step adds a command to a plan, to run once all steps in after are OK.
// Faults (an input that cannot be encoded, a step of another plan) are told by
// Run.Do, all at once.
func (a *Action[In, Out]) Step(p *Plan, on Target, in In, after ...Dep) *Step[Out] {
	s := a.add(p, on, after)
	setInput(&s.s, in)
	return s
}

// StepFunc is Step with an input that is computed when the steps before it
// are OK. in is called on the goroutine of the handler, in Run.Do; its error
// fails the step, which then never ran.
func (a *Action[In, Out]) StepFunc(p *Plan, on Target, in func() (In, error), after ...Dep) *Step[Out] {
	s := a.add(p, on, after)
	s.s.encode = encoder(in)
	return s
}

func (a *Action[In, Out]) add(p *Plan, on Target, after []Dep) *Step[Out] {
	s := &Step[Out]{step{
		kind: a.Name, undo: a.Undo != nil, idem: a.Idempotent, retries: a.Retries,
		timeout: or(a.Timeout, defaultTimeout), queue: or(a.Queue, defaultQueue),
	}}
	s.s.join(p, on, after)
	return s
}

// Step adds an event as a step: it is handled at the target, which may be the
// master of a cluster of its own. Undoing the step rolls the event's run back,
// also when it has finished.
func (e *Event[In, Out]) Step(p *Plan, on Target, in In, after ...Dep) *Step[Out] {
	s := e.add(p, on, after)
	setInput(&s.s, in)
	return s
}

// StepFunc is Step with an input that is computed when the steps before it
// are OK; see Action.StepFunc.
func (e *Event[In, Out]) StepFunc(p *Plan, on Target, in func() (In, error), after ...Dep) *Step[Out] {
	s := e.add(p, on, after)
	s.s.encode = encoder(in)
	return s
}

func (e *Event[In, Out]) add(p *Plan, on Target, after []Dep) *Step[Out] {
	s := &Step[Out]{step{kind: e.Name, event: true, undo: true, timeout: e.Timeout, queue: defaultQueue}}
	s.s.join(p, on, after)
	return s
}

func (s *step) join(p *Plan, on Target, after []Dep) {
	s.plan, s.on, s.index = p, on, len(p.steps)
	if len(after) > 0 {
		s.after = make([]int, 0, len(after))
	}
	for _, d := range after {
		var b *step
		if d != nil {
			b = d.dep()
		}
		if b == nil || b.plan != p {
			p.faults = append(p.faults, fmt.Errorf("step %d (%s) comes after a step of another plan, or nil", s.index+1, s.kind))
			continue
		}
		s.after = append(s.after, b.index)
	}
	p.steps = append(p.steps, s)
}

func setInput[In any](s *step, in In) {
	b, err := codec.Append(nil, in)
	if err != nil {
		s.plan.faults = append(s.plan.faults, fmt.Errorf("input of step %d (%s): %w", s.index+1, s.kind, err))
	}
	s.input = b
}

func encoder[In any](in func() (In, error)) func() ([]byte, error) {
	return func() (b []byte, err error) {
		defer func() {
			if v := recover(); v != nil {
				err = fmt.Errorf("its input: panic: %v", v)
			}
		}()
		v, err := in()
		if err != nil {
			return nil, fmt.Errorf("its input: %w", err)
		}
		return codec.Append(nil, v)
	}
}

// validate names the steps and finds all faults (S1).
func (p *Plan) validate(n *Node) error {
	if p.ran {
		return fmt.Errorf("%w: plan %s has run already: make a new one", ErrInvalid, p.Name)
	}
	p.ran = true
	faults := p.faults
	names := make(map[string]bool, len(p.steps))
	for _, s := range p.steps {
		if s.named {
			if names[s.name] || s.name == "" {
				faults = append(faults, fmt.Errorf("two steps are named %q", s.name))
			}
			names[s.name] = true
		}
	}
	for _, s := range p.steps {
		if !s.named {
			s.name = s.kind
			for i := 2; names[s.name]; i++ {
				s.name = s.kind + "-" + strconv.Itoa(i)
			}
			names[s.name] = true
		}
		if err := s.on.check(); err != nil {
			faults = append(faults, fmt.Errorf("step %s: %w", s.name, err))
		}
		if len(s.input) > MaxPayload {
			faults = append(faults, fmt.Errorf("step %s: %w", s.name, tooLarge(s.kind, len(s.input))))
		}
		if s.on.name == "" || s.on.name == n.name {
			if !n.known(s.kind) {
				faults = append(faults, fmt.Errorf("step %s: %w: nobody handles %q", s.name, ErrNoNode, s.kind))
			}
		}
	}
	if len(faults) > 0 {
		return fmt.Errorf("%w: plan %s: %w", ErrInvalid, p.Name, errors.Join(faults...))
	}
	return nil
}

// spec is the plan as the pure machine sees it.
func (p *Plan) spec() plan.Spec {
	sp := plan.Spec{Rollback: p.Rollback, Steps: make([]plan.Step, len(p.steps))}
	for i, s := range p.steps {
		sp.Steps[i] = plan.Step{After: s.after, Undo: s.undo, Pivot: s.pivot}
	}
	return sp
}

// command is what a step sends, but for the attempt.
func (s *step) command(key string) wire.Command {
	c := wire.Command{Kind: s.kind, Key: key, Run: uint32(min(s.timeout.Milliseconds(), 1<<31)), Input: s.input}
	if s.event {
		c.Flags |= wire.Nested | wire.Event
	}
	return c
}

// lost is how long a report may take.
func (s *step) lost() time.Duration {
	if s.timeout == 0 {
		return 0
	}
	return s.queue + s.timeout + lostMargin
}
