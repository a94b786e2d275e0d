package shard

import (
	"github.com/distgear/distgear/internal/machine"
	"github.com/distgear/distgear/internal/machine/counters"
	"github.com/distgear/distgear/internal/machine/topics"
)

// The verbs of a counter.
const (
	VCounterLoad          Verb = Verb(KCounter)<<4 + iota
	VCounterAdd                // A: what is added, two's complement
	VCounterStore              // A: the value
	VCounterCompareAndSet      // A: old; B: new
)

type counter struct {
	plain
	counters.Counter
}

func newCounter(uint64, uint64) thing { return &counter{} }

func (x *counter) apply(c *call) {
	switch c.op.Verb {
	case VCounterLoad:
		x.Load(&c.none, c.who())
	case VCounterAdd:
		x.Add(&c.none, c.who(), int64(c.op.A))
	case VCounterStore:
		x.Store(&c.none, c.who(), int64(c.op.A))
	case VCounterCompareAndSet:
		x.CompareAndSet(&c.none, c.who(), int64(c.op.A), int64(c.op.B))
	default:
		c.invalid()
	}
}

func (x *counter) abandon(*call, machine.Who) {}
func (x *counter) expire(*call)               {}
func (x *counter) destroy(c *call)            { c.goneToAll(); x.Destroy(&c.none) }

// The verbs of a topic.
const (
	VPublish Verb = Verb(KTopic)<<4 + iota // Val: the message
	VSubscribe
	VUnsubscribe // A: the request of the Subscribe
)

type topic struct {
	plain
	topics.Topic[Value]
}

func newTopic(_, floor uint64) thing { return &topic{Topic: *topics.New[Value](floor)} }

func (x *topic) apply(c *call) {
	switch c.op.Verb {
	case VPublish:
		x.Publish(&c.vals, c.who(), c.value())
	case VSubscribe:
		x.Subscribe(&c.vals, c.who())
	case VUnsubscribe:
		x.Unsubscribe(&c.vals, machine.Who{Session: c.ses.id, Req: c.op.A})
	default:
		c.invalid()
	}
}

func (x *topic) abandon(*call, machine.Who) {}
func (x *topic) expire(c *call)             { x.Expire(&c.vals, c.ses.id) }
func (x *topic) destroy(c *call)            { c.goneToAll(); x.Destroy(&c.vals) }
func (x *topic) floor() uint64              { return x.Last() }
