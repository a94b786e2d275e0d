package topics

import (
	"encoding/binary"
	"errors"

	"github.com/distgear/distgear/internal/machine"
)

var errMalformed = errors.New("topics: malformed state")

const version = 1

// AppendBinary appends the state to b. Equal states append equal bytes.
func (x *Topic[V]) AppendBinary(b []byte) []byte {
	b = append(b, version)
	b = binary.AppendUvarint(b, x.last)
	b = binary.AppendUvarint(b, uint64(len(x.subs)))
	for _, w := range x.subs {
		b = binary.AppendUvarint(b, uint64(w.Session))
		b = binary.AppendUvarint(b, w.Req)
	}
	return b
}

// Restore makes x the state that AppendBinary wrote as b. With an error b is
// not such a state, and x is as before.
func (x *Topic[V]) Restore(b []byte) error {
	if len(b) == 0 || b[0] != version {
		return errMalformed
	}
	b = b[1:]
	bad := false
	next := func() uint64 {
		v, n := binary.Uvarint(b)
		if n <= 0 {
			bad, b = true, nil
			return 0
		}
		b = b[n:]
		return v
	}
	n := Topic[V]{last: next()}
	count := next()
	if count > uint64(len(b)/2) {
		return errMalformed
	}
	seen := make(map[machine.Who]bool, count)
	for range count {
		w := machine.Who{Session: machine.Session(next()), Req: next()}
		if seen[w] {
			return errMalformed
		}
		seen[w] = true
		n.subs = append(n.subs, w)
	}
	if bad || len(b) > 0 {
		return errMalformed
	}
	*x = n
	return nil
}
