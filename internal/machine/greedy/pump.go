package greedy

import (
	"github.com/distgear/distgear/internal/machine"
	"github.com/distgear/distgear/internal/machine/locks"
)

// granted takes a grant, whether or not it is wanted still.
func (l *Lock) granted(e machine.Effect[machine.None]) {
	if l.grant != 0 {
		return // a session has one grant at a time
	}
	l.pending, l.leaving = false, false
	l.grant, l.mode = e.Num, Read
	if e.Aux&locks.AuxWrite != 0 {
		l.mode = Write
	}
	l.use, l.limit = e.Num*Uses, e.Num*Uses+Uses-1
	l.recalled = e.Aux&locks.AuxContended != 0
	l.turn = max(1, l.Turn)
}

// refused ends a want; with place only the try.
func (l *Lock) refused(place bool, out *Out) {
	if !place {
		left := l.leaving
		l.pending, l.leaving = false, false
		if left {
			return // what stands in the queue now came later and asks anew
		}
	}
	if w := l.queue.first; w != nil && w.Try {
		l.queue.remove(w)
		l.tell(w, Refused, out)
	}
}

// pump gives the lock to those whose turn it is, and then sees what is to be
// said to the hub.
func (l *Lock) pump(out *Out) {
	run := false // of readers that count as one
	for w := l.queue.first; w != nil && l.can(w.Mode); w = l.queue.first {
		if l.recalled && !(run && w.Mode == Read) {
			if l.turn == 0 {
				break
			}
			l.turn--
		}
		run = w.Mode == Read
		l.queue.remove(w)
		l.serve(w, out)
	}
	if l.alone {
		return
	}
	head := l.queue.first
	used := l.writer != 0 || len(l.readers) > 0
	if l.grant != 0 && !used && (l.recalled || head != nil) {
		var again Mode
		if head != nil && !head.Try {
			again = head.Mode
		}
		l.release(out, again)
	}
	if l.recalled && l.mode == Write && len(l.readers) > 0 && (head == nil || l.turn == 0) {
		l.mode = Read // other nodes' readers may join those that are left here
		out.Ops = append(out.Ops, locks.Op{Verb: locks.DoDowngrade, Token: l.grant})
	}
	switch {
	case l.grant != 0:
	case head != nil && !l.pending:
		l.pending = true
		out.Ops = append(out.Ops, locks.Op{Verb: locks.DoWant, Mode: head.Mode, Try: head.Try})
	case head == nil && l.pending && !l.leaving:
		l.leaving = true
		out.Ops = append(out.Ops, locks.Op{Verb: locks.DoAbandon})
	}
}

// can reports whether the grant and those who hold the lock leave room for
// one more.
func (l *Lock) can(m Mode) bool {
	return l.mode >= m && l.writer == 0 && l.use < l.limit && (m == Read || len(l.readers) == 0)
}

// serve gives the lock to a waiter.
func (l *Lock) serve(w *Waiter, out *Out) {
	l.use++
	w.Token = Token(l.use)
	if w.Mode == Write {
		l.writer = w.Token
	} else {
		l.readers = append(l.readers, w.Token)
	}
	if w.Notified && !l.alone {
		l.resumed = w.ticket
	}
	l.tell(w, Held, out)
}

func (l *Lock) tell(w *Waiter, s State, out *Out) {
	w.State = s
	out.Tell = append(out.Tell, w)
}

// release gives the grant back, and asks for another if again is not zero.
func (l *Lock) release(out *Out, again Mode) {
	out.Ops = append(out.Ops, locks.Op{Verb: locks.DoRelease, Token: l.grant, Mode: again})
	l.drop()
	l.pending = again != 0
}

// drop forgets the grant. Who is alone has it for ever.
func (l *Lock) drop() {
	if l.alone {
		return
	}
	l.grant, l.mode, l.use, l.limit = 0, 0, 0, 0
	l.recalled, l.turn, l.pending, l.leaving = false, 0, false, false
}

// end tells all who wait and lists all who hold.
func (l *Lock) end(s State, out *Out) {
	if l.writer != 0 {
		l.lost = append(l.lost, l.writer)
		out.Ended = append(out.Ended, l.writer)
	}
	l.lost = append(l.lost, l.readers...)
	out.Ended = append(out.Ended, l.readers...)
	l.writer, l.resumed, l.readers = 0, 0, nil
	l.drop()
	for _, q := range []*list{&l.queue, &l.waits} {
		for w := q.first; w != nil; w = q.first {
			q.remove(w)
			l.tell(w, s, out)
		}
	}
}

// list is of waiters, by their own links: to leave from the middle costs
// nothing, and nothing is allocated.
type list struct{ first, last *Waiter }

func (q *list) push(w *Waiter) {
	w.prev, w.next = q.last, nil
	if q.last != nil {
		q.last.next = w
	} else {
		q.first = w
	}
	q.last = w
}

func (q *list) has(ticket uint64) bool {
	for w := q.first; w != nil; w = w.next {
		if w.ticket == ticket {
			return true
		}
	}
	return false
}

func (q *list) remove(w *Waiter) {
	if w.prev != nil {
		w.prev.next = w.next
	} else {
		q.first = w.next
	}
	if w.next != nil {
		w.next.prev = w.prev
	} else {
		q.last = w.prev
	}
	w.prev, w.next = nil, nil
}
