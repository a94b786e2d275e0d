package latches

import "github.com/distgear/distgear/internal/machine"

// WaitGroup is the state of one wait group. The zero value is at zero.
type WaitGroup struct {
	n    int64
	wait []machine.Who // empty while n is 0
}

// Add adds delta, which may be negative: Done is Add of -1.
//
//   - OK to who: Num is the counter. Then, if it is zero now, OK to each
//     waiter in order, as Wait says.
//   - Invalid to who: the counter would be negative, or over 63 bits. Num is the
//     counter; nothing is changed.
func (x *WaitGroup) Add(out *machine.Out[machine.None], who machine.Who, delta int64) {
	n := x.n + delta // both are signed: a sum over 63 bits is negative too
	if n < 0 {
		out.Tell(who, machine.Invalid, uint64(x.n))
		return
	}
	x.n = n
	out.Tell(who, machine.OK, uint64(n))
	if n == 0 {
		tellAll(out, x.wait, machine.OK)
		x.wait = nil
	}
}

// Wait waits until the counter is zero. OK to who, now or later: it was. Num
// is 0. An Add after that does not take it back.
func (x *WaitGroup) Wait(out *machine.Out[machine.None], who machine.Who) {
	if x.n == 0 {
		out.Tell(who, machine.OK, 0)
		return
	}
	x.wait = append(x.wait, who)
}

// Load reads. OK to who: Num is the counter.
func (x *WaitGroup) Load(out *machine.Out[machine.None], who machine.Who) {
	out.Tell(who, machine.OK, uint64(x.n))
}

// Abandon takes back the wait of who.
//
//   - Refused to who: it waits no more. Num is the counter.
//   - Nothing, when who does not wait: its OK is on its way.
func (x *WaitGroup) Abandon(out *machine.Out[machine.None], who machine.Who) {
	var was bool
	if x.wait, was = remove(x.wait, who); was {
		out.Tell(who, machine.Refused, uint64(x.n))
	}
}

// Expire ends a session: its waits are gone, what it added stays. Nobody is told.
func (x *WaitGroup) Expire(_ *machine.Out[machine.None], s machine.Session) {
	x.wait = without(x.wait, s)
}

// Destroy ends the wait group: Gone to each waiter in order, Num 0. x is the
// zero value afterwards.
func (x *WaitGroup) Destroy(out *machine.Out[machine.None]) {
	tellAll(out, x.wait, machine.Gone)
	*x = WaitGroup{}
}

// Idle reports whether the counter is zero; then nobody waits.
func (x *WaitGroup) Idle() bool { return x.n == 0 }

// Count is the counter.
func (x *WaitGroup) Count() int64 { return x.n }

// Waiting is how many wait.
func (x *WaitGroup) Waiting() int { return len(x.wait) }
