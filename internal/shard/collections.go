package shard

import (
	"github.com/distgear/distgear/internal/machine"
	"github.com/distgear/distgear/internal/machine/maps"
	"github.com/distgear/distgear/internal/machine/queues"
	"github.com/distgear/distgear/internal/operation"
)

type mapOf struct {
	maps.Map[Value]
}

func newMap(_, floor uint64) thing { return &mapOf{*maps.New[Value](floor)} }

func (x *mapOf) apply(c *call) {
	o, who := &c.op, c.who()
	switch o.Verb {
	case operation.VMapLoad:
		x.Load(&c.vals, who, string(o.Key), o.A != 0)
	case operation.VMapStore:
		x.Store(&c.vals, who, string(o.Key), c.value(), c.now, int64(o.B))
	case operation.VMapLoadOrStore:
		x.LoadOrStore(&c.vals, who, string(o.Key), c.value(), c.now, int64(o.B))
	case operation.VMapCompareAndSwap:
		x.CompareAndSwap(&c.vals, who, string(o.Key), o.A, c.value(), c.now, int64(o.B))
	case operation.VMapDelete:
		x.Delete(&c.vals, who, string(o.Key), o.A)
	case operation.VMapClear:
		x.Clear(&c.vals, who)
	case operation.VMapLen:
		x.Len(&c.vals, who)
	case operation.VMapRange:
		x.page(&c.vals, who, o.A, int(min(o.B, 10_000)))
	case operation.VMapWatch:
		x.Watch(&c.vals, who, string(o.Key), o.A != 0)
	case operation.VMapUnwatch:
		x.Unwatch(&c.vals, machine.Who{Session: who.Session, Req: o.A})
		c.vals.Effects[len(c.vals.Effects)-1].To = who // who ends it is answered, and forgets the watcher
	case operation.VMapDrop:
		x.Drop(who.Session, string(o.Key))
	default:
		c.invalid()
	}
}

// An answer of several values ends before it has more than pageSize bytes, but for
// those of pageStep more values: it fits in an outbox.
const (
	pageSize = 1 << 20
	pageStep = 8 // the largest have a bit less than 1 MiB each: client.MaxOp
)

// page is Range, of at most pageSize bytes.
func (x *mapOf) page(out *machine.Out[Value], who machine.Who, cursor uint64, most int) {
	if most <= 0 {
		x.Range(out, who, cursor, most)
		return
	}
	first, size := len(out.Effects), 0
	for {
		n := len(out.Effects)
		x.Range(out, who, cursor, min(most, pageStep))
		last := len(out.Effects) - 1
		cursor = out.Effects[last].Num
		out.Effects = out.Effects[:last]
		for _, e := range out.Effects[n:] {
			size += len(e.Key) + len(e.Val.S)
		}
		most -= last - n
		if cursor == 0 || last == n || most <= 0 || size >= pageSize {
			break
		}
	}
	n := len(out.Effects)
	for i := first; i < n; i++ {
		out.Effects[i].Aux = uint64(n - i)
	}
	out.Tell(who, machine.OK, cursor)
}

func (x *mapOf) abandon(*call, machine.Who) {}

func (x *mapOf) leave(out *machine.Out[Value], who machine.Who) { x.Unwatch(out, who) }

func (x *mapOf) expire(c *call)  { x.Expire(&c.vals, c.ses.id) }
func (x *mapOf) destroy(c *call) { x.Destroy(&c.vals) }
func (x *mapOf) floor() uint64   { return x.Revision() }
func (x *mapOf) due() int64      { return x.Due() }

func (x *mapOf) tick(c *call) {
	for d := x.Due(); d != 0 && d <= c.now; d = x.Due() {
		x.Tick(&c.vals, c.now)
	}
}

// AppendBinary implements thing.
func (x *mapOf) AppendBinary(b []byte) []byte { return x.Map.AppendBinary(b, appendValue) }

// Restore implements thing.
func (x *mapOf) Restore(b []byte) error { return x.Map.Restore(b, parseValue) }

func appendValue(b []byte, v Value) []byte { return append(b, v.S...) }

func parseValue(b []byte) (Value, error) { return Value{S: string(b)}, nil }

// maxItems is how many items a queue without a capacity may hold.
const maxItems = 10_000_000

type queue struct {
	plain
	queues.Queue[Value]
	bound queues.Bound
}

func newQueue(param, _ uint64) thing {
	return &queue{bound: queues.Bound{Capacity: int(min(param, maxItems)), Most: maxItems}}
}

func (x *queue) apply(c *call) {
	o, who := &c.op, c.who()
	switch o.Verb {
	case operation.VPut:
		x.Put(&c.vals, who, c.value(), x.bound, o.B == 0)
	case operation.VTake:
		x.some(&c.vals, who, int(min(o.A, maxItems)), o.B == 0)
	case operation.VDrain:
		most := int(min(o.A, maxItems))
		if most == 0 {
			most = maxItems
		}
		x.some(&c.vals, who, most, false)
	case operation.VPeek:
		x.Peek(&c.vals, who)
	case operation.VQueueLen:
		x.Len(&c.vals, who)
	case operation.VTransfer:
		to := c.ses.object(o.A)
		if to == nil || to.kind != operation.KQueue {
			c.invalid()
			return
		}
		if to.gone {
			c.answer(machine.Gone, 0, 0)
			return
		}
		t := to.thing.(*queue)
		queues.Transfer(&c.vals, &x.Queue, &t.Queue, who, t.bound, o.B == 0)
	default:
		c.invalid()
	}
}

// some is Take, of at most pageSize bytes.
func (x *queue) some(out *machine.Out[Value], who machine.Who, most int, wait bool) {
	if most <= pageStep || x.Length() <= pageStep {
		x.Take(out, who, most, wait)
		return
	}
	var mine []int // effects that answer who
	size := 0
	for left := min(most, x.Length()); left > 0 && size < pageSize; { // those who wait to put come in behind
		n, step := len(out.Effects), min(left, pageStep)
		x.Take(out, who, step, false)
		for i := n; i < n+step; i++ {
			mine = append(mine, i)
			size += len(out.Effects[i].Val.S)
		}
		left -= step
	}
	for i, at := range mine {
		out.Effects[at].Num, out.Effects[at].Aux = uint64(len(mine)), uint64(len(mine)-1-i)
	}
}

// abandon also takes back a Transfer's wait at the queue it goes to: B names it
// as in VTransfer.
func (x *queue) abandon(c *call, who machine.Who) {
	n := len(c.vals.Effects)
	x.Abandon(&c.vals, who)
	if to := c.ses.object(c.op.B); to != nil && to.kind == operation.KQueue && !to.gone && len(c.vals.Effects) == n {
		to.thing.(*queue).Abandon(&c.vals, who)
	}
}

func (x *queue) expire(c *call)  { x.Expire(&c.vals, c.ses.id) }
func (x *queue) destroy(c *call) { x.Destroy(&c.vals) }

// AppendBinary implements thing.
func (x *queue) AppendBinary(b []byte) []byte { return x.Queue.AppendBinary(b, appendValue) }

// Restore implements thing.
func (x *queue) Restore(b []byte) error { return x.Queue.Restore(b, parseValue) }
