package shard

import (
	"fmt"

	"github.com/distgear/distgear/internal/machine"
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
	KElection
	KExecutor
	endKinds
)

func (k Kind) known() bool { return k > 0 && k < endKinds && kinds[k].make != nil }

// String is the kind's name for people.
func (k Kind) String() string {
	if k.known() {
		return kinds[k].name
	}
	return fmt.Sprintf("kind %d", uint8(k))
}

// kinds is all that the shard knows of kinds: to add one is to add a line, and
// the thing behind it. floor is the highest number that a dropped or destroyed
// object of the kind had.
var kinds = [endKinds]struct {
	name string
	make func(param, floor uint64) thing
}{
	KLock:      {"lock", newLock},
	KSemaphore: {"semaphore", newSemaphore},
	KBarrier:   {"barrier", newBarrier},
	KLatch:     {"latch", newLatch},
	KGroup:     {"wait group", newGroup},
	KCounter:   {"counter", newCounter},
	KMap:       {"map", newMap},
	KQueue:     {"queue", newQueue},
	KTopic:     {"topic", newTopic},
	KElection:  {"election", newElection},
	KExecutor:  {"executor", newExecutor},
}

// Verb is an operation: the kind of the object it is for, and which.
type Verb uint8

// The verbs of any object.
const (
	VOpen    Verb = iota // give the object named Key the number Handle; A: its kind; B: its parameter
	VClose               // forget a handle: what the session holds of the object is free
	VDestroy             // the object, for everybody
	VAbandon             // A: the request that waits no more; B: of a Transfer, the other queue's handle
)

// Kind tells for which kind of object a verb is; 0: for any.
func (v Verb) Kind() Kind { return Kind(v >> 4) }

// thing is a machine as the shard sees it.
type thing interface {
	apply(c *call)
	abandon(c *call, who machine.Who) // who waits no more
	expire(c *call)                   // the session c.ses ended
	destroy(c *call)
	due() int64 // when it wants a tick, ledger ms; 0: never
	tick(c *call)
	floor() uint64 // of the objects of its name that follow
	Idle() bool
	AppendBinary(b []byte) []byte
	Restore(b []byte) error
}

// plain is what most things have in common: no time, no numbers.
type plain struct{}

func (plain) due() int64    { return 0 }
func (plain) tick(*call)    {}
func (plain) floor() uint64 { return 0 }

// Value is what an object holds: bytes at a hub, anything in a process that is
// alone.
type Value struct {
	S string
	X any
}

// value is the operation's value, for an object to keep.
func (c *call) value() Value { return Value{string(c.op.Val), c.op.X} }
