package queues

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/distgear/distgear/internal/machine/pack"
)

const version = 1

// AppendBinary appends the state to b. appendItem appends an item, and must
// append equal bytes for equal items if equal states are to give equal bytes.
func (x *Queue[T]) AppendBinary(b []byte, appendItem func([]byte, T) []byte) []byte {
	var scratch []byte
	item := func(v T) {
		scratch = appendItem(scratch[:0], v)
		b = pack.AppendBytes(b, scratch)
	}
	b = append(b, version)
	b = binary.AppendUvarint(b, uint64(x.bound))
	b = binary.AppendUvarint(b, uint64(x.items.Len()))
	for i := range x.items.Len() {
		item(*x.items.At(i))
	}
	b = binary.AppendUvarint(b, uint64(x.take.Len()))
	for i := range x.take.Len() {
		b = pack.AppendWho(b, *x.take.At(i))
	}
	b = binary.AppendUvarint(b, uint64(x.put.Len()))
	for i := range x.put.Len() {
		b = pack.AppendWho(b, x.put.At(i).who)
		item(x.put.At(i).v)
	}
	return pack.AppendWhos(pack.AppendWhos(b, x.item), x.space)
}

// Restore makes x the state that AppendBinary wrote as b. parse is given the
// bytes of one item, a part of b that it must not keep. With an error b is not such a
// state, or parse refused an item of it, and x is as before.
func (x *Queue[T]) Restore(b []byte, parse func([]byte) (T, error)) error {
	r := pack.Read(b)
	if r.Byte() != version {
		return pack.ErrMalformed
	}
	var n Queue[T]
	n.bound = int(r.Uint(math.MaxInt))
	for i := r.Count(1); i > 0 && !r.Bad(); i-- {
		v, err := parse(r.Bytes())
		if err != nil {
			return fmt.Errorf("queues: item: %w", err)
		}
		n.items.Push(v)
	}
	for _, w := range r.Whos() {
		n.take.Push(w)
	}
	for i := r.Count(3); i > 0 && !r.Bad(); i-- {
		w := r.Who()
		v, err := parse(r.Bytes())
		if err != nil {
			return fmt.Errorf("queues: item: %w", err)
		}
		n.put.Push(putter[T]{w, v})
	}
	n.item, n.space = r.Whos(), r.Whos()
	if !r.End() || !n.sound() {
		return pack.ErrMalformed
	}
	n.named = n.items.Len() > 0
	*x = n
	return nil
}

// sound reports whether an operation could have left x so.
func (x *Queue[T]) sound() bool {
	full := x.bound > 0 && x.items.Len() == x.bound
	switch {
	case x.items.Len() == 0 && x.bound != 0 || x.bound > 0 && x.items.Len() > x.bound:
		return false
	case x.items.Len() > 0 && x.take.Len()+len(x.item) > 0:
		return false
	default:
		return full || x.put.Len()+len(x.space) == 0
	}
}
