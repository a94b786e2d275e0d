package latches

import (
	"encoding/binary"
	"maps"
	"slices"

	"github.com/distgear/distgear/internal/machine/pack"
)

const version = 1

// AppendBinary appends the state to b. Equal states append equal bytes.
func (x *Latch) AppendBinary(b []byte) []byte {
	b = append(b, version)
	b = binary.AppendUvarint(b, uint64(x.count))
	b = pack.AppendBool(b, x.open)
	b = binary.AppendUvarint(b, uint64(len(x.ids)))
	for _, id := range slices.Sorted(maps.Keys(x.ids)) {
		b = pack.AppendBytes(b, id)
	}
	return pack.AppendWhos(b, x.wait)
}

// Restore makes x the state that AppendBinary wrote as b. With an error b is
// not such a state, and x is as before.
func (x *Latch) Restore(b []byte) error {
	r := pack.Read(b)
	if r.Byte() != version {
		return pack.ErrMalformed
	}
	n := Latch{count: r.Int(), open: r.Bool()}
	last := ""
	for i := r.Count(1); i > 0 && !r.Bad(); i-- {
		id := string(r.Bytes())
		if n.ids == nil {
			n.ids = make(map[string]struct{})
		} else if id <= last {
			return pack.ErrMalformed
		}
		n.ids[id] = struct{}{}
		last = id
	}
	n.wait = r.Whos()
	switch {
	case !r.End():
		return pack.ErrMalformed
	case n.open && (n.ids != nil || n.wait != nil):
		return pack.ErrMalformed
	case !n.open && (n.count == 0) != n.Idle() || !n.open && n.count > 0 && int64(len(n.ids)) >= n.count:
		return pack.ErrMalformed
	}
	*x = n
	return nil
}

// AppendBinary appends the state to b. Equal states append equal bytes.
func (x *WaitGroup) AppendBinary(b []byte) []byte {
	b = append(b, version)
	return pack.AppendWhos(binary.AppendUvarint(b, uint64(x.n)), x.wait)
}

// Restore makes x the state that AppendBinary wrote as b. With an error b is
// not such a state, and x is as before.
func (x *WaitGroup) Restore(b []byte) error {
	r := pack.Read(b)
	if r.Byte() != version {
		return pack.ErrMalformed
	}
	n := WaitGroup{n: r.Int()}
	n.wait = r.Whos()
	if !r.End() || n.n == 0 && n.wait != nil {
		return pack.ErrMalformed
	}
	*x = n
	return nil
}
