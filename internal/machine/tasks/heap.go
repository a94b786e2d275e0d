package tasks

// ranked is what a heap holds.
type ranked[E any] interface {
	before(E) bool // a total order: which is first does not depend on the order in which they came
	at(i int)      // notes its place; -1: none
}

// heap has the first of its elements in front.
type heap[E ranked[E]] []E

func (h *heap[E]) push(e E) {
	*h = append(*h, e)
	h.up(len(*h) - 1)
}

func (h *heap[E]) pop() E {
	e := (*h)[0]
	h.remove(0)
	return e
}

// remove takes out what is at place i.
func (h *heap[E]) remove(i int) {
	var none E
	s := *h
	last := len(s) - 1
	s[i].at(-1)
	moved := s[last]
	s[last] = none
	if *h = s[:last]; i < last {
		s[i] = moved
		h.fix(i)
	}
	if last == 0 {
		*h = nil
	}
}

// fix says that the rank of what is at place i has changed.
func (h *heap[E]) fix(i int) {
	if !h.up(i) {
		h.down(i)
	}
}

func (h *heap[E]) up(i int) (moved bool) {
	s := *h
	e := s[i]
	for i > 0 {
		p := (i - 1) / 2
		if !e.before(s[p]) {
			break
		}
		s[i] = s[p]
		s[i].at(i)
		i, moved = p, true
	}
	s[i] = e
	e.at(i)
	return moved
}

func (h *heap[E]) down(i int) {
	s := *h
	e := s[i]
	for {
		c := 2*i + 1
		if c >= len(s) {
			break
		}
		if c+1 < len(s) && s[c+1].before(s[c]) {
			c++
		}
		if !s[c].before(e) {
			break
		}
		s[i] = s[c]
		s[i].at(i)
		i = c
	}
	s[i] = e
	e.at(i)
}
