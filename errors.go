package distgear

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/distgear/distgear/cluster"
	"github.com/distgear/distgear/internal/wire"
)

// The sentinels. errors.Is finds them also in what came from another node.
var (
	// ErrNoNode: no live node matches the target and handles the kind. Never ran.
	ErrNoNode = errors.New("distgear: no node for this target and kind")
	// ErrLeft: this node, or the one addressed, has left or is draining. Never ran.
	ErrLeft = errors.New("distgear: node has left")
	// ErrOverloaded: too much is in flight to that node; try later. Never ran.
	ErrOverloaded = errors.New("distgear: too many commands in flight")
	// ErrInvalid: the plan, input or option cannot work. Never ran.
	ErrInvalid = errors.New("distgear: invalid")
	// ErrQueueTimeout: the command did not start in time. Never ran.
	ErrQueueTimeout = errors.New("distgear: not started in time")
	// ErrUnknown: nobody confirmed anything. It may have run, or run still.
	ErrUnknown = errors.New("distgear: outcome unknown")
	// ErrTimeout: it ran longer than it may and ended after it was told to stop.
	ErrTimeout = errors.New("distgear: ran into its timeout")
	// ErrCancelled: the run was cancelled.
	ErrCancelled = errors.New("distgear: cancelled")
	// ErrConflict: the ID belongs to another run, with another input.
	ErrConflict = errors.New("distgear: this ID is another run's")
	// ErrNoRun: no node remembers a run with that ID.
	ErrNoRun = errors.New("distgear: no such run")
	// ErrRefused: the hub, or a handler of NodeJoin, refused the node.
	ErrRefused = errors.New("distgear: the cluster refused this node")
)

// Outcome is what is known of a command: the zero value is unknown.
type Outcome uint8

// The outcomes.
const (
	Unknown     Outcome = iota // nobody confirmed anything
	OK                         // it ran and returned a result
	FailedClean                // it ran, failed, and says that nothing was changed
	FailedDirty                // it ran, failed, and may have had effects
	NeverRan                   // it did not start, and will not
)

var outcomeNames = [...]string{"unknown", "ok", "failed clean", "failed", "never ran"}

// String is the outcome in words.
func (o Outcome) String() string {
	if int(o) < len(outcomeNames) {
		return outcomeNames[o]
	}
	return fmt.Sprintf("outcome %d", uint8(o))
}

// OutcomeOf tells what err says about the command it came from: OK for nil,
// and Unknown where it says nothing.
func OutcomeOf(err error) Outcome {
	if err == nil {
		return OK
	}
	if r, ok := errors.AsType[*RemoteError](err); ok {
		return r.Outcome
	}
	if m, ok := errors.AsType[*marked](err); ok && m.clean {
		return FailedClean
	}
	for _, e := range []error{ErrNoNode, ErrLeft, ErrOverloaded, ErrInvalid, ErrQueueTimeout, ErrRefused, ErrNoRun} {
		if errors.Is(err, e) {
			return NeverRan
		}
	}
	return Unknown
}

// RemoteError is the failure of a command that a node reported, be it another
// one or the same. errors.Is finds the sentinels that the handler's error
// wrapped: those without anything below them, told apart by their type and text.
type RemoteError struct {
	Node    cluster.NodeName // where it happened
	Kind    string           // the action or event
	Message string           // the text of the handler's error
	Outcome Outcome          // FailedClean, FailedDirty or NeverRan
	Stack   string           // of a panic, else empty

	chain     []string
	permanent bool
	refused   bool // NeverRan, and another try soon may do
	cancelled bool
	after     time.Duration
}

// Error names kind, node and cause.
func (e *RemoteError) Error() string {
	return fmt.Sprintf("%s on %s: %s", e.Kind, e.Node, e.Message)
}

// Is tells whether the handler's error wrapped target.
func (e *RemoteError) Is(target error) bool {
	if len(e.chain) == 0 {
		return false
	}
	id := identity(target)
	for _, s := range e.chain {
		if s == id {
			return true
		}
	}
	return false
}

// PlanError is what Run.Do returns for a plan that failed or was cancelled.
type PlanError struct {
	Plan       string
	Step       string // the first that failed; empty when it was cancelled before
	Err        error  // why
	RolledBack bool   // all that had to be undone was undone
	Rollback   bool   // the plan has Rollback
}

// Error tells the step, the cause, and what became of the rollback.
func (e *PlanError) Error() string {
	what := ""
	switch {
	case e.RolledBack:
		what = " (rolled back)"
	case e.Rollback:
		what = " (not all of it was undone)"
	}
	if e.Step == "" {
		return fmt.Sprintf("plan %s: %v%s", e.Plan, e.Err, what)
	}
	return fmt.Sprintf("plan %s: step %s: %v%s", e.Plan, e.Step, e.Err, what)
}

// Unwrap is the cause.
func (e *PlanError) Unwrap() error { return e.Err }

// marked is an error with a mark for the framework.
type marked struct {
	error
	clean, permanent bool
	unread           bool // its input could not be read: it never ran
	after            time.Duration
}

func (m *marked) Unwrap() error { return m.error }

// Clean says that a failed action changed nothing: it is retried freely, and
// never undone. Clean(nil) is nil.
func Clean(err error) error {
	if err == nil {
		return nil
	}
	return &marked{error: err, clean: true}
}

// Permanent says that trying again is useless. Permanent(nil) is nil.
func Permanent(err error) error {
	if err == nil {
		return nil
	}
	return &marked{error: err, permanent: true}
}

// RetryAfter says that nothing was changed and that trying again makes sense,
// but no earlier than after d. RetryAfter(nil, d) is nil.
func RetryAfter(err error, d time.Duration) error {
	if err == nil {
		return nil
	}
	return &marked{error: err, clean: true, after: d}
}

const (
	flagPermanent = wire.Permanent << iota
	flagRefused
	flagCancelled
)

// maxMessage bounds, in bytes, each text of an error that travels.
const maxMessage = 8 << 10

// failure is the report of a handler's error.
func failure(err error) wire.Report {
	r := wire.Report{Outcome: wire.Dirty, Over: true, Error: &wire.Error{Message: clip(err.Error())}}
	var f *RemoteError
	if errors.As(err, &f) { // of a command the handler had sent: its sentinels pass on
		r.Error.Chain = f.chain
	}
	for e := range leaves(err) {
		r.Error.Chain = append(r.Error.Chain, clip(identity(e)))
	}
	walkMarks(err, func(m *marked) {
		switch {
		case m.unread:
			r.Outcome = wire.NeverRan
		case m.clean:
			r.Outcome = wire.Clean
		}
		if m.permanent {
			r.Error.Flags |= flagPermanent
		}
		if m.after > 0 {
			r.Error.AfterMS = uint32(min(m.after.Milliseconds(), 1<<31))
		}
	})
	return r
}

// neverRan is the report of a command that was not started.
func neverRan(err error, flags uint8) wire.Report {
	r := failure(err)
	r.Outcome = wire.NeverRan
	r.Error.Flags |= flags
	return r
}

// reportError is the inverse of failure, at the caller.
func reportError(r wire.Report, node cluster.NodeName, kind string) error {
	if r.Outcome == wire.OK {
		return nil
	}
	if r.Outcome == wire.Unknown {
		why := "no report came in time"
		if r.Over {
			why = "its session ended"
		}
		return fmt.Errorf("%w: %s on %s: %s", ErrUnknown, kind, node, why)
	}
	e := &RemoteError{Node: node, Kind: kind, Outcome: Outcome(r.Outcome)}
	if w := r.Error; w != nil {
		e.Message, e.Stack, e.chain = w.Message, w.Stack, w.Chain
		e.permanent, e.refused, e.cancelled = w.Flags&flagPermanent != 0, w.Flags&flagRefused != 0, w.Flags&flagCancelled != 0
		e.after = time.Duration(w.AfterMS) * time.Millisecond
	}
	return e
}

func identity(err error) string { return fmt.Sprintf("%T:%v", err, err) }

// leaves yields the errors of the tree that wrap nothing.
func leaves(err error) func(yield func(error) bool) {
	return func(yield func(error) bool) {
		left := 16 // of a tree that large nobody asks
		var walk func(error) bool
		walk = func(e error) bool {
			switch x := e.(type) { //nolint:errorlint // it walks the tree itself
			case nil:
				return true
			case interface{ Unwrap() error }:
				return walk(x.Unwrap())
			case interface{ Unwrap() []error }:
				for _, c := range x.Unwrap() {
					if !walk(c) {
						return false
					}
				}
				return true
			}
			if _, ok := e.(*RemoteError); ok { //nolint:errorlint // it walks the tree itself
				return true
			}
			left--
			return left >= 0 && yield(e)
		}
		walk(err)
	}
}

// walkMarks calls f for the marks anywhere in the tree of err, as OutcomeOf
// looks for them.
func walkMarks(err error, f func(*marked)) {
	if m, ok := err.(*marked); ok { //nolint:errorlint // it walks the tree itself
		f(m)
	}
	switch x := err.(type) { //nolint:errorlint // it walks the tree itself
	case interface{ Unwrap() error }:
		walkMarks(x.Unwrap(), f)
	case interface{ Unwrap() []error }:
		for _, c := range x.Unwrap() {
			walkMarks(c, f)
		}
	}
}

func clip(s string) string {
	if len(s) > maxMessage {
		return s[:maxMessage] + "…"
	}
	return s
}

// gaveUp is the error of a caller whose context ended first.
func gaveUp(ctx context.Context, kind string, node cluster.NodeName) error {
	return fmt.Errorf("%w: stopped waiting for %s on %s: %w", ErrUnknown, kind, node, context.Cause(ctx))
}
