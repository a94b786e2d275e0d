package shard

import (
	"fmt"

	"github.com/distgear/distgear/internal/machine"
	"github.com/distgear/distgear/internal/machine/counters"
)

// Kind is a kind of object.
type Kind uint8

// The kinds.
const (
	KLock Kind = 1 + iota
	KSemaphore
	KBarrier
	KLatch
	KGroup
	KCounter
	KMap
	KQueue
	KTopic
	endKinds
)

func (k Kind) known() bool { return k > 0 && k < endKinds && kinds[k] != nil }

var kindNames = [...]string{"", "lock", "semaphore", "barrier", "latch", "wait group", "counter", "map", "queue", "topic"}

// String is the kind's name for people.
func (k Kind) String() string {
	if k.known() {
		return kindNames[k]
	}
	return fmt.Sprintf("kind %d", uint8(k))
}

// Verb is an operation: the kind of the object it is for, and which.
type Verb uint8

// The verbs of any object and of the session itself.
const (
	VOpen    Verb = iota // give the object named Key the number Handle; A: its kind; B: its parameter
	VClose               // forget a handle: what the session holds of the object is free
	VDestroy             // the object, for everybody
)

// Kind tells for which kind of object a verb is; 0: for any.
func (v Verb) Kind() Kind { return Kind(v >> 4) }

// kinds makes the machine of a new object.
var kinds = [endKinds]func(param uint64) thing{
	KCounter: func(uint64) thing { return &counter{} },
}

// The verbs of a counter.
const (
	VCounterLoad          Verb = Verb(KCounter)<<4 + iota
	VCounterAdd                // A: what is added
	VCounterStore              // A: the value
	VCounterCompareAndSet      // A: old, B: new
)

type counter struct{ counters.Counter }

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
		c.answer(machine.Invalid, 0, 0)
	}
}

func (x *counter) expire(c *call)  { x.Expire(&c.none, c.ses.id) }
func (x *counter) destroy(c *call) { x.Destroy(&c.none) }
func (x *counter) due() int64      { return 0 }
func (x *counter) tick(*call)      {}
func (x *counter) idle() bool      { return x.Idle() }
