package heap

import (
	"math/rand/v2"
	"slices"
	"testing"
)

type entry struct{ rank, place int }

func (e *entry) Before(o *entry) bool { return e.rank < o.rank }
func (e *entry) At(i int)             { e.place = i }

func TestHeap(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	var h Heap[*entry]
	var all []*entry
	for i := range 5000 {
		switch n := r.IntN(10); {
		case n < 5 || len(all) == 0:
			e := &entry{rank: r.IntN(1000)*10_000 + i}
			h.Push(e)
			all = append(all, e)
		case n < 7:
			e := all[r.IntN(len(all))]
			e.rank = r.IntN(1000)*10_000 + i
			h.Fix(e.place)
		case n < 8:
			i := r.IntN(len(all))
			e := all[i]
			h.Remove(e.place)
			all = slices.Delete(all, i, i+1)
			if e.place != -1 {
				t.Fatal("what was removed has a place")
			}
		default:
			first := slices.MinFunc(all, func(a, b *entry) int { return a.rank - b.rank })
			if got := h.Pop(); got != first {
				t.Fatalf("%v came before %v", got, first)
			}
			all = slices.DeleteFunc(all, func(e *entry) bool { return e == first })
		}
		for _, e := range all {
			if h[e.place] != e {
				t.Fatal("not at its place")
			}
		}
	}
}
