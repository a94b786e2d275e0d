package durable

import (
	"context"
	"fmt"

	"github.com/distgear/distgear/internal/fault"
	"github.com/distgear/distgear/internal/machine"
	"github.com/distgear/distgear/internal/machine/tasks"
	"github.com/distgear/distgear/internal/machine/words"
	"github.com/distgear/distgear/internal/operation"
	"github.com/distgear/distgear/internal/wire"
	"github.com/distgear/distgear/internal/work"
)

// finished takes up that a task has ended, or was parked: its jobs end.
func (q *queue) finished(b []byte) error {
	end, err := words.ParseEnd(b)
	e := q.known[end.ID]
	if err != nil || e == nil {
		return err
	}
	e.cancelled = false
	q.accept(e) // the answer may come later
	q.forget(e)
	e.each(func(j *work.Job) {
		q.end(j, func(j *work.Job) { q.tell(j, end) })
	})
	return nil
}

// tell ends a job as its task did. Its bytes are only lent.
func (q *queue) tell(j *work.Job, e words.End) {
	switch {
	case e.State == tasks.Parked:
		j.End(parkedError(j, e.Cause, e.Reason))
	case e.Cause == tasks.Late:
		j.End(fault.Marked(fmt.Errorf("%w: task %s of %s: no worker was free before its deadline", fault.ErrQueueTimeout, e.ID, j.Kind()), fault.Mark{NeverRan: true}))
	case e.Outcome == tasks.OK:
		if ref, ok := wire.ParseRef(string(e.Val)); ok {
			q.room.Pool.Go(&fetch{q: q, ref: ref, got: func(payload []byte, err error) {
				if err != nil {
					j.End(fmt.Errorf("%w: the result of task %s: %w", work.ErrNoTask, e.ID, err))
					return
				}
				j.Report(q.room, &wire.Report{Outcome: wire.OK, Over: true, Payload: payload}, "")
			}})
			return
		}
		j.Report(q.room, &wire.Report{Outcome: wire.OK, Over: true, Payload: e.Val}, "")
	case e.Cause == tasks.Cancelled:
		j.End(fmt.Errorf("%w: task %s of %s", fault.ErrCancelled, e.ID, j.Kind()))
	default:
		node, w := parseFailure(e.Val)
		j.Report(q.room, &wire.Report{Outcome: wire.Outcome(e.Outcome), Over: true, Error: w}, node)
	}
}

// parkedError is why a task failed that waits for a person.
func parkedError(j *work.Job, cause tasks.Cause, reason string) error {
	switch cause {
	case tasks.Poisonous:
		return fmt.Errorf("%w: %w: task %s of %s: each worker that had it was lost: it may be what ends them", fault.ErrUnknown, work.ErrParked, j.ID(), j.Kind())
	case tasks.Lost:
		return fmt.Errorf("%w: %w: task %s of %s: its worker was lost, and the action is not idempotent", fault.ErrUnknown, work.ErrParked, j.ID(), j.Kind())
	case tasks.ByHand:
		return fmt.Errorf("%w: task %s of %s: %s", work.ErrParked, j.ID(), j.Kind(), reason)
	}
	return fmt.Errorf("%w: %w: task %s of %s: its worker does not know what became of it", fault.ErrUnknown, work.ErrParked, j.ID(), j.Kind())
}

// Cancel implements Class.
func (d *Queue) Cancel(j *work.Job) {
	q := d.q
	q.mu.Lock()
	defer q.unlock()
	e := q.known[j.ID()]
	if e == nil {
		return
	}
	if e.state == entryWaits {
		e.told(nil)
		q.forget(e)
		e.each(func(j *work.Job) { q.fail(j, fmt.Errorf("%w: task %s of %s", fault.ErrCancelled, e.id, j.Kind())) })
		return
	}
	e.cancelled = true
	q.sayCancel(e)
}

// sayCancel cancels a task. One that waits in the ledger for room is not known
// there yet: it is cancelled again once it was accepted.
func (q *queue) sayCancel(e *entry) {
	if q.session != 0 {
		q.say(nil, operation.Op{Verb: operation.VTask, A: operation.TaskCancel, Key: []byte(e.id)})
	}
}

// Find implements Class.
func (d *Queue) Find(ctx context.Context, j *work.Job) error {
	q := d.q
	s := &submission{single: true, left: 1, done: make(chan struct{})}
	q.mu.Lock()
	if err := q.left; err != nil {
		q.mu.Unlock()
		return err
	}
	if e := q.known[j.ID()]; e == nil {
		e = &entry{id: j.ID(), job: j, state: entryAccepted, sub: s}
		s.finds = e
		q.known[j.ID()] = e
		if q.session != 0 {
			q.watch(e)
		}
	} else {
		e.more = append(e.more, j)
		if e.state == entryAccepted && e.sub == nil {
			s.told(nil)
		} else {
			e.also = append(e.also, s)
		}
	}
	q.pump()
	q.unlock()
	_, err := q.accepted(ctx, s)
	return err
}

// watch asks to be told of the end of a task.
func (q *queue) watch(e *entry) {
	q.say(&watchAnswer{q, e, q.session}, operation.Op{Verb: operation.VWatch, A: operation.WatchOn, Key: []byte(e.id)})
	if e.cancelled {
		q.sayCancel(e)
	}
}

// watchAnswer takes up whether there is such a task.
type watchAnswer struct {
	q  *queue
	e  *entry
	of machine.Session
}

// Output implements client.Receiver.
func (w *watchAnswer) Output(o *operation.Output) bool {
	q, e := w.q, w.e
	q.mu.Lock()
	defer q.unlock()
	switch {
	case w.of != q.session || e.state != entryAccepted:
	case o.Code == machine.OK:
		e.told(nil)
	default:
		q.drop(e, fmt.Errorf("%w: %q of executor %q", work.ErrNoTask, e.id, q.name))
	}
	return true
}

// Lost implements client.Receiver: it is asked again in the next session.
func (w *watchAnswer) Lost() {}

// Await implements Class.
func (d *Queue) Await(ctx context.Context) error {
	q := d.q
	q.mu.Lock()
	if q.pending == 0 {
		q.mu.Unlock()
		return nil
	}
	if q.idle == nil {
		q.idle = make(chan struct{})
	}
	idle := q.idle
	q.mu.Unlock()
	return work.Await(ctx, idle)
}

// Close implements Class. What is not accepted yet still may be: whoever submits
// it waits for that.
func (d *Queue) Close(bool) int {
	d.closed.Store(true)
	return 0
}

// batchWatch waits for the end of a batch.
type batchWatch struct {
	q    *queue
	name string
	done func(work.BatchEnd)
	of   machine.Session
	req  uint64
}

// Batch implements Class.
func (d *Queue) Batch(_ context.Context, name string, done func(work.BatchEnd)) (stop func(), err error) {
	q := d.q
	b := &batchWatch{q: q, name: name, done: done}
	q.mu.Lock()
	defer q.unlock()
	if q.left != nil {
		return nil, q.left
	}
	q.batches[b] = struct{}{}
	if q.session != 0 {
		b.ask()
	}
	q.pump()
	return func() {
		q.mu.Lock()
		defer q.unlock()
		if _, ok := q.batches[b]; ok {
			delete(q.batches, b)
			if b.of == q.session && b.of != 0 {
				q.say(nil, operation.Op{Verb: operation.VAbandon, A: b.req})
			}
		}
	}, nil
}

// ask asks in the session of now.
func (b *batchWatch) ask() {
	b.of = b.q.session
	var err error
	if b.req, err = b.q.obj.Start(b.of, b, operation.Op{Verb: operation.VBatch, Key: []byte(b.name)}); err != nil {
		b.q.retry(err)
		b.of = 0
	}
}

// Output implements client.Receiver.
func (b *batchWatch) Output(o *operation.Output) bool {
	q := b.q
	q.mu.Lock()
	defer q.unlock()
	if _, ok := q.batches[b]; ok && o.Code != machine.Gone {
		delete(q.batches, b)
		end := work.BatchEnd{OK: int(o.Num), Failed: int(o.Aux)}
		if o.Code != machine.OK {
			end = work.BatchEnd{Err: fmt.Errorf("%w: batch %q of executor %q", fault.ErrInvalid, b.name, q.name)}
		}
		q.end(nil, func(*work.Job) { b.done(end) })
	}
	return true
}

// Lost implements client.Receiver: it is asked again in the next session.
func (b *batchWatch) Lost() {}
