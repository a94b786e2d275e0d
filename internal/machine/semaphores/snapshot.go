package semaphores

import (
	"encoding/binary"
	"errors"
	"maps"
	"slices"

	"github.com/distgear/distgear/internal/machine"
)

var errMalformed = errors.New("semaphores: malformed state")

const version = 1

// AppendBinary appends the state to b. Equal states append equal bytes.
func (x *Semaphore) AppendBinary(b []byte) []byte {
	b = append(b, version)
	b = binary.AppendUvarint(b, uint64(x.size))
	b = binary.AppendUvarint(b, uint64(len(x.held)))
	for _, s := range slices.Sorted(maps.Keys(x.held)) {
		b = binary.AppendUvarint(b, uint64(s))
		b = binary.AppendUvarint(b, uint64(x.held[s]))
	}
	b = binary.AppendUvarint(b, uint64(x.Waiting()))
	for _, w := range x.wait[x.head:] {
		b = binary.AppendUvarint(b, uint64(w.who.Session))
		b = binary.AppendUvarint(b, w.who.Req)
		b = binary.AppendUvarint(b, uint64(w.n))
	}
	return b
}

// Restore makes x the state that AppendBinary wrote as b. With an error b is
// not such a state, and x is as before.
func (x *Semaphore) Restore(b []byte) error {
	r := reader{b: b}
	if r.byte() != version {
		return errMalformed
	}
	n := Semaphore{size: r.int()}
	n.free = n.size
	last := machine.Session(0)
	for i := r.count(2); i > 0; i-- {
		s, h := machine.Session(r.uint()), r.int()
		if n.held == nil {
			n.held = make(map[machine.Session]int64)
		} else if s <= last {
			return errMalformed
		}
		if h <= 0 || h > n.free {
			return errMalformed
		}
		n.held[s], last = h, s
		n.free -= h
	}
	for i := r.count(3); i > 0; i-- {
		w := waiter{machine.Who{Session: machine.Session(r.uint()), Req: r.uint()}, r.int()}
		if w.n <= 0 || w.n > n.size {
			return errMalformed
		}
		n.wait = append(n.wait, w)
	}
	if r.bad || len(r.b) > 0 || n.Waiting() > 0 && n.wait[0].n <= n.free || n.Idle() != (n.size == 0) {
		return errMalformed
	}
	*x = n
	return nil
}

// reader takes apart what AppendBinary wrote. After a fault it is bad and
// reads zeros.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) fail() { r.b, r.bad = nil, true }

func (r *reader) byte() byte {
	if len(r.b) == 0 {
		r.fail()
		return 0
	}
	c := r.b[0]
	r.b = r.b[1:]
	return c
}

func (r *reader) uint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.fail()
		return 0
	}
	r.b = r.b[n:]
	return v
}

// int reads what must not be negative.
func (r *reader) int() int64 {
	v := int64(r.uint())
	if v < 0 {
		r.fail()
		return 0
	}
	return v
}

// count reads how many things follow, of at least size bytes each.
func (r *reader) count(size int) int {
	n := r.uint()
	if n > uint64(len(r.b)/size) {
		r.fail()
		return 0
	}
	return int(n)
}
