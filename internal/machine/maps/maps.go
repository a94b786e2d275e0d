// Package maps is a map from strings to values, with revisions, times to live,
// watchers, and notes of who caches what.
//
//	var m maps.Map[[]byte]
//	m.Store(&out, who, "k", v, now, 0)
//	m.Load(&out, who, "k", true)                 // and tell me when it changes
//	m.CompareAndSwap(&out, who, "k", rev, w, now, 0)
//	if due := m.Due(); due != 0 && due <= now { m.Tick(&out, now) }
//
// # Guarantees
//
// Each change of the map has a revision, higher than all before it, also of a
// key that was deleted and stored again; an entry's revision is that of its
// last change. Every request is answered exactly once and at once; an answer of
// several entries is several effects. A session that was told that it may keep
// an entry is told Changed once when another session, or time, changes it: the
// effect comes after the answer that it may keep, and before that of any later
// operation. A watcher is told every change of what it watches, in order.
//
// # Failures
//
// An entry with a time to live is there until a Tick at or after its time; no
// operation looks at the time of an entry by itself. Entries stay when the
// session that stored them ends.
//
// A Map is not safe for concurrent use. It keeps keys and values as they are
// given: who gives them does not change them any more, and gives keys that pin
// nothing larger.
package maps

import (
	"math"

	"github.com/distgear/distgear/internal/machine"
)

// What happened to an entry: Aux of Changed.
const (
	Stored  = 1 + iota
	Deleted // by Delete
	Expired // its time to live was over
	Cleared // all entries went at once; Key is empty
)

// Map is the state of one map. The zero value is empty, at revision 0.
type Map[V any] struct {
	rev    uint64            // of the last change
	index  map[string]uint32 // key → slot
	slots  slots[V]
	due    []deadline // heap
	timed  int        // how many entries have a time to live
	notes  notes
	keyed  map[string][]machine.Who // watchers of one key, in order
	ranged []watcher                // watchers of a prefix, in order
}

// New makes an empty map at a revision. Give it the highest Revision of maps
// that were dropped or destroyed, so that revisions of one name never go back.
func New[V any](rev uint64) *Map[V] { return &Map[V]{rev: rev} }

// Load reads the entry of key. With keep, who's session wants to cache it and
// to be told when it changes.
//
//   - OK to who: Val is the value, Num its revision. Aux is 1 if the session
//     may keep it and will be told, 0 if it was not asked for or there are too
//     many who keep (KeepPerKey, KeepMost): then it must not be cached.
//   - Refused to who: there is no entry. Num is 0. That cannot be cached.
func (x *Map[V]) Load(out *machine.Out[V], who machine.Who, key string, keep bool) {
	slot, ok := x.index[key]
	if !ok {
		out.Tell(who, machine.Refused, 0)
		return
	}
	e := x.slots.at(slot)
	var kept uint64
	if keep && x.notes.add(slot, who.Session) {
		kept = 1
	}
	out.Add(machine.Effect[V]{To: who, Code: machine.OK, Num: e.rev, Aux: kept, Val: e.v})
}

// Store sets the entry of key to v. With ttl, in ms, it expires at now+ttl; 0
// is never. Either replaces the entry's former time to live.
//
//   - OK to who: Num is the new revision, Aux is 1 if there was an entry and 0
//     otherwise. Then Changed with Aux Stored, as Changed is told below.
//   - Invalid to who: ttl is negative. Nothing is changed.
//
// Changed, by this and by other methods: first to each session that keeps the
// entry and is not who's, in the order in which they loaded it, with Req 0: Key
// is the key, Num the revision, Aux what happened; no value. It keeps the entry
// no more. who's own session goes on keeping what it stored, at the revision it
// was answered. Then to each watcher of the key, then to each of a prefix
// of it, in the order in which they began to watch: the same, and Val is the value stored.
func (x *Map[V]) Store(out *machine.Out[V], who machine.Who, key string, v V, now, ttl int64) {
	if ttl < 0 {
		out.Tell(who, machine.Invalid, 0)
		return
	}
	var had uint64
	if _, ok := x.index[key]; ok {
		had = 1
	}
	out.Add(machine.Effect[V]{To: who, Code: machine.OK, Num: x.rev + 1, Aux: had})
	x.set(out, who.Session, key, v, now, ttl)
}

// LoadOrStore reads the entry of key, or stores v if there is none.
//
//   - OK to who, Aux 1: there is one; Val is its value, Num its revision.
//   - OK to who, Aux 0: v is stored; Num is its revision. Then Changed, as Store says.
//   - Invalid to who: ttl is negative.
func (x *Map[V]) LoadOrStore(out *machine.Out[V], who machine.Who, key string, v V, now, ttl int64) {
	if ttl < 0 {
		out.Tell(who, machine.Invalid, 0)
		return
	}
	if slot, ok := x.index[key]; ok {
		e := x.slots.at(slot)
		out.Add(machine.Effect[V]{To: who, Code: machine.OK, Num: e.rev, Aux: 1, Val: e.v})
		return
	}
	out.Tell(who, machine.OK, x.rev+1)
	x.set(out, who.Session, key, v, now, ttl)
}

// CompareAndSwap sets the entry of key to v if its revision is rev; rev 0 is
// that there is none.
//
//   - OK to who: done; Num is the new revision. Then Changed, as Store says.
//   - Refused to who: Num is the revision that there is, and Val its value; Num
//     0 is no entry. Nothing is changed.
//   - Invalid to who: ttl is negative.
func (x *Map[V]) CompareAndSwap(out *machine.Out[V], who machine.Who, key string, rev uint64, v V, now, ttl int64) {
	if ttl < 0 {
		out.Tell(who, machine.Invalid, 0)
		return
	}
	if x.differs(out, who, key, rev) {
		return
	}
	out.Tell(who, machine.OK, x.rev+1)
	x.set(out, who.Session, key, v, now, ttl)
}

// Delete removes the entry of key; if rev is not 0, only one of that revision.
//
//   - OK to who: done; Num is the revision of the change. Then Changed with Aux
//     Deleted, as Store says.
//   - Refused to who: as CompareAndSwap says. Nothing is changed.
func (x *Map[V]) Delete(out *machine.Out[V], who machine.Who, key string, rev uint64) {
	slot, ok := x.index[key]
	if !ok || rev != 0 {
		if x.differs(out, who, key, rev) {
			return
		}
		if !ok {
			out.Tell(who, machine.Refused, 0)
			return
		}
	}
	out.Tell(who, machine.OK, x.rev+1)
	x.remove(out, who.Session, slot, Deleted)
}

// Clear removes all entries.
//
//   - OK to who: Num is the revision of the change, Aux how many there were. If
//     there were none nothing is changed. Otherwise Changed with Aux Cleared, the same
//     Num and no key: once, with Req 0, to each session that keeps entries and is
//     not who's, by number (none keeps any more, who's neither); then to each watcher of
//     a key, by key, whether it had an entry or not; then to each of a prefix.
func (x *Map[V]) Clear(out *machine.Out[V], who machine.Who) {
	n := len(x.index)
	if n > 0 {
		x.rev++
	}
	out.Add(machine.Effect[V]{To: who, Code: machine.OK, Num: x.rev, Aux: uint64(n)})
	if n == 0 {
		return
	}
	x.everybody(func(to machine.Who) {
		if to.Req != 0 || to.Session != who.Session {
			out.Add(machine.Effect[V]{To: to, Code: machine.Changed, Num: x.rev, Aux: Cleared})
		}
	})
	*x = Map[V]{rev: x.rev, keyed: x.keyed, ranged: x.ranged}
}

// Len reads. OK to who: Num is how many entries there are.
func (x *Map[V]) Len(out *machine.Out[V], who machine.Who) {
	out.Tell(who, machine.OK, uint64(len(x.index)))
}

// scan is how many free slots a page of Range may pass by.
const scan = 4096

// Range reads a page of at most most entries. The first page has cursor 0,
// each other one the cursor that the page before it gave; a cursor is good also
// after changes and on another hub. The order is arbitrary. An entry that is
// there from the first page to the last is in exactly one of them; one that was
// stored or deleted in between may be in or not. Pages may have fewer entries, also
// none, and still not be the last.
//
//   - OK to who, once for each entry: Key, Val, and Num its revision. Aux is how
//     many effects of this answer still follow, and is not 0.
//   - OK to who, last: Aux is 0; Num is the cursor of the next page, 0 after
//     the last page.
//   - Invalid to who: most is not positive.
func (x *Map[V]) Range(out *machine.Out[V], who machine.Who, cursor uint64, most int) {
	if most <= 0 {
		out.Tell(who, machine.Invalid, 0)
		return
	}
	first := len(out.Effects)
	slot := cursor
	for end := uint64(x.slots.n); slot < end && most > 0 && slot-cursor < scan+uint64(len(out.Effects)-first); slot++ {
		if e := x.slots.at(uint32(slot)); e.rev != 0 {
			out.Add(machine.Effect[V]{To: who, Code: machine.OK, Num: e.rev, Key: e.key, Val: e.v})
			most--
		}
	}
	if slot >= uint64(x.slots.n) {
		slot = 0
	}
	n := len(out.Effects)
	for i := first; i < n; i++ {
		out.Effects[i].Aux = uint64(n - i)
	}
	out.Tell(who, machine.OK, slot)
}

// Expire ends a session: it watches and keeps nothing any more. What it stored
// stays. Nobody is told.
func (x *Map[V]) Expire(_ *machine.Out[V], s machine.Session) {
	x.notes.expire(s)
	x.unwatch(func(w machine.Who) bool { return w.Session == s })
}

// Destroy ends the map, and drops its entries: Gone, with Num the last
// revision, once to each session that keeps entries, with Req 0, by number; then to
// each watcher as Clear says. The revision goes on in x.
func (x *Map[V]) Destroy(out *machine.Out[V]) {
	x.everybody(func(to machine.Who) { out.Tell(to, machine.Gone, x.rev) })
	*x = Map[V]{rev: x.rev}
}

// Idle reports whether there are no entries and no watchers. What follows a
// dropped map is made by New with its Revision.
func (x *Map[V]) Idle() bool {
	return len(x.index) == 0 && len(x.keyed) == 0 && len(x.ranged) == 0
}

// Revision is the revision of the last change.
func (x *Map[V]) Revision() uint64 { return x.rev }

// Entries is how many entries there are.
func (x *Map[V]) Entries() int { return len(x.index) }

// differs reports, and tells who, that the entry of key has another revision than rev.
func (x *Map[V]) differs(out *machine.Out[V], who machine.Who, key string, rev uint64) bool {
	slot, ok := x.index[key]
	if !ok {
		if rev != 0 {
			out.Tell(who, machine.Refused, 0)
		}
		return rev != 0
	}
	e := x.slots.at(slot)
	if e.rev != rev {
		out.Add(machine.Effect[V]{To: who, Code: machine.Refused, Num: e.rev, Val: e.v})
	}
	return e.rev != rev
}

// set stores, on behalf of s, and tells who wants to know.
func (x *Map[V]) set(out *machine.Out[V], s machine.Session, key string, v V, now, ttl int64) {
	x.rev++
	slot, ok := x.index[key]
	if !ok {
		if x.index == nil {
			x.index = make(map[string]uint32)
		}
		slot = x.slots.take()
		x.index[key] = slot
		x.slots.at(slot).key = key
	}
	e := x.slots.at(slot)
	if e.at != 0 {
		x.timed--
	}
	e.v, e.rev, e.at = v, x.rev, 0
	if ttl > 0 {
		e.at = math.MaxInt64
		if now <= math.MaxInt64-ttl {
			e.at = max(now+ttl, 1)
		}
		x.timed++
		x.push(deadline{e.at, e.rev, slot})
	}
	x.prune()
	x.changed(out, s, slot, Stored)
}

// remove deletes, on behalf of s, and tells who wants to know.
func (x *Map[V]) remove(out *machine.Out[V], s machine.Session, slot uint32, why uint64) {
	x.rev++
	x.changed(out, s, slot, why)
	e := x.slots.at(slot)
	if e.at != 0 {
		x.timed--
	}
	delete(x.index, e.key)
	x.slots.free(slot)
	if len(x.index) == 0 && x.slots.n > chunk { // neither Go's map nor ours gives back room by itself
		x.index, x.slots = nil, slots[V]{}
	}
	x.prune()
}
