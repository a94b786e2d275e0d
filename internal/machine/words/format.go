package words

import (
	"encoding/binary"
	"errors"
	"maps"
	"math"
	"slices"

	"github.com/distgear/distgear/internal/machine/pack"
)

// What travels between a node and the machine in the ledger. Integers are
// uvarints, signed ones zigzag; texts and values are a length and bytes. Lists
// have no length: they end with their bytes.

// ErrMalformed is the answer to bytes that are not what they should be.
var ErrMalformed = errors.New("tasks: malformed bytes")

// The bits in front of a spec.
const (
	specSame       = 1 << iota // as the one before it but for ID and input
	specIdempotent             // Spec.Idempotent
	specRare                   // there is more than kind, retries and timeout
)

// AppendSpec appends a task to be submitted to a list. before is the spec that was appended to
// it before; nil: none. In a list, Spec.Size is not sent: it is that of val. Times are as the receiver wants them.
func AppendSpec(b []byte, s, before *Spec, val []byte) []byte {
	flags := byte(0)
	if before != nil {
		o := *before
		if o.ID, o.Size = s.ID, s.Size; o == *s {
			flags = specSame
		}
	}
	rare := s.Key != "" || s.Labels != "" || s.Batch != "" || s.Priority != 0 || s.NotBefore != 0 || s.Deadline != 0 || s.Retain != 0
	if flags == 0 && s.Idempotent {
		flags |= specIdempotent
	}
	if flags&specSame == 0 && rare {
		flags |= specRare
	}
	b = append(b, flags)
	b = appendText(b, s.ID)
	b = appendText(b, val)
	if flags&specSame != 0 {
		return b
	}
	b = appendText(b, s.Kind)
	b = binary.AppendUvarint(b, uint64(s.Retries))
	b = binary.AppendUvarint(b, uint64(s.Timeout))
	if rare {
		b = appendText(b, s.Key)
		b = appendText(b, s.Labels)
		b = appendText(b, s.Batch)
		b = append(b, byte(s.Priority))
		b = binary.AppendVarint(b, s.NotBefore)
		b = binary.AppendVarint(b, s.Deadline)
		b = binary.AppendVarint(b, s.Retain)
	}
	return b
}

// ParseSpecs calls f with each spec of a list, in order. s is reused, and val
// points into b.
func ParseSpecs(b []byte, f func(s *Spec, val []byte)) error {
	r := read(b)
	var s Spec
	for first := true; !r.done(); first = false {
		flags := r.Byte()
		s.ID = r.text()
		val := r.Bytes()
		s.Size = uint32(min(uint64(len(val)), math.MaxUint32))
		if flags&specSame != 0 {
			if first || flags != specSame {
				return ErrMalformed
			}
		} else {
			s = Spec{ID: s.ID, Size: s.Size, Kind: r.text(), Retries: uint16(r.Uint(math.MaxUint16)), Timeout: uint32(r.Uint(math.MaxUint32))}
			s.Idempotent = flags&specIdempotent != 0
			if flags&specRare != 0 {
				s.Key, s.Labels, s.Batch, s.Priority = r.text(), r.text(), r.text(), int8(r.Byte())
				s.NotBefore, s.Deadline, s.Retain = r.Varint(), r.Varint(), r.Varint()
			}
			r.must(flags&^(specIdempotent|specRare) == 0)
		}
		if r.Bad() {
			return ErrMalformed
		}
		f(&s, val)
	}
	return nil
}

// Grant is a lease as its worker is told of it.
type Grant struct {
	Lease          // the number is not in the bytes: it is the event's
	ID      string // of the task
	Kind    string
	Key     string
	Attempt uint32 // that counts for Retries, from 1
	Timeout uint32 // ms
	Input   []byte
}

// AppendGrant appends a lease.
func AppendGrant(b []byte, g *Grant) []byte {
	b = binary.AppendUvarint(b, uint64(g.Epoch))
	b = appendText(b, g.ID)
	b = appendText(b, g.Kind)
	b = appendText(b, g.Key)
	b = binary.AppendUvarint(b, uint64(g.Attempt))
	b = binary.AppendUvarint(b, uint64(g.Timeout))
	return appendText(b, g.Input)
}

// ParseGrant parses a lease. Input points into b.
func ParseGrant(number uint64, b []byte) (g Grant, err error) {
	r := read(b)
	g.Number, g.Epoch = number, r.uint32()
	g.ID, g.Kind, g.Key, g.Attempt, g.Timeout, g.Input = r.text(), r.text(), r.text(), r.uint32(), r.uint32(), r.Bytes()
	return g, r.end()
}

// AppendReport appends a report to a list.
func AppendReport(b []byte, r *Report[[]byte]) []byte {
	b = AppendLease(b, r.Lease)
	o := byte(r.Outcome) << 1
	if r.Permanent {
		o |= 1
	}
	b = append(b, o)
	if r.Outcome != OK {
		b = binary.AppendUvarint(b, uint64(max(r.After, 0)))
		b = appendText(b, Short(r.Message))
	}
	return appendText(b, r.Val)
}

// ParseReports calls f with each report of a list, in order. p is reused, and its Val
// points into b.
func ParseReports(b []byte, f func(p *Report[[]byte])) error {
	r := read(b)
	for !r.done() {
		p := Report[[]byte]{Lease: r.lease()}
		o := r.Byte()
		p.Outcome, p.Permanent = Outcome(o>>1), o&1 != 0
		if p.Outcome != OK {
			p.After, p.Message = int64(r.Uint(math.MaxInt64)), r.text()
		}
		p.Val = r.Bytes()
		if r.Bad() || p.Outcome > NeverRan {
			return ErrMalformed
		}
		f(&p)
	}
	return nil
}

// AppendLease appends a lease's name to a list.
func AppendLease(b []byte, l Lease) []byte {
	b = binary.AppendUvarint(b, l.Number)
	return binary.AppendUvarint(b, uint64(l.Epoch))
}

// ParseLeases parses a list of leases.
func ParseLeases(b []byte) ([]Lease, error) {
	var ls []Lease
	r := read(b)
	for !r.done() {
		ls = append(ls, r.lease())
	}
	return ls, r.end()
}

// AppendProgress appends how far an attempt is to a list.
func AppendProgress(b []byte, l Lease, done, total int64) []byte {
	b = AppendLease(b, l)
	b = binary.AppendVarint(b, done)
	return binary.AppendVarint(b, total)
}

// ParseProgress calls f with each of a list.
func ParseProgress(b []byte, f func(l Lease, done, total int64)) error {
	r := read(b)
	for !r.done() {
		l, done, total := r.lease(), r.Varint(), r.Varint()
		if r.Bad() {
			return ErrMalformed
		}
		f(l, done, total)
	}
	return nil
}

// End is what is told of a task that has ended, or was parked.
type End struct {
	ID       string
	State    State
	Outcome  Outcome
	Cause    Cause
	Attempts uint32
	Reason   string // why a person parked it
	Val      []byte // the result if OK, otherwise what the last report said
}

// AppendEnd appends an end.
func AppendEnd(b []byte, e *End) []byte {
	b = append(b, byte(e.State), byte(e.Outcome), byte(e.Cause))
	b = appendText(b, e.ID)
	b = binary.AppendUvarint(b, uint64(e.Attempts))
	b = appendText(b, e.Reason)
	return appendText(b, e.Val)
}

// ParseEnd parses an end. Val points into b.
func ParseEnd(b []byte) (e End, err error) {
	r := read(b)
	e.State, e.Outcome, e.Cause = State(r.Byte()), Outcome(r.Byte()), Cause(r.Byte())
	e.ID, e.Attempts, e.Reason, e.Val = r.text(), r.uint32(), r.text(), r.Bytes()
	r.must((e.State == Ended || e.State == Parked) && e.Outcome <= NeverRan && e.Cause <= ByHand)
	return e, r.end()
}

// Advance is progress as who watches is told of it.
type Advance struct {
	ID          string
	Done, Total int64
}

// AppendAdvance appends progress.
func AppendAdvance(b []byte, a *Advance) []byte {
	b = appendText(b, a.ID)
	b = binary.AppendVarint(b, a.Done)
	return binary.AppendVarint(b, a.Total)
}

// ParseAdvance parses progress.
func ParseAdvance(b []byte) (a Advance, err error) {
	r := read(b)
	a.ID, a.Done, a.Total = r.text(), r.Varint(), r.Varint()
	return a, r.end()
}

// refusals are the errors that cross the wire, by their number less 1.
func refusals() []error {
	return []error{ErrConflict, ErrInvalid, ErrFull, ErrNoTask, ErrEnded, ErrNotRetried, ErrNoSchedule, ErrJournal, ErrSignals}
}

// Number is the number of one of this package's errors on the wire; 0: it has none.
func Number(err error) uint64 {
	return uint64(slices.IndexFunc(refusals(), func(e error) bool { return errors.Is(err, e) }) + 1)
}

// Error is the error with a number; nil: there is none.
func Error(number uint64) error {
	if all := refusals(); number > 0 && number <= uint64(len(all)) {
		return all[number-1]
	}
	return nil
}

// AppendRefusal appends that a task was not taken up.
func AppendRefusal(b []byte, id string, why error) []byte {
	b = appendText(b, id)
	return binary.AppendUvarint(b, Number(why))
}

// ParseRefusal parses it.
func ParseRefusal(b []byte) (id string, why error, err error) {
	r := read(b)
	id, why = r.text(), Error(r.Uint(math.MaxUint64))
	r.must(why != nil)
	return id, why, r.end()
}

// AppendOffer appends an offer.
func AppendOffer(b []byte, o *Offer) []byte {
	b = binary.AppendUvarint(b, uint64(max(o.Slots, 0)))
	b = binary.AppendUvarint(b, uint64(max(o.Prefetch, 0)))
	b = binary.AppendUvarint(b, uint64(max(o.Bytes, 0)))
	b = binary.AppendUvarint(b, uint64(len(o.Kinds)))
	for _, k := range o.Kinds {
		b = appendText(b, k)
	}
	b = binary.AppendUvarint(b, uint64(len(o.Labels)))
	for _, k := range slices.Sorted(maps.Keys(o.Labels)) {
		b = appendText(b, k)
		b = appendText(b, o.Labels[k])
	}
	return b
}

// ParseOffer parses an offer.
func ParseOffer(b []byte) (Offer, error) {
	r := read(b)
	o := r.offer()
	return o, r.end()
}

func (r *reader) offer() Offer {
	o := Offer{Slots: r.size(), Prefetch: r.size(), Bytes: r.size()}
	for range r.Count(1) {
		o.Kinds = append(o.Kinds, r.text())
	}
	last := ""
	for i := range r.Count(2) {
		if o.Labels == nil {
			o.Labels = make(map[string]string)
		}
		k := r.text()
		r.must(i == 0 || k > last)
		o.Labels[k], last = r.text(), k
	}
	return o
}

// AppendLimits appends limits.
func AppendLimits(b []byte, l *Limits) []byte {
	for _, v := range []int64{int64(l.Capacity), l.Rate, int64(l.Burst), int64(l.Running), l.KeyRate, int64(l.KeyRunning), l.Retain, int64(l.MaxRetained), int64(l.MaxLosses)} {
		b = binary.AppendUvarint(b, uint64(max(v, 0)))
	}
	if l.Sticky {
		return append(b, 1)
	}
	return append(b, 0)
}

// ParseLimits parses limits.
func ParseLimits(b []byte) (Limits, error) {
	r := read(b)
	l := r.limits()
	return l, r.end()
}

func (r *reader) limits() (l Limits) {
	l.Capacity, l.Rate, l.Burst, l.Running = r.size(), int64(r.size()), r.size(), r.size()
	l.KeyRate, l.KeyRunning, l.Retain, l.MaxRetained, l.MaxLosses = int64(r.size()), r.size(), int64(r.size()), r.size(), r.size()
	l.Sticky = r.Byte() == 1
	return l
}

// flags are a byte of them, the first one lowest.
func flags(all ...bool) (b byte) {
	for i, on := range all {
		if on {
			b |= 1 << i
		}
	}
	return b
}

// AppendSchedule appends a schedule but for its name.
func AppendSchedule(b []byte, s *Schedule[[]byte]) []byte {
	b = appendText(b, s.Text)
	b = binary.AppendVarint(b, s.Next)
	b = binary.AppendVarint(b, s.Last)
	b = append(b, flags(s.Skip, s.All, s.Paused))
	return AppendSpec(b, &s.Spec, nil, s.Val)
}

// ParseSchedule parses a schedule. Its Val points into b.
func ParseSchedule(name string, b []byte) (s Schedule[[]byte], err error) {
	r := read(b)
	s.Name, s.Text, s.Next, s.Last, s.Skip = name, r.text(), r.Varint(), r.Varint(), false
	how := r.Byte()
	s.Skip, s.All, s.Paused = how&1 != 0, how&2 != 0, how&4 != 0
	if r.Bad() || how > 7 || s.Skip && s.All {
		return s, ErrMalformed
	}
	n := 0
	err = ParseSpecs(r.Rest(), func(spec *Spec, val []byte) { s.Spec, s.Val, n = *spec, val, n+1 })
	if n != 1 && err == nil {
		err = ErrMalformed
	}
	return s, err
}

// Ask asks for the next time of a schedule after After, ms since 1970.
type Ask struct {
	Name  string
	Text  string // the timetable
	Last  int64  // for NextTime
	After int64
}

// AppendAsk appends an Ask.
func AppendAsk(b []byte, a *Ask) []byte {
	b = appendText(b, a.Name)
	b = appendText(b, a.Text)
	b = binary.AppendVarint(b, a.Last)
	return binary.AppendVarint(b, a.After)
}

// ParseAsk parses an Ask.
func ParseAsk(b []byte) (a Ask, err error) {
	r := read(b)
	a.Name, a.Text, a.Last, a.After = r.text(), r.text(), r.Varint(), r.Varint()
	return a, r.end()
}

// maxMessage is how much of a report's message is kept, in bytes.
const maxMessage = 200

// Short is at most the first 200 bytes of a text.
func Short(s string) string {
	if len(s) <= maxMessage {
		return s
	}
	n := maxMessage
	for n > maxMessage-4 && s[n]&0xC0 == 0x80 { // not within a character
		n--
	}
	return s[:n]
}

func appendText[B []byte | string](b []byte, s B) []byte { return pack.AppendBytes(b, s) }

// reader is a pack.Reader with the words of this package.
type reader struct{ pack.Reader }

func read(b []byte) reader { return reader{pack.Read(b)} }

func (r *reader) end() error {
	if !r.End() {
		return ErrMalformed
	}
	return nil
}

func (r *reader) must(ok bool) {
	if !ok {
		r.Fail()
	}
}

func (r *reader) uint32() uint32 { return uint32(r.Uint(math.MaxUint32)) }

// size reads how much of something there may be.
func (r *reader) size() int { return int(r.Uint(1 << 50)) }

func (r *reader) lease() Lease { return Lease{Number: r.Uvarint(), Epoch: r.uint32()} }

// done tells that nothing follows, also after a fault.
func (r *reader) done() bool { return len(r.Rest()) == 0 }

func (r *reader) text() string { return string(r.Bytes()) }
