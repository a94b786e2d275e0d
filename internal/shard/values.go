package shard

import (
	"github.com/distgear/distgear/internal/machine"
	"github.com/distgear/distgear/internal/machine/counters"
	"github.com/distgear/distgear/internal/machine/topics"
	"github.com/distgear/distgear/internal/operation"
)

type counter struct {
	plain
	counters.Counter
}

func newCounter(uint64, uint64) thing { return &counter{} }

func (x *counter) apply(c *call) {
	switch c.op.Verb {
	case operation.VCounterLoad:
		x.Load(&c.none, c.who())
	case operation.VCounterAdd:
		x.Add(&c.none, c.who(), int64(c.op.A))
	case operation.VCounterStore:
		x.Store(&c.none, c.who(), int64(c.op.A))
	case operation.VCounterCompareAndSet:
		x.CompareAndSet(&c.none, c.who(), int64(c.op.A), int64(c.op.B))
	default:
		c.invalid()
	}
}

func (x *counter) abandon(*call, machine.Who) {}
func (x *counter) expire(*call)               {}
func (x *counter) destroy(c *call)            { c.goneToAll(); x.Destroy(&c.none) }

type topic struct {
	plain
	topics.Topic[Value]
}

func newTopic(_, floor uint64) thing { return &topic{Topic: *topics.New[Value](floor)} }

func (x *topic) apply(c *call) {
	switch c.op.Verb {
	case operation.VPublish:
		x.Publish(&c.vals, c.who(), c.value())
	case operation.VSubscribe:
		x.Subscribe(&c.vals, c.who())
	case operation.VUnsubscribe:
		x.Unsubscribe(&c.vals, machine.Who{Session: c.ses.id, Req: c.op.A})
	default:
		c.invalid()
	}
}

func (x *topic) leave(out *machine.Out[Value], who machine.Who) { x.Unsubscribe(out, who) }

func (x *topic) abandon(*call, machine.Who) {}
func (x *topic) expire(c *call)             { x.Expire(&c.vals, c.ses.id) }
func (x *topic) destroy(c *call)            { c.goneToAll(); x.Destroy(&c.vals) }
func (x *topic) floor() uint64              { return x.Last() }
