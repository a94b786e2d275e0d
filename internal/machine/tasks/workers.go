package tasks

import "github.com/distgear/distgear/internal/machine"

// Work says what a worker can do from now on. One that was quiet is not any more.
func (m *Machine[V]) Work(out *Out[V], s machine.Session, o Offer) {
	m.heard(s)
	m.turns.Work(s, o)
	m.pump(out)
}

// Kept answers Recalls of what has started already: it goes on.
func (m *Machine[V]) Kept(out *Out[V], s machine.Session, ls []Lease) {
	for _, l := range ls {
		if t := m.leased(s, l); t != nil {
			m.turns.Kept(&t.Node)
		}
	}
	m.pump(out)
}

// Heard ends Quiet.
func (m *Machine[V]) Heard(out *Out[V], s machine.Session) {
	if m.heard(s) {
		m.pump(out)
	}
}

// heard tells whether a worker was quiet: it was no loss after all.
func (m *Machine[V]) heard(s machine.Session) bool {
	had, ok := m.quiet[s]
	if !ok {
		return false
	}
	for _, n := range had {
		if t := m.Numbered(n); t != nil && t.State < Parked && t.losses > 0 {
			t.losses--
		}
	}
	delete(m.quiet, s)
	m.turns.Hush(s, false)
	return true
}

// Quiet says that nothing was heard of a session for a while: its idempotent
// tasks are leased again, and it is leased nothing until Heard, Work, Done or
// GiveBack. Stop tells it of each. node is for the history.
func (m *Machine[V]) Quiet(out *Out[V], s machine.Session, node string) {
	if works, quiet := m.turns.Works(s); !works || quiet {
		return
	}
	m.turns.Hush(s, true)
	had := []uint64{}
	for n := m.turns.Newest(s); n != nil; {
		t := n.Of
		n = n.Before()
		if t.Idempotent() {
			m.stop(out, t)
			had = append(had, t.Number)
			m.lost(out, t, true, node)
		}
	}
	m.quiet[s] = had
	m.settle(out)
}

// Unwork ends a worker that gave back what had not started: what it still has is
// taken for lost, but does not count for MaxLosses. node is for the history.
func (m *Machine[V]) Unwork(out *Out[V], s machine.Session, node string) {
	m.gone(out, s, false, node)
}

// gone ends a worker; died: that may be because of what it had.
func (m *Machine[V]) gone(out *Out[V], s machine.Session, died bool, node string) {
	for n := m.turns.Newest(s); n != nil; n = m.turns.Newest(s) {
		m.lost(out, n.Of, died, node)
	}
	m.turns.Remove(s)
	delete(m.quiet, s)
	m.settle(out)
}

// lost ends a lease whose worker is lost, or quiet.
func (m *Machine[V]) lost(out *Out[V], t *Task[V], died bool, node string) {
	m.note(t, Unknown, true, node)
	m.moved(out, t, t.Worker(), LostOwner)
	flags := t.flags
	m.unlease(t)
	if died && t.losses < 255 {
		t.losses++
	}
	switch {
	case flags&cancelled != 0:
		m.end(out, t, Unknown, Cancelled)
	case flags&parking != 0:
		m.park(out, t, ByHand)
	case !t.Idempotent():
		m.park(out, t, Lost)
	case int(t.losses) >= m.maxLosses():
		m.park(out, t, Poisonous)
	default:
		if died {
			m.turns.Lost(&t.Node)
		}
		m.requeue(out, t)
	}
}

func (m *Machine[V]) maxLosses() int {
	if m.lim.MaxLosses > 0 {
		return min(m.lim.MaxLosses, 255)
	}
	return 3
}

// leased is the task that a session has leased by a lease; nil: it is stale.
func (m *Machine[V]) leased(s machine.Session, l Lease) *Task[V] {
	t := m.Numbered(l.Number)
	if t == nil || t.State != Leased || t.Epoch != l.Epoch || t.Worker() != s {
		return nil
	}
	return t
}
