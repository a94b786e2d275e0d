package topics

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/distgear/distgear/internal/machine"
)

type out = machine.Out[string]

// TestTopic_Q06_RandomHistories compares with a slice of subscribers, step by step, over histories by seed.
func TestTopic_Q06_RandomHistories(t *testing.T) {
	for seed := range uint64(200) {
		rng := rand.New(rand.NewPCG(seed, 4))
		x := New[string](seed)
		last := seed
		var subs, asked []machine.Who
		for step := range 300 {
			var o out
			var want []machine.Effect[string]
			who := machine.Who{Session: machine.Session(1 + rng.IntN(4)), Req: uint64(step + 1)}
			switch k := rng.IntN(100); {
			case k < 40:
				v := fmt.Sprint(step)
				x.Publish(&o, who, v)
				last++
				want = append(want, machine.Effect[string]{To: who, Code: machine.OK, Num: last, Aux: uint64(len(subs))})
				for _, s := range subs {
					want = append(want, machine.Effect[string]{To: s, Code: machine.Message, Num: last, Aux: uint64(who.Session), Val: v})
				}
			case k < 60:
				if rng.IntN(8) == 0 && len(subs) > 0 {
					who = subs[0] // a second time
				} else {
					subs = append(subs, who)
				}
				asked = append(asked, who)
				x.Subscribe(&o, who)
				want = append(want, machine.Effect[string]{To: who, Code: machine.OK, Num: last})
			case k < 80 && len(asked) > 0:
				who = asked[rng.IntN(len(asked))]
				x.Unsubscribe(&o, who)
				e := machine.Effect[string]{To: who, Code: machine.Stale, Num: last}
				if i := slices.Index(subs, who); i >= 0 {
					subs = slices.Delete(subs, i, i+1)
					e.Code = machine.OK
				}
				want = append(want, e)
			case k < 90:
				x.Expire(&o, who.Session)
				subs = slices.DeleteFunc(subs, func(w machine.Who) bool { return w.Session == who.Session })
			case k < 92:
				x.Destroy(&o)
				for _, s := range subs {
					want = append(want, machine.Effect[string]{To: s, Code: machine.Gone, Num: last})
				}
				subs = nil
			default:
				b := x.AppendBinary(nil)
				x = &Topic[string]{}
				if err := x.Restore(b); err != nil || !slices.Equal(x.AppendBinary(nil), b) {
					t.Fatalf("seed %d step %d: %v", seed, step, err)
				}
			}
			if !slices.Equal(o.Effects, want) {
				t.Fatalf("seed %d step %d:\n got %v\nwant %v", seed, step, o.Effects, want)
			}
			if x.Last() != last || x.Subscribers() != len(subs) || x.Idle() != (len(subs) == 0) {
				t.Fatalf("seed %d step %d: %+v", seed, step, x)
			}
		}
	}
}

// FuzzRestore: what is no state is an error, and what is one restores again to the same and works.
func FuzzRestore(f *testing.F) {
	x := New[string](7)
	var o out
	f.Add(x.AppendBinary(nil))
	for i := range uint64(3) {
		x.Subscribe(&o, machine.Who{Session: machine.Session(i), Req: 1000 * i})
		f.Add(x.AppendBinary(nil))
	}
	f.Add([]byte{})
	f.Add([]byte{1, 0, 2, 1, 1, 1, 1}) // one subscriber twice
	f.Add([]byte{1, 0, 255, 255, 3})
	f.Fuzz(func(t *testing.T, b []byte) {
		var x, y Topic[string]
		if x.Restore(b) != nil {
			return
		}
		b = x.AppendBinary(nil)
		if err := y.Restore(b); err != nil || !slices.Equal(y.AppendBinary(nil), b) {
			t.Fatalf("%x restored as %x, %v", b, y.AppendBinary(nil), err)
		}
		var o out
		x.Publish(&o, machine.Who{Session: 1, Req: 1}, "v")
		x.Expire(&o, 1)
		x.Destroy(&o)
	})
}

func BenchmarkPublish(b *testing.B) {
	var x Topic[string]
	var o out
	for i := range uint64(10) {
		x.Subscribe(&o, machine.Who{Session: machine.Session(i), Req: i})
	}
	b.ReportAllocs()
	for b.Loop() {
		x.Publish(&o, machine.Who{Session: 1, Req: 1}, "v")
		o.Reset()
	}
}
