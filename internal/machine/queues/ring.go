package queues

// ring is a queue without bound, in one slice. Its room follows its length, up and
// down, so push and pop take constant time over many, and an empty one keeps
// little.
type ring[E any] struct {
	buf  []E // its length is a power of two, or 0
	head int
	n    int
}

// keep is the room that an empty ring may keep.
const keep = 8

// at is the element at i, from the oldest.
func (r *ring[E]) at(i int) *E { return &r.buf[(r.head+i)&(len(r.buf)-1)] }

func (r *ring[E]) push(e E) {
	if r.n == len(r.buf) {
		r.resize(max(1, 2*r.n))
	}
	r.n++
	*r.at(r.n - 1) = e
}

func (r *ring[E]) pop() E {
	var none E
	p := r.at(0)
	e := *p
	*p = none
	r.head = (r.head + 1) & (len(r.buf) - 1)
	r.n--
	if len(r.buf) > keep && r.n <= len(r.buf)/4 {
		r.resize(len(r.buf) / 2)
	}
	return e
}

// filter keeps the elements that stay reports, in order.
func (r *ring[E]) filter(stay func(*E) bool) {
	var none E
	n := 0
	for i := range r.n {
		if e := r.at(i); stay(e) {
			*r.at(n) = *e
			n++
		}
	}
	for i := n; i < r.n; i++ {
		*r.at(i) = none
	}
	r.n = n
}

func (r *ring[E]) resize(room int) {
	buf := make([]E, room)
	for i := range r.n {
		buf[i] = *r.at(i)
	}
	r.buf, r.head = buf, 0
}
