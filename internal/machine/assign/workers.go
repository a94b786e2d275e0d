package assign

import (
	"encoding/binary"
	"maps"
	"slices"

	"github.com/distgear/distgear/internal/machine"
	"github.com/distgear/distgear/internal/machine/heap"
	"github.com/distgear/distgear/internal/machine/words"
)

// worker is a session that works.
type worker[T any] struct {
	s      machine.Session
	offer  words.Offer
	kinds  map[string]bool // nil: any
	leased int
	bytes  int
	asked  int      // of what it has, how many were recalled
	has    List[T]  // oldest first
	own    queue[T] // lanes that stick to it
	stamp  uint64   // of its last lease
	quiet  bool

	profile *profile[T]
	idle    int // free slots, as Machine.free counts them
	credits int // place in profile.credits; -1: it has no credit
	over    int // place in profile.over; -1: it has nothing that could be recalled
	eager   int // place in Machine.eager; -1: it has no credit, or nothing sticks to it
}

// profile is the workers that can do the same classes.
type profile[T any] struct {
	key     string // the serials of the classes
	classes []*class[T]
	workers int
	credits heap.Heap[credit[T]] // with credit, the emptiest first
	over    heap.Heap[over[T]]   // with more than they have slots, most first
	reserve *lane[T]             // see pick
}

// credit ranks workers by free slots, then by who had nothing new for longest.
type credit[T any] struct{ *worker[T] }

func (a credit[T]) At(i int) { a.worker.credits = i }

func (a credit[T]) Before(b credit[T]) bool {
	if x, y := a.spare(), b.spare(); x != y {
		return x > y
	}
	if a.stamp != b.stamp {
		return a.stamp < b.stamp
	}
	return a.s < b.s
}

// over ranks workers by what waits there and was not recalled.
type over[T any] struct{ *worker[T] }

func (a over[T]) At(i int) { a.worker.over = i }

func (a over[T]) Before(b over[T]) bool {
	if x, y := a.excess(), b.excess(); x != y {
		return x > y
	}
	return a.s < b.s
}

// spare is how many slots are free; below zero, how many tasks wait.
func (w *worker[T]) spare() int { return w.offer.Slots - w.leased }

func (w *worker[T]) excess() int { return w.leased - w.offer.Slots - w.asked }

// maxBytes is the default of Offer.Bytes.
const maxBytes = 1 << 20

// hasCredit tells whether it may be leased something.
func (w *worker[T]) hasCredit() bool {
	most := w.offer.Bytes
	if most <= 0 {
		most = maxBytes
	}
	if w.quiet || w.offer.Slots <= 0 || w.leased >= w.offer.Slots+w.offer.Prefetch || w.spare() <= 0 && w.bytes >= most {
		return false
	}
	// What sticks to it and cannot be prefetched waits for a free slot: so nothing else is prefetched.
	l := w.own.first()
	return w.spare() > 0 || l == nil || !l.class.strict()
}

// can tells whether it may run tasks of a class.
func (w *worker[T]) can(c *class[T]) bool {
	if w.kinds != nil && !w.kinds[c.Kind] {
		return false
	}
	for _, p := range c.labels {
		if v, ok := w.offer.Labels[p[0]]; !ok || v != p[1] {
			return false
		}
	}
	return true
}

// stuck is the worker that a lane sticks to; nil: none.
func (m *Machine[T]) stuck(l *lane[T]) *worker[T] {
	k := l.flow.key
	if !m.lim.Sticky || k.free || k.worker == 0 {
		return nil
	}
	w := m.workers[k.worker]
	if w == nil || w.quiet || w.offer.Slots <= 0 || !w.can(l.class) {
		return nil
	}
	return w
}

// touch keeps the books after a change of a worker.
func (m *Machine[T]) touch(w *worker[T]) {
	idle := 0
	if !w.quiet {
		idle = max(0, w.spare())
	}
	m.free += idle - w.idle
	w.idle = idle
	p := w.profile
	has := w.hasCredit()
	switch {
	case has && w.credits < 0:
		p.credits.Push(credit[T]{w})
	case has:
		p.credits.Fix(w.credits)
	case w.credits >= 0:
		p.credits.Remove(w.credits)
	}
	switch more := !w.quiet && w.offer.Slots > 0 && w.excess() > 0 && w.leased > 1; {
	case more && w.over < 0:
		p.over.Push(over[T]{w})
		m.overs++
	case more:
		p.over.Fix(w.over)
	case w.over >= 0:
		p.over.Remove(w.over)
		m.overs--
	}
	switch eager := has && w.own.n > 0; {
	case eager && w.eager < 0:
		w.eager = len(m.eager)
		m.eager = append(m.eager, w)
	case !eager && w.eager >= 0:
		last := len(m.eager) - 1
		m.eager[last].eager = w.eager
		m.eager[w.eager] = m.eager[last]
		m.eager[last] = nil
		m.eager, w.eager = m.eager[:last], -1
	}
}

// joinProfile puts a worker into the profile that has one class more than p; nil:
// only that. more is not nil and the newest class, or p is nil.
func (m *Machine[T]) joinProfile(w *worker[T], p *profile[T], more ...*class[T]) {
	var key []byte
	var classes []*class[T]
	if p != nil {
		key, classes = append(key, p.key...), append(classes, p.classes...)
	}
	for _, c := range more {
		key = binary.BigEndian.AppendUint32(key, c.serial)
		classes = append(classes, c)
	}
	to := m.profiles[string(key)]
	if to == nil {
		to = &profile[T]{key: string(key), classes: classes}
		m.profiles[to.key] = to
		for _, c := range classes {
			c.profiles = append(c.profiles, to)
		}
	}
	w.profile = to
	to.workers++
	m.touch(w)
}

// leaveProfile takes a worker out of its profile, which stays noted.
func (m *Machine[T]) leaveProfile(w *worker[T]) {
	p := w.profile
	if w.credits >= 0 {
		p.credits.Remove(w.credits)
	}
	if w.over >= 0 {
		p.over.Remove(w.over)
		m.overs--
	}
	if p.workers--; p.workers == 0 {
		delete(m.profiles, p.key)
		for _, c := range p.classes {
			c.profiles = slices.DeleteFunc(c.profiles, func(o *profile[T]) bool { return o == p })
		}
	}
}

// rejoin puts a worker into the profile that it has now.
func (m *Machine[T]) rejoin(w *worker[T]) {
	if w.profile != nil {
		m.leaveProfile(w)
	}
	var can []*class[T]
	for _, c := range m.classes {
		if w.can(c) {
			can = append(can, c)
		}
	}
	slices.SortFunc(can, func(a, b *class[T]) int { return int(a.serial) - int(b.serial) })
	m.joinProfile(w, nil, can...)
}

// Work says what a worker can do from now on. One that was quiet is not any more.
func (m *Machine[T]) Work(s machine.Session, o words.Offer) {
	o.Slots, o.Prefetch, o.Bytes = min(max(o.Slots, 0), maxSlots), min(max(o.Prefetch, 0), maxSlots), max(o.Bytes, 0)
	w := m.workers[s]
	if w == nil {
		w = &worker[T]{s: s, credits: -1, over: -1, eager: -1}
		w.own.worker = w
		m.workers[s] = w
	}
	m.slots += o.Slots - w.offer.Slots
	other := w.profile == nil || !slices.Equal(w.offer.Kinds, o.Kinds) || !maps.Equal(w.offer.Labels, o.Labels)
	w.offer, w.quiet = o, false
	if other {
		if w.kinds = nil; len(o.Kinds) > 0 {
			w.kinds = make(map[string]bool, len(o.Kinds))
			for _, k := range o.Kinds {
				w.kinds[k] = true
			}
		}
		m.rejoin(w)
	}
	if other || o.Slots == 0 {
		m.unstick(w)
	}
	m.touch(w)
}

// maxSlots bounds slots and prefetch.
const maxSlots = 1 << 20

// unstick puts the lanes that stick to a worker where they belong now.
func (m *Machine[T]) unstick(w *worker[T]) {
	var ls []*lane[T]
	for i := range w.own.levels {
		for l := w.own.levels[i].head; l != nil; l = l.next {
			ls = append(ls, l)
		}
	}
	for _, l := range ls {
		m.again(l, m.turn())
	}
}

// Works tells whether a session is a worker, and whether it is quiet.
func (m *Machine[T]) Works(s machine.Session) (works, quiet bool) {
	w := m.workers[s]
	return w != nil, w != nil && w.quiet
}

// Hush says that a worker is quiet, so that it is leased nothing, or is not any more. What
// it has stays with it.
func (m *Machine[T]) Hush(s machine.Session, quiet bool) {
	if w := m.workers[s]; w != nil && w.quiet != quiet {
		w.quiet = quiet
		m.touch(w)
		m.unstick(w)
	}
}

// Newest is what a worker was leased last, and has; nil: nothing.
func (m *Machine[T]) Newest(s machine.Session) *Node[T] {
	if w := m.workers[s]; w != nil {
		return w.has.last
	}
	return nil
}

// Before is what the worker of a leased node was leased before it, and has; nil: nothing.
func (n *Node[T]) Before() *Node[T] { return n.prev }

// Remove ends a worker that has nothing any more.
func (m *Machine[T]) Remove(s machine.Session) {
	w := m.workers[s]
	if w == nil {
		return
	}
	delete(m.workers, s)
	m.slots -= w.offer.Slots
	w.offer.Slots = 0
	m.unstick(w)
	m.touch(w)
	m.leaveProfile(w)
}

// Next leases the node whose turn it is to the worker that is to have it; nil: there
// is nothing that could be leased now. Its Epoch counts on.
func (m *Machine[T]) Next() (*Node[T], machine.Session) {
	m.rateDue = 0
	if len(m.active)+len(m.eager) == 0 || m.lim.Running > 0 && m.leased >= m.lim.Running {
		return nil, 0
	}
	if wait := m.bucket.wait(m.now, m.lim.Rate, burst(m.lim.Rate, m.lim.Burst)); wait > 0 {
		m.rateDue = m.now + wait
		return nil, 0
	}
	l, w := m.pick()
	if l == nil {
		return nil, 0
	}
	return m.lease(l, w), w.s
}

// Pause says that Next is not asked any more, until it is.
func (m *Machine[T]) Pause() { m.rateDue = 0 }

// pick is the lane whose turn it is among those that somebody has credit for, and
// who that is.
func (m *Machine[T]) pick() (*lane[T], *worker[T]) {
	if m.strict > 0 {
		m.reserve()
	}
	var best *lane[T]
	var by *worker[T]
	for _, c := range m.active {
		if l := c.queue.first(); best == nil || l.before(best) {
			if w := m.whoFor(l); w != nil {
				best, by = l, w
			}
		}
	}
	for _, w := range m.eager {
		if l := w.own.first(); best == nil || l.before(best) {
			if w.mayHave(l) {
				best, by = l, w
			}
		}
	}
	if best == nil || best.flow.key.free || len(best.flow.lanes) == 1 {
		return best, by
	}
	for _, l := range best.flow.lanes { // of one key, what came first
		if l.in == nil || l.nodes.first.Number >= best.nodes.first.Number {
			continue
		}
		if w := m.whoFor(l); w != nil {
			best, by = l, w
		}
	}
	return best, by
}

// reserve keeps slots that become free for what cannot be prefetched: in a
// profile where no slot is free, what comes after the first of them is not prefetched.
func (m *Machine[T]) reserve() {
	for _, c := range m.active {
		for _, p := range c.profiles {
			p.reserve = nil
		}
	}
	for _, w := range m.eager {
		w.profile.reserve = nil
	}
	for _, c := range m.active {
		if !c.strict() {
			continue
		}
		l := c.queue.first()
		for _, p := range c.profiles {
			if p.reserve == nil || l.before(p.reserve) {
				p.reserve = l
			}
		}
	}
}

// whoFor is the worker that a lane's first task goes to; nil: nobody has credit
// for it.
func (m *Machine[T]) whoFor(l *lane[T]) *worker[T] {
	if w := l.in.worker; w != nil {
		if w.credits >= 0 && w.mayHave(l) {
			return w
		}
		return nil
	}
	var best *worker[T]
	for _, p := range l.class.profiles {
		if len(p.credits) == 0 {
			continue
		}
		w := p.credits[0]
		if w.mayHave(l) && (best == nil || w.Before(credit[T]{best})) {
			best = w.worker
		}
	}
	return best
}

// mayHave tells whether a worker that has credit has it for a lane's first task.
func (w *worker[T]) mayHave(l *lane[T]) bool {
	if w.spare() > 0 {
		return true
	}
	r := w.profile.reserve
	return !l.class.strict() && (r == nil || r.in == nil || r.in.class == nil || l.before(r))
}

// lease leases a lane's first node.
func (m *Machine[T]) lease(l *lane[T], w *worker[T]) *Node[T] {
	n, k := l.nodes.first, l.flow.key
	m.Unready(n)
	n.Epoch++
	m.hold(w, n)
	m.leases++
	w.stamp = m.leases
	m.bucket.take(m.now, m.lim.Rate)
	moved := false
	if !k.free {
		k.bucket.take(m.now, m.lim.KeyRate)
		if m.lim.Sticky && k.worker != w.s {
			k.worker, moved = w.s, true
		}
	}
	m.served(l, moved)
	m.recheck(k)
	m.touch(w)
	return n
}

// hold gives a node to a worker.
func (m *Machine[T]) hold(w *worker[T], n *Node[T]) {
	n.on, n.worker = leased, w
	w.has.Push(n)
	m.leased++
	w.leased++
	w.bytes += int(n.Size)
	n.lane.flow.key.running++
}

// Free takes a leased node from its worker. It is nowhere then.
func (m *Machine[T]) Free(n *Node[T]) {
	w, k := n.worker, n.lane.flow.key
	w.has.Remove(n)
	m.leased--
	w.leased--
	w.bytes -= int(n.Size)
	m.Kept(n)
	n.on, n.worker, n.flags = nowhere, nil, 0
	m.touch(w)
	k.running--
	m.recheck(k)
}

// maxLooked is how many leases of a worker are looked at for one that can be recalled.
const maxLooked = 64

// Recall is a node that waits at one worker while another has a free slot, and
// there is nothing else for that: its worker is to be asked for it. Nil: there is none.
// It is to be called when Next has nothing more.
func (m *Machine[T]) Recall() *Node[T] {
	if m.overs == 0 || m.recalls >= m.free {
		return nil
	}
	var best *Node[T]
	for _, p := range m.profiles {
		if len(p.over) == 0 || best != nil && !p.over[0].Before(over[T]{best.worker}) {
			continue
		}
		if n := m.recallable(p.over[0].worker); n != nil {
			best = n
		}
	}
	if best != nil {
		best.flags |= recalled | awaited
		best.worker.asked++
		m.recalls++
		m.touch(best.worker)
	}
	return best
}

// recallable is the newest of a worker's nodes that wait there and that another
// could run now.
func (m *Machine[T]) recallable(w *worker[T]) *Node[T] {
	left := w.excess() // the oldest run, and those that were kept
	n := w.has.last
	for looked := 0; n != nil && left > 0 && looked < maxLooked; n, looked = n.prev, looked+1 {
		c := n.lane.class
		if n.flags != 0 {
			continue
		}
		if left--; c.strict() || m.lim.Sticky && !n.lane.flow.key.free {
			continue
		}
		for _, p := range c.profiles {
			if len(p.credits) > 0 && p.credits[0].spare() > 0 {
				return n
			}
		}
	}
	return nil
}

// Kept says that the Recall of a leased node was answered: it goes on.
func (m *Machine[T]) Kept(n *Node[T]) {
	if n.flags&awaited != 0 {
		n.flags &^= awaited
		m.recalls--
		n.worker.asked--
		m.touch(n.worker)
	}
}
