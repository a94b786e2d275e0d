package objects

import (
	"sync"
	"time"

	"github.com/distgear/distgear/internal/operation"
	"github.com/distgear/distgear/internal/room"
)

// opened are the locks of a node that the ledger knows as open: those that were
// used of late. One that was not for a while is given back and closed; then it is gone
// from here and from the hub as soon as nobody has a handle of it. Who has one
// may use it again.
type opened struct {
	mu    sync.Mutex
	all   map[*Lock]struct{}
	timer *time.Timer
}

// idleAfter is how long a lock is not used, at least, before it is given back.
const idleAfter = time.Minute

type openedKey struct{}

func openedOf(r *room.Room) *opened {
	return r.Value(openedKey{}, func() any { return &opened{all: map[*Lock]struct{}{}} }).(*opened)
}

func (o *opened) add(l *Lock) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.all[l] = struct{}{}
	switch {
	case len(o.all) > 1:
	case o.timer == nil:
		o.timer = time.AfterFunc(idleAfter, o.tidy)
	default:
		o.timer.Reset(idleAfter)
	}
}

// Tidy gives back what was not used since the last time. A timer does it.
func Tidy(r *room.Room) { openedOf(r).tidy() }

func (o *opened) tidy() {
	o.mu.Lock()
	all := make([]*Lock, 0, len(o.all))
	for l := range o.all {
		all = append(all, l)
	}
	o.mu.Unlock()
	for _, l := range all {
		l.tidy(o)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.all) > 0 {
		o.timer.Reset(idleAfter)
	}
}

// begin notes that the lock is open, with mu held. In a process that is alone it
// takes the grant: the name is this lock's.
func (l *Lock) begin() {
	if !l.open {
		l.open = true
		openedOf(l.Room).add(l)
	}
	if l.Room.Ledger.Alone() && l.state.Grant() == 0 {
		l.state.Begin(uint64(l.Room.Ledger.Wall()) << operation.TokenBits)
	}
}

// tidy closes the lock if nobody used it since the last time.
func (l *Lock) tidy(o *opened) {
	l.mu.Lock()
	defer l.mu.Unlock()
	last := l.state.Last()
	if l.seen != last {
		l.seen = last
		return
	}
	if holding, queued, parked := l.state.Counts(); holding+queued+parked > 0 {
		return
	}
	if l.Room.Ledger.Alone() {
		l.state.End()
	} else if l.state.GiveBack(&l.out) {
		_ = l.flush() // what a lost session held is free without our word
	}
	if !l.state.Idle() {
		return
	}
	l.open = false
	o.mu.Lock()
	delete(o.all, l)
	o.mu.Unlock()
	l.drop(l.Object()) // with mu held: it is not opened anew before it is closed
}
