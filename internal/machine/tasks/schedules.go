package tasks

import (
	"maps"
	"slices"
	"strconv"

	"github.com/distgear/distgear/internal/machine"
	"github.com/distgear/distgear/internal/machine/words"
)

// missed is how late a time may be before a schedule with Skip leaves it out, ms.
const missed = 60_000

// behind is how late a time may be before a schedule with All leaves it out, ms, unless it
// is the first that was missed.
const behind = 86_400_000

// maxTimetable is how long a schedule's Text may be.
const maxTimetable = 1024

// Schedule keeps a schedule, in the place of one of the same name. That stays paused, if it is, and
// has its Last and, if its Text is the same, its Next: what it has missed is not forgotten because
// a program says again what it said before. Without Next somebody is asked. ErrInvalid.
func (m *Machine[V]) Schedule(out *Out[V], s Schedule[V]) error {
	if s.Spec.Fault() != nil || s.Name == "" || len(s.Name) > words.MaxText-24 || len(s.Text) > maxTimetable || s.Next < 0 || s.Next > words.MaxTime || s.Last < 0 || s.Last > words.MaxTime {
		return ErrInvalid
	}
	if old := m.schedules[s.Name]; old != nil {
		s.Last, s.Paused = max(s.Last, old.Last), old.Paused
		if s.Text == old.Text {
			s.Next = old.Next
		}
	}
	m.schedules[s.Name] = &s
	if s.Next == 0 {
		m.ask(out, &s)
	}
	m.fireSchedules(out)
	m.settle(out)
	return nil
}

// Unschedule ends a schedule. Its tasks stay. ErrNoSchedule.
func (m *Machine[V]) Unschedule(name string) error {
	if m.schedules[name] == nil {
		return ErrNoSchedule
	}
	delete(m.schedules, name)
	m.soonest()
	return nil
}

// PauseSchedule has what comes due left out, or ends that. ErrNoSchedule.
func (m *Machine[V]) PauseSchedule(out *Out[V], name string, on bool) error {
	s := m.schedules[name]
	switch {
	case s == nil:
		return ErrNoSchedule
	case s.Paused == on:
		return nil
	}
	if s.Paused = on; !on && s.Next <= m.now { // what was due meanwhile is over
		s.Last, s.Next = max(s.Last, m.now), 0
		m.ask(out, s)
	}
	m.soonest()
	return nil
}

// NextTime is the answer to Next: the time of the schedule after the one that was
// asked for; 0: there is none, and the schedule ends. It changes nothing if the schedule is not the same any more (its
// Last), or has a time already.
func (m *Machine[V]) NextTime(out *Out[V], name string, last, next int64) {
	s := m.schedules[name]
	if s == nil || s.Next != 0 || s.Last != last || next < 0 || next > words.MaxTime {
		return
	}
	if next == 0 {
		delete(m.schedules, name)
		return
	}
	s.Next = next
	m.fireSchedules(out)
	m.settle(out)
}

// AskNext asks again for each time that is missing: somebody new can answer.
func (m *Machine[V]) AskNext(out *Out[V]) {
	for _, s := range m.Schedules() {
		if s.Next == 0 {
			m.ask(out, s)
		}
	}
}

func (m *Machine[V]) ask(out *Out[V], s *Schedule[V]) {
	after := m.now
	if s.All && s.Last != 0 {
		after = max(s.Last, m.now-behind)
	}
	out.more(Next, machine.Who{}, More[V]{Schedule: s, Time: max(after, s.Last)})
}

// Schedules are the schedules, by name.
func (m *Machine[V]) Schedules() []*Schedule[V] {
	all := make([]*Schedule[V], 0, len(m.schedules))
	for _, name := range slices.Sorted(maps.Keys(m.schedules)) {
		all = append(all, m.schedules[name])
	}
	return all
}

// soonest finds when the first schedule is due.
func (m *Machine[V]) soonest() {
	m.nextFire = 0
	for _, s := range m.schedules {
		if s.Next != 0 && !s.Paused && (m.nextFire == 0 || s.Next < m.nextFire) {
			m.nextFire = s.Next
		}
	}
}

// fireSchedules submits what is due. Such tasks do not wait for room: there is nobody who could.
func (m *Machine[V]) fireSchedules(out *Out[V]) {
	m.soonest()
	if m.nextFire == 0 || m.nextFire > m.now {
		return
	}
	for _, s := range m.Schedules() {
		if s.Next == 0 || s.Next > m.now || s.Paused {
			continue
		}
		at := s.Next
		s.Last, s.Next = at, 0
		if !s.Skip || m.now-at <= missed {
			spec := s.Spec
			spec.ID = s.Name + "@" + strconv.FormatInt(at, 10)
			spec.NotBefore = 0
			if spec.Deadline != 0 { // so long after its time
				spec.Deadline = clip(at, spec.Deadline)
			}
			if m.ids[spec.ID] == nil {
				t := &Task[V]{}
				m.fill(&Item[V]{Task: t, Spec: spec, Val: s.Val})
				m.take(out, t, machine.Who{}, How{})
			}
		}
		m.ask(out, s)
	}
	m.soonest()
}
