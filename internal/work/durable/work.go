package durable

import (
	"context"
	"encoding/binary"
	"maps"
	"slices"
	"time"

	"github.com/distgear/distgear/internal/fault"
	"github.com/distgear/distgear/internal/machine"
	"github.com/distgear/distgear/internal/machine/tasks"
	"github.com/distgear/distgear/internal/machine/words"
	"github.com/distgear/distgear/internal/operation"
	"github.com/distgear/distgear/internal/runner"
	"github.com/distgear/distgear/internal/wire"
	"github.com/distgear/distgear/internal/work"
)

const (
	// reporting is how many operations with reports may be unanswered.
	reporting = 2
	// linger is how long a report waits for others while there is more to do here: a
	// round of the ledger for each would take the time of what it is about. It is well
	// below what a worker has waiting (about 60 ms of work).
	linger = 20 * time.Millisecond
	// pace is how often the ledger is told of progress, at most.
	pace = 200 * time.Millisecond
)

// seat is a worker as the queue knows it.
type seat struct {
	q      *queue
	w      *work.Worker
	kinds  []string // that it offers
	slots  int
	leased int
}

// attempt is an attempt that was leased to this node.
type attempt struct {
	work.Attempt

	seat  *seat
	lease tasks.Lease
}

// reportList is reports that travel together.
type reportList struct {
	n   int
	val []byte
}

// advance is progress of an attempt.
type advance struct {
	lease       tasks.Lease
	done, total int64
}

// Join implements Class.
func (d *Queue) Join(w *work.Worker) (leave func(ctx context.Context)) {
	q := d.q
	o := w.Offer()
	s := &seat{q: q, w: w, kinds: o.Kinds, slots: max(o.Slots, 1)}
	stop := w.OnOffer(q.reoffer)
	q.mu.Lock()
	q.seats = append(q.seats, s)
	if len(q.seats) == 1 {
		q.room.Ledger.Busy(+1)
	}
	q.offered = false
	q.pump()
	q.unlock()
	return func(ctx context.Context) {
		stop()
		q.leave(ctx, s)
	}
}

// leave takes a seat away.
func (q *queue) leave(ctx context.Context, s *seat) {
	q.mu.Lock()
	q.seats = slices.DeleteFunc(slices.Clone(q.seats), func(x *seat) bool { return x == s })
	for number, a := range q.leases {
		if a.seat == s && s.w.TakeBack(&a.Attempt) {
			delete(q.leases, number)
			s.leased--
			q.giveBack(a.lease)
		}
	}
	q.offered = false
	q.pump()
	q.unlock()
	_ = s.w.Await(ctx)
	q.mu.Lock()
	settled := q.settled
	if settled == nil && q.telling+len(q.reports) > 0 {
		settled = make(chan struct{})
		q.settled = settled
	}
	q.unlock()
	if settled != nil {
		select {
		case <-settled:
		case <-ctx.Done():
		}
	}
	q.mu.Lock()
	if len(q.seats) == 0 {
		if q.session != 0 {
			q.say(nil, operation.Op{Verb: operation.VUnwork})
		}
		q.room.Ledger.Busy(-1)
	}
	q.unlock()
}

// reoffer tells the ledger what the workers here offer now.
func (q *queue) reoffer() {
	q.mu.Lock()
	q.offered = false
	q.pump()
	q.unlock()
}

// pumpOffer tells it unless the one before is on its way.
func (q *queue) pumpOffer() {
	if q.offered || q.offering {
		return
	}
	q.offered, q.offering = true, true
	o := q.offer()
	op := operation.Op{Verb: operation.VWork, Val: words.AppendOffer(nil, &o)}
	if _, err := q.obj.Start(q.session, &offerAnswer{q, q.session}, op); err != nil {
		q.offered, q.offering = false, false
		q.retry(err)
	}
}

// offer is what all workers here can do.
func (q *queue) offer() (o tasks.Offer) {
	for _, s := range q.seats {
		x := s.w.Offer()
		o.Slots, o.Prefetch, o.Bytes, o.Labels = o.Slots+x.Slots, o.Prefetch+x.Prefetch, max(o.Bytes, x.Bytes), x.Labels
		o.Kinds = append(o.Kinds, x.Kinds...)
	}
	slices.Sort(o.Kinds)
	o.Kinds = slices.Compact(o.Kinds)
	if len(o.Kinds) == 0 { // none would be any
		o.Slots, o.Prefetch = 0, 0
	}
	return o
}

type offerAnswer struct {
	q  *queue
	of machine.Session
}

// Output implements client.Receiver.
func (a *offerAnswer) Output(*operation.Output) bool {
	q := a.q
	q.mu.Lock()
	if a.of == q.session {
		q.offering = false
		q.pump()
	}
	q.unlock()
	return true
}

// Lost implements client.Receiver: it is told in the next session.
func (a *offerAnswer) Lost() {}

// unwork takes up that the leases of this node are over: what runs is cancelled,
// since another may do it; what has not started is dropped.
func (q *queue) unwork() {
	for _, a := range q.leases {
		if !a.seat.w.TakeBack(&a.Attempt) {
			a.Cancel(context.Canceled)
		}
		a.seat.leased = 0
	}
	clear(q.leases)
	clear(q.advances)
	if q.telling+len(q.reports) > 0 {
		q.room.Free()
	}
	q.reports, q.telling, q.back, q.offering, q.lingering = nil, 0, nil, false, false
}

// lease takes a lease up.
func (q *queue) lease(number uint64, b []byte) error {
	g, err := words.ParseGrant(number, b)
	if err != nil {
		return err
	}
	if old := q.leases[number]; old != nil { // the ledger took it back, and here it is again
		q.end(nil, func(*work.Job) { old.Cancel(context.Canceled) })
		old.seat.leased--
		delete(q.leases, number)
	}
	s := q.seat(g.Kind)
	if s == nil {
		q.giveBack(g.Lease)
		q.pump()
		return nil
	}
	a := &attempt{seat: s, lease: g.Lease}
	a.Context, a.Kind, a.Number, a.Timeout, a.To = &runner.Context{CommandKey: g.ID}, g.Kind, g.Attempt, g.Timeout, a
	q.leases[number] = a
	s.leased++
	if ref, ok := wire.ParseRef(string(g.Input)); ok {
		q.room.Pool.Go(&fetch{q: q, ref: ref, got: func(in []byte, err error) { a.fetched(in, err) }})
		return nil
	}
	a.Input = append([]byte(nil), g.Input...)
	q.put(a)
	return nil
}

// seat is who takes a task of a kind: who has the least.
func (q *queue) seat(kind string) (best *seat) {
	for _, s := range q.seats {
		if slices.Contains(s.kinds, kind) && (best == nil || s.leased*best.slots < best.leased*s.slots) {
			best = s
		}
	}
	return best
}

// put hands an attempt to its worker, or gives it back.
func (q *queue) put(a *attempt) {
	if !a.seat.w.Put(&a.Attempt) {
		delete(q.leases, a.lease.Number)
		a.seat.leased--
		q.giveBack(a.lease)
		q.pump()
	}
}

// fetched goes on with an attempt whose input was large.
func (a *attempt) fetched(in []byte, err error) {
	if err != nil {
		rep := fault.NeverRan(err, 0)
		a.Reported(nil, &rep)
		return
	}
	q := a.seat.q
	q.mu.Lock()
	if q.leases[a.lease.Number] == a {
		a.Input = in
		q.put(a)
	}
	q.unlock()
}

// recall takes up Recall and Stop.
func (q *queue) recall(code tasks.Code, b []byte) error {
	ls, err := words.ParseLeases(b)
	var kept []byte
	for _, l := range ls {
		a := q.leases[l.Number]
		switch {
		case a == nil || a.lease != l: // its report is on its way
		case code == tasks.Stop && a.seat.w.TakeBack(&a.Attempt): // it did not start
			q.end(nil, func(*work.Job) {
				rep := fault.NeverRan(fault.ErrCancelled, fault.Cancelled)
				a.Reported(nil, &rep)
			})
		case code == tasks.Stop:
			a.Cancel(context.Canceled)
		case a.seat.w.TakeBack(&a.Attempt):
			delete(q.leases, l.Number)
			a.seat.leased--
			q.giveBack(l)
		default:
			kept = words.AppendLease(kept, l)
		}
	}
	if len(kept) > 0 {
		q.say(nil, operation.Op{Verb: operation.VGiveBack, A: 1, Val: kept})
	}
	q.pump()
	return err
}

// giveBack notes a lease that did not start.
func (q *queue) giveBack(l tasks.Lease) { q.back = words.AppendLease(q.back, l) }

// Reported implements work.Reporter.
func (a *attempt) Reported(_ *work.Attempt, rep *wire.Report) {
	q, l := a.seat.q, a.lease
	if rep.Outcome == wire.OK && len(rep.Payload) > inline {
		payload := append([]byte(nil), rep.Payload...)
		q.room.Pool.Go(&store{q: q, id: a.CommandKey, epoch: l.Epoch, payload: payload, put: func(val []byte, err error) {
			r := tasks.Report[[]byte]{Lease: l, Outcome: tasks.OK, Val: val}
			if err != nil {
				failed := fault.Report(err) // what was done is known no more
				r = q.report(l, &failed)
			}
			a.report(&r)
		}})
		return
	}
	r := q.report(l, rep)
	if work.GivenBack(rep) {
		a.report(nil)
		return
	}
	a.report(&r)
}

// report is a report as the ledger has it.
func (q *queue) report(l tasks.Lease, rep *wire.Report) tasks.Report[[]byte] {
	r := tasks.Report[[]byte]{Lease: l, Outcome: tasks.Outcome(rep.Outcome), Val: rep.Payload}
	if e := rep.Error; e != nil {
		r.Permanent, r.After, r.Message = e.Flags&fault.Permanent != 0, int64(e.AfterMS), e.Message
		r.Val = appendFailure(q.room.Node, e)
	}
	return r
}

// report tells the ledger; nil gives the lease back.
func (a *attempt) report(r *tasks.Report[[]byte]) {
	q := a.seat.q
	q.mu.Lock()
	defer q.unlock()
	if q.leases[a.lease.Number] != a {
		return // its session is over, or it was leased again
	}
	delete(q.leases, a.lease.Number)
	delete(q.advances, a.lease.Number)
	a.seat.leased--
	if r == nil {
		q.giveBack(a.lease)
		q.pump()
		return
	}
	if q.telling+len(q.reports) == 0 {
		q.room.Hold() // whoever leaves waits for it; it cannot fail while an attempt runs, and matters no more when it does
	}
	n := len(q.reports)
	if n == 0 || q.reports[n-1].n == maxTasks || len(q.reports[n-1].val) >= maxBytes {
		q.reports = append(q.reports, reportList{})
		n++
	}
	last := &q.reports[n-1]
	last.val = words.AppendReport(last.val, r)
	last.n++
	if len(q.leases) > q.slots() && last.n < maxTasks && len(q.reports) == 1 {
		if !q.lingering {
			q.lingering = true
			if q.lingers == nil {
				q.lingers = time.AfterFunc(linger, q.lingered)
			} else {
				q.lingers.Reset(linger)
			}
		}
		return
	}
	q.lingering = false
	q.pump()
}

// slots is how many tasks run here at once.
func (q *queue) slots() (n int) {
	for _, s := range q.seats {
		n += s.slots
	}
	return n
}

// lingered sends the reports that have waited.
func (q *queue) lingered() {
	q.mu.Lock()
	q.lingering = false
	q.pump()
	q.unlock()
}

// pumpReports sends reports and what is given back.
func (q *queue) pumpReports() {
	if len(q.back) > 0 {
		q.say(nil, operation.Op{Verb: operation.VGiveBack, Val: q.back})
		q.back = nil
	}
	for q.telling < reporting && len(q.reports) > 0 && !q.lingering {
		if _, err := q.obj.Start(q.session, &reportAnswer{q, q.session}, operation.Op{Verb: operation.VDone, Val: q.reports[0].val}); err != nil {
			q.retry(err)
			return
		}
		q.telling++
		q.reports = slices.Delete(q.reports, 0, 1)
	}
}

type reportAnswer struct {
	q  *queue
	of machine.Session
}

// Output implements client.Receiver.
func (a *reportAnswer) Output(*operation.Output) bool {
	q := a.q
	q.mu.Lock()
	if a.of == q.session {
		if q.telling--; q.telling+len(q.reports) == 0 {
			q.room.Free()
		}
		q.pump()
	}
	q.unlock()
	return true
}

// Lost implements client.Receiver: what was reported may be in the ledger, or
// another does the task again.
func (a *reportAnswer) Lost() {}

// Advanced implements work.Reporter.
func (a *attempt) Advanced(_ *work.Attempt, done, total int64) {
	q := a.seat.q
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.leases[a.lease.Number] != a {
		return
	}
	q.advances[a.lease.Number] = advance{a.lease, done, total}
	if q.pacing {
		return
	}
	q.pacing = true
	if q.pacer == nil {
		q.pacer = time.AfterFunc(0, q.advance)
	} else {
		q.pacer.Reset(0)
	}
}

// advance tells of progress, and again after a while if there is more.
func (q *queue) advance() {
	q.mu.Lock()
	defer q.unlock()
	if len(q.advances) == 0 || q.session == 0 || q.ctx.Err() != nil {
		q.pacing = false
		return
	}
	var b []byte
	for _, n := range slices.Sorted(maps.Keys(q.advances)) {
		x := q.advances[n]
		b = words.AppendProgress(b, x.lease, x.done, x.total)
	}
	clear(q.advances)
	q.say(nil, operation.Op{Verb: operation.VProgress, Val: b})
	q.pacer.Reset(pace)
}

// maxFailure is how many bytes of a failure are kept in the ledger.
const maxFailure = 64 << 10

// appendFailure is a failure as a task's value: where it was, and the error.
func appendFailure(node string, e *wire.Error) []byte {
	if len(e.Stack) > maxFailure {
		x := *e
		x.Stack = fault.Clip(e.Stack)
		e = &x
	}
	b := binary.AppendUvarint(nil, uint64(len(node)))
	return wire.AppendError(append(b, node...), e)
}

// parseFailure reads it.
func parseFailure(b []byte) (node string, e *wire.Error) {
	if n, k := binary.Uvarint(b); k > 0 && n <= uint64(len(b)-k) {
		node, b = string(b[k:k+int(n)]), b[k+int(n):]
		if e, err := wire.ParseError(b); err == nil {
			return node, e
		}
	}
	return "", &wire.Error{Message: "it failed, and what it said cannot be read"}
}
