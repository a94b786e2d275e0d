package barriers

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/distgear/distgear/internal/machine"
)

type out = machine.Out[machine.None]

// model has who is there and who came early in two lists, and admits the early
// ones one by one.
type model struct {
	gen, why uint64
	parties  int
	acting   bool
	here     []arrival
	early    []arrival
	told     out
}

func (m *model) tell(who machine.Who, code machine.Code, aux uint64) {
	m.told.Add(machine.Effect[machine.None]{To: who, Code: code, Num: m.gen, Aux: aux})
}

func (m *model) await(a arrival, parties int) {
	switch {
	case parties <= 0 || len(m.here)+len(m.early) > 0 && m.parties != parties:
		n := 0
		if len(m.here)+len(m.early) > 0 {
			n = m.parties
		}
		m.told.Tell(a.who, machine.Invalid, uint64(n))
	case m.why != 0:
		m.tell(a.who, machine.Broken, m.why)
	default:
		m.parties = parties
		m.arrive(a)
	}
}

func (m *model) arrive(a arrival) {
	if m.acting {
		m.early = append(m.early, a)
		return
	}
	m.here = append(m.here, a)
	if len(m.here) < m.parties {
		return
	}
	if a.action {
		m.acting = true
		m.tell(a.who, machine.Granted, uint64(m.parties-1))
		return
	}
	m.open()
}

func (m *model) open() {
	for i, a := range m.here {
		m.tell(a.who, machine.OK, uint64(i))
	}
	m.next()
}

func (m *model) next() {
	m.gen++
	m.here, m.acting, m.why = nil, false, 0
	m.admit()
}

func (m *model) admit() {
	early := m.early
	m.early = nil
	for _, a := range early {
		m.arrive(a)
	}
}

func (m *model) trip(who machine.Who, failed bool) {
	switch {
	case !m.acting || m.here[len(m.here)-1].who != who:
		m.told.Tell(who, machine.Stale, m.gen)
	case failed:
		m.fail(Failed)
	default:
		m.open()
	}
}

func (m *model) fail(why uint64) {
	for _, a := range append(m.here, m.early...) {
		m.tell(a.who, machine.Broken, why)
	}
	m.here, m.early, m.acting, m.why = nil, nil, false, why
}

func (m *model) reset(who machine.Who) {
	for _, a := range m.here {
		m.tell(a.who, machine.Broken, WasReset)
	}
	m.gen++
	m.told.Tell(who, machine.OK, m.gen)
	m.here, m.acting, m.why = nil, false, 0
	m.admit()
}

func (m *model) abandon(who machine.Who) {
	is := func(a arrival) bool { return a.who == who }
	if slices.ContainsFunc(m.here, is) {
		m.fail(Abandoned)
	} else if slices.ContainsFunc(m.early, is) {
		m.tell(who, machine.Broken, Abandoned)
		m.early = slices.DeleteFunc(m.early, is)
	}
}

func (m *model) expire(s machine.Session) {
	of := func(a arrival) bool { return a.who.Session == s }
	n := len(m.here)
	m.here = slices.DeleteFunc(m.here, of)
	m.early = slices.DeleteFunc(m.early, of)
	if len(m.here) < n {
		m.fail(Lost)
	}
}

func (m *model) destroy() {
	for _, a := range append(m.here, m.early...) {
		m.tell(a.who, machine.Gone, 0)
	}
	*m = model{gen: m.gen + 1, told: m.told}
}

// TestBarrier_L10_RandomHistories compares with the model, step by step, over histories by seed.
func TestBarrier_L10_RandomHistories(t *testing.T) {
	for seed := range uint64(400) {
		rng := rand.New(rand.NewPCG(seed, 2))
		x, m := New(seed), &model{gen: seed + 1}
		var got out
		var asked []machine.Who
		parties := 1 + rng.IntN(4)
		for step := range 300 {
			got.Reset()
			m.told.Reset()
			who := machine.Who{Session: machine.Session(1 + rng.IntN(5)), Req: uint64(step + 1)}
			var did string
			switch k := rng.IntN(100); {
			case k < 55:
				action, named := rng.IntN(2) == 0, parties+rng.IntN(20)/19-rng.IntN(40)/39*parties
				did = fmt.Sprintf("await %v of %d, action %t", who, named, action)
				x.Await(&got, who, named, action)
				m.await(arrival{who, action}, named)
				asked = append(asked, who)
			case k < 80 && len(asked) > 0:
				failed := rng.IntN(4) == 0
				who = asked[max(0, len(asked)-1-rng.IntN(6))]
				if m.acting && rng.IntN(4) > 0 {
					who = m.here[len(m.here)-1].who
				}
				did = fmt.Sprintf("trip %v, failed %t", who, failed)
				x.Trip(&got, who, failed)
				m.trip(who, failed)
			case k < 88 || m.why != 0 && k < 94:
				did = fmt.Sprintf("reset %v", who)
				x.Reset(&got, who)
				m.reset(who)
			case k < 92 && len(asked) > 0:
				who = asked[max(0, len(asked)-1-rng.IntN(8))]
				did = fmt.Sprintf("abandon %v", who)
				x.Abandon(&got, who)
				m.abandon(who)
			case k < 96:
				did = fmt.Sprintf("expire %d", who.Session)
				x.Expire(&got, who.Session)
				m.expire(who.Session)
			case k < 97:
				did = "destroy"
				x.Destroy(&got)
				m.destroy()
			default:
				did = "restore"
				b := x.AppendBinary(nil)
				y := &Barrier{}
				if err := y.Restore(b); err != nil {
					t.Fatalf("seed %d step %d: %v: %+v", seed, step, err, x)
				}
				if again := y.AppendBinary(nil); !slices.Equal(again, b) {
					t.Fatalf("seed %d step %d: %x restored as %x", seed, step, b, again)
				}
				x = y
			}
			if len(got.Effects)+len(m.told.Effects) > 0 && !slices.Equal(got.Effects, m.told.Effects) {
				t.Fatalf("seed %d step %d, %s:\n got %v\nwant %v", seed, step, did, got.Effects, m.told.Effects)
			}
			if !slices.Equal(x.wait, append(slices.Clone(m.here), m.early...)) || x.Generation() != m.gen || x.Why() != m.why || x.acting != m.acting || x.Idle() != (len(m.here)+len(m.early) == 0 && m.why == 0) {
				t.Fatalf("seed %d step %d, %s: state %+v, want %+v", seed, step, did, x, m)
			}
		}
	}
}

// FuzzRestore: what is no state is an error, and what is one restores again to the same and works.
func FuzzRestore(f *testing.F) {
	var x Barrier
	var o out
	f.Add(x.AppendBinary(nil))
	for i := range uint64(5) {
		x.Await(&o, machine.Who{Session: machine.Session(i), Req: i}, 3, true)
		f.Add(x.AppendBinary(nil))
	}
	x.Expire(&o, 1)
	f.Add(x.AppendBinary(nil))
	f.Add([]byte{})
	f.Add([]byte{1, 0, 1, 0, 1, 0})
	f.Add([]byte{1, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		var x, y Barrier
		if x.Restore(b) != nil {
			return
		}
		b = x.AppendBinary(nil)
		if err := y.Restore(b); err != nil || !slices.Equal(y.AppendBinary(nil), b) {
			t.Fatalf("%x restored as %x, %v", b, y.AppendBinary(nil), err)
		}
		var o out
		who := machine.Who{Session: 1, Req: 1}
		x.Await(&o, who, max(x.Parties(), 1), true)
		x.Trip(&o, who, false)
		x.Abandon(&o, who)
		y.Expire(&o, 1)
		y.Reset(&o, who)
		y.Destroy(&o)
	})
}

func BenchmarkAwait(b *testing.B) {
	var x Barrier
	var o out
	who := machine.Who{Session: 1}
	b.ReportAllocs()
	for b.Loop() {
		who.Req++
		x.Await(&o, who, 4, false)
		o.Reset()
	}
}
