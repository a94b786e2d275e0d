package maps

import (
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"

	"github.com/distgear/distgear/internal/machine"
)

func who(s machine.Session) machine.Who { return machine.Who{Session: s, Req: uint64(s)} }

func expect(t *testing.T, o *out, want ...effect) {
	t.Helper()
	if !slices.Equal(o.Effects, want) {
		t.Errorf("told %v\nwant %v", o.Effects, want)
	}
	o.Reset()
}

func TestMap_RevisionsGrowOverDeletionAndDestruction(t *testing.T) {
	var x Map[string]
	var o out
	var last uint64
	for range 5 {
		x.Store(&o, who(1), "k", "v", 0, 0)
		if n := o.Effects[0].Num; n <= last {
			t.Fatalf("revision %d after %d", n, last)
		}
		last = x.Revision()
		o.Reset()
		x.Delete(&o, who(1), "k", 0)
		x.Store(&o, who(1), "k", "v", 0, 0)
		x.Clear(&o, who(1))
		x.Destroy(&o)
		if !x.Idle() || x.Revision() <= last {
			t.Fatalf("destroyed at revision %d, was %d", x.Revision(), last)
		}
		last = x.Revision()
		x = *New[string](last) // dropped, and made again
		o.Reset()
	}
}

func TestMap_ANearCacheIsToldOnce(t *testing.T) {
	var x Map[string]
	var o out
	x.Store(&o, who(1), "k", "a", 0, 0)
	x.Load(&o, who(2), "k", true)
	x.Load(&o, who(3), "k", true)
	x.Load(&o, who(4), "k", false)
	o.Reset()
	x.Store(&o, who(2), "k", "b", 0, 0) // its own copy it goes on keeping
	expect(t, &o, effect{To: who(2), Code: machine.OK, Num: 2, Aux: 1},
		effect{To: machine.Who{Session: 3}, Code: machine.Changed, Num: 2, Aux: Stored, Key: "k"})
	x.Store(&o, who(1), "k", "c", 0, 10) // 3 was told before
	expect(t, &o, effect{To: who(1), Code: machine.OK, Num: 3, Aux: 1},
		effect{To: machine.Who{Session: 2}, Code: machine.Changed, Num: 3, Aux: Stored, Key: "k"})
	x.Load(&o, who(2), "k", true)
	x.Load(&o, who(3), "k", true)
	x.Drop(3, "k")
	o.Reset()
	x.Tick(&o, 9)
	x.Tick(&o, 10)
	expect(t, &o, effect{To: machine.Who{Session: 2}, Code: machine.Changed, Num: 4, Aux: Expired, Key: "k"})
	if x.Kept() != 0 {
		t.Errorf("%d notes of an entry that is gone", x.Kept())
	}
}

func TestMap_NotesAreBounded(t *testing.T) {
	var x Map[string]
	var o out
	x.Store(&o, who(1), "k", "a", 0, 0)
	for s := range machine.Session(KeepPerKey + 2) {
		o.Reset()
		x.Load(&o, who(s+1), "k", true)
		if kept := o.Effects[0].Aux == 1; kept != (s < KeepPerKey) || o.Effects[0].Val != "a" {
			t.Fatalf("session %d: %+v", s+1, o.Effects)
		}
	}
	x.Expire(&o, 1)
	o.Reset()
	x.Load(&o, who(1000), "k", true)
	expect(t, &o, effect{To: who(1000), Code: machine.OK, Num: 1, Aux: 1, Val: "a"})
	for i := range 10 * chunk { // and many in all: they go one by one
		x.Store(&o, who(1), fmt.Sprint(i), "a", 0, 0)
		x.Load(&o, who(1), fmt.Sprint(i), true)
	}
	for i := range 10 * chunk {
		if n := x.Kept(); n != KeepPerKey+10*chunk-i {
			t.Fatalf("%d notes after %d drops", n, i)
		}
		x.Drop(1, fmt.Sprint(i))
	}
	x.Delete(&o, who(1), "k", 0)
	if x.Kept() != 0 || x.notes.kept != nil {
		t.Errorf("left: %+v", x.notes)
	}
}

// TestMap_PagesOverChanges: an entry that is there all the time is in exactly one page, whatever else is stored, deleted, or restored in between.
func TestMap_PagesOverChanges(t *testing.T) {
	for seed := range uint64(6) {
		rng := rand.New(rand.NewPCG(seed, 10))
		var x Map[string]
		var o out
		for i := range 2000 {
			x.Store(&o, who(1), fmt.Sprint(i), "v", 0, 0)
		}
		seen := map[string]int{}
		for cursor := uint64(0); ; {
			o.Reset()
			x.Range(&o, who(1), cursor, 1+rng.IntN(100))
			for _, e := range o.Effects[:len(o.Effects)-1] {
				seen[e.Key]++
			}
			if cursor = o.Effects[len(o.Effects)-1].Num; cursor == 0 {
				break
			}
			for range 100 { // odd ones come and go, even ones stay
				key := fmt.Sprint(2*rng.IntN(3000) + 1)
				if rng.IntN(2) == 0 {
					x.Delete(&o, who(1), key, 0)
				} else {
					x.Store(&o, who(1), key, "w", 0, 0)
				}
				x.Store(&o, who(1), fmt.Sprint(2*rng.IntN(1000)), "w", 0, 0)
			}
			b := x.AppendBinary(nil, text)
			x = Map[string]{}
			if err := x.Restore(b, parse); err != nil {
				t.Fatal(err)
			}
		}
		for i := 0; i < 2000; i += 2 {
			if n := seen[fmt.Sprint(i)]; n != 1 {
				t.Fatalf("seed %d: %d is in %d pages", seed, i, n)
			}
		}
	}
}

// TestMap_AnEmptiedMapGivesBackItsRoom, and its pages pass by free slots in bounded steps.
func TestMap_AnEmptiedMapGivesBackItsRoom(t *testing.T) {
	var x Map[string]
	var o out
	const n = 3 * scan
	for i := range n {
		x.Store(&o, who(1), fmt.Sprint(i), "v", 0, int64(i+1))
	}
	for i := range n - 1 {
		o.Reset()
		x.Tick(&o, int64(i+1))
	}
	calls := 0
	for cursor := uint64(0); calls == 0 || cursor != 0; calls++ {
		o.Reset()
		x.Range(&o, who(1), cursor, 10)
		cursor = o.Effects[len(o.Effects)-1].Num
	}
	if e := o.Effects[0]; calls < 3 || e.Key != fmt.Sprint(n-1) {
		t.Errorf("%d pages, the last %v", calls, o.Effects)
	}
	x.Tick(&o, n)
	if !x.Idle() || x.slots.n != 0 || x.due != nil || x.Due() != 0 {
		t.Errorf("%d slots, %d deadlines left", x.slots.n, len(x.due))
	}
}

// TestMap_DeadlinesAreBounded: an entry whose time to live is renewed again and again has one deadline, more or less.
func TestMap_DeadlinesAreBounded(t *testing.T) {
	var x Map[string]
	var o out
	x.Store(&o, who(1), "renewed by nobody", "v", 0, 150000)
	for i := range int64(100000) {
		x.Store(&o, who(1), fmt.Sprint(i%10), "v", i, 1000)
		o.Reset()
	}
	if len(x.due) > 2*x.timed+chunk {
		t.Errorf("%d deadlines of %d entries", len(x.due), x.timed)
	}
	x.Store(&o, who(1), "far", "v", 10, math.MaxInt64) // does not overflow
	x.Tick(&o, 200000)
	if x.Entries() != 1 || x.Due() != math.MaxInt64 {
		t.Errorf("%d entries, due %d", x.Entries(), x.Due())
	}
	o.Reset()
	for i := range int64(2 * TickMost) {
		x.Store(&o, who(1), fmt.Sprint(i), "v", 0, 1)
	}
	x.Tick(&o, 1)
	if x.Entries() != TickMost+1 || x.Due() != 1 {
		t.Errorf("one Tick left %d entries, due %d", x.Entries(), x.Due())
	}
}

// FuzzRestore: what is no state is an error, and what is one restores again to the same and works.
func FuzzRestore(f *testing.F) {
	var x Map[string]
	var o out
	f.Add(x.AppendBinary(nil, text))
	for i := range uint64(6) {
		w := machine.Who{Session: machine.Session(i), Req: i}
		x.Store(&o, w, fmt.Sprint(i), "v", 0, int64(i%2))
		x.Load(&o, w, fmt.Sprint(i/2), true)
		x.Watch(&o, w, fmt.Sprint(i), i%2 == 0)
		if i%3 == 2 {
			x.Delete(&o, w, fmt.Sprint(i-1), 0)
		}
		f.Add(x.AppendBinary(nil, text))
	}
	f.Add([]byte{})
	f.Add([]byte{1, 1, 1, 5, 0, 0, 0})
	f.Add([]byte{1, 1, 0, 1, 1, 'k', 1, '!', 1, 0, 0, 0, 0})
	f.Add([]byte{1, 1, 0, 255, 255, 255, 255, 15, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		var x, y Map[string]
		if x.Restore(b, parse) != nil {
			return
		}
		b = x.AppendBinary(nil, text)
		if err := y.Restore(b, parse); err != nil || !slices.Equal(y.AppendBinary(nil, text), b) {
			t.Fatalf("%q restored as %q, %v", b, y.AppendBinary(nil, text), err)
		}
		var o out
		x.Range(&o, who(1), 0, 10)
		for _, e := range o.Effects {
			x.Load(&o, who(1), e.Key, true)
			x.Store(&o, who(2), e.Key, "v", 1, 1)
		}
		x.Store(&o, who(1), "k", "v", 1, 1)
		x.Tick(&o, math.MaxInt64)
		x.Expire(&o, 1)
		y.Clear(&o, who(1))
		x.Destroy(&o)
	})
}

// fill stores n entries with values of 100 B.
func fill(n int) *Map[[]byte] {
	var x Map[[]byte]
	var o machine.Out[[]byte]
	for i := range n {
		x.Store(&o, who(1), fmt.Sprintf("user/%08d", i), make([]byte, 100), 0, 0)
		o.Reset()
	}
	return &x
}

// TestMap_MemoryPerEntry holds an idle entry of 100 B to 400 B in all, key and value included, at sizes just after and just before a growth.
func TestMap_MemoryPerEntry(t *testing.T) {
	for _, n := range []int{20_000, 50_000, 100_000} {
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		x := fill(n)
		runtime.GC()
		runtime.ReadMemStats(&after)
		runtime.KeepAlive(x)
		per := float64(after.HeapAlloc-before.HeapAlloc) / float64(n)
		t.Logf("%d entries: %.0f B each", n, per)
		if per > 400 {
			t.Errorf("%d entries: %.0f B each, more than 400", n, per)
		}
	}
}

// TestMap_ExpiryIsInOrder of times, and of stores where times are equal, with many entries and times that change.
func TestMap_ExpiryIsInOrder(t *testing.T) {
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 11))
		var x Map[string]
		var o out
		x.Watch(&o, who(1), "", true)
		want := map[string]deadline{}
		next := func() (first deadline, key string) {
			for k, d := range want {
				if key == "" || d.before(first) {
					first, key = d, k
				}
			}
			return first, key
		}
		var now int64
		for range 2000 {
			o.Reset()
			key := fmt.Sprint(rng.IntN(200))
			switch rng.IntN(20) {
			case 0:
				now += rng.Int64N(30)
				x.Tick(&o, now)
				for _, e := range o.Effects {
					if d, first := next(); e.Key != first || d.at > now {
						t.Fatalf("seed %d at %d: %q expired, want %q at %d", seed, now, e.Key, first, d.at)
					}
					delete(want, e.Key)
				}
			case 1:
				x.Delete(&o, who(1), key, 0)
				delete(want, key)
			default:
				ttl := 1 + rng.Int64N(200)
				x.Store(&o, who(1), key, "v", now, ttl)
				want[key] = deadline{at: now + ttl, rev: x.Revision()}
			}
			if d, _ := next(); x.Due() != d.at {
				t.Fatalf("seed %d at %d: due %d, want %d", seed, now, x.Due(), d.at)
			}
		}
	}
}
