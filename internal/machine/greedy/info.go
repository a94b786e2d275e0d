package greedy

import "slices"

// Info is what there is to tell of a lock at one node.
type Info struct {
	Writer  Token   // zero: none
	Readers []Token // the first of them
	Queue   []Mode  // who want it, the first of them, in order
	Queued  int
	Parked  int // on conditions
}

// Info describes the lock; of each list at most so many. The slices are the
// caller's. It walks all who wait.
func (l *Lock) Info(most int) Info {
	in := Info{Writer: l.writer, Readers: slices.Clone(l.readers[:min(len(l.readers), most)])}
	for w := l.queue.first; w != nil; w = w.next {
		if in.Queued++; len(in.Queue) < most {
			in.Queue = append(in.Queue, w.Mode)
		}
	}
	_, _, in.Parked = l.Counts()
	return in
}

// ModeOf is how the lock is held under a token; zero: it is not.
func (l *Lock) ModeOf(t Token) Mode {
	switch {
	case t == 0:
	case t == l.writer:
		return Write
	case slices.Contains(l.readers, t):
		return Read
	}
	return 0
}
