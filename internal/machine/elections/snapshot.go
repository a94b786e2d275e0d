package elections

import (
	"encoding/binary"

	"github.com/distgear/distgear/internal/machine"
	"github.com/distgear/distgear/internal/machine/pack"
)

const version = 1

// AppendBinary appends the state to b. Equal states append equal bytes.
func (x *Election) AppendBinary(b []byte) []byte {
	b = append(b, version)
	b = binary.AppendUvarint(b, x.token)
	b = binary.AppendUvarint(b, uint64(len(x.line)))
	for _, c := range x.line {
		b = pack.AppendBytes(pack.AppendWho(b, c.who), c.value)
	}
	return pack.AppendWhos(b, x.watch)
}

// Restore makes x the state that AppendBinary wrote as b. With an error b is
// not such a state, and x is as before.
func (x *Election) Restore(b []byte) error {
	r := pack.Read(b)
	if r.Byte() != version {
		return pack.ErrMalformed
	}
	n := Election{token: r.Uvarint()}
	for i := r.Count(3); i > 0 && !r.Bad(); i-- {
		n.line = append(n.line, candidate{who: r.Who(), value: string(r.Bytes())})
	}
	n.watch = r.Whos()
	if !r.End() || (n.token == 0) != (len(n.line) == 0) {
		return pack.ErrMalformed
	}
	seen := map[machine.Who]bool{}
	for _, c := range n.line {
		seen[c.who] = true
	}
	for _, w := range n.watch {
		seen[w] = true
	}
	if len(seen) < len(n.line)+len(n.watch) {
		return pack.ErrMalformed
	}
	*x = n
	return nil
}
