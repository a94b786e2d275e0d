package barriers

import (
	"encoding/binary"
	"errors"
	"math"

	"github.com/distgear/distgear/internal/machine"
)

var errMalformed = errors.New("barriers: malformed state")

const version = 1

// AppendBinary appends the state to b. Equal states append equal bytes.
func (x *Barrier) AppendBinary(b []byte) []byte {
	b = append(b, version)
	b = binary.AppendUvarint(b, x.gens)
	b = binary.AppendUvarint(b, uint64(x.parties))
	b = binary.AppendUvarint(b, x.broken)
	b = append(b, flag(x.acting))
	b = binary.AppendUvarint(b, uint64(len(x.wait)))
	for _, a := range x.wait {
		b = binary.AppendUvarint(b, uint64(a.who.Session))
		b = binary.AppendUvarint(b, a.who.Req)
		b = append(b, flag(a.action))
	}
	return b
}

func flag(on bool) byte {
	if on {
		return 1
	}
	return 0
}

// Restore makes x the state that AppendBinary wrote as b. With an error b is
// not such a state, and x is as before.
func (x *Barrier) Restore(b []byte) error {
	if len(b) == 0 || b[0] != version {
		return errMalformed
	}
	b = b[1:]
	bad := false
	next := func(most uint64) uint64 {
		v, n := binary.Uvarint(b)
		if n <= 0 || v > most {
			bad, b = true, nil
			return 0
		}
		b = b[n:]
		return v
	}
	n := Barrier{gens: next(math.MaxUint64 - 1), parties: int(next(math.MaxInt)), broken: next(WasReset), acting: next(1) == 1}
	count := next(uint64(len(b) / 3))
	for range count {
		who := machine.Who{Session: machine.Session(next(math.MaxUint64)), Req: next(math.MaxUint64)}
		n.wait = append(n.wait, arrival{who, next(1) == 1})
	}
	switch {
	case bad || len(b) > 0:
		return errMalformed
	case (n.parties == 0) != (len(n.wait) == 0) || n.broken != 0 && n.parties != 0: // parties are those of who waits, and nobody waits at a broken one
		return errMalformed
	case n.acting && (len(n.wait) < n.parties || n.parties == 0 || !n.wait[n.parties-1].action) || !n.acting && n.parties > 0 && len(n.wait) >= n.parties:
		return errMalformed
	}
	*x = n
	return nil
}
