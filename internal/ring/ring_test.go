package ring

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// all lists a ring.
func all[E any](r *Ring[E]) (es []E) {
	for i := range r.Len() {
		es = append(es, *r.At(i))
	}
	return es
}

// TestRing compares with a slice, over histories by seed.
func TestRing(t *testing.T) {
	rng := rand.New(rand.NewPCG(8, 8))
	var r Ring[int]
	var want []int
	for step := range 20000 {
		if up := step/500%2 == 0; rng.IntN(4) == 0 != up || len(want) == 0 {
			r.Push(step)
			want = append(want, step)
		} else if got := r.Pop(); got != want[0] {
			t.Fatalf("popped %d, want %d", got, want[0])
		} else {
			want = want[1:]
		}
		if step%1000 == 999 {
			odd := func(i *int) bool { return *i%2 == 1 }
			r.Filter(odd)
			want = slices.DeleteFunc(slices.Clone(want), func(i int) bool { return !odd(&i) })
		}
		if step%100 == 0 && !slices.Equal(all(&r), want) {
			t.Fatalf("step %d: %v, want %v", step, all(&r), want)
		}
		if r.n == 0 && len(r.buf) > 4*keep {
			t.Fatalf("an empty ring keeps room for %d", len(r.buf))
		}
	}
}
