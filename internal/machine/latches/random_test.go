package latches

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/distgear/distgear/internal/machine"
)

type out = machine.Out[machine.None]

// model of a latch: every id that was ever counted, and who waits.
type model struct {
	count int64
	open  bool
	ids   []string
	wait  []machine.Who
	told  out
}

func (m *model) missing() int64 {
	if m.open {
		return 0
	}
	return m.count - int64(len(m.ids))
}

// names reports whether who may come with count, and takes it down.
func (m *model) names(who machine.Who, count int64) bool {
	fresh := !m.open && len(m.ids)+len(m.wait) == 0
	if count < 0 || !fresh && count != m.count {
		n := m.count
		if fresh {
			n = 0
		}
		m.told.Tell(who, machine.Invalid, uint64(n))
		return false
	}
	m.count = count
	m.open = m.open || count == 0
	return true
}

func (m *model) down(who machine.Who, count int64, id string) {
	if !m.names(who, count) {
		return
	}
	e := machine.Effect[machine.None]{To: who, Code: machine.OK}
	if !m.open && !slices.Contains(m.ids, id) {
		m.ids = append(m.ids, id)
		e.Aux = 1
	}
	e.Num = uint64(m.missing())
	m.told.Add(e)
	if !m.open && m.missing() == 0 {
		m.open = true
		for _, w := range m.wait {
			m.told.Tell(w, machine.OK, 0)
		}
		m.wait = nil
	}
}

func (m *model) waits(who machine.Who, count int64) {
	switch {
	case !m.names(who, count):
	case m.open:
		m.told.Tell(who, machine.OK, 0)
	default:
		m.wait = append(m.wait, who)
	}
}

// TestLatch_L10_RandomHistories compares with the model, step by step, over histories by seed.
func TestLatch_L10_RandomHistories(t *testing.T) {
	for seed := range uint64(500) {
		rng := rand.New(rand.NewPCG(seed, 5))
		x, m := &Latch{}, &model{}
		var got out
		var asked []machine.Who
		count := rng.Int64N(6)
		for step := range 100 {
			got.Reset()
			m.told.Reset()
			who := machine.Who{Session: machine.Session(1 + rng.IntN(4)), Req: uint64(step + 1)}
			named := count + rng.Int64N(20)/19 - rng.Int64N(40)/39*7
			var did string
			switch k := rng.IntN(100); {
			case k < 25:
				id := fmt.Sprint("id", rng.IntN(8))
				did = fmt.Sprintf("count down %v %d %s", who, named, id)
				x.CountDown(&got, who, named, id)
				m.down(who, named, id)
			case k < 55:
				did = fmt.Sprintf("wait %v %d", who, named)
				x.Wait(&got, who, named)
				m.waits(who, named)
				asked = append(asked, who)
			case k < 70 && len(asked) > 0:
				who = asked[rng.IntN(len(asked))]
				did = fmt.Sprintf("abandon %v", who)
				x.Abandon(&got, who)
				if i := slices.Index(m.wait, who); i >= 0 {
					m.told.Tell(who, machine.Refused, uint64(m.missing()))
					m.wait = slices.Delete(m.wait, i, i+1)
				}
			case k < 80:
				did = fmt.Sprintf("expire %d", who.Session)
				x.Expire(&got, who.Session)
				m.wait = slices.DeleteFunc(m.wait, func(w machine.Who) bool { return w.Session == who.Session })
			case k < 82:
				did = "destroy"
				x.Destroy(&got)
				for _, w := range m.wait {
					m.told.Tell(w, machine.Gone, 0)
				}
				*m = model{told: m.told}
			default:
				did = "restore"
				b := x.AppendBinary(nil)
				y := &Latch{}
				if err := y.Restore(b); err != nil {
					t.Fatalf("seed %d step %d: %v: %+v", seed, step, err, x)
				}
				if again := y.AppendBinary(nil); !slices.Equal(again, b) {
					t.Fatalf("seed %d step %d: %x restored as %x", seed, step, b, again)
				}
				x = y
			}
			if !m.open && len(m.ids)+len(m.wait) == 0 {
				m.count = 0
			}
			if !slices.Equal(got.Effects, m.told.Effects) {
				t.Fatalf("seed %d step %d, %s:\n got %v\nwant %v", seed, step, did, got.Effects, m.told.Effects)
			}
			if x.Open() != m.open || x.Missing() != m.missing() || !slices.Equal(x.wait, m.wait) || x.Idle() != (!m.open && len(m.ids)+len(m.wait) == 0) {
				t.Fatalf("seed %d step %d, %s: state %+v, want %+v", seed, step, did, x, m)
			}
		}
	}
}

// TestWaitGroup_L10_RandomHistories compares with a number and a slice, step by step, over histories by seed.
func TestWaitGroup_L10_RandomHistories(t *testing.T) {
	for seed := range uint64(300) {
		rng := rand.New(rand.NewPCG(seed, 6))
		x := &WaitGroup{}
		var n int64
		var wait, asked []machine.Who
		for step := range 200 {
			var got, want out
			who := machine.Who{Session: machine.Session(1 + rng.IntN(4)), Req: uint64(step + 1)}
			switch k := rng.IntN(100); {
			case k < 45:
				d := rng.Int64N(5) - 2
				x.Add(&got, who, d)
				if n+d < 0 {
					want.Tell(who, machine.Invalid, uint64(n))
					break
				}
				n += d
				want.Tell(who, machine.OK, uint64(n))
				if n == 0 {
					for _, w := range wait {
						want.Tell(w, machine.OK, 0)
					}
					wait = nil
				}
			case k < 70:
				x.Wait(&got, who)
				asked = append(asked, who)
				if n > 0 {
					wait = append(wait, who)
				} else {
					want.Tell(who, machine.OK, 0)
				}
			case k < 80 && len(asked) > 0:
				who = asked[rng.IntN(len(asked))]
				x.Abandon(&got, who)
				if i := slices.Index(wait, who); i >= 0 {
					want.Tell(who, machine.Refused, uint64(n))
					wait = slices.Delete(wait, i, i+1)
				}
			case k < 90:
				x.Expire(&got, who.Session)
				wait = slices.DeleteFunc(wait, func(w machine.Who) bool { return w.Session == who.Session })
			case k < 92:
				x.Destroy(&got)
				for _, w := range wait {
					want.Tell(w, machine.Gone, 0)
				}
				n, wait = 0, nil
			default:
				b := x.AppendBinary(nil)
				x = &WaitGroup{}
				if err := x.Restore(b); err != nil || !slices.Equal(x.AppendBinary(nil), b) {
					t.Fatalf("seed %d step %d: %v", seed, step, err)
				}
			}
			if !slices.Equal(got.Effects, want.Effects) {
				t.Fatalf("seed %d step %d:\n got %v\nwant %v", seed, step, got.Effects, want.Effects)
			}
			if x.Count() != n || !slices.Equal(x.wait, wait) || x.Idle() != (n == 0) {
				t.Fatalf("seed %d step %d: state %+v, want %d %v", seed, step, x, n, wait)
			}
		}
	}
}

// FuzzRestore: what is no state is an error, and what is one restores again to the same and works.
func FuzzRestore(f *testing.F) {
	var l Latch
	var g WaitGroup
	var o out
	f.Add(l.AppendBinary(nil))
	for i := range uint64(4) {
		w := machine.Who{Session: machine.Session(i), Req: i}
		l.Wait(&o, w, 3)
		f.Add(l.AppendBinary(nil))
		l.CountDown(&o, w, 3, fmt.Sprint(i))
		f.Add(l.AppendBinary(nil))
		g.Add(&o, w, 2)
		g.Wait(&o, w)
		f.Add(g.AppendBinary(nil))
	}
	f.Add([]byte{})
	f.Add([]byte{1, 3, 0, 255, 1})
	f.Add([]byte{1, 3, 0, 1, 9, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		who := machine.Who{Session: 1, Req: 1}
		var l, l2 Latch
		if l.Restore(b) == nil {
			b := l.AppendBinary(nil)
			if err := l2.Restore(b); err != nil || !slices.Equal(l2.AppendBinary(nil), b) {
				t.Fatalf("%x restored as %x, %v", b, l2.AppendBinary(nil), err)
			}
			l.Wait(&o, who, l.count)
			l.CountDown(&o, who, l.count, "id")
			l.Abandon(&o, who)
			l.Expire(&o, 1)
			l.Destroy(&o)
		}
		var g, g2 WaitGroup
		if g.Restore(b) == nil {
			b := g.AppendBinary(nil)
			if err := g2.Restore(b); err != nil || !slices.Equal(g2.AppendBinary(nil), b) {
				t.Fatalf("%x restored as %x, %v", b, g2.AppendBinary(nil), err)
			}
			g.Wait(&o, who)
			g.Add(&o, who, -1)
			g.Abandon(&o, who)
			g.Expire(&o, 1)
			g.Destroy(&o)
		}
		o.Reset()
	})
}
