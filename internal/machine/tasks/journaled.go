package tasks

import (
	"github.com/distgear/distgear/internal/machine"
	"github.com/distgear/distgear/internal/machine/words"
)

// What follows is for tasks whose workers keep a journal with the host: the runs
// of durable events. Their leases are given back with what they wait for.

// Observe says whether somebody wants to know what becomes of tasks: Moved. It is no part of
// the state.
func (m *Machine[V]) Observe(on bool) { m.observed = on }

// moved tells what has become of a task. s is its worker, or was.
func (m *Machine[V]) moved(out *Out[V], t *Task[V], s machine.Session, what string) {
	if m.observed {
		out.Effects = append(out.Effects, Effect[V]{Code: Moved, To: machine.Who{Session: s}, Task: t, More: &More[V]{Text: what}})
	}
}

// Held is the task of a lease that a session has; nil: the lease is stale.
func (m *Machine[V]) Held(s machine.Session, l Lease) *Task[V] { return m.leased(s, l) }

// Proven notes that the worker of a task gets on with it: workers that were lost
// with it before do not count.
func (t *Task[V]) Proven() { t.losses = 0 }

// Suspend takes the lease of a task back until a time; 0: until Wake.
func (m *Machine[V]) Suspend(out *Out[V], t *Task[V], until int64) {
	m.moved(out, t, t.Worker(), Rested)
	m.unlease(t)
	if until == 0 {
		until = words.MaxTime
	}
	m.delay(t, min(until, words.MaxTime))
	m.settle(out)
}

// Wake makes a task ready that is delayed. Others stay as they are.
func (m *Machine[V]) Wake(out *Out[V], t *Task[V]) {
	if t.State != Delayed {
		return
	}
	m.counts[Delayed]--
	m.ready(t, true)
	m.arm(t)
	m.pump(out)
}

// SetAside parks a leased task, as its worker says.
func (m *Machine[V]) SetAside(out *Out[V], t *Task[V], o Outcome, reason string) {
	m.note(t, o, false, reason)
	m.unlease(t)
	m.park(out, t, ByHand)
	t.more().reason = words.Short(reason)
	m.settle(out)
}

// Again leases a task once more that has ended OK, or as it may be: what it did is
// to be undone.
func (m *Machine[V]) Again(out *Out[V], t *Task[V]) error {
	if t.State != Ended {
		return ErrNotRetried
	}
	m.list(t).Remove(&t.Node)
	m.counts[Ended]--
	m.ready(t, false)
	m.arm(t)
	m.pump(out)
	return nil
}

// Terminate ends a task whatever its state; what its worker reports later is
// stale. ErrEnded.
func (m *Machine[V]) Terminate(out *Out[V], t *Task[V], reason string) error {
	switch t.State {
	case Ended:
		return ErrEnded
	case Leased:
		m.stop(out, t)
		m.note(t, Unknown, false, reason)
		m.unlease(t)
	case Parked:
		m.counts[Parked]--
	default:
		m.unqueue(t)
	}
	t.more().reason = words.Short(reason)
	m.end(out, t, Dirty, ByHand)
	m.settle(out)
	return nil
}
