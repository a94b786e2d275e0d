package distgear

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/distgear/distgear/cluster"
	"github.com/distgear/distgear/internal/fault"
	"github.com/distgear/distgear/internal/wire"
)

// The sentinels. errors.Is finds them also in what came from another node.
var (
	// ErrNoNode: no live node matches the target and handles the kind. Never ran.
	ErrNoNode = fault.ErrNoNode
	// ErrLeft: this node, or the one addressed, has left or is draining. Never ran.
	ErrLeft = fault.ErrLeft
	// ErrOverloaded: too much is in flight to that node; try later. Never ran.
	ErrOverloaded = fault.ErrOverloaded
	// ErrInvalid: the plan, input or option cannot work. Never ran.
	ErrInvalid = fault.ErrInvalid
	// ErrQueueTimeout: the command did not start in time. Never ran.
	ErrQueueTimeout = fault.ErrQueueTimeout
	// ErrUnknown: nobody confirmed anything. It may have run, or run still.
	ErrUnknown = fault.ErrUnknown
	// ErrTimeout: it ran longer than it may and ended after it was told to stop.
	ErrTimeout = fault.ErrTimeout
	// ErrCancelled: the run was cancelled.
	ErrCancelled = fault.ErrCancelled
	// ErrConflict: the ID belongs to another run, with another input.
	ErrConflict = fault.ErrConflict
	// ErrNoRun: no node remembers a run with that ID.
	ErrNoRun = fault.ErrNoRun
	// ErrRefused: the hub, or a handler of NodeJoin, refused the node.
	ErrRefused = fault.ErrRefused
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
	if fault.IsClean(err) {
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

	trace *fault.Trace
}

// Error names kind, node and cause.
func (e *RemoteError) Error() string {
	return fmt.Sprintf("%s on %s: %s", e.Kind, e.Node, e.Message)
}

// Unwrap is what the handler's error wrapped, for errors.Is.
func (e *RemoteError) Unwrap() error {
	if e.trace == nil {
		return nil
	}
	return e.trace
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

// Clean says that a failed action changed nothing: it is retried freely, and
// never undone. Clean(nil) is nil.
func Clean(err error) error {
	if err == nil {
		return nil
	}
	return fault.Clean(err)
}

// Permanent says that trying again is useless. Permanent(nil) is nil.
func Permanent(err error) error {
	if err == nil {
		return nil
	}
	return fault.Marked(err, fault.Mark{Permanent: true})
}

// RetryAfter says that nothing was changed and that trying again makes sense,
// but no earlier than after d. RetryAfter(nil, d) is nil.
func RetryAfter(err error, d time.Duration) error {
	if err == nil {
		return nil
	}
	return fault.Marked(err, fault.Mark{Clean: true, After: d})
}

// reportError is the error that a report stands for, at the caller.
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
	e := &RemoteError{Node: node, Kind: kind, Outcome: Outcome(r.Outcome), trace: fault.TraceOf(r.Error)}
	if r.Error != nil {
		e.Message, e.Stack = r.Error.Message, r.Error.Stack
	}
	return e
}

// gaveUp is the error of a caller whose context ended first.
func gaveUp(ctx context.Context, kind string, node cluster.NodeName) error {
	return fmt.Errorf("%w: stopped waiting for %s on %s: %w", ErrUnknown, kind, node, context.Cause(ctx))
}
