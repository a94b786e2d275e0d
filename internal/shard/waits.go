package shard

import (
	"maps"
	"slices"

	"github.com/distgear/distgear/internal/machine"
	"github.com/distgear/distgear/internal/machine/barriers"
	"github.com/distgear/distgear/internal/machine/latches"
	"github.com/distgear/distgear/internal/machine/semaphores"
	"github.com/distgear/distgear/internal/operation"
)

type semaphore struct {
	plain
	semaphores.Semaphore
	size int64
}

func newSemaphore(param, _ uint64) thing { return &semaphore{size: int64(param)} }

func (x *semaphore) apply(c *call) {
	switch c.op.Verb {
	case operation.VAcquire:
		x.Acquire(&c.none, c.who(), x.size, int64(c.op.A), c.op.B != 0)
		x.tokens(c)
	case operation.VRelease:
		x.Release(&c.none, c.who(), int64(c.op.A))
		x.tokens(c) // the answer to the release has one too: it means nothing
	default:
		c.invalid()
	}
}

// tokens gives a token to each grant that was said.
func (x *semaphore) tokens(c *call) {
	for i := range c.none.Effects {
		if e := &c.none.Effects[i]; e.Code == machine.OK {
			e.Aux = c.nextToken()
		}
	}
}

func (x *semaphore) abandon(c *call, who machine.Who) { x.Abandon(&c.none, who); x.tokens(c) }
func (x *semaphore) expire(c *call)                   { x.Expire(&c.none, c.ses.id); x.tokens(c) }
func (x *semaphore) destroy(c *call)                  { c.goneToAll(); x.Destroy(&c.none) }

type barrier struct {
	plain
	barriers.Barrier
	parties int
}

func newBarrier(param, floor uint64) thing {
	return &barrier{Barrier: *barriers.New(floor), parties: int(param)}
}

func (x *barrier) apply(c *call) {
	switch c.op.Verb {
	case operation.VAwait:
		x.Await(&c.none, c.who(), x.parties, c.op.A != 0)
	case operation.VTrip:
		x.Trip(&c.none, machine.Who{Session: c.ses.id, Req: c.op.A}, c.op.B != 0)
	case operation.VReset:
		x.Reset(&c.none, c.who())
	default:
		c.invalid()
	}
}

func (x *barrier) abandon(c *call, who machine.Who) { x.Abandon(&c.none, who) }
func (x *barrier) expire(c *call)                   { x.Expire(&c.none, c.ses.id) }
func (x *barrier) destroy(c *call)                  { c.goneToAll(); x.Destroy(&c.none) }
func (x *barrier) floor() uint64                    { return x.Generation() }

type latch struct {
	plain
	latches.Latch
	count int64
}

func newLatch(param, _ uint64) thing { return &latch{count: int64(param)} }

func (x *latch) apply(c *call) {
	switch c.op.Verb {
	case operation.VLatchDown:
		x.CountDown(&c.none, c.who(), x.count, string(c.op.Key))
	case operation.VLatchWait:
		x.Wait(&c.none, c.who(), x.count)
	case operation.VLatchLoad:
		if x.Missing() == 0 && !x.Open() { // nobody has named the count yet
			c.answer(machine.OK, uint64(x.count), 0)
			return
		}
		x.Load(&c.none, c.who())
	default:
		c.invalid()
	}
}

func (x *latch) abandon(c *call, who machine.Who) { x.Abandon(&c.none, who) }
func (x *latch) expire(c *call)                   { x.Expire(&c.none, c.ses.id) }
func (x *latch) destroy(c *call)                  { x.Destroy(&c.none) }

type group struct {
	plain
	latches.WaitGroup
}

func newGroup(uint64, uint64) thing { return &group{} }

func (x *group) apply(c *call) {
	switch c.op.Verb {
	case operation.VGroupAdd:
		x.Add(&c.none, c.who(), int64(c.op.A))
	case operation.VGroupWait:
		x.Wait(&c.none, c.who())
	default:
		c.invalid()
	}
}

func (x *group) abandon(c *call, who machine.Who) { x.Abandon(&c.none, who) }
func (x *group) expire(c *call)                   { x.Expire(&c.none, c.ses.id) }
func (x *group) destroy(c *call)                  { x.Destroy(&c.none) }

// goneToAll tells each session that knows the object that it is gone, before
// those are told who wait: who holds something of it has lost it.
func (c *call) goneToAll() {
	for _, id := range slices.Sorted(maps.Keys(c.sessions)) {
		if c.obj.of(c.sessions[id]) != 0 {
			c.none.Tell(machine.Who{Session: id}, machine.Gone, 0)
		}
	}
}
