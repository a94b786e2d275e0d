package barriers

import (
	"encoding/binary"
	"math"

	"github.com/distgear/distgear/internal/machine/pack"
)

const version = 1

// AppendBinary appends the state to b. Equal states append equal bytes.
func (x *Barrier) AppendBinary(b []byte) []byte {
	b = append(b, version)
	b = binary.AppendUvarint(b, x.gens)
	b = binary.AppendUvarint(b, uint64(x.parties))
	b = binary.AppendUvarint(b, x.broken)
	b = pack.AppendBool(b, x.acting)
	b = binary.AppendUvarint(b, uint64(len(x.wait)))
	for _, a := range x.wait {
		b = pack.AppendBool(pack.AppendWho(b, a.who), a.action)
	}
	return b
}

// Restore makes x the state that AppendBinary wrote as b. With an error b is
// not such a state, and x is as before.
func (x *Barrier) Restore(b []byte) error {
	r := pack.Read(b)
	if r.Byte() != version {
		return pack.ErrMalformed
	}
	n := Barrier{gens: r.Uint(math.MaxUint64 - 1), parties: int(r.Uint(math.MaxInt)), broken: r.Uint(WasReset), acting: r.Bool()}
	for range r.Count(3) {
		n.wait = append(n.wait, arrival{r.Who(), r.Bool()})
	}
	switch {
	case !r.End():
		return pack.ErrMalformed
	case (n.parties == 0) != (len(n.wait) == 0) || n.broken != 0 && n.parties != 0: // parties are those of who waits, and nobody waits at a broken one
		return pack.ErrMalformed
	case n.acting && (len(n.wait) < n.parties || n.parties == 0 || !n.wait[n.parties-1].action) || !n.acting && n.parties > 0 && len(n.wait) >= n.parties:
		return pack.ErrMalformed
	}
	*x = n
	return nil
}
