package semaphores

import (
	"encoding/binary"
	"maps"
	"slices"

	"github.com/distgear/distgear/internal/machine"
	"github.com/distgear/distgear/internal/machine/pack"
)

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
		b = binary.AppendUvarint(pack.AppendWho(b, w.who), uint64(w.n))
	}
	return b
}

// Restore makes x the state that AppendBinary wrote as b. With an error b is
// not such a state, and x is as before.
func (x *Semaphore) Restore(b []byte) error {
	r := pack.Read(b)
	if r.Byte() != version {
		return pack.ErrMalformed
	}
	n := Semaphore{size: r.Int()}
	n.free = n.size
	last := machine.Session(0)
	for i := r.Count(2); i > 0; i-- {
		s, h := machine.Session(r.Uvarint()), r.Int()
		if n.held == nil {
			n.held = make(map[machine.Session]int64)
		} else if s <= last {
			return pack.ErrMalformed
		}
		if h <= 0 || h > n.free {
			return pack.ErrMalformed
		}
		n.held[s], last = h, s
		n.free -= h
	}
	for i := r.Count(3); i > 0; i-- {
		w := waiter{r.Who(), r.Int()}
		if w.n <= 0 || w.n > n.size {
			return pack.ErrMalformed
		}
		n.wait = append(n.wait, w)
	}
	if !r.End() || n.Waiting() > 0 && n.wait[0].n <= n.free || n.Idle() != (n.size == 0) {
		return pack.ErrMalformed
	}
	*x = n
	return nil
}
