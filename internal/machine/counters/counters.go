// Package counters is a counter of 64 bits with a sign.
//
//	var c counters.Counter
//	c.Add(&out, who, 1)
//	c.CompareAndSet(&out, who, 1, 5)
//
// # Guarantees
//
// Every operation is answered at once, with OK or Refused, and Num is the
// counter's value after it, in two's complement: int64(Num).
//
// # Failures
//
// What a session added stays when it ends. A sum beyond 64 bits wraps as in
// sync/atomic, and the answer says so.
//
// A Counter is not safe for concurrent use.
package counters

import (
	"encoding/binary"

	"github.com/distgear/distgear/internal/machine"
	"github.com/distgear/distgear/internal/machine/pack"
)

const version = 1

// Counter is the state of one counter. The zero value is 0.
type Counter struct{ v int64 }

// Add adds delta. OK to who: Num is the sum, Aux is 1 if it wrapped and 0 otherwise.
func (x *Counter) Add(out *machine.Out[machine.None], who machine.Who, delta int64) {
	old := x.v
	x.v += delta
	var wrapped uint64
	if delta > 0 && x.v < old || delta < 0 && x.v > old {
		wrapped = 1
	}
	out.Add(machine.Effect[machine.None]{To: who, Code: machine.OK, Num: uint64(x.v), Aux: wrapped})
}

// Load reads. OK to who: Num is the value.
func (x *Counter) Load(out *machine.Out[machine.None], who machine.Who) {
	out.Tell(who, machine.OK, uint64(x.v))
}

// Store sets the value. OK to who: Num is the value, Aux the one before it, in
// two's complement as well.
func (x *Counter) Store(out *machine.Out[machine.None], who machine.Who, v int64) {
	out.Add(machine.Effect[machine.None]{To: who, Code: machine.OK, Num: uint64(v), Aux: uint64(x.v)})
	x.v = v
}

// CompareAndSet sets the value if it is old.
//
//   - OK to who: it was; Num is the new value.
//   - Refused to who: it was not; Num is the value. Nothing is changed.
func (x *Counter) CompareAndSet(out *machine.Out[machine.None], who machine.Who, old, v int64) {
	if x.v != old {
		out.Tell(who, machine.Refused, uint64(x.v))
		return
	}
	x.v = v
	out.Tell(who, machine.OK, uint64(x.v))
}

// Expire does nothing: a session holds nothing of a counter. Nobody is told.
func (x *Counter) Expire(*machine.Out[machine.None], machine.Session) {}

// Destroy ends the counter: x is 0. Nobody waits, so nobody is told.
func (x *Counter) Destroy(*machine.Out[machine.None]) { x.v = 0 }

// Idle reports whether the value is 0.
func (x *Counter) Idle() bool { return x.v == 0 }

// Value is the value.
func (x *Counter) Value() int64 { return x.v }

// AppendBinary appends the state to b.
func (x *Counter) AppendBinary(b []byte) []byte {
	return binary.AppendVarint(append(b, version), x.v)
}

// Restore makes x the state that AppendBinary wrote as b. With an error b is
// not such a state, and x is as before.
func (x *Counter) Restore(b []byte) error {
	r := pack.Read(b)
	ok := r.Byte() == version
	if v := r.Varint(); ok && r.End() {
		x.v = v
		return nil
	}
	return pack.ErrMalformed
}
