package operation

import "github.com/distgear/distgear/internal/machine/locks"

// VLock is the first verb of a lock; the others follow in the order of
// locks.Verb. See LockOp.
const VLock = Verb(KLock) << 4

// LockOp is the operation that carries an operation of package locks. What a
// lock tells a session answers no request: it is told by handle.
func LockOp(op locks.Op) Op {
	o := Op{Verb: VLock + Verb(op.Verb)}
	switch op.Verb {
	case locks.DoWant:
		o.A = uint64(op.Mode)
		if op.Try {
			o.B = 1
		}
	case locks.DoRelease:
		o.A, o.B = op.Token, uint64(op.Mode)
	case locks.DoBusy, locks.DoDowngrade:
		o.A = op.Token
	case locks.DoWait:
		o.A, o.B = op.Token, op.Ticket<<32|uint64(op.Cond) // a node counts its tickets from 1
	case locks.DoNotify:
		o.A, o.B = op.Token, uint64(uint32(op.N))<<32|uint64(op.Cond)
	case locks.DoCancelWait, locks.DoResume:
		o.A = op.Ticket
	case locks.DoAbandon:
	}
	return o
}

// OfLock is what LockOp put into o.
func OfLock(o *Op) locks.Op {
	op := locks.Op{Verb: locks.Verb(o.Verb - VLock)}
	switch op.Verb {
	case locks.DoWant:
		op.Mode, op.Try = locks.Mode(o.A), o.B != 0
	case locks.DoRelease:
		op.Token, op.Mode = o.A, locks.Mode(o.B)
	case locks.DoBusy, locks.DoDowngrade:
		op.Token = o.A
	case locks.DoWait:
		op.Token, op.Ticket, op.Cond = o.A, o.B>>32, uint32(o.B)
	case locks.DoNotify:
		op.Token, op.N, op.Cond = o.A, int32(uint32(o.B>>32)), uint32(o.B)
	case locks.DoCancelWait, locks.DoResume:
		op.Ticket = o.A
	case locks.DoAbandon:
	}
	return op
}
