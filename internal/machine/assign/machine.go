// Package assign says which of the tasks that are ready goes to which worker:
// turns, limits, credit, stickiness and recalls. What becomes of tasks before and
// after is package tasks' to say.
//
//	m := assign.New[Task]()
//	m.Enter(&t.Node, t, assign.Class{Kind: "render"}, key, 0)
//	m.Ready(&t.Node, false)
//	m.Work(session, offer)
//	for n, s := m.Next(); n != nil; n, s = m.Next() { … } // n is leased to s now
//
// It is pure, as all machines are. A Node is part of the task.
//
// # Guarantees
//
// Next leases what docs/adr/0005 says, and nothing beyond a limit or a worker's
// credit. When it gives nothing more, nothing waits that could be leased. The time
// of both is that of the last Advance.
//
// Nothing of what Next and Recall answer depends on how maps are walked, or on the
// order in which a state was read.
package assign

import (
	"slices"
	"strings"

	"github.com/distgear/distgear/internal/machine"
	"github.com/distgear/distgear/internal/machine/heap"
	"github.com/distgear/distgear/internal/machine/words"
)

// Node is what a task is here. The zero value is not known to any machine. Others
// read its fields, and set Number and Size before Ready.
type Node[T any] struct {
	Number uint64
	Of     *T // the task
	Epoch  uint32
	Size   uint32 // bytes at the worker
	flags  flags
	on     where

	lane       *lane[T]
	worker     *worker[T]
	prev, next *Node[T] // in its lane, at its worker, or in a List
}

type flags uint8

// What is to be remembered of a lease.
const (
	recalled flags = 1 << iota // once is enough
	awaited                    // and not answered
	kept                       // it is not to be recalled: it ends soon
)

// where a node is.
type where uint8

const (
	nowhere where = iota
	ready
	leased
)

// Machine is the assignment of one executor's tasks. Use New. It is not safe for
// concurrent use.
type Machine[T any] struct {
	lim    words.Limits
	now    int64
	stamp  uint64 // of the last turn
	leases uint64

	classes map[Class]*class[T]
	latest  *class[T] // found last; nil: none
	serial  uint32
	sweep   int // so many classes there may be before some are dropped
	nokey   *key[T]
	others  map[other[T]]*lane[T] // of nokey, with a priority
	keys    map[string]*key[T]
	idle    keyList[T] // keys that have no task
	keyDues heap.Heap[keyTimer]
	active  []*class[T]
	strict  int // of active, those that are not idempotent

	workers  map[machine.Session]*worker[T]
	profiles map[string]*profile[T]
	eager    []*worker[T]
	slots    int
	ready    int // nodes
	leased   int
	free     int // slots
	recalls  int // that were not answered
	overs    int // workers in profile.over
	bucket   bucket
	rateDue  int64 // when bucket has enough for what is ready; 0: nothing waits for it
}

// New returns an empty machine.
func New[T any]() *Machine[T] {
	return &Machine[T]{
		sweep: minClasses, nokey: &key[T]{free: true},
		classes: map[Class]*class[T]{}, others: map[other[T]]*lane[T]{}, keys: map[string]*key[T]{},
		workers: map[machine.Session]*worker[T]{}, profiles: map[string]*profile[T]{},
	}
}

// Configure sets other limits.
func (m *Machine[T]) Configure(l words.Limits) {
	was := m.lim
	m.lim = l
	if was.Rate != l.Rate {
		m.bucket = bucket{}
	}
	for _, k := range m.sortedKeys() {
		if was.KeyRate != l.KeyRate {
			k.bucket = bucket{}
		}
		m.recheck(k)
		if was.Sticky && !l.Sticky {
			k.worker = 0
			for _, f := range k.flows {
				stamp := m.turn()
				for _, l := range f.lanes {
					m.again(l, stamp)
				}
			}
			if k.idle {
				m.idle.remove(k)
			}
		}
		m.rest(k)
	}
}

func (m *Machine[T]) sortedKeys() []*key[T] {
	all := make([]*key[T], 0, len(m.keys))
	for _, k := range m.keys {
		all = append(all, k)
	}
	slices.SortFunc(all, func(a, b *key[T]) int { return strings.Compare(a.name, b.name) })
	return all
}

// Advance sets the time of what follows, in ms. It never goes back.
func (m *Machine[T]) Advance(now int64) { m.now = max(m.now, now) }

// Due is when Tick is wanted, in ms; 0: not until something else happens.
func (m *Machine[T]) Due() int64 {
	for len(m.keyDues) > 0 {
		e := m.keyDues[0]
		if k := m.keys[e.name]; k != nil && k.due == e.when {
			if m.rateDue != 0 {
				return min(m.rateDue, e.when)
			}
			return e.when
		}
		m.keyDues.Pop()
	}
	return m.rateDue
}

// Tick does what is due, at most so much, and tells how much that was. Next may have
// something after it.
func (m *Machine[T]) Tick(most int) (did int) {
	for ; did < most && len(m.keyDues) > 0 && m.keyDues[0].when <= m.now; did++ {
		e := m.keyDues.Pop()
		if k := m.keys[e.name]; k != nil && k.due == e.when {
			k.due = 0
			m.recheck(k)
			m.rest(k)
		}
	}
	return did
}

// Enter makes n a node of a class, key and priority. It is nowhere yet.
func (m *Machine[T]) Enter(n *Node[T], of *T, c Class, key string, priority int8) {
	n.Of, n.lane = of, m.lane(m.class(c), m.key(key), priority)
	m.use(n.lane)
}

// Lost says of a node that is nowhere that a worker was lost with it.
func (m *Machine[T]) Lost(n *Node[T]) {
	l := n.lane
	c := l.class.Class
	if c.Lost {
		return
	}
	c.Lost = true
	n.lane = m.lane(m.class(c), l.flow.key, l.flow.priority)
	m.use(n.lane)
	m.release(l)
}

// Leave forgets a node that is nowhere. What can be read of it can still be read.
func (m *Machine[T]) Leave(n *Node[T]) { m.release(n.lane) }

// Class is the node's.
func (n *Node[T]) Class() Class { return n.lane.class.Class }

// Idempotent is that of its class.
func (n *Node[T]) Idempotent() bool { return n.lane.class.Idempotent }

// Key is the node's; empty: none.
func (n *Node[T]) Key() string { return n.lane.flow.key.name }

// Priority is the node's.
func (n *Node[T]) Priority() int8 { return n.lane.flow.priority }

// Worker is who has it leased; 0: nobody.
func (n *Node[T]) Worker() machine.Session {
	if n.worker == nil {
		return 0
	}
	return n.worker.s
}

// Keep says that a leased node is not to be recalled.
func (n *Node[T]) Keep() { n.flags |= kept }

// List is nodes that are nowhere, in the order in which they came. The zero value
// is empty.
type List[T any] struct{ first, last *Node[T] }

// First is the first; nil: it is empty.
func (x *List[T]) First() *Node[T] { return x.first }

// Next is the one after a node of a list; nil: none.
func (n *Node[T]) Next() *Node[T] { return n.next }

// Linked tells whether the node is in a list with others.
func (n *Node[T]) Linked() bool { return n.prev != nil || n.next != nil }

// Push adds a node at the end.
func (x *List[T]) Push(n *Node[T]) {
	if n.prev = x.last; x.last != nil {
		x.last.next = n
	} else {
		x.first = n
	}
	x.last = n
}

// PushFront adds a node in front.
func (x *List[T]) PushFront(n *Node[T]) {
	if n.next = x.first; x.first != nil {
		x.first.prev = n
	} else {
		x.last = n
	}
	x.first = n
}

// Remove takes a node of the list out.
func (x *List[T]) Remove(n *Node[T]) {
	if n.prev != nil {
		n.prev.next = n.next
	} else {
		x.first = n.next
	}
	if n.next != nil {
		n.next.prev = n.prev
	} else {
		x.last = n.prev
	}
	n.prev, n.next = nil, nil
}
