package greedy

import "slices"

// Last is the last token that was given: while it stays the same nobody got the
// lock.
func (l *Lock) Last() Token { return Token(l.use) }

// Holds reports whether the lock is held under a token now.
func (l *Lock) Holds(t Token) bool {
	return t != 0 && (t == l.writer || slices.Contains(l.readers, t))
}
