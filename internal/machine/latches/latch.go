// Package latches is two objects that hold back who waits until a number is
// zero: a Latch counts different ids down, once; a WaitGroup goes up and down.
//
//	var l latches.Latch
//	l.CountDown(&out, who, 3, "node-a")
//	l.Wait(&out, other, 3)
//
//	var g latches.WaitGroup
//	g.Add(&out, who, 2)
//	g.Add(&out, who, -1) // Done
//	g.Wait(&out, other)
//
// # Guarantees
//
// A Latch counts ids, not calls: an id that is counted down twice counts once
// (L10), so what is repeated after a crash does no harm. Once open it stays
// open. A WaitGroup never goes below zero. Each Wait is answered exactly once with
// OK, Refused, Gone or Invalid, or not at all when its session ends.
//
// # Failures
//
// What a session counted stays when it ends: a WaitGroup waits for ever for who
// died before its Done. Use a Latch, where another can count for it, or a barrier,
// which breaks.
//
// Neither type is safe for concurrent use.
package latches

import "github.com/distgear/distgear/internal/machine"

// Latch is the state of one latch. The zero value has counted nothing.
type Latch struct {
	count int64               // of ids that open it; 0: not named yet, unless open
	ids   map[string]struct{} // that were counted; dropped when it opens
	open  bool
	wait  []machine.Who
}

// CountDown counts id. The latch opens when count different ids were counted.
// The latch keeps id as it is: give it a string that pins nothing larger.
//
//   - OK to who: Num is how many ids are missing. Aux is 1 if this call counted
//     and 0 if the id was counted before or the latch was open. Then, if it
//     opened, OK to each waiter in order, as Wait says.
//   - Invalid to who: count is negative, or the latch has another count, which
//     Num is. An open one has the count it was opened with. Nothing is changed.
func (x *Latch) CountDown(out *machine.Out[machine.None], who machine.Who, count int64, id string) {
	if !x.fits(out, who, count) {
		return
	}
	x.name(count)
	var counted uint64
	if _, ok := x.ids[id]; !ok && !x.open {
		if x.ids == nil {
			x.ids = make(map[string]struct{})
		}
		x.ids[id] = struct{}{}
		counted = 1
	}
	done := !x.open && int64(len(x.ids)) >= x.count
	if done {
		x.open, x.ids = true, nil
	}
	out.Add(machine.Effect[machine.None]{To: who, Code: machine.OK, Num: uint64(x.Missing()), Aux: counted})
	if done {
		tellAll(out, x.wait, machine.OK)
		x.wait = nil
	}
}

// Wait waits until the latch is open.
//
//   - OK to who, now or later: it is open. Num is 0.
//   - Invalid to who: as CountDown says.
func (x *Latch) Wait(out *machine.Out[machine.None], who machine.Who, count int64) {
	if !x.fits(out, who, count) {
		return
	}
	x.name(count)
	if x.open {
		out.Tell(who, machine.OK, 0)
		return
	}
	x.wait = append(x.wait, who)
}

// Load reads. OK to who: Num is how many ids are missing; of a latch that
// nobody has named a count for it is 0 as well, and Aux is 1 only if it is open.
func (x *Latch) Load(out *machine.Out[machine.None], who machine.Who) {
	e := machine.Effect[machine.None]{To: who, Code: machine.OK, Num: uint64(x.Missing())}
	if x.open {
		e.Aux = 1
	}
	out.Add(e)
}

// Abandon takes back the wait of who.
//
//   - Refused to who: it waits no more. Num is how many ids are missing.
//   - Nothing, when who does not wait: its OK is on its way.
func (x *Latch) Abandon(out *machine.Out[machine.None], who machine.Who) {
	missing := x.Missing()
	var was bool
	if x.wait, was = remove(x.wait, who); was {
		out.Tell(who, machine.Refused, uint64(missing))
		x.rest()
	}
}

// Expire ends a session: its waits are gone, what it counted stays. Nobody is told.
func (x *Latch) Expire(_ *machine.Out[machine.None], s machine.Session) {
	x.wait = without(x.wait, s)
	x.rest()
}

// Destroy ends the latch: Gone to each waiter in order, Num 0. x is the zero
// value afterwards.
func (x *Latch) Destroy(out *machine.Out[machine.None]) {
	tellAll(out, x.wait, machine.Gone)
	*x = Latch{}
}

// Idle reports whether nothing was counted and nobody waits. An open latch is
// not idle: that it is open has to be remembered until Destroy.
func (x *Latch) Idle() bool { return !x.open && len(x.ids) == 0 && len(x.wait) == 0 }

// Missing is how many ids are missing.
func (x *Latch) Missing() int64 {
	if x.open {
		return 0
	}
	return x.count - int64(len(x.ids))
}

// Open reports whether it is open.
func (x *Latch) Open() bool { return x.open }

// Waiting is how many wait.
func (x *Latch) Waiting() int { return len(x.wait) }

func (x *Latch) fits(out *machine.Out[machine.None], who machine.Who, count int64) bool {
	if count < 0 || (x.count != 0 || x.open) && count != x.count {
		out.Tell(who, machine.Invalid, uint64(x.count))
		return false
	}
	return true
}

// name fixes the count. A latch of none is open from the first.
func (x *Latch) name(count int64) {
	x.count = count
	if count == 0 {
		x.open = true
	}
}

// rest forgets the count when the latch is idle, so that it can be dropped.
func (x *Latch) rest() {
	if x.Idle() {
		x.count = 0
	}
}

func tellAll(out *machine.Out[machine.None], wait []machine.Who, code machine.Code) {
	for _, w := range wait {
		out.Tell(w, code, 0)
	}
}

func remove(wait []machine.Who, who machine.Who) ([]machine.Who, bool) {
	for i, w := range wait {
		if w == who {
			return append(wait[:i], wait[i+1:]...), true
		}
	}
	return wait, false
}

func without(wait []machine.Who, s machine.Session) []machine.Who {
	kept := wait[:0]
	for _, w := range wait {
		if w.Session != s {
			kept = append(kept, w)
		}
	}
	return kept
}
