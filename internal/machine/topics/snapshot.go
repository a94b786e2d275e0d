package topics

import (
	"encoding/binary"

	"github.com/distgear/distgear/internal/machine"
	"github.com/distgear/distgear/internal/machine/pack"
)

const version = 1

// AppendBinary appends the state to b. Equal states append equal bytes.
func (x *Topic[V]) AppendBinary(b []byte) []byte {
	b = append(b, version)
	return pack.AppendWhos(binary.AppendUvarint(b, x.last), x.subs)
}

// Restore makes x the state that AppendBinary wrote as b. With an error b is
// not such a state, and x is as before.
func (x *Topic[V]) Restore(b []byte) error {
	r := pack.Read(b)
	if r.Byte() != version {
		return pack.ErrMalformed
	}
	n := Topic[V]{last: r.Uvarint(), subs: r.Whos()}
	seen := make(map[machine.Who]bool, len(n.subs))
	for _, w := range n.subs {
		seen[w] = true
	}
	if !r.End() || len(seen) < len(n.subs) {
		return pack.ErrMalformed
	}
	*x = n
	return nil
}
