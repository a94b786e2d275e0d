// Package greedy is a node's side of one named lock: the goroutines of the
// node that want it, and the grant that the node may hold for them between
// uses; pure, calls in, operations for the hub and goroutines to be told out.
//
//	token, ok := l.Acquire(greedy.Write) // at once, or not
//	if !ok {
//		l.Enqueue(w, &out)           // then w is in out.Tell, now or later, with its State and Token
//	}
//	err := l.Unlock(token, &out)
//	l.Told(effect, &out)                 // what the hub says
//
// The caller holds a mutex around every call. After each it sends out.Ops to
// the hub in order (each is a method of locks.Lock; see locks.Op), tells
// out.Tell, and empties out.
//
// A process that is alone uses Alone: the grant is there and nobody asks for
// it back; Ops stays empty, conditions work here.
//
// # Guarantees
//
// Goroutines get the lock in the order in which they asked, readers together
// where no writer is between (L4). While the node holds the grant and it is
// not asked back, nothing goes to the hub. After a Recall no goroutine gets
// the lock that had not got it before: when those have released it the grant goes back,
// with a new place in the hub's queue if others wait here. A grant that comes contended serves
// Turn goroutines (readers that stand together count as one), first come first
// served, and goes back then. So between two turns of a node each other node that waits
// has one turn of at most Turn, and a goroutine with k before it here waits for
// at most k+1 turns of its node: nobody starves.
//
// # Tokens
//
// Every acquisition has a Token of its own: the grant's number from the hub
// times Uses, plus a count. Grants grow by L1, the count grows within a
// grant, and a grant whose count is used up goes back for a new one. So at a
// protected resource each writer's token is higher than those of all before it; readers
// that share the lock may come in any order among themselves, but
// are above every writer before them and below every one after. A resource
// compares with the highest writer's token it has seen. The hub's numbers must stay below 1<<44: milliseconds
// since 1970 plus one for each grant do, for 1.5e13 grants.
//
// # Failures
//
// Lost (the session ended) and Gone (the lock was destroyed) end everything at
// once: waiters are told, tokens that were held are listed, their Unlock says ErrLost.
// A Lock is not safe for concurrent use.
package greedy

import (
	"errors"
	"slices"

	"github.com/distgear/distgear/internal/machine"
	"github.com/distgear/distgear/internal/machine/locks"
)

// Mode is locks.Mode.
type Mode = locks.Mode

// The modes.
const (
	Read  = locks.Read
	Write = locks.Write
)

// Uses is how many tokens a grant of the hub is good for, less one.
const Uses = 1 << 20

// Token is the number of one acquisition. Zero is none.
type Token uint64

// Grant is the hub's number of the grant under which it was acquired.
func (t Token) Grant() uint64 { return uint64(t) / Uses }

// The errors of a token that is not what it must be. Nothing was changed.
var (
	ErrNotHeld = errors.New("greedy: not held under this token")
	ErrLost    = errors.New("greedy: the lock was lost while it was held")
	ErrUpgrade = errors.New("greedy: a reader cannot become a writer")
	ErrHeld    = errors.New("greedy: held by who asks")
	ErrMonitor = errors.New("greedy: conditions need the lock for writing")
)

// State is where a Waiter stands.
type State uint8

// The states. From Held on it is told.
const (
	Fresh     State = iota // not in use
	Queued                 // wants the lock
	Parked                 // on a condition
	Held                   // has the lock, under Token
	Refused                // a try that found it in use
	Abandoned              // left by Abandon
	Lost                   // the session ended
	Gone                   // the lock was destroyed
)

// Waiter is a goroutine that waits. The caller owns it, does not touch it
// while it is Queued or Parked, and may use it again after Reset.
type Waiter struct {
	By       any   // the caller's; not looked at
	Mode     Mode  // what it wants; set by the caller before Enqueue
	Try      bool  // refuse instead of waiting; set by the caller before Enqueue
	Notified bool  // a Wait ended by Notify, and not by Abandon
	State    State // see there
	Token    Token // when Held

	resumes    bool // has waited on a condition, and must have the lock
	cancelled  bool // its wait is being taken back
	cond       uint32
	ticket     uint64
	prev, next *Waiter
}

// Reset makes a waiter that was told Fresh again, and keeps By.
func (w *Waiter) Reset() { *w = Waiter{By: w.By} }

// Out is what a call wants done. The zero value is empty.
type Out struct {
	Ops   []locks.Op // to send to the hub, in order
	Tell  []*Waiter  // whose State is final now
	Ended []Token    // acquisitions that were lost
}

// Reset empties o and keeps its room.
func (o *Out) Reset() {
	clear(o.Tell)
	o.Ops, o.Tell, o.Ended = o.Ops[:0], o.Tell[:0], o.Ended[:0]
}

// Lock is what a node knows of one lock. The zero value holds nothing.
type Lock struct {
	Turn uint8 // how many goroutines a contended grant serves; zero: 1

	mode     Mode // of the grant
	recalled bool
	turn     uint8 // goroutines that a recalled grant may still serve
	pending  bool  // the hub owes a Granted or a Refused
	leaving  bool  // and was told that it is not wanted any more
	alone    bool
	use      uint64 // the last token
	limit    uint64 // the last token of the grant
	grant    uint64 // the hub's token; zero: none
	writer   Token
	resumed  uint64 // ticket of the writer, if a Notify woke it; the hub is told when it is done
	readers  []Token
	queue    list
	waits    list
	tickets  uint32  // the last one given
	wrapped  bool    // tickets began again
	lost     []Token // held when the session ended, and not unlocked yet
}

// Alone returns the lock of a process that is alone. Its tokens begin above
// grant*Uses; milliseconds since 1970 make them grow over restarts, at less than
// a million acquisitions in a millisecond.
func Alone(grant uint64) (l Lock) {
	l.Begin(grant)
	return l
}

// Begin makes a lock that holds nothing one of a process that is alone; see Alone.
func (l *Lock) Begin(grant uint64) {
	l.alone, l.grant, l.mode = true, grant, Write
	l.use, l.limit = max(l.use, grant*Uses), 1<<64-1
}

// End undoes Begin, after Told Gone: nothing is got any more until the next Begin.
// What was lost is not forgotten, and tokens go on from where they were.
func (l *Lock) End() { l.alone, l.grant, l.mode, l.limit = false, 0, 0, 0 }

// Acquire gets the lock if nothing stands in the way and nobody waits for it.
// If not, nothing was changed.
func (l *Lock) Acquire(m Mode) (Token, bool) {
	if l.writer != 0 || l.queue.first != nil || l.recalled || l.mode < m || l.use >= l.limit {
		return 0, false
	}
	if m == Write {
		if len(l.readers) > 0 {
			return 0, false
		}
		l.use++
		l.writer = Token(l.use)
		return l.writer, true
	}
	l.use++
	l.readers = append(l.readers, Token(l.use))
	return Token(l.use), true
}

// Check says whether one that holds the lock under a token may ask for it
// again: ErrUpgrade for a reader that wants to write (L8), ErrHeld for one that would
// wait for itself, nil if the token is not held any more.
func (l *Lock) Check(held Token, m Mode) error {
	switch {
	case held == 0:
		return nil
	case held == l.writer:
		return ErrHeld
	case !slices.Contains(l.readers, held):
		return nil
	case m == Write:
		return ErrUpgrade
	}
	return ErrHeld
}

// Enqueue puts a Fresh waiter behind the others. It is told Held when it is
// its turn, maybe in this call; a try is told Refused if the lock is in use.
func (l *Lock) Enqueue(w *Waiter, out *Out) {
	w.State = Queued
	if w.Try && (l.queue.first != nil || l.recalled || l.writer != 0 || w.Mode == Write && len(l.readers) > 0) {
		l.tell(w, Refused, out)
		return
	}
	l.queue.push(w)
	l.pump(out)
}

// Unlock releases what was acquired under a token. ErrLost: it was lost
// before; ErrNotHeld: it is not held, or not any more.
func (l *Lock) Unlock(t Token, out *Out) error {
	if t == l.writer && t != 0 {
		l.endWriter(out)
	} else if i := slices.Index(l.readers, t); i >= 0 {
		last := len(l.readers) - 1
		l.readers[i] = l.readers[last]
		l.readers = l.readers[:last]
	} else {
		return l.miss(t)
	}
	if l.queue.first != nil || l.recalled {
		l.pump(out)
	}
	return nil
}

// endWriter ends the writer's turn. What it was woken for is done only now, and
// what it changed went to the hub before this: had the node died earlier, the
// notification would go to another waiter.
func (l *Lock) endWriter(out *Out) {
	l.writer = 0
	if l.resumed != 0 {
		out.Ops = append(out.Ops, locks.Op{Verb: locks.DoResume, Ticket: l.resumed})
		l.resumed = 0
	}
}

// miss says why a token is not held; of a lost one it says so once.
func (l *Lock) miss(t Token) error {
	if i := slices.Index(l.lost, t); i >= 0 {
		l.lost = slices.Delete(l.lost, i, i+1)
		return ErrLost
	}
	return ErrNotHeld
}

// Downgrade makes a writer a reader, under the same token; readers that are
// next join it.
func (l *Lock) Downgrade(t Token, out *Out) error {
	if t == 0 || t != l.writer {
		if slices.Contains(l.readers, t) {
			return nil
		}
		return l.unheld(t)
	}
	l.endWriter(out)
	l.readers = append(l.readers, t)
	l.pump(out)
	return nil
}

// Wait parks a Fresh waiter on a condition and gives up the lock that is held
// for writing under t. The waiter is told Held when it has the lock again,
// after a Notify or an Abandon. With an error nothing was changed and the
// waiter is not told.
func (l *Lock) Wait(t Token, cond uint32, w *Waiter, out *Out) error {
	if err := l.monitor(t); err != nil {
		return err
	}
	l.endWriter(out)
	w.State, w.Mode, w.Try = Parked, Write, false
	w.resumes, w.cond, w.ticket = true, cond, l.ticket()
	l.waits.push(w)
	if !l.alone {
		out.Ops = append(out.Ops, locks.Op{Verb: locks.DoWait, Token: l.grant, Cond: cond, Ticket: w.ticket})
	}
	l.pump(out)
	return nil
}

// ticket returns a number that no waiter has. They stay below 1<<32: half of
// what an operation has room for.
func (l *Lock) ticket() uint64 {
	for {
		l.tickets++
		t := uint64(l.tickets)
		if t == 0 {
			l.wrapped = true
			continue
		}
		if !l.wrapped || !l.waits.has(t) && !l.queue.has(t) {
			return t
		}
	}
}

// Notify wakes the n that have waited longest on a condition, all if n is
// negative, at any node. The lock must be held for writing under t.
func (l *Lock) Notify(t Token, cond uint32, n int, out *Out) error {
	if err := l.monitor(t); err != nil {
		return err
	}
	if !l.alone {
		n = max(-1, min(n, 1<<31-1))
		out.Ops = append(out.Ops, locks.Op{Verb: locks.DoNotify, Token: l.grant, Cond: cond, N: int32(n)})
		return nil
	}
	for w := l.waits.first; w != nil && n != 0; {
		next := w.next
		if w.cond == cond {
			n--
			w.Notified = true
			l.resume(w)
		}
		w = next
	}
	return nil
}

// monitor says why t does not hold the lock for writing.
func (l *Lock) monitor(t Token) error {
	switch {
	case t != 0 && t == l.writer:
		return nil
	case slices.Contains(l.readers, t):
		return ErrMonitor
	}
	return l.unheld(t)
}

// unheld is miss for calls after which an Unlock is still to come.
func (l *Lock) unheld(t Token) error {
	if slices.Contains(l.lost, t) {
		return ErrLost
	}
	return ErrNotHeld
}

// resume moves a parked waiter to the queue: it has to have the lock again.
func (l *Lock) resume(w *Waiter) {
	l.waits.remove(w)
	w.State = Queued
	l.queue.push(w)
}

// Abandon takes a waiter back whose context ended. True: it left, with the
// state Abandoned, and is not told. False: it was told already, or it waits on
// a condition: then it is told Held as soon as it has the lock again, Notified or not,
// so that no notification is lost and who unlocks after waiting may.
func (l *Lock) Abandon(w *Waiter, out *Out) bool {
	switch {
	case w.State == Queued && !w.resumes:
		l.queue.remove(w)
		w.State = Abandoned
		l.pump(out)
		return true
	case w.State != Parked || w.cancelled:
	case l.alone:
		l.resume(w)
		l.pump(out)
	default:
		w.cancelled = true
		out.Ops = append(out.Ops, locks.Op{Verb: locks.DoCancelWait, Ticket: w.ticket})
	}
	return false
}

// Told takes what the hub told this session about the lock. Codes that it
// does not know, and answers that are overtaken, change nothing.
func (l *Lock) Told(e machine.Effect[machine.None], out *Out) {
	if l.alone {
		if e.Code == machine.Gone {
			l.end(Gone, out)
		}
		return
	}
	switch e.Code {
	case machine.Granted:
		l.granted(e)
	case machine.Recall:
		if e.Num != l.grant || l.grant == 0 {
			return // it went back already
		}
		if e.Aux&locks.AuxTry == 0 {
			l.recalled, l.turn = true, 0
		} else if !l.GiveBack(out) {
			out.Ops = append(out.Ops, locks.Op{Verb: locks.DoBusy, Token: l.grant})
		}
	case machine.Refused:
		l.refused(e.Aux&locks.AuxPlace != 0, out)
	case machine.Wake, machine.OK:
		w := l.waits.first
		for w != nil && w.ticket != e.Num {
			w = w.next
		}
		if w == nil {
			return
		}
		w.Notified = e.Code == machine.Wake
		if w.Notified && l.grant == 0 {
			l.pending = true // the hub gave us a place
		}
		l.resume(w)
	case machine.Gone:
		l.end(Gone, out)
	}
	l.pump(out)
}

// Lose ends everything after the session ended: all who wait are told Lost,
// all who hold are in out.Ended. Effects of that session must not come any
// more; the lock may be used by the next one. Alone it does nothing.
func (l *Lock) Lose(out *Out) {
	if !l.alone {
		l.end(Lost, out)
	}
}

// GiveBack releases a grant that nobody here uses or wants, and reports
// whether it did.
func (l *Lock) GiveBack(out *Out) bool {
	if l.alone || l.grant == 0 || l.writer != 0 || len(l.readers) > 0 || l.queue.first != nil {
		return false
	}
	l.release(out, 0)
	return true
}

// Grant is the hub's token of the grant that the node has, or 0.
func (l *Lock) Grant() uint64 { return l.grant }

// Counts says how many goroutines of this node have the lock, want it, and
// wait on its conditions. It walks all who wait.
func (l *Lock) Counts() (holding, queued, parked int) {
	holding = len(l.readers)
	if l.writer != 0 {
		holding = 1
	}
	for w := l.queue.first; w != nil; w = w.next {
		queued++
	}
	for w := l.waits.first; w != nil; w = w.next {
		parked++
	}
	return holding, queued, parked
}

// Idle reports that the lock may be forgotten: nobody holds it, wants it or
// waits, no grant is here and the hub owes no answer.
func (l *Lock) Idle() bool {
	return !l.alone && l.grant == 0 && !l.pending && l.queue.first == nil && l.waits.first == nil && len(l.lost) == 0
}
