package maps

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"

	"github.com/distgear/distgear/internal/machine"
)

var errMalformed = errors.New("maps: malformed state")

const version = 1

// AppendBinary appends the state to b. appendValue appends a value, and must
// append equal bytes for equal values if equal states are to give equal bytes.
func (x *Map[V]) AppendBinary(b []byte, appendValue func([]byte, V) []byte) []byte {
	var scratch []byte
	who := func(w machine.Who) {
		b = binary.AppendUvarint(b, uint64(w.Session))
		b = binary.AppendUvarint(b, w.Req)
	}
	text := func(s string) {
		b = binary.AppendUvarint(b, uint64(len(s)))
		b = append(b, s...)
	}
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
		text(e.key)
		scratch = appendValue(scratch[:0], e.v)
		b = binary.AppendUvarint(b, uint64(len(scratch)))
		b = append(b, scratch...)
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
		text(key)
		b = binary.AppendUvarint(b, uint64(len(x.keyed[key])))
		for _, w := range x.keyed[key] {
			who(w)
		}
	}
	b = binary.AppendUvarint(b, uint64(len(x.ranged)))
	for _, w := range x.ranged {
		text(w.prefix)
		who(w.who)
	}
	return b
}

// Restore makes x the state that AppendBinary wrote as b. parse is given the
// bytes of one value, a part of b that it must not keep. With an error b is not such
// a state, or parse refused a value of it, and x is as before.
func (x *Map[V]) Restore(b []byte, parse func([]byte) (V, error)) error {
	r := reader{b: b}
	if r.uint(version) != version {
		return errMalformed
	}
	n := Map[V]{rev: r.uint(math.MaxUint64)}
	free := map[uint32]bool{}
	for i := r.count(); i > 0 && !r.bad; i-- {
		slot := uint32(r.uint(math.MaxUint32))
		if free[slot] {
			return errMalformed
		}
		free[slot] = true
		n.slots.unused = append(n.slots.unused, slot)
	}
	if err := n.restoreEntries(&r, free, parse); err != nil {
		return err
	}
	last := ""
	for i := r.count(); i > 0 && !r.bad; i-- {
		key := string(r.bytes())
		if n.keyed == nil {
			n.keyed = make(map[string][]machine.Who)
		} else if key <= last {
			return errMalformed
		}
		last = key
		ws := r.count()
		if ws == 0 {
			return errMalformed
		}
		for ; ws > 0 && !r.bad; ws-- {
			n.keyed[key] = append(n.keyed[key], r.who())
		}
	}
	for i := r.count(); i > 0 && !r.bad; i-- {
		prefix := string(r.bytes())
		n.ranged = append(n.ranged, watcher{r.who(), prefix})
	}
	if r.bad || len(r.b) > 0 {
		return errMalformed
	}
	*x = n
	return nil
}

func (x *Map[V]) restoreEntries(r *reader, free map[uint32]bool, parse func([]byte) (V, error)) error {
	count := r.count()
	total := count + uint64(len(free))
	for slot := range free {
		if uint64(slot) >= total {
			return errMalformed
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
		key := string(r.bytes())
		v, err := parse(r.bytes())
		if err != nil {
			return fmt.Errorf("maps: value: %w", err)
		}
		rev, at := r.uint(x.rev), int64(r.uint(math.MaxInt64))
		if _, twice := x.index[key]; r.bad || twice || rev == 0 {
			return errMalformed
		}
		*x.slots.at(i) = entry[V]{key, v, rev, at}
		x.index[key] = i
		if at != 0 {
			x.timed++
			x.due = append(x.due, deadline{at, rev, i})
		}
		for k := r.uint(KeepPerKey); k > 0 && !r.bad; k-- {
			s := machine.Session(r.uint(math.MaxUint64))
			if slices.Contains(x.notes.kept[i], s) {
				return errMalformed
			}
			x.notes.put(i, s)
		}
	}
	x.heapify()
	return nil
}

// reader takes apart what AppendBinary wrote. After a fault it is bad and
// reads zeros.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) uint(most uint64) uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 || v > most {
		r.b, r.bad = nil, true
		return 0
	}
	r.b = r.b[n:]
	return v
}

// count reads how many things follow, of at least a byte each.
func (r *reader) count() uint64 {
	n := r.uint(uint64(len(r.b)))
	if n > uint64(len(r.b)) {
		r.b, r.bad = nil, true
		return 0
	}
	return n
}

func (r *reader) bytes() []byte {
	n := r.count()
	v := r.b[:n:n]
	r.b = r.b[n:]
	return v
}

func (r *reader) who() machine.Who {
	return machine.Who{Session: machine.Session(r.uint(math.MaxUint64)), Req: r.uint(math.MaxUint64)}
}
