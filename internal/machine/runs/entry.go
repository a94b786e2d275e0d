package runs

import (
	"encoding/binary"
	"slices"

	"github.com/distgear/distgear/internal/machine/pack"
	"github.com/distgear/distgear/internal/machine/tasks"
	"github.com/distgear/distgear/internal/machine/words"
)

// Why says why an owner gives a run back.
type Why uint8

// The reasons. The numbers are those of internal/runs, but for Kept.
const (
	Kept      Why = iota // it is not given back
	Ended                // Outcome and Report say how
	Suspended            // until a time or a signal; without both: until somebody may take it
	Parked               // a person has to decide: Text says about what
	Panicked             // its handler did: Text says how
)

// Entry is what the owner of a run appends at once.
type Entry struct {
	Lease tasks.Lease
	Unit  []byte   // empty: nothing is recorded
	Took  []uint64 // the signals that it takes

	Why     Why
	In      int64    // Suspended: ms until it goes on by itself; 0: never, or with Signals nil at once
	Signals []string // Suspended
	Text    string   // Parked, Panicked
	Outcome tasks.Outcome
	Report  []byte // Ended: what who raised it is told
	Summary []byte // Ended: what people are shown
	Keep    bool   // Ended: keep the journal, the run may be undone
	State   string // Ended: how, as its record says; empty: Outcome says all
	Stuck   string // Kept: the step whose undo needs a person from now on
}

// AppendEntry appends an entry.
func AppendEntry(b []byte, e *Entry) []byte {
	b = slices.Grow(b, 64+len(e.Unit)+len(e.Text)+len(e.Report)+len(e.Summary))
	b = words.AppendLease(b, e.Lease)
	b = pack.AppendBytes(b, e.Unit)
	b = binary.AppendUvarint(b, uint64(len(e.Took)))
	for _, n := range e.Took {
		b = binary.AppendUvarint(b, n)
	}
	b = append(b, byte(e.Why))
	switch e.Why {
	case Suspended:
		b = binary.AppendUvarint(b, uint64(max(e.In, 0)))
		b = binary.AppendUvarint(b, uint64(len(e.Signals)))
		for _, name := range e.Signals {
			b = pack.AppendBytes(b, name)
		}
	case Parked, Panicked:
		b = pack.AppendBytes(b, e.Text)
	case Ended:
		b = append(b, byte(e.Outcome))
		b = pack.AppendBytes(b, e.Report)
		b = pack.AppendBytes(b, e.Summary)
		b = appendText(pack.AppendBool(b, e.Keep), e.State)
	case Kept:
		b = appendText(b, e.Stuck)
	}
	return b
}

// appendText appends a text that may be left out at the end of an entry.
func appendText(b []byte, s string) []byte {
	if s == "" {
		return b
	}
	return pack.AppendBytes(b, s)
}

func readText(r *pack.Reader) string {
	if r.Bad() || len(r.Rest()) == 0 {
		return ""
	}
	s := string(r.Bytes())
	if s == "" { // it would have been left out
		r.Fail()
	}
	return s
}

// ParseEntry parses an entry. What it returns points into b.
func ParseEntry(b []byte) (e Entry, err error) {
	r := pack.Read(b)
	e.Lease = tasks.Lease{Number: r.Uvarint(), Epoch: uint32(r.Uint(1<<32 - 1))}
	e.Unit = r.Bytes()
	for n := r.Count(1); n > 0; n-- {
		e.Took = append(e.Took, r.Uvarint())
	}
	switch e.Why = Why(r.Byte()); e.Why {
	case Suspended:
		e.In = r.Int()
		for n := r.Count(1); n > 0; n-- {
			e.Signals = append(e.Signals, string(r.Bytes()))
		}
	case Parked, Panicked:
		e.Text = string(r.Bytes())
	case Ended:
		e.Outcome = tasks.Outcome(r.Byte())
		e.Report, e.Summary, e.Keep, e.State = r.Bytes(), r.Bytes(), r.Bool(), readText(&r)
		if e.Outcome > tasks.NeverRan {
			r.Fail()
		}
	case Kept:
		e.Stuck = readText(&r)
	default:
		r.Fail()
	}
	if !r.End() {
		return Entry{}, pack.ErrMalformed
	}
	return e, nil
}
