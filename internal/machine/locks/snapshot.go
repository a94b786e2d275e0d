package locks

import (
	"encoding/binary"
	"math"
	"slices"

	"github.com/distgear/distgear/internal/machine"
	"github.com/distgear/distgear/internal/machine/pack"
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
		b = pack.AppendBool(b, w.notified)
	}
	return b
}

func bit(v bool) byte {
	if v {
		return 1
	}
	return 0
}

// Parse reads what AppendBinary wrote, the whole of b. It keeps nothing of b. The
// error is pack.ErrMalformed.
func Parse(b []byte) (*Lock, error) {
	r := pack.Read(b)
	l := &Lock{}
	if r.Byte() != format {
		return nil, pack.ErrMalformed
	}
	l.contentions = uint32(r.Uint(math.MaxUint32))
	for range r.Count(4) {
		h := hold{session: machine.Session(r.Uvarint()), token: r.Uvarint(), since: r.Varint()}
		f := r.Flags(1<<4 - 1)
		h.mode, h.recalled, h.asked = Mode(f&3), f&4 != 0, f&8 != 0
		l.holds = append(l.holds, h)
	}
	for range r.Count(4) {
		w := want{session: machine.Session(r.Uvarint()), req: r.Uvarint(), since: r.Varint()}
		f := r.Flags(1<<3 - 1)
		w.mode, w.try = Mode(f&3), f&4 != 0
		l.queue = append(l.queue, w)
	}
	for range r.Count(4) {
		w := wait{session: machine.Session(r.Uvarint()), ticket: r.Uvarint(), since: r.Varint(), cond: uint32(r.Uint(math.MaxUint32))}
		if w.notified = r.Bool(); w.notified {
			l.notified++
		}
		l.waits = append(l.waits, w)
	}
	if !r.End() || l.fault() != "" {
		return nil, pack.ErrMalformed
	}
	l.holds, l.queue, l.waits = slices.Clip(l.holds), slices.Clip(l.queue), slices.Clip(l.waits)
	return l, nil
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
