package maps

import "github.com/distgear/distgear/internal/machine"

// TickMost is how many entries one Tick removes at most.
const TickMost = 4096

// deadline says that the entry in slot expires, if it still has that revision.
type deadline struct {
	at   int64
	rev  uint64
	slot uint32
}

func (d deadline) before(o deadline) bool {
	return d.at < o.at || d.at == o.at && d.rev < o.rev
}

// Due is when the next entry expires, in ms of the ledger's time; 0: no entry
// has a time to live.
func (x *Map[V]) Due() int64 {
	if len(x.due) == 0 {
		return 0
	}
	return x.due[0].at // never stale: see prune
}

// Tick removes entries whose time is over, TickMost at most: call it again
// while Due is not after now. For each, by time: Changed with Aux Expired, as Store
// says; no session is spared. Num is the revision of the change.
func (x *Map[V]) Tick(out *machine.Out[V], now int64) {
	for range TickMost {
		if len(x.due) == 0 || x.due[0].at > now {
			return
		}
		x.remove(out, 0, x.due[0].slot, Expired)
	}
}

// stale reports whether the entry was changed since.
func (x *Map[V]) stale(d deadline) bool {
	return d.slot >= x.slots.n || x.slots.at(d.slot).rev != d.rev
}

// prune takes stale deadlines from the top of the heap, and all when they are more than
// the others. It ends each change.
func (x *Map[V]) prune() {
	for len(x.due) > 0 && x.stale(x.due[0]) {
		last := len(x.due) - 1
		x.due[0] = x.due[last]
		x.due = x.due[:last]
		x.down(0)
	}
	if len(x.due) == 0 {
		x.due = nil
	}
	if len(x.due) <= 2*x.timed+chunk {
		return
	}
	live := make([]deadline, 0, x.timed+x.timed/4)
	for _, d := range x.due {
		if !x.stale(d) {
			live = append(live, d)
		}
	}
	x.due = live
	x.heapify()
}

func (x *Map[V]) push(d deadline) {
	x.due = append(x.due, d)
	for i := len(x.due) - 1; i > 0; {
		up := (i - 1) / 2
		if !x.due[i].before(x.due[up]) {
			return
		}
		x.due[i], x.due[up] = x.due[up], x.due[i]
		i = up
	}
}

func (x *Map[V]) down(i int) {
	for {
		c := 2*i + 1
		if c >= len(x.due) {
			return
		}
		if c+1 < len(x.due) && x.due[c+1].before(x.due[c]) {
			c++
		}
		if !x.due[c].before(x.due[i]) {
			return
		}
		x.due[i], x.due[c] = x.due[c], x.due[i]
		i = c
	}
}

func (x *Map[V]) heapify() {
	for i := len(x.due)/2 - 1; i >= 0; i-- {
		x.down(i)
	}
}
