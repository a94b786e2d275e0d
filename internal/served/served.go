// Package served makes the reports of handlers that have returned.
//
//	return served.Ended(ctx.Cancelled(), out, err, most)
//
// # Guarantees
//
// What was told to stop and failed says so; a panic brings its stack.
//
// # Failures
//
// None.
package served

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"

	"github.com/distgear/distgear/internal/fault"
	"github.com/distgear/distgear/internal/wire"
)

// Panic is a handler's panic as an error.
type Panic struct {
	Value any
	Stack string
}

// Recovered is a panic that was recovered just now.
func Recovered(v any) *Panic { return &Panic{v, string(debug.Stack())} }

// Error tells the value.
func (p *Panic) Error() string { return fmt.Sprintf("panic: %v", p.Value) }

// Ended is the report of a handler that has returned. why is the error of its
// context, most how large its result may be, in bytes.
func Ended(why error, out []byte, err error, most int) wire.Report {
	switch {
	case err != nil:
		return Failed(why, err)
	case len(out) > most:
		return Failed(why, fmt.Errorf("%w: the result has %d bytes encoded, %d are allowed: pass large data by reference", fault.ErrInvalid, len(out), most))
	}
	return wire.Report{Outcome: wire.OK, Over: true, Payload: out}
}

// Failed is the report of a handler that has returned an error.
func Failed(why, err error) wire.Report {
	flags, err := Stopped(why, err)
	r := fault.Report(err)
	r.Error.Flags |= flags
	if p, ok := errors.AsType[*Panic](err); ok {
		r.Error.Stack = fault.Clip(p.Stack)
	}
	return r
}

// Stopped says of the error of what was told to stop that it was.
func Stopped(why, err error) (flags uint8, _ error) {
	switch {
	case errors.Is(why, context.DeadlineExceeded): // S3: it was told to stop, and stopped
		return 0, fmt.Errorf("%w: %w", fault.ErrTimeout, err)
	case errors.Is(why, context.Canceled):
		return fault.Cancelled, fmt.Errorf("%w: %w", fault.ErrCancelled, err)
	}
	return 0, err
}
