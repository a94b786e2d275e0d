package latches

import (
	"encoding/binary"
	"errors"
	"maps"
	"math"
	"slices"

	"github.com/distgear/distgear/internal/machine"
)

var errMalformed = errors.New("latches: malformed state")

const version = 1

// AppendBinary appends the state to b. Equal states append equal bytes.
func (x *Latch) AppendBinary(b []byte) []byte {
	b = append(b, version)
	b = binary.AppendUvarint(b, uint64(x.count))
	if x.open {
		b = append(b, 1)
	} else {
		b = append(b, 0)
	}
	b = binary.AppendUvarint(b, uint64(len(x.ids)))
	for _, id := range slices.Sorted(maps.Keys(x.ids)) {
		b = binary.AppendUvarint(b, uint64(len(id)))
		b = append(b, id...)
	}
	return appendWait(b, x.wait)
}

// Restore makes x the state that AppendBinary wrote as b. With an error b is
// not such a state, and x is as before.
func (x *Latch) Restore(b []byte) error {
	r := reader{b: b}
	r.version()
	n := Latch{count: int64(r.uint(math.MaxInt64)), open: r.uint(1) == 1}
	last := ""
	for i := r.uint(uint64(len(r.b))); i > 0 && !r.bad; i-- {
		id := string(r.bytes())
		if n.ids == nil {
			n.ids = make(map[string]struct{})
		} else if id <= last {
			return errMalformed
		}
		n.ids[id] = struct{}{}
		last = id
	}
	n.wait = r.wait()
	switch {
	case r.bad || len(r.b) > 0:
		return errMalformed
	case n.open && (n.ids != nil || n.wait != nil):
		return errMalformed
	case !n.open && (n.count == 0) != n.Idle() || !n.open && n.count > 0 && int64(len(n.ids)) >= n.count:
		return errMalformed
	}
	*x = n
	return nil
}

// AppendBinary appends the state to b. Equal states append equal bytes.
func (x *WaitGroup) AppendBinary(b []byte) []byte {
	b = append(b, version)
	return appendWait(binary.AppendUvarint(b, uint64(x.n)), x.wait)
}

// Restore makes x the state that AppendBinary wrote as b. With an error b is
// not such a state, and x is as before.
func (x *WaitGroup) Restore(b []byte) error {
	r := reader{b: b}
	r.version()
	n := WaitGroup{n: int64(r.uint(math.MaxInt64))}
	n.wait = r.wait()
	if r.bad || len(r.b) > 0 || n.n == 0 && n.wait != nil {
		return errMalformed
	}
	*x = n
	return nil
}

func appendWait(b []byte, wait []machine.Who) []byte {
	b = binary.AppendUvarint(b, uint64(len(wait)))
	for _, w := range wait {
		b = binary.AppendUvarint(b, uint64(w.Session))
		b = binary.AppendUvarint(b, w.Req)
	}
	return b
}

// reader takes apart what AppendBinary wrote. After a fault it is bad and
// reads zeros.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) version() {
	if r.uint(version) != version {
		r.b, r.bad = nil, true
	}
}

func (r *reader) uint(most uint64) uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 || v > most {
		r.b, r.bad = nil, true
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) bytes() []byte {
	n := r.uint(uint64(len(r.b)))
	if n > uint64(len(r.b)) {
		r.b, r.bad = nil, true
		return nil
	}
	v := r.b[:n]
	r.b = r.b[n:]
	return v
}

func (r *reader) wait() []machine.Who {
	var ws []machine.Who
	for i := r.uint(uint64(len(r.b))); i > 0 && !r.bad; i-- {
		ws = append(ws, machine.Who{Session: machine.Session(r.uint(math.MaxUint64)), Req: r.uint(math.MaxUint64)})
	}
	return ws
}
