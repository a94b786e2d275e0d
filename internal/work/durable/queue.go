// Package durable is the queue of an executor in the ledger, as a node knows it: it
// submits tasks there and hears of their ends, and it runs what its workers are
// leased.
//
//	q := durable.New(r, "render", limits, false) // a work.Class
//	err := q.Submit(ctx, job)                    // nil: the ledger has written it down
//	leave := q.Join(w)                           // w's slots run what the ledger leases to this node
//
// Large inputs and results are in the engine's object store, and tasks refer to
// them. Cron texts of schedules are read here: the ledger knows only times.
//
// # Guarantees
//
// A task is in the ledger at most once for its ID, however often it was sent: over
// the loss of the session with the hub, too. A job ends as its task did, by
// whichever node that was found. What runs is cancelled, and what has not started dropped,
// when the session is lost: the ledger leases it to others.
//
// # Failures
//
// A submission whose context ended while the session was lost is unknown: fault.ErrUnknown.
// So is what a job waits for when its node leaves, or the executor is destroyed.
package durable

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/distgear/distgear/internal/client"
	"github.com/distgear/distgear/internal/fault"
	"github.com/distgear/distgear/internal/machine"
	"github.com/distgear/distgear/internal/machine/tasks"
	"github.com/distgear/distgear/internal/machine/words"
	"github.com/distgear/distgear/internal/operation"
	"github.com/distgear/distgear/internal/room"
	"github.com/distgear/distgear/internal/timetable"
	"github.com/distgear/distgear/internal/work"
)

// Queue is the Class whose queue is in the ledger: what it accepted is there
// when this process is not any more, and can be found by its ID from any.
type Queue struct {
	q      *queue
	refuse bool

	closed atomic.Bool
}

// New returns the queue of an executor in the ledger. Limits that are not
// zero are told to the ledger: those that were told last are in force. It does no
// I/O. The room's node must not be alone.
func New(r *room.Room, name string, l work.Limits, refuse bool) *Queue {
	q := r.Value(queueKey{name}, func() any { return newQueue(r, name) }).(*queue) //nolint:forcetypeassert // nobody else has the key
	if l != (work.Limits{}) {
		q.mu.Lock()
		q.limits, q.configured = l, false
		q.pump()
		q.unlock()
	}
	return &Queue{q: q, refuse: refuse}
}

type queueKey struct{ name string }

// queue is the queue of an executor as one node knows it: its handle, what
// this node submitted and watches, and what it was leased.
type queue struct {
	room   *room.Room
	name   string
	origin uint64 // of the IDs of tasks that have none
	serial atomic.Uint64
	obj    *client.Object
	ctx    context.Context // until the node has left
	cancel context.CancelCauseFunc

	mu         sync.Mutex
	session    machine.Session // in which it is open, and which all below that was sent means; 0: none
	opening    bool            // somebody opens it
	limits     work.Limits
	configured bool // the limits were told in this session
	left       error

	line    line              // tasks to be submitted
	flying  []*batch          // submissions that are not answered, in their order
	known   map[string]*entry // by ID: what this node submits and watches
	pending int               // entries of tasks that this node submitted
	idle    chan struct{}     // closed when pending is 0; nil: nobody waits
	batches map[*batchWatch]struct{}

	seats     []*seat
	leases    map[uint64]*attempt // by the task's number: those of this session that count
	offered   bool                // the offer was told, or there is nothing to tell
	offering  bool                // it is not answered yet
	reports   []reportList        // to be sent; the last may be open to more
	lingering bool                // reports wait for others
	lingers   *time.Timer         // ends that; nil before the first
	telling   int                 // lists of reports that are not answered
	settled   chan struct{}       // closed when there is nothing of either; nil: nobody waits
	back      []byte              // leases to be given back
	advances  map[uint64]advance  // progress to be told, by number
	pacer     *time.Timer         // tells it; nil before the first
	pacing    bool

	buf   []byte   // scratch
	ended []ending // to be told once mu is free
}

// ending is a job that has ended.
type ending struct {
	j   *work.Job
	end func(j *work.Job)
}

func newQueue(r *room.Room, name string) *queue {
	q := &queue{
		room: r, name: name, origin: rand.Uint64(), configured: true, offered: true,
		known: map[string]*entry{}, batches: map[*batchWatch]struct{}{}, leases: map[uint64]*attempt{}, advances: map[uint64]advance{},
	}
	q.ctx, q.cancel = context.WithCancelCause(context.Background())
	q.obj = r.Ledger.Object(operation.KExecutor, name, 0, q)
	r.Join((*guest)(q))
	return q
}

// fresh is an ID for a task that has none.
func (q *queue) fresh() string {
	return strconv.FormatUint(q.origin, 36) + "." + strconv.FormatUint(q.serial.Add(1), 36)
}

// unlock unlocks mu, and tells what ended.
func (q *queue) unlock() {
	if q.pending == 0 && q.idle != nil {
		close(q.idle)
		q.idle = nil
	}
	if q.telling == 0 && len(q.reports) == 0 && q.settled != nil {
		close(q.settled)
		q.settled = nil
	}
	ended := q.ended
	q.ended = nil
	q.mu.Unlock()
	for _, x := range ended {
		x.end(x.j)
	}
}

// end has a job end once mu is free.
func (q *queue) end(j *work.Job, end func(*work.Job)) { q.ended = append(q.ended, ending{j, end}) }

func (q *queue) fail(j *work.Job, err error) { q.end(j, func(j *work.Job) { j.End(err) }) }

// wanted tells whether a session is needed.
func (q *queue) wanted() bool {
	return q.left == nil && (len(q.known)+len(q.batches)+len(q.seats) > 0 || q.line.len() > 0 || !q.configured || len(q.back) > 0)
}

// pump sends what can be sent. It is called with mu held.
func (q *queue) pump() {
	if q.session == 0 {
		if q.wanted() && !q.opening {
			q.opening = true
			q.room.Pool.Go((*opener)(q))
		}
		return
	}
	if !q.configured {
		q.configured = true
		q.say(nil, operation.Op{Verb: operation.VConfigure, Val: words.AppendLimits(nil, &q.limits)})
	}
	q.pumpReports()
	q.pumpOffer()
	q.pumpLine()
}

// say sends an operation. What is not sent now is not sent in this session.
func (q *queue) say(r client.Receiver, op operation.Op) {
	_, err := q.obj.Start(q.session, r, op)
	q.retry(err)
}

// retry has what could not be sent sent later, if it can. With all other errors
// the session is over: Lost will come, or has.
func (q *queue) retry(err error) {
	if errors.Is(err, client.ErrOverloaded) {
		time.AfterFunc(50*time.Millisecond, q.kick)
	}
}

func (q *queue) kick() {
	q.mu.Lock()
	q.pump()
	q.unlock()
}

// opener opens the queue in the session there is.
type opener queue

// Run implements runner.Task.
func (o *opener) Run() {
	q := (*queue)(o)
	of, err := q.obj.Open(q.ctx)
	q.mu.Lock()
	q.opening = false
	if now, ok := q.room.Ledger.Session(); err == nil && (!ok || now != of) { // lost, and Lost may have been told before
		q.pump()
		q.unlock()
		return
	}
	if err != nil {
		q.refused(err)
		q.unlock()
		return
	}
	q.session = of
	q.configured = q.limits == work.Limits{}
	q.offered = len(q.seats) == 0
	for _, e := range q.known {
		if e.state == entryAccepted {
			q.watch(e)
		}
	}
	for b := range q.batches {
		b.ask()
	}
	q.pump()
	q.unlock()
}

// refused is what becomes of who waits when the queue cannot be opened.
func (q *queue) refused(err error) {
	err = q.fault("open", err)
	if q.left != nil || errors.Is(err, fault.ErrLeft) {
		return // Left tells them
	}
	for e := q.line.pop(); e != nil; e = q.line.pop() {
		q.drop(e, err)
	}
	for _, e := range q.known {
		q.forget(e)
		e.each(func(j *work.Job) { q.fail(j, err) })
	}
	for b := range q.batches {
		delete(q.batches, b)
		q.end(nil, func(*work.Job) { b.done(work.BatchEnd{Err: err}) })
	}
	if len(q.seats) > 0 {
		q.room.Logger.Error("an executor cannot be worked for; it is tried again", "executor", q.name, "err", err)
		time.AfterFunc(time.Second, q.kick)
	}
}

// Lost implements client.Sink.
func (q *queue) Lost() {
	q.mu.Lock()
	q.session = 0
	var again []*entry
	for _, b := range q.flying {
		for _, e := range b.entries {
			switch {
			case e.state != entrySent:
			case e.abandoned != nil:
				q.drop(e, fmt.Errorf("%w: submitting task %s: the session with the hub was lost", fault.ErrUnknown, e.id))
			default:
				e.state = entryWaits
				again = append(again, e)
			}
		}
	}
	q.line.unpop(again...)
	q.flying = nil
	q.unwork()
	q.pump()
	q.unlock()
}

// Event implements client.Sink.
func (q *queue) Event(o *operation.Output) {
	q.mu.Lock()
	defer q.unlock()
	if o.Code == machine.Gone {
		q.gone()
		return
	}
	if o.Code != machine.Message {
		return
	}
	var err error
	switch tasks.Code(o.Aux) {
	case tasks.Run:
		err = q.lease(o.Num, o.Val)
	case tasks.Recall, tasks.Stop:
		err = q.recall(tasks.Code(o.Aux), o.Val)
	case tasks.Finished:
		err = q.finished(o.Val)
	case tasks.Advanced:
		var a words.Advance
		if a, err = words.ParseAdvance(o.Val); err == nil {
			if e := q.known[a.ID]; e != nil {
				e.each(func(j *work.Job) { j.Advance(a.Done, a.Total) })
			}
		}
	case tasks.Refused:
		err = q.refusal(o.Val)
	case tasks.Next:
		err = q.next(o.Val)
	}
	if err != nil {
		q.room.Logger.Warn("dropped a malformed word of the ledger; does the hub have another version?", "executor", q.name, "err", err)
	}
}

// gone takes up that the queue was destroyed for everybody: what it held is lost.
func (q *queue) gone() {
	err := fmt.Errorf("%w: executor %q was destroyed, and its tasks with it", fault.ErrUnknown, q.name)
	q.session, q.flying = 0, nil
	q.unwork()
	for _, e := range q.known {
		if e.state == entrySent {
			q.drop(e, err)
			continue
		}
		if e.state == entryAccepted {
			q.forget(e)
			e.each(func(j *work.Job) { q.fail(j, err) })
		}
	}
	old := q.obj
	q.obj = q.room.Ledger.Object(operation.KExecutor, q.name, 0, q)
	old.Close()
	q.pump()
}

// next answers when a schedule is due after a time.
func (q *queue) next(b []byte) error {
	a, err := words.ParseAsk(b)
	if err != nil {
		return err
	}
	op := operation.Op{Verb: operation.VNextTime, Key: []byte(a.Name), A: uint64(a.Last)}
	t, bad := timetable.Parse(a.Text)
	if bad != nil {
		q.room.Logger.Error("a schedule cannot be read here", "executor", q.name, "schedule", a.Name, "err", bad)
		return nil
	}
	if n := t.Next(time.UnixMilli(a.After)); !n.IsZero() {
		op.B = uint64(n.UnixMilli())
		_, _ = q.obj.Start(0, nil, op) // in the session that was asked, or another is
	}
	return nil
}

// fault says an error of the client in the words of users.
func (q *queue) fault(what string, err error) error {
	kind, mismatch := errors.AsType[*client.KindError](err)
	switch {
	case mismatch:
		return fmt.Errorf("%w: executor %q: %w: use another name", fault.ErrInvalid, q.name, kind)
	case errors.Is(err, client.ErrClosed):
		return fault.ErrLeft
	case errors.Is(err, client.ErrLost):
		return fmt.Errorf("%w: %s of executor %q: the session with the hub was lost", fault.ErrUnknown, what, q.name)
	case errors.Is(err, client.ErrOverloaded):
		return fmt.Errorf("%w: %s of executor %q: %w", fault.ErrOverloaded, what, q.name, err)
	case errors.Is(err, client.ErrTooLarge):
		return fmt.Errorf("%w: %s of executor %q: more than %d bytes", fault.ErrInvalid, what, q.name, client.MaxOp)
	case errors.Is(err, client.ErrGone):
		return fmt.Errorf("%w: %s of executor %q: it was destroyed", fault.ErrUnknown, what, q.name)
	}
	return err
}

// do sends one operation, which may be done twice, and waits for its answer.
// Refused is the error that it says.
func (q *queue) do(ctx context.Context, what string, op operation.Op) error {
	q.mu.Lock()
	obj, left := q.obj, q.left
	q.mu.Unlock()
	if left != nil {
		return left
	}
	a, err := obj.Do(ctx, op, true)
	switch {
	case err != nil:
		return q.fault(what, err)
	case a.Code == machine.Refused:
		if err = taskError(words.Error(a.Aux)); err == nil {
			err = fault.ErrInvalid
		}
		return fmt.Errorf("%w: %s of executor %q", err, what, q.name)
	case a.Code == machine.Invalid:
		return fmt.Errorf("%w: %s of executor %q", fault.ErrInvalid, what, q.name)
	}
	return nil
}

// taskError is an error of the machine in the words of users.
func taskError(err error) error {
	switch {
	case errors.Is(err, tasks.ErrConflict):
		return fault.ErrConflict
	case errors.Is(err, tasks.ErrFull):
		return work.ErrFull
	case errors.Is(err, tasks.ErrNoTask):
		return work.ErrNoTask
	case errors.Is(err, tasks.ErrInvalid):
		return fmt.Errorf("%w: %w", fault.ErrInvalid, err)
	}
	return err
}

// guest is the queue as its node sees it.
type guest queue

// Changed implements room.Guest.
func (g *guest) Changed() {}

// Leaving implements room.Guest.
func (g *guest) Leaving() {
	q := (*queue)(g)
	q.mu.Lock()
	q.left = fault.ErrLeft
	for e := q.line.pop(); e != nil; e = q.line.pop() {
		q.drop(e, q.left)
	}
	seats := q.seats
	q.unlock()
	for _, s := range seats {
		s.w.Close()
	}
}

// Left implements room.Guest.
func (g *guest) Left() {
	q := (*queue)(g)
	q.cancel(fault.ErrLeft)
	q.mu.Lock()
	for _, t := range []*time.Timer{q.pacer, q.lingers} {
		if t != nil {
			t.Stop()
		}
	}
	for _, e := range q.known {
		err := fmt.Errorf("%w: task %s goes on without this node: find it by its ID from another", fault.ErrLeft, e.id)
		if e.state != entryAccepted {
			err = fmt.Errorf("%w: submitting task %s: %w", fault.ErrUnknown, e.id, fault.ErrLeft)
		}
		q.drop(e, err)
	}
	for b := range q.batches {
		q.end(nil, func(*work.Job) { b.done(work.BatchEnd{Err: fault.ErrLeft}) })
	}
	clear(q.batches)
	q.unlock()
}
