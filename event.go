package distgear

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/distgear/distgear/cluster"
	"github.com/distgear/distgear/internal/codec"
	"github.com/distgear/distgear/internal/events"
	"github.com/distgear/distgear/internal/payload"
	"github.com/distgear/distgear/internal/place"
	"github.com/distgear/distgear/internal/runner"
	"github.com/distgear/distgear/internal/runs"
	"github.com/distgear/distgear/internal/served"
	"github.com/distgear/distgear/internal/wire"
	"github.com/distgear/distgear/record"
)

// Event is a named occurrence, raised once and handled by one node. The same
// value is the handler there and the handle where it is raised. Fields must
// not change once it is in use.
type Event[In, Out any] struct {
	Name string // its kind
	// Durable: once raised a run ends, whoever dies. The nodes that handle the
	// event say so; see Raise. Alone, nothing outlives the process.
	Durable bool
	// On handles it: it makes plans and runs them with r.Do. ctx ends when the
	// run is cancelled or Timeout is over; a rollback goes on all the same.
	On      func(ctx context.Context, r *Run, in In) (Out, error)
	Timeout time.Duration // of a run, going forward; zero means none
}

// Kind implements Handler.
func (e *Event[In, Out]) Kind() string { return e.Name }

// event tells an Event from what is built around one.
func (e *Event[In, Out]) event() Handler { return e }

func (e *Event[In, Out]) valid() error {
	if e.On == nil {
		return errors.New("an event needs On")
	}
	if e.Timeout < 0 {
		return errors.New("its Timeout must not be negative")
	}
	return nil
}

func (e *Event[In, Out]) durable() bool { return e.Durable }

// Serve implements Handler.
func (e *Event[In, Out]) Serve(ctx context.Context, c *Command) ([]byte, error) {
	n := c.node
	if n == nil {
		return nil, fmt.Errorf("%w: event %s was served outside of a node", ErrInvalid, e.Name)
	}
	if e.Durable && c.lease == nil {
		return n.through(ctx, c)
	}
	key, undo, input := c.Key, c.Undo, c.Input
	if _, limited := c.ctx.Deadline(); !limited && e.Timeout > 0 && !undo { // raised by who did not know
		c.ctx.SetDeadline(c.began().Add(e.Timeout))
	}
	own := c.ctx
	if c.lease == nil { // not of a durable run
		own = nil
	}
	r, twin, err := c.begin(e.Name)
	if c.direct { // else it belongs to what is around us, until that returns
		recycle(c) // many may wait below for long
	}
	switch {
	case undo:
		return nil, n.runs.Unwind(ctx, key)
	case err != nil:
		return nil, err
	case twin != nil: // raised again under the same ID
		return twin.Wait(ctx)
	}
	return e.run(ctx, r, input, own)
}

// begin begins the run of a command that is no undo, apart from Serve: that one's frame is kept for as long as the handler waits.
func (c *Command) begin(event string) (r *Run, twin *runs.Run, err error) {
	if c.Undo {
		return nil, nil, nil
	}
	r = &Run{n: c.node}
	twin, err = c.node.runs.Begin(&r.in, runs.Beginning{Event: event, Key: c.Key, Attempt: c.Attempt, Nested: c.nested, Input: c.Input, Ctx: c.ctx, Lent: c.From != c.node.name, Lease: c.lease})
	return r, twin, err
}

// run is the run of a command that was not known before. own is the context of one
// that is durable: what the handler returned goes into its journal.
func (e *Event[In, Out]) run(ctx context.Context, r *Run, input []byte, own *runner.Context) (b []byte, err error) {
	in, err := e.decode(r, input)
	if err != nil {
		return r.n.runs.End(&r.in, nil, err)
	}
	out, err := e.handle(ctx, r, in)
	if err == nil {
		b, err = encodeResult(e.Name, out)
	}
	if own != nil && err != nil {
		_, err = served.Stopped(own.Cancelled(), err)
	}
	return r.n.runs.End(&r.in, b, err)
}

func (e *Event[In, Out]) decode(r *Run, input []byte) (In, error) {
	in, err := codec.Of[In]{}.New(input)
	if err != nil {
		return in, payload.Unread[In]("event", e.Name, input, err)
	}
	if e.Name == NodeJoin {
		if m, ok := any(in).(cluster.Member); ok {
			r.in.Joining = &m.Name
		}
	}
	return in, nil
}

// handle calls On. A panic ends the run before it goes on to the node.
func (e *Event[In, Out]) handle(ctx context.Context, r *Run, in In) (out Out, err error) {
	normal := false
	defer func() {
		if !normal {
			v := recover()
			r.n.runs.Panicked(&r.in, fmt.Sprint(v))
			panic(v)
		}
	}()
	out, err = e.On(ctx, r, in)
	normal = true
	return out, err
}

// RaiseOption is an option of Raise: Delay or ID.
type RaiseOption interface{ raise(*raising) }

type raising struct {
	delay time.Duration
	id    string
}

type (
	delayOption time.Duration
	idOption    string
)

func (d delayOption) raise(r *raising) { r.delay = time.Duration(d) }
func (d idOption) raise(r *raising)    { r.id = string(d) }

// Delay raises the event after d. Until then it is held by the raising node,
// and lost with it, unless it is durable: then it is held by the hub.
func Delay(d time.Duration) RaiseOption { return delayOption(d) }

// ID names the run. Raising the event again under the same ID, with the same
// input, answers with the same run while the node that handles it remembers, or
// for a day if it is durable; another input is ErrConflict. At most 200 bytes, without / and blanks.
func ID(id string) RaiseOption { return idOption(id) }

// Future is a handle on the result of a run. It is safe for concurrent use.
type Future[T any] struct {
	id   record.RunID
	done chan struct{}
	once sync.Once
	out  T
	err  error
}

// ID is the id of the run.
func (f *Future[T]) ID() record.RunID { return f.id }

// Done is closed when the outcome is known, or known to be unknown.
func (f *Future[T]) Done() <-chan struct{} { return f.done }

// Wait waits for the result. When ctx ends first the run goes on, and the
// error is ctx's cause.
func (f *Future[T]) Wait(ctx context.Context) (T, error) {
	select {
	case <-f.done:
		return f.out, f.err
	default:
	}
	select {
	case <-f.done:
		return f.out, f.err
	case <-ctx.Done():
		var none T
		return none, context.Cause(ctx)
	}
}

// resolve sets the outcome; only the first counts.
func (f *Future[T]) resolve(out T, err error) {
	f.once.Do(func() {
		f.out, f.err = out, err
		close(f.done)
	})
}

// raised receives the outcome of a run.
type raised[Out any] struct {
	Future[Out]
	n    *Node
	kind string
	at   place.Place
	told atomic.Bool
}

// Ended implements events.Ender.
func (r *raised[Out]) Ended(node string, rep wire.Report) {
	r.at.Node = cluster.NodeName(node)
	r.Report(rep)
}

// Report implements link.Receiver.
func (r *raised[Out]) Report(rep wire.Report) {
	if r.told.Swap(true) {
		return
	}
	var out Out
	err := reportError(rep, r.at.Node, r.kind)
	if err == nil {
		if out, err = (codec.Of[Out]{}).New(rep.Payload); err != nil {
			err = fmt.Errorf("%w: result of %s from %s: %w", ErrInvalid, r.kind, r.at.Node, err)
		}
	}
	r.resolve(out, err)
}

// Raise raises the event: at this node if it handles it, else at the least
// loaded that does. It returns once the event was sent; an error means that it
// was not. The future's error is a *RemoteError when the handler failed, and
// wraps ErrUnknown when the node that handled it was lost.
//
// A durable event is raised in the ledger, and Raise returns once it is kept
// there for good: it will be handled, by whoever does so first, and what it is is
// known to who handles it, so that e need not say Durable itself. With
// ErrUnknown the ledger has not answered: raise it again under the same ID.
func (e *Event[In, Out]) Raise(ctx context.Context, n *Node, in In, opts ...RaiseOption) (*Future[Out], error) {
	var o raising
	for _, opt := range opts {
		opt.raise(&o)
	}
	if err := errors.Join(events.Check(o.id, o.delay), context.Cause(ctx)); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrInvalid, e.Name, err)
	}
	b, err := codec.Append(make([]byte, 0, usualPayload), in)
	if err != nil {
		return nil, fmt.Errorf("%w: input of %s: %w", ErrInvalid, e.Name, err)
	}
	if len(b) > MaxPayload {
		return nil, payload.TooLarge(e.Name, len(b))
	}
	r := &raised[Out]{n: n, kind: e.Name}
	r.done = make(chan struct{})
	r.id = record.RunID(o.id)
	if o.id == "" {
		r.id = n.runs.NewID()
	}
	if e.Durable || n.lasting(e.Name) {
		if err := n.events.Raise(ctx, &events.Raise{ID: string(r.id), Kind: e.Name, Input: b, Delay: o.delay}, r); err != nil {
			return nil, err
		}
		return &r.Future, nil
	}
	c := wire.Command{Kind: e.Name, Key: string(r.id), Flags: wire.Event, Input: b, Run: uint32(min(e.Timeout.Milliseconds(), 1<<31))}
	if o.delay > 0 {
		return e.later(n, r, &c, o)
	}
	if err := r.send(&c, o.id); err != nil {
		return nil, err
	}
	return &r.Future, nil
}

// Find is a handle on the result of a durable run that was raised anywhere, or
// ErrNoRun; a run is known for a day after its end.
func (e *Event[In, Out]) Find(ctx context.Context, n *Node, id record.RunID) (*Future[Out], error) {
	r := &raised[Out]{n: n, kind: e.Name}
	r.done, r.id = make(chan struct{}), id
	if err := n.events.Find(ctx, string(id), r); err != nil {
		return nil, err
	}
	return &r.Future, nil
}

// later holds a raise back; leaving ends it.
func (e *Event[In, Out]) later(n *Node, r *raised[Out], c *wire.Command, o raising) (*Future[Out], error) {
	if !n.where.Known(e.Name) {
		return nil, fmt.Errorf("%w: nobody handles %q", ErrNoNode, e.Name)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.leaving {
		return nil, ErrLeft
	}
	n.wg.Go(func() {
		t := time.NewTimer(o.delay)
		defer t.Stop()
		var none Out
		select {
		case <-t.C:
			if err := r.send(c, o.id); err != nil {
				r.resolve(none, err)
			}
		case <-n.stop:
			r.resolve(none, ErrLeft)
		}
	})
	return &r.Future, nil
}

func (r *raised[Out]) send(c *wire.Command, id string) (err error) {
	if r.at, err = r.n.where.FindEvent(c.Kind, id); err != nil {
		return err
	}
	_, err = r.n.start(r.at, c, 0, r)
	return err
}
