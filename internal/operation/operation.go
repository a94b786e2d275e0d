// Package operation is what a node and its ledger say to each other, as words and
// as bytes: the kinds of objects and their verbs, the operations in an entry of a
// session, and the outputs in a frame to it. It is pure.
//
//	b := operation.AppendEntry(nil, &operation.Entry{Type: operation.EntryOps, Session: id, First: 1})
//	b = operation.AppendOp(b, &operation.Op{Verb: operation.VPut, Handle: 1, Req: 1, Val: item})
//	e, err := operation.ParseEntry(b)
//	for e.Next(&op) { … } // at the hub
//
// # Guarantees
//
// What was appended is what is parsed. Numbers of kinds, verbs, entries and frames
// stay as they are: they are in logs and snapshots.
//
// # Failures
//
// Bytes that are no entry or frame are ErrMalformed, never a panic; what they point
// to is only lent.
package operation

import "fmt"

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
	KEnd // behind the last
)

var kinds = [KEnd]string{
	KLock: "lock", KSemaphore: "semaphore", KBarrier: "barrier", KLatch: "latch", KGroup: "wait group", KCounter: "counter",
	KMap: "map", KQueue: "queue", KTopic: "topic", KElection: "election", KExecutor: "executor",
}

// Known tells whether there is such a kind.
func (k Kind) Known() bool { return k > 0 && k < KEnd }

// String is the kind's name for people.
func (k Kind) String() string {
	if k.Known() {
		return kinds[k]
	}
	return fmt.Sprintf("kind %d", uint8(k))
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

// TokenBits of a token number the grants of one millisecond: more borrow from
// the next. With 41 bits of time that stays below greedy's bound.
const TokenBits = 2
