package collections

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/distgear/distgear"
	"github.com/distgear/distgear/internal/client"
	"github.com/distgear/distgear/internal/machine"
	"github.com/distgear/distgear/internal/machine/maps"
	"github.com/distgear/distgear/internal/objects"
	"github.com/distgear/distgear/internal/operation"
)

// aloneMap is the map of a process that is alone: the machine of package maps with
// values as they are, and in front of it all entries again by their keys as they are,
// which are read without a lock. That front changes with the machine, under mu.
type aloneMap[K comparable, V any] struct {
	s     *Map[K, V]
	start time.Time
	front sync.Map // K → *aloneEntry[V]

	mu     sync.Mutex
	open   bool // the name is this map's
	closed bool
	m      *maps.Map[V]
	out    machine.Out[V]
	req    uint64 // of the last watcher
	watch  map[uint64]*watcher[K, V]
	timed  bool         // expiryReq watches
	keys   map[string]K // of entries with a TTL: to find them in the front
	timer  *time.Timer
	due    int64
}

// expiryReq watches for entries that expire, to take them out of the front.
const expiryReq = 1

// me is who asks; watchers have their own number.
var me = machine.Who{Session: 1}

type aloneEntry[V any] struct {
	key  string
	cell atomic.Pointer[aloneCell[V]]
}

type aloneCell[V any] struct {
	v   V
	rev uint64
}

func newAloneMap[K comparable, V any](s *Map[K, V]) *aloneMap[K, V] {
	return &aloneMap[K, V]{s: s, start: time.Now(), m: maps.New[V](0), req: expiryReq, watch: map[uint64]*watcher[K, V]{}}
}

func (a *aloneMap[K, V]) load(k K) (v V, rev uint64, ok bool) {
	p, ok := a.front.Load(k)
	if !ok {
		return v, 0, false
	}
	c := p.(*aloneEntry[V]).cell.Load()
	return c.v, c.rev, true
}

// lock locks mu, with the name ours.
func (a *aloneMap[K, V]) lock(ctx context.Context, what string) error {
	for {
		a.mu.Lock()
		switch {
		case a.closed:
			a.mu.Unlock()
			return distgear.ErrLeft
		case a.open:
			return nil
		}
		a.mu.Unlock()
		obj := a.s.Object()
		if _, err := obj.Open(ctx); err != nil {
			return a.s.Fault(what, err)
		}
		a.mu.Lock()
		a.open = !obj.Gone()
		a.mu.Unlock()
	}
}

func (a *aloneMap[K, V]) ms() int64 { return time.Since(a.start).Milliseconds() + 1 }

// do calls the machine.
func (a *aloneMap[K, V]) do(ctx context.Context, what string, op *Op[K, V]) (ans Answer[V], err error) {
	var e *aloneEntry[V]
	var key string
	if op.keyed() {
		if p, ok := a.front.Load(op.Key); ok {
			e = p.(*aloneEntry[V])
			key = e.key
		} else {
			var room [64]byte
			b, err := a.s.keys.append(room[:0], op.Key)
			if err != nil {
				return ans, err
			}
			key = string(b)
		}
	}
	if err := a.lock(ctx, what); err != nil {
		return ans, err
	}
	var now int64 // read only when something has a time: it costs as much as an operation
	if op.TTL > 0 || a.due != 0 {
		now = a.ms()
		a.time(op.TTL > 0)
		a.tick(now)
	}
	m, out := a.m, &a.out
	switch op.Verb {
	case operation.VMapLoad:
		m.Load(out, me, key, false)
	case operation.VMapStore:
		m.Store(out, me, key, op.Value, now, op.TTL)
	case operation.VMapLoadOrStore:
		m.LoadOrStore(out, me, key, op.Value, now, op.TTL)
	case operation.VMapCompareAndSwap:
		m.CompareAndSwap(out, me, key, op.Rev, op.Value, now, op.TTL)
	case operation.VMapDelete:
		m.Delete(out, me, key, op.Rev)
	case operation.VMapClear:
		m.Clear(out, me)
	case operation.VMapLen:
		m.Len(out, me)
	default:
		a.mu.Unlock()
		return ans, fmt.Errorf("%w: %s of map %q", objects.ErrInvalid, what, a.s.Name)
	}
	first := &out.Effects[0]
	ans = Answer[V]{first.Code, first.Num, first.Aux, first.Val}
	if ans.Code == machine.OK {
		switch {
		case op.Verb == operation.VMapStore, op.Verb == operation.VMapCompareAndSwap, op.Verb == operation.VMapLoadOrStore && ans.Aux == 0:
			a.put(op, key, ans.Num)
		case op.Verb == operation.VMapDelete:
			a.front.Delete(op.Key)
			delete(a.keys, key)
		case op.Verb == operation.VMapClear:
			a.front.Clear()
			a.keys = nil
		}
	}
	if len(out.Effects) > 1 {
		a.tell(out.Effects[1:])
	}
	out.Reset()
	if a.timed {
		a.arm()
	}
	a.mu.Unlock()
	return ans, nil
}

// put puts what was stored into the front.
func (a *aloneMap[K, V]) put(op *Op[K, V], key string, rev uint64) {
	switch {
	case op.TTL > 0 && a.keys == nil:
		a.keys = map[string]K{key: op.Key}
	case op.TTL > 0:
		a.keys[key] = op.Key
	case len(a.keys) > 0:
		delete(a.keys, key)
	}
	c := &aloneCell[V]{op.Value, rev}
	if p, ok := a.front.Load(op.Key); ok { // not before mu was locked: it may have gone
		p.(*aloneEntry[V]).cell.Store(c)
		return
	}
	e := &aloneEntry[V]{key: key}
	e.cell.Store(c)
	a.front.Store(op.Key, e)
}

// tell tells watchers, with mu held.
func (a *aloneMap[K, V]) tell(effects []machine.Effect[V]) {
	for i := range effects {
		e := &effects[i]
		switch {
		case e.To.Req == expiryReq && e.Aux == maps.Expired:
			a.front.Delete(a.keys[e.Key])
			delete(a.keys, e.Key)
		case e.To.Req > expiryReq:
			if w := a.watch[e.To.Req]; w != nil {
				if e.Code == machine.Gone {
					w.finish(a.s.Fault("watch", client.ErrGone))
				} else if e.Code == machine.Changed && !w.push(item[V]{kind: e.Aux, key: e.Key, v: e.Val, num: e.Num}) {
					delete(a.watch, w.req)
					var none machine.Out[V] // its answer
					a.m.Unwatch(&none, e.To)
				}
			}
		}
	}
}

// time begins to watch for what expires.
func (a *aloneMap[K, V]) time(begin bool) {
	if a.timed || !begin {
		return
	}
	a.timed = true
	a.m.Watch(&a.out, machine.Who{Session: 1, Req: expiryReq}, "", true)
	a.out.Reset()
}

func (a *aloneMap[K, V]) tick(now int64) {
	for d := a.m.Due(); d != 0 && d <= now; d = a.m.Due() {
		a.m.Tick(&a.out, now)
		a.tell(a.out.Effects)
		a.out.Reset()
	}
}

// arm keeps a timer for what is due next.
func (a *aloneMap[K, V]) arm() {
	d := a.m.Due()
	if d == a.due {
		return
	}
	a.due = d
	if d == 0 {
		return
	}
	const most = 1 << 40 // ms; further ahead than any process lives
	wait := time.Duration(min(d-a.ms(), most)) * time.Millisecond
	if a.timer == nil {
		a.timer = time.AfterFunc(wait, a.fire)
		return
	}
	a.timer.Reset(wait)
}

func (a *aloneMap[K, V]) fire() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return
	}
	a.tick(a.ms())
	a.due = 0
	a.arm()
}

// page reads entries at a cursor; next is 0 after the last.
func (a *aloneMap[K, V]) page(ctx context.Context, cursor uint64) (entries []item[V], next uint64, err error) {
	if err := a.lock(ctx, "range"); err != nil {
		return nil, 0, err
	}
	defer a.mu.Unlock()
	a.m.Range(&a.out, me, cursor, pageEntries)
	for i := range a.out.Effects {
		e := &a.out.Effects[i]
		if e.Aux == 0 {
			next = e.Num
			break
		}
		entries = append(entries, item[V]{key: e.Key, v: e.Val, num: e.Num})
	}
	a.out.Reset()
	return entries, next, nil
}

func (a *aloneMap[K, V]) begin(ctx context.Context, w *watcher[K, V]) error {
	if err := a.lock(ctx, "watch"); err != nil {
		return err
	}
	defer a.mu.Unlock()
	a.req++
	w.req = a.req
	a.watch[w.req] = w
	a.m.Watch(&a.out, machine.Who{Session: 1, Req: w.req}, w.key, w.all)
	a.out.Reset()
	return nil
}

func (a *aloneMap[K, V]) end(w *watcher[K, V]) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.watch[w.req] != w {
		return
	}
	delete(a.watch, w.req)
	a.m.Unwatch(&a.out, machine.Who{Session: 1, Req: w.req})
	a.out.Reset()
}

// destroy ends the map after its name was given up.
func (a *aloneMap[K, V]) destroy() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.open, a.timed, a.keys = false, false, nil
	a.m.Destroy(&a.out)
	a.tell(a.out.Effects)
	a.out.Reset()
	a.front.Clear()
	clear(a.watch)
	a.arm()
}

// close ends the map because the node left.
func (a *aloneMap[K, V]) close() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.closed = true
	if a.timer != nil {
		a.timer.Stop()
	}
	for _, w := range a.watch {
		w.finish(distgear.ErrLeft)
	}
	clear(a.watch)
	a.front.Clear()
}
