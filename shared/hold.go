package shared

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/distgear/distgear/internal/client"
	"github.com/distgear/distgear/internal/machine"
	"github.com/distgear/distgear/internal/shard"
)

// holder is a named object of which this node's goroutines hold something, by
// session: permits, the lead.
type holder struct {
	*base

	mu   sync.Mutex
	held map[*hold]struct{}
}

// hold is one grant. Its fields after back are guarded by holder.mu.
type hold struct {
	x     *holder
	back  shard.Op // gives it back; with A 0 A is the request that got it
	a     *asked
	token Token
	why   error    // why it is not held any more; nil while it is
	lost  []func() // to be told when it is lost
}

// take asks for a grant, and waits for it; false: it was refused. Without a
// grant nothing is held.
func (x *holder) take(ctx context.Context, what string, op, back shard.Op) (*hold, bool, error) {
	h := &hold{x: x, back: back}
	a, err := x.ask(ctx, what, op, h.granted)
	if err != nil {
		return nil, false, err
	}
	if h.back.A == 0 {
		h.back.A = a.req
	}
	r, ended := a.wait(ctx)
	switch {
	case r.code == machine.OK && context.Cause(ctx) != nil: // both came at once
		_ = h.release(what) // what is lost is free without our word
		return nil, false, context.Cause(ctx)
	case r.code == machine.OK && !x.room.Ledger.Valid(a.session): // L5: it may have lapsed while we waited
		_ = h.release(what)
		return nil, false, x.fault(what, client.ErrLost)
	case r.code == machine.OK:
		return h, true, nil
	case r.code == machine.Refused && ended:
		return nil, false, context.Cause(ctx)
	case r.code == machine.Refused:
		return nil, false, nil
	}
	return nil, false, a.fault(ctx, what, r)
}

// granted takes up a grant in the order of the ledger: a loss that comes right
// behind it finds it.
func (h *hold) granted(a *asked, r *reply) {
	if r.code != machine.OK {
		return
	}
	h.x.mu.Lock()
	h.a, h.token = a, Token(r.aux)
	h.x.held[h] = struct{}{}
	h.x.mu.Unlock()
}

func (h *hold) release(what string) error {
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
		return fmt.Errorf("%w: %s of %s %q", why, what, x.kind, x.name)
	}
	_, _ = h.a.obj.Start(h.a.session, nil, h.back) // what a lost session held is free without our word
	return nil
}

// under runs f with what is held, and gives it back. The context of f ends when
// it is lost.
func (h *hold) under(ctx context.Context, what string, f func(context.Context, Token) error) (err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	h.onLost(func() { cancel(h.why) })
	defer func() { err = errors.Join(err, h.release(what)) }()
	return f(ctx, h.token)
}

func (h *hold) fence() Token {
	if h == nil {
		return 0
	}
	return h.token
}

func (h *hold) gone() <-chan struct{} {
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
func (h *hold) onLost(f func()) {
	h.x.mu.Lock()
	defer h.x.mu.Unlock()
	if h.why != nil {
		f()
		return
	}
	h.lost = append(h.lost, f)
}

func (x *holder) lose(why error) {
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
func (x *holder) Event(o *shard.Output) {
	if o.Code == machine.Gone {
		x.lose(ErrDestroyed)
	}
}

// Lost implements client.Sink.
func (x *holder) Lost() { x.lose(ErrSessionLost) }
