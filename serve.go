package distgear

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/distgear/distgear/cluster"
	"github.com/distgear/distgear/internal/codec"
	"github.com/distgear/distgear/internal/fault"
	"github.com/distgear/distgear/internal/journal"
	"github.com/distgear/distgear/internal/link"
	"github.com/distgear/distgear/internal/machine/members"
	"github.com/distgear/distgear/internal/place"
	"github.com/distgear/distgear/internal/runner"
	"github.com/distgear/distgear/internal/runs"
	"github.com/distgear/distgear/internal/served"
	"github.com/distgear/distgear/internal/wire"
)

// Command is an action or event addressed: what a Handler serves. It is the
// handler's until Serve returns.
type Command struct {
	Kind    string
	Key     string // idempotency key, the same for all attempts; empty for a plain Call
	Undo    bool   // the inverse is meant
	Attempt int    // counted from 1
	From    cluster.NodeName
	Input   []byte // encoded; see Decode

	node   *Node
	ctx    *runner.Context
	nested bool
	raised bool // as an event
	direct bool // an Event takes it back itself
	lease  *journal.Lease

	lender Handler  // who may lend its result: whoever called it copies that
	lent   *sending // what it lent
}

// Decode decodes the input of a command that is no undo.
func (c *Command) Decode(v any) error { return codec.DecodeAny(c.Input, v) }

// KeyOf is the idempotency key of the command that ctx belongs to: the same for
// all attempts of a step, and unlike any other. It is empty for a plain Call
// and outside of handlers.
func KeyOf(ctx context.Context) string {
	key, _ := ctx.Value(runner.Key{}).(string)
	return key
}

var commands = sync.Pool{New: func() any { return new(Command) }}

// load is what the hub is told about this node.
func (n *Node) load() members.Load {
	l := n.meter.Read()
	l.InFlight = n.active.Count()
	for k, o := range n.offers.Load().m {
		if c := o.inFlight.Load(); c > 0 {
			if l.Kinds == nil {
				l.Kinds = map[string]int{}
			}
			l.Kinds[k] = int(c)
		}
	}
	return members.Load(l)
}

// serveLink serves a command that came over a link.
func (n *Node) serveLink(in *link.Inbound) {
	if isBuiltin(in.Kind) { // leaving does not wait for who watches
		n.serveOwn(in)
		return
	}
	// What it did for others may be done elsewhere by now. A node that is still
	// joining has no session, and serves the plan of its init event.
	now := time.Now()
	if s := n.session.Load(); s != nil && in.Flags&wire.Undo == 0 && !in.Owner.Attach && !s.Valid(now) {
		in.Reply(fault.NeverRan(fmt.Errorf("%w: its session with the hub has lapsed", ErrNoNode), fault.Refused))
		return
	}
	n.active.Begin()
	rep, lent := n.serve(in.Context, &in.Command, cluster.NodeName(in.FromName()), now, true)
	n.reply(in, rep, lent)
}

// reply is apart from serveLink, whose frame is kept.
func (n *Node) reply(in *link.Inbound, rep wire.Report, lent *sending) {
	in.Reply(rep)
	if lent != nil {
		if len(rep.Payload) > link.Copied {
			lent.buf = nil // the link's now
		}
		lent.put()
	}
	in.Free()
	n.active.Done() // not before the report is on its way: leaving waits for this
}

// serveOwn is serveLink for what nodes ask each other for.
func (n *Node) serveOwn(in *link.Inbound) {
	if f := n.room.Raw(in.Kind); f != nil {
		f(in)
	} else {
		in.Reply(n.serveBuiltin(in.Context, &in.Command, cluster.NodeName(in.FromName())))
	}
}

// serve runs one command on the calling goroutine. Its frame, and those below,
// are small on purpose: a handler that waits keeps them. With lend the payload
// of the report may be lent: whoever asked puts it back.
func (n *Node) serve(ctx *runner.Context, w *wire.Command, from cluster.NodeName, now time.Time, lend bool) (wire.Report, *sending) {
	if w.Owner.Epoch != 0 { // of a durable run: it may have been served, or be another's by now
		return n.runs.Outcomes.Serve(ctx, w, n.hubTime(now), func() wire.Report {
			rep, _ := n.serve(ctx, w, from, now, false)
			return rep
		}), nil
	}
	o := n.offers.Load().m[w.Kind]
	if flags, err := n.refusal(ctx, o, w, now); err != nil {
		return fault.NeverRan(err, flags), nil
	}
	o.inFlight.Add(1)
	if w.Run > 0 {
		ctx.SetDeadline(now.Add(time.Duration(w.Run) * time.Millisecond))
	}
	c := n.command(ctx, o, w, from)
	ctx.CommandKey = c.Key
	if lend {
		c.lender = o.plain
	}
	out, lent, err := protect(ctx, o.h, c)
	o.inFlight.Add(-1)
	return served.Ended(ctx.Cancelled(), out, err, MaxPayload), lent
}

// refusal is why a command is not started, if so.
func (n *Node) refusal(ctx *runner.Context, o *offer, w *wire.Command, now time.Time) (flags uint8, err error) {
	switch {
	case o == nil:
		return 0, fmt.Errorf("%w: it does not handle %q", ErrNoNode, w.Kind)
	case n.draining.Load() && w.Flags&wire.Undo == 0:
		return fault.Refused, ErrLeft
	case w.Start != 0 && n.hubTime(now).UnixMilli() > w.Start:
		return 0, ErrQueueTimeout
	case ctx.Cancelled() != nil:
		return fault.Cancelled, ErrCancelled
	}
	return 0, nil
}

func (n *Node) command(ctx *runner.Context, o *offer, w *wire.Command, from cluster.NodeName) *Command {
	c := commands.Get().(*Command)
	*c = Command{
		Kind: w.Kind, Key: wire.KeyOf(w), Undo: w.Flags&wire.Undo != 0, Attempt: int(max(w.Attempt, 1)), From: from, Input: w.Input,
		node: n, ctx: ctx, nested: w.Flags&wire.Nested != 0, raised: w.Flags&wire.Event != 0, direct: o.direct,
	}
	return c
}

// protect turns a panic into an error (S18), and takes the command back.
func protect(ctx context.Context, h Handler, c *Command) (out []byte, lent *sending, err error) {
	direct := c.direct
	defer func() {
		if v := recover(); v != nil {
			out, err = nil, served.Recovered(v)
		}
		if !direct { // an event has done so itself
			lent = c.lent
			recycle(c)
		}
	}()
	out, err = h.Serve(ctx, c)
	return out, nil, err
}

// recycle takes a command back that nobody looks at any more.
func recycle(c *Command) {
	*c = Command{}
	commands.Put(c)
}

func isBuiltin(kind string) bool { return kind == "" || kind[0] == '_' }

// serveBuiltin serves what nodes ask each other for.
func (n *Node) serveBuiltin(ctx *runner.Context, w *wire.Command, from cluster.NodeName) wire.Report {
	f := n.builtin[w.Kind]
	if f == nil {
		return fault.NeverRan(fmt.Errorf("%w: it does not handle %q", ErrNoNode, w.Kind), 0)
	}
	out, err := f(ctx, from, w)
	return served.Ended(ctx.Cancelled(), out, err, MaxPayload)
}

// localCommand is a command to this very node.
type localCommand struct {
	runner.Context
	wire.Command
	n  *Node
	to link.Receiver
}

// Run implements runner.Task.
func (l *localCommand) Run() {
	if isBuiltin(l.Kind) {
		l.to.Report(l.n.serveBuiltin(&l.Context, &l.Command, l.n.name))
		return
	}
	l.n.active.Begin()
	rep, _ := l.n.serve(&l.Context, &l.Command, l.n.name, time.Now(), false)
	l.to.Report(rep)
	l.n.active.Done()
}

// start sends a command to a place; its outcome goes to r. An error means that
// it was not sent. lost is the time after which r is told unknown if nothing
// was heard; zero means never. Commands to this node are never lost.
func (n *Node) start(at place.Place, c *wire.Command, lost time.Duration, r link.Receiver) (runs.Flight, error) {
	if at.Life == n.id {
		l := &localCommand{Command: *c, n: n, to: r}
		n.pool.Go(l)
		return runs.Flight{Local: &l.Context}, nil
	}
	ref, err := n.end.Start(at.Life, c, lost, r)
	if err != nil {
		return runs.Flight{}, at.Error(err)
	}
	return runs.Flight{Ref: ref}, nil
}

// cancel asks a command to stop; its outcome still comes.
func (n *Node) cancel(at place.Place, f runs.Flight) {
	if f.Local != nil {
		f.Local.Cancel(context.Canceled)
		return
	}
	n.end.Cancel(at.Life, f.Ref)
}

// ask sends a command, and waits for its report or until ctx ends. It puts s
// back once that was sent.
func (n *Node) ask(ctx context.Context, at *place.Place, s *sending, lost time.Duration, r *wire.Report) error {
	if at.Life == n.id {
		return n.askHere(ctx, *at, s, r)
	}
	kind := s.c.Kind
	w, ref, err := n.end.Ask(at.Life, &s.c, lost)
	s.put()
	if err != nil {
		return at.Error(err)
	}
	if !n.end.Await(ctx, at.Life, w, ref, r) {
		return gaveUp(ctx, kind, at.Node)
	}
	return nil
}

// askHere is ask for this very node.
func (n *Node) askHere(ctx context.Context, at place.Place, s *sending, r *wire.Report) error {
	kind := s.c.Kind
	w := link.NewWaiter()
	f, err := n.start(at, &s.c, 0, w)
	s.put()
	if err != nil {
		return err
	}
	if !w.Wait(ctx, r) {
		n.cancel(at, f)
		return gaveUp(ctx, kind, at.Node)
	}
	return nil
}

// request is ask for what nodes ask each other.
func (n *Node) request(ctx context.Context, at place.Place, kind string, in []byte, lost time.Duration) (r wire.Report, err error) {
	s := getSending()
	s.c = wire.Command{Kind: kind, Input: in}
	err = n.ask(ctx, &at, s, lost, &r)
	return r, err
}
