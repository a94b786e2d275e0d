package shared

// KeepAtMost makes a node keep so many entries of a map, before it is used.
func (m *Map[K, V]) KeepAtMost(entries int) { m.s.KeepAtMost(entries) }

// Kept is how many entries of a map a node keeps.
func (m *Map[K, V]) Kept() int { return m.s.Keeps() }
