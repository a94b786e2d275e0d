package semaphores

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"

	"github.com/distgear/distgear/internal/machine"
)

type out = machine.Out[machine.None]

// model is the semaphore as one would first write it: one line for each permit
// that is out, and all who wait in a slice.
type model struct {
	size int64
	out  []machine.Session
	wait []waiter
	told out
}

func (m *model) free() int64 { return m.size - int64(len(m.out)) }

func (m *model) has(s machine.Session) (n int64) {
	for _, o := range m.out {
		if o == s {
			n++
		}
	}
	return n
}

func (m *model) settle() {
	for len(m.wait) > 0 && m.wait[0].n <= m.free() {
		w := m.wait[0]
		m.wait = m.wait[1:]
		for range w.n {
			m.out = append(m.out, w.who.Session)
		}
		m.told.Tell(w.who, machine.OK, uint64(w.n))
	}
	if len(m.wait)+len(m.out) == 0 {
		m.size = 0
	}
}

func (m *model) acquire(who machine.Who, size, n int64, try bool) {
	if size <= 0 || n <= 0 || n > size || m.size > 0 && m.size != size {
		m.told.Tell(who, machine.Invalid, uint64(m.size))
		return
	}
	m.size = size
	if try && (len(m.wait) > 0 || m.free() < n) {
		m.told.Tell(who, machine.Refused, uint64(m.free()))
		return
	}
	m.wait = append(m.wait, waiter{who, n})
	m.settle()
}

func (m *model) release(who machine.Who, n int64) {
	has := m.has(who.Session)
	switch {
	case n <= 0:
		m.told.Tell(who, machine.Invalid, uint64(has))
	case has < n:
		m.told.Tell(who, machine.Stale, uint64(has))
	default:
		for range n {
			i := slices.Index(m.out, who.Session)
			m.out = slices.Delete(m.out, i, i+1)
		}
		m.told.Tell(who, machine.OK, uint64(has-n))
		m.settle()
	}
}

func (m *model) abandon(who machine.Who) {
	for i, w := range m.wait {
		if w.who == who {
			m.told.Tell(who, machine.Refused, uint64(m.free()))
			m.wait = slices.Delete(m.wait, i, i+1)
			m.settle()
			return
		}
	}
}

func (m *model) expire(s machine.Session) {
	m.out = slices.DeleteFunc(m.out, func(o machine.Session) bool { return o == s })
	m.wait = slices.DeleteFunc(m.wait, func(w waiter) bool { return w.who.Session == s })
	m.settle()
}

func (m *model) destroy() {
	for _, w := range m.wait {
		m.told.Tell(w.who, machine.Gone, 0)
	}
	*m = model{told: m.told}
}

// TestSemaphore_L10_RandomHistories compares with the model, step by step, over histories by seed.
func TestSemaphore_L10_RandomHistories(t *testing.T) {
	for seed := range uint64(200) {
		rng := rand.New(rand.NewPCG(seed, 1))
		x, m := &Semaphore{}, &model{}
		var got out
		var asked []machine.Who
		size := 1 + rng.Int64N(6)
		for step := range 300 {
			got.Reset()
			m.told.Reset()
			who := machine.Who{Session: machine.Session(1 + rng.IntN(4)), Req: uint64(step + 1)}
			n := rng.Int64N(size+2) + rng.Int64N(40)/39*1000 // 0, and too many, now and then
			var did string
			switch k := rng.IntN(100); {
			case k < 45:
				try, named := rng.IntN(4) == 0, size+rng.Int64N(20)/19
				did = fmt.Sprintf("acquire %v %d of %d, try %t", who, n, named, try)
				x.Acquire(&got, who, named, n, try)
				m.acquire(who, named, n, try)
				asked = append(asked, who)
			case k < 80:
				did = fmt.Sprintf("release %v %d", who, n)
				x.Release(&got, who, n)
				m.release(who, n)
			case k < 90 && len(asked) > 0:
				who = asked[max(0, len(asked)-1-rng.IntN(8))]
				did = fmt.Sprintf("abandon %v", who)
				x.Abandon(&got, who)
				m.abandon(who)
			case k < 97:
				did = fmt.Sprintf("expire %d", who.Session)
				x.Expire(&got, who.Session)
				m.expire(who.Session)
			case k < 98:
				did = "destroy"
				x.Destroy(&got)
				m.destroy()
			default:
				did = "restore"
				b := x.AppendBinary(nil)
				y := &Semaphore{}
				if err := y.Restore(b); err != nil {
					t.Fatalf("seed %d step %d: %v", seed, step, err)
				}
				if again := y.AppendBinary(nil); !slices.Equal(again, b) {
					t.Fatalf("seed %d step %d: %x restored as %x", seed, step, b, again)
				}
				x = y
			}
			if !slices.Equal(got.Effects, m.told.Effects) {
				t.Fatalf("seed %d step %d, %s:\n got %v\nwant %v", seed, step, did, got.Effects, m.told.Effects)
			}
			if x.Free() != m.free() || x.Size() != m.size || !reflect.DeepEqual(append([]waiter{}, x.wait[x.head:]...), append([]waiter{}, m.wait...)) || x.Idle() != (len(m.out)+len(m.wait) == 0) {
				t.Fatalf("seed %d step %d, %s: state %+v, want %+v", seed, step, did, x, m)
			}
		}
	}
}

// FuzzRestore: what is no state is an error, and what is one restores again to the same and works.
func FuzzRestore(f *testing.F) {
	var x Semaphore
	var o out
	f.Add(x.AppendBinary(nil))
	for i := range uint64(6) {
		x.Acquire(&o, machine.Who{Session: machine.Session(i % 3), Req: i}, 5, 1+int64(i)%3, false)
		f.Add(x.AppendBinary(nil))
	}
	f.Add([]byte{})
	f.Add([]byte{1, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1})
	f.Add([]byte{1, 5, 200, 1, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		var x, y Semaphore
		if x.Restore(b) != nil {
			return
		}
		b = x.AppendBinary(nil)
		if err := y.Restore(b); err != nil || !slices.Equal(y.AppendBinary(nil), b) {
			t.Fatalf("%x restored as %x, %v", b, y.AppendBinary(nil), err)
		}
		var o out
		who := machine.Who{Session: 1, Req: 1}
		x.Acquire(&o, who, max(x.Size(), 1), 1, false)
		x.Release(&o, who, 1)
		x.Abandon(&o, who)
		x.Expire(&o, 1)
		x.Destroy(&o)
	})
}

func BenchmarkAcquireRelease(b *testing.B) {
	var x Semaphore
	var o out
	who := machine.Who{Session: 1}
	b.ReportAllocs()
	for b.Loop() {
		who.Req++
		x.Acquire(&o, who, 10, 3, false)
		x.Release(&o, who, 3)
		o.Reset()
	}
}

// BenchmarkHandOver is one wait and one release with a thousand waiting.
func BenchmarkHandOver(b *testing.B) {
	var x Semaphore
	var o out
	who := machine.Who{Session: 1}
	for range 1000 {
		who.Req++
		x.Acquire(&o, who, 1, 1, false)
	}
	b.ReportAllocs()
	for b.Loop() {
		who.Req++
		x.Acquire(&o, who, 1, 1, false)
		x.Release(&o, who, 1)
		o.Reset()
	}
}
