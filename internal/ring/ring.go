// Package ring is a queue without bound, in one slice.
//
//	var r ring.Ring[int]
//	r.Push(1)
//	first := r.Pop()
//
// # Guarantees
//
// Its room follows its length, up and down, so Push and Pop take constant time over
// many, and an empty one keeps little. It is pure.
//
// # Failures
//
// At and Pop of what is not there panic.
package ring

// Ring is a queue. The zero value is empty; it is not safe for concurrent use.
type Ring[E any] struct {
	buf  []E // its length is a power of two, or 0
	head int
	n    int
}

// keep is the room that an empty ring may keep.
const keep = 8

// At is the element at i, from the oldest.
func (r *Ring[E]) At(i int) *E { return &r.buf[(r.head+i)&(len(r.buf)-1)] }

// Len is how many elements there are.
func (r *Ring[E]) Len() int { return r.n }

// Push appends an element.
func (r *Ring[E]) Push(e E) {
	if r.n == len(r.buf) {
		r.resize(max(1, 2*r.n))
	}
	r.n++
	*r.At(r.n - 1) = e
}

// Pop takes the oldest out.
func (r *Ring[E]) Pop() E {
	var none E
	p := r.At(0)
	e := *p
	*p = none
	r.head = (r.head + 1) & (len(r.buf) - 1)
	r.n--
	if len(r.buf) > keep && r.n <= len(r.buf)/4 {
		r.resize(len(r.buf) / 2)
	}
	return e
}

// Filter keeps the elements that stay reports, in order.
func (r *Ring[E]) Filter(stay func(*E) bool) {
	var none E
	n := 0
	for i := range r.n {
		if e := r.At(i); stay(e) {
			*r.At(n) = *e
			n++
		}
	}
	for i := n; i < r.n; i++ {
		*r.At(i) = none
	}
	r.n = n
}

func (r *Ring[E]) resize(room int) {
	buf := make([]E, room)
	for i := range r.n {
		buf[i] = *r.At(i)
	}
	r.buf, r.head = buf, 0
}
