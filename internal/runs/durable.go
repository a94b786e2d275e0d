package runs

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/distgear/distgear/internal/fault"
	"github.com/distgear/distgear/internal/journal"
	"github.com/distgear/distgear/internal/place"
	"github.com/distgear/distgear/internal/plan"
	"github.com/distgear/distgear/internal/wire"
	"github.com/distgear/distgear/record"
)

// durable is what a durable run has besides. The run's mutex guards it.
//
// The state of the run's drives runs ahead of the journal: what an input brings
// about is collected (unit, todo) and appended at once, and what is to be done
// with the world is done when that was acknowledged.
type durable struct {
	journal.Lease

	r     *Run
	past  *journal.Past
	begun uint32 // plans, of the journal or new
	unit  journal.Unit
	space *[768]byte // it begins with
	took  []uint64
	stuck string // the step that has become so
	todo  []todo
	last  *batch // the latest that is not acknowledged
	open  int    // how many are not
	given bool   // the last entry was appended
	heard uint64 // the highest number of a signal
	over  error  // this node's part is over
	wake  sync.Cond

	busy  int // calls of Do that have not returned
	waits []*wait
	pause *time.Timer // until the run is suspended
}

// unitSpaces are those of runs that have ended.
var unitSpaces = sync.Pool{New: func() any { return new([768]byte) }}

// batch is what waits for one acknowledgement.
type batch struct{ todo []todo }

// todo is something to do with the world, for an attempt.
type todo struct {
	d  *drive
	a  *attempt
	op op
}

type op uint8

const (
	send op = iota
	attach
	cancel
)

// lease makes r durable. What the journal tells is read at once, and told to the
// handler as it comes to it.
func (r *Run) lease(given *journal.Lease) error {
	l := &durable{Lease: *given, r: r, space: unitSpaces.Get().(*[768]byte)}
	l.unit = journal.UnitIn(l.space[:])
	l.wake.L = &r.mu
	r.log = l
	if !l.Started.IsZero() {
		r.started = l.Started.UnixNano()
	}
	past, err := journal.Read(l.Units)
	if err != nil {
		r.mu.Lock()
		err = l.give(&journal.Give{Why: journal.Parked, Text: err.Error()})
		r.mu.Unlock()
		return err
	}
	l.past, l.begun, given.Past = past, uint32(len(past.Plans)), past
	l.Units = nil
	for _, s := range l.Signals {
		l.heard = max(l.heard, s.Number)
	}
	if r.stopped = past.Stopped || l.Cancelled; r.stopped && r.ctx != nil {
		r.ctx.Cancel(context.Canceled)
	}
	if r.stopped && !past.Stopped { // while nobody owned it: what is appended next tells of it
		l.unit.Add(&journal.Record{Kind: journal.Stopped})
	}
	return nil
}

// flush appends what was collected, and does what needs no acknowledgement. What the
// inputs of steps are computed from is appended with those (D2).
func (l *durable) flush(now time.Time) {
	l.decide(now)
	for l.over == nil && !l.given && !l.computes() {
		switch {
		case !l.unit.Empty():
			l.append(nil)
		case len(l.todo) == 0:
			return
		case l.last != nil: // it waits for those before
			l.last.todo = append(l.last.todo, l.todo...)
			l.todo = nil
		default:
			ts := l.todo
			l.todo = nil
			l.do(ts)
		}
	}
}

// computes tells whether somebody is about to compute an input, and flushes then.
func (l *durable) computes() bool {
	return slices.ContainsFunc(l.r.plans, func(x planned) bool { return x.d != nil && x.d.reads && len(x.d.calls) > 0 })
}

func (l *durable) append(g *journal.Give) {
	b := &batch{todo: l.todo}
	e := journal.Entry{Took: l.took, Give: g, Stuck: l.stuck}
	if !l.unit.Empty() {
		e.Unit = l.unit.Bytes(l.r.host.Clock().UnixNano()) // nodes' clocks differ
	}
	l.todo, l.took, l.last, l.given, l.stuck = nil, nil, b, g != nil, ""
	l.open++
	l.Journal.Append(e, func(err error) { l.appended(b, err) })
}

// appended takes in that a batch is in the journal, or was refused.
func (l *durable) appended(b *batch, err error) {
	l.r.mu.Lock()
	l.open--
	if l.last == b {
		l.last = nil
	}
	if err != nil || l.over != nil {
		l.r.mu.Unlock()
		if err != nil {
			l.quit(fmt.Errorf("%w: this node's entry was refused: %w", fault.ErrSuspended, err))
		}
		return
	}
	l.do(b.todo)
	l.flush(time.Now())
	l.tell()
	l.r.mu.Unlock()
}

// do does what was acknowledged.
func (l *durable) do(ts []todo) {
	now := time.Now()
	for _, t := range ts {
		t.d.now = now
		switch t.op {
		case send:
			t.d.send(t.a)
		case attach:
			t.d.attach(t.a)
		case cancel:
			if t.a.f != (Flight{}) { // else attach will
				t.d.h.Cancel(t.a.at, t.a.f)
			}
		}
		t.d.act()
	}
}

// tell wakes who waits for the journal.
func (l *durable) tell() {
	l.wake.Broadcast()
	for _, x := range l.r.plans {
		if x.d != nil {
			x.d.wake.Broadcast()
		}
	}
}

// quit ends this node's part in the run, once: nothing more is appended, sent or
// taken in, and the handler's context is cancelled.
func (l *durable) quit(why error) {
	l.r.mu.Lock()
	l.finish(why)
	l.r.mu.Unlock()
	_ = l.gone()
}

// gone is why this node's part is over, or nil. The handler's context is cancelled
// before it hears of that, also when who ended it has not come to that yet.
func (l *durable) gone() error {
	l.r.mu.Lock()
	why, ctx := l.over, l.r.ctx
	l.r.mu.Unlock()
	if why != nil && ctx != nil {
		ctx.Cancel(context.Canceled)
	}
	return why
}

// finish is quit for who has locked the run and calls gone later.
func (l *durable) finish(why error) {
	if l.over != nil {
		return
	}
	l.over = why
	if l.pause != nil {
		l.pause.Stop()
	}
	for _, w := range l.waits {
		close(w.ready)
	}
	l.waits, l.todo = nil, nil
	for _, x := range l.r.plans {
		for i := range x.d.tracks {
			x.d.tracks[i].stop()
		}
		if x.d.held {
			x.d.held = false
			x.d.h.Free()
		}
	}
	l.tell()
	l.r.touch()
}

// give appends the last entry, and ends this node's part. The caller calls gone
// when the run is not locked any more.
func (l *durable) give(g *journal.Give) error {
	if l.over != nil {
		return l.over
	}
	l.todo = nil
	l.append(g)
	why := fault.ErrSuspended
	if g.Text != "" {
		why = fmt.Errorf("%w: %s", why, g.Text)
	}
	l.finish(why)
	return why
}

// resign gives the run back because this node leaves: another may go on at once.
func (l *durable) resign() {
	l.r.mu.Lock()
	if l.given { // nobody will know of the answer
		l.finish(fmt.Errorf("%w: %w", fault.ErrSuspended, fault.ErrLeft))
	}
	_ = l.give(&journal.Give{Why: journal.Suspended})
	l.r.mu.Unlock()
	_ = l.gone()
}

// unsaid tells whether anything that happened is not in the journal yet: on its way,
// or kept back for what is computed from it.
func (l *durable) unsaid() bool { return l.open > 0 || !l.given && !l.unit.Empty() }

// settled waits until all that happened is in the journal, or this node's part is over.
func (l *durable) settled() error {
	for l.over == nil && l.unsaid() {
		l.wake.Wait()
	}
	return l.over
}

// Panicked gives a durable run back whose handler panicked; false when it is not
// durable.
func (r *Run) Panicked(text string) bool {
	if r.log == nil {
		return false
	}
	r.mu.Lock()
	_ = r.log.give(&journal.Give{Why: journal.Panicked, Text: text})
	r.mu.Unlock()
	return true
}

// Supersede ends the part of a durable run that this node has leased again.
func (r *Run) Supersede() {
	if r.log != nil {
		r.log.quit(fmt.Errorf("%w: under a new lease", fault.ErrSuspended))
	}
}

// doDurable begins a plan, or goes on with it. With a failure the run is not
// locked any more.
func (r *Run) doDurable(ctx context.Context, d *drive) *Failure {
	n := len(d.p.Steps)
	d.log = &planLog{why: ctx.Err, sent: make([]*attempt, 0, n), history: make([]record.Attempt, 0, n)}
	err := d.begin()
	if err == nil {
		r.log.busy++
		r.log.rest()
		return nil
	}
	r.plans = r.plans[:d.index]
	r.mu.Unlock()
	_ = r.log.gone()
	return &Failure{Plan: d.p.Name, Rollback: d.p.Rollback, Err: err}
}

// unwindAll undoes a run that had ended: its plans in reverse order (S16).
func (r *Run) unwindAll() {
	r.mu.Lock()
	defer r.mu.Unlock()
	l := r.log
	for i := len(r.plans) - 1; i >= 0 && l.over == nil; i-- {
		d := r.plans[i].d
		if !d.p.Rollback {
			continue
		}
		d.now = time.Now()
		if was := d.m.Phase(); was == plan.Settled {
			if d.fx = d.m.Unwind(d.fx); d.m.Phase() != was || len(d.fx) > 0 {
				d.note(journal.Record{Kind: journal.Unwound})
				d.act()
				l.flush(d.now)
			}
		}
		for l.over == nil && (!d.m.Settled() || l.unsaid()) {
			l.wake.Wait()
		}
		if !d.m.RolledBack() {
			return
		}
	}
}

// letGo tells the nodes that the attempts of a run were sent to that their
// outcomes can be forgotten. One that does not hear of it keeps them for an hour.
func (r *Run) letGo() {
	told := map[place.Place]bool{}
	for _, x := range r.plans {
		for _, a := range x.d.log.sent {
			if a != nil && !told[a.at] {
				told[a.at] = true
				x.d.h.LetGo(a.at, r.id, r.log.Epoch)
			}
		}
	}
}

var errEnded = fmt.Errorf("%w: the run has ended", fault.ErrSuspended)

// endDurable is End for a durable run: it returns when the journal says so.
func (r *Run) endDurable(e *ending) error {
	l := r.log
	if err := l.whole(); err != nil {
		return err
	}
	if l.Unwind {
		r.unwindAll()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if l.over == nil {
		l.conclude(e)
	}
	if err := l.settled(); err != nil {
		return err
	}
	l.finish(errEnded)
	unitSpaces.Put(l.space)
	l.unit, l.space = journal.Unit{}, nil
	r.letGo()
	return nil
}

// whole parks a run whose handler has returned without coming to a plan that the
// journal has: what was done in it would be forgotten.
func (l *durable) whole() error {
	l.r.mu.Lock()
	defer l.r.mu.Unlock()
	if l.over != nil {
		return l.over
	}
	for _, x := range l.past.Plans {
		if !x.Taken {
			return l.give(&journal.Give{Why: journal.Parked, Text: fmt.Sprintf(
				"the journal of run %s has a plan %q, and this handler returned without coming to it: run the handler that made it, or terminate the run", l.r.id, x.Shape.Name)})
		}
	}
	return nil
}

// summary is the record of a run that ends. It is locked.
func (r *Run) summary() []byte {
	b, _ := json.Marshal(r.recordLocked(true)) // what it shows of payloads is JSON
	return b
}

// conclude appends the end of the run.
func (l *durable) conclude(e *ending) {
	r := l.r
	rep := wire.Report{Outcome: wire.OK, Over: true, Payload: e.out}
	if e.err != nil {
		rep = fault.Report(e.err)
	}
	if was := closed(l.past); was != nil { // what it was when it ended
		rep, *e = *l.past.Closed, *was
	} else {
		l.unit.Add(&journal.Record{Kind: journal.Closed, Report: rep})
	}
	r.end = e // for the summary only: nobody sees it before it is acknowledged
	l.append(&journal.Give{Why: journal.Finished, State: string(r.state()), Report: rep, Summary: r.summary})
	r.end = nil
}
