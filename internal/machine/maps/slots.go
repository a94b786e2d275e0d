package maps

// entry is an entry of the map, or a free slot.
type entry[V any] struct {
	key string
	v   V
	rev uint64 // 0: the slot is free
	at  int64  // when it expires, in ms of the ledger; 0: never
}

// chunk is how many slots are made at once, beyond the first so many. Larger maps
// grow without copying entries.
const chunk = 256

// slots are numbered places of entries. An entry stays in its slot for as long as
// it lives, which is what makes the cursor of Range good over changes. Which slot
// an entry gets depends on the operations before it only, so hubs agree.
type slots[V any] struct {
	chunks [][]entry[V] // all but the last are full
	n      uint32       // how many there are, free ones too
	unused []uint32     // the free ones; the last is used next
}

func (s *slots[V]) at(i uint32) *entry[V] { return &s.chunks[i/chunk][i%chunk] }

func (s *slots[V]) take() uint32 {
	if last := len(s.unused) - 1; last >= 0 {
		i := s.unused[last]
		s.unused = s.unused[:last]
		return i
	}
	return s.grow()
}

// grow adds a slot at the end.
func (s *slots[V]) grow() uint32 {
	i := s.n
	switch {
	case i == 0:
		s.chunks = append(s.chunks, nil)
	case i%chunk == 0:
		s.chunks = append(s.chunks, make([]entry[V], 0, chunk))
	}
	s.chunks[i/chunk] = append(s.chunks[i/chunk], entry[V]{})
	s.n++
	return i
}

func (s *slots[V]) free(i uint32) {
	*s.at(i) = entry[V]{}
	s.unused = append(s.unused, i)
}
