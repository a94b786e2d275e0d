// Package runs is what the hub keeps of one durable run beside its task: the
// journal, the signals that were not taken yet, and what the run waits for. The
// hub does not look into the journal; only the run's owner understands it.
//
//	var r runs.Run
//	r.Append(unit, took)         // an entry of the run's owner
//	n, wake := r.Signal(name, v) // wake: it was suspended for that
//	until, ready := r.Suspend(until, names)
//
// See docs/adr/0007. Who may append is the task's business: its lease.
//
// # Guarantees
//
// Units are kept in the order in which they were appended. Signals are numbered
// from 1, and each is kept until it is taken, once. A run that was suspended until
// a signal comes is ready at once if that is there already.
//
// # Failures
//
// Signal refuses more than MaxSignals that nobody takes, Append a journal of more
// than MaxJournal bytes.
package runs

import (
	"bytes"
	"encoding/binary"
	"slices"

	"github.com/distgear/distgear/internal/machine/pack"
	"github.com/distgear/distgear/internal/machine/tasks"
)

// The bounds of one run.
const (
	MaxJournal = 3 << 20 // bytes: a lease with it is one message; large values are kept elsewhere
	MaxSignals = 10_000  // that nobody has taken
)

// maxKept is how large the journal and the input may be of a run that has ended, in
// bytes, for them to be kept: it can be forked.
const maxKept = 32 << 10

// Recorded is how many bytes of a journal a unit of so many is, at most.
func Recorded(n int) int { return n + binary.MaxVarintLen32 }

// Keeps tells whether a journal and an input of so many bytes together are kept when
// their run has ended: then it needs no summary.
func Keeps(n int) bool { return n <= maxKept }

// maxPanics is how many attempts in a row may panic, without a unit between them,
// before the run is parked (D9).
const maxPanics = 3

// Run is the state. The zero value is that of a run which nobody has begun. It is
// not safe for concurrent use.
type Run struct {
	sum     uint64 // of what it was raised with
	journal []byte // units, each behind its length
	panics  uint8  // in a row
	flags   uint8
	more    *more // what most have not
}

// The flags.
const (
	cancelled = 1 << iota
	adopt
	unwind
	ended
	allFlags = cancelled | adopt | unwind | ended
)

type more struct {
	signals []Signal // not taken, oldest first
	last    uint64   // number of the last signal
	waits   []string // names of signals that a suspended run waits for
	summary []byte   // of a run that has ended
	input   []byte   // likewise, if it may be undone: its task has the result instead
	notes   []Note
}

// Signal is a signal to a run.
type Signal struct {
	Number uint64
	Name   string
	Value  []byte
}

func (r *Run) rest() *more {
	if r.more == nil {
		r.more = &more{}
	}
	return r.more
}

// Begin notes what the run was raised with: its sum tells it from another of the
// same ID.
func (r *Run) Begin(sum uint64) { r.sum = sum }

// Fork makes the run go on from a journal, in the shape that its plans have now.
func (r *Run) Fork(journal []byte) {
	r.journal = journal
	r.flags |= adopt
}

// Sum is what Begin noted.
func (r *Run) Sum() uint64 { return r.sum }

// Units is the journal: units, each behind its length as a uvarint.
func (r *Run) Units() []byte { return r.journal }

// Append takes an entry of the owner up: a unit, unless it is empty, and the
// numbers of the signals that it takes.
func (r *Run) Append(unit []byte, took []uint64) error {
	if len(r.journal)+len(unit) > MaxJournal {
		return tasks.ErrJournal
	}
	if len(unit) > 0 {
		r.journal = pack.AppendBytes(r.journal, unit)
		r.panics = 0
	}
	if r.more != nil && len(took) > 0 {
		r.more.signals = slices.DeleteFunc(r.more.signals, func(s Signal) bool { return slices.Contains(took, s.Number) })
	}
	return nil
}

// Signal keeps a signal until it is taken. wake tells that a suspended run waits
// for it.
func (r *Run) Signal(name string, value []byte) (s Signal, wake bool, err error) {
	m := r.rest()
	if len(m.signals) >= MaxSignals {
		return s, false, tasks.ErrSignals
	}
	m.last++
	s = Signal{Number: m.last, Name: name, Value: value}
	m.signals = append(m.signals, s)
	if wake = slices.Contains(m.waits, name); wake {
		m.waits = nil
	}
	return s, wake, nil
}

// Suspend notes for which signals the run waits. ready tells that one of them is
// there, or that it was cancelled: it may go on at once.
func (r *Run) Suspend(names []string) (ready bool) {
	r.Wake()
	if r.flags&cancelled != 0 {
		return true
	}
	if len(names) == 0 {
		return false
	}
	m := r.rest()
	for _, s := range m.signals {
		if slices.Contains(names, s.Name) {
			return true
		}
	}
	m.waits = names
	return false
}

// Wake notes that the run goes on.
func (r *Run) Wake() {
	if r.more != nil {
		r.more.waits = nil
	}
}

// Waits are the names of signals that the run waits for.
func (r *Run) Waits() []string {
	if r.more == nil {
		return nil
	}
	return r.more.waits
}

// Signals are those that were not taken.
func (r *Run) Signals() []Signal {
	if r.more == nil {
		return nil
	}
	return r.more.signals
}

// Cancel notes that the run is to be cancelled.
func (r *Run) Cancel() { r.flags |= cancelled }

// Adopt notes that plans of another shape go on in that (D5).
func (r *Run) Adopt() { r.flags |= adopt }

// Unwind notes that a run that has ended is to be undone (S16).
func (r *Run) Unwind() { r.flags |= unwind }

// Panicked notes that the owner's handler panicked, and tells whether the run is
// to be parked.
func (r *Run) Panicked() (park bool) {
	r.panics++
	return r.panics >= maxPanics
}

// Resume forgets what led to the parking.
func (r *Run) Resume() { r.panics = 0 }

// End keeps the summary of a run that has ended, and its journal and input, if they are
// small, or keep says that it may be undone.
func (r *Run) End(summary, input []byte, keep bool) {
	r.flags = r.flags&^unwind | ended
	notes := r.Notes()
	r.more = nil
	if len(notes) > 0 {
		r.rest().notes = notes
	}
	if len(summary) > 0 {
		r.rest().summary = summary
	}
	if keep = keep || len(r.journal) > 0 && Keeps(len(r.journal)+len(input)); !keep {
		r.journal = nil
	} else {
		r.rest().input = input
	}
}

// Ended tells whether End was called: its task has what was reported, then.
func (r *Run) Ended() bool { return r.flags&ended != 0 }

// Input is what was kept of a run that has ended; nil: its task has it.
func (r *Run) Input() []byte {
	if r.more == nil {
		return nil
	}
	return r.more.input
}

// Summary is what was kept of a run that has ended.
func (r *Run) Summary() []byte {
	if r.more == nil {
		return nil
	}
	return r.more.summary
}

// Refers tells whether anything of the run has these bytes, which refer to what is
// kept elsewhere.
func (r *Run) Refers(ref []byte) bool {
	if bytes.Contains(r.journal, ref) {
		return true
	}
	return r.more != nil && (bytes.Contains(r.more.summary, ref) || bytes.Contains(r.more.input, ref))
}

// Size is about how many bytes the run holds on to.
func (r *Run) Size() int {
	n := len(r.journal)
	if r.more != nil {
		n += len(r.more.summary) + len(r.more.input)
		for _, s := range r.more.signals {
			n += len(s.Name) + len(s.Value)
		}
		for i := range r.more.notes {
			n += 100 + len(r.more.notes[i].Text)
		}
	}
	return n
}

// Lease is what the owner of a run begins with.
type Lease struct {
	Cancelled bool
	Adopt     bool
	Unwind    bool
	Units     [][]byte
	Signals   []Signal
}

// AppendLease appends what a new owner is told.
func (r *Run) AppendLease(b []byte) []byte {
	b = append(b, r.flags&(cancelled|adopt|unwind))
	b = pack.AppendBytes(b, r.journal)
	return appendSignals(b, r.Signals())
}

// ParseLease parses what AppendLease wrote. What it returns points into b.
func ParseLease(b []byte) (l Lease, err error) {
	r := pack.Read(b)
	f := r.Flags(cancelled | adopt | unwind)
	l.Cancelled, l.Adopt, l.Unwind = f&cancelled != 0, f&adopt != 0, f&unwind != 0
	for u := pack.Read(r.Bytes()); len(u.Rest()) > 0 && !u.Bad(); {
		if l.Units = append(l.Units, u.Bytes()); u.Bad() {
			r.Fail()
		}
	}
	l.Signals = readSignals(&r)
	if !r.End() {
		return Lease{}, pack.ErrMalformed
	}
	return l, nil
}

func appendSignals(b []byte, ss []Signal) []byte {
	b = binary.AppendUvarint(b, uint64(len(ss)))
	for i := range ss {
		b = AppendSignal(b, &ss[i])
	}
	return b
}

func readSignals(r *pack.Reader) (ss []Signal) {
	for n := r.Count(3); n > 0; n-- {
		ss = append(ss, readSignal(r))
	}
	return ss
}

// AppendSignal appends one signal.
func AppendSignal(b []byte, s *Signal) []byte {
	b = binary.AppendUvarint(b, s.Number)
	b = pack.AppendBytes(b, s.Name)
	return pack.AppendBytes(b, s.Value)
}

// ParseSignal parses one signal. Its value points into b.
func ParseSignal(b []byte) (Signal, error) {
	r := pack.Read(b)
	s := readSignal(&r)
	if !r.End() {
		return Signal{}, pack.ErrMalformed
	}
	return s, nil
}

func readSignal(r *pack.Reader) Signal {
	return Signal{Number: r.Uvarint(), Name: string(r.Bytes()), Value: r.Bytes()}
}

// AppendBinary appends the state.
func (r *Run) AppendBinary(b []byte) []byte {
	b = append(b, r.flags, r.panics)
	b = binary.LittleEndian.AppendUint64(b, r.sum)
	b = pack.AppendBytes(b, r.journal)
	b = pack.AppendBool(b, r.more != nil)
	if m := r.more; m != nil {
		b = binary.AppendUvarint(b, m.last)
		b = appendSignals(b, m.signals)
		b = binary.AppendUvarint(b, uint64(len(m.waits)))
		for _, name := range m.waits {
			b = pack.AppendBytes(b, name)
		}
		b = pack.AppendBytes(b, m.summary)
		b = pack.AppendBytes(b, m.input)
		b = appendNotes(b, m.notes)
	}
	return b
}

// Restore makes r what AppendBinary wrote, which is copied.
func (r *Run) Restore(b []byte) error {
	x := pack.Read(slices.Clone(b))
	*r = Run{flags: x.Flags(allFlags), panics: x.Byte()}
	for i := range 8 {
		r.sum |= uint64(x.Byte()) << (8 * i)
	}
	r.journal = clip(x.Bytes())
	if x.Bool() {
		m := r.rest()
		m.last = x.Uvarint()
		m.signals = readSignals(&x)
		for n := x.Count(1); n > 0; n-- {
			m.waits = append(m.waits, string(x.Bytes()))
		}
		m.summary = clip(x.Bytes())
		m.input = clip(x.Bytes())
		m.notes = readNotes(&x)
	}
	if !x.End() {
		return pack.ErrMalformed
	}
	return nil
}

func clip(b []byte) []byte {
	if len(b) == 0 {
		return nil
	}
	return b
}
