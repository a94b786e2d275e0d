package shared

import (
	"context"
	"fmt"

	"github.com/distgear/distgear"
	"github.com/distgear/distgear/internal/machine"
	"github.com/distgear/distgear/internal/machine/barriers"
	"github.com/distgear/distgear/internal/objects"
	"github.com/distgear/distgear/internal/operation"
)

// Barrier is where a fixed number of parties wait for each other, again and
// again. Make it with NewBarrier; it is safe for concurrent use. A party is a
// goroutine that waits, at whatever node.
//
//	b := shared.NewBarrier(n, "phase", 3)
//	generation, index, err := b.Await(ctx) // returns when three have come
//
// All parties of one generation are told the same: that all came, or that the
// barrier broke (ErrBroken, as a BrokenError). It breaks when one of them goes
// before: its context ended, its node left or was lost, or the action failed, as in
// Java's CyclicBarrier. It stays broken, and says so to everybody who comes, until
// Reset. Generations are numbered; their numbers grow, and may have gaps.
//
// Not promised: that parties on different nodes return at the same moment, or
// that a party whose own session was lost (ErrSessionLost) knows what the others
// were told.
type Barrier struct {
	b       *objects.Base
	parties int
}

// NewBarrier returns the barrier with that name for so many parties, at least 1:
// else each operation is ErrInvalid. While it is in use, another number is
// ErrMismatch. It does no I/O.
func NewBarrier(n *distgear.Node, name string, parties int) *Barrier {
	var fault error
	if parties < 1 {
		fault = fmt.Errorf("%w: barrier %q has %d parties: at least 1", ErrInvalid, name, parties)
	}
	return &Barrier{objects.Of(host(n), objects.ID{Kind: operation.KBarrier, Name: name, Param: uint64(parties)}, fault), parties}
}

// BrokenReason says why a barrier broke.
type BrokenReason uint8

// Why a barrier broke.
const (
	BrokenAbandoned BrokenReason = barriers.Abandoned // the context of a party ended
	BrokenLost      BrokenReason = barriers.Lost      // the node of a party left or was lost
	BrokenFailed    BrokenReason = barriers.Failed    // the action failed
	BrokenReset     BrokenReason = barriers.WasReset  // Reset, while parties waited
)

// String is the reason for people.
func (r BrokenReason) String() string {
	switch r {
	case BrokenAbandoned:
		return "a party gave up"
	case BrokenLost:
		return "the node of a party left or was lost"
	case BrokenFailed:
		return "its action failed"
	case BrokenReset:
		return "it was reset"
	}
	return fmt.Sprintf("reason %d", uint8(r))
}

// BrokenError is ErrBroken, with what is known of it.
type BrokenError struct {
	Barrier    string
	Generation uint64
	Reason     BrokenReason
	Err        error // at the party that broke it: the cause of its context, or the action's error; nil at the others
}

// Error says why it broke.
func (e *BrokenError) Error() string {
	s := fmt.Sprintf("%v: %q in generation %d: %v", ErrBroken, e.Barrier, e.Generation, e.Reason)
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Is makes it ErrBroken.
func (e *BrokenError) Is(target error) bool { return target == ErrBroken }

// Unwrap returns Err.
func (e *BrokenError) Unwrap() error { return e.Err }

// Await waits until all parties have come, and returns the number of the
// generation and the index of this party's arrival in it, from 0. If ctx ends
// before, the barrier breaks for all, and the error is the cause of ctx too. If
// ctx had ended when Await was called, nothing was done.
func (b *Barrier) Await(ctx context.Context) (generation uint64, index int, err error) {
	return b.AwaitDo(ctx, nil)
}

// AwaitDo is Await; if this party is the last to come it runs action, in this
// goroutine, before anybody is released. An error or a panic of action breaks the
// barrier for all; its error is in this party's BrokenError, a panic goes on here.
//
// The context of action ends with ctx, and when the barrier breaks meanwhile:
// another party gave up, the session was lost, somebody called Reset. Whether
// action has done its work then is known to action alone: it may run again in the
// next generation. Give all parties the same action: which one is the last is
// chance.
func (b *Barrier) AwaitDo(ctx context.Context, action func(context.Context) error) (generation uint64, index int, err error) {
	const what = "await"
	op := operation.Op{Verb: operation.VAwait}
	acting, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	if action != nil {
		op.A = 1
	}
	a, err := b.b.Ask(ctx, what, op, func(_ *objects.Asked, r *objects.Reply) {
		if r.Code != machine.Granted {
			cancel(ErrBroken) // where it was not, nobody looks
		}
	})
	if err != nil {
		return 0, 0, err
	}
	r, ended := a.Wait(ctx)
	if r.Code == machine.Granted {
		if !ended {
			err = b.act(acting, a, action)
		}
		r = a.Next()
	}
	switch r.Code {
	case machine.OK:
		return r.Num, int(r.Aux), nil
	case machine.Broken:
		e := &BrokenError{Barrier: b.b.Name, Generation: r.Num, Reason: BrokenReason(r.Aux), Err: err}
		if ended && e.Reason == BrokenAbandoned {
			e.Err = context.Cause(ctx)
		}
		return 0, 0, e
	}
	return 0, 0, a.Fault(ctx, what, r)
}

// act runs the action and tells the hub. A panic, or an end of the goroutine,
// breaks the barrier on its way.
func (b *Barrier) act(ctx context.Context, a *objects.Asked, action func(context.Context) error) (err error) {
	failed := uint64(1)
	defer func() {
		a.Tell(operation.Op{Verb: operation.VTrip, A: a.Req, B: failed}) // without the session it is broken already
	}()
	if err = action(ctx); err == nil {
		failed = 0
	}
	return err
}

// Reset begins a new generation, and returns its number: parties that wait get
// ErrBroken, and a broken barrier is whole again.
func (b *Barrier) Reset(ctx context.Context) (generation uint64, err error) {
	a, err := b.b.Do(ctx, "reset", operation.Op{Verb: operation.VReset}, false)
	return a.Num, err
}

// Parties is how many parties it has, as given to NewBarrier.
func (b *Barrier) Parties() int { return b.parties }

// Destroy ends the barrier for everybody: who waits gets ErrDestroyed. The name
// may be used anew.
func (b *Barrier) Destroy(ctx context.Context) error { return b.b.Destroy(ctx) }
