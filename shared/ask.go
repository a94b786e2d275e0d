package shared

import (
	"context"
	"errors"
	"fmt"

	"github.com/distgear/distgear/internal/client"
	"github.com/distgear/distgear/internal/machine"
	"github.com/distgear/distgear/internal/shard"
)

// asked is an operation under way: its grant is taken up in the order of the
// ledger, before what the ledger says later (a loss, a recall), or it is told
// Granted before its end. For all else there are base.do and base.wait.
type asked struct {
	b       *base
	obj     *client.Object
	session machine.Session
	req     uint64
	on      func(a *asked, r *reply) // called first, in the order of the ledger; it does not block; nil means nothing
	said    chan reply               // 2: Granted, and what ends it
}

// reply is one thing said to an asked. Code 0: the session was lost.
type reply struct {
	code     machine.Code
	num, aux uint64
}

// ask sends an operation in a session in which the object is open. An error
// means that it was not sent.
func (b *base) ask(ctx context.Context, what string, op shard.Op, on func(*asked, *reply)) (*asked, error) {
	if b.err != nil {
		return nil, b.err
	}
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	for {
		a := &asked{b: b, obj: b.object(), on: on, said: make(chan reply, 2)}
		var err error
		if a.session, err = a.obj.Open(ctx); err == nil {
			a.req, err = a.obj.Start(a.session, a, op)
			if errors.Is(err, client.ErrLost) {
				continue // it was not sent: in the next session
			}
		}
		if err != nil {
			return nil, b.fault(what, err)
		}
		return a, nil
	}
}

// Output implements client.Receiver.
func (a *asked) Output(o *shard.Output) bool {
	a.say(reply{o.Code, o.Num, o.Aux})
	return o.Code != machine.Granted
}

// Lost implements client.Receiver.
func (a *asked) Lost() { a.say(reply{}) }

func (a *asked) say(r reply) {
	if a.on != nil {
		a.on(a, &r)
	}
	a.said <- r
}

// wait waits for what is said next. When ctx ends before, the wait is taken
// back, and ended is true: what was said after that, or crossed with it, is in r.
func (a *asked) wait(ctx context.Context) (r reply, ended bool) {
	select {
	case r = <-a.said:
		return r, false
	case <-ctx.Done():
	}
	_, _ = a.obj.Start(a.session, nil, shard.Op{Verb: shard.VAbandon, A: a.req}) // without the session the wait is over as well
	return <-a.said, true
}

// fault is what a reply that grants nothing means. If ctx has ended too, its
// cause is in the error.
func (a *asked) fault(ctx context.Context, what string, r reply) error {
	switch r.code {
	case 0:
		return lostToo(ctx, a.b.fault(what, client.ErrLost))
	case machine.Gone:
		return a.b.fault(what, client.ErrGone)
	}
	return fmt.Errorf("%w: %s of %s %q", ErrInvalid, what, a.b.kind, a.b.name)
}

// lostToo adds the cause of a context that has ended to the loss of the session.
func lostToo(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil && errors.Is(err, ErrSessionLost) {
		return errors.Join(cause, err)
	}
	return err
}
