package objects

import (
	"context"
	"errors"
	"fmt"

	"github.com/distgear/distgear/internal/client"
	"github.com/distgear/distgear/internal/machine"
	"github.com/distgear/distgear/internal/operation"
)

// Asked is an operation under way: its grant is taken up in the order of the
// ledger, before what the ledger says later (a loss, a recall), or it is told
// Granted before its end. For all else there are Base.Do and Base.Wait.
type Asked struct {
	b       *Base
	obj     *client.Object
	session machine.Session
	Req     uint64                   // its number
	on      func(a *Asked, r *Reply) // called first, in the order of the ledger; it does not block; nil means nothing
	said    chan Reply               // 2: Granted, and what ends it
}

// Reply is one thing said to an Asked. Code 0: the session was lost.
type Reply struct {
	Code     machine.Code
	Num, Aux uint64
}

// Ask sends an operation in a session in which the object is open. An error
// means that it was not sent.
func (b *Base) Ask(ctx context.Context, what string, op operation.Op, on func(*Asked, *Reply)) (*Asked, error) {
	if b.Err != nil {
		return nil, b.Err
	}
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	for {
		a := &Asked{b: b, obj: b.Object(), on: on, said: make(chan Reply, 2)}
		var err error
		if a.session, err = a.obj.Open(ctx); err == nil {
			a.Req, err = a.obj.Start(a.session, a, op)
			if errors.Is(err, client.ErrLost) {
				continue // it was not sent: in the next session
			}
		}
		if err != nil {
			return nil, b.Fault(what, err)
		}
		return a, nil
	}
}

// Output implements client.Receiver.
func (a *Asked) Output(o *operation.Output) bool {
	a.say(Reply{o.Code, o.Num, o.Aux})
	return o.Code != machine.Granted
}

// Lost implements client.Receiver.
func (a *Asked) Lost() { a.say(Reply{}) }

func (a *Asked) say(r Reply) {
	if a.on != nil {
		a.on(a, &r)
	}
	a.said <- r
}

// Wait waits for what is said next. When ctx ends before, the wait is taken
// back, and ended is true: what was said after that, or crossed with it, is in r.
func (a *Asked) Wait(ctx context.Context) (r Reply, ended bool) {
	select {
	case r = <-a.said:
		return r, false
	case <-ctx.Done():
	}
	a.Tell(operation.Op{Verb: operation.VAbandon, A: a.Req}) // without the session the wait is over as well
	return a.Next(), true
}

// Next waits for what is said next.
func (a *Asked) Next() Reply { return <-a.said }

// Tell sends an operation that has no answer, in the session of a: if that is
// lost it is not sent.
func (a *Asked) Tell(op operation.Op) { _, _ = a.obj.Start(a.session, nil, op) }

// Fault is what a reply that grants nothing means. If ctx has ended too, its
// cause is in the error.
func (a *Asked) Fault(ctx context.Context, what string, r Reply) error {
	switch r.Code {
	case 0:
		return lostToo(ctx, a.b.Fault(what, client.ErrLost))
	case machine.Gone:
		return a.b.Fault(what, client.ErrGone)
	}
	return fmt.Errorf("%w: %s of %s %q", ErrInvalid, what, a.b.Kind, a.b.Name)
}

// lostToo adds the cause of a context that has ended to the loss of the session.
func lostToo(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil && errors.Is(err, ErrSessionLost) {
		return errors.Join(cause, err)
	}
	return err
}
