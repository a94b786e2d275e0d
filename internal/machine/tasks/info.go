package tasks

import (
	"strings"

	"github.com/distgear/distgear/internal/machine"
)

// Len is how many tasks there are that have not ended, without those in line.
func (m *Machine[V]) Len() int {
	return m.counts[Delayed] + m.counts[Ready] + m.counts[Leased] + m.counts[Parked]
}

// Last is the number of the last task.
func (m *Machine[V]) Last() uint64 { return m.last }

// maxUnserved is how many actions Stats names.
const maxUnserved = 16

// Stats counts. It looks at every key that has something ready.
func (m *Machine[V]) Stats() Stats {
	w := m.turns.Stats()
	s := Stats{
		Line: m.line.tasks, Delayed: m.counts[Delayed], Ready: m.counts[Ready], Leased: m.counts[Leased], Parked: m.counts[Parked], Ended: m.counts[Ended],
		Workers: w.Workers, Slots: w.Slots, Quiet: w.Quiet, Total: m.total, Paused: m.paused, Schedules: len(m.schedules),
		Unserved: w.Unserved[:min(len(w.Unserved), maxUnserved)],
	}
	for n := range m.turns.Heads() {
		if at := n.Of.Submitted; s.Oldest == 0 || at < s.Oldest {
			s.Oldest = at
		}
	}
	return s
}

// Total is how many tasks have ended since the executor began.
func (m *Machine[V]) Total() uint64 { return m.total }

// Works tells whether a session is a worker.
func (m *Machine[V]) Works(s machine.Session) bool {
	works, _ := m.turns.Works(s)
	return works
}

// Workers are the workers, by session.
func (m *Machine[V]) Workers() []WorkerStats { return m.turns.Workers() }

// Idle tells that there is nothing that anybody could miss: no task, no schedule,
// nobody who works or waits, no pause, and the limits of New.
func (m *Machine[V]) Idle() bool {
	return m.Len()+m.counts[Ended]+m.line.tasks+m.turns.Stats().Workers+len(m.schedules)+len(m.batches) == 0 && m.line.head == nil && !m.limits && m.paused == ""
}

// Filter says which tasks a Page has. Zero fields are not asked for.
type Filter struct {
	State  State
	Kind   string
	Key    string
	Prefix string // of the ID
}

// PageLook is how many tasks a Page looks at, for each that it may have.
const PageLook = 100

// Page is the first tasks after the number cursor, by number, at most n; next is the cursor
// of the next page, 0: there is none. It looks at PageLook tasks for each of n at most: a page may
// have fewer than n and others follow.
func (m *Machine[V]) Page(f Filter, cursor uint64, n int) (ts []*Task[V], next uint64) {
	looked := 0
	for _, at := range m.numbers.from(cursor + 1) {
		for _, t := range m.numbers.chunks[at].tasks {
			if t == nil || t.Number <= cursor {
				continue
			}
			if looked == PageLook*n || len(ts) == n {
				return ts, cursor
			}
			looked++
			cursor = t.Number
			if (f.State == 0 || t.State == f.State) && (f.Kind == "" || t.Kind() == f.Kind) && (f.Key == "" || t.Key() == f.Key) && strings.HasPrefix(t.ID, f.Prefix) {
				ts = append(ts, t)
			}
		}
	}
	return ts, 0
}

// Kind is the action.
func (t *Task[V]) Kind() string { return t.Class().Kind }

// Labels are what the worker must have; see Spec.
func (t *Task[V]) Labels() string { return t.Class().Labels }

// Batch is the name of its batch; empty: none.
func (t *Task[V]) Batch() string {
	if t.rare == nil {
		return ""
	}
	return t.rare.batchName
}

// Deadline is its deadline, ms; 0: none.
func (t *Task[V]) Deadline() int64 {
	if t.rare == nil {
		return 0
	}
	return t.rare.deadline
}

// Failure is what the last failed report had as Val; false: there was none.
func (t *Task[V]) Failure() (v V, ok bool) {
	if t.rare == nil || !t.rare.failed {
		return v, false
	}
	return t.rare.failure, true
}

// Reason is why a person parked it.
func (t *Task[V]) Reason() string {
	if t.rare == nil {
		return ""
	}
	return t.rare.reason
}

// Progress is what was noted last.
func (t *Task[V]) Progress() (done, total int64) {
	if t.rare == nil {
		return 0, 0
	}
	return t.rare.done, t.rare.total
}

// History is its last attempts that failed or were lost, at most 16, oldest first. The
// caller does not keep it.
func (t *Task[V]) History() []Attempt {
	if t.rare == nil {
		return nil
	}
	return t.rare.history
}
