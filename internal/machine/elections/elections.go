// Package elections is an election: candidates stand in line with a value each,
// the first of them leads.
//
//	var x elections.Election
//	x.Campaign(&out, next, who, "10.0.0.1:80", false) // leads, or waits to
//	x.Watch(&out, other)                              // hears of every leader
//	x.Resign(&out, next, who)                         // the next one leads
//
// # Guarantees
//
// At most one candidate leads, under a token that is its own; next gives
// tokens, which must grow. Candidates lead in the order in which they came. A
// session that ends leads no more, and leaves the line. Watchers hear of each change
// in order, after the new leader itself. Each Campaign is answered exactly once with
// OK, Refused or Gone, or not at all when its session ends.
//
// # Failures
//
// Whoever led is not told that it does not any more, when its session ended or
// the election was destroyed: its side has to know.
//
// An Election is not safe for concurrent use.
package elections

import (
	"slices"

	"github.com/distgear/distgear/internal/machine"
)

// Election is the state of one election. The zero value is ready and idle.
type Election struct {
	token uint64      // of line[0], who leads; 0: nobody
	line  []candidate // oldest first
	watch []machine.Who
}

type candidate struct {
	who   machine.Who
	value string
}

type out = machine.Out[machine.None]

// Campaign makes who a candidate with a value, which leads at once or waits
// behind those who came before; with try it does not wait.
//
//   - OK to who, now or later: it leads. Aux is the token.
//   - Refused to who, only with try: another leads, with the token Aux and the value Key.
//   - Changed to each watcher, after OK: as Watch says.
func (x *Election) Campaign(out *out, next func() uint64, who machine.Who, value string, try bool) {
	if try && len(x.line) > 0 {
		x.tell(out, who, machine.Refused)
		return
	}
	x.line = append(x.line, candidate{who, value})
	if len(x.line) == 1 {
		x.lead(out, next)
	}
}

// Resign takes a candidate back, also the one that leads: who is the one that
// campaigned. Nothing when it is none. If it led, the next one gets OK and watchers
// Changed, as Campaign says. It is told nothing.
func (x *Election) Resign(out *out, next func() uint64, who machine.Who) {
	i := slices.IndexFunc(x.line, func(c candidate) bool { return c.who == who })
	if i < 0 {
		return
	}
	x.line = slices.Delete(x.line, i, i+1)
	if i == 0 {
		x.lead(out, next)
	}
}

// Load asks who leads. OK to who: Aux is the token, Key the value; Aux 0:
// nobody leads.
func (x *Election) Load(out *out, who machine.Who) { x.tell(out, who, machine.OK) }

// Watch lets who hear who leads.
//
//   - OK to who: who leads now, as Load says.
//   - Changed to who, with each change: as Load says.
func (x *Election) Watch(out *out, who machine.Who) {
	x.watch = append(x.watch, who)
	x.tell(out, who, machine.OK)
}

// Abandon takes back the wait of a candidate, or a Watch.
//
//   - Refused to who: it waits no more, and hears nothing more.
//   - Nothing, when it does not: its OK is on its way, and it has to Resign.
func (x *Election) Abandon(out *out, who machine.Who) {
	for i := 1; i < len(x.line); i++ {
		if x.line[i].who == who {
			x.line = slices.Delete(x.line, i, i+1)
			x.tell(out, who, machine.Refused)
			return
		}
	}
	if i := slices.Index(x.watch, who); i >= 0 {
		x.watch = slices.Delete(x.watch, i, i+1)
		x.tell(out, who, machine.Refused)
	}
}

// Expire ends a session: its candidates and watches are gone. It is told
// nothing. If it led, the next one gets OK and watchers Changed, as Campaign says.
func (x *Election) Expire(out *out, next func() uint64, s machine.Session) {
	x.watch = slices.DeleteFunc(x.watch, func(w machine.Who) bool { return w.Session == s })
	led := len(x.line) > 0 && x.line[0].who.Session == s
	x.line = slices.DeleteFunc(x.line, func(c candidate) bool { return c.who.Session == s })
	if led {
		x.lead(out, next)
	}
}

// Destroy ends the election: Gone to each candidate that waits, then to each
// watcher, in order. The leader is not told. x is the zero value afterwards.
func (x *Election) Destroy(out *out) {
	for i, c := range x.line {
		if i > 0 {
			out.Tell(c.who, machine.Gone, 0)
		}
	}
	for _, w := range x.watch {
		out.Tell(w, machine.Gone, 0)
	}
	*x = Election{}
}

// Idle reports whether there are no candidates and no watchers.
func (x *Election) Idle() bool { return len(x.line) == 0 && len(x.watch) == 0 }

// Waiting is how many candidates wait.
func (x *Election) Waiting() int { return max(0, len(x.line)-1) }

// lead makes the first of the line the leader.
func (x *Election) lead(out *out, next func() uint64) {
	x.token = 0
	if len(x.line) > 0 {
		x.token = next()
		x.tell(out, x.line[0].who, machine.OK)
	}
	for _, w := range x.watch {
		x.tell(out, w, machine.Changed)
	}
}

// tell says who leads.
func (x *Election) tell(out *out, who machine.Who, code machine.Code) {
	e := machine.Effect[machine.None]{To: who, Code: code, Aux: x.token}
	if x.token != 0 {
		e.Key = x.line[0].value
	}
	out.Add(e)
}
