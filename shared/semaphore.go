package shared

import (
	"context"
	"fmt"

	"github.com/distgear/distgear"
	"github.com/distgear/distgear/internal/objects"
	"github.com/distgear/distgear/internal/operation"
)

// Semaphore is a number of permits, of which each caller takes as many as it
// needs. Make it with NewSemaphore; it is safe for concurrent use.
//
//	s := shared.NewSemaphore(n, "licences", 10)
//	p, err := s.Acquire(ctx, 3) // 3 of 10, waits for them
//	defer p.Release()
//
// The hub never gives more permits than there are; a process that was stopped
// may still believe that it holds some, see Permits.Lost. Who waits is served in the
// order in which the hub heard of it, so a big request is not starved by small
// ones. Permits of a node that left or was lost are free again. Acquire is one
// message to the hub and its answer, Release one message.
type Semaphore struct {
	x    *objects.Holder
	size int
}

// NewSemaphore returns the semaphore with that name and size, which is at least
// 1: else each operation is ErrInvalid. While it is in use, another size is
// ErrMismatch. It does no I/O.
func NewSemaphore(n *distgear.Node, name string, size int) *Semaphore {
	var fault error
	if size < 1 {
		fault = fmt.Errorf("%w: semaphore %q has %d permits: at least 1", ErrInvalid, name, size)
	}
	return &Semaphore{objects.NewHolder(host(n), objects.ID{Kind: operation.KSemaphore, Name: name, Param: uint64(size)}, fault), size}
}

// Acquire takes k permits, at least 1 and at most the size: else ErrInvalid. It
// waits for them. An error means that none is held: ctx ended, or the session
// was lost while it waited (ErrSessionLost).
func (s *Semaphore) Acquire(ctx context.Context, k int) (Permits, error) {
	h, _, err := s.take(ctx, k, 0)
	return Permits{h}, err
}

// TryAcquire takes k permits if they are free now and nobody waits. ctx bounds
// the message to the hub and its answer.
func (s *Semaphore) TryAcquire(ctx context.Context, k int) (Permits, bool, error) {
	h, ok, err := s.take(ctx, k, 1)
	return Permits{h}, ok, err
}

func (s *Semaphore) take(ctx context.Context, k int, try uint64) (*objects.Hold, bool, error) {
	if s.x.Err == nil && (k < 1 || k > s.size) {
		return nil, false, fmt.Errorf("%w: %d permits of semaphore %q, which has %d", ErrInvalid, k, s.x.Name, s.size)
	}
	return s.x.Take(ctx, "acquire", operation.Op{Verb: operation.VAcquire, A: uint64(k), B: try}, operation.Op{Verb: operation.VRelease, A: uint64(k)})
}

// Do runs f with k permits. The context of f ends, with the cause
// ErrSessionLost or ErrDestroyed, when they are lost meanwhile; then Do's error says
// so too.
func (s *Semaphore) Do(ctx context.Context, k int, f func(context.Context, Token) error) error {
	h, _, err := s.take(ctx, k, 0)
	if err != nil {
		return err
	}
	return under(ctx, h, "release", f)
}

// Destroy ends the semaphore for everybody: who waits gets ErrDestroyed, who
// holds permits has lost them. The name may be used anew.
func (s *Semaphore) Destroy(ctx context.Context) error { return s.x.Destroy(ctx) }

// Permits are permits of a Semaphore that are held. The zero value holds none.
// They may be copied; any goroutine may release them, once and all together.
type Permits struct{ h *objects.Hold }

// Token fences what is done with the permits: of two grants of one semaphore the
// later has the higher one.
func (p Permits) Token() Token { return Token(p.h.Token()) }

// Release gives the permits back. ErrSessionLost: they were lost before, and
// are free already; ErrDestroyed: the semaphore was; ErrNotHeld: they are not
// held, or not any more. It does not block: what was done with the permits is on
// its way before it.
func (p Permits) Release() error { return p.h.Release("release") }

// Lost is closed when the permits are gone without a Release: the session with
// the hub was lost, or the semaphore was destroyed. It is closed before the hub
// may give them to another, unless this process was stopped at that moment: only
// the Token is safe against that. After Release it is closed too, if it was not
// asked for before.
func (p Permits) Lost() <-chan struct{} { return p.h.Gone() }

// under runs f with what is held, and gives it back.
func under(ctx context.Context, h *objects.Hold, back string, f func(context.Context, Token) error) error {
	return h.Under(ctx, back, func(ctx context.Context) error { return f(ctx, Token(h.Token())) })
}
