package maps

import (
	"maps"
	"slices"
	"strings"

	"github.com/distgear/distgear/internal/machine"
)

// How many notes of who keeps what there may be. A note takes 8 B, and a key
// with notes about 60 B more, so a map's notes stay below some 100 MB.
const (
	KeepPerKey = 64
	KeepMost   = 1 << 20
)

type watcher struct {
	who    machine.Who
	prefix string
}

// Watch tells who every change of the entry of key from now on; with prefix, of
// all entries whose key begins with key: the empty key is all. A session may watch
// several times; each request is one watcher. A second Watch with the same who is not checked for.
//
//   - OK to who: Num is the map's revision; changes after it are told. Changed
//     follows for each of them, as Store, Delete, Clear and Tick say.
func (x *Map[V]) Watch(out *machine.Out[V], who machine.Who, key string, prefix bool) {
	if prefix {
		x.ranged = append(x.ranged, watcher{who, key})
	} else {
		if x.keyed == nil {
			x.keyed = make(map[string][]machine.Who)
		}
		x.keyed[key] = append(x.keyed[key], who)
	}
	out.Tell(who, machine.OK, x.rev)
}

// Unwatch ends a watcher; who is the one that watched.
//
//   - OK to who: Num is the map's revision; no Changed follows this effect.
//   - Stale to who: there is no such watcher.
func (x *Map[V]) Unwatch(out *machine.Out[V], who machine.Who) {
	code := machine.Stale
	if x.unwatch(func(w machine.Who) bool { return w == who }) {
		code = machine.OK
	}
	out.Tell(who, code, x.rev)
}

// Drop says that a session keeps the entry of key no more: its cache has put it
// out. Nobody is told; a Changed may be on its way to it.
func (x *Map[V]) Drop(s machine.Session, key string) {
	if slot, ok := x.index[key]; ok {
		x.notes.drop(slot, s)
	}
}

// Watchers is how many there are.
func (x *Map[V]) Watchers() int {
	n := len(x.ranged)
	for _, ws := range x.keyed {
		n += len(ws)
	}
	return n
}

// Kept is how many notes there are of sessions that keep an entry.
func (x *Map[V]) Kept() int { return x.notes.n }

func (x *Map[V]) unwatch(gone func(machine.Who) bool) bool {
	before := len(x.ranged)
	x.ranged = slices.DeleteFunc(x.ranged, func(w watcher) bool { return gone(w.who) })
	found := len(x.ranged) < before
	for key, ws := range x.keyed { // any order: nothing is told
		left := slices.DeleteFunc(ws, gone)
		if len(left) < len(ws) {
			found = true
			x.keyed[key] = left
		}
		if len(left) == 0 {
			delete(x.keyed, key)
		}
	}
	return found
}

// changed tells about the change x.rev of the entry in slot by s.
func (x *Map[V]) changed(out *machine.Out[V], s machine.Session, slot uint32, why uint64) {
	if x.notes.n == 0 && len(x.keyed) == 0 && len(x.ranged) == 0 {
		return
	}
	e := x.slots.at(slot)
	tell := machine.Effect[V]{Code: machine.Changed, Num: x.rev, Aux: why, Key: e.key}
	x.notes.take(slot, func(k machine.Session) bool {
		if k == s {
			return why == Stored
		}
		tell.To = machine.Who{Session: k}
		out.Add(tell)
		return false
	})
	if why == Stored {
		tell.Val = e.v
	}
	for _, w := range x.keyed[e.key] {
		tell.To = w
		out.Add(tell)
	}
	for _, w := range x.ranged {
		if strings.HasPrefix(e.key, w.prefix) {
			tell.To = w.who
			out.Add(tell)
		}
	}
}

// everybody calls tell for each session that keeps something, with Req 0, and
// each watcher, in an order that depends on the state only.
func (x *Map[V]) everybody(tell func(machine.Who)) {
	for _, s := range slices.Sorted(maps.Keys(x.notes.by)) {
		tell(machine.Who{Session: s})
	}
	for _, key := range slices.Sorted(maps.Keys(x.keyed)) {
		for _, w := range x.keyed[key] {
			tell(w)
		}
	}
	for _, w := range x.ranged {
		tell(w.who)
	}
}

// notes are who keeps which entry. Entries that nobody keeps cost nothing.
type notes struct {
	n    int
	high int                          // the most there were in these maps, which do not shrink by themselves
	kept map[uint32][]machine.Session // slot → in the order in which they loaded
	by   map[machine.Session]int      // how many; never 0
}

// add notes that s keeps the entry in slot, unless there are too many notes.
func (n *notes) add(slot uint32, s machine.Session) bool {
	ks := n.kept[slot]
	if slices.Contains(ks, s) {
		return true
	}
	if len(ks) >= KeepPerKey || n.n >= KeepMost {
		return false
	}
	n.put(slot, s)
	return true
}

func (n *notes) put(slot uint32, s machine.Session) {
	if n.kept == nil {
		n.kept = make(map[uint32][]machine.Session)
		n.by = make(map[machine.Session]int)
	}
	n.kept[slot] = append(n.kept[slot], s)
	n.by[s]++
	n.n++
	n.high = max(n.high, n.n)
}

func (n *notes) drop(slot uint32, s machine.Session) {
	n.take(slot, func(k machine.Session) bool { return k != s })
}

// take keeps those notes of a slot that stay reports, in order.
func (n *notes) take(slot uint32, stay func(machine.Session) bool) {
	ks, ok := n.kept[slot]
	if !ok {
		return
	}
	left := ks[:0]
	for _, k := range ks {
		if stay(k) {
			left = append(left, k)
			continue
		}
		n.n--
		n.by[k]--
		if n.by[k] == 0 {
			delete(n.by, k)
		}
	}
	if len(left) == 0 {
		delete(n.kept, slot)
	} else {
		n.kept[slot] = left
	}
	if n.n == 0 && n.high > chunk {
		*n = notes{}
	}
}

// expire takes back all notes of s.
func (n *notes) expire(s machine.Session) {
	if n.by[s] == 0 {
		return
	}
	for slot := range n.kept { // any order: nothing is told
		n.drop(slot, s)
	}
}
