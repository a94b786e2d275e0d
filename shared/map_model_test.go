package shared_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"testing"

	"github.com/distgear/distgear"
	"github.com/distgear/distgear/shared"
)

// mapModel is a Go map beside a shared one, and does the same.
type mapModel struct {
	t    *testing.T
	m    []*shared.Map[string, int] // of each node
	is   map[string]int
	revs map[string]shared.Revision // 0: not known
	last map[string]int             // the node that wrote a key last
}

// step does one thing at node i, and compares.
func (x *mapModel) step(r *rand.Rand, i int) {
	ctx := x.t.Context()
	k, v := fmt.Sprint("k", r.IntN(8)), r.IntN(1000)
	was, had := x.is[k]
	check := func(what string, ok bool, err error, got ...any) {
		x.t.Helper()
		if !ok || err != nil {
			x.t.Fatalf("node %d: %s of %s: %v, %v; it was %d, %t", i, what, k, got, err, was, had)
		}
	}
	set := func(v int) { x.is[k], x.revs[k], x.last[k] = v, 0, i }
	unset := func() { delete(x.is, k); delete(x.revs, k); x.last[k] = i }
	m := x.m[i]
	switch r.IntN(11) {
	case 0:
		check("store", true, m.Store(ctx, k, v))
		set(v)
	case 1:
		got, loaded, err := m.LoadOrStore(ctx, k, v)
		check("load or store", loaded == had && (had && got == was || !had && got == v), err, got, loaded)
		if !had {
			set(v)
		}
	case 2:
		ok, err := m.Delete(ctx, k)
		check("delete", ok == had, err, ok)
		unset()
	case 3:
		old, ok, err := m.Swap(ctx, k, v)
		check("swap", ok == had && old == was, err, old, ok)
		set(v)
	case 4:
		keep := v%3 > 0
		got, ok, err := m.Compute(ctx, k, func(old int, there bool) (int, bool) {
			if old != was && there {
				old = -1 << 20 // from what the node keeps, which may be old: it is called again
			}
			return old + v, keep
		})
		check("compute", ok == keep && (!keep || got == was+v), err, got, ok)
		if set(got); !keep {
			unset()
		}
	case 5:
		now, ok, err := m.CompareAndSwap(ctx, k, x.revs[k], v)
		check("compare and swap", ok == (!had || x.revs[k] != 0), err, now, ok)
		if ok {
			set(v)
			x.revs[k] = now
		}
	case 6:
		got, rev, err := m.LoadLatest(ctx, k)
		check("load latest", got == was && (rev != 0) == had && (x.revs[k] == 0 || x.revs[k] == rev), err, got, rev)
		if had {
			x.revs[k] = rev
		}
	case 7:
		n, err := m.Len(ctx)
		check("len", n == len(x.is), err, n)
	case 8:
		got, ok, err := m.Load(ctx, k)
		check("load", x.last[k] != i || ok == had && got == was, err, got, ok)
	case 9:
		all := map[string]int{}
		for e, err := range m.All(ctx) {
			check("all", true, err)
			all[e.Key] = e.Value
		}
		check("all", maps.Equal(all, x.is), nil, all)
	case 10:
		if v > 100 {
			return
		}
		n, err := m.Clear(ctx)
		check("clear", n == len(x.is), err, n)
		clear(x.is)
		clear(x.revs)
		clear(x.last)
	}
}

func TestMap_DoesWhatAGoMapDoes(t *testing.T) {
	placements(t, func(t *testing.T, nodes []*distgear.Node) {
		seed := rand.Uint64()
		t.Log("seed", seed)
		r := rand.New(rand.NewPCG(seed, 0))
		x := &mapModel{t: t, is: map[string]int{}, revs: map[string]shared.Revision{}, last: map[string]int{}}
		for _, n := range nodes {
			x.m = append(x.m, shared.NewMap[string, int](n, "m"))
		}
		for range 2000 {
			x.step(r, r.IntN(len(nodes)))
		}
	})
}

func TestQueue_DoesWhatASliceDoes(t *testing.T) {
	placements(t, func(t *testing.T, nodes []*distgear.Node) {
		seed := rand.Uint64()
		t.Log("seed", seed)
		r := rand.New(rand.NewPCG(seed, 0))
		const capacity = 12
		var is []int
		for i := range 2000 {
			q := shared.NewQueue[int](nodes[r.IntN(3)], "q", capacity)
			ctx := t.Context()
			check := func(what string, ok bool, err error, got ...any) {
				t.Helper()
				if !ok || err != nil {
					t.Fatalf("%s: %v, %v; it was %v", what, got, err, is)
				}
			}
			var first int
			if len(is) > 0 {
				first = is[0]
			}
			switch r.IntN(8) {
			case 0, 1:
				ok, err := q.Offer(ctx, i)
				check("offer", ok == (len(is) < capacity), err, ok)
				if ok {
					is = append(is, i)
				}
			case 2:
				n := r.IntN(capacity - len(is) + 1)
				items := make([]int, n)
				for j := range items {
					items[j] = i*100 + j
				}
				done, err := q.PutAll(ctx, items...)
				check("put", done == n, err, done)
				is = append(is, items...)
			case 3:
				v, ok, err := q.Poll(ctx)
				check("poll", ok == (len(is) > 0) && v == first, err, v, ok)
				is = is[min(1, len(is)):]
			case 4:
				if len(is) == 0 {
					continue
				}
				most := 1 + r.IntN(capacity+2)
				some, err := q.TakeN(ctx, most)
				n := min(most, len(is))
				check("take", fmt.Sprint(some) == fmt.Sprint(is[:n]), err, some)
				is = is[n:]
			case 5:
				v, ok, err := q.Peek(ctx)
				check("peek", ok == (len(is) > 0) && v == first, err, v, ok)
			case 6:
				n, err := q.Len(ctx)
				check("len", n == len(is), err, n)
			case 7:
				if i%5 > 0 {
					continue
				}
				all, err := q.Drain(ctx)
				check("drain", fmt.Sprint(all) == fmt.Sprint(is), err, all)
				is = nil
			}
		}
	})
}
