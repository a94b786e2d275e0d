// Package locks is the hub's side of one named lock: who holds it, who waits
// for it and who waits on its conditions; pure, operations in, effects out.
//
//	var l locks.Lock
//	l.Want(&out, who, at, locks.Write, false)        // tells Granted, now or later
//	l.Wait(&out, who, token, cond, ticket)           // the goroutine waits, the grant stays
//	l.Release(&out, who, at, token, 0)               // and the next is told Granted
//	l.Do(&out, who, at, op)                          // the same from an Op
//
// A lock is granted to sessions, not to goroutines: a session keeps its grant
// until it gives it back, and is asked for it once (Recall) when another
// session waits. What a node does with a grant is package greedy.
//
// A session has at most one place in the queue. What its other goroutines want
// waits at the node; when the grant goes back with wants left (Release with
// again) the session has a new place, behind the others.
//
// # Effects
//
//	Granted  Num token, Aux AuxWrite and AuxContended
//	Recall   Num token, Aux AuxTry (answer with Release or Busy) or 0 (Release when those who have it now are done)
//	Refused  a want ended without a grant; with AuxPlace only the try did, and the session still has its place
//	Wake     Num ticket, Aux condition: a waiter was notified; the session has a grant or a place in the queue for it
//	OK       Num ticket: CancelWait took the waiter out
//	Stale    Num token or, from CancelWait, ticket: nothing was changed
//	Gone     the lock was destroyed
//	Invalid  Num 0: an unknown mode or verb
//
// To is the session, with the request of the Want that is answered (0 where
// the lock gave the place itself). Val and Key are unused. Operations that
// succeed and are not in the list say nothing.
//
// # Guarantees
//
// A write grant is alone; read grants are together (L2 is above: an effect is
// told after its append). A token is from the source of tokens and so grows
// with every grant (L1). The queue is FIFO; a reader does not pass a writer
// (L4). A recall is told once per grant, and not at all where the grant said
// contended. Every Want is answered by one Granted, Refused or Gone, but a
// want of a session that has a grant or a place already is part of that.
// A notified waiter's session has a grant or a place until its node
// says Resume, which it does when the waiter has had the lock and released it;
// if the session ends before, the notification goes to the next waiter of that condition.
// So none is lost with a node, and what the dead node did with it is not seen
// in part; who gets it so may find nothing to do (a spurious wake-up).
//
// # Failures
//
// Each operation must be applied once, a session's in order and none after its
// Expire: that is done above. A Lock is not safe for concurrent use.
package locks

import (
	"slices"

	"github.com/distgear/distgear/internal/machine"
)

// Mode is what a grant is good for. The zero value is none.
type Mode uint8

// The modes.
const (
	Read  Mode = 1 // together with other readers
	Write Mode = 2 // alone
)

// String is the mode's name.
func (m Mode) String() string {
	switch m {
	case 0:
		return "none"
	case Read:
		return "read"
	case Write:
		return "write"
	}
	return "invalid"
}

func (m Mode) valid() bool { return m == Read || m == Write }

// What Aux of an effect means, by code.
const (
	AuxWrite     uint64 = 1 << iota // Granted: for writing
	AuxContended                    // Granted: others wait already, give it back after one turn; no Recall follows
	AuxTry                          // Recall: only if nobody uses it; else answer Busy
	AuxPlace                        // Refused: the try failed, but the session keeps its place in the queue
)

// Out is where effects go.
type Out = machine.Out[machine.None]

// At is when an operation happens: the ledger's time, and its source of
// tokens, which is called once per grant and must grow.
type At struct {
	Now  int64 // ms
	Next func() uint64
}

type hold struct {
	session  machine.Session
	token    uint64
	since    int64
	mode     Mode
	recalled bool // it was asked back, or was contended when it was given
	asked    bool // it was asked back for a try, and has not answered
}

type want struct {
	session machine.Session
	req     uint64
	since   int64
	mode    Mode
	try     bool
}

type wait struct {
	session  machine.Session
	ticket   uint64
	since    int64
	cond     uint32
	notified bool // and not resumed yet
}

// Lock is the state of one lock. The zero value is a free lock.
type Lock struct {
	holds       []hold
	queue       []want // tries before the others
	waits       []wait // in the order in which they began
	contentions uint32 // wants that had to wait; saturates
	notified    uint32 // of waits
}

// Idle reports that nobody holds the lock, wants it or waits on it: it may be
// forgotten.
func (l *Lock) Idle() bool { return len(l.holds)+len(l.queue)+len(l.waits) == 0 }

// Want asks for a grant. With try it is not waited for: it ends with Refused
// if the lock is in use or others wait; a grant that lies idle at its node is
// called back first (L11).
//
// A session that holds a grant or has a place already asked for it before it
// knew: the want becomes part of that (H11).
func (l *Lock) Want(out *Out, who machine.Who, at At, mode Mode, try bool) {
	if !mode.valid() {
		out.Tell(who, machine.Invalid, 0)
		return
	}
	if i := l.holdOf(who.Session); i >= 0 {
		if l.holds[i].mode < mode { // no node of ours does it: it gives back first
			out.Tell(who, machine.Refused, 0)
		}
		return
	}
	if i := l.placeOf(who.Session); i >= 0 {
		w := &l.queue[i]
		if try && !w.try {
			out.Add(machine.Effect[machine.None]{To: who, Code: machine.Refused, Aux: AuxPlace})
			return
		}
		w.mode, w.req = max(w.mode, mode), who.Req
		if w.try && !try {
			firm := *w
			firm.try = false
			l.queue = append(slices.Delete(l.queue, i, i+1), firm)
		}
		l.settle(out, at)
		return
	}
	if try && slices.ContainsFunc(l.queue, func(w want) bool { return !w.try }) {
		out.Tell(who, machine.Refused, 0)
		return
	}
	l.queue = append(l.queue, want{session: who.Session, req: who.Req, since: at.Now, mode: mode, try: try})
	l.settle(out, at)
	if l.placeOf(who.Session) >= 0 && l.contentions < 1<<32-1 {
		l.contentions++
	}
}

// Abandon takes the session's want back and tells Refused. It does nothing if
// the want was answered already (the answer is on the wire, H11), or if a notified
// waiter of the session needs the place.
func (l *Lock) Abandon(out *Out, who machine.Who, at At) {
	i := l.placeOf(who.Session)
	if i < 0 || l.woken(who.Session) {
		return
	}
	out.Tell(machine.Who{Session: who.Session, Req: l.queue[i].req}, machine.Refused, 0)
	l.queue = slices.Delete(l.queue, i, i+1)
	l.settle(out, at)
}

// Release gives a grant back. With again not zero the session wants the lock
// again in that mode, behind those who wait. It gets a place also when a waiter of its
// was notified and has not resumed (the Wake crosses this on the wire). Stale (Num token) means that the session does not hold
// this grant; then again is not looked at either.
func (l *Lock) Release(out *Out, who machine.Who, at At, token uint64, again Mode) {
	i := l.grant(who.Session, token)
	if i < 0 {
		out.Tell(who, machine.Stale, token)
		return
	}
	l.holds = slices.Delete(l.holds, i, i+1)
	if l.woken(who.Session) {
		again = Write
	}
	if again.valid() {
		l.queue = append(l.queue, want{session: who.Session, req: who.Req, since: at.Now, mode: again})
	}
	l.settle(out, at)
}

// Busy answers a Recall with AuxTry: the grant is in use. Those who tried are
// told Refused. A token that is not held is not looked at.
func (l *Lock) Busy(out *Out, who machine.Who, at At, token uint64) {
	i := l.grant(who.Session, token)
	if i < 0 || !l.holds[i].asked {
		return
	}
	l.holds[i].asked = false
	l.refuseTries(out)
	l.settle(out, at)
}

// Downgrade makes a write grant one for reading, under the same token, so that
// readers who are next may join. Stale (Num token): not the holder.
func (l *Lock) Downgrade(out *Out, who machine.Who, at At, token uint64) {
	i := l.grant(who.Session, token)
	if i < 0 {
		out.Tell(who, machine.Stale, token)
		return
	}
	l.holds[i].mode = Read
	l.settle(out, at)
}

// Wait puts a goroutine of the session on a condition; the ticket is the
// node's number for it and not in use. The session keeps its write grant: it
// passes it to another goroutine or gives it back by Release. Stale (Num token): the
// session does not hold this write grant.
func (l *Lock) Wait(out *Out, who machine.Who, at At, token uint64, cond uint32, ticket uint64) {
	if !l.writes(who.Session, token) || l.waitOf(who.Session, ticket) >= 0 {
		out.Tell(who, machine.Stale, token)
		return
	}
	l.waits = append(l.waits, wait{session: who.Session, ticket: ticket, since: at.Now, cond: cond})
}

// Notify wakes the n goroutines that have waited longest on a condition; all
// if n is negative. Each session of theirs has a place in the queue from now on, unless
// it has one or is the holder. Stale (Num token): the session does not hold this write grant.
func (l *Lock) Notify(out *Out, who machine.Who, at At, token uint64, cond uint32, n int) {
	if !l.writes(who.Session, token) {
		out.Tell(who, machine.Stale, token)
		return
	}
	l.notify(out, at, cond, n)
	l.settle(out, at) // whom these are in the way of
}

func (l *Lock) notify(out *Out, at At, cond uint32, n int) {
	for i := range l.waits {
		if n == 0 {
			return
		}
		w := &l.waits[i]
		if w.notified || w.cond != cond {
			continue
		}
		n--
		w.notified = true
		l.notified++
		l.place(out, at, w.session)
		out.Add(machine.Effect[machine.None]{To: machine.Who{Session: w.session}, Code: machine.Wake, Num: w.ticket, Aux: uint64(cond)})
	}
}

// place sees to it that a session with a notified waiter will be granted the
// lock for writing.
func (l *Lock) place(out *Out, at At, s machine.Session) {
	if l.holdOf(s) >= 0 {
		return // Release gives it a place
	}
	i := l.placeOf(s)
	if i < 0 {
		l.queue = append(l.queue, want{session: s, since: at.Now, mode: Write})
		return
	}
	w := l.queue[i]
	w.mode = Write
	if !w.try {
		l.queue[i] = w
		return
	}
	out.Add(machine.Effect[machine.None]{To: machine.Who{Session: s, Req: w.req}, Code: machine.Refused, Aux: AuxPlace})
	w.try, w.req = false, 0
	l.queue = append(slices.Delete(l.queue, i, i+1), w)
}

// CancelWait takes a waiter out: OK. If it was notified before, or does not
// wait, Stale (Num ticket): its Wake was told before this.
func (l *Lock) CancelWait(out *Out, who machine.Who, ticket uint64) {
	i := l.waitOf(who.Session, ticket)
	if i < 0 || l.waits[i].notified {
		out.Tell(who, machine.Stale, ticket)
		return
	}
	l.waits = slices.Delete(l.waits, i, i+1)
	out.Tell(who, machine.OK, ticket)
	l.trim()
}

// Resume says that a notified waiter had the lock again and is done with it.
// Until then its notification goes to the next waiter if the session ends.
func (l *Lock) Resume(who machine.Who, ticket uint64) {
	i := l.waitOf(who.Session, ticket)
	if i >= 0 && l.waits[i].notified {
		l.notified--
		l.waits = slices.Delete(l.waits, i, i+1)
		l.trim()
	}
}

// Expire ends a session: its grant, its place and its waiters are gone.
// Notifications of waiters that had not resumed go to the next ones.
func (l *Lock) Expire(out *Out, at At, s machine.Session) {
	l.holds = slices.DeleteFunc(l.holds, func(h hold) bool { return h.session == s })
	l.queue = slices.DeleteFunc(l.queue, func(w want) bool { return w.session == s })
	var owed []uint32
	l.waits = slices.DeleteFunc(l.waits, func(w wait) bool {
		if w.session == s && w.notified {
			owed = append(owed, w.cond)
			l.notified--
		}
		return w.session == s
	})
	for _, cond := range owed {
		l.notify(out, at, cond, 1)
	}
	l.settle(out, at)
}

// Destroy tells Gone to every session that has to do with the lock, once, and
// leaves a free lock.
func (l *Lock) Destroy(out *Out) {
	var told []machine.Session
	tell := func(s machine.Session) {
		if !slices.Contains(told, s) {
			told = append(told, s)
			out.Tell(machine.Who{Session: s}, machine.Gone, 0)
		}
	}
	for i := range l.holds {
		tell(l.holds[i].session)
	}
	for i := range l.queue {
		tell(l.queue[i].session)
	}
	for i := range l.waits {
		tell(l.waits[i].session)
	}
	*l = Lock{}
}

// settle grants what can be granted and asks back what is in the way.
func (l *Lock) settle(out *Out, at At) {
	told, first := len(out.Effects), len(l.holds)
	for len(l.queue) > 0 {
		if w := l.queue[0]; l.fits(w.mode) {
			l.queue = slices.Delete(l.queue, 0, 1)
			h := hold{session: w.session, token: at.Next(), since: at.Now, mode: w.mode}
			l.holds = append(l.holds, h)
			out.Tell(machine.Who{Session: w.session, Req: w.req}, machine.Granted, h.token)
			continue
		}
		if len(l.holds) == first || !l.queue[0].try {
			break
		}
		l.refuseTries(out) // who was granted it just now uses it
	}
	contended := len(l.queue) > 0
	for i := first; i < len(l.holds); i++ {
		l.holds[i].recalled = contended
	}
	for i := told; i < len(out.Effects) && len(l.holds) > first; i++ {
		e := &out.Effects[i]
		if e.Code != machine.Granted {
			continue
		}
		if l.holds[first].mode == Write {
			e.Aux |= AuxWrite
		}
		if contended {
			e.Aux |= AuxContended
		}
	}
	l.recall(out)
	l.trim()
}

// recall asks back every grant that is in the way of one in the queue, unless
// it was asked back already.
func (l *Lock) recall(out *Out) {
	if len(l.queue) == 0 || len(l.holds) == 0 {
		return
	}
	write := l.holds[0].mode == Write
	firm := slices.ContainsFunc(l.queue, func(w want) bool { return !w.try && (write || w.mode == Write) })
	for i := range l.holds {
		h := &l.holds[i]
		if firm && !h.recalled {
			h.recalled = true
			out.Tell(machine.Who{Session: h.session}, machine.Recall, h.token)
		}
		if l.queue[0].try && !h.asked {
			h.asked = true
			out.Add(machine.Effect[machine.None]{To: machine.Who{Session: h.session}, Code: machine.Recall, Num: h.token, Aux: AuxTry})
		}
	}
}

// trim gives room back that an idle lock does not need.
func (l *Lock) trim() {
	if len(l.holds) == 0 {
		l.holds = nil
	}
	if len(l.queue) == 0 {
		l.queue = nil
	}
	if len(l.waits) == 0 {
		l.waits = nil
	}
}

// fits reports whether a grant may be given beside those there are.
func (l *Lock) fits(m Mode) bool {
	return len(l.holds) == 0 || m == Read && l.holds[0].mode == Read
}

func (l *Lock) holdOf(s machine.Session) int {
	return slices.IndexFunc(l.holds, func(h hold) bool { return h.session == s })
}

func (l *Lock) grant(s machine.Session, token uint64) int {
	return slices.IndexFunc(l.holds, func(h hold) bool { return h.session == s && h.token == token })
}

func (l *Lock) writes(s machine.Session, token uint64) bool {
	i := l.grant(s, token)
	return i >= 0 && l.holds[i].mode == Write
}

func (l *Lock) placeOf(s machine.Session) int {
	return slices.IndexFunc(l.queue, func(w want) bool { return w.session == s })
}

func (l *Lock) waitOf(s machine.Session, ticket uint64) int {
	return slices.IndexFunc(l.waits, func(w wait) bool { return w.session == s && w.ticket == ticket })
}

// woken reports whether a waiter of the session was notified and has not
// resumed.
func (l *Lock) woken(s machine.Session) bool {
	return l.notified > 0 && slices.ContainsFunc(l.waits, func(w wait) bool { return w.session == s && w.notified })
}

// refuseTries tells every try in the queue Refused. Tries are before the
// others: none is taken up where one of those waits.
func (l *Lock) refuseTries(out *Out) {
	n := 0
	for n < len(l.queue) && l.queue[n].try {
		out.Tell(machine.Who{Session: l.queue[n].session, Req: l.queue[n].req}, machine.Refused, 0)
		n++
	}
	l.queue = slices.Delete(l.queue, 0, n)
}
