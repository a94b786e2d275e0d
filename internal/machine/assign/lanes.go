package assign

import (
	"slices"
	"strings"

	"github.com/distgear/distgear/internal/machine"
)

// class is an action with what its worker must have. Tasks of a class may go to
// the same workers.
type class[T any] struct {
	Class
	labels   [][2]string
	serial   uint32        // for profile.key; nothing that is told depends on it
	queue    queue[T]      // lanes that may be served, but for those that stick to a worker
	profiles []*profile[T] // who can
	plain    *lane[T]      // without key, priority 0
	ready    int           // nodes
	refs     int           // lanes with nodes
	active   int           // place in Machine.active; -1: queue is empty
}

// Class is an action, and the labels that its worker must have ("k=v" sorted, joined by
// newlines).
type Class struct {
	Kind, Labels string
	Idempotent   bool // else it is leased to a free slot only
	Lost         bool // a worker was lost with it, so it is leased to a free slot only: what waits at a worker is lost with it, too
}

// strict tells that tasks of a class are leased to free slots only.
func (c *Class) strict() bool { return !c.Idempotent || c.Lost }

// key is a Spec.Key. Its tasks of one priority are a flow.
type key[T any] struct {
	name    string
	flows   []*flow[T]
	refs    int // lanes with nodes
	running int
	bucket  bucket
	due     int64           // when its bucket has enough, or is full if nothing else is left; 0: nothing is waited for
	worker  machine.Session // had its last task; 0: nobody. Only with Sticky
	blocked bool            // by a limit: its lanes are in no queue
	free    bool            // the empty key: no limits, and each lane takes turns by itself
	idle    bool            // in Machine.idle

	prev, next *key[T]
}

// flow is what has the same key and priority.
type flow[T any] struct {
	key      *key[T]
	priority int8
	lanes    []*lane[T]
}

// lane is the ready tasks of one flow and class, first in, first out.
type lane[T any] struct {
	flow       *flow[T]
	class      *class[T]
	nodes      List[T]
	n          int
	refs       int       // nodes, wherever they are
	stamp      uint64    // its turn: lower first
	in         *queue[T] // nil: empty, or blocked
	prev, next *lane[T]
}

// queue is lanes that wait for their turn: of a class, or of those that stick
// to a worker.
type queue[T any] struct {
	levels []level[T] // higher priority first
	n      int        // lanes
	class  *class[T]  // whose it is; nil: worker's
	worker *worker[T]
}

type level[T any] struct {
	priority   int8
	head, tail *lane[T] // by stamp
}

// before tells whose turn is first. Lanes of one flow may have the same stamp.
func (l *lane[T]) before(o *lane[T]) bool {
	switch {
	case l.flow.priority != o.flow.priority:
		return l.flow.priority > o.flow.priority
	case l.stamp != o.stamp:
		return l.stamp < o.stamp
	default:
		return l.nodes.first.Number < o.nodes.first.Number
	}
}

func (q *queue[T]) level(priority int8) *level[T] {
	for i := range q.levels {
		if p := q.levels[i].priority; p == priority {
			return &q.levels[i]
		} else if p < priority {
			q.levels = slices.Insert(q.levels, i, level[T]{priority: priority})
			return &q.levels[i]
		}
	}
	q.levels = append(q.levels, level[T]{priority: priority})
	return &q.levels[len(q.levels)-1]
}

// first is the lane whose turn it is; nil: there is none.
func (q *queue[T]) first() *lane[T] {
	for i := range q.levels {
		if l := q.levels[i].head; l != nil {
			return l
		}
	}
	return nil
}

func (q *queue[T]) push(l *lane[T]) {
	lv := q.level(l.flow.priority)
	l.in, l.prev, l.next = q, lv.tail, nil
	if lv.tail != nil {
		lv.tail.next = l
	} else {
		lv.head = l
	}
	lv.tail = l
	q.n++
}

func (q *queue[T]) remove(l *lane[T]) {
	lv := q.level(l.flow.priority)
	if l.prev != nil {
		l.prev.next = l.next
	} else {
		lv.head = l.next
	}
	if l.next != nil {
		l.next.prev = l.prev
	} else {
		lv.tail = l.prev
	}
	l.in, l.prev, l.next = nil, nil, nil
	q.n--
}

// class finds or makes a class.
func (m *Machine[T]) class(id Class) *class[T] {
	if c := m.latest; c != nil && c.Class == id {
		return c
	}
	c := m.classes[id]
	if c == nil {
		if len(m.classes) >= m.sweep {
			m.sweepClasses()
		}
		m.serial++
		c = &class[T]{Class: id, labels: labels(id.Labels), serial: m.serial, active: -1}
		c.queue.class = c
		c.plain = m.lane(c, m.nokey, 0)
		m.classes[id] = c
		for _, w := range m.workers {
			if w.can(c) {
				m.leaveProfile(w)
				m.joinProfile(w, w.profile, c)
			}
		}
	}
	m.latest = c
	return c
}

func labels(s string) (all [][2]string) {
	for pair := range strings.SplitSeq(s, "\n") {
		if k, v, _ := strings.Cut(pair, "="); pair != "" {
			all = append(all, [2]string{k, v})
		}
	}
	return all
}

// minClasses is how many classes may be kept that nothing uses.
const minClasses = 1024

func (m *Machine[T]) sweepClasses() {
	for id, c := range m.classes {
		if c.refs == 0 {
			delete(m.classes, id)
		}
	}
	m.sweep, m.latest = max(minClasses, 2*len(m.classes)), nil
	for _, w := range m.workers {
		m.rejoin(w)
	}
}

// key finds or makes a key; the empty one has no name.
func (m *Machine[T]) key(name string) *key[T] {
	if name == "" {
		return m.nokey
	}
	k := m.keys[name]
	if k == nil {
		k = &key[T]{name: name}
		m.keys[name] = k
	} else if k.idle {
		m.idle.remove(k)
	}
	return k
}

// lane finds or makes the lane of a class, key and priority.
func (m *Machine[T]) lane(c *class[T], k *key[T], priority int8) *lane[T] {
	if k.free && priority == 0 && c.plain != nil {
		return c.plain
	}
	i, ok := slices.BinarySearchFunc(k.flows, priority, func(f *flow[T], p int8) int { return int(f.priority) - int(p) })
	if !ok {
		k.flows = slices.Insert(k.flows, i, &flow[T]{key: k, priority: priority})
	}
	f := k.flows[i]
	if k.free { // it has one for each class, and nobody asks for them: see plain, and others
		if l := m.others[other[T]{c, priority}]; l != nil {
			return l
		}
	} else {
		for _, l := range f.lanes {
			if l.class == c {
				return l
			}
		}
	}
	l := &lane[T]{flow: f, class: c}
	switch {
	case !k.free:
		f.lanes = append(f.lanes, l)
	case priority != 0:
		m.others[other[T]{c, priority}] = l
	}
	return l
}

// other names a lane without key, but with a priority.
type other[T any] struct {
	class    *class[T]
	priority int8
}

// forget drops a lane from its flow.
func (k *key[T]) forget(l *lane[T]) {
	f := l.flow
	f.lanes = slices.DeleteFunc(f.lanes, func(o *lane[T]) bool { return o == l })
	if len(f.lanes) == 0 && !k.free {
		k.flows = slices.DeleteFunc(k.flows, func(o *flow[T]) bool { return o == f })
	}
}

// use notes that one more node is of a lane.
func (m *Machine[T]) use(l *lane[T]) {
	if l.use() {
		m.recheck(l.flow.key)
	}
}

func (l *lane[T]) use() (first bool) {
	if l.refs++; l.refs == 1 {
		l.class.refs++
		l.flow.key.refs++
	}
	return l.refs == 1
}

// release notes that a node of a lane is forgotten.
func (m *Machine[T]) release(l *lane[T]) {
	if l.refs--; l.refs > 0 {
		return
	}
	k := l.flow.key
	l.class.refs--
	k.refs--
	switch {
	case !k.free:
		k.forget(l)
		m.rest(k)
	case l.flow.priority != 0:
		delete(m.others, other[T]{l.class, l.flow.priority})
	}
}

// Ready puts a node into its lane, at the end or in front.
func (m *Machine[T]) Ready(n *Node[T], front bool) {
	l := n.lane
	n.on = ready
	m.ready++
	l.class.ready++
	if front {
		l.nodes.PushFront(n)
	} else {
		l.nodes.Push(n)
	}
	if l.n++; l.n == 1 && !l.flow.key.blocked {
		m.place(l, m.turn())
	}
}

// Unready takes a node out of its lane.
func (m *Machine[T]) Unready(n *Node[T]) {
	l := n.lane
	l.nodes.Remove(n)
	n.on = nowhere
	m.ready--
	l.class.ready--
	if l.n--; l.n == 0 {
		m.unplace(l)
	}
}

func (m *Machine[T]) turn() uint64 {
	m.stamp++
	return m.stamp
}

// place puts a lane at the end of the queue it belongs to.
func (m *Machine[T]) place(l *lane[T], stamp uint64) {
	l.stamp = stamp
	q := &l.class.queue
	if w := m.stuck(l); w != nil {
		q = &w.own
	}
	q.push(l)
	m.requeued(q)
}

func (m *Machine[T]) unplace(l *lane[T]) {
	if q := l.in; q != nil {
		q.remove(l)
		m.requeued(q)
	}
}

// requeued keeps the books after a change of a queue.
func (m *Machine[T]) requeued(q *queue[T]) {
	c := q.class
	switch {
	case c == nil:
		m.touch(q.worker)
	case q.n > 0 && c.active < 0:
		c.active = len(m.active)
		m.active = append(m.active, c)
		if c.strict() {
			m.strict++
		}
	case q.n == 0 && c.active >= 0:
		last := len(m.active) - 1
		m.active[last].active = c.active
		m.active[c.active] = m.active[last]
		m.active[last] = nil
		m.active, c.active = m.active[:last], -1
		if c.strict() {
			m.strict--
		}
	}
}

// served gives the turn of a lane on; moved: its key sticks to another worker now.
func (m *Machine[T]) served(l *lane[T], moved bool) {
	k := l.flow.key
	if k.free {
		m.again(l, m.turn())
		return
	}
	for _, f := range k.flows {
		if f == l.flow || moved {
			stamp := m.turn()
			for _, l := range f.lanes {
				m.again(l, stamp)
			}
		}
	}
}

// again puts a lane, if it is in a queue, at the end of the one it belongs to now.
func (m *Machine[T]) again(l *lane[T], stamp uint64) {
	switch {
	case l.in == nil:
	case l.prev == nil && l.next == nil && l.in.class != nil && l.flow.key.free: // the only one: there is nothing to move
		l.stamp = stamp
	default:
		m.unplace(l)
		m.place(l, stamp)
	}
}

// recheck blocks or unblocks a key after a change of what it has running, of its
// bucket or of the limits.
func (m *Machine[T]) recheck(k *key[T]) {
	if k.free {
		return
	}
	blocked := m.lim.KeyRunning > 0 && k.running >= m.lim.KeyRunning
	if wait := k.bucket.wait(m.now, m.lim.KeyRate, burst(m.lim.KeyRate, 0)); wait > 0 {
		if blocked = true; k.refs > 0 {
			m.keyDue(k, m.now+wait)
		}
	}
	if blocked == k.blocked {
		return
	}
	k.blocked = blocked
	for _, f := range k.flows {
		stamp := uint64(0)
		for _, l := range f.lanes {
			switch {
			case l.n == 0:
			case blocked:
				m.unplace(l)
			default:
				if stamp == 0 {
					stamp = m.turn()
				}
				m.place(l, stamp)
			}
		}
	}
}

// maxIdleKeys is how many keys are remembered that have no task, for the worker that they stick to.
const maxIdleKeys = 10_000

// rest drops a key that has nothing, or remembers it for a while.
func (m *Machine[T]) rest(k *key[T]) {
	if k.refs > 0 || k.free || k.idle {
		return
	}
	if full := k.bucket.full(m.now, m.lim.KeyRate); full > m.now {
		m.keyDue(k, full)
		return
	}
	k.due = 0
	if k.worker == 0 || !m.lim.Sticky {
		delete(m.keys, k.name)
		return
	}
	k.idle = true
	m.idle.push(k)
	if m.idle.n > maxIdleKeys {
		k = m.idle.head
		m.idle.remove(k)
		delete(m.keys, k.name)
	}
}

// keyList is keys that rest, longest first.
type keyList[T any] struct {
	head, tail *key[T]
	n          int
}

func (x *keyList[T]) push(k *key[T]) {
	k.prev = x.tail
	if x.tail != nil {
		x.tail.next = k
	} else {
		x.head = k
	}
	x.tail = k
	x.n++
}

func (x *keyList[T]) remove(k *key[T]) {
	if k.prev != nil {
		k.prev.next = k.next
	} else {
		x.head = k.next
	}
	if k.next != nil {
		k.next.prev = k.prev
	} else {
		x.tail = k.prev
	}
	k.prev, k.next, k.idle = nil, nil, false
	x.n--
}
