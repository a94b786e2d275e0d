// Package pack is how machines and the shard write their states, and messages,
// as bytes: integers are uvarints, texts and values a uvarint length and bytes.
//
//	b = pack.AppendBytes(binary.AppendUvarint(b, x.count), x.name)
//
//	r := pack.Read(b)
//	n := Thing{count: r.Uint(most), name: string(r.Bytes())}
//	if !r.End() {
//		return pack.ErrMalformed
//	}
//
// # Guarantees
//
// Any bytes may be read: nothing panics, and no count is larger than what follows
// can hold. A number is read only if it is written as short as it can be, so that
// what was read is written as the same bytes.
//
// # Failures
//
// After the first fault a Reader is bad: it reads zeros and nothing follows.
package pack

import (
	"encoding/binary"
	"errors"
	"math"

	"github.com/distgear/distgear/internal/machine"
)

// ErrMalformed is the error of a machine's Restore: the bytes are not what its
// AppendBinary writes, or describe a state that it cannot be in.
var ErrMalformed = errors.New("malformed state")

// AppendBytes appends a text or a value.
func AppendBytes[B []byte | string](b []byte, s B) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// AppendBool appends one byte, 0 or 1.
func AppendBool(b []byte, v bool) []byte {
	if v {
		return append(b, 1)
	}
	return append(b, 0)
}

// AppendWho appends who asks.
func AppendWho(b []byte, w machine.Who) []byte {
	b = binary.AppendUvarint(b, uint64(w.Session))
	return binary.AppendUvarint(b, w.Req)
}

// AppendWhos appends how many they are, and them.
func AppendWhos(b []byte, ws []machine.Who) []byte {
	b = binary.AppendUvarint(b, uint64(len(ws)))
	for _, w := range ws {
		b = AppendWho(b, w)
	}
	return b
}

// Reader takes bytes apart.
type Reader struct {
	b   []byte
	bad bool
}

// Read returns a reader of b, which it does not change.
func Read(b []byte) Reader { return Reader{b: b} }

// Fail makes the reader bad.
func (r *Reader) Fail() { r.b, r.bad = nil, true }

// Bad tells that there was a fault.
func (r *Reader) Bad() bool { return r.bad }

// End tells that all was read, without a fault.
func (r *Reader) End() bool { return !r.bad && len(r.b) == 0 }

// Rest is what was not read.
func (r *Reader) Rest() []byte { return r.b }

// Byte reads one byte.
func (r *Reader) Byte() byte {
	if len(r.b) == 0 {
		r.Fail()
		return 0
	}
	c := r.b[0]
	r.b = r.b[1:]
	return c
}

// Flags reads a byte that has no bits but these.
func (r *Reader) Flags(all byte) byte {
	c := r.Byte()
	if c&^all != 0 {
		r.Fail()
		return 0
	}
	return c
}

// Bool reads a byte that is 0 or 1.
func (r *Reader) Bool() bool { return r.Flags(1) != 0 }

// Uvarint reads a number.
func (r *Reader) Uvarint() uint64 {
	if len(r.b) > 0 && r.b[0] < 0x80 { // the common case
		v := uint64(r.b[0])
		r.b = r.b[1:]
		return v
	}
	v, n := binary.Uvarint(r.b)
	if n <= 0 || r.b[n-1] == 0 { // none, or one that is longer than it need be
		r.Fail()
		return 0
	}
	r.b = r.b[n:]
	return v
}

// Uint reads a number that is at most so large.
func (r *Reader) Uint(most uint64) uint64 {
	v := r.Uvarint()
	if v > most {
		r.Fail()
		return 0
	}
	return v
}

// Int reads a number that an int64 holds, and so is not negative.
func (r *Reader) Int() int64 { return int64(r.Uint(math.MaxInt64)) }

// Varint reads what binary.AppendVarint wrote.
func (r *Reader) Varint() int64 {
	u := r.Uvarint()
	return int64(u>>1) ^ -int64(u&1)
}

// Count reads how many things follow, each of at least so many bytes.
func (r *Reader) Count(size int) uint64 {
	n := r.Uvarint()
	if n > uint64(len(r.b)/size) {
		r.Fail()
		return 0
	}
	return n
}

// Bytes reads a value: a part of what is read, which is not copied.
func (r *Reader) Bytes() []byte {
	n := r.Count(1)
	s := r.b[:n:n]
	r.b = r.b[n:]
	return s
}

// Who reads who asks.
func (r *Reader) Who() machine.Who {
	return machine.Who{Session: machine.Session(r.Uvarint()), Req: r.Uvarint()}
}

// Whos reads what AppendWhos wrote; nil if they are none.
func (r *Reader) Whos() []machine.Who {
	n := r.Count(2)
	if n == 0 {
		return nil
	}
	ws := make([]machine.Who, 0, n)
	for ; n > 0; n-- {
		ws = append(ws, r.Who())
	}
	return ws
}
