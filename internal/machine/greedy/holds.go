package greedy

import "slices"

// Holds reports whether the lock is held under a token now.
func (l *Lock) Holds(t Token) bool {
	return t != 0 && (t == l.writer || slices.Contains(l.readers, t))
}
