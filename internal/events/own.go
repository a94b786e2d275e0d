package events

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/distgear/distgear/internal/client"
	"github.com/distgear/distgear/internal/engine"
	"github.com/distgear/distgear/internal/fault"
	"github.com/distgear/distgear/internal/journal"
	"github.com/distgear/distgear/internal/machine"
	"github.com/distgear/distgear/internal/machine/runs"
	"github.com/distgear/distgear/internal/machine/tasks"
	"github.com/distgear/distgear/internal/machine/words"
	"github.com/distgear/distgear/internal/operation"
	"github.com/distgear/distgear/internal/runner"
	"github.com/distgear/distgear/record"
)

// Offer says of which events this node owns runs, from now on.
func (d *Desk) Offer(kinds []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.leaving || d.left != nil || slices.Equal(kinds, d.kinds) {
		return
	}
	d.kinds = slices.Clone(kinds)
	if !d.busy && len(kinds) > 0 { // a dead owner is to be noticed soon
		d.busy = true
		d.h.Room.Ledger.Busy(+1)
	}
	if d.pump() {
		d.tellOffer()
	}
}

func (d *Desk) tellOffer() {
	o := tasks.Offer{Kinds: d.kinds, Slots: slots, Bytes: held}
	if d.leaving { // it keeps what it has until that is given back
		o = tasks.Offer{Kinds: []string{Name}}
	}
	if len(o.Kinds) > 0 {
		_ = d.say(nil, &operation.Op{Verb: operation.VWork, Val: words.AppendOffer(nil, &o)}) // without a session it is told in the next
	}
}

// owned is a run that was leased to this node.
type owned struct {
	runner.Context

	d     *Desk
	of    machine.Session
	lease tasks.Lease
	id    record.RunID
	given Lease

	mu    sync.Mutex
	begun bool // the handler came to it: it has appended, or is in the registry
	back  bool // the last entry was sent
	over  bool // it is not this node's any more
	size  int  // of the journal at the hub, in bytes

	storing bool     // an entry is large, and those after it wait
	queue   []*entry // that do
}

// lease takes a lease up.
func (d *Desk) lease(o *operation.Output) error {
	g, err := words.ParseGrant(o.Num, append([]byte(nil), o.Val...))
	if err != nil {
		return err
	}
	var l runs.Lease
	if len(o.Key) > 0 { // else a schedule has raised it, and nobody has begun it
		if l, err = runs.ParseLease(append([]byte(nil), o.Key...)); err != nil {
			return err
		}
	}
	a := &owned{d: d, lease: g.Lease, id: record.RunID(g.ID)}
	for _, u := range l.Units {
		a.size += runs.Recorded(len(u))
	}
	a.given = Lease{ID: g.ID, Kind: g.Kind, Input: g.Input, Lease: journal.Lease{
		Journal: a, Epoch: uint64(g.Epoch), Units: l.Units, Cancelled: l.Cancelled, Adopt: l.Adopt, Unwind: l.Unwind, Started: d.here(journal.Began(l.Units)),
	}}
	for _, s := range l.Signals {
		a.given.Signals = append(a.given.Signals, journal.Signal(s))
	}
	d.mu.Lock()
	a.of = d.session
	old := d.leases[g.Number]
	d.leases[g.Number] = a
	leaving := d.leaving
	d.mu.Unlock()
	if old != nil { // the ledger took it back, and here it is again
		old.end()
	}
	if leaving || !d.h.Room.Hold() {
		a.giveBack()
		return nil
	}
	d.h.Room.Pool.Go(a)
	return nil
}

// here is an instant of the hub's clock by this node's; zero stays zero.
func (d *Desk) here(at time.Time) time.Time {
	if at.IsZero() {
		return at
	}
	return time.Now().Add(at.Sub(d.h.Now()))
}

// Run implements runner.Task.
func (a *owned) Run() {
	defer a.d.h.Room.Free()
	a.CommandKey = a.given.ID
	if err := a.given.fetch(a.d); errors.Is(err, engine.ErrNoObject) || errors.Is(err, fault.ErrInvalid) {
		a.park(err.Error())
		return
	} else if err != nil {
		a.giveBack()
		return
	}
	err := a.d.h.Serve(&a.Context, &a.given)
	a.mu.Lock()
	open := !a.back && !a.over
	begun := a.begun
	a.mu.Unlock()
	switch {
	case !open:
	case errors.Is(err, fault.ErrSuspended), errors.Is(err, fault.ErrLeft), errors.Is(err, fault.ErrNoNode):
		a.giveBack()
	case err == nil:
		a.park("its handler, or what is wrapped around it, returned without ending the run")
	case begun || len(a.given.Units) > 0:
		a.park(fmt.Sprintf("its handler was refused: %v", err))
	default:
		rep := fault.Report(err)
		a.append(journal.Entry{Give: &journal.Give{Why: journal.Finished, State: string(record.Failed), Report: rep}}, func(error) {})
	}
}

// giveBack lets another node go on at once, or this one.
func (a *owned) giveBack() {
	a.append(journal.Entry{Give: &journal.Give{Why: journal.Suspended}}, func(error) {})
}

// park leaves it to a person how the run goes on.
func (a *owned) park(text string) {
	a.append(journal.Entry{Give: &journal.Give{Why: journal.Parked, Text: text}}, func(error) {})
}

// end takes up that the run is not this node's any more.
func (a *owned) end() {
	a.mu.Lock()
	over := a.over
	a.over = true
	a.mu.Unlock()
	if !over {
		a.d.h.Runs.Supersede(a.id)
		a.Context.Cancel(context.Canceled)
	}
}

// cancel takes up that the run is to be cancelled.
func (a *owned) cancel() { a.d.h.Runs.CancelOne(a.id) }

func (a *owned) signal(s journal.Signal) { a.d.h.Runs.Signalled(a.id, s) }

// resigner gives a run back because its node leaves.
type resigner owned

// Run implements runner.Task.
func (r *resigner) Run() { r.d.h.Runs.Resign(r.id) }

// Append implements journal.Journal.
func (a *owned) Append(e journal.Entry, then func(error)) {
	a.mu.Lock()
	a.begun = true
	a.mu.Unlock()
	a.append(e, then)
}

func (a *owned) append(e journal.Entry, then func(error)) {
	x := entry{Entry: e, then: then}
	a.mu.Lock()
	a.size += runs.Recorded(len(e.Unit))
	if g := e.Give; g != nil {
		a.back = true
		if g.Summary != nil && (a.nested() || !runs.Keeps(a.size+len(a.given.Input))) {
			x.summary = g.Summary()
		}
	}
	if a.storing || x.large() && a.d.h.Room.Ledger.Store() != nil {
		later := x // most are not stored: x is nobody's after send
		a.queue = append(a.queue, &later)
		start := !a.storing
		a.storing = true
		a.mu.Unlock()
		if start {
			a.d.h.Room.Pool.Go((*storer)(a))
		}
		return
	}
	a.mu.Unlock()
	a.send(&x)
}

// nested tells whether it is a step of a plan, which may be undone.
func (a *owned) nested() bool { return strings.Contains(string(a.id), "/") }

func (a *owned) send(e *entry) {
	d, then := a.d, e.then
	x := runs.Entry{Lease: a.lease, Unit: e.Unit, Took: e.Took, Summary: e.summary, Stuck: e.Stuck}
	a.mu.Lock()
	over := a.over
	if e.Give != nil {
		a.give(&x, e.Give)
	}
	a.mu.Unlock()
	err := client.ErrLost
	if !over {
		op := operation.Op{Verb: operation.VAppend, Val: runs.AppendEntry(nil, &x)}
		_, err = d.obj.Start(a.of, &appendAnswer{a, then, e.Give != nil}, op)
	}
	if err == nil {
		return
	}
	d.acks.put(func() { then(err) })
	switch {
	case errors.Is(err, client.ErrTooLarge):
		text := fmt.Sprintf("one entry of its journal is too large for the ledger: %d bytes, and an error of %d", len(x.Unit), len(x.Report))
		d.h.Room.Logger.Error("a durable run is parked", "run", a.id, "why", text)
		d.acks.put(func() { a.park(text) })
	case errors.Is(err, client.ErrOverloaded):
		_, _ = d.obj.Start(a.of, nil, operation.Op{Verb: operation.VGiveBack, Val: words.AppendLease(nil, a.lease)})
	}
}

// give fills in how a run is given back.
func (a *owned) give(x *runs.Entry, g *journal.Give) {
	x.Text = g.Text
	switch g.Why {
	case journal.Finished:
		x.Why, x.Outcome = runs.Ended, tasks.Outcome(g.Report.Outcome)
		x.Report = appendReport(nil, a.d.h.Room.Node, &g.Report)
		x.Keep = a.nested()
		if s := record.RunState(g.State); s == record.RolledBack || s == record.Cancelled { // else the outcome says all
			x.State = g.State
		}
	case journal.Suspended:
		x.Why, x.Signals = runs.Suspended, g.Signals
		until := g.Until
		if at, ok := a.Deadline(); ok && (!until.IsZero() || len(g.Signals) > 0) && (until.IsZero() || at.Before(until)) {
			until = at
		}
		if !until.IsZero() {
			x.In = max(until.Sub(a.d.h.Now()).Milliseconds(), 1)
		}
	case journal.Parked:
		x.Why = runs.Parked
	case journal.Panicked:
		x.Why = runs.Panicked
	}
}

// appendAnswer takes up whether an entry is in the journal.
type appendAnswer struct {
	a    *owned
	then func(error)
	last bool
}

var errStale = errors.New("the run has another owner")

// Output implements client.Receiver.
func (w *appendAnswer) Output(o *operation.Output) bool {
	a, d := w.a, w.a.d
	if o.Code == machine.OK && !w.last {
		d.acks.put(func() { w.then(nil) })
		return true
	}
	var err error
	switch o.Code {
	case machine.OK:
	case machine.Refused:
		err = words.Error(o.Aux)
	default:
		err = errStale
	}
	d.acks.put(func() { w.then(err) })
	if why := err; o.Code == machine.Refused {
		d.acks.put(func() { a.park(fmt.Sprintf("the ledger refused an entry of its journal: %v", why)) })
		return true
	}
	forget := func() {
		d.mu.Lock()
		if d.leases[a.lease.Number] == a {
			delete(d.leases, a.lease.Number)
		}
		d.mu.Unlock()
		if err != nil {
			d.acks.put(a.end)
		}
	}
	if d.h.Room.Ledger.Alone() { // this is told to who asks something else, and he may hold mu
		d.acks.put(forget)
	} else {
		forget()
	}
	return true
}

// Lost implements client.Receiver.
func (w *appendAnswer) Lost() { w.a.d.acks.put(func() { w.then(client.ErrLost) }) }

// acks tells what the ledger has said, in order, on a goroutine of the node: who is
// told may append again, and holds locks when it does.
type acks struct {
	pool *runner.Pool

	mu      sync.Mutex
	todo    []func()
	spare   []func()
	telling bool
}

func (k *acks) put(f func()) {
	k.mu.Lock()
	k.todo = append(k.todo, f)
	start := !k.telling
	k.telling = true
	k.mu.Unlock()
	if start {
		k.pool.Go(k)
	}
}

// Run implements runner.Task.
func (k *acks) Run() {
	k.mu.Lock()
	for len(k.todo) > 0 {
		todo := k.todo
		k.todo = k.spare[:0]
		k.mu.Unlock()
		for i, f := range todo {
			f()
			todo[i] = nil
		}
		k.mu.Lock()
		k.spare = todo
	}
	k.telling = false
	k.mu.Unlock()
}
