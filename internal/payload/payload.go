// Package payload says what is wrong with the encoded input or result of a
// command.
//
//	return payload.BadInput("mount", len(b), err)
//
// # Guarantees
//
// Each error wraps fault.ErrInvalid, and says of which command and what to do.
//
// # Failures
//
// None.
package payload

import (
	"fmt"
	"reflect"

	"github.com/distgear/distgear/cluster"
	"github.com/distgear/distgear/internal/codec"
	"github.com/distgear/distgear/internal/fault"
)

// Max is the largest encoded input or result, in bytes.
const Max = 1_000_000

// maxQuoted is how many bytes of an input an error about it quotes.
const maxQuoted = 100

// TooLarge is the error of an input of n bytes.
func TooLarge(kind string, n int) error {
	return fmt.Errorf("%w: input of %s has %d bytes encoded, %d are allowed: pass large data by reference", fault.ErrInvalid, kind, n, Max)
}

// BadInput is the error of an input that cannot be encoded, or, without err, has
// too many bytes.
func BadInput(kind string, size int, err error) error {
	if err != nil {
		return fmt.Errorf("%w: input of %s: %w", fault.ErrInvalid, kind, err)
	}
	return TooLarge(kind, size)
}

// BadOutput is the error of a result that cannot be encoded; nil without err.
func BadOutput(kind string, err error) error {
	if err != nil {
		return fault.Marked(fmt.Errorf("%w: result of %s: %w", fault.ErrInvalid, kind, err), fault.Mark{Permanent: true})
	}
	return nil
}

// BadResult is the error of a result that cannot be read.
func BadResult(kind string, from cluster.NodeName, err error) error {
	return fmt.Errorf("%w: result of %s from %s: %w", fault.ErrInvalid, kind, from, err)
}

// Unread is the error of a handler whose input cannot be read into its type: it
// never ran, and trying again is of no use. what is "action" or "event".
func Unread[In any](what, kind string, input []byte, err error) error {
	got := fmt.Sprintf("%d bytes", len(input))
	if b, e := codec.ToJSON(input); e == nil && len(b) <= maxQuoted {
		got = string(b)
	}
	return fault.Marked(
		fmt.Errorf("%w: input of %s %s: wants %s, got %s: %w", fault.ErrInvalid, what, kind, reflect.TypeFor[In](), got, err),
		fault.Mark{NeverRan: true, Permanent: true})
}
