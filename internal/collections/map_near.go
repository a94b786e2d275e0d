package collections

import (
	"bytes"
	"cmp"
	"sync"
	"sync/atomic"

	"github.com/distgear/distgear/internal/client"
	"github.com/distgear/distgear/internal/machine"
	"github.com/distgear/distgear/internal/operation"
)

// How much of a map a node keeps.
const (
	nearEntries = 1 << 16
	nearBytes   = 32 << 20
)

// near is what a node keeps of the entries of a map. The hub has a note of each
// entry here, and tells when it is not true any more. All that puts something in runs where
// outputs are delivered (one goroutine at a time, in the ledger's order), so what is in
// it is right at the place in the order that the node has reached: before a grant comes
// all that the grant's predecessors wrote has gone from here. Reading takes no lock.
type near[K comparable, V any] struct {
	byKey sync.Map // K → *kept[K, V]

	most int // entries; 0: nearEntries. Tests set it

	mu      sync.Mutex // for those who look from outside, or give a change up
	byBytes map[string]*kept[K, V]
	ring    []*kept[K, V] // clock
	hand    int
	bytes   int
	dropped uint64 // the latest VMapDrop: see answered
}

// kept is an entry of near.
type kept[K comparable, V any] struct {
	k    K
	key  string
	cell atomic.Pointer[cell[V]]
	used atomic.Bool
	at   int // in ring
	size int
}

// cell is a value as it was at a revision.
type cell[V any] struct {
	of  machine.Session // as long as it is valid, so is the cell
	rev uint64
	raw []byte
	v   atomic.Pointer[V] // decoded, if it may be handed out
}

func (n *near[K, V]) load(k K) *cell[V] {
	p, ok := n.byKey.Load(k)
	if !ok {
		return nil
	}
	e := p.(*kept[K, V])
	if !e.used.Load() {
		e.used.Store(true)
	}
	return e.cell.Load()
}

// answered takes up what an operation was answered.
//
// A VMapDrop that was sent after a Load, and before its answer came, takes away the
// note that the answer is about; or it stands behind a change that nobody waits for. Loads that were sent before the latest Drop are
// therefore not kept, whatever their key is: entries are dropped many at once, and seldom.
func (n *near[K, V]) answered(c *mapCall[K, V], of machine.Session, req uint64) {
	if c.code != machine.OK {
		return
	}
	switch c.verb {
	case operation.VMapLoad:
		if c.aux == 1 {
			c.cell = &cell[V]{of: of, rev: c.num, raw: c.got}
			n.put(c, req)
		}
	case operation.VMapStore, operation.VMapCompareAndSwap:
		n.mu.Lock()
		if e := n.byBytes[string(c.key)]; e != nil { // the hub goes on noting that we keep it
			n.set(e, &cell[V]{of: of, rev: c.num, raw: bytes.Clone(c.val)})
		}
		n.mu.Unlock()
	case operation.VMapDelete:
		n.remove(c.key)
	case operation.VMapClear:
		n.clear()
	default:
	}
}

func (n *near[K, V]) put(c *mapCall[K, V], req uint64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if req < n.dropped {
		return
	}
	if e := n.byBytes[string(c.key)]; e != nil {
		n.set(e, c.cell)
		return
	}
	e := &kept[K, V]{k: c.k, key: string(c.key), at: len(n.ring)}
	if n.byBytes == nil {
		n.byBytes = map[string]*kept[K, V]{}
	}
	n.byBytes[e.key] = e
	n.ring = append(n.ring, e)
	n.set(e, c.cell)
	n.byKey.Store(e.k, e)
	if len(n.ring) > cmp.Or(n.most, nearEntries) || n.bytes > nearBytes {
		n.evict(c.s, c.cell.of)
	}
}

func (n *near[K, V]) set(e *kept[K, V], c *cell[V]) {
	n.bytes -= e.size
	e.size = 2*len(e.key) + len(c.raw) + 200
	n.bytes += e.size
	e.cell.Store(c)
}

// doubt forgets what a change may change of which nobody waits for the answer: what
// is read from now on is asked for behind it.
func (n *near[K, V]) doubt(c *mapCall[K, V]) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if c.verb == operation.VMapClear {
		n.empty()
	} else if e := n.byBytes[string(c.key)]; e != nil {
		n.out(e)
	}
	n.drop(c.s.Object(), 0, c.key)
}

// drop tells the hub that an entry is not kept any more.
func (n *near[K, V]) drop(obj *client.Object, of machine.Session, key []byte) {
	if number, err := obj.Start(of, nil, operation.Op{Verb: operation.VMapDrop, Key: key}); err == nil { // otherwise: the hub tells us in vain
		n.dropped = number
	}
}

// evict makes room: an eighth of it, so that it is seldom.
func (n *near[K, V]) evict(s *Map[K, V], of machine.Session) {
	obj, most := s.Object(), cmp.Or(n.most, nearEntries)
	for len(n.ring) > 0 && (len(n.ring) > most*7/8 || n.bytes > nearBytes*7/8) {
		n.hand %= len(n.ring)
		e := n.ring[n.hand]
		if e.used.Swap(false) {
			n.hand++
			continue
		}
		n.out(e)
		n.drop(obj, of, []byte(e.key))
	}
}

func (n *near[K, V]) out(e *kept[K, V]) {
	n.byKey.Delete(e.k)
	delete(n.byBytes, e.key)
	n.bytes -= e.size
	last := len(n.ring) - 1
	n.ring[e.at] = n.ring[last]
	n.ring[e.at].at = e.at
	n.ring[last] = nil
	n.ring = n.ring[:last]
}

func (n *near[K, V]) remove(key []byte) {
	n.mu.Lock()
	if e := n.byBytes[string(key)]; e != nil {
		n.out(e)
	}
	n.mu.Unlock()
}

func (n *near[K, V]) clear() {
	n.mu.Lock()
	n.empty()
	n.mu.Unlock()
}

func (n *near[K, V]) empty() {
	n.byKey.Clear()
	n.byBytes, n.ring, n.hand, n.bytes = nil, nil, 0, 0
}

// lost forgets a session, and the numbers of its operations.
func (n *near[K, V]) lost() {
	n.clear()
	n.mu.Lock()
	n.dropped = 0
	n.mu.Unlock()
}
