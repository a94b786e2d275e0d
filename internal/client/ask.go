package client

import (
	"context"
	"errors"
	"fmt"

	"github.com/distgear/distgear/internal/machine"
	"github.com/distgear/distgear/internal/operation"
)

// Answer is what an operation was answered.
type Answer struct {
	Code machine.Code
	Num  uint64
	Aux  uint64
	Key  string
	Val  []byte
	X    any // instead of Val, in a process that is alone
}

// Taker takes up the outputs of one operation, of which there may be several.
type Taker interface {
	// Take is called like a Receiver's Output, with the session that the
	// operation was sent in; true when no more will come.
	Take(of machine.Session, o *operation.Output) (done bool)
}

// Do sends one operation and waits for its one answer. ErrLost and the cause
// of ctx leave unknown whether it was applied; with retry it is sent again in
// the next session instead: for operations that change nothing.
func (o *Object) Do(ctx context.Context, op operation.Op, retry bool) (Answer, error) {
	return o.carryOut(ctx, op, nil, false, retry)
}

// Wait sends an operation that may be answered much later, and waits for its
// one answer. When ctx ends first the wait is taken back (VAbandon): if the
// ledger says so, the error is the cause of ctx and nothing was done; if the
// operation was done before that came, its answer is returned without an error.
func (o *Object) Wait(ctx context.Context, op operation.Op) (Answer, error) {
	return o.carryOut(ctx, op, nil, true, false)
}

// Ask is Do until t has all of the answer. With retry the next session's outputs
// come to t after some of the session before: their sessions differ. After an
// error that is the cause of ctx, t may still be called.
func (o *Object) Ask(ctx context.Context, op operation.Op, t Taker, retry bool) error {
	_, err := o.carryOut(ctx, op, t, false, retry)
	return err
}

// Await is Wait until t has all of the answer: t is not called after it returned.
func (o *Object) Await(ctx context.Context, op operation.Op, t Taker) error {
	_, err := o.carryOut(ctx, op, t, true, false)
	return err
}

// AwaitIn is Await in a session in which the object is open. If that is over
// NotSent tells it.
func (o *Object) AwaitIn(ctx context.Context, of machine.Session, op operation.Op, t Taker) error {
	_, err := o.ask(ctx, of, op, t, true)
	return err
}

// carryOut asks in the session there is now, or if the operation was not sent in
// it, in the next one.
func (o *Object) carryOut(ctx context.Context, op operation.Op, t Taker, wait, retry bool) (Answer, error) {
	for {
		if ctx.Err() != nil { // nobody waits for it
			return Answer{}, context.Cause(ctx)
		}
		of, err := o.Open(ctx)
		if err != nil {
			return Answer{}, err
		}
		a, err := o.ask(ctx, of, op, t, wait)
		if errors.Is(err, errNotSent) || retry && errors.Is(err, ErrLost) {
			continue
		}
		return a, err
	}
}

// asking waits for the outputs of an operation.
type asking struct {
	t    Taker // nil: there is one, for a
	of   machine.Session
	a    Answer // the last output; with t only its code
	lost bool
	done chan struct{} // 1: whoever waits may be gone
}

// Output implements Receiver.
func (w *asking) Output(o *operation.Output) bool {
	if w.t != nil {
		w.a.Code = o.Code
		if !w.t.Take(w.of, o) {
			return false
		}
	} else {
		w.a = Answer{Code: o.Code, Num: o.Num, Aux: o.Aux, Key: string(o.Key), X: o.X}
		if len(o.Val) > 0 {
			w.a.Val = append([]byte(nil), o.Val...)
		}
	}
	w.done <- struct{}{}
	return true
}

// Lost implements Receiver.
func (w *asking) Lost() {
	w.lost = true
	w.done <- struct{}{}
}

// asking is a space for one. They are the client's own: a channel that was made in one
// bubble of testing/synctest is of no use in another.
func (c *Client) asking() *asking {
	if w, ok := c.askings.Get().(*asking); ok {
		return w
	}
	return &asking{done: make(chan struct{}, 1)}
}

// spare takes w back; nobody tells it anything any more.
func (c *Client) spare(w *asking) {
	w.t, w.a, w.lost = nil, Answer{}, false
	c.askings.Put(w)
}

// ask sends an operation in a session in which the object is open, and waits
// until t, or with nil the Answer, has all of its answer. With wait the end of ctx
// takes the operation back.
func (o *Object) ask(ctx context.Context, of machine.Session, op operation.Op, t Taker, wait bool) (Answer, error) {
	op.Handle = o.handle
	w := o.c.asking()
	w.t, w.of = t, of
	req, err := o.c.startOn(o, of, w, []operation.Op{op})
	if err != nil {
		o.c.spare(w)
		if errors.Is(err, ErrLost) {
			err = errNotSent
		}
		return Answer{}, err
	}
	ended := false
	select {
	case <-w.done:
	case <-ctx.Done():
		if !wait {
			return Answer{}, context.Cause(ctx) // w may still be told: it is not used again
		}
		ended = true
		back := operation.Op{Verb: operation.VAbandon, Handle: o.handle, A: req}
		if op.Verb == operation.VTransfer {
			back.B = op.A
		}
		_, _ = o.c.startOn(o, of, nil, []operation.Op{back}) // without the session the wait is over as well
		<-w.done                                             // of the abandoning, of what came before it, or of the loss of the session
	}
	a, lost := w.a, w.lost
	o.c.spare(w)
	switch {
	case lost && ended:
		return a, errors.Join(context.Cause(ctx), ErrLost)
	case lost:
		return a, ErrLost
	case ended && a.Code == machine.Refused:
		return a, context.Cause(ctx)
	case a.Code == machine.Gone:
		o.destroyed()
		return a, ErrGone
	}
	return a, nil
}

// errNotSent is ErrLost of an operation that was not sent.
var errNotSent = fmt.Errorf("%w before it was used", ErrLost)

// NotSent tells that an operation was not sent because its session was lost
// before: it may be sent in the next one.
func NotSent(err error) bool { return errors.Is(err, errNotSent) }

// End sends an operation after which nothing comes for request req any more, and
// forgets its receiver when that is answered. Without the session it is
// forgotten already.
func (o *Object) End(of machine.Session, req uint64, op operation.Op) {
	_, _ = o.Start(of, &ending{o.c, of, req}, op) // without the session there is nothing to end
}

type ending struct {
	c   *Client
	of  machine.Session
	req uint64
}

// Output implements Receiver.
func (e *ending) Output(*operation.Output) bool {
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
