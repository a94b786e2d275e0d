// Package heap keeps the first of many in front.
//
//	var h heap.Heap[deadline]
//	h.Push(d)
//	for len(h) > 0 && h[0].when <= now { fire(h.Pop()) }
//
// # Guarantees
//
// Which element is in front depends on their order alone, which is total, and not on that in which
// they came. Push, Pop, Remove and Fix take time by the logarithm of their number.
// The zero value is empty.
package heap

// Ranked is what a heap holds.
type Ranked[E any] interface {
	Before(E) bool // a total order
	At(i int)      // is told its place when that changes; -1: none
}

// Heap has the first of its elements in front. A sorted one is a heap.
type Heap[E Ranked[E]] []E

// Push adds an element.
func (h *Heap[E]) Push(e E) {
	*h = append(*h, e)
	h.up(len(*h) - 1)
}

// Pop takes the first out.
func (h *Heap[E]) Pop() E {
	e := (*h)[0]
	h.Remove(0)
	return e
}

// Remove takes out what is at place i.
func (h *Heap[E]) Remove(i int) {
	var none E
	s := *h
	last := len(s) - 1
	s[i].At(-1)
	moved := s[last]
	s[last] = none
	if *h = s[:last]; i < last {
		s[i] = moved
		h.Fix(i)
	}
	if last == 0 {
		*h = nil
	}
}

// Fix says that the rank of what is at place i has changed.
func (h *Heap[E]) Fix(i int) {
	if !h.up(i) {
		h.down(i)
	}
}

func (h *Heap[E]) up(i int) (moved bool) {
	s := *h
	e := s[i]
	for i > 0 {
		p := (i - 1) / 2
		if !e.Before(s[p]) {
			break
		}
		s[i] = s[p]
		s[i].At(i)
		i, moved = p, true
	}
	s[i] = e
	e.At(i)
	return moved
}

func (h *Heap[E]) down(i int) {
	s := *h
	e := s[i]
	for {
		c := 2*i + 1
		if c >= len(s) {
			break
		}
		if c+1 < len(s) && s[c+1].Before(s[c]) {
			c++
		}
		if !s[c].Before(e) {
			break
		}
		s[i] = s[c]
		s[i].At(i)
		i = c
	}
	s[i] = e
	e.At(i)
}
