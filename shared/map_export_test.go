package shared

// KeepAtMost makes a node keep so many entries of a map, before it is used.
func (m *Map[K, V]) KeepAtMost(entries int) { m.s.near.most = entries }

// Kept is how many entries of a map a node keeps.
func (m *Map[K, V]) Kept() int {
	m.s.near.mu.Lock()
	defer m.s.near.mu.Unlock()
	return len(m.s.near.ring)
}
