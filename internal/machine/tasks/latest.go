package tasks

import "strings"

// Word is the task's state for people: that of the machine, and of a task that has
// ended what became of it.
func (t *Task[V]) Word() string {
	switch {
	case t.State == Delayed:
		return "delayed"
	case t.State == Ready:
		return "ready"
	case t.State == Leased:
		return "leased"
	case t.State == Parked:
		return "parked"
	case t.State != Ended:
		return "in line"
	case t.Outcome == OK:
		return "ok"
	case t.Cause == Cancelled:
		return "cancelled"
	case t.Cause == Late:
		return "late"
	}
	return "failed"
}

// Words are the words that Latest takes: those of Word, and "ended" for any that has.
func Words() []string {
	return []string{"delayed", "ready", "leased", "parked", "ok", "failed", "cancelled", "late", "ended"}
}

// Latest is a Page from the newest task to the oldest: the first tasks before the
// number cursor, 0: all. word, if not empty, is one of Words, and counts besides the filter.
func (m *Machine[V]) Latest(f Filter, word string, cursor uint64, n int) (ts []*Task[V], next uint64) {
	looked := 0
	all := m.numbers.from(0)
	for i := len(all) - 1; i >= 0; i-- {
		if cursor != 0 && all[i]*chunkSize >= cursor {
			continue
		}
		chunk := &m.numbers.chunks[all[i]].tasks
		for j := chunkSize - 1; j >= 0; j-- {
			t := chunk[j]
			if t == nil || cursor != 0 && t.Number >= cursor {
				continue
			}
			if looked == PageLook*n || len(ts) == n {
				return ts, cursor
			}
			looked++
			cursor = t.Number
			if f.wants(t.State, t.Kind(), t.Key(), t.ID) && (word == "" || word == t.Word() || word == "ended" && t.State == Ended) {
				ts = append(ts, t)
			}
		}
	}
	return ts, 0
}

func (f *Filter) wants(s State, kind, key, id string) bool {
	return (f.State == 0 || s == f.State) && (f.Kind == "" || kind == f.Kind) && (f.Key == "" || key == f.Key) && strings.HasPrefix(id, f.Prefix)
}
