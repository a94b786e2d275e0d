package queues

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/distgear/distgear/internal/machine"
	"github.com/distgear/distgear/internal/ring"
)

type out = machine.Out[string]

// model is the queue in plain slices: what is in it and who wants what. An
// operation changes them, then settle does what can be done, one thing at a time.
type model struct {
	bound       int
	items       []string
	take        []machine.Who
	put         []putter[string]
	item, space []machine.Who
}

type world struct {
	q    [2]*model
	told out
}

func (m *model) idle() bool {
	return len(m.items)+len(m.take)+len(m.put)+len(m.item)+len(m.space) == 0
}

func (m *model) length() uint64 { return uint64(len(m.items)) }

func (m *model) fits(w *world, who machine.Who, b Bound) bool {
	if b.Capacity < 0 || b.Most < 0 || len(m.items) > 0 && m.bound != b.Capacity {
		n := m.bound
		if len(m.items) == 0 {
			n = 0
		}
		w.told.Tell(who, machine.Invalid, uint64(n))
		return false
	}
	m.bound = b.Capacity
	return true
}

func (m *model) full(b Bound) bool {
	return b.Capacity > 0 && len(m.items) >= b.Capacity || b.Capacity == 0 && b.Most > 0 && len(m.items) >= b.Most
}

func (m *model) settle(w *world) {
	for {
		switch {
		case len(m.items) > 0 && len(m.take) > 0:
			w.told.Add(machine.Effect[string]{To: m.take[0], Code: machine.OK, Num: 1, Val: m.items[0]})
			m.items, m.take = m.items[1:], m.take[1:]
		case len(m.put) > 0 && len(m.items) < m.bound:
			m.items = append(m.items, m.put[0].v)
			w.told.Tell(m.put[0].who, machine.OK, m.length())
			m.put = m.put[1:]
		case len(m.items) > 0 && len(m.item) > 0:
			w.told.Tell(m.item[0], machine.Wake, 0)
			m.item = m.item[1:]
		case len(m.items) < m.bound && len(m.space) > 0:
			w.told.Tell(m.space[0], machine.Wake, 0)
			m.space = m.space[1:]
		default:
			if len(m.items) == 0 {
				m.bound = 0
			}
			return
		}
	}
}

func (m *model) refuse(w *world, who machine.Who, why uint64) {
	w.told.Add(machine.Effect[string]{To: who, Code: machine.Refused, Num: m.length(), Aux: why})
}

func (m *model) add(w *world, who machine.Who, said, v string) {
	m.items = append(m.items, v)
	n := len(m.items)
	if len(m.take) > 0 {
		n-- // it goes to a taker
	}
	w.told.Add(machine.Effect[string]{To: who, Code: machine.OK, Num: uint64(n), Val: said})
	m.settle(w)
}

func (m *model) puts(w *world, who machine.Who, v string, b Bound, wait bool) {
	switch {
	case !m.fits(w, who, b):
	case m.full(b) && wait && b.Capacity > 0:
		m.put = append(m.put, putter[string]{who, v})
	case m.full(b):
		m.refuse(w, who, Full)
	default:
		m.add(w, who, "", v)
	}
}

func (m *model) takes(w *world, who machine.Who, most int, wait bool) {
	switch {
	case most <= 0:
		w.told.Tell(who, machine.Invalid, m.length())
	case len(m.items) == 0 && wait:
		m.take = append(m.take, who)
	case len(m.items) == 0:
		m.refuse(w, who, Empty)
	default:
		got := m.items[:min(most, len(m.items))]
		m.items = m.items[len(got):]
		for i, v := range got {
			w.told.Add(machine.Effect[string]{To: who, Code: machine.OK, Num: uint64(len(got)), Aux: uint64(len(got) - i - 1), Val: v})
		}
		m.settle(w)
	}
}

func (w *world) transfer(from, to *model, who machine.Who, b Bound, wait bool) {
	switch {
	case !to.fits(w, who, b):
	case len(from.items) == 0 && wait:
		from.item = append(from.item, who)
	case len(from.items) == 0:
		from.refuse(w, who, Empty)
	case from != to && to.full(b) && wait && b.Capacity > 0:
		to.space = append(to.space, who)
	case from != to && to.full(b):
		to.refuse(w, who, Full)
	default:
		v := from.items[0]
		from.items = from.items[1:]
		to.add(w, who, v, v)
		from.settle(w)
	}
}

func (m *model) abandon(w *world, is func(machine.Who) bool) bool {
	before := len(m.take) + len(m.put) + len(m.item) + len(m.space)
	m.take = slices.DeleteFunc(slices.Clone(m.take), is)
	m.put = slices.DeleteFunc(slices.Clone(m.put), func(p putter[string]) bool { return is(p.who) })
	m.item = slices.DeleteFunc(slices.Clone(m.item), is)
	m.space = slices.DeleteFunc(slices.Clone(m.space), is)
	return len(m.take)+len(m.put)+len(m.item)+len(m.space) < before
}

func (m *model) destroy(w *world) {
	who := slices.Clone(m.take)
	for _, p := range m.put {
		who = append(who, p.who)
	}
	for _, g := range append(append(who, m.item...), m.space...) {
		w.told.Tell(g, machine.Gone, 0)
	}
	*m = model{}
}

// all lists a ring.
func all[E any](r *ring.Ring[E]) (es []E) {
	for i := range r.Len() {
		es = append(es, *r.At(i))
	}
	return es
}

func text(b []byte, s string) []byte { return append(b, s...) }

func parse(b []byte) (string, error) {
	if len(b) > 0 && b[0] == '!' {
		return "", errors.New("not an item")
	}
	return string(b), nil
}

// TestQueue_Q02_RandomHistories compares two queues with their models, step by
// step, over histories by seed. Every id that was put and was not refused is
// taken once, in order, or still there.
func TestQueue_Q02_RandomHistories(t *testing.T) {
	for seed := range uint64(300) {
		rng := rand.New(rand.NewPCG(seed, 7))
		qs, w := [2]*Queue[string]{{}, {}}, &world{q: [2]*model{{}, {}}}
		var got out
		var asked []machine.Who
		bounds := [2]Bound{{Capacity: rng.IntN(5)}, {Capacity: rng.IntN(3), Most: rng.IntN(4)}}
		for step := range 300 {
			got.Reset()
			w.told.Reset()
			who := machine.Who{Session: machine.Session(1 + rng.IntN(4)), Req: uint64(step + 1)}
			i, wait := rng.IntN(2), rng.IntN(4) > 0
			x, m, bound := qs[i], w.q[i], bounds[i]
			if rng.IntN(30) == 0 {
				bound.Capacity += 1 - rng.IntN(3)
			}
			var did string
			switch k := rng.IntN(100); {
			case k < 30:
				v := fmt.Sprint("item", step)
				did = fmt.Sprintf("put %v %+v %d, wait %t", who, bound, i, wait)
				x.Put(&got, who, v, bound, wait)
				m.puts(w, who, v, bound, wait)
				asked = append(asked, who)
			case k < 55:
				most := rng.IntN(4)
				did = fmt.Sprintf("take %v %d of %d, wait %t", who, most, i, wait)
				x.Take(&got, who, most, wait)
				m.takes(w, who, most, wait)
				asked = append(asked, who)
			case k < 75:
				from, to := rng.IntN(2), i
				did = fmt.Sprintf("transfer %v %d to %d %+v, wait %t", who, from, to, bound, wait)
				Transfer(&got, qs[from], qs[to], who, bound, wait)
				w.transfer(w.q[from], w.q[to], who, bound, wait)
				asked = append(asked, who)
			case k < 85 && len(asked) > 0:
				who = asked[max(0, len(asked)-1-rng.IntN(10))]
				did = fmt.Sprintf("abandon %v", who)
				for j := range 2 {
					qs[j].Abandon(&got, who)
					if w.q[j].abandon(w, func(o machine.Who) bool { return o == who }) {
						w.q[j].refuse(w, who, TakenBack)
					}
				}
			case k < 88:
				did = fmt.Sprintf("expire %d", who.Session)
				for j := range 2 {
					qs[j].Expire(&got, who.Session)
					w.q[j].abandon(w, func(o machine.Who) bool { return o.Session == who.Session })
				}
			case k < 89:
				did = fmt.Sprintf("destroy %d", i)
				x.Destroy(&got)
				m.destroy(w)
			case k < 92:
				n := rng.IntN(3) - 1
				did = fmt.Sprintf("drain %d of %d", n, i)
				x.Drain(&got, who, n)
				if n <= 0 {
					n = 1000
				}
				m.takes(w, who, n, false)
			case k < 95:
				did = fmt.Sprintf("peek and len %d", i)
				x.Peek(&got, who)
				x.Len(&got, who)
				if m.length() == 0 {
					m.refuse(w, who, Empty)
				} else {
					w.told.Add(machine.Effect[string]{To: who, Code: machine.OK, Num: m.length(), Val: m.items[0]})
				}
				w.told.Add(machine.Effect[string]{To: who, Code: machine.OK, Num: m.length(), Aux: uint64(x.Capacity())})
			default:
				did = fmt.Sprintf("restore %d", i)
				b := x.AppendBinary(nil, text)
				y := &Queue[string]{}
				if err := y.Restore(b, parse); err != nil {
					t.Fatalf("seed %d step %d: %v: %+v", seed, step, err, x)
				}
				if again := y.AppendBinary(nil, text); !slices.Equal(again, b) {
					t.Fatalf("seed %d step %d: %x restored as %x", seed, step, b, again)
				}
				qs[i] = y
			}
			if !slices.Equal(got.Effects, w.told.Effects) {
				t.Fatalf("seed %d step %d, %s:\n got %v\nwant %v", seed, step, did, got.Effects, w.told.Effects)
			}
			for j, x := range qs {
				m := w.q[j]
				if !slices.Equal(all(&x.items), m.items) || !slices.Equal(all(&x.take), m.take) || !slices.Equal(all(&x.put), m.put) ||
					!slices.Equal(x.item, m.item) || !slices.Equal(x.space, m.space) || x.Idle() != m.idle() || len(m.items) > 0 && x.Capacity() != m.bound {
					t.Fatalf("seed %d step %d, %s: queue %d is %+v, want %+v", seed, step, did, j, x, m)
				}
			}
		}
	}
}
