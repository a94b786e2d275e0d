package shared

import (
	"context"
	"hash/fnv"

	"github.com/distgear/distgear/internal/objects"
)

// Cond is a condition of a Mutex or RWMutex, at whatever node its goroutines
// are. Make it with NewCond; it is safe for concurrent use. As everywhere, wait in
// a loop: a wake-up says that something may have changed.
type Cond struct {
	l  *objects.Lock
	id uint32
}

// Locker is a Mutex or an RWMutex.
type Locker interface{ lock() *objects.Lock }

func (m *Mutex) lock() *objects.Lock   { return m.l }
func (m *RWMutex) lock() *objects.Lock { return m.l }

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
	if s.l != c.l {
		return ErrNotHeld
	}
	t, parked, err := c.l.Park(ctx, s.t, c.id)
	switch {
	case !parked:
	case t == 0:
		*s = Lease{}
	default:
		s.t = t
	}
	return err
}

// Signal wakes the goroutine that has waited longest. The lock must be held for
// writing.
func (c *Cond) Signal(s Lease) error { return c.notify(s, 1) }

// Broadcast wakes all who wait. The lock must be held for writing.
func (c *Cond) Broadcast(s Lease) error { return c.notify(s, -1) }

func (c *Cond) notify(s Lease, n int) error {
	if s.l != c.l {
		return ErrNotHeld
	}
	return c.l.Notify(s.t, c.id, n)
}
