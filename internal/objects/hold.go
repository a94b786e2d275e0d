package objects

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/distgear/distgear/internal/client"
	"github.com/distgear/distgear/internal/machine"
	"github.com/distgear/distgear/internal/operation"
)

// Holder is a named object of which this node's goroutines hold something, by
// session: permits, the lead.
type Holder struct {
	*Base

	mu   sync.Mutex
	held map[*Hold]struct{}
}

// NewHolder returns the node's object with that ID. Fault, if it is not nil, is
// what is wrong with its size.
func NewHolder(h Host, id ID, fault error) *Holder {
	return h.Room.Value(id, func() any {
		x := &Holder{held: map[*Hold]struct{}{}}
		x.Base = New(h, id, x)
		if x.Err == nil {
			x.Err = fault
		}
		return x
	}).(*Holder)
}

// Hold is one grant. Its fields after back are guarded by Holder.mu.
type Hold struct {
	x     *Holder
	back  operation.Op // gives it back; with A 0 A is the request that got it
	a     *Asked
	token uint64
	why   error    // why it is not held any more; nil while it is
	lost  []func() // to be told when it is lost
}

// Take asks for a grant, and waits for it; false: it was refused. Without a
// grant nothing is held.
func (x *Holder) Take(ctx context.Context, what string, op, back operation.Op) (*Hold, bool, error) {
	h := &Hold{x: x, back: back}
	a, err := x.Ask(ctx, what, op, h.granted)
	if err != nil {
		return nil, false, err
	}
	if h.back.A == 0 {
		h.back.A = a.Req
	}
	r, ended := a.Wait(ctx)
	switch {
	case r.Code == machine.OK && context.Cause(ctx) != nil: // both came at once
		_ = h.Release(what) // what is lost is free without our word
		return nil, false, context.Cause(ctx)
	case r.Code == machine.OK && !x.Room.Ledger.Valid(a.session): // L5: it may have lapsed while we waited
		_ = h.Release(what)
		return nil, false, x.Fault(what, client.ErrLost)
	case r.Code == machine.OK:
		return h, true, nil
	case r.Code == machine.Refused && ended:
		return nil, false, context.Cause(ctx)
	case r.Code == machine.Refused:
		return nil, false, nil
	}
	return nil, false, a.Fault(ctx, what, r)
}

// granted takes up a grant in the order of the ledger: a loss that comes right
// behind it finds it.
func (h *Hold) granted(a *Asked, r *Reply) {
	if r.Code != machine.OK {
		return
	}
	h.x.mu.Lock()
	h.a, h.token = a, r.Aux
	h.x.held[h] = struct{}{}
	h.x.mu.Unlock()
}

// Release gives it back. Nil holds nothing.
func (h *Hold) Release(what string) error {
	if h == nil {
		return ErrNotHeld
	}
	x := h.x
	x.mu.Lock()
	why := h.why
	if why == nil {
		h.why = ErrNotHeld
		delete(x.held, h)
	}
	x.mu.Unlock()
	if why != nil {
		return fmt.Errorf("%w: %s of %s %q", why, what, x.Kind, x.Name)
	}
	h.a.Tell(h.back) // what a lost session held is free without our word
	return nil
}

// Under runs f with what is held, and gives it back. The context of f ends when
// it is lost.
func (h *Hold) Under(ctx context.Context, what string, f func(context.Context) error) (err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	h.onLost(func() { cancel(h.why) })
	defer func() { err = errors.Join(err, h.Release(what)) }()
	return f(ctx)
}

// Token is the number of the grant; nil has 0.
func (h *Hold) Token() uint64 {
	if h == nil {
		return 0
	}
	return h.token
}

// Gone is closed when it is not held any more.
func (h *Hold) Gone() <-chan struct{} {
	c := make(chan struct{})
	if h == nil {
		close(c)
	} else {
		h.onLost(func() { close(c) })
	}
	return c
}

// onLost calls f when it is lost, maybe at once; from an internal goroutine: f
// must not block.
func (h *Hold) onLost(f func()) {
	h.x.mu.Lock()
	defer h.x.mu.Unlock()
	if h.why != nil {
		f()
		return
	}
	h.lost = append(h.lost, f)
}

func (x *Holder) lose(why error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for h := range x.held {
		h.why = why
		for _, f := range h.lost {
			f()
		}
	}
	clear(x.held)
}

// Event implements client.Sink.
func (x *Holder) Event(o *operation.Output) {
	if o.Code == machine.Gone {
		x.lose(ErrDestroyed)
	}
}

// Lost implements client.Sink.
func (x *Holder) Lost() { x.lose(ErrSessionLost) }
