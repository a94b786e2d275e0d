package tasks

import (
	"cmp"
	"math"
	"slices"

	"github.com/distgear/distgear/internal/machine"
)

// timer says that a task may have something to do at a time: when it is not
// delayed any more, at its deadline, when it is not kept any more. What has become
// of it is seen then.
type timer struct {
	when   int64
	number uint64
}

func (timer) At(int) {}

func (a timer) Before(b timer) bool {
	return a.when < b.when || a.when == b.when && a.number < b.number
}

// due tells when a task has something to do; 0: never.
func (m *Machine[V]) due(t *Task[V]) int64 {
	switch r := t.rare; {
	case t.State == Delayed && r != nil && r.deadline != 0:
		return min(t.Since, r.deadline)
	case t.State == Delayed:
		return t.Since
	case t.State == Ready && r != nil:
		return r.deadline
	case t.State == Ended && r != nil && r.retain != 0:
		return clip(t.Since, r.retain)
	default:
		return 0
	}
}

// arm sets the timer for what a task has to do next.
func (m *Machine[V]) arm(t *Task[V]) {
	if d := m.due(t); d != 0 {
		m.timers.Push(timer{d, t.Number})
	}
}

// prune drops what means nothing any more from the top of the timers, and all of it
// when that is most of them.
func (m *Machine[V]) prune() {
	for len(m.timers) > 0 && m.void(m.timers[0]) {
		m.timers.Pop()
	}
	if len(m.timers) > 2*(m.Len()+m.counts[Ended])+1024 {
		m.timers = slices.DeleteFunc(m.timers, m.void)
		slices.SortFunc(m.timers, func(a, b timer) int { return cmp.Or(cmp.Compare(a.when, b.when), cmp.Compare(a.number, b.number)) })
		m.timers = slices.Compact(m.timers)
	}
}

func (m *Machine[V]) void(e timer) bool {
	t := m.Numbered(e.number)
	return t == nil || m.due(t) != e.when
}

// Due is when Tick is wanted, in ms; 0: not until something else happens.
func (m *Machine[V]) Due() int64 {
	d := int64(math.MaxInt64)
	sooner := func(at int64) {
		if at != 0 {
			d = min(d, at)
		}
	}
	if len(m.timers) > 0 {
		m.prune()
		if len(m.timers) > 0 {
			sooner(m.timers[0].when)
		}
	}
	if n := m.retained.First(); n != nil {
		sooner(clip(n.Of.Since, m.retain()))
	}
	if len(m.over) > 0 {
		sooner(clip(m.over[0].since, m.retain()))
	}
	sooner(m.nextFire)
	sooner(m.turns.Due())
	if d == math.MaxInt64 {
		return 0
	}
	return d
}

// TickMost is how much one Tick does at most.
const TickMost = 4096

// Tick does what is due at now, at most TickMost of it: call it again while Due
// is not after now.
func (m *Machine[V]) Tick(out *Out[V], now int64) {
	m.Advance(now)
	left := TickMost
	for ; left > 0 && len(m.timers) > 0 && m.timers[0].when <= m.now; left-- {
		m.fire(out, m.timers.Pop())
	}
	left -= m.turns.Tick(left)
	for n := m.retained.First(); left > 0 && n != nil && clip(n.Of.Since, m.retain()) <= m.now; n = m.retained.First() {
		m.dropEnded(n.Of)
		left--
	}
	for ; left > 0 && len(m.over) > 0 && clip(m.over[0].since, m.retain()) <= m.now; left-- {
		m.forgetBatch()
	}
	m.fireSchedules(out)
	m.settle(out)
}

// fire does what is due of a task, if it still is.
func (m *Machine[V]) fire(out *Out[V], e timer) {
	t := m.Numbered(e.number)
	if t == nil {
		return
	}
	if d := m.due(t); d == 0 || d > m.now {
		return
	}
	late := t.State != Ended && t.rare != nil && t.rare.deadline != 0 && t.rare.deadline <= m.now
	switch {
	case t.State == Ended:
		m.dropEnded(t)
	case late:
		m.unqueue(t)
		m.end(out, t, t.before(), Late)
	default:
		m.counts[Delayed]--
		m.ready(t, t.Epoch > 0)
		m.arm(t)
	}
}

// batch is the tasks of one Spec.Batch.
type batch[V any] struct {
	name       string
	pending    int // tasks that have not ended, those in line included
	ok, failed int
	since      int64 // when the last one ended
	watchers   []machine.Who
}

// batchOver is a batch whose tasks have ended at a time; it may have got others since.
type batchOver struct {
	name  string
	since int64
}

func (m *Machine[V]) batch(name string) *batch[V] {
	b := m.batches[name]
	if b == nil {
		b = &batch[V]{name: name}
		m.batches[name] = b
	}
	return b
}

// leaveBatch notes that a task of a batch has ended.
func (m *Machine[V]) leaveBatch(out *Out[V], b *batch[V]) {
	if b.pending--; b.pending > 0 {
		return
	}
	for _, who := range b.watchers {
		m.batchEnd(out, who, b)
	}
	b.watchers, b.since = nil, m.now
	if m.over = append(m.over, batchOver{b.name, m.now}); len(m.over) > m.maxRetained() {
		m.forgetBatch()
	}
}

func (m *Machine[V]) batchEnd(out *Out[V], who machine.Who, b *batch[V]) {
	out.more(BatchEnd, who, More[V]{Text: b.name, OK: b.ok, Failed: b.failed})
}

// forgetBatch forgets the batch that was over first, if it still is.
func (m *Machine[V]) forgetBatch() {
	e := m.over[0]
	if m.over = m.over[1:]; len(m.over) == 0 {
		m.over = nil
	}
	if b := m.batches[e.name]; b != nil && b.pending == 0 && b.since == e.since {
		delete(m.batches, e.name)
	}
}

// WatchBatch tells who, once, when all tasks of a batch have ended that were
// submitted until then: at once if that is so, or nothing is known of the batch.
// Parked ones have not ended.
func (m *Machine[V]) WatchBatch(out *Out[V], who machine.Who, name string) {
	b := m.batches[name]
	switch {
	case b == nil:
		m.batchEnd(out, who, &batch[V]{name: name})
	case b.pending == 0:
		m.batchEnd(out, who, b)
	default:
		b.watchers = append(b.watchers, who)
	}
}

// UnwatchBatch takes a WatchBatch back; false: who does not watch one.
func (m *Machine[V]) UnwatchBatch(who machine.Who) bool {
	for _, b := range m.batches {
		if i := slices.Index(b.watchers, who); i >= 0 {
			b.watchers = slices.Delete(b.watchers, i, i+1)
			return true
		}
	}
	return false
}
