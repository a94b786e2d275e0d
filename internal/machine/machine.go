// Package machine holds the words that the machines of shared objects have in
// common: who asks, and what is to be told to whom.
//
// A machine is one object's state (a lock, a queue, a map) as a plain value
// with a method for each operation. It has no clock, no goroutine and does no
// I/O: a method changes the state and appends what must be told to an Out.
// The hub runs the machines behind the ledger (internal/shard); a process that
// is alone calls the same methods directly.
//
// # Guarantees
//
// A machine's state is a function of the operations applied to it, in order:
// a standby that applies the same operations has the same state and the same
// effects. Nothing depends on the order in which a Go map is walked.
package machine

// Session is a node's session with the hub. Sessions are never used again.
// The zero value is none.
type Session uint64

// Who is one who asks: a request of a session. Requests grow in a session.
// With Req zero the session at large is meant.
type Who struct {
	Session Session
	Req     uint64
}

// Code says what an Effect tells.
type Code uint8

// The codes. What Num, Aux, Key and Val mean is said by the method that
// appends the effect.
const (
	OK      Code = 1 + iota // the operation was done
	Refused                 // it was not done because of the state: busy, full, empty, compared unequal
	Stale                   // not the holder, or not any more: nothing was changed
	Invalid                 // the operation makes no sense: another type under this name, a malformed argument
	Granted                 // a grant with the token Num
	Recall                  // give back the grant with the token Num
	Wake                    // a waiter was notified
	Broken                  // a barrier broke
	Changed                 // an entry changed; what is kept of it must go or be renewed
	Message                 // a message of a topic
	Gone                    // the object was destroyed
)

// Effect is something to be told.
type Effect[V any] struct {
	To   Who
	Code Code
	Num  uint64
	Aux  uint64
	Key  string
	Val  V
}

// Out collects effects. The zero value is empty.
type Out[V any] struct{ Effects []Effect[V] }

// None is the value type of objects that hold no values.
type None = struct{}

// Tell appends an effect without key and value.
func (o *Out[V]) Tell(to Who, code Code, num uint64) {
	o.Effects = append(o.Effects, Effect[V]{To: to, Code: code, Num: num})
}

// Add appends an effect.
func (o *Out[V]) Add(e Effect[V]) { o.Effects = append(o.Effects, e) }

// Reset empties o and keeps its room.
func (o *Out[V]) Reset() {
	clear(o.Effects)
	o.Effects = o.Effects[:0]
}
