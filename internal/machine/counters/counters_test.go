package counters

import (
	"math"
	"math/big"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/distgear/distgear/internal/machine"
)

type out = machine.Out[machine.None]

// wrap is v in 64 bits, and whether it had to be wrapped.
func wrap(v *big.Int) (int64, uint64) {
	if v.IsInt64() {
		return v.Int64(), 0
	}
	low := new(big.Int).And(v, new(big.Int).SetUint64(math.MaxUint64))
	return int64(low.Uint64()), 1
}

// TestCounter_L25_RandomHistories compares with a counter of big integers, step by step, over histories by seed.
func TestCounter_L25_RandomHistories(t *testing.T) {
	edge := []int64{0, 1, -1, 2, math.MaxInt64, math.MinInt64, math.MaxInt64 - 1}
	for seed := range uint64(200) {
		rng := rand.New(rand.NewPCG(seed, 3))
		x := &Counter{}
		var is int64
		for step := range 200 {
			var o out
			who := machine.Who{Session: 1, Req: uint64(step)}
			v, w := edge[rng.IntN(len(edge))], edge[rng.IntN(len(edge))]
			want := machine.Effect[machine.None]{To: who, Code: machine.OK}
			switch rng.IntN(7) {
			case 0, 1:
				x.Add(&o, who, v)
				is, want.Aux = wrap(new(big.Int).Add(big.NewInt(is), big.NewInt(v)))
			case 2:
				x.Store(&o, who, v)
				want.Aux = uint64(is)
				is = v
			case 3:
				if rng.IntN(2) == 0 {
					v = is
				}
				x.CompareAndSet(&o, who, v, w)
				if is == v {
					is = w
				} else {
					want.Code = machine.Refused
				}
			case 4:
				x.Expire(&o, 1)
				if len(o.Effects) > 0 {
					t.Fatalf("seed %d step %d: told %v", seed, step, o.Effects)
				}
				x.Load(&o, who)
			case 5:
				x.Load(&o, who)
			case 6:
				b := x.AppendBinary(nil)
				x = &Counter{}
				if err := x.Restore(b); err != nil || !slices.Equal(x.AppendBinary(nil), b) {
					t.Fatalf("seed %d step %d: %v", seed, step, err)
				}
				x.Load(&o, who)
			}
			want.Num = uint64(is)
			if len(o.Effects) != 1 || o.Effects[0] != want || x.Value() != is || x.Idle() != (is == 0) {
				t.Fatalf("seed %d step %d: told %v, value %d; want %v", seed, step, o.Effects, x.Value(), want)
			}
		}
		var o out
		x.Destroy(&o)
		if !x.Idle() || len(o.Effects) > 0 {
			t.Fatalf("destroyed: %+v, %v", x, o)
		}
	}
}

// FuzzRestore: what is no state is an error, and what is one restores again to the same.
func FuzzRestore(f *testing.F) {
	for _, v := range []int64{0, 1, -1, math.MaxInt64, math.MinInt64} {
		f.Add((&Counter{v}).AppendBinary(nil))
	}
	f.Add([]byte{})
	f.Add([]byte{1, 255})
	f.Add([]byte{2, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		var x, y Counter
		if x.Restore(b) != nil {
			return
		}
		b = x.AppendBinary(nil)
		if err := y.Restore(b); err != nil || x != y {
			t.Fatalf("%x restored as %+v, %v", b, y, err)
		}
	})
}

func BenchmarkAdd(b *testing.B) {
	var x Counter
	var o out
	b.ReportAllocs()
	for b.Loop() {
		x.Add(&o, machine.Who{Session: 1, Req: 1}, 1)
		o.Reset()
	}
}
