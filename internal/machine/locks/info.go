package locks

import "github.com/distgear/distgear/internal/machine"

// Holder is one grant.
type Holder struct {
	Session  machine.Session
	Token    uint64
	Mode     Mode
	Since    int64 // ledger's time in ms
	Recalled bool  // it was asked back, or was contended when it was given
	Asked    bool  // it was asked back for a try and has not answered
}

// Waiting is one place in the queue.
type Waiting struct {
	Session machine.Session
	Mode    Mode
	Try     bool
	Since   int64 // ledger's time in ms
}

// Waiter is one goroutine on a condition.
type Waiter struct {
	Session  machine.Session
	Ticket   uint64
	Cond     uint32
	Since    int64 // ledger's time in ms
	Notified bool  // and it has not the lock again yet
}

// Info is what there is to tell of a lock.
type Info struct {
	Holders     []Holder
	Queue       []Waiting // in order
	Waiters     []Waiter  // in the order in which they began
	Contentions uint32    // wants that could not be granted at once, since the lock was first wanted
}

// Info describes the lock. The slices are the caller's.
func (l *Lock) Info() Info {
	in := Info{Contentions: l.contentions}
	for _, h := range l.holds {
		in.Holders = append(in.Holders, Holder{h.session, h.token, h.mode, h.since, h.recalled, h.asked})
	}
	for _, w := range l.queue {
		in.Queue = append(in.Queue, Waiting{w.session, w.mode, w.try, w.since})
	}
	for _, w := range l.waits {
		in.Waiters = append(in.Waiters, Waiter{w.session, w.ticket, w.cond, w.since, w.notified})
	}
	return in
}
