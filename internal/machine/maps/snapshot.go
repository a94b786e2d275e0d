package maps

import (
	"encoding/binary"
	"fmt"
	"maps"
	"math"
	"slices"

	"github.com/distgear/distgear/internal/machine"
	"github.com/distgear/distgear/internal/machine/pack"
)

const version = 1

// AppendBinary appends the state to b. appendValue appends a value, and must
// append equal bytes for equal values if equal states are to give equal bytes.
func (x *Map[V]) AppendBinary(b []byte, appendValue func([]byte, V) []byte) []byte {
	var scratch []byte
	b = append(b, version)
	b = binary.AppendUvarint(b, x.rev)
	b = binary.AppendUvarint(b, uint64(len(x.slots.unused)))
	for _, i := range x.slots.unused {
		b = binary.AppendUvarint(b, uint64(i))
	}
	b = binary.AppendUvarint(b, uint64(len(x.index)))
	for i := range x.slots.n { // entries are written in the order of their slots; which slots those are follows from the free ones
		e := x.slots.at(i)
		if e.rev == 0 {
			continue
		}
		scratch = appendValue(scratch[:0], e.v)
		b = pack.AppendBytes(pack.AppendBytes(b, e.key), scratch)
		b = binary.AppendUvarint(b, e.rev)
		b = binary.AppendUvarint(b, uint64(e.at))
		ks := x.notes.kept[i]
		b = binary.AppendUvarint(b, uint64(len(ks)))
		for _, k := range ks {
			b = binary.AppendUvarint(b, uint64(k))
		}
	}
	b = binary.AppendUvarint(b, uint64(len(x.keyed)))
	for _, key := range slices.Sorted(maps.Keys(x.keyed)) {
		b = pack.AppendWhos(pack.AppendBytes(b, key), x.keyed[key])
	}
	b = binary.AppendUvarint(b, uint64(len(x.ranged)))
	for _, w := range x.ranged {
		b = pack.AppendWho(pack.AppendBytes(b, w.prefix), w.who)
	}
	return b
}

// Restore makes x the state that AppendBinary wrote as b. parse is given the
// bytes of one value, a part of b that it must not keep. With an error b is not such
// a state, or parse refused a value of it, and x is as before.
func (x *Map[V]) Restore(b []byte, parse func([]byte) (V, error)) error {
	r := pack.Read(b)
	if r.Byte() != version {
		return pack.ErrMalformed
	}
	n := Map[V]{rev: r.Uvarint()}
	free := map[uint32]bool{}
	for i := r.Count(1); i > 0 && !r.Bad(); i-- {
		slot := uint32(r.Uint(math.MaxUint32))
		if free[slot] {
			return pack.ErrMalformed
		}
		free[slot] = true
		n.slots.unused = append(n.slots.unused, slot)
	}
	if err := n.restoreEntries(&r, free, parse); err != nil {
		return err
	}
	last := ""
	for i := r.Count(1); i > 0 && !r.Bad(); i-- {
		key := string(r.Bytes())
		if n.keyed == nil {
			n.keyed = make(map[string][]machine.Who)
		} else if key <= last {
			return pack.ErrMalformed
		}
		last = key
		if n.keyed[key] = r.Whos(); n.keyed[key] == nil {
			return pack.ErrMalformed
		}
	}
	for i := r.Count(1); i > 0 && !r.Bad(); i-- {
		prefix := string(r.Bytes())
		n.ranged = append(n.ranged, watcher{r.Who(), prefix})
	}
	if !r.End() {
		return pack.ErrMalformed
	}
	*x = n
	return nil
}

func (x *Map[V]) restoreEntries(r *pack.Reader, free map[uint32]bool, parse func([]byte) (V, error)) error {
	count := r.Count(1)
	total := count + uint64(len(free))
	for slot := range free {
		if uint64(slot) >= total {
			return pack.ErrMalformed
		}
	}
	if count > 0 {
		x.index = make(map[string]uint32, count)
	}
	for range total {
		i := x.slots.grow()
		if free[i] {
			continue
		}
		key := string(r.Bytes())
		v, err := parse(r.Bytes())
		if err != nil {
			return fmt.Errorf("maps: value: %w", err)
		}
		rev, at := r.Uint(x.rev), r.Int()
		if _, twice := x.index[key]; r.Bad() || twice || rev == 0 {
			return pack.ErrMalformed
		}
		*x.slots.at(i) = entry[V]{key, v, rev, at}
		x.index[key] = i
		if at != 0 {
			x.timed++
			x.due = append(x.due, deadline{at, rev, i})
		}
		for k := r.Uint(KeepPerKey); k > 0 && !r.Bad(); k-- {
			s := machine.Session(r.Uvarint())
			if slices.Contains(x.notes.kept[i], s) {
				return pack.ErrMalformed
			}
			x.notes.put(i, s)
		}
	}
	x.heapify()
	return nil
}
