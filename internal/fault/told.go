package fault

import "github.com/distgear/distgear/internal/wire"

// told is an error that a report tells of.
type told struct{ e *wire.Error }

// Told is the error that a report tells of, with what it wrapped; of one that
// tells of none too.
func Told(e *wire.Error) error { return &told{e} }

// Error implements error.
func (t *told) Error() string {
	if t.e == nil {
		return "unknown"
	}
	return t.e.Message
}

// Unwrap is what the error wrapped.
func (t *told) Unwrap() error { return TraceOf(t.e) }
