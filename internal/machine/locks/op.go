package locks

import "github.com/distgear/distgear/internal/machine"

// Verb says which method an Op calls.
type Verb uint8

// The verbs, and the fields of an Op that they use.
const (
	DoWant       Verb = 1 + iota // Mode, Try
	DoAbandon                    // none
	DoRelease                    // Token, Mode: again, or 0
	DoBusy                       // Token
	DoDowngrade                  // Token
	DoWait                       // Token, Cond, Ticket
	DoNotify                     // Token, Cond, N
	DoCancelWait                 // Ticket
	DoResume                     // Ticket
)

// Op is one operation of a session, as a value. Fields that its verb does not
// use are zero.
type Op struct {
	Verb   Verb
	Mode   Mode
	Try    bool
	Cond   uint32
	N      int32 // how many to notify, negative: all
	Token  uint64
	Ticket uint64
}

// Do applies op by the method that its verb names. An unknown verb tells
// Invalid.
func (l *Lock) Do(out *Out, who machine.Who, at At, op Op) {
	switch op.Verb {
	case DoWant:
		l.Want(out, who, at, op.Mode, op.Try)
	case DoAbandon:
		l.Abandon(out, who, at)
	case DoRelease:
		l.Release(out, who, at, op.Token, op.Mode)
	case DoBusy:
		l.Busy(out, who, at, op.Token)
	case DoDowngrade:
		l.Downgrade(out, who, at, op.Token)
	case DoWait:
		l.Wait(out, who, at, op.Token, op.Cond, op.Ticket)
	case DoNotify:
		l.Notify(out, who, at, op.Token, op.Cond, int(op.N))
	case DoCancelWait:
		l.CancelWait(out, who, op.Ticket)
	case DoResume:
		l.Resume(who, op.Ticket)
	default:
		out.Tell(who, machine.Invalid, 0)
	}
}
