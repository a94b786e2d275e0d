// Package barriers is a cyclic barrier: so many parties wait for each other,
// again and again.
//
//	var b barriers.Barrier
//	b.Await(&out, who, 3, false) // the third to come releases all
//
// With an action the last to come runs it before anybody is released:
//
//	b.Await(&out, last, 3, true) // Granted to last: run it
//	b.Trip(&out, last, false)    // it was run: all are released
//
// # Guarantees
//
// Generations are numbered, and numbers grow (L10). All parties of one
// generation are told the same: OK, or Broken. A barrier breaks when one of its
// parties goes before all are released: it took its wait back (Abandon, also
// for a timeout), its session ended, or the action failed. It stays broken, and
// says so to everybody who comes, until it is Reset. Each Await is answered
// exactly once with OK, Broken, Gone or Invalid, or not at all when its session
// ends; the last of an action hears Granted before.
//
// # Failures
//
// How many parties there are is what the first of a generation names. Who
// comes while an action runs belongs to a later generation, and waits.
//
// A Barrier is not safe for concurrent use.
package barriers

import "github.com/distgear/distgear/internal/machine"

// Why a barrier broke: Aux of Broken.
const (
	Abandoned = 1 + iota // a party took its wait back
	Lost                 // a party's session ended
	Failed               // the action failed
	WasReset             // Reset while parties waited
)

// Barrier is the state of one barrier. The zero value is in generation 1.
type Barrier struct {
	gens    uint64    // how many generations are over
	parties int       // of this generation; 0: nobody waits
	broken  uint64    // why; 0: it is not
	acting  bool      // all have come, the last of them runs the action
	wait    []arrival // in order; those beyond parties, only while acting, came early
}

type arrival struct {
	who    machine.Who
	action bool // if it is the last, it wants to run the action
}

// New makes a barrier in the generation after gens. Give it the highest
// Generation of barriers that were dropped or destroyed, so that numbers of one
// name never go back.
func New(gens uint64) *Barrier { return &Barrier{gens: gens} }

// Await comes to the barrier of so many parties and waits for the others. With
// action, the last to come runs the barrier's action first; only the last
// one's wish counts.
//
//   - OK to each party, in the order in which they came, when all have come
//     (and the action was run): Num is the generation, Aux the index of
//     arrival, from 0.
//   - Granted to who: it is the last, and is to run the action and then Trip.
//     Num is the generation, Aux its index. It is not answered yet.
//   - Broken to who: the barrier is broken, and stays so until Reset. Num is
//     the generation, Aux why.
//   - Invalid to who: parties is not positive, or the generation that is
//     waiting has another number of parties, which Num is (0: nobody waits). Nothing is changed.
func (x *Barrier) Await(out *machine.Out[machine.None], who machine.Who, parties int, action bool) {
	if parties <= 0 || x.parties != 0 && x.parties != parties {
		out.Tell(who, machine.Invalid, uint64(x.parties))
		return
	}
	if x.broken != 0 {
		x.tell(out, who, machine.Broken, x.broken)
		return
	}
	x.parties = parties
	x.wait = append(x.wait, arrival{who, action})
	x.fill(out)
}

// Trip says that the action was run; who is the Await that was Granted, not a
// request of its own.
//
//   - OK to each party as in Await; then who came early is in the next
//     generation, which may be complete in turn.
//   - Broken to each party, also to who came early, with failed: Aux is Failed.
//   - Stale to who: it does not run this barrier's action, or not any more. It
//     was told Broken before. Nothing is changed.
func (x *Barrier) Trip(out *machine.Out[machine.None], who machine.Who, failed bool) {
	switch {
	case !x.acting || x.wait[x.parties-1].who != who:
		out.Tell(who, machine.Stale, x.Generation())
	case failed:
		x.fail(out, Failed)
	default:
		x.release(out)
		x.fill(out)
	}
}

// Reset begins a new generation.
//
//   - Broken to each party that waited: Num is the generation that is given
//     up, Aux is WasReset. If an action runs, those who came early stay and are
//     in the new generation; a Trip of that action is Stale.
//   - OK to who: Num is the new generation. Those of it that are complete are
//     told after that, as in Await.
func (x *Barrier) Reset(out *machine.Out[machine.None], who machine.Who) {
	early := x.wait[:0]
	for i, a := range x.wait {
		if x.acting && i >= x.parties {
			early = append(early, a)
		} else {
			x.tell(out, a.who, machine.Broken, WasReset)
		}
	}
	x.next(early)
	out.Tell(who, machine.OK, x.Generation())
	x.fill(out)
}

// Abandon takes back the wait of who.
//
//   - Broken to each who waits, to who too and to who came early: Aux is
//     Abandoned. This is so also when all have come and the action still runs.
//   - Broken to who alone, when it came early: its generation has not begun.
//   - Nothing, when who does not wait: it was told OK or Broken before.
func (x *Barrier) Abandon(out *machine.Out[machine.None], who machine.Who) {
	for i, a := range x.wait {
		switch {
		case a.who != who:
		case x.acting && i >= x.parties:
			x.wait = append(x.wait[:i], x.wait[i+1:]...)
			x.tell(out, who, machine.Broken, Abandoned)
			return
		default:
			x.fail(out, Abandoned)
			return
		}
	}
}

// Expire ends a session. If it was a party of this generation: Broken to each
// who waits and to who came early, not to the session itself; Aux is Lost. If
// it only came early it is gone, and nobody is told.
func (x *Barrier) Expire(out *machine.Out[machine.None], s machine.Session) {
	kept := x.wait[:0]
	party := false
	for i, a := range x.wait {
		if a.who.Session != s {
			kept = append(kept, a)
		} else if !x.acting || i < x.parties {
			party = true
		}
	}
	x.wait = kept
	if party {
		x.fail(out, Lost)
	}
}

// Destroy ends the barrier: Gone to each who waits, in order; Num is the
// generation. A broken one is whole again, and the generation goes on in x.
func (x *Barrier) Destroy(out *machine.Out[machine.None]) {
	for _, a := range x.wait {
		out.Tell(a.who, machine.Gone, x.Generation())
	}
	*x = Barrier{gens: x.Generation()}
}

// Idle reports whether nobody waits and the barrier is whole. What follows a
// dropped barrier is made by New with its Generation.
func (x *Barrier) Idle() bool { return len(x.wait) == 0 && x.broken == 0 }

// Generation is the number of the generation that waits, or would.
func (x *Barrier) Generation() uint64 { return x.gens + 1 }

// Parties is how many parties this generation has; 0 when nobody waits.
func (x *Barrier) Parties() int { return x.parties }

// Waiting is how many wait, those who came early too.
func (x *Barrier) Waiting() int { return len(x.wait) }

// Why says why the barrier is broken; 0: it is not.
func (x *Barrier) Why() uint64 { return x.broken }

// fill releases generations that are complete, or lets the last of one act.
func (x *Barrier) fill(out *machine.Out[machine.None]) {
	for !x.acting && x.parties > 0 && len(x.wait) >= x.parties {
		if last := x.wait[x.parties-1]; last.action {
			x.acting = true
			x.tell(out, last.who, machine.Granted, uint64(x.parties-1))
			return
		}
		x.release(out)
	}
}

// release ends a generation well.
func (x *Barrier) release(out *machine.Out[machine.None]) {
	for i, a := range x.wait[:x.parties] {
		x.tell(out, a.who, machine.OK, uint64(i))
	}
	x.next(append(x.wait[:0], x.wait[x.parties:]...))
}

// fail breaks the barrier.
func (x *Barrier) fail(out *machine.Out[machine.None], why uint64) {
	for _, a := range x.wait {
		x.tell(out, a.who, machine.Broken, why)
	}
	x.broken, x.acting, x.parties, x.wait = why, false, 0, nil
}

// next begins a generation with those who came early.
func (x *Barrier) next(early []arrival) {
	x.gens++
	x.broken, x.acting, x.wait = 0, false, early
	if len(early) == 0 {
		x.parties, x.wait = 0, early[:0]
	}
}

func (x *Barrier) tell(out *machine.Out[machine.None], who machine.Who, code machine.Code, aux uint64) {
	out.Add(machine.Effect[machine.None]{To: who, Code: code, Num: x.Generation(), Aux: aux})
}
