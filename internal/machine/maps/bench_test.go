package maps

import (
	"fmt"
	"slices"
	"testing"

	"github.com/distgear/distgear/internal/machine"
)

const many = 100_000

func keys() (ks []string) {
	for i := range many {
		ks = append(ks, fmt.Sprintf("user/%08d", i))
	}
	return ks
}

func BenchmarkStore(b *testing.B) {
	for _, ttl := range []int64{0, 1000} {
		b.Run(fmt.Sprint("ttl=", ttl), func(b *testing.B) {
			x, ks, v := fill(many), keys(), make([]byte, 100)
			var o machine.Out[[]byte]
			i := 0
			b.ReportAllocs()
			for b.Loop() {
				x.Store(&o, who(1), ks[i*7919%many], v, int64(i), ttl)
				o.Reset()
				i++
			}
		})
	}
}

func BenchmarkStoreNewAndDelete(b *testing.B) {
	x, v := fill(many), make([]byte, 100)
	var o machine.Out[[]byte]
	b.ReportAllocs()
	for b.Loop() {
		x.Store(&o, who(1), "another", v, 0, 0)
		x.Delete(&o, who(1), "another", 0)
		o.Reset()
	}
}

func BenchmarkLoad(b *testing.B) {
	x, ks := fill(many), keys()
	var o machine.Out[[]byte]
	i := 0
	b.ReportAllocs()
	for b.Loop() {
		x.Load(&o, who(1), ks[i*7919%many], false)
		o.Reset()
		i++
	}
}

// BenchmarkKeepAndStore is a load by a session that keeps, and a store by another.
func BenchmarkKeepAndStore(b *testing.B) {
	x, ks, v := fill(many), keys(), make([]byte, 100)
	var o machine.Out[[]byte]
	i := 0
	b.ReportAllocs()
	for b.Loop() {
		x.Load(&o, who(1), ks[i*7919%many], true)
		x.Store(&o, who(2), ks[i*7919%many], v, 0, 0)
		o.Reset()
		i++
	}
}

func BenchmarkRange100(b *testing.B) {
	x := fill(many)
	var o machine.Out[[]byte]
	var cursor uint64
	b.ReportAllocs()
	for b.Loop() {
		x.Range(&o, who(1), cursor, 100)
		cursor = o.Effects[len(o.Effects)-1].Num
		o.Reset()
	}
}

func BenchmarkSnapshot(b *testing.B) {
	x := fill(many)
	bytes := func(b, v []byte) []byte { return append(b, v...) }
	state := x.AppendBinary(nil, bytes)
	b.Run("append", func(b *testing.B) {
		b.SetBytes(int64(len(state)))
		for b.Loop() {
			state = x.AppendBinary(state[:0], bytes)
		}
	})
	b.Run("restore", func(b *testing.B) {
		b.SetBytes(int64(len(state)))
		for b.Loop() {
			var y Map[[]byte]
			if err := y.Restore(state, func(v []byte) ([]byte, error) { return slices.Clone(v), nil }); err != nil {
				b.Fatal(err)
			}
		}
	})
}
