package hub

import (
	"testing"
	"time"

	"github.com/distgear/distgear/internal/client"
)

func wait(id uint64, lock string, holds ...string) client.Wait {
	w := client.Wait{ID: id, Lock: lock, Write: true, Func: "f"}
	for _, h := range holds {
		w.Holds = append(w.Holds, client.Hold{Lock: h, Write: true})
	}
	return w
}

// TestWaits_ACycleIsToldWhenAllWaitedAtOnce: what two nodes said one after the
// other may never have been true together.
func TestWaits_ACycleIsToldWhenAllWaitedAtOnce(t *testing.T) {
	var w waits
	now := time.Now()
	say := func(life, seen uint64, xs ...client.Wait) uint64 {
		w.take(now, life, "n", client.WaitsReport{Seen: seen, Waits: xs})
		return w.number
	}
	expect := func(want int, when string) {
		t.Helper()
		if ls := w.loops(now); len(ls) != want || want > 0 && len(ls[0]) != 2 {
			t.Errorf("%s: %v", when, ls)
		}
	}
	a, b := wait(7, "x", "y"), wait(7, "y", "x")
	one := say(1, 0, a)
	two := say(2, 0, b)
	expect(0, "each was said once")
	say(2, two, b)
	expect(0, "the first may have ended before the second began")
	say(1, one, a)
	expect(0, "as this was said before the second was heard of")
	three := say(1, two, a)
	expect(1, "both, and the first again after the second was heard of")
	say(1, one, wait(8, "x", "y"))
	expect(1, "what was overtaken counts for nothing")
	say(1, three, wait(9, "x", "y"))
	expect(0, "another wait of the first, which the second may not have met")
	say(2, w.number, b)
	expect(0, "")
	say(1, w.number, wait(9, "x", "y"))
	expect(1, "it has")
	say(2, w.number)
	expect(0, "the second has ended")
	now = now.Add(2 * forgetWaits)
	if w.loops(now); len(w.nodes) != 0 {
		t.Error("nothing is forgotten")
	}
}

// TestWaits_ReadersAreInNobodysWay: who reads may hold what another reads.
func TestWaits_ReadersAreInNobodysWay(t *testing.T) {
	read := wait(1, "x", "y")
	read.Write, read.Holds[0].Write = false, false
	also := wait(1, "y", "x")
	also.Write, also.Holds[0].Write = false, false
	for want, x := range map[int]client.Wait{0: also, 1: wait(1, "y", "x")} {
		var w waits
		for range 3 {
			w.take(time.Now(), 1, "a", client.WaitsReport{Seen: w.number, Waits: []client.Wait{read}})
			w.take(time.Now(), 2, "b", client.WaitsReport{Seen: w.number, Waits: []client.Wait{x}})
		}
		if ls := w.loops(time.Now()); len(ls) != want {
			t.Errorf("%v, not %d", ls, want)
		}
	}
}

// TestWaits_LongCycles: of five, among waits that lead nowhere.
func TestWaits_LongCycles(t *testing.T) {
	var w waits
	for range 3 {
		for i, lock := range []string{"b", "c", "d", "e", "a"} {
			holds := string("abcde"[i])
			w.take(time.Now(), uint64(i)+1, "n", client.WaitsReport{Seen: w.number, Waits: []client.Wait{wait(1, lock, holds, "z"), wait(2, holds, "q"), wait(3, "z")}})
		}
	}
	if ls := w.loops(time.Now()); len(ls) != 1 || len(ls[0]) != 5 {
		t.Error(ls)
	}
}
