package tasks

import (
	"slices"

	"github.com/distgear/distgear/internal/machine"
	"github.com/distgear/distgear/internal/machine/assign"
	"github.com/distgear/distgear/internal/machine/words"
)

type flags uint8

// What is to be remembered of a lease.
const (
	cancelled flags = 1 << iota // the report ends the task
	parking                     // the report parks it
)

// rare is what most tasks have not.
type rare[V any] struct {
	batch       *batch[V] // it counts for this one; nil: for none
	batchName   string
	deadline    int64
	retain      int64
	watchers    []machine.Session // besides Task.watch
	history     []Attempt
	failure     V
	failed      bool // failure is something
	done, total int64
	reason      string
}

func (t *Task[V]) more() *rare[V] {
	if t.rare == nil {
		t.rare = &rare[V]{}
	}
	return t.rare
}

// maxHistory is how many attempts are kept.
const maxHistory = 16

// note keeps an attempt that failed or was lost: the one of its lease.
func (m *Machine[V]) note(t *Task[V], o Outcome, lost bool, message string) {
	r := t.more()
	if len(r.history) == maxHistory {
		r.history = slices.Delete(r.history, 0, 1)
	}
	r.history = append(r.history, Attempt{Worker: t.Worker(), Began: t.Since, Ended: m.now, Outcome: o, Lost: lost, Message: words.Short(message)})
}

// before is what became of the last attempt.
func (t *Task[V]) before() Outcome {
	if t.rare == nil || len(t.rare.history) == 0 {
		return NeverRan
	}
	return t.rare.history[len(t.rare.history)-1].Outcome
}

// Done takes reports in, and tells how many of them were stale: they change nothing.
// With OK the task's value becomes the report's.
func (m *Machine[V]) Done(out *Out[V], s machine.Session, rs []Report[V]) (stale int) {
	for i := range rs {
		r := &rs[i]
		if t := m.leased(s, r.Lease); t != nil {
			m.report(out, t, r)
		} else {
			stale++
		}
	}
	m.heard(s)
	m.settle(out)
	return stale
}

func (m *Machine[V]) report(out *Out[V], t *Task[V], r *Report[V]) {
	flags := t.flags
	if r.Outcome != OK {
		m.note(t, r.Outcome, false, r.Message)
	}
	m.unlease(t)
	if t.Attempts++; t.Attempts == 0 {
		t.Attempts--
	}
	t.Outcome = r.Outcome
	if r.Outcome == OK {
		t.Val = r.Val
		m.end(out, t, OK, Reported)
		return
	}
	more := t.more()
	more.failure, more.failed = r.Val, true
	idempotent := t.Idempotent()
	switch {
	case flags&cancelled != 0:
		m.end(out, t, r.Outcome, Cancelled)
	case flags&parking != 0:
		m.park(out, t, ByHand)
	case r.Outcome == Unknown && !idempotent:
		m.park(out, t, Lost)
	case r.Permanent, t.Attempts > t.Retries, r.Outcome == Dirty && !idempotent:
		m.end(out, t, r.Outcome, Reported)
	default:
		m.delay(t, clip(m.now, backoff(t.Number, t.Attempts, r.After)))
	}
}

// delay lets a task wait for another attempt.
func (m *Machine[V]) delay(t *Task[V], until int64) {
	t.State, t.Since = Delayed, until
	m.counts[Delayed]++
	m.arm(t)
}

// requeue makes a task ready whose lease is over, in front, unless its deadline is over.
func (m *Machine[V]) requeue(out *Out[V], t *Task[V]) {
	if r := t.rare; r != nil && r.deadline != 0 && r.deadline <= m.now {
		m.end(out, t, t.before(), Late)
		return
	}
	m.ready(t, true)
	m.arm(t)
}

// The backoff of another attempt, ms: as internal/plan has it.
const (
	firstBackoff = 50
	mostBackoff  = 5000
)

// backoff is how long to wait after an attempt: what it asked for, or twice as long
// as after the one before, half of it by chance. The machine is pure, so chance is a function
// of the task and the attempt.
func backoff(number uint64, attempt uint16, after int64) int64 {
	if after > 0 {
		return after
	}
	d := int64(mostBackoff)
	if attempt <= 7 {
		d = min(d, firstBackoff<<(max(attempt, 1)-1))
	}
	return d/2 + int64(mix(number<<16|uint64(attempt))%uint64(d-d/2+1))
}

// mix scatters numbers: the finaliser of splitmix64.
func mix(x uint64) uint64 {
	x += 0x9E3779B97F4A7C15
	x = (x ^ x>>30) * 0xBF58476D1CE4E5B9
	x = (x ^ x>>27) * 0x94D049BB133111EB
	return x ^ x>>31
}

// GiveBack takes back what has not started. Stale leases change nothing.
func (m *Machine[V]) GiveBack(out *Out[V], s machine.Session, ls []Lease) {
	for _, l := range slices.Backward(ls) { // each in front of those after it
		t := m.leased(s, l)
		if t == nil {
			continue
		}
		flags := t.flags
		m.unlease(t)
		switch {
		case flags&cancelled != 0:
			m.end(out, t, NeverRan, Cancelled)
		case flags&parking != 0:
			m.park(out, t, ByHand)
		default:
			m.requeue(out, t)
		}
	}
	m.heard(s)
	m.settle(out)
}

// Progress notes how far an attempt is, and tells who watches.
func (m *Machine[V]) Progress(out *Out[V], s machine.Session, l Lease, done, total int64) {
	if t := m.leased(s, l); t != nil {
		t.more().done, t.rare.total = done, total
		m.tell(out, t, Advanced)
	}
}

// Cancel ends a task: at once if it is not leased; otherwise its worker is told to
// stop, and it ends with what that reports. ErrEnded.
func (m *Machine[V]) Cancel(out *Out[V], t *Task[V]) error {
	switch t.State {
	case Ended:
		return ErrEnded
	case Leased:
		if t.flags&cancelled == 0 {
			m.stop(out, t)
			t.flags |= cancelled
			t.Keep()
		}
		return nil
	case Parked:
		m.counts[Parked]--
		m.end(out, t, t.Outcome, Cancelled)
	default:
		m.unqueue(t)
		m.end(out, t, t.before(), Cancelled)
	}
	m.settle(out)
	return nil
}

// stop tells the worker of a task to cancel it, unless it was told.
func (m *Machine[V]) stop(out *Out[V], t *Task[V]) {
	if t.flags&(cancelled|parking) == 0 {
		out.tell(Stop, t.Worker(), t)
	}
}

// unqueue takes a task out that is ready or delayed.
func (m *Machine[V]) unqueue(t *Task[V]) {
	if t.State == Ready {
		m.turns.Unready(&t.Node)
	}
	m.counts[t.State]--
}

// Retry makes a task ready that is parked or failed, as if it were new; its
// history and deadline stay, but a deadline that is over is void. ErrNotRetried.
func (m *Machine[V]) Retry(out *Out[V], t *Task[V]) error {
	switch {
	case t.State == Parked:
		m.counts[Parked]--
	case t.State == Ended && t.Outcome != OK:
		m.list(t).Remove(&t.Node)
		m.counts[Ended]--
		if r := t.rare; r != nil && r.batchName != "" {
			if b := m.batches[r.batchName]; b != nil && b.pending > 0 { // one that is over stays so
				b.failed = max(b.failed-1, 0)
				b.pending++
				r.batch = b
			}
		}
	default:
		return ErrNotRetried
	}
	t.Attempts, t.losses, t.Cause = 0, 0, Reported
	if r := t.rare; r != nil {
		if r.reason = ""; r.deadline <= m.now {
			r.deadline = 0
		}
	}
	m.ready(t, false)
	m.arm(t)
	m.pump(out)
	return nil
}

// Park keeps a task from being leased until somebody retries or cancels it. The
// worker of one that is leased is told to stop; it is parked by its report, unless
// that is OK. ErrEnded.
func (m *Machine[V]) Park(out *Out[V], t *Task[V], reason string) error {
	switch t.State {
	case Ended:
		return ErrEnded
	case Leased:
		m.stop(out, t)
		t.flags |= parking
		t.Keep()
	case Parked:
	default:
		m.unqueue(t)
		m.park(out, t, ByHand)
	}
	t.more().reason = words.Short(reason)
	m.pump(out)
	return nil
}

func (m *Machine[V]) park(out *Out[V], t *Task[V], why Cause) {
	t.State, t.Outcome, t.Cause, t.Since = Parked, t.before(), why, m.now
	m.counts[Parked]++
	m.moved(out, t, 0, SetApart)
	m.tell(out, t, Finished) // who watches goes on: a person may decide, and it ends then
}

// end ends a task that is in no list any more.
func (m *Machine[V]) end(out *Out[V], t *Task[V], o Outcome, why Cause) {
	t.State, t.Outcome, t.Cause, t.Since = Ended, o, why, m.now
	m.total++
	m.moved(out, t, 0, IsOver)
	m.finished(out, t)
	if r := t.rare; r != nil && r.batch != nil {
		if o == OK {
			r.batch.ok++
		} else {
			r.batch.failed++
		}
		m.leaveBatch(out, r.batch)
		r.batch = nil
	}
	if t.ID == "" {
		m.forget(t)
		return
	}
	m.counts[Ended]++
	m.list(t).Push(&t.Node)
	m.arm(t)
	m.evict()
}

// finished tells who watches, and nobody watches any more.
func (m *Machine[V]) finished(out *Out[V], t *Task[V]) {
	m.tell(out, t, Finished)
	if t.watch = 0; t.rare != nil {
		t.rare.watchers = nil
	}
}

// forget drops a task that has ended and is in no list. What an effect says of it can still be read.
func (m *Machine[V]) forget(t *Task[V]) {
	m.numbers.remove(t.Number)
	if t.ID != "" {
		delete(m.ids, t.ID)
	}
	m.turns.Leave(&t.Node)
}

// list is where an ended task is kept.
func (m *Machine[V]) list(t *Task[V]) *assign.List[Task[V]] {
	if t.rare != nil && t.rare.retain != 0 {
		return &m.kept
	}
	return &m.retained
}

func (m *Machine[V]) dropEnded(t *Task[V]) {
	m.list(t).Remove(&t.Node)
	m.counts[Ended]--
	m.forget(t)
}

func (m *Machine[V]) retain() int64 {
	if m.lim.Retain > 0 {
		return m.lim.Retain
	}
	return 60_000
}

func (m *Machine[V]) maxRetained() int {
	if m.lim.MaxRetained > 0 {
		return m.lim.MaxRetained
	}
	return 100_000
}

// evict drops what ended first, if more is kept than may be.
func (m *Machine[V]) evict() {
	for m.counts[Ended] > m.maxRetained() {
		n := m.retained.First()
		if k := m.kept.First(); n == nil || k != nil && k.Of.Since < n.Of.Since {
			n = k
		}
		m.dropEnded(n.Of)
	}
}
