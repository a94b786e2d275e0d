package assign

import (
	"cmp"
	"encoding/binary"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/distgear/distgear/internal/machine"
	"github.com/distgear/distgear/internal/machine/pack"
	"github.com/distgear/distgear/internal/machine/words"
)

// A state is written in two parts: classes, keys, lanes and workers; then, when the
// tasks have been read, which nodes each lane and worker has. Lanes have numbers, in
// the order in which they are written. Limits are the host's to write.

// Lanes numbers the lanes of a state, for AppendNode.
type Lanes[T any] struct {
	numbers map[*lane[T]]uint64
	order   []*lane[T]
}

func (x *Lanes[T]) add(l *lane[T]) {
	x.numbers[l] = uint64(len(x.order))
	x.order = append(x.order, l)
}

// AppendBinary appends the first part.
func (m *Machine[T]) AppendBinary(b []byte) ([]byte, *Lanes[T]) {
	x := &Lanes[T]{numbers: map[*lane[T]]uint64{}}
	b = uints(b, uint64(m.now), m.stamp, m.leases, uint64(m.bucket.used), uint64(m.bucket.at), uint64(m.rateDue))
	var classes []*class[T]
	for _, c := range m.classes {
		if c.refs > 0 {
			classes = append(classes, c)
		}
	}
	slices.SortFunc(classes, func(a, b *class[T]) int {
		return cmp.Or(strings.Compare(a.Kind, b.Kind), strings.Compare(a.Labels, b.Labels), int(a.flags())-int(b.flags()))
	})
	index := make(map[*class[T]]uint64, len(classes))
	b = uints(b, uint64(len(classes)))
	for i, c := range classes {
		index[c] = uint64(i)
		b = pack.AppendBytes(pack.AppendBytes(b, c.Kind), c.Labels)
		b = append(b, c.flags())
	}
	keys := m.sortedKeys()
	place := make(map[*key[T]]uint64, len(keys))
	b = uints(b, uint64(len(keys)))
	for i, k := range keys {
		place[k] = uint64(i)
		b = pack.AppendBytes(b, k.name)
		b = uints(b, uint64(k.bucket.used), uint64(k.bucket.at), uint64(k.due), uint64(k.worker))
		b = pack.AppendBool(b, k.blocked)
	}
	b = uints(b, uint64(m.idle.n))
	for k := m.idle.head; k != nil; k = k.next {
		b = uints(b, place[k])
	}
	b = m.appendFree(b, x, classes, index)
	for _, k := range keys {
		b = uints(b, uint64(len(k.flows)))
		for _, f := range k.flows {
			b = uints(append(b, byte(f.priority)), uint64(len(f.lanes)))
			for _, l := range f.lanes {
				b = uints(b, index[l.class])
				x.add(l)
			}
		}
	}
	b = uints(b, uint64(len(m.workers)))
	for _, s := range slices.Sorted(maps.Keys(m.workers)) {
		w := m.workers[s]
		b = pack.AppendBool(uints(b, uint64(s), w.stamp), w.quiet)
		b = pack.AppendBytes(b, words.AppendOffer(nil, &w.offer))
	}
	return b, x
}

// appendFree appends the lanes without key.
func (m *Machine[T]) appendFree(b []byte, x *Lanes[T], classes []*class[T], index map[*class[T]]uint64) []byte {
	var lanes []*lane[T]
	for _, c := range classes {
		if c.plain.refs > 0 {
			lanes = append(lanes, c.plain)
		}
	}
	for _, l := range m.others {
		lanes = append(lanes, l)
	}
	slices.SortFunc(lanes, func(a, b *lane[T]) int {
		return cmp.Or(cmp.Compare(index[a.class], index[b.class]), cmp.Compare(a.flow.priority, b.flow.priority))
	})
	b = uints(b, uint64(len(lanes)))
	for _, l := range lanes {
		b = append(uints(b, index[l.class]), byte(l.flow.priority))
		x.add(l)
	}
	return b
}

const (
	classIdempotent byte = 1 << iota
	classLost
)

func (c *Class) flags() (f byte) {
	if c.Idempotent {
		f |= classIdempotent
	}
	if c.Lost {
		f |= classLost
	}
	return f
}

func uints(b []byte, vs ...uint64) []byte {
	for _, v := range vs {
		b = binary.AppendUvarint(b, v)
	}
	return b
}

// AppendNode appends a node, but for its Number and its place.
func (x *Lanes[T]) AppendNode(b []byte, n *Node[T]) []byte {
	return append(uints(b, x.numbers[n.lane], uint64(n.Epoch), uint64(n.Size)), byte(n.flags))
}

// AppendPlaces appends the second part.
func (m *Machine[T]) AppendPlaces(b []byte, x *Lanes[T]) []byte {
	for _, l := range x.order {
		b = l.nodes.AppendBinary(uints(b, l.stamp))
	}
	for _, s := range slices.Sorted(maps.Keys(m.workers)) {
		b = m.workers[s].has.AppendBinary(b)
	}
	return b
}

// AppendBinary appends the numbers of a list's nodes.
func (x *List[T]) AppendBinary(b []byte) []byte {
	n, before := uint64(0), uint64(0)
	for o := x.first; o != nil; o = o.next {
		n++
	}
	b = uints(b, n)
	for o := x.first; o != nil; o = o.next {
		b = binary.AppendVarint(b, int64(o.Number-before))
		before = o.Number
	}
	return b
}

// Restore reads the first part into an empty machine. After a fault r is bad.
func (m *Machine[T]) Restore(r *pack.Reader) *Lanes[T] {
	x := &Lanes[T]{}
	m.now, m.stamp, m.leases = clock(r), r.Uvarint(), r.Uvarint()
	m.bucket, m.rateDue = bucket{used(r), clock(r)}, clock(r)
	due := m.rateDue
	var classes []*class[T]
	for range r.Count(3) {
		c := Class{Kind: string(r.Bytes()), Labels: string(r.Bytes())}
		f := r.Flags(classIdempotent | classLost)
		c.Idempotent, c.Lost = f&classIdempotent != 0, f&classLost != 0
		if r.Bad() || m.classes[c] != nil {
			r.Fail()
			return x
		}
		classes = append(classes, m.class(c))
	}
	keys := m.readKeys(r)
	for range r.Count(2) {
		c, p := pick(r, classes), int8(r.Byte())
		if r.Bad() {
			return x
		}
		x.order = append(x.order, m.lane(c, m.nokey, p))
	}
	for _, k := range keys {
		for range r.Count(2) {
			p := int8(r.Byte())
			for range r.Count(1) {
				c := pick(r, classes)
				if r.Bad() {
					return x
				}
				x.order = append(x.order, m.lane(c, k, p))
			}
		}
	}
	seen := make(map[*lane[T]]bool, len(x.order))
	for _, l := range x.order {
		if seen[l] {
			r.Fail()
		}
		seen[l] = true
	}
	last := machine.Session(0)
	for range r.Count(4) {
		s, stamp, quiet := machine.Session(r.Uvarint()), r.Uvarint(), r.Bool()
		o, err := words.ParseOffer(r.Bytes())
		if r.Bad() || err != nil || s <= last {
			r.Fail()
			return x
		}
		last = s
		m.Work(s, o)
		w := m.workers[s]
		w.stamp, w.quiet = stamp, quiet
		m.touch(w)
	}
	m.rateDue = due
	return x
}

func (m *Machine[T]) readKeys(r *pack.Reader) (keys []*key[T]) {
	for range r.Count(6) {
		k := &key[T]{name: string(r.Bytes()), bucket: bucket{used(r), clock(r)}, due: clock(r), worker: machine.Session(r.Uvarint()), blocked: r.Bool()}
		if r.Bad() || k.name == "" || m.keys[k.name] != nil {
			r.Fail()
			return nil
		}
		m.keys[k.name] = k
		keys = append(keys, k)
		if k.due != 0 {
			m.keyDues.Push(keyTimer{k.due, k.name})
		}
	}
	for range r.Count(1) {
		k := pick(r, keys)
		if r.Bad() || k.idle {
			r.Fail()
			return nil
		}
		k.idle = true
		m.idle.push(k)
	}
	return keys
}

func pick[E any](r *pack.Reader, all []*E) *E {
	if n := r.Uvarint(); n < uint64(len(all)) {
		return all[n]
	}
	r.Fail()
	return nil
}

func clock(r *pack.Reader) int64 { return int64(r.Uint(words.MaxTime)) }

// used reads what a bucket lacks.
func used(r *pack.Reader) int64 { return int64(r.Uint((words.MaxBurst + 1) * words.PerToken)) }

// ReadNode reads a node of a task.
func (x *Lanes[T]) ReadNode(r *pack.Reader, n *Node[T], of *T) {
	l := pick(r, x.order)
	n.Of, n.Epoch, n.Size, n.flags = of, uint32(r.Uint(math.MaxUint32)), uint32(r.Uint(math.MaxUint32)), flags(r.Flags(byte(recalled|awaited|kept)))
	if !r.Bad() {
		n.lane = l
		l.use()
	}
}

// RestorePlaces reads the second part. find answers with the node of a number, nil if
// there is none; every node that is ready or leased comes once, and held tells which of the two.
func (m *Machine[T]) RestorePlaces(r *pack.Reader, x *Lanes[T], find func(number uint64) *Node[T], seen func(n *Node[T], held bool) bool) {
	var placed []*lane[T]
	for _, l := range x.order {
		l.stamp = r.Uvarint()
		blocked := l.flow.key.blocked
		l.flow.key.blocked = true // it is placed below
		ReadList(r, find, func(n *Node[T]) bool {
			if n.lane != l || n.on != nowhere || !seen(n, false) {
				return false
			}
			m.Ready(n, false)
			return true
		})
		if l.flow.key.blocked = blocked; !blocked && l.n > 0 {
			placed = append(placed, l)
		}
	}
	slices.SortStableFunc(placed, func(a, b *lane[T]) int { return cmp.Compare(a.stamp, b.stamp) })
	for _, l := range placed {
		m.place(l, l.stamp)
	}
	for _, s := range slices.Sorted(maps.Keys(m.workers)) {
		w := m.workers[s]
		ReadList(r, find, func(n *Node[T]) bool {
			if n.on != nowhere || !seen(n, true) {
				return false
			}
			m.hold(w, n)
			if n.flags&awaited != 0 {
				w.asked++
				m.recalls++
			}
			return true
		})
		m.touch(w)
	}
}

// ReadList reads the numbers of a list, and calls f with each node; false is a fault.
func ReadList[T any](r *pack.Reader, find func(number uint64) *Node[T], f func(n *Node[T]) bool) {
	at := uint64(0)
	for range r.Count(1) {
		at += uint64(r.Varint())
		if n := find(at); r.Bad() || n == nil || !f(n) {
			r.Fail()
			return
		}
	}
}
