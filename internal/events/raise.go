package events

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/distgear/distgear/internal/client"
	"github.com/distgear/distgear/internal/fault"
	"github.com/distgear/distgear/internal/machine"
	"github.com/distgear/distgear/internal/machine/tasks"
	"github.com/distgear/distgear/internal/machine/words"
	"github.com/distgear/distgear/internal/operation"
	"github.com/distgear/distgear/internal/wire"
)

// Raise is a run to be raised.
type Raise struct {
	ID    string
	Kind  string
	Input []byte // the desk's from then on
	Delay time.Duration
}

// Check finds what is wrong with the ID or the delay that a user gives a run.
func Check(id string, delay time.Duration) error {
	if delay < 0 {
		return fmt.Errorf("delay %v is negative", delay)
	}
	if len(id) > 200 || strings.ContainsAny(id, "/ \t\r\n") {
		return fmt.Errorf("id %s: at most 200 bytes, without / and blanks", strconv.Quote(id))
	}
	return nil
}

// Ender is told how a run ended, or that this is unknown. It must not block.
type Ender interface {
	Ended(node string, r wire.Report)
}

// raising is a run that this node has raised, or looks for, and whose end is to be
// told. Its fields are under the desk's mutex.
type raising struct {
	d     *Desk
	r     *Raise // nil: the run is known, or looked for
	id    string
	state uint8
	sent  bool
	err   error
	done  chan struct{} // closed when it is accepted, or err tells why not
	to    Ender
}

// The states of a raising.
const (
	asked    uint8 = iota
	accepted       // the end will be told
	ended          // nobody waits for it any more
)

// Raise raises a run, and returns once it is in the ledger. fault.ErrConflict: its
// ID is another's. After nil, to is told how it ended.
func (d *Desk) Raise(ctx context.Context, r *Raise, to Ender) error {
	var err error
	if r.Input, err = d.keep(ctx, r.ID, r.Input); err != nil {
		return fmt.Errorf("%w: run %s was not raised: %w", fault.ErrNoNode, r.ID, err)
	}
	return d.await(ctx, &raising{d: d, r: r, id: r.ID, to: to, done: make(chan struct{})})
}

// Find has to told how the run with an ID ends, or ended: a day ago at most.
func (d *Desk) Find(ctx context.Context, id string, to Ender) error {
	return d.await(ctx, &raising{d: d, id: id, to: to, done: make(chan struct{})})
}

func (d *Desk) await(ctx context.Context, r *raising) error {
	d.mu.Lock()
	if d.left != nil {
		d.mu.Unlock()
		return d.left
	}
	d.raised[r.id] = append(d.raised[r.id], r)
	if d.pump() {
		r.send()
	}
	d.mu.Unlock()
	select {
	case <-r.done:
		return r.err
	case <-ctx.Done():
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if r.state != asked {
		return r.err
	}
	sent := r.sent
	r.drop()
	if !sent {
		return fmt.Errorf("%w: no session with the hub's ledger yet: run %s was not raised: %w", fault.ErrNoNode, r.id, context.Cause(ctx))
	}
	return fmt.Errorf("%w: the ledger has not answered whether it has run %s (doctor tells why): %w", fault.ErrUnknown, r.id, context.Cause(ctx))
}

// send asks the ledger, in the session of now.
func (r *raising) send() {
	op := operation.Op{Verb: operation.VWatch, A: operation.WatchOn, Key: []byte(r.id)}
	if r.r != nil {
		s := tasks.Spec{ID: r.id, Kind: r.r.Kind, Idempotent: true, NotBefore: r.r.Delay.Milliseconds()}
		op = operation.Op{Verb: operation.VSubmit, A: operation.SubmitWatches | operation.SubmitRuns, Val: words.AppendSpec(nil, &s, nil, r.r.Input)}
	}
	switch err := r.d.say(&raiseAnswer{r, r.d.session}, &op); {
	case err == nil:
		r.sent = true
	case errors.Is(err, client.ErrOverloaded) && r.state == asked:
		r.refuse(fmt.Errorf("%w: to the hub", fault.ErrOverloaded))
	case errors.Is(err, client.ErrOverloaded):
		time.AfterFunc(50*time.Millisecond, r.again)
	case errors.Is(err, client.ErrTooLarge):
		r.refuse(fmt.Errorf("%w: input of run %s: %w", fault.ErrInvalid, r.id, err))
	}
}

func (r *raising) again() {
	r.d.mu.Lock()
	defer r.d.mu.Unlock()
	if r.state != ended && !r.sent && r.d.session != 0 {
		r.send()
	}
}

// raiseAnswer takes up whether the ledger has a run.
type raiseAnswer struct {
	r  *raising
	of machine.Session
}

// Output implements client.Receiver.
func (a *raiseAnswer) Output(o *operation.Output) bool {
	a.r.d.later(o, a.take)
	return true
}

func (a *raiseAnswer) take(o *operation.Output) {
	r := a.r
	d := r.d
	d.mu.Lock()
	defer d.mu.Unlock()
	if a.of != d.session || r.state == ended {
		return
	}
	if o.Code == machine.OK {
		if r.state == asked {
			r.state = accepted
			close(r.done)
		}
		r.r = nil // from now on it is looked for
		return
	}
	why := words.Error(o.Aux)
	switch {
	case errors.Is(why, tasks.ErrConflict):
		r.refuse(fault.Useless(fmt.Errorf("%w: %s", fault.ErrConflict, r.id)))
	case errors.Is(why, tasks.ErrNoTask) && r.state == accepted:
		r.told(wire.Report{})
		r.drop()
	case errors.Is(why, tasks.ErrNoTask):
		r.refuse(fmt.Errorf("%w: %s", fault.ErrNoRun, r.id))
	default:
		r.refuse(fmt.Errorf("%w: the ledger refuses run %s: %w", fault.ErrInvalid, r.id, why))
	}
}

// Lost implements client.Receiver: it is sent again in the next session.
func (a *raiseAnswer) Lost() {}

// refuse tells who raises a run why that cannot be.
func (r *raising) refuse(err error) {
	switch r.state {
	case accepted:
		r.told(fault.NeverRan(err, 0))
	case asked:
		r.err = err
		close(r.done)
	}
	r.drop()
}

// drop forgets it.
func (r *raising) drop() {
	d := r.d
	r.state = ended
	if rs := slices.DeleteFunc(d.raised[r.id], func(x *raising) bool { return x == r }); len(rs) > 0 {
		d.raised[r.id] = rs
	} else {
		delete(d.raised, r.id)
	}
}

// told tells how the run ended, here.
func (r *raising) told(rep wire.Report) { r.tell("", rep) }

func (r *raising) tell(node string, rep wire.Report) {
	switch r.state {
	case asked:
		r.err = errors.Join(fault.ErrUnknown, fault.ErrLeft)
		if !r.sent {
			r.err = fault.ErrLeft
		}
		close(r.done)
	case accepted:
		if _, ok := wire.ParseRef(string(rep.Payload)); ok {
			r.d.h.Room.Pool.Go(&telling{r.d, r.id, r.to, node, rep})
			break
		}
		r.d.acks.put(func() { r.to.Ended(node, rep) })
	}
	r.state = ended
}

// finished takes up that a run has ended.
func (d *Desk) finished(o *operation.Output) error {
	e, err := words.ParseEnd(o.Val)
	if err != nil || e.State == tasks.Parked { // a person decides how it goes on
		return err
	}
	node, rep := report(&e)
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, r := range slices.Clone(d.raised[e.ID]) {
		if r.state == accepted {
			r.tell(node, rep)
			r.drop()
		}
	}
	return nil
}

// report is what became of a run.
func report(e *words.End) (node string, rep wire.Report) {
	if node, rep, ok := parseReport(e.Val); ok && e.Cause == tasks.Reported {
		rep.Outcome = wire.Outcome(e.Outcome)
		return node, rep
	}
	err := fmt.Errorf("run %s has ended without its handler", e.ID)
	switch e.Cause {
	case tasks.Cancelled:
		rep = fault.NeverRan(fmt.Errorf("%w: nobody had begun run %s", fault.ErrCancelled, e.ID), fault.Cancelled)
		return "", rep
	case tasks.ByHand:
		err = fmt.Errorf("%w: run %s was terminated: %s", fault.ErrCancelled, e.ID, e.Reason)
	}
	return "", fault.Report(err)
}

// appendReport is a report as the ledger keeps it: where it comes from, the
// payload, and the error if there is one.
func appendReport(b []byte, node string, r *wire.Report) []byte {
	b = slices.Grow(b, len(node)+len(r.Payload)+20)
	b = append(binary.AppendUvarint(b, uint64(len(node))), node...)
	b = append(binary.AppendUvarint(b, uint64(len(r.Payload))), r.Payload...)
	if r.Error != nil {
		b = wire.AppendError(b, r.Error)
	}
	return b
}

func parseReport(b []byte) (node string, r wire.Report, ok bool) {
	text := func() (v []byte) {
		n, k := binary.Uvarint(b)
		if ok = k > 0 && n <= uint64(len(b)-k); ok {
			v, b = b[k:k+int(n)], b[k+int(n):]
		}
		return v
	}
	name := text()
	if !ok {
		return "", r, false
	}
	r = wire.Report{Over: true, Payload: bytes.Clone(text())}
	if ok && len(b) > 0 {
		var err error
		r.Error, err = wire.ParseError(b)
		ok = err == nil
	}
	return string(name), r, ok
}
