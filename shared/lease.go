package shared

import (
	"context"

	"github.com/distgear/distgear/internal/machine/greedy"
	"github.com/distgear/distgear/internal/objects"
)

// Lease is a lock that is held. Its zero value holds nothing. It may be copied;
// any goroutine may unlock it, once.
type Lease struct {
	l *objects.Lock
	t greedy.Token
}

// Token fences what is done under the lease.
func (s Lease) Token() Token { return Token(s.t) }

// Unlock releases the lock. ErrSessionLost: it was lost before; ErrDestroyed: the
// lock was destroyed before; ErrNotHeld: it is not held, or not any more. It does not
// block: what was done under the lock is on its way before it.
func (s Lease) Unlock() error {
	if s.l == nil {
		return ErrNotHeld
	}
	return s.l.Release(s.t)
}

// Lost is closed when the lock is gone without an Unlock: the session with the
// hub was lost, or the lock was destroyed. It is closed before the hub may give
// the lock to another, unless this process was stopped at that moment: only the
// Token is safe against that. After Unlock it is closed too, if it was not asked
// for before.
func (s Lease) Lost() <-chan struct{} {
	c := make(chan struct{})
	if s.l == nil {
		close(c)
	} else {
		s.l.OnLost(s.t, func() { close(c) })
	}
	return c
}

func (s Lease) under(ctx context.Context, f func(context.Context, Token) error) error {
	return s.l.Under(ctx, s.t, func(ctx context.Context) error { return f(ctx, s.Token()) })
}
