package journal

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"

	"github.com/distgear/distgear/internal/wire"
)

// Unit collects the records of one input. The zero value is empty.
type Unit struct{ w writer }

// UnitIn is an empty unit that collects in a space while that is enough.
func UnitIn(space []byte) Unit { return Unit{writer{space[:0]}} }

// Empty tells whether nothing was added.
func (u *Unit) Empty() bool { return len(u.w.b) == 0 }

// Bytes is the unit as it is appended; the unit is empty then.
func (u *Unit) Bytes(at int64) []byte {
	b := make([]byte, 0, 1+binary.MaxVarintLen64+len(u.w.b))
	b = binary.AppendVarint(append(b, Version), at)
	b = append(b, u.w.b...)
	u.w.b = u.w.b[:0]
	return b
}

// Add appends a record.
func (u *Unit) Add(r *Record) {
	w := &u.w
	w.b = append(w.b, byte(r.Kind), 0)
	at := len(w.b)
	w.record(r)
	size := uint64(len(w.b) - at)
	if size < 1<<7 {
		w.b[at-1] = byte(size)
		return
	}
	var space [binary.MaxVarintLen64]byte
	n := binary.PutUvarint(space[:], size)
	w.b = slices.Insert(w.b, at, space[1:n]...)
	copy(w.b[at-1:], space[:n])
}

// Parse is the inverse: the time of a unit, in ns since 1970, and its records.
func Parse(unit []byte) (at int64, recs []Record, err error) {
	if len(unit) == 0 {
		return 0, nil, fmt.Errorf("%w: an empty unit", ErrMalformed)
	}
	if unit[0] > Version {
		return 0, nil, fmt.Errorf("%w: version %d; this program reads up to %d: run it with one that is at least as new", ErrNewer, unit[0], Version)
	}
	at, n := binary.Varint(unit[1:])
	if unit[0] == 0 || n <= 0 {
		return 0, nil, fmt.Errorf("%w: no header", ErrMalformed)
	}
	b := unit[1+n:]
	for len(b) > 0 {
		k := Kind(b[0])
		size, n := binary.Uvarint(b[1:])
		if n <= 0 || size > uint64(len(b)-1-n) {
			return 0, nil, fmt.Errorf("%w: record %d is cut off", ErrMalformed, len(recs))
		}
		if k == 0 || k >= kinds {
			return 0, nil, fmt.Errorf("%w: record %d is of the unknown kind %d", ErrMalformed, len(recs), k)
		}
		body := b[1+n : 1+n+int(size)]
		b = b[1+n+int(size):]
		r := reader{b: body}
		recs = append(recs, Record{Kind: k})
		r.record(&recs[len(recs)-1])
		if r.bad || len(r.b) > 0 {
			return 0, nil, fmt.Errorf("%w: record %d (%s)", ErrMalformed, len(recs)-1, k)
		}
	}
	return at, recs, nil
}

// The flags of a record's bodies.
const (
	isUndo uint8 = 1 << iota
	hasInput
	isTimeout
)

// The flags of reports.
const (
	isOver uint8 = 1 << (4 + iota)
	hasError
)

// The flags of shapes.
const (
	isEvent uint8 = 1 << iota
	canUndo
	isPivot
	isComputed
	hasPolicy
	isIdempotent
	isDurable
)

type writer struct{ b []byte }

func (w *writer) byte(c uint8)    { w.b = append(w.b, c) }
func (w *writer) number(n uint64) { w.b = binary.AppendUvarint(w.b, n) }
func (w *writer) text(s string)   { w.number(uint64(len(s))); w.b = append(w.b, s...) }
func (w *writer) bytes(s []byte)  { w.number(uint64(len(s))); w.b = append(w.b, s...) }

// set is f if on.
func set(f uint8, on bool) uint8 {
	if on {
		return f
	}
	return 0
}

// record writes: plan step flags …
func (w *writer) record(r *Record) {
	switch r.Kind {
	case Value, Slept, Stopped, Closed, Stored:
	default:
		w.number(uint64(r.Plan))
	}
	switch r.Kind {
	case Planned, Adopted:
		if r.Kind == Adopted {
			w.number(uint64(r.Number))
		}
		w.plan(r.Shape)
	case Sent:
		w.step(r)
		w.number(uint64(r.Number))
		w.text(r.Node)
		w.number(r.Life)
		if r.HasIn {
			w.bytes(r.Input)
		}
	case Reported:
		w.step(r)
		w.number(uint64(r.Number))
		w.report(&r.Report)
	case Ended:
		w.step(r)
		w.report(&r.Report)
	case Decided:
		w.step(r)
		w.byte(r.How)
		w.text(r.Text)
	case Cancelled:
		w.byte(set(isTimeout, r.Timeout))
	case Value:
		w.text(r.Name)
		w.bytes(r.Input)
	case Slept:
		w.b = binary.AppendVarint(w.b, r.Until)
	case Closed:
		w.report(&r.Report)
	case Stored:
		w.bytes(r.Input)
	case Forked:
		w.number(uint64(r.Step))
		w.text(r.Name)
	}
}

func (w *writer) step(r *Record) {
	w.number(uint64(r.Step))
	w.byte(set(isUndo, r.Undo) | set(hasInput, r.HasIn))
}

func (w *writer) report(r *Report) {
	e := r.Error
	w.byte(uint8(r.Outcome)&0xf | set(isOver, r.Over) | set(hasError, e != nil))
	w.bytes(r.Payload)
	if e == nil {
		return
	}
	w.text(e.Message)
	w.text(e.Stack)
	w.number(uint64(len(e.Chain)))
	for _, s := range e.Chain {
		w.text(s)
	}
	w.byte(e.Flags)
	w.number(uint64(e.AfterMS))
}

func (w *writer) plan(p *Plan) {
	w.text(p.Name)
	w.b = binary.LittleEndian.AppendUint64(w.b, p.Hash())
	w.byte(set(1, p.Rollback))
	w.number(uint64(len(p.Steps)))
	for i := range p.Steps {
		s := &p.Steps[i]
		w.text(s.Name)
		w.text(s.Kind)
		w.text(s.Node)
		w.number(uint64(len(s.Labels)))
		for _, l := range s.Labels {
			w.text(l)
		}
		w.number(uint64(len(s.After)))
		for _, a := range s.After {
			w.number(uint64(a))
		}
		w.byte(set(isEvent, s.Event) | set(canUndo, s.Undo) | set(isPivot, s.Pivot) | set(isComputed, s.Computed) |
			set(hasPolicy, s.Policy) | set(isIdempotent, s.Policy && s.Idempotent) | set(isDurable, s.Policy && s.Durable))
		w.bytes(s.Input)
		if s.Policy {
			w.number(uint64(s.Retries))
		}
	}
}

// reader takes a body apart; bad says that it does not parse.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) fail() { r.b, r.bad = nil, true }

func (r *reader) byte() uint8 {
	if len(r.b) == 0 {
		r.fail()
		return 0
	}
	c := r.b[0]
	r.b = r.b[1:]
	return c
}

func (r *reader) number() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.fail()
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) small() uint32 {
	v := r.number()
	if v > math.MaxUint32 {
		r.fail()
		return 0
	}
	return uint32(v)
}

func (r *reader) bytes() []byte {
	n := r.number()
	if n > uint64(len(r.b)) {
		r.fail()
		return nil
	}
	s := r.b[:n:n]
	r.b = r.b[n:]
	return s
}

func (r *reader) text() string { return string(r.bytes()) }

// count is how many follow, each of at least one byte.
func (r *reader) count() int {
	n := r.number()
	if n > uint64(len(r.b)) {
		r.fail()
		return 0
	}
	return int(n)
}

func (r *reader) record(x *Record) {
	switch x.Kind {
	case Value, Slept, Stopped, Closed, Stored:
	default:
		x.Plan = r.small()
	}
	switch x.Kind {
	case Planned, Adopted:
		if x.Kind == Adopted {
			x.Number = r.small()
		}
		x.Shape = r.plan()
	case Sent:
		r.step(x)
		x.Number, x.Node, x.Life = r.small(), r.text(), r.number()
		if x.HasIn {
			x.Input = r.bytes()
		}
	case Reported:
		r.step(x)
		x.Number = r.small()
		r.report(&x.Report)
	case Ended:
		r.step(x)
		r.report(&x.Report)
	case Decided:
		r.step(x)
		x.How, x.Text = r.byte(), r.text()
	case Cancelled:
		x.Timeout = r.byte()&isTimeout != 0
	case Value:
		x.Name, x.Input = r.text(), r.bytes()
	case Slept:
		v, n := binary.Varint(r.b)
		if n <= 0 {
			r.fail()
			return
		}
		x.Until, r.b = v, r.b[n:]
	case Closed:
		r.report(&x.Report)
	case Stored:
		x.Input = r.bytes()
	case Forked:
		x.Step, x.Name = r.small(), r.text()
	}
}

func (r *reader) step(x *Record) {
	x.Step = r.small()
	f := r.byte()
	x.Undo, x.HasIn = f&isUndo != 0, f&hasInput != 0 && x.Kind == Sent
}

func (r *reader) report(p *Report) {
	f := r.byte()
	p.Outcome, p.Over = wire.Outcome(f&0xf), f&isOver != 0
	if p.Outcome > wire.NeverRan {
		r.fail()
		return
	}
	p.Payload = r.bytes()
	if f&hasError == 0 {
		return
	}
	e := &Error{Message: r.text(), Stack: r.text()}
	for range r.count() {
		e.Chain = append(e.Chain, r.text())
	}
	e.Flags, e.AfterMS = r.byte(), r.small()
	p.Error = e
}

func (r *reader) plan() *Plan {
	p := &Plan{Name: r.text()}
	if len(r.b) < 8 {
		r.fail()
		return p
	}
	hash := binary.LittleEndian.Uint64(r.b)
	r.b = r.b[8:]
	p.Rollback = r.byte() != 0
	for i := range r.count() {
		s := Step{Name: r.text(), Kind: r.text(), Node: r.text()}
		for range r.count() {
			s.Labels = append(s.Labels, r.text())
		}
		for range r.count() {
			a := r.small()
			if int(a) >= i { // cycles cannot be written
				r.fail()
			}
			s.After = append(s.After, a)
		}
		f := r.byte()
		s.Event, s.Undo, s.Pivot, s.Computed = f&isEvent != 0, f&canUndo != 0, f&isPivot != 0, f&isComputed != 0
		s.Policy, s.Idempotent, s.Durable = f&hasPolicy != 0, f&isIdempotent != 0, f&isDurable != 0
		if s.Input = r.bytes(); s.Policy {
			s.Retries = r.small()
		}
		p.Steps = append(p.Steps, s)
	}
	if !r.bad && hash != p.Hash() {
		r.fail()
	}
	return p
}
