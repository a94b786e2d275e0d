package shard

import (
	"github.com/distgear/distgear/internal/machine"
	"github.com/distgear/distgear/internal/operation"
)

// makers is all that the shard knows of kinds: to add one is to add a line, the thing
// behind it, and its words in package operation. floor is the highest number that a
// dropped or destroyed object of the kind had.
var makers = [operation.KEnd]func(param, floor uint64) thing{
	operation.KLock:      newLock,
	operation.KSemaphore: newSemaphore,
	operation.KBarrier:   newBarrier,
	operation.KLatch:     newLatch,
	operation.KGroup:     newGroup,
	operation.KCounter:   newCounter,
	operation.KMap:       newMap,
	operation.KQueue:     newQueue,
	operation.KTopic:     newTopic,
	operation.KElection:  newElection,
	operation.KExecutor:  newExecutor,
}

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
