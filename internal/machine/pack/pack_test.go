package pack_test

import (
	"bytes"
	"encoding/binary"
	"math"
	"testing"

	"github.com/distgear/distgear/internal/machine"
	"github.com/distgear/distgear/internal/machine/pack"
)

// written is one of each.
func written() []byte {
	b := []byte{7, 5}
	b = pack.AppendBool(pack.AppendBool(b, true), false)
	b = binary.AppendUvarint(binary.AppendUvarint(b, 300), math.MaxUint64)
	b = binary.AppendVarint(binary.AppendVarint(b, math.MinInt64), 64)
	b = pack.AppendBytes(pack.AppendBytes(b, "a text"), []byte{})
	b = pack.AppendWho(b, machine.Who{Session: 1 << 50, Req: 1})
	return pack.AppendWhos(pack.AppendWhos(b, []machine.Who{{Session: 1, Req: 2}, {Session: 3, Req: 4}}), nil)
}

// again reads what written wrote and writes it.
func again(r *pack.Reader) []byte {
	b := []byte{r.Byte(), r.Flags(5)}
	b = pack.AppendBool(b, r.Bool())
	b = pack.AppendBool(b, r.Bool())
	b = binary.AppendUvarint(b, r.Uint(300))
	b = binary.AppendUvarint(b, r.Uvarint())
	b = binary.AppendVarint(b, r.Varint())
	b = binary.AppendVarint(b, r.Varint())
	b = pack.AppendBytes(b, r.Bytes())
	b = pack.AppendBytes(b, r.Bytes())
	b = pack.AppendWho(b, r.Who())
	b = pack.AppendWhos(b, r.Whos())
	return pack.AppendWhos(b, r.Whos())
}

func TestReader_ReadsWhatWasWritten(t *testing.T) {
	want := written()
	r := pack.Read(want)
	if got := again(&r); !r.End() || !bytes.Equal(got, want) {
		t.Errorf("read %x of %x", got, want)
	}
	for n := range want {
		if r := pack.Read(want[:n]); len(again(&r)) == 0 || r.End() {
			t.Errorf("the first %d bytes are taken for the whole", n)
		}
	}
}

func TestReader_Refuses(t *testing.T) {
	for what, f := range map[string]func(r *pack.Reader){
		"a byte with other bits":   func(r *pack.Reader) { r.Flags(0x7f) },
		"a number beyond its most": func(r *pack.Reader) { r.Uint(254) },
		"a negative int":           func(r *pack.Reader) { r.Uvarint(); r.Int() },
		"more things than fit":     func(r *pack.Reader) { r.Uvarint(); r.Uvarint(); r.Count(2) },
		"a number that is longer than it need be": func(r *pack.Reader) {
			r.Uvarint()
			r.Uvarint()
			r.Bytes()
			r.Uvarint()
		},
		"more than there is": func(r *pack.Reader) { r.Fail(); r.Byte() },
	} {
		b := binary.AppendUvarint([]byte{0xff, 1}, math.MaxUint64)
		b = append(b, 3, 'a', 'b', 'c', 0x81, 0)
		r := pack.Read(b)
		f(&r)
		if !r.Bad() || r.End() || len(r.Rest()) != 0 || r.Uvarint() != 0 || r.Whos() != nil || len(r.Bytes()) != 0 {
			t.Errorf("%s is read", what)
		}
	}
}

func FuzzReader(f *testing.F) {
	f.Add(written())
	f.Fuzz(func(t *testing.T, b []byte) {
		r := pack.Read(b)
		if got := again(&r); r.End() && !bytes.Equal(got, b) {
			t.Errorf("%x was read, and is written as %x", b, got)
		}
	})
}
