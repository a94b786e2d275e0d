package assign

import (
	"iter"
	"maps"
	"slices"

	"github.com/distgear/distgear/internal/machine"
)

// Stats is how an assignment stands.
type Stats struct {
	Workers  int
	Slots    int
	Quiet    int      // workers
	Unserved []string // actions that wait and that no worker offers, sorted
}

// Stats counts.
func (m *Machine[T]) Stats() Stats {
	s := Stats{Workers: len(m.workers), Slots: m.slots}
	for _, w := range m.workers {
		if w.quiet {
			s.Quiet++
		}
	}
	for _, c := range m.classes {
		if c.ready > 0 && len(c.profiles) == 0 {
			s.Unserved = append(s.Unserved, c.Kind)
		}
	}
	slices.Sort(s.Unserved)
	s.Unserved = slices.Compact(s.Unserved)
	return s
}

// Heads are the nodes that are first in their lanes, in any order.
func (m *Machine[T]) Heads() iter.Seq[*Node[T]] {
	return func(yield func(*Node[T]) bool) {
		for l := range m.lanes() {
			if l.nodes.first != nil && !yield(l.nodes.first) {
				return
			}
		}
	}
}

func (m *Machine[T]) lanes() iter.Seq[*lane[T]] {
	return func(yield func(*lane[T]) bool) {
		for _, c := range m.classes {
			if !yield(c.plain) {
				return
			}
		}
		for _, l := range m.others {
			if !yield(l) {
				return
			}
		}
		for _, k := range m.keys {
			for _, f := range k.flows {
				for _, l := range f.lanes {
					if !yield(l) {
						return
					}
				}
			}
		}
	}
}

// WorkerStats is how a worker stands.
type WorkerStats struct {
	Session machine.Session
	Slots   int
	Leased  int
	Quiet   bool
}

// Workers are the workers, by session.
func (m *Machine[T]) Workers() []WorkerStats {
	all := make([]WorkerStats, 0, len(m.workers))
	for _, s := range slices.Sorted(maps.Keys(m.workers)) {
		w := m.workers[s]
		all = append(all, WorkerStats{s, w.offer.Slots, w.leased, w.quiet})
	}
	return all
}
