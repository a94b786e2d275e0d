// Package events is the runs of durable events, as a node has to do with them: it
// raises them in the ledger, hears how they end, and owns those that the ledger
// leases to it. See docs/adr/0007.
//
//	d := events.New(events.Host{Room: r, Runs: registry, Serve: serve})
//	err := d.Raise(ctx, &events.Raise{ID: "deploy-7", Kind: "deploy", Input: in}, future)
//	d.Offer([]string{"deploy"}) // leases of its runs come: serve is called for each
//	err = d.Signal(ctx, "deploy-7", "go", value)
//
// A run is a task of the executor Name, which users cannot name, and its journal is
// kept beside it. A process that is alone has the same ledger in its memory.
//
// # Guarantees
//
// When Raise has returned nil the run is in the ledger, once for its ID, and it ends.
// Who raised it is told so, over the loss of sessions too. What this node
// appends for a run is appended under the lease that it was given: when that is another's
// it is refused, and this node's part is over. So it is at once when the session
// with the ledger is lost.
//
// # Failures
//
// A raise whose context ended, or whose node left, before the ledger has answered
// is unknown: fault.ErrUnknown. Raise it again under its ID.
package events

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/distgear/distgear/internal/client"
	"github.com/distgear/distgear/internal/fault"
	"github.com/distgear/distgear/internal/journal"
	"github.com/distgear/distgear/internal/machine"
	"github.com/distgear/distgear/internal/machine/runs"
	"github.com/distgear/distgear/internal/machine/tasks"
	"github.com/distgear/distgear/internal/machine/words"
	"github.com/distgear/distgear/internal/operation"
	"github.com/distgear/distgear/internal/room"
	"github.com/distgear/distgear/internal/runner"
	"github.com/distgear/distgear/record"
)

// Name is that of the executor whose tasks are the runs.
const Name = "distgear:events"

const (
	// slots is how many runs a node owns at once, of those that do not wait for
	// a signal or an instant.
	slots = 10_000
	// held is about how many bytes of inputs they may have.
	held = 256 << 20
	// retain is how long the ledger knows of a run that has ended, in ms, and
	// retained how many such it knows.
	retain   = 86_400_000
	retained = 10_000
)

// Host is the node.
type Host struct {
	Room *room.Room
	Runs Runs
	// Serve calls the handler of a run's event, and returns when it has. An error
	// says that the handler never came to the run: somebody before it refused.
	Serve func(c *runner.Context, l *Lease) error
	// Now is the hub's time.
	Now func() time.Time
}

// Runs are the runs that the node has begun.
type Runs interface {
	Signalled(id record.RunID, s journal.Signal) // a signal came for one
	CancelOne(id record.RunID)                   // it is to be cancelled
	Supersede(id record.RunID)                   // it is not this node's any more
	Resign(id record.RunID)                      // it is to be given back, so that another node goes on
}

// Lease is a run that this node owns.
type Lease struct {
	journal.Lease

	ID, Kind string
	Input    []byte
}

// Desk is what a node has to do with durable events. Make it with New; it is safe
// for concurrent use.
type Desk struct {
	h      Host
	obj    *client.Object
	ctx    context.Context // until the node has left
	cancel context.CancelCauseFunc

	mu      sync.Mutex
	session machine.Session // in which it is open; 0: none
	opening bool
	left    error
	raised  map[string][]*raising // by ID: those that are not answered, and those whose end is awaited
	kinds   []string              // offered
	busy    bool
	leaving bool
	leases  map[uint64]*owned // by the task's number

	acks    acks
	fetched fetched
}

// New returns the desk of a node. It does no I/O.
func New(h Host) *Desk {
	d := &Desk{h: h, raised: map[string][]*raising{}, leases: map[uint64]*owned{}}
	d.ctx, d.cancel = context.WithCancelCause(context.Background())
	d.acks.pool = h.Room.Pool
	d.obj = h.Room.Ledger.Object(operation.KExecutor, Name, 0, d)
	h.Room.Join((*guest)(d))
	h.Room.Value(deskKey{}, func() any { return d })
	return d
}

type deskKey struct{}

// Of is the desk of a node; nil: it has none.
func Of(r *room.Room) *Desk {
	d, _ := r.Value(deskKey{}, func() any { return (*Desk)(nil) }).(*Desk)
	return d
}

// Serve calls the handler of a run under a lease that is not the ledger's.
func (d *Desk) Serve(c *runner.Context, l *Lease) error { return d.h.Serve(c, l) }

// pump sees to it that there is a session if one is needed. It is called with mu
// held, and tells whether there is.
func (d *Desk) pump() bool {
	if d.session == 0 && !d.opening && d.left == nil && len(d.raised)+len(d.kinds) > 0 {
		d.opening = true
		d.h.Room.Pool.Go((*opener)(d))
	}
	return d.session != 0
}

// opener opens the executor in the session there is, or waits for one.
type opener Desk

// Run implements runner.Task.
func (o *opener) Run() {
	d := (*Desk)(o)
	of, err := d.obj.Open(d.ctx)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.opening = false
	if now, ok := d.h.Room.Ledger.Session(); err == nil && (!ok || now != of) { // lost, and Lost may have been told before
		d.pump()
		return
	}
	if err != nil {
		d.refused(err)
		return
	}
	d.session = of
	_ = d.say(nil, &operation.Op{Verb: operation.VConfigure, Val: words.AppendLimits(nil, &tasks.Limits{Retain: retain, MaxRetained: retained})}) // without the session it is told in the next
	d.tellOffer()
	for _, rs := range d.raised {
		for _, r := range rs {
			r.send()
		}
	}
}

// refused takes up that the executor cannot be opened.
func (d *Desk) refused(err error) {
	if d.left != nil || errors.Is(err, client.ErrClosed) {
		return // Left tells who waits
	}
	d.h.Room.Logger.Error("durable events cannot be raised or handled; it is tried again", "err", err)
	for _, rs := range d.raised {
		for _, r := range rs {
			if r.state != ended {
				r.told(fault.NeverRan(fmt.Errorf("%w: the ledger does not take durable events: %w", fault.ErrInvalid, err), 0))
			}
		}
	}
	clear(d.raised)
	time.AfterFunc(time.Second, func() {
		d.mu.Lock()
		d.pump()
		d.mu.Unlock()
	})
}

// say sends an operation in the session of now; the error is also that there is
// none.
func (d *Desk) say(r client.Receiver, op *operation.Op) error {
	if d.session == 0 {
		return client.ErrLost
	}
	_, err := d.obj.Start(d.session, r, *op)
	return err
}

// Lost implements client.Sink.
func (d *Desk) Lost() {
	d.mu.Lock()
	d.session = 0
	for _, rs := range d.raised {
		for _, r := range rs {
			r.sent = false
		}
	}
	lost := d.leases
	d.leases = map[uint64]*owned{}
	d.pump()
	d.mu.Unlock()
	for _, a := range lost {
		a.end()
	}
}

// Event implements client.Sink.
func (d *Desk) Event(o *operation.Output) {
	if o.Code == machine.Message {
		d.later(o, d.event)
	}
}

// later takes something up that the ledger says. A ledger in this process says it
// to who asks, before he goes on: he may hold mu.
func (d *Desk) later(o *operation.Output, take func(*operation.Output)) {
	if !d.h.Room.Ledger.Alone() {
		take(o)
		return
	}
	said := *o
	d.acks.put(func() { take(&said) })
}

func (d *Desk) event(o *operation.Output) {
	var err error
	switch tasks.Code(o.Aux) {
	case tasks.Run:
		err = d.lease(o)
	case tasks.Stop:
		err = d.stop(o)
	case tasks.Finished:
		err = d.finished(o)
	case tasks.Next:
		err = d.next(o.Val)
	case operation.RunSignal:
		err = d.signalled(o)
	}
	if err != nil {
		d.h.Room.Logger.Warn("dropped a malformed word of the ledger; does the hub have another version?", "executor", Name, "err", err)
	}
}

func (d *Desk) signalled(o *operation.Output) error {
	s, err := runs.ParseSignal(o.Val)
	d.mu.Lock()
	a := d.leases[o.Num]
	d.mu.Unlock()
	if err == nil && a != nil {
		a.signal(journal.Signal{Number: s.Number, Name: s.Name, Value: append([]byte(nil), s.Value...)})
	}
	return err
}

func (d *Desk) stop(o *operation.Output) error {
	ls, err := words.ParseLeases(o.Val)
	for _, l := range ls {
		d.mu.Lock()
		a := d.leases[l.Number]
		d.mu.Unlock()
		if a != nil && a.lease == l {
			a.cancel()
		}
	}
	return err
}

// guest is the desk as the node sees it.
type guest Desk

// Changed implements room.Guest.
func (g *guest) Changed() {}

// Leaving implements room.Guest. What it owns others go on with; alone there are
// none, and the node waits.
func (g *guest) Leaving() {
	d := (*Desk)(g)
	if d.h.Room.Ledger.Alone() {
		return
	}
	d.mu.Lock()
	d.leaving = true
	d.kinds = nil
	d.tellOffer()
	all := d.owned()
	d.mu.Unlock()
	for _, a := range all {
		d.h.Room.Pool.Go((*resigner)(a))
	}
}

// Left implements room.Guest.
func (g *guest) Left() {
	d := (*Desk)(g)
	d.mu.Lock()
	d.left = fault.ErrLeft
	for _, rs := range d.raised {
		for _, r := range rs {
			r.told(fault.NeverRan(fault.ErrLeft, 0))
		}
	}
	clear(d.raised)
	all := d.owned()
	clear(d.leases)
	if d.busy {
		d.busy = false
		d.h.Room.Ledger.Busy(-1)
	}
	d.mu.Unlock()
	d.cancel(fault.ErrLeft)
	for _, a := range all {
		a.end()
	}
}

func (d *Desk) owned() []*owned {
	all := make([]*owned, 0, len(d.leases))
	for _, a := range d.leases {
		all = append(all, a)
	}
	return all
}
