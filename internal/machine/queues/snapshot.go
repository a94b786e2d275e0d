package queues

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/distgear/distgear/internal/machine"
)

var errMalformed = errors.New("queues: malformed state")

const version = 1

// AppendBinary appends the state to b. appendItem appends an item, and must
// append equal bytes for equal items if equal states are to give equal bytes.
func (x *Queue[T]) AppendBinary(b []byte, appendItem func([]byte, T) []byte) []byte {
	var scratch []byte
	item := func(v T) {
		scratch = appendItem(scratch[:0], v)
		b = binary.AppendUvarint(b, uint64(len(scratch)))
		b = append(b, scratch...)
	}
	who := func(w machine.Who) {
		b = binary.AppendUvarint(b, uint64(w.Session))
		b = binary.AppendUvarint(b, w.Req)
	}
	b = append(b, version)
	b = binary.AppendUvarint(b, uint64(x.bound))
	b = binary.AppendUvarint(b, uint64(x.items.n))
	for i := range x.items.n {
		item(*x.items.at(i))
	}
	b = binary.AppendUvarint(b, uint64(x.take.n))
	for i := range x.take.n {
		who(*x.take.at(i))
	}
	b = binary.AppendUvarint(b, uint64(x.put.n))
	for i := range x.put.n {
		who(x.put.at(i).who)
		item(x.put.at(i).v)
	}
	for _, ws := range [][]machine.Who{x.item, x.space} {
		b = binary.AppendUvarint(b, uint64(len(ws)))
		for _, w := range ws {
			who(w)
		}
	}
	return b
}

// Restore makes x the state that AppendBinary wrote as b. parse is given the
// bytes of one item, a part of b that it must not keep. With an error b is not such a
// state, or parse refused an item of it, and x is as before.
func (x *Queue[T]) Restore(b []byte, parse func([]byte) (T, error)) error {
	r := reader{b: b}
	if r.uint(version) != version {
		return errMalformed
	}
	var n Queue[T]
	n.bound = int(r.uint(math.MaxInt))
	for i := r.uint(r.most(1)); i > 0 && !r.bad; i-- {
		v, err := parse(r.bytes())
		if err != nil {
			return fmt.Errorf("queues: item: %w", err)
		}
		n.items.push(v)
	}
	for _, w := range r.whos() {
		n.take.push(w)
	}
	for i := r.uint(r.most(3)); i > 0 && !r.bad; i-- {
		w := r.who()
		v, err := parse(r.bytes())
		if err != nil {
			return fmt.Errorf("queues: item: %w", err)
		}
		n.put.push(putter[T]{w, v})
	}
	n.item, n.space = r.whos(), r.whos()
	if r.bad || len(r.b) > 0 || !n.sound() {
		return errMalformed
	}
	n.named = n.items.n > 0
	*x = n
	return nil
}

// sound reports whether an operation could have left x so.
func (x *Queue[T]) sound() bool {
	full := x.bound > 0 && x.items.n == x.bound
	switch {
	case x.items.n == 0 && x.bound != 0 || x.bound > 0 && x.items.n > x.bound:
		return false
	case x.items.n > 0 && x.take.n+len(x.item) > 0:
		return false
	default:
		return full || x.put.n+len(x.space) == 0
	}
}

// reader takes apart what AppendBinary wrote. After a fault it is bad and
// reads zeros.
type reader struct {
	b   []byte
	bad bool
}

// most is how many things of at least size bytes can follow.
func (r *reader) most(size int) uint64 { return uint64(len(r.b) / size) }

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
	n := r.uint(r.most(1))
	if n > uint64(len(r.b)) {
		r.b, r.bad = nil, true
		return nil
	}
	v := r.b[:n:n]
	r.b = r.b[n:]
	return v
}

func (r *reader) who() machine.Who {
	return machine.Who{Session: machine.Session(r.uint(math.MaxUint64)), Req: r.uint(math.MaxUint64)}
}

func (r *reader) whos() []machine.Who {
	var ws []machine.Who
	for i := r.uint(r.most(1)); i > 0 && !r.bad; i-- {
		ws = append(ws, r.who())
	}
	return ws
}
