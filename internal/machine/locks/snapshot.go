package locks

import (
	"encoding/binary"
	"errors"
	"slices"

	"github.com/distgear/distgear/internal/machine"
)

const format = 1

// AppendBinary appends the lock's state to b: equal states, equal bytes.
func (l *Lock) AppendBinary(b []byte) []byte {
	b = append(b, format)
	b = binary.AppendUvarint(b, uint64(l.contentions))
	b = binary.AppendUvarint(b, uint64(len(l.holds)))
	for i := range l.holds {
		h := &l.holds[i]
		b = binary.AppendUvarint(b, uint64(h.session))
		b = binary.AppendUvarint(b, h.token)
		b = binary.AppendVarint(b, h.since)
		b = append(b, byte(h.mode)|bit(h.recalled)<<2|bit(h.asked)<<3)
	}
	b = binary.AppendUvarint(b, uint64(len(l.queue)))
	for i := range l.queue {
		w := &l.queue[i]
		b = binary.AppendUvarint(b, uint64(w.session))
		b = binary.AppendUvarint(b, w.req)
		b = binary.AppendVarint(b, w.since)
		b = append(b, byte(w.mode)|bit(w.try)<<2)
	}
	b = binary.AppendUvarint(b, uint64(len(l.waits)))
	for i := range l.waits {
		w := &l.waits[i]
		b = binary.AppendUvarint(b, uint64(w.session))
		b = binary.AppendUvarint(b, w.ticket)
		b = binary.AppendVarint(b, w.since)
		b = binary.AppendUvarint(b, uint64(w.cond))
		b = append(b, bit(w.notified))
	}
	return b
}

func bit(v bool) byte {
	if v {
		return 1
	}
	return 0
}

// ErrMalformed is the error of Parse: the bytes are not what AppendBinary
// writes, or describe a state that a lock cannot be in.
var ErrMalformed = errors.New("locks: malformed state")

// Parse reads what AppendBinary wrote, the whole of b. It keeps nothing of b.
func Parse(b []byte) (*Lock, error) {
	r := reader{b: b}
	l := &Lock{}
	if r.byte() != format {
		return nil, ErrMalformed
	}
	l.contentions = r.uint32()
	for range r.count() {
		h := hold{session: machine.Session(r.uvarint()), token: r.uvarint(), since: r.varint()}
		f := r.flags(1<<4 - 1)
		h.mode, h.recalled, h.asked = Mode(f&3), f&4 != 0, f&8 != 0
		l.holds = append(l.holds, h)
	}
	for range r.count() {
		w := want{session: machine.Session(r.uvarint()), req: r.uvarint(), since: r.varint()}
		f := r.flags(1<<3 - 1)
		w.mode, w.try = Mode(f&3), f&4 != 0
		l.queue = append(l.queue, w)
	}
	for range r.count() {
		w := wait{session: machine.Session(r.uvarint()), ticket: r.uvarint(), since: r.varint(), cond: r.uint32()}
		if w.notified = r.flags(1) != 0; w.notified {
			l.notified++
		}
		l.waits = append(l.waits, w)
	}
	if r.bad || len(r.b) > 0 || l.fault() != "" {
		return nil, ErrMalformed
	}
	l.holds, l.queue, l.waits = slices.Clip(l.holds), slices.Clip(l.queue), slices.Clip(l.waits)
	return l, nil
}

// reader takes b apart; after a fault it is bad and yields zeros.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) byte() byte {
	if r.bad || len(r.b) == 0 {
		r.bad = true
		return 0
	}
	c := r.b[0]
	r.b = r.b[1:]
	return c
}

func (r *reader) flags(all byte) byte {
	c := r.byte()
	if c&^all != 0 {
		r.bad = true
	}
	return c
}

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	if r.bad || n <= 0 || n > 1 && r.b[n-1] == 0 {
		r.bad = true // also a number that is longer than it need be
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) varint() int64 {
	u := r.uvarint()
	v := int64(u >> 1)
	if u&1 != 0 {
		v = ^v
	}
	return v
}

func (r *reader) uint32() uint32 {
	v := r.uvarint()
	if v > 1<<32-1 {
		r.bad = true
	}
	return uint32(v)
}

// count reads how many records follow; each has more than three bytes.
func (r *reader) count() int {
	v := r.uvarint()
	if v > uint64(len(r.b))/4 {
		r.bad = true
		return 0
	}
	return int(v)
}

// fault says what of the invariants does not hold, or nothing.
func (l *Lock) fault() string {
	sessions := make(map[machine.Session]want, len(l.holds)+len(l.queue)) // with a zero want: a holder
	tokens := make(map[uint64]bool, len(l.holds))
	for i, h := range l.holds {
		_, twice := sessions[h.session]
		switch {
		case h.session == 0 || h.token == 0 || !h.mode.valid():
			return "a grant without session, token or mode"
		case twice || tokens[h.token]:
			return "two grants of one session or token"
		case i > 0 && (h.mode == Write || l.holds[0].mode == Write):
			return "a writer is not alone"
		}
		sessions[h.session], tokens[h.token] = want{}, true
	}
	for i, w := range l.queue {
		_, twice := sessions[w.session]
		switch {
		case w.session == 0 || !w.mode.valid():
			return "a want without session or mode"
		case twice:
			return "two places of one session, or a place beside a grant"
		case i > 0 && w.try && !l.queue[i-1].try:
			return "a try behind a want"
		}
		sessions[w.session] = w
	}
	if len(l.queue) > 0 {
		if l.fits(l.queue[0].mode) {
			return "the first is not granted"
		}
		for _, h := range l.holds {
			if l.queue[0].try && !h.asked {
				return "a try, and the holder was not asked"
			}
			for _, w := range l.queue {
				if !w.try && (w.mode == Write || h.mode == Write) && !h.recalled {
					return "a want, and the holder was not asked"
				}
			}
		}
	}
	type id struct {
		s machine.Session
		t uint64
	}
	waits := make(map[id]bool, len(l.waits))
	notified := uint32(0)
	for _, w := range l.waits {
		if w.session == 0 || waits[id{w.session, w.ticket}] {
			return "a waiter without session, or two of one ticket"
		}
		waits[id{w.session, w.ticket}] = true
		if p, ok := sessions[w.session]; w.notified && (!ok || p.mode == Read || p.try) {
			return "a notified waiter without a place"
		}
		if w.notified {
			notified++
		}
	}
	if notified != l.notified {
		return "the notified waiters are miscounted"
	}
	return ""
}
