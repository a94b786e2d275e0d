package shared

import (
	"context"

	"github.com/distgear/distgear"
	"github.com/distgear/distgear/internal/machine/greedy"
	"github.com/distgear/distgear/internal/objects"
)

// Mutex is a lock that one goroutine of one node has at a time. Make it with
// NewMutex; it is safe for concurrent use. It is not re-entrant: a Lock under a
// context that Do gave is refused with ErrHeld; other nested ones wait for ever.
//
// A node that got it keeps it between uses until another node asks, or until it
// was not used for a minute or two: as long as neither is so, Lock and Unlock send no
// message. Nodes, and goroutines in a node, get it in the order in which they asked; a node's
// turn, while others wait, is up to four of its goroutines.
// A lock that nobody holds and nobody has a handle of costs nothing, here or at the hub.
type Mutex struct{ l *objects.Lock }

// NewMutex returns the mutex with that name. It does no I/O.
func NewMutex(n *distgear.Node, name string) *Mutex {
	return &Mutex{objects.NewLock(host(n), name, objects.Plain)}
}

// Lock waits for the mutex. An error means that it is not held: ctx ended, or
// the session was lost while it waited (ErrSessionLost).
func (m *Mutex) Lock(ctx context.Context) (Lease, error) {
	t, err := m.l.Acquire(ctx, greedy.Write)
	if err != nil {
		return Lease{}, err
	}
	return Lease{m.l, t}, nil
}

// TryLock gets the mutex if nobody uses it now. It may take a message to the
// hub and one to the node that had it last (L11): ctx bounds that.
func (m *Mutex) TryLock(ctx context.Context) (Lease, bool, error) {
	t, ok, err := m.l.Try(ctx, greedy.Write)
	if err != nil || !ok {
		return Lease{}, false, err
	}
	return Lease{m.l, t}, true, nil
}

// Do runs f under the mutex. The context of f ends, with the cause ErrSessionLost or
// ErrDestroyed, when the mutex is lost meanwhile; then Do's error says so too.
func (m *Mutex) Do(ctx context.Context, f func(context.Context, Token) error) error {
	s, err := m.Lock(ctx)
	if err != nil {
		return err
	}
	return s.under(ctx, f)
}

// Destroy ends the mutex for everybody: who waits gets ErrDestroyed, who holds it
// has lost it. The name may be used anew.
func (m *Mutex) Destroy(ctx context.Context) error { return m.l.Destroy(ctx) }

// RWMutex is a lock that one writer or any number of readers have at a time.
// Make it with NewRWMutex; otherwise it is like a Mutex. Readers do not pass a
// writer that waits; an upgrade is refused (ErrUpgrade) where it can be seen: under
// a context that DoRead gave.
type RWMutex struct{ l *objects.Lock }

// NewRWMutex returns the read/write mutex with that name. It does no I/O.
func NewRWMutex(n *distgear.Node, name string) *RWMutex {
	return &RWMutex{objects.NewLock(host(n), name, objects.ReadWrite)}
}

// Lock waits for the mutex, for writing.
func (m *RWMutex) Lock(ctx context.Context) (Lease, error) { return (&Mutex{m.l}).Lock(ctx) }

// TryLock gets the mutex for writing if nobody uses it now.
func (m *RWMutex) TryLock(ctx context.Context) (Lease, bool, error) {
	return (&Mutex{m.l}).TryLock(ctx)
}

// RLock waits for the mutex, for reading.
func (m *RWMutex) RLock(ctx context.Context) (Lease, error) {
	t, err := m.l.Acquire(ctx, greedy.Read)
	if err != nil {
		return Lease{}, err
	}
	return Lease{m.l, t}, nil
}

// TryRLock gets the mutex for reading if no writer uses or awaits it.
func (m *RWMutex) TryRLock(ctx context.Context) (Lease, bool, error) {
	t, ok, err := m.l.Try(ctx, greedy.Read)
	if err != nil || !ok {
		return Lease{}, false, err
	}
	return Lease{m.l, t}, true, nil
}

// Downgrade makes a writer a reader, without anybody in between. The lease stays
// the same one.
func (m *RWMutex) Downgrade(s Lease) error {
	if s.l != m.l {
		return ErrNotHeld
	}
	return m.l.Downgrade(s.t)
}

// Do runs f under the mutex, for writing; see Mutex.Do.
func (m *RWMutex) Do(ctx context.Context, f func(context.Context, Token) error) error {
	return (&Mutex{m.l}).Do(ctx, f)
}

// DoRead runs f under the mutex, for reading.
func (m *RWMutex) DoRead(ctx context.Context, f func(context.Context, Token) error) error {
	s, err := m.RLock(ctx)
	if err != nil {
		return err
	}
	return s.under(ctx, f)
}

// Destroy ends the mutex for everybody; see Mutex.Destroy.
func (m *RWMutex) Destroy(ctx context.Context) error { return m.l.Destroy(ctx) }
