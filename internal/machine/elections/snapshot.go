package elections

import (
	"encoding/binary"
	"errors"

	"github.com/distgear/distgear/internal/machine"
)

var errMalformed = errors.New("elections: malformed state")

const version = 1

// AppendBinary appends the state to b. Equal states append equal bytes.
func (x *Election) AppendBinary(b []byte) []byte {
	b = append(b, version)
	b = binary.AppendUvarint(b, x.token)
	b = binary.AppendUvarint(b, uint64(len(x.line)))
	for _, c := range x.line {
		b = appendWho(b, c.who)
		b = binary.AppendUvarint(b, uint64(len(c.value)))
		b = append(b, c.value...)
	}
	b = binary.AppendUvarint(b, uint64(len(x.watch)))
	for _, w := range x.watch {
		b = appendWho(b, w)
	}
	return b
}

func appendWho(b []byte, w machine.Who) []byte {
	b = binary.AppendUvarint(b, uint64(w.Session))
	return binary.AppendUvarint(b, w.Req)
}

// Restore makes x the state that AppendBinary wrote as b. With an error b is
// not such a state, and x is as before.
func (x *Election) Restore(b []byte) error {
	if len(b) == 0 || b[0] != version {
		return errMalformed
	}
	r := reader{b: b[1:]}
	n := Election{token: r.uint()}
	seen := map[machine.Who]bool{}
	for i := r.count(); i > 0 && !r.bad; i-- {
		c := candidate{who: r.who(seen)}
		size := r.uint()
		if size > uint64(len(r.b)) {
			return errMalformed
		}
		c.value = string(r.b[:size])
		r.b = r.b[size:]
		n.line = append(n.line, c)
	}
	for i := r.count(); i > 0 && !r.bad; i-- {
		n.watch = append(n.watch, r.who(seen))
	}
	if r.bad || len(r.b) > 0 || (n.token == 0) != (len(n.line) == 0) {
		return errMalformed
	}
	*x = n
	return nil
}

type reader struct {
	b   []byte
	bad bool
}

func (r *reader) uint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.bad, r.b = true, nil
		return 0
	}
	r.b = r.b[n:]
	return v
}

// count reads how many things follow, each of at least two bytes.
func (r *reader) count() uint64 {
	n := r.uint()
	if n > uint64(len(r.b)/2) {
		r.bad = true
	}
	return n
}

func (r *reader) who(seen map[machine.Who]bool) machine.Who {
	w := machine.Who{Session: machine.Session(r.uint()), Req: r.uint()}
	r.bad = r.bad || seen[w]
	seen[w] = true
	return w
}
