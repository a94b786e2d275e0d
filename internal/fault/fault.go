// Package fault is how errors travel: the sentinels, the marks that handlers
// put on errors, and what of an error's tree crosses the wire.
//
//	r := fault.Report(err)        // where it happened: a report
//	t := fault.TraceOf(r.Error)   // at the caller: errors.Is(t, fault.ErrNoNode)
//
// # Guarantees
//
// errors.Is finds at the caller each error that wrapped nothing at its origin,
// told apart by type and text, over any number of nodes.
//
// # Failures
//
// None.
package fault

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/distgear/distgear/internal/wire"
)

// The sentinels; the root package says what they mean.
var (
	ErrNoNode       = errors.New("distgear: no node for this target and kind")
	ErrLeft         = errors.New("distgear: node has left")
	ErrOverloaded   = errors.New("distgear: too many commands in flight")
	ErrInvalid      = errors.New("distgear: invalid")
	ErrQueueTimeout = errors.New("distgear: not started in time")
	ErrUnknown      = errors.New("distgear: outcome unknown")
	ErrTimeout      = errors.New("distgear: ran into its timeout")
	ErrCancelled    = errors.New("distgear: cancelled")
	ErrConflict     = errors.New("distgear: this ID is another run's")
	ErrNoRun        = errors.New("distgear: no such run")
	ErrRefused      = errors.New("distgear: the cluster refused this node")
	ErrSuspended    = errors.New("distgear: the run goes on later, or elsewhere")
)

// Flags of an error on the wire.
const (
	Permanent uint8 = wire.Permanent << iota // trying again is useless
	Refused                                  // it never ran, and another try soon may do
	Cancelled                                // it was told to stop
)

// Mark is an error with a mark for the framework.
type Mark struct {
	error

	Clean     bool // it says that nothing was changed
	NeverRan  bool // it did not even begin
	Permanent bool
	After     time.Duration // try again no earlier
}

// Marked puts a mark on an error, which must not be nil.
func Marked(err error, m Mark) error {
	m.error = err
	return &m
}

// Clean says that nothing was changed.
func Clean(err error) error { return Marked(err, Mark{Clean: true}) }

// Useless says that nothing was changed, and that trying again is useless.
func Useless(err error) error { return Marked(err, Mark{Clean: true, Permanent: true}) }

// Unwrap is what is marked.
func (m *Mark) Unwrap() error { return m.error }

// Trace is what a report says about the tree of an error.
type Trace struct {
	Chain []string // identities of the errors that wrapped nothing
	Flags uint8
	After time.Duration
}

// TraceOf is the trace in a report's error; nil is that of none.
func TraceOf(w *wire.Error) *Trace {
	if w == nil {
		return &Trace{}
	}
	return &Trace{w.Chain, w.Flags, time.Duration(w.AfterMS) * time.Millisecond}
}

// Error lists what the trace tells.
func (t *Trace) Error() string { return strings.Join(t.Chain, "; ") }

// Is tells whether the error wrapped target.
func (t *Trace) Is(target error) bool {
	if len(t.Chain) == 0 {
		return false
	}
	id := identity(target)
	for _, s := range t.Chain {
		if s == id {
			return true
		}
	}
	return false
}

// Has tells whether a flag is set; a nil trace has none.
func (t *Trace) Has(flag uint8) bool { return t != nil && t.Flags&flag != 0 }

// Wish is how long the handler asked to wait before another try; a nil trace
// has no wish.
func (t *Trace) Wish() time.Duration {
	if t == nil {
		return 0
	}
	return t.After
}

// maxText bounds, in bytes, each text of an error that travels.
const maxText = 8 << 10

// Clip shortens a text to what travels.
func Clip(s string) string {
	if len(s) > maxText {
		return s[:maxText] + "…"
	}
	return s
}

// Report is the report of a handler's error.
func Report(err error) wire.Report {
	w := &wire.Error{Message: Clip(err.Error())}
	r := wire.Report{Outcome: wire.Dirty, Over: true, Error: w}
	left := 16 // of a tree that large nobody asks
	walk(err, func(e error) bool {
		switch e := e.(type) { //nolint:errorlint // walk takes the tree apart
		case *Mark:
			switch {
			case e.NeverRan:
				r.Outcome = wire.NeverRan
			case e.Clean:
				r.Outcome = wire.Clean
			}
			if e.Permanent {
				w.Flags |= Permanent
			}
			if e.After > 0 {
				w.AfterMS = uint32(min(e.After.Milliseconds(), 1<<31))
			}
		case *Trace: // of a command that the handler had sent: its sentinels pass on
			w.Chain = append(w.Chain, e.Chain...)
			return false
		}
		return true
	}, func(leaf error) {
		if left--; left >= 0 {
			w.Chain = append(w.Chain, Clip(identity(leaf)))
		}
	})
	return r
}

// NeverRan is the report of a command that was not started.
func NeverRan(err error, flags uint8) wire.Report {
	r := Report(err)
	r.Outcome = wire.NeverRan
	r.Error.Flags |= flags
	return r
}

func identity(err error) string { return fmt.Sprintf("%T:%v", err, err) }

// walk goes over the tree of err: visit sees every error and tells whether to
// go on below it, leaf those that wrap nothing.
func walk(err error, visit func(error) bool, leaf func(error)) {
	if err == nil || !visit(err) {
		return
	}
	switch x := err.(type) { //nolint:errorlint // it takes the tree apart
	case interface{ Unwrap() error }:
		walk(x.Unwrap(), visit, leaf)
	case interface{ Unwrap() []error }:
		for _, c := range x.Unwrap() {
			walk(c, visit, leaf)
		}
	default:
		leaf(err)
	}
}

// IsClean tells whether anything in the tree of err says that nothing was changed.
func IsClean(err error) (clean bool) {
	walk(err, func(e error) bool {
		m, ok := e.(*Mark) //nolint:errorlint // walk takes the tree apart
		clean = clean || ok && m.Clean
		return !clean
	}, func(error) {})
	return clean
}
