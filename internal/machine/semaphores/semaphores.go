// Package semaphores is a weighted semaphore: so many permits, taken and given
// back in any number, by sessions.
//
//	var s semaphores.Semaphore
//	s.Acquire(&out, who, 10, 3, false) // 3 of 10, wait for them
//	s.Release(&out, who, 3)
//	s.Expire(&out, session)            // what it held is free again
//
// # Guarantees
//
// Permits that are held and permits that are free always add up to the size.
// Waiters are served in the order in which they came, and nobody is served
// before them: a big request is not starved by small ones. A session that ends
// gives back what it held and leaves the queue (L10). Each Acquire is answered
// exactly once: OK, Refused, Gone or Invalid, or not at all when its session ends.
//
// # Failures
//
// The size is what the first Acquire names. When nobody holds or waits any more
// it is forgotten, and the next Acquire names it anew: so an idle semaphore can
// be dropped, and two users who disagree about the size are told so only while
// one of them holds or waits.
//
// A Semaphore is not safe for concurrent use.
package semaphores

import "github.com/distgear/distgear/internal/machine"

// Semaphore is the state of one semaphore. The zero value is ready and idle.
type Semaphore struct {
	size int64 // 0: nobody holds or waits
	free int64
	held map[machine.Session]int64 // permits, never 0
	wait []waiter                  // those in wait[head:] wait, oldest first
	head int
}

type waiter struct {
	who machine.Who
	n   int64
}

// Acquire takes n of size permits for who's session, or waits for them behind
// those who wait already; with try it does not wait.
//
//   - OK to who, now or later: it has them. Num is n. Aux is 0: whoever numbers
//     grants puts the token there.
//   - Refused to who, only with try: there are not enough, or others wait. Num
//     is how many are free.
//   - Invalid to who: size or n is not positive, n is more than the size, or
//     the semaphore has another size, which Num is (0: none now). Nothing is changed.
func (x *Semaphore) Acquire(out *machine.Out[machine.None], who machine.Who, size, n int64, try bool) {
	if size <= 0 || n <= 0 || n > size || x.size != 0 && x.size != size {
		out.Tell(who, machine.Invalid, uint64(x.size))
		return
	}
	if x.size == 0 {
		x.size, x.free = size, size
	}
	switch {
	case x.Waiting() == 0 && n <= x.free:
		x.grant(out, waiter{who, n})
	case try:
		out.Tell(who, machine.Refused, uint64(x.free))
	default:
		x.wait = append(x.wait, waiter{who, n})
	}
}

// Release gives back n permits of who's session; any request of a session may
// give back what another one of it took.
//
//   - OK to who: done; Num is how many its session still holds. Then OK to each
//     waiter that could be served, as Acquire says.
//   - Stale to who: its session holds fewer, Num says how many. Nothing is changed.
//   - Invalid to who: n is not positive; Num is how many its session holds.
func (x *Semaphore) Release(out *machine.Out[machine.None], who machine.Who, n int64) {
	has := x.held[who.Session]
	switch {
	case n <= 0:
		out.Tell(who, machine.Invalid, uint64(has))
		return
	case n > has:
		out.Tell(who, machine.Stale, uint64(has))
		return
	case n == has:
		delete(x.held, who.Session)
	default:
		x.held[who.Session] = has - n
	}
	x.free += n
	out.Tell(who, machine.OK, uint64(has-n))
	x.serve(out)
}

// Abandon takes back the wait of who.
//
//   - Refused to who: it waits no more; Num is how many are free. Then OK to
//     each waiter behind it that could be served, as Acquire says.
//   - Nothing, when who does not wait: it was served before, and its OK is on
//     its way. It has to Release what it does not want.
func (x *Semaphore) Abandon(out *machine.Out[machine.None], who machine.Who) {
	for i := x.head; i < len(x.wait); i++ {
		if x.wait[i].who == who {
			x.wait = append(x.wait[:i], x.wait[i+1:]...)
			out.Tell(who, machine.Refused, uint64(x.free))
			x.serve(out)
			return
		}
	}
}

// Expire ends a session: its waits are gone and its permits are free. It is
// told nothing; waiters that could be served get OK as Acquire says.
func (x *Semaphore) Expire(out *machine.Out[machine.None], s machine.Session) {
	x.free += x.held[s]
	delete(x.held, s)
	kept := x.wait[:x.head]
	for _, w := range x.wait[x.head:] {
		if w.who.Session != s {
			kept = append(kept, w)
		}
	}
	x.wait = kept
	x.serve(out)
}

// Destroy ends the semaphore: Gone to each waiter, in order, Num 0. Holders
// are not told; their Release is Stale. x is the zero value afterwards.
func (x *Semaphore) Destroy(out *machine.Out[machine.None]) {
	for _, w := range x.wait[x.head:] {
		out.Tell(w.who, machine.Gone, 0)
	}
	*x = Semaphore{}
}

// Idle reports whether nobody holds or waits.
func (x *Semaphore) Idle() bool { return len(x.held) == 0 && x.Waiting() == 0 }

// Size is how many permits there are; 0 when the semaphore is idle.
func (x *Semaphore) Size() int64 { return x.size }

// Free is how many permits nobody holds.
func (x *Semaphore) Free() int64 { return x.free }

// Waiting is how many wait.
func (x *Semaphore) Waiting() int { return len(x.wait) - x.head }

// serve grants to waiters in order, as far as the permits go. It ends each
// operation that freed something.
func (x *Semaphore) serve(out *machine.Out[machine.None]) {
	for x.head < len(x.wait) && x.wait[x.head].n <= x.free {
		x.grant(out, x.wait[x.head])
		x.head++
	}
	if 2*x.head >= len(x.wait) { // as much is dropped as is moved: constant per waiter
		x.wait = append(x.wait[:0], x.wait[x.head:]...)
		x.head = 0
	}
	if x.Idle() {
		x.size, x.free = 0, 0
	}
}

func (x *Semaphore) grant(out *machine.Out[machine.None], w waiter) {
	if x.held == nil {
		x.held = make(map[machine.Session]int64)
	}
	x.free -= w.n
	x.held[w.who.Session] += w.n
	out.Tell(w.who, machine.OK, uint64(w.n))
}
