// Package queues is a first-in first-out queue, bounded or not.
//
//	var q queues.Queue[[]byte]
//	bound := queues.Bound{Capacity: 100}
//	q.Put(&out, who, item, bound, true)  // waits while it is full
//	q.Take(&out, other, 10, true)        // up to 10 items, waits for the first
//
// # Guarantees
//
// Items leave in the order in which they came in. Takers who wait are served in
// their order, and so are putters; nobody is served before one who waits. An
// item is put, and handed to one taker, exactly once: its leaving the queue and
// the answer that carries it are one operation. Each request is answered
// exactly once, or not at all when its session ends; an answer of several
// items is several effects.
//
// # Failures
//
// After the answer an item is the taker's: a taker that dies with it has lost
// it (at most once). What a session put stays when it ends; what it still
// waited to put is not in the queue.
//
// The capacity is what the first Put names. It is forgotten when the queue is
// empty, so an idle queue can be dropped, and two users who disagree are told so
// only while there are items.
//
// A Queue is not safe for concurrent use. It keeps items as they are given:
// who gives them does not change them any more.
package queues

import (
	"slices"

	"github.com/distgear/distgear/internal/machine"
	"github.com/distgear/distgear/internal/ring"
)

// Bound is how many items a queue may hold.
type Bound struct {
	// Capacity of the queue: who puts into a full one waits or is refused.
	// Zero is a queue without bound.
	Capacity int
	// Most is how many items a queue without bound may still hold; a Put that
	// finds so many is refused, also if it would wait. Zero is no limit. The
	// queue does not keep it: each Put names its own.
	Most int
}

// Why an operation was refused: Aux of Refused.
const (
	Empty     = 1 + iota // there is nothing to take
	Full                 // there is no room, for a queue without bound: Most
	TakenBack            // the wait was abandoned
)

// Queue is the state of one queue. The zero value is empty.
type Queue[T any] struct {
	bound int  // capacity, 0: without bound
	named bool // bound is in force: there is an item, or somebody waits to put
	items ring.Ring[T]
	take  ring.Ring[machine.Who] // wait to take; there is no item then
	put   ring.Ring[putter[T]]   // wait to put; there is no room then
	item  []machine.Who          // Transfers that wait for an item here; there is none then
	space []machine.Who          // Transfers that wait for room here; there is none then
}

type putter[T any] struct {
	who machine.Who
	v   T
}

// Put adds v at the end, or hands it to the first who waits for it; with wait
// it waits for room behind those who wait already.
//
//   - OK to who, now or later: it is in. Num is the length after it. Then, if
//     somebody waits to take, what Take says.
//   - Refused to who, Aux Full: there is no room, and it does not wait. Num is the length.
//   - Invalid to who: a negative bound, or the queue has another capacity,
//     which Num is (0: none). Nothing is changed.
func (x *Queue[T]) Put(out *machine.Out[T], who machine.Who, v T, bound Bound, wait bool) {
	switch {
	case !x.fits(out, who, bound):
	case x.room(bound):
		x.in(out, machine.Effect[T]{To: who, Code: machine.OK}, v, bound)
	case wait && bound.Capacity > 0:
		x.put.Push(putter[T]{who, v})
	default:
		x.refuse(out, who, Full)
	}
}

// Take takes the first items, at most so many; with wait it waits for one
// behind those who wait already.
//
//   - OK to who, now or later, once for each item, in order: Val is the item,
//     Num how many there are in this answer, Aux how many of them still follow;
//     0 ends the answer. Then OK to each putter that had waited, as Put says.
//   - Refused to who, Aux Empty: there is none, and it does not wait. Num is 0.
//   - Invalid to who: most is not positive. Num is the length.
//
// Who had to wait gets one item. What others wait to put comes in after the answer,
// so no answer has more items than the queue's capacity.
func (x *Queue[T]) Take(out *machine.Out[T], who machine.Who, most int, wait bool) {
	switch {
	case most <= 0:
		out.Tell(who, machine.Invalid, uint64(x.items.Len()))
	case x.items.Len() > 0:
		n := min(most, x.items.Len())
		for i := range n {
			out.Add(machine.Effect[T]{To: who, Code: machine.OK, Num: uint64(n), Aux: uint64(n - 1 - i), Val: x.items.Pop()})
		}
		x.serve(out)
	case wait:
		x.take.Push(who)
	default:
		x.refuse(out, who, Empty)
	}
}

// Drain takes the first items, at most so many, or all that are in the queue if
// most is not positive. It never waits. The effects are Take's.
func (x *Queue[T]) Drain(out *machine.Out[T], who machine.Who, most int) {
	if most <= 0 {
		most = max(x.items.Len(), 1)
	}
	x.Take(out, who, most, false)
}

// Peek reads the first item.
//
//   - OK to who: Val is the item, which stays. Num is the length.
//   - Refused to who, Aux Empty: there is none. Num is 0.
func (x *Queue[T]) Peek(out *machine.Out[T], who machine.Who) {
	if x.items.Len() == 0 {
		x.refuse(out, who, Empty)
		return
	}
	out.Add(machine.Effect[T]{To: who, Code: machine.OK, Num: uint64(x.items.Len()), Val: *x.items.At(0)})
}

// Len reads. OK to who: Num is the length, Aux the capacity in force (0: none).
func (x *Queue[T]) Len(out *machine.Out[T], who machine.Who) {
	out.Add(machine.Effect[T]{To: who, Code: machine.OK, Num: uint64(x.items.Len()), Aux: uint64(x.bound)})
}

// Transfer takes the first item of one queue and puts it into another (or at
// the end of the same one) in one operation: at no time it is in none or in both.
//
//   - OK to who: done. Val is the item, Num the length of to after it. Then what Put
//     says to takers of to, and what Take says to putters of from.
//   - Refused to who: it is not done, and does not wait. Aux is Empty (of
//     from) or Full (of to); Num is the length of that queue.
//   - Wake to who, only with wait and later: it seems possible now. Num is 0.
//     Nothing is done and nothing is reserved; who asks again with a new request.
//     A machine is one object, and a wait for two would have to be served by
//     both. So a Transfer that waits stands behind all takers of from, or putters
//     of to, and all Transfers that wait are woken at once.
//   - Invalid to who: as Put says, of to.
func Transfer[T any](out *machine.Out[T], from, to *Queue[T], who machine.Who, bound Bound, wait bool) {
	switch {
	case !to.fits(out, who, bound):
	case from.items.Len() == 0 && wait:
		from.item = append(from.item, who)
	case from.items.Len() == 0:
		from.refuse(out, who, Empty)
	case from == to: // what leaves makes the room
		v := from.items.Pop()
		from.items.Push(v)
		out.Add(machine.Effect[T]{To: who, Code: machine.OK, Num: uint64(to.items.Len()), Val: v})
	case !to.room(bound) && wait && bound.Capacity > 0:
		to.space = append(to.space, who)
	case !to.room(bound):
		to.refuse(out, who, Full)
	default:
		v := from.items.Pop()
		to.in(out, machine.Effect[T]{To: who, Code: machine.OK, Val: v}, v, bound)
		from.serve(out)
	}
}

// Abandon takes back the wait of who. Of a Transfer, tell both queues.
//
//   - Refused to who, Aux TakenBack: it waits no more, and what it wanted to
//     put is not in the queue. Num is the length.
//   - Nothing, when who does not wait: its answer is on its way, and it has to
//     keep, or put back, what it takes.
func (x *Queue[T]) Abandon(out *machine.Out[T], who machine.Who) {
	if x.forget(func(w machine.Who) bool { return w == who }) {
		x.refuse(out, who, TakenBack)
	}
}

// Expire ends a session: its waits are gone, and what it waited to put is not
// in the queue. What it has put stays. Nobody is told: no room and no item comes
// of it.
func (x *Queue[T]) Expire(_ *machine.Out[T], s machine.Session) {
	x.forget(func(w machine.Who) bool { return w.Session == s })
}

// Destroy ends the queue, and drops its items: Gone to each who waits, Num 0:
// takers, then putters, then Transfers, each in their order. x is the zero value
// afterwards.
func (x *Queue[T]) Destroy(out *machine.Out[T]) {
	for i := range x.take.Len() {
		out.Tell(*x.take.At(i), machine.Gone, 0)
	}
	for i := range x.put.Len() {
		out.Tell(x.put.At(i).who, machine.Gone, 0)
	}
	for _, w := range x.item {
		out.Tell(w, machine.Gone, 0)
	}
	for _, w := range x.space {
		out.Tell(w, machine.Gone, 0)
	}
	*x = Queue[T]{}
}

// Idle reports whether there is no item and nobody waits.
func (x *Queue[T]) Idle() bool {
	return x.items.Len()+x.take.Len()+x.put.Len()+len(x.item)+len(x.space) == 0
}

// Length is how many items there are, without those that wait to be put.
func (x *Queue[T]) Length() int { return x.items.Len() }

// Capacity is the capacity in force; 0: none.
func (x *Queue[T]) Capacity() int { return x.bound }

// Waiting is how many wait to take, and how many to put, Transfers included.
func (x *Queue[T]) Waiting() (takers, putters int) {
	return x.take.Len() + len(x.item), x.put.Len() + len(x.space)
}

func (x *Queue[T]) fits(out *machine.Out[T], who machine.Who, bound Bound) bool {
	if bound.Capacity < 0 || bound.Most < 0 || x.named && x.bound != bound.Capacity {
		out.Tell(who, machine.Invalid, uint64(x.bound))
		return false
	}
	return true
}

// room reports whether an item may come in. Then nobody waits to put.
func (x *Queue[T]) room(bound Bound) bool {
	most := bound.Capacity
	if most == 0 {
		most = bound.Most
	}
	return most == 0 || x.items.Len() < most
}

// in adds v, appends the answer e with the length, and serves.
func (x *Queue[T]) in(out *machine.Out[T], e machine.Effect[T], v T, bound Bound) {
	x.bound, x.named = bound.Capacity, true
	x.items.Push(v)
	answer := len(out.Effects)
	out.Add(e)
	x.serve(out)
	out.Effects[answer].Num = uint64(x.items.Len())
}

// serve hands items to takers and lets putters in, in order, as far as it goes,
// then wakes Transfers.
func (x *Queue[T]) serve(out *machine.Out[T]) {
	for {
		if x.items.Len() > 0 && x.take.Len() > 0 {
			out.Add(machine.Effect[T]{To: x.take.Pop(), Code: machine.OK, Num: 1, Val: x.items.Pop()})
			continue
		}
		if x.put.Len() == 0 || x.items.Len() >= x.bound {
			break
		}
		w := x.put.Pop()
		x.items.Push(w.v)
		out.Tell(w.who, machine.OK, uint64(x.items.Len()))
	}
	if x.items.Len() > 0 {
		x.item = wakeAll(out, x.item)
	}
	if x.items.Len() < x.bound || x.bound == 0 {
		x.space = wakeAll(out, x.space)
	}
	if x.items.Len() == 0 { // then nobody waits to put
		x.bound, x.named = 0, false
	}
}

func wakeAll[T any](out *machine.Out[T], ws []machine.Who) []machine.Who {
	for _, w := range ws {
		out.Tell(w, machine.Wake, 0)
	}
	return nil
}

func (x *Queue[T]) refuse(out *machine.Out[T], who machine.Who, why uint64) {
	out.Add(machine.Effect[T]{To: who, Code: machine.Refused, Num: uint64(x.items.Len()), Aux: why})
}

// forget takes waits back, and reports whether there were any.
func (x *Queue[T]) forget(gone func(machine.Who) bool) bool {
	before := x.take.Len() + x.put.Len() + len(x.item) + len(x.space)
	x.take.Filter(func(w *machine.Who) bool { return !gone(*w) })
	x.put.Filter(func(w *putter[T]) bool { return !gone(w.who) })
	x.item = slices.DeleteFunc(x.item, gone)
	x.space = slices.DeleteFunc(x.space, gone)
	return x.take.Len()+x.put.Len()+len(x.item)+len(x.space) < before
}
