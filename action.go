package distgear

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/distgear/distgear/cluster"
	"github.com/distgear/distgear/internal/codec"
	"github.com/distgear/distgear/internal/fault"
	"github.com/distgear/distgear/internal/payload"
	"github.com/distgear/distgear/internal/place"
	"github.com/distgear/distgear/internal/plan"
	"github.com/distgear/distgear/internal/runner"
	"github.com/distgear/distgear/internal/served"
	"github.com/distgear/distgear/internal/wire"
)

const (
	defaultTimeout = 30 * time.Second
	defaultQueue   = 10 * time.Second
	// lostMargin is how long after its timeouts a report may come before the
	// outcome counts as unknown.
	lostMargin = 5 * time.Second
)

// Action is a named function that nodes offer, and its inverse. The same value
// is the handler where it runs and the handle where it is called. Fields must
// not change once it is in use; the value must not be copied then.
type Action[In, Out any] struct {
	Name string // its kind
	// Do does it. Its context ends at Timeout, or when it is cancelled.
	Do func(context.Context, In) (Out, error)
	// Undo undoes what Do did, or may have done: it must accept that there is
	// nothing to undo, and to be called again. Nil means nothing to compensate.
	Undo func(context.Context, Did[In, Out]) error
	// Idempotent: doing it twice is doing it once. Without it an unknown outcome
	// is never tried on another node, and a dirty failure never again.
	Idempotent bool
	Timeout    time.Duration // per attempt, once started; zero means 30s
	Queue      time.Duration // an attempt that has not started by then never will; zero means 10s
	Retries    int           // further attempts after a failure; zero means none

	coding codec.Pair[In, Out]
}

// Did is what an Undo is told.
type Did[In, Out any] struct {
	In      In
	Out     Out              // the zero value unless Outcome is OK
	Outcome Outcome          // OK, FailedDirty or Unknown
	Err     error            // what Do reported; nil when OK
	Key     string           // of the step; the same that KeyOf told Do, but for its end
	Node    cluster.NodeName // where Do ran
}

// Kind implements Handler.
func (a *Action[In, Out]) Kind() string { return a.Name }

func (a *Action[In, Out]) valid() error {
	if a.Do == nil {
		return errors.New("an action needs Do")
	}
	if a.Timeout < 0 || a.Queue < 0 || a.Retries < 0 {
		return errors.New("its Timeout, Queue and Retries must not be negative")
	}
	return nil
}

// Serve implements Handler.
func (a *Action[In, Out]) Serve(ctx context.Context, c *Command) ([]byte, error) {
	if c.raised {
		err := fmt.Errorf("%w: %q is an action, not an event: call it, or make it a step of an event's plan", ErrNoNode, a.Name)
		return nil, fault.Marked(err, fault.Mark{NeverRan: true, Permanent: true})
	}
	if c.Undo {
		return nil, a.serveUndo(ctx, c)
	}
	k := a.coding.Get()
	in, err := k.In.New(c.Input)
	if err != nil {
		return nil, payload.Unread[In]("action", a.Name, c.Input, err)
	}
	out, err := a.Do(ctx, in)
	if err != nil {
		return nil, err
	}
	if c.lender != Handler(a) {
		b, err := k.Out.Append(nil, out)
		return b, payload.BadOutput(a.Name, err)
	}
	c.lent = getSending()
	c.lent.buf, err = k.Out.Append(c.lent.buf[:0], out)
	return c.lent.buf, payload.BadOutput(a.Name, err)
}

// usualPayload is the first space of a payload, in bytes: many need no more.
const usualPayload = 32

func encodeResult[Out any](kind string, out Out) ([]byte, error) {
	b, err := codec.Append(make([]byte, 0, usualPayload), out)
	return b, payload.BadOutput(kind, err)
}

func (a *Action[In, Out]) serveUndo(ctx context.Context, c *Command) error {
	u, err := wire.ParseUndo(c.Input)
	if err != nil {
		return fmt.Errorf("%w: undo of %s: %w", ErrInvalid, a.Name, err)
	}
	if a.Undo == nil {
		return fmt.Errorf("%w: %s has no undo on this node", ErrInvalid, a.Name)
	}
	d := Did[In, Out]{Outcome: Outcome(u.Outcome), Key: c.Key, Node: cluster.NodeName(u.Node)}
	if err := codec.Decode(u.In, &d.In); err != nil {
		return fmt.Errorf("%w: input of %s: %w", ErrInvalid, a.Name, err)
	}
	if u.Outcome == wire.OK {
		if err := codec.Decode(u.Out, &d.Out); err != nil {
			return fmt.Errorf("%w: result of %s: %w", ErrInvalid, a.Name, err)
		}
	} else if u.Message != "" {
		d.Err = errors.New(u.Message)
	}
	return a.Undo(ctx, d)
}

// Call runs the action at a target and waits. When ctx ends first the command
// is cancelled and the error wraps ErrUnknown and the cause. Failures that a
// node reported are a *RemoteError; OutcomeOf tells what is known. Attempts
// after the first follow Retries and Idempotent. A member that is gone is
// waited for as in a plan: 5 s, or until ctx ends; then the call never ran.
//
// On the same node, values that nobody could change behind the other's back
// are handed over as they are; all others are encoded and decoded as on the
// way to another node.
func (a *Action[In, Out]) Call(ctx context.Context, n *Node, on Target, in In) (Out, error) {
	if err := ctx.Err(); err != nil {
		var none Out
		return none, fmt.Errorf("%w: %w", ErrInvalid, context.Cause(ctx))
	}
	// Frames are small, and what they share is in t: a handler that waits keeps
	// them.
	t := try{on: on.to}
	if err := t.place(n, a.Name); err != nil {
		return a.again(ctx, n, &t, in, err)
	}
	if t.at.Life == n.id && a.coding.Get().Copies {
		if o := n.offers.Load().m[a.Name]; o != nil && o.plain == Handler(a) && !n.draining.Load() {
			out, err := a.callHere(ctx, n, o, in)
			if err != nil && a.Retries > 0 {
				t.r.Over = true
				return a.again(ctx, n, &t, in, err)
			}
			return out, err
		}
	}
	if err := a.ask(ctx, n, &t, in, 1); err != nil {
		return a.again(ctx, n, &t, in, err)
	}
	return a.decode(t.r.Payload, t.at)
}

// try is a call that is being made.
type try struct {
	on place.Target
	at place.Place // where the attempt is
	r  wire.Report // what came of it
}

// place says where the next attempt goes.
func (t *try) place(n *Node, kind string) (err error) {
	t.at, err = n.where.Find(t.on, kind, "", t.at.Life)
	return err
}

// ask makes one attempt. Nil means that it was OK.
func (a *Action[In, Out]) ask(ctx context.Context, n *Node, t *try, in In, attempt uint32) error {
	s, err := a.command(n, in, attempt)
	if err != nil {
		return err
	}
	if t.at.Life == n.id {
		s.c.Input = append([]byte(nil), s.buf...) // the command may outlive this call
	}
	lost := or(a.Queue, defaultQueue) + or(a.Timeout, defaultTimeout) + lostMargin
	if err := n.ask(ctx, &t.at, s, lost, &t.r); err != nil {
		return err
	}
	if t.r.Outcome != wire.OK {
		return reportError(t.r, t.at.Node, a.Name)
	}
	return nil
}

// command is the command of an attempt.
func (a *Action[In, Out]) command(n *Node, in In, attempt uint32) (s *sending, err error) {
	s = getSending()
	if s.buf, err = a.coding.Get().In.Append(s.buf[:0], in); err != nil || len(s.buf) > MaxPayload {
		n := len(s.buf)
		s.put()
		return nil, payload.BadInput(a.Name, n, err)
	}
	s.c = wire.Command{
		Kind: a.Name, Attempt: attempt, Run: millis(a.Timeout, defaultTimeout), Input: s.buf,
		Start: n.hubTime(time.Now()).Add(or(a.Queue, defaultQueue)).UnixMilli(),
	}
	return s, nil
}

func (a *Action[In, Out]) decode(b []byte, at place.Place) (Out, error) {
	out, err := a.coding.Get().Out.New(b)
	if err != nil {
		return out, payload.BadResult(a.Name, at.Node, err)
	}
	return out, nil
}

// again makes further attempts after one that failed with err, as far as the
// policy goes.
func (a *Action[In, Out]) again(ctx context.Context, n *Node, t *try, in In, err error) (out Out, _ error) {
	policy := plan.Policy{Retries: a.Retries, Idempotent: a.Idempotent}
	var until time.Time
	for attempt := 1; ; attempt++ {
		if n.waitsFor(ctx, Target{t.on}, a.Name, err, &until) {
			attempt-- // it never began
		} else {
			if ctx.Err() != nil || a.Retries == 0 {
				return out, err
			}
			next, wait := policy.Next(t.last(err, attempt), rand.Float64())
			if next != plan.Again {
				return out, err
			}
			select {
			case <-time.After(wait):
			case <-ctx.Done():
				return out, err
			}
		}
		t.r = wire.Report{}
		if err = t.place(n, a.Name); err != nil {
			continue
		}
		if err = a.ask(ctx, n, t, in, uint32(attempt+1)); err == nil {
			return a.decode(t.r.Payload, t.at)
		}
	}
}

// last tells the policy about the attempt, which failed.
func (t *try) last(err error, attempt int) plan.Last {
	l := plan.Last{Outcome: plan.Outcome(OutcomeOf(err)), Movable: t.on.Name == "", Attempt: attempt}
	if e, ok := errors.AsType[*RemoteError](err); ok {
		l.Permanent, l.After = e.trace.Has(fault.Permanent), e.trace.Wish()
	}
	l.SameNode = l.Outcome == plan.Unknown && !t.r.Over
	return l
}

// Send hands a command over and does not ask what became of it: it runs at
// most once. It blocks while the node is too far behind.
func (a *Action[In, Out]) Send(ctx context.Context, n *Node, on Target, in In) error {
	at, err := n.where.Find(on.to, a.Name, "", 0)
	if err != nil {
		return err
	}
	s := getSending()
	defer s.put()
	if s.buf, err = a.coding.Get().In.Append(s.buf[:0], in); err != nil || len(s.buf) > MaxPayload {
		return payload.BadInput(a.Name, len(s.buf), err)
	}
	s.c = wire.Command{Kind: a.Name, Run: millis(a.Timeout, defaultTimeout), Input: s.buf}
	if at.Life == n.id {
		s.c.Input = append([]byte(nil), s.buf...)
		_, err = n.start(at, &s.c, 0, nobody{})
		return err
	}
	if err := n.end.Send(ctx, at.Life, &s.c); err != nil {
		return at.Error(err)
	}
	return nil
}

type nobody struct{}

// Report implements link.Receiver.
func (nobody) Report(wire.Report) {}

// call is a call to this very node with values as they are.
type call[In, Out any] struct {
	runner.Context
	a    *Action[In, Out]
	n    *Node
	o    *offer
	in   In
	out  Out
	rep  wire.Report
	done chan struct{} // 1: the caller may be gone
}

func (a *Action[In, Out]) callHere(ctx context.Context, n *Node, o *offer, in In) (Out, error) {
	done, _ := n.replies.Get().(chan struct{})
	if done == nil {
		done = make(chan struct{}, 1)
	}
	c := &call[In, Out]{a: a, n: n, o: o, in: in, done: done}
	c.SetDeadline(time.Now().Add(or(a.Timeout, defaultTimeout)))
	n.active.Begin()
	o.inFlight.Add(1)
	n.pool.Go(c)
	if ctx.Done() == nil {
		<-done
	} else {
		select {
		case <-done:
		case <-ctx.Done():
			c.Cancel(context.Canceled)
			var none Out
			return none, gaveUp(ctx, a.Name, n.name)
		}
	}
	n.replies.Put(done)
	if c.rep.Outcome != wire.OK {
		return c.out, reportError(c.rep, n.name, a.Name)
	}
	return c.out, nil
}

// Run implements runner.Task.
func (c *call[In, Out]) Run() {
	out, err := c.protected()
	if err == nil {
		c.out, c.rep.Outcome = out, wire.OK
	} else {
		c.rep = served.Failed(c.Cancelled(), err)
	}
	c.o.inFlight.Add(-1)
	c.n.active.Done()
	c.done <- struct{}{}
}

func (c *call[In, Out]) protected() (out Out, err error) {
	defer func() {
		if v := recover(); v != nil {
			err = served.Recovered(v)
		}
	}()
	return c.a.Do(c, c.in)
}

// sending is a reusable space for a command on its way out.
type sending struct {
	c   wire.Command
	buf []byte
}

var sendings = sync.Pool{New: func() any { return new(sending) }}

func getSending() *sending { return sendings.Get().(*sending) }

func (s *sending) put() {
	s.c = wire.Command{}
	if cap(s.buf) <= 64<<10 { // a rare giant is not kept
		sendings.Put(s)
	}
}

func or(d, zero time.Duration) time.Duration {
	if d == 0 {
		return zero
	}
	return d
}

func millis(d, zero time.Duration) uint32 { return uint32(min(or(d, zero).Milliseconds(), 1<<31)) }
