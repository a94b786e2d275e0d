package work

import (
	"context"
	"fmt"

	"github.com/distgear/distgear/internal/fault"
	"github.com/distgear/distgear/internal/machine"
	"github.com/distgear/distgear/internal/machine/tasks"
	"github.com/distgear/distgear/internal/runner"
	"github.com/distgear/distgear/internal/wire"
)

// bench is a worker as the queue sees it.
type bench struct {
	f       *Fast
	session machine.Session
	here    *Worker // nil: elsewhere
	stop    func()  // listening to its offers

	life    *life // of the node where it is
	offer   tasks.Offer
	prefix  string            // of the kinds of commands to it
	kinds   map[string]string // those kinds, by action
	stalled bool              // too much is on its way there: nothing more until a report comes
}

// carryOut does what the machine wants, with mu held. What it wants next, because
// of that, comes last.
func (f *Fast) carryOut() {
	for i := 0; i < len(f.out.Effects); i++ {
		e := &f.out.Effects[i]
		switch e.Code {
		case tasks.Run:
			f.lease(e.To.Session, e.Task.Val, e.Lease)
		case tasks.Recall:
			if e.Task.Epoch == e.Lease.Epoch {
				f.recall(e.Task.Val)
			}
		case tasks.Stop:
			f.stop(e.Task.Val, e.Lease)
		case tasks.Finished:
			f.finished(e.Task)
		case tasks.Accepted:
			if w := f.waits[e.To.Req]; w != nil {
				delete(f.waits, e.To.Req)
				f.taken(w.jobs[w.in:])
				w.in = len(w.jobs)
				close(w.done)
			}
		case tasks.BatchEnd:
			if done := f.batches[e.To.Req]; done != nil {
				delete(f.batches, e.To.Req)
				end := BatchEnd{OK: e.OK, Failed: e.Failed}
				f.batchOver(e.Text, func() { done(end) })
			}
		}
	}
	f.out.Reset()
}

// nothing is the offer of who takes nothing now. No action has that name.
func nothing() tasks.Offer { return tasks.Offer{Kinds: []string{"\n"}} }

// lease hands a task to a worker.
func (f *Fast) lease(s machine.Session, j *Job, l tasks.Lease) {
	b := f.benches[s]
	if b == nil {
		f.m.GiveBack(&f.out, s, []tasks.Lease{l})
		return
	}
	j.last = nil
	if b.here == nil {
		b.send(j, l)
		return
	}
	if f.adopt {
		j.now, j.first.epoch = &j.first, l.Epoch
		return
	}
	a := &j.first
	if l.Epoch == 1 {
		a.Context = &j.ctx
	} else {
		a = &Attempt{Context: &runner.Context{}} // actions may have kept the one before
	}
	a.Kind, a.Number, a.Timeout, a.From = j.spec.Kind, uint32(j.task.Attempts)+1, j.spec.Timeout, f.room.Node
	a.To, a.name, a.epoch, a.job = b, name{f.origin, l.Number}, l.Epoch, j
	a.CommandKey = j.id
	j.now = a
	if !b.here.Put(a) { // it closes: its offer will say so, soon
		j.now = nil
		f.m.Work(&f.out, s, nothing())
		f.m.GiveBack(&f.out, s, []tasks.Lease{l})
	}
}

// recall asks for what has not started, and tells how many tasks it ended.
func (f *Fast) recall(j *Job) int {
	switch {
	case j.away != nil:
		return j.away.recall()
	case j.now != nil && j.now.worker.TakeBack(j.now):
		b := j.now.To.(*bench) //nolint:forcetypeassert // as lease made it
		l := tasks.Lease{Number: j.task.Number, Epoch: j.now.epoch}
		j.now = nil
		return f.givenBack(b, j, l)
	}
	return 0
}

// givenBack takes a lease back that did not start.
func (f *Fast) givenBack(b *bench, j *Job, l tasks.Lease) int {
	if f.dropped {
		j.why = f.closed
		_ = f.m.Cancel(&f.out, &j.task)
	}
	f.m.GiveBack(&f.out, b.session, []tasks.Lease{l})
	if f.dropped {
		return 1
	}
	return 0
}

// stop cancels what runs under a lease.
func (f *Fast) stop(j *Job, l tasks.Lease) {
	switch {
	case j.away != nil && j.away.lease == l:
		x := j.away
		x.recall() // it may wait there for long
		x.cancel()
	case j.now != nil && j.now.epoch == l.Epoch:
		now := j.now
		f.recall(j)
		now.Cancel(context.Canceled)
	}
}

// Reported implements Reporter, for attempts here.
func (b *bench) Reported(a *Attempt, rep *wire.Report) {
	f, j := b.f, a.job
	f.mu.Lock()
	f.gather()
	if j.now == a {
		j.now = nil
	}
	f.reported(b, j, tasks.Lease{Number: a.name.number, Epoch: a.epoch}, rep, f.room.Node, a.values)
	f.unlock()
}

// Advanced implements Reporter, for attempts here.
func (b *bench) Advanced(a *Attempt, done, total int64) { a.job.Advance(done, total) }

// reported takes a report in, with mu held. values: the body has the result. False: it is
// stale, or the task was given back.
func (f *Fast) reported(b *bench, j *Job, l tasks.Lease, rep *wire.Report, node string, values bool) bool {
	if j.task.Epoch != l.Epoch || j.task.State != tasks.Leased {
		return false
	}
	f.m.Advance(f.now())
	if GivenBack(rep) || b.here == nil && j.why == nil && j.spec.Idempotent && rep.Error != nil && rep.Error.Flags&fault.Cancelled != 0 {
		f.givenBack(b, j, l) // cancelled by its node, whose session lapsed or which ends: nobody here wanted that
		return false
	}
	r := tasks.Report[*Job]{Lease: l, Outcome: tasks.Outcome(rep.Outcome), Val: j}
	if rep.Outcome != wire.OK || !values {
		j.last = &report{*rep, node}
	}
	if e := rep.Error; e != nil {
		r.Permanent, r.After, r.Message = e.Flags&fault.Permanent != 0, int64(e.AfterMS), e.Message
	}
	f.reports[0] = r
	f.m.Done(&f.out, b.session, f.reports[:])
	f.reports[0] = tasks.Report[*Job]{}
	return true
}

// finished notes that a task has ended, or is parked: nobody would look after it
// here, so that is its end too.
func (f *Fast) finished(t *tasks.Task[*Job]) {
	j := t.Val
	if j.gone {
		return // a second handle watches it again
	}
	j.gone = true
	switch {
	case t.State == tasks.Parked:
		j.last, j.why = nil, f.parked(t)
		_ = f.m.Cancel(&f.out, t)
	case t.Outcome == tasks.OK:
		j.why = nil
		f.expect(j)
	case t.Cause == tasks.Late:
		j.last, j.why = nil, fault.Marked(fmt.Errorf("%w: task %s of %s: no worker was free before its deadline", fault.ErrQueueTimeout, j.ID(), j.spec.Kind), fault.Mark{NeverRan: true})
	case j.last == nil && j.why == nil:
		j.why = fmt.Errorf("%w: task %s of %s", fault.ErrUnknown, j.ID(), j.spec.Kind)
	}
	if j.counted {
		f.pending--
	}
	f.ended = append(f.ended, j)
}

// parked is why a task failed that would wait for a person.
func (f *Fast) parked(t *tasks.Task[*Job]) error {
	j := t.Val
	switch t.Cause {
	case tasks.Poisonous:
		return fmt.Errorf("%w: task %s of %s: each worker that had it was lost: it may be what ends them", fault.ErrUnknown, j.ID(), j.spec.Kind)
	case tasks.Lost:
		return fmt.Errorf("%w: task %s of %s: its worker was lost, and the action is not idempotent", fault.ErrUnknown, j.ID(), j.spec.Kind)
	}
	return fmt.Errorf("%w: task %s of %s: %s", ErrParked, j.ID(), j.spec.Kind, t.Reason())
}
