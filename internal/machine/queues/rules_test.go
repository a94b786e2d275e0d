package queues

import (
	"fmt"
	"slices"
	"testing"

	"github.com/distgear/distgear/internal/machine"
)

func tell(s machine.Session, code machine.Code, num, aux uint64, val string) string {
	return fmt.Sprintf("%d code %d num %d aux %d %q", s, code, num, aux, val)
}

func expect(t *testing.T, o *out, want ...string) {
	t.Helper()
	var got []string
	for _, e := range o.Effects {
		got = append(got, tell(e.To.Session, e.Code, e.Num, e.Aux, e.Val))
	}
	o.Reset()
	if !slices.Equal(got, want) {
		t.Errorf("told %q, want %q", got, want)
	}
}

func who(s machine.Session) machine.Who { return machine.Who{Session: s, Req: uint64(s)} }

func TestQueue_Q07_ABoundedQueueHoldsPuttersBack(t *testing.T) {
	var x Queue[string]
	var o out
	b := Bound{Capacity: 2}
	for i, v := range []string{"a", "b", "c", "d"} {
		x.Put(&o, who(machine.Session(i+1)), v, b, true)
	}
	x.Put(&o, who(5), "e", b, false)
	expect(t, &o, tell(1, machine.OK, 1, 0, ""), tell(2, machine.OK, 2, 0, ""), tell(5, machine.Refused, 2, Full, ""))
	x.Take(&o, who(9), 5, false) // no more than there are
	expect(t, &o, tell(9, machine.OK, 2, 1, "a"), tell(9, machine.OK, 2, 0, "b"), tell(3, machine.OK, 1, 0, ""), tell(4, machine.OK, 2, 0, ""))
	x.Put(&o, who(6), "f", Bound{Capacity: 3}, true)
	x.Put(&o, who(6), "f", Bound{Capacity: -1}, true)
	expect(t, &o, tell(6, machine.Invalid, 2, 0, ""), tell(6, machine.Invalid, 2, 0, ""))
}

func TestQueue_Q01_TakersAreServedInOrder(t *testing.T) {
	var x Queue[string]
	var o out
	for s := machine.Session(1); s <= 3; s++ {
		x.Take(&o, who(s), 10, true)
	}
	x.Abandon(&o, who(2))
	expect(t, &o, tell(2, machine.Refused, 0, TakenBack, ""))
	x.Put(&o, who(9), "a", Bound{}, false)
	x.Abandon(&o, who(1)) // its answer is on its way
	expect(t, &o, tell(9, machine.OK, 0, 0, ""), tell(1, machine.OK, 1, 0, "a"))
	x.Put(&o, who(9), "b", Bound{Capacity: 4}, false) // empty: the capacity is named anew
	x.Put(&o, who(9), "c", Bound{Capacity: 4}, false)
	expect(t, &o, tell(9, machine.OK, 0, 0, ""), tell(3, machine.OK, 1, 0, "b"), tell(9, machine.OK, 1, 0, ""))
}

func TestQueue_Q08_AConsumerThatDiesWhileItWaits(t *testing.T) {
	var x Queue[string]
	var o out
	b := Bound{Capacity: 1}
	x.Take(&o, who(1), 1, true)
	x.Take(&o, who(2), 1, true)
	x.Expire(&o, 1)
	expect(t, &o)
	x.Put(&o, who(9), "a", b, true) // not to the dead one
	x.Put(&o, who(9), "b", b, true)
	x.Put(&o, who(8), "c", b, true)
	expect(t, &o, tell(9, machine.OK, 0, 0, ""), tell(2, machine.OK, 1, 0, "a"), tell(9, machine.OK, 1, 0, ""))
	x.Expire(&o, 8) // what it waited to put is not in the queue
	x.Expire(&o, 9) // what it has put is
	x.Drain(&o, who(3), 0)
	x.Drain(&o, who(3), 0)
	expect(t, &o, tell(3, machine.OK, 1, 0, "b"), tell(3, machine.Refused, 0, Empty, ""))
	if !x.Idle() {
		t.Errorf("not idle: %+v", x)
	}
}

func TestQueue_MostOfAQueueWithoutBound(t *testing.T) {
	var x Queue[string]
	var o out
	b := Bound{Most: 1}
	x.Put(&o, who(1), "a", b, true)
	x.Put(&o, who(1), "b", b, true)
	x.Put(&o, who(1), "c", Bound{}, true)
	x.Peek(&o, who(1))
	expect(t, &o, tell(1, machine.OK, 1, 0, ""), tell(1, machine.Refused, 1, Full, ""), tell(1, machine.OK, 2, 0, ""), tell(1, machine.OK, 2, 0, "a"))
}

func TestQueue_Q02_TransferIsOneOperation(t *testing.T) {
	var a, b Queue[string]
	var o out
	one := Bound{Capacity: 1}
	Transfer(&o, &a, &b, who(1), one, false)
	Transfer(&o, &a, &b, who(2), one, true) // waits for an item
	Transfer(&o, &a, &b, who(3), Bound{Capacity: -1}, true)
	expect(t, &o, tell(1, machine.Refused, 0, Empty, ""), tell(3, machine.Invalid, 0, 0, ""))
	a.Put(&o, who(9), "x", one, true)
	a.Put(&o, who(8), "y", one, true)
	expect(t, &o, tell(9, machine.OK, 1, 0, ""), tell(2, machine.Wake, 0, 0, ""))
	Transfer(&o, &a, &b, who(2), one, true)
	expect(t, &o, tell(2, machine.OK, 1, 0, "x"), tell(8, machine.OK, 1, 0, ""))
	Transfer(&o, &a, &b, who(4), one, true) // waits for room
	Transfer(&o, &a, &b, who(5), one, false)
	expect(t, &o, tell(5, machine.Refused, 1, Full, ""))
	b.Take(&o, who(6), 1, false)
	expect(t, &o, tell(6, machine.OK, 1, 0, "x"), tell(4, machine.Wake, 0, 0, ""))
	b.Take(&o, who(7), 1, true)
	Transfer(&o, &a, &b, who(4), one, true) // through b to who waits there
	expect(t, &o, tell(4, machine.OK, 0, 0, "y"), tell(7, machine.OK, 1, 0, "y"))
	if !a.Idle() || !b.Idle() {
		t.Errorf("left: %+v, %+v", a, b)
	}
	a.Put(&o, who(1), "v", one, false)
	o.Reset()
	Transfer(&o, &a, &a, who(1), one, true) // full, but what leaves makes room
	expect(t, &o, tell(1, machine.OK, 1, 0, "v"))
}

func TestQueue_DestroyTellsWhoWaits(t *testing.T) {
	var x, y Queue[string]
	var o out
	x.Take(&o, who(1), 1, true)
	Transfer(&o, &x, &y, who(2), Bound{}, true)
	x.Destroy(&o)
	expect(t, &o, tell(1, machine.Gone, 0, 0, ""), tell(2, machine.Gone, 0, 0, ""))
	x.Put(&o, who(1), "a", Bound{Capacity: 1}, true)
	x.Put(&o, who(2), "b", Bound{Capacity: 1}, true)
	y.Put(&o, who(3), "c", Bound{}, true)
	Transfer(&o, &y, &x, who(3), Bound{Capacity: 1}, true)
	o.Reset()
	x.Destroy(&o)
	expect(t, &o, tell(2, machine.Gone, 0, 0, ""), tell(3, machine.Gone, 0, 0, ""))
	if !x.Idle() || x.Capacity() != 0 {
		t.Errorf("destroyed: %+v", x)
	}
}

// FuzzRestore: what is no state is an error, and what is one restores again to the same and works.
func FuzzRestore(f *testing.F) {
	var x, y Queue[string]
	var o out
	f.Add(x.AppendBinary(nil, text))
	for i := range uint64(4) {
		w := machine.Who{Session: machine.Session(i), Req: i}
		Transfer(&o, &x, &y, w, Bound{}, true)
		x.Take(&o, w, 1, true)
		f.Add(x.AppendBinary(nil, text))
		y.Put(&o, w, fmt.Sprint("item", i), Bound{Capacity: 2}, true)
		Transfer(&o, &y, &y, w, Bound{Capacity: 2}, true)
		f.Add(y.AppendBinary(nil, text))
	}
	f.Add([]byte{})
	f.Add([]byte{1, 0, 1, 1, '!', 0, 0, 0, 0})
	f.Add([]byte{1, 0, 255, 255, 255, 255, 15})
	f.Fuzz(func(t *testing.T, b []byte) {
		var x, y Queue[string]
		if x.Restore(b, parse) != nil {
			return
		}
		b = x.AppendBinary(nil, text)
		if err := y.Restore(b, parse); err != nil || !slices.Equal(y.AppendBinary(nil, text), b) {
			t.Fatalf("%x restored as %x, %v", b, y.AppendBinary(nil, text), err)
		}
		var o out
		w, bound := who(1), Bound{Capacity: x.Capacity()}
		Transfer(&o, &x, &y, w, bound, true)
		x.Put(&o, w, "v", bound, true)
		x.Take(&o, w, 3, true)
		x.Abandon(&o, w)
		x.Expire(&o, 1)
		x.Destroy(&o)
	})
}

func BenchmarkPutTake(b *testing.B) {
	var x Queue[[]byte]
	var o machine.Out[[]byte]
	v := make([]byte, 100)
	for range 1000 {
		x.Put(&o, who(1), v, Bound{Capacity: 2000}, true)
	}
	o.Reset()
	b.ReportAllocs()
	for b.Loop() {
		x.Put(&o, who(1), v, Bound{Capacity: 2000}, true)
		x.Take(&o, who(2), 1, true)
		o.Reset()
	}
}

// BenchmarkHandOver is an item for a taker who waits.
func BenchmarkHandOver(b *testing.B) {
	var x Queue[[]byte]
	var o machine.Out[[]byte]
	v := make([]byte, 100)
	b.ReportAllocs()
	for b.Loop() {
		x.Take(&o, who(2), 1, true)
		x.Put(&o, who(1), v, Bound{}, true)
		o.Reset()
	}
}
