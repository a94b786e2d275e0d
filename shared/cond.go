package shared

import (
	"context"
	"hash/fnv"

	"github.com/distgear/distgear/internal/client"
	"github.com/distgear/distgear/internal/machine/greedy"
)

// Cond is a condition of a Mutex or RWMutex, at whatever node its goroutines
// are. Make it with NewCond; it is safe for concurrent use. As everywhere, wait in
// a loop: a wake-up says that something may have changed.
type Cond struct {
	l  *lock
	id uint32
}

// Locker is a Mutex or an RWMutex.
type Locker interface{ lock() *lock }

func (m *Mutex) lock() *lock   { return m.l }
func (m *RWMutex) lock() *lock { return m.l }

// NewCond returns the condition of a lock with that name. A lock's conditions
// are known by a hash of their names: two that collide (one in four thousand
// million) wake each other's waiters.
func NewCond(of Locker, name string) *Cond {
	h := fnv.New32a()
	_, _ = h.Write([]byte(name)) // never fails
	return &Cond{of.lock(), h.Sum32()}
}

// Wait releases the lock, which must be held for writing, and waits; it has the
// lock again, under a new Token that it puts into s, when it returns nil or the
// cause of ctx. With another error the lock is not held.
func (c *Cond) Wait(ctx context.Context, s *Lease) error {
	l := c.l
	if s.l != l {
		return ErrNotHeld
	}
	w := waiters.Get().(*waiter)
	l.mu.Lock()
	if err := l.state.Wait(s.t, c.id, &w.Waiter, &l.out); err != nil {
		l.mu.Unlock()
		waiters.Put(w)
		return l.misuse("wait on a condition", err)
	}
	session, sent := l.session, l.flush()
	l.mu.Unlock()
	l.await(ctx, w)
	state, token, notified := w.State, w.Token, w.Notified
	w.Reset()
	waiters.Put(w)
	if state == greedy.Held && !l.room.Ledger.Valid(session) { // L5: it may have lapsed while we waited
		_ = l.release(token) // lost, or as good as
		state = greedy.Lost
	}
	if state != greedy.Held {
		*s = Lease{}
		switch {
		case state == greedy.Gone:
			return l.fault("wait on a condition", client.ErrGone)
		case sent != nil:
			return l.fault("wait on a condition", sent)
		}
		return &LostError{Op: "wait on a condition", Object: l.name}
	}
	s.t = token
	if !notified {
		return context.Cause(ctx)
	}
	return nil
}

// Signal wakes the goroutine that has waited longest. The lock must be held for
// writing.
func (c *Cond) Signal(s Lease) error { return c.notify(s, 1) }

// Broadcast wakes all who wait. The lock must be held for writing.
func (c *Cond) Broadcast(s Lease) error { return c.notify(s, -1) }

func (c *Cond) notify(s Lease, n int) error {
	l := c.l
	if s.l != l {
		return ErrNotHeld
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	err := l.state.Notify(s.t, c.id, n, &l.out)
	_ = l.flush() // of a lost session: who waited was told
	if err != nil {
		return l.misuse("notify", err)
	}
	return nil
}
