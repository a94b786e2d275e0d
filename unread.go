package distgear

import (
	"fmt"
	"reflect"

	"github.com/distgear/distgear/internal/codec"
	"github.com/distgear/distgear/internal/fault"
)

// maxQuoted is how many bytes of an input an error about it quotes.
const maxQuoted = 100

// unread is the error of a handler whose input cannot be read into its type:
// it never ran, and trying again is of no use.
func unread[In any](what, kind string, input []byte, err error) error {
	got := fmt.Sprintf("%d bytes", len(input))
	if b, e := codec.ToJSON(input); e == nil && len(b) <= maxQuoted {
		got = string(b)
	}
	return fault.Marked(
		fmt.Errorf("%w: input of %s %s: wants %s, got %s: %w", ErrInvalid, what, kind, reflect.TypeFor[In](), got, err),
		fault.Mark{NeverRan: true, Permanent: true})
}
