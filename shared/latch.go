package shared

import (
	"context"
	"errors"
	"fmt"

	"github.com/distgear/distgear"
	"github.com/distgear/distgear/internal/objects"
	"github.com/distgear/distgear/internal/operation"
)

// Latch holds back who waits until so many different ids were counted down;
// then it is open for good. Make it with NewLatch; it is safe for concurrent use.
//
//	l := shared.NewLatch(n, "ready", 3)
//	missing, err := l.CountDown(ctx, string(n.Name()))
//	err = l.Wait(ctx)
//
// It counts ids, not calls: what is repeated after a crash counts once. What a
// node counted stays when the node is lost. An open latch is remembered until
// Destroy.
type Latch struct{ b *objects.Base }

// NewLatch returns the latch with that name, which opens after count different
// ids; with 0 it is open. A negative count makes each operation ErrInvalid. While it
// is in use, another count is ErrMismatch. It does no I/O.
func NewLatch(n *distgear.Node, name string, count int) *Latch {
	var fault error
	if count < 0 {
		fault = fmt.Errorf("%w: latch %q counts %d: at least 0", ErrInvalid, name, count)
	}
	return &Latch{objects.Of(host(n), objects.ID{Kind: operation.KLatch, Name: name, Param: uint64(count)}, fault)}
}

// CountDown counts an id of 1 to 256 bytes, and returns how many are missing.
// To count it again does nothing; so CountDown outlives a loss of the session, and
// may be called again after any error.
func (l *Latch) CountDown(ctx context.Context, id string) (missing int, err error) {
	if id == "" || len(id) > objects.MaxName {
		return 0, fmt.Errorf("%w: an id of latch %q has 1 to %d bytes, not %d", ErrInvalid, l.b.Name, objects.MaxName, len(id))
	}
	a, err := l.b.Do(ctx, "count down", operation.Op{Verb: operation.VLatchDown, Key: []byte(id)}, true)
	return int(a.Num), err
}

// Wait waits until the latch is open. It changes nothing: it may be called again
// after any error.
func (l *Latch) Wait(ctx context.Context) error {
	return l.b.Wait(ctx, "wait", operation.Op{Verb: operation.VLatchWait})
}

// Missing is how many ids are missing; 0: it is open.
func (l *Latch) Missing(ctx context.Context) (int, error) {
	a, err := l.b.Do(ctx, "load", operation.Op{Verb: operation.VLatchLoad}, true)
	return int(a.Num), err
}

// Destroy ends the latch for everybody: who waits gets ErrDestroyed. The name
// may be used anew, and has counted nothing.
func (l *Latch) Destroy(ctx context.Context) error { return l.b.Destroy(ctx) }

// WaitGroup holds back who waits until a number is zero; it begins at zero.
// Make it with NewWaitGroup; it is safe for concurrent use.
//
//	g := shared.NewWaitGroup(n, "jobs")
//	err := g.Add(ctx, 2)
//	err = g.Done(ctx) // twice, at whatever node
//	err = g.Wait(ctx)
//
// It has no Go: a Done that is lost with its session is lost for good, and an
// internal goroutine would have nobody to tell. What a node added stays when the node
// is lost: then Wait waits for ever. A Latch, where another can count instead, or a
// Barrier, which breaks, do better there.
type WaitGroup struct{ b *objects.Base }

// NewWaitGroup returns the wait group with that name. It does no I/O.
func NewWaitGroup(n *distgear.Node, name string) *WaitGroup {
	return &WaitGroup{objects.Of(host(n), objects.ID{Kind: operation.KGroup, Name: name}, nil)}
}

// Add adds delta, which may be negative. Below zero is ErrInvalid, and nothing
// is changed. LostError and the cause of ctx leave unknown whether it was added.
func (g *WaitGroup) Add(ctx context.Context, delta int) error {
	_, err := g.b.Do(ctx, "add", operation.Op{Verb: operation.VGroupAdd, A: uint64(delta)}, false)
	if g.b.Err == nil && errors.Is(err, ErrInvalid) {
		return fmt.Errorf("%w: %+d would leave less than zero", err, delta)
	}
	return err
}

// Done is Add of -1.
func (g *WaitGroup) Done(ctx context.Context) error { return g.Add(ctx, -1) }

// Do adds 1, runs f and is done, also when f panics or ctx has ended meanwhile.
// The error is that of f, joined with what went wrong with Done.
func (g *WaitGroup) Do(ctx context.Context, f func(context.Context) error) (err error) {
	if err := g.Add(ctx, 1); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, g.Done(context.WithoutCancel(ctx))) }()
	return f(ctx)
}

// Wait waits until the number is zero. An Add after that does not take it back.
func (g *WaitGroup) Wait(ctx context.Context) error {
	return g.b.Wait(ctx, "wait", operation.Op{Verb: operation.VGroupWait})
}

// Destroy ends the wait group for everybody: who waits gets ErrDestroyed. The
// name may be used anew, and begins at zero.
func (g *WaitGroup) Destroy(ctx context.Context) error { return g.b.Destroy(ctx) }
