package client

import (
	"context"
	"errors"
	"sync"

	"github.com/distgear/distgear/internal/machine"
	"github.com/distgear/distgear/internal/shard"
)

// Taker takes up the outputs of one operation, of which there may be several.
type Taker interface {
	// Take is called like a Receiver's Output, with the session that the
	// operation was sent in; true when no more will come.
	Take(of machine.Session, o *shard.Output) (done bool)
}

// taking waits for the outputs of an operation.
type taking struct {
	t    Taker
	of   machine.Session
	code machine.Code // of the last output
	lost bool
	done chan struct{} // 1: whoever waits may be gone
}

var takings = sync.Pool{New: func() any { return &taking{done: make(chan struct{}, 1)} }}

// Output implements Receiver.
func (w *taking) Output(o *shard.Output) bool {
	w.code = o.Code
	if !w.t.Take(w.of, o) {
		return false
	}
	w.done <- struct{}{}
	return true
}

// Lost implements Receiver.
func (w *taking) Lost() {
	w.lost = true
	w.done <- struct{}{}
}

// Ask sends one operation and waits until t has all of its answer; errors are
// those of Do. With retry the next session's outputs come to t after some of the
// session before: their sessions differ. After an error that is the cause of ctx,
// t may still be called.
func (o *Object) Ask(ctx context.Context, op shard.Op, t Taker, retry bool) error {
	for {
		of, err := o.Open(ctx)
		if err != nil {
			return err
		}
		err = o.AskIn(ctx, of, op, t, false)
		if errors.Is(err, errNotSent) || retry && errors.Is(err, ErrLost) {
			continue
		}
		return err
	}
}

// Await is Ask for an operation that may be answered much later, and then Wait
// says how it ends: t is not called after it returned.
func (o *Object) Await(ctx context.Context, op shard.Op, t Taker) error {
	for {
		of, err := o.Open(ctx)
		if err != nil {
			return err
		}
		if err = o.AskIn(ctx, of, op, t, true); !errors.Is(err, errNotSent) {
			return err
		}
	}
}

// AskIn is Ask, or with wait Await, in a session in which the object is open. If
// that is over NotSent tells it.
func (o *Object) AskIn(ctx context.Context, of machine.Session, op shard.Op, t Taker, wait bool) error {
	op.Handle = o.handle
	w := takings.Get().(*taking)
	w.t, w.of = t, of
	req, err := o.c.startOn(o, of, w, []shard.Op{op})
	if err != nil {
		w.t = nil
		takings.Put(w)
		if errors.Is(err, ErrLost) {
			err = errNotSent
		}
		return err
	}
	ended := false
	select {
	case <-w.done:
	case <-ctx.Done():
		if !wait {
			return context.Cause(ctx) // w may still be told: it is not used again
		}
		ended = true
		back := shard.Op{Verb: shard.VAbandon, Handle: o.handle, A: req}
		if op.Verb == shard.VTransfer {
			back.B = op.A
		}
		_, _ = o.c.startOn(o, of, nil, []shard.Op{back}) // without the session the wait is over as well
		<-w.done                                         // of the abandoning, of what came before it, or of the loss of the session
	}
	code, lost := w.code, w.lost
	w.t, w.code, w.lost = nil, 0, false
	takings.Put(w)
	switch {
	case lost && ended:
		return errors.Join(context.Cause(ctx), ErrLost)
	case lost:
		return ErrLost
	case ended && code == machine.Refused:
		return context.Cause(ctx)
	case code == machine.Gone:
		o.destroyed()
		return ErrGone
	}
	return nil
}

// NotSent tells that an operation was not sent because its session was lost
// before: it may be sent in the next one.
func NotSent(err error) bool { return errors.Is(err, errNotSent) }

// End sends an operation after which nothing comes for request req any more, and
// forgets its receiver when that is answered. Without the session it is
// forgotten already.
func (o *Object) End(of machine.Session, req uint64, op shard.Op) {
	_, _ = o.Start(of, &ending{o.c, of, req}, op) // without the session there is nothing to end
}

type ending struct {
	c   *Client
	of  machine.Session
	req uint64
}

// Output implements Receiver.
func (e *ending) Output(*shard.Output) bool {
	if a := e.c.alone; a != nil {
		a.mu.Lock()
		delete(a.wait, e.req)
		a.mu.Unlock()
		return true
	}
	e.c.mu.Lock()
	if l := e.c.life; l != nil && l.id == e.of {
		delete(l.wait, e.req)
	}
	e.c.mu.Unlock()
	return true
}

// Lost implements Receiver.
func (e *ending) Lost() {}
