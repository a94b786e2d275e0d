package tasks

import (
	"encoding/binary"
	"slices"

	"github.com/distgear/distgear/internal/machine"
)

// worker is a session that works.
type worker[V any] struct {
	s          machine.Session
	offer      Offer
	kinds      map[string]bool // nil: any
	leased     int
	bytes      int
	asked      int      // of what it has, how many were recalled
	head, tail *Task[V] // what it has, oldest first
	own        queue[V] // lanes that stick to it
	taken      []uint64 // tasks that it had when it became quiet
	stamp      uint64   // of its last lease
	quiet      bool

	profile *profile[V]
	idle    int // free slots, as Machine.free counts them
	credits int // place in profile.credits; -1: it has no credit
	over    int // place in profile.over; -1: it has nothing that could be recalled
	eager   int // place in Machine.eager; -1: it has no credit, or nothing sticks to it
}

// profile is the workers that can do the same classes.
type profile[V any] struct {
	key     string // the serials of the classes
	classes []*class[V]
	workers int
	credits heap[credit[V]] // with credit, the emptiest first
	over    heap[over[V]]   // with more than they have slots, most first
	reserve *lane[V]        // see pick
}

// credit ranks workers by free slots, then by who had nothing new for longest.
type credit[V any] struct{ *worker[V] }

func (a credit[V]) at(i int) { a.worker.credits = i }

func (a credit[V]) before(b credit[V]) bool {
	if x, y := a.spare(), b.spare(); x != y {
		return x > y
	}
	if a.stamp != b.stamp {
		return a.stamp < b.stamp
	}
	return a.s < b.s
}

// over ranks workers by what waits there and was not recalled.
type over[V any] struct{ *worker[V] }

func (a over[V]) at(i int) { a.worker.over = i }

func (a over[V]) before(b over[V]) bool {
	if x, y := a.excess(), b.excess(); x != y {
		return x > y
	}
	return a.s < b.s
}

// spare is how many slots are free; below zero, how many tasks wait.
func (w *worker[V]) spare() int { return w.offer.Slots - w.leased }

func (w *worker[V]) excess() int { return w.leased - w.offer.Slots - w.asked }

// maxBytes is the default of Offer.Bytes.
const maxBytes = 1 << 20

// hasCredit tells whether it may be leased something.
func (w *worker[V]) hasCredit() bool {
	most := w.offer.Bytes
	if most <= 0 {
		most = maxBytes
	}
	if w.quiet || w.offer.Slots <= 0 || w.leased >= w.offer.Slots+w.offer.Prefetch || w.leased > 0 && w.bytes >= most {
		return false
	}
	// What sticks to it and cannot be prefetched waits for a free slot: so nothing else is prefetched.
	l := w.own.first()
	return w.spare() > 0 || l == nil || l.class.idempotent
}

// can tells whether it may run tasks of a class.
func (w *worker[V]) can(c *class[V]) bool {
	if w.kinds != nil && !w.kinds[c.kind] {
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
func (m *Machine[V]) stuck(l *lane[V]) *worker[V] {
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
func (m *Machine[V]) touch(w *worker[V]) {
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
		p.credits.push(credit[V]{w})
	case has:
		p.credits.fix(w.credits)
	case w.credits >= 0:
		p.credits.remove(w.credits)
	}
	switch more := !w.quiet && w.offer.Slots > 0 && w.excess() > 0 && w.leased > 1; {
	case more && w.over < 0:
		p.over.push(over[V]{w})
		m.overs++
	case more:
		p.over.fix(w.over)
	case w.over >= 0:
		p.over.remove(w.over)
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
func (m *Machine[V]) joinProfile(w *worker[V], p *profile[V], more ...*class[V]) {
	var key []byte
	var classes []*class[V]
	if p != nil {
		key, classes = append(key, p.key...), append(classes, p.classes...)
	}
	for _, c := range more {
		key = binary.BigEndian.AppendUint32(key, c.serial)
		classes = append(classes, c)
	}
	to := m.profiles[string(key)]
	if to == nil {
		to = &profile[V]{key: string(key), classes: classes}
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
func (m *Machine[V]) leaveProfile(w *worker[V]) {
	p := w.profile
	if w.credits >= 0 {
		p.credits.remove(w.credits)
	}
	if w.over >= 0 {
		p.over.remove(w.over)
		m.overs--
	}
	if p.workers--; p.workers == 0 {
		delete(m.profiles, p.key)
		for _, c := range p.classes {
			c.profiles = slices.DeleteFunc(c.profiles, func(o *profile[V]) bool { return o == p })
		}
	}
}

// rejoin puts a worker into the profile that it has now.
func (m *Machine[V]) rejoin(w *worker[V]) {
	if w.profile != nil {
		m.leaveProfile(w)
	}
	var can []*class[V]
	for _, c := range m.classes {
		if w.can(c) {
			can = append(can, c)
		}
	}
	slices.SortFunc(can, func(a, b *class[V]) int { return int(a.serial) - int(b.serial) })
	m.joinProfile(w, nil, can...)
}

// Work says what a worker can do from now on. One that was quiet is not any more.
func (m *Machine[V]) Work(out *Out[V], s machine.Session, o Offer) {
	o.Slots, o.Prefetch, o.Bytes = min(max(o.Slots, 0), maxSlots), min(max(o.Prefetch, 0), maxSlots), max(o.Bytes, 0)
	w := m.workers[s]
	if w == nil {
		w = &worker[V]{s: s, credits: -1, over: -1, eager: -1}
		w.own.worker = w
		m.workers[s] = w
	}
	m.slots += o.Slots - w.offer.Slots
	other := w.profile == nil || !slices.Equal(w.offer.Kinds, o.Kinds) || !equal(w.offer.Labels, o.Labels)
	w.offer = o
	if other {
		if w.kinds = nil; len(o.Kinds) > 0 {
			w.kinds = make(map[string]bool, len(o.Kinds))
			for _, k := range o.Kinds {
				w.kinds[k] = true
			}
		}
		m.rejoin(w)
	}
	m.heard(w)
	if other || o.Slots == 0 {
		m.unstick(w)
	}
	m.touch(w)
	m.pump(out)
}

// maxSlots bounds slots and prefetch.
const maxSlots = 1 << 20

func equal(a, b map[string]string) bool {
	if len(a) != len(b) {
		return false
	}
	for k, v := range a {
		if o, ok := b[k]; !ok || o != v {
			return false
		}
	}
	return true
}

// unstick puts the lanes that stick to a worker where they belong now.
func (m *Machine[V]) unstick(w *worker[V]) {
	var ls []*lane[V]
	for i := range w.own.levels {
		for l := w.own.levels[i].head; l != nil; l = l.next {
			ls = append(ls, l)
		}
	}
	for _, l := range ls {
		m.again(l, m.turn())
	}
}

// Heard ends Quiet.
func (m *Machine[V]) Heard(out *Out[V], s machine.Session) {
	if w := m.workers[s]; w != nil && w.quiet {
		m.heard(w)
		m.pump(out)
	}
}

// heard: it was no loss after all.
func (m *Machine[V]) heard(w *worker[V]) {
	if !w.quiet {
		return
	}
	w.quiet = false
	for _, n := range w.taken {
		if t := m.Numbered(n); t != nil && t.State < Parked && t.losses > 0 {
			t.losses--
		}
	}
	w.taken = nil
	m.touch(w)
}

// Quiet says that nothing was heard of a session for a while: its idempotent
// tasks are leased again, and it is leased nothing until Heard, Work, Done or
// GiveBack. Stop tells it of each.
func (m *Machine[V]) Quiet(out *Out[V], s machine.Session) {
	w := m.workers[s]
	if w == nil || w.quiet {
		return
	}
	w.quiet = true
	for t := w.tail; t != nil; {
		before := t.prev
		if t.lane.class.idempotent {
			if t.flags&(cancelled|parking) == 0 { // otherwise it was told
				out.add(Effect[V]{Code: Stop, To: machine.Who{Session: s}, Task: t, Lease: Lease{t.Number, t.Epoch}})
			}
			w.taken = append(w.taken, t.Number)
			m.lost(out, t, true)
		}
		t = before
	}
	m.touch(w)
	m.unstick(w)
	m.settle(out)
}

// Unwork ends a worker that gave back what had not started: what it still has is
// taken for lost, but does not count for MaxLosses.
func (m *Machine[V]) Unwork(out *Out[V], s machine.Session) { m.gone(out, s, false) }

// gone ends a worker; died: that may be because of what it had.
func (m *Machine[V]) gone(out *Out[V], s machine.Session, died bool) {
	w := m.workers[s]
	if w == nil {
		return
	}
	for w.tail != nil {
		m.lost(out, w.tail, died)
	}
	delete(m.workers, s)
	m.slots -= w.offer.Slots
	w.offer.Slots = 0
	m.unstick(w)
	m.touch(w)
	m.leaveProfile(w)
	m.settle(out)
}

// lost ends a lease whose worker is lost, or quiet.
func (m *Machine[V]) lost(out *Out[V], t *Task[V], died bool) {
	m.note(t, Unknown, true, "")
	flags := t.flags
	m.unlease(t)
	if died && t.losses < 255 {
		t.losses++
	}
	t.Outcome = Unknown
	switch {
	case flags&cancelled != 0:
		m.end(out, t, Unknown, Cancelled)
	case flags&parking != 0:
		m.park(out, t, ByHand)
	case !t.lane.class.idempotent:
		m.park(out, t, Lost)
	case int(t.losses) >= m.maxLosses():
		m.park(out, t, Poisonous)
	default:
		m.requeue(out, t)
	}
}

func (m *Machine[V]) maxLosses() int {
	if m.lim.MaxLosses > 0 {
		return min(m.lim.MaxLosses, 255)
	}
	return 3
}

// pump leases what can be leased.
func (m *Machine[V]) pump(out *Out[V]) {
	m.rateDue = 0
	if m.paused != "" {
		return
	}
	for m.free > 0 || len(m.active)+len(m.eager) > 0 {
		if len(m.active)+len(m.eager) == 0 {
			m.recall(out)
			return
		}
		if m.lim.Running > 0 && m.counts[Leased] >= m.lim.Running {
			m.recall(out)
			return
		}
		if wait := m.bucket.wait(m.now, m.lim.Rate, burst(m.lim.Rate, m.lim.Burst)); wait > 0 {
			m.rateDue = m.now + wait
			return
		}
		l, w := m.pick()
		if l == nil {
			m.recall(out)
			return
		}
		m.lease(out, l, w)
	}
}

// pick is the lane whose turn it is among those that somebody has credit for, and
// who that is.
func (m *Machine[V]) pick() (*lane[V], *worker[V]) {
	if m.strict > 0 {
		m.reserve()
	}
	var best *lane[V]
	var by *worker[V]
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
		if l.in == nil || l.head.Number >= best.head.Number {
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
func (m *Machine[V]) reserve() {
	for _, c := range m.active {
		for _, p := range c.profiles {
			p.reserve = nil
		}
	}
	for _, w := range m.eager {
		w.profile.reserve = nil
	}
	for _, c := range m.active {
		if c.idempotent {
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
func (m *Machine[V]) whoFor(l *lane[V]) *worker[V] {
	if w := l.in.worker; w != nil {
		if w.credits >= 0 && w.mayHave(l) {
			return w
		}
		return nil
	}
	var best *worker[V]
	for _, p := range l.class.profiles {
		if len(p.credits) == 0 {
			continue
		}
		w := p.credits[0]
		if w.mayHave(l) && (best == nil || w.before(credit[V]{best})) {
			best = w.worker
		}
	}
	return best
}

// mayHave tells whether a worker that has credit has it for a lane's first task.
func (w *worker[V]) mayHave(l *lane[V]) bool {
	if w.spare() > 0 {
		return true
	}
	r := w.profile.reserve
	return l.class.idempotent && (r == nil || r.in == nil || r.in.class == nil || l.before(r))
}

// lease leases a lane's first task.
func (m *Machine[V]) lease(out *Out[V], l *lane[V], w *worker[V]) {
	t, k := l.head, l.flow.key
	m.unready(t)
	t.Epoch++
	t.State, t.Since = Leased, m.now
	m.hold(w, t)
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
	out.add(Effect[V]{Code: Run, To: machine.Who{Session: w.s}, Task: t, Lease: Lease{t.Number, t.Epoch}})
}

// hold gives a task to a worker.
func (m *Machine[V]) hold(w *worker[V], t *Task[V]) {
	m.counts[Leased]++
	t.worker = w
	if t.prev = w.tail; w.tail != nil {
		w.tail.next = t
	} else {
		w.head = t
	}
	w.tail = t
	w.leased++
	w.bytes += int(t.Size)
	t.lane.flow.key.running++
}

// unlease takes a leased task from its worker. What becomes of it is the caller's to say.
func (m *Machine[V]) unlease(t *Task[V]) {
	w, k := t.worker, t.lane.flow.key
	if t.prev != nil {
		t.prev.next = t.next
	} else {
		w.head = t.next
	}
	if t.next != nil {
		t.next.prev = t.prev
	} else {
		w.tail = t.prev
	}
	w.leased--
	w.bytes -= int(t.Size)
	if t.flags&recalled != 0 {
		w.asked--
	}
	if t.flags&awaited != 0 {
		m.recalls--
	}
	t.prev, t.next, t.worker = nil, nil, nil
	t.flags &^= recalled | awaited | cancelled | parking
	m.counts[Leased]--
	m.touch(w)
	k.running--
	m.recheck(k)
}

// maxLooked is how many leases of a worker are looked at for one that can be recalled.
const maxLooked = 64

// recall asks tasks back that wait at one worker while another has a free slot,
// and there is nothing else for that.
func (m *Machine[V]) recall(out *Out[V]) {
	for m.overs > 0 && m.recalls < m.free {
		var best *Task[V]
		for _, p := range m.profiles {
			if len(p.over) == 0 || best != nil && !p.over[0].before(over[V]{best.worker}) {
				continue
			}
			if t := m.recallable(p.over[0].worker); t != nil {
				best = t
			}
		}
		if best == nil {
			return
		}
		best.flags |= recalled | awaited
		best.worker.asked++
		m.recalls++
		m.touch(best.worker)
		out.add(Effect[V]{Code: Recall, To: machine.Who{Session: best.worker.s}, Task: best, Lease: Lease{best.Number, best.Epoch}})
	}
}

// recallable is the newest of a worker's tasks that wait there and that another
// could run now.
func (m *Machine[V]) recallable(w *worker[V]) *Task[V] {
	left := min(maxLooked, w.leased-w.offer.Slots) // the oldest run
	for t := w.tail; t != nil && left > 0; t, left = t.prev, left-1 {
		c := t.lane.class
		if t.flags != 0 || !c.idempotent || m.lim.Sticky && !t.lane.flow.key.free {
			continue
		}
		for _, p := range c.profiles {
			if len(p.credits) > 0 && p.credits[0].spare() > 0 {
				return t
			}
		}
	}
	return nil
}

// Kept answers Recalls of what has started already: it goes on.
func (m *Machine[V]) Kept(out *Out[V], s machine.Session, ls []Lease) {
	for _, l := range ls {
		if t := m.leased(s, l); t != nil && t.flags&awaited != 0 {
			t.flags &^= awaited
			m.recalls--
		}
	}
	m.pump(out)
}

// leased is the task that a session has leased by a lease; nil: it is stale.
func (m *Machine[V]) leased(s machine.Session, l Lease) *Task[V] {
	t := m.Numbered(l.Number)
	if t == nil || t.State != Leased || t.Epoch != l.Epoch || t.worker.s != s {
		return nil
	}
	return t
}
