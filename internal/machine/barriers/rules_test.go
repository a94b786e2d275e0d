package barriers

import (
	"fmt"
	"slices"
	"testing"

	"github.com/distgear/distgear/internal/machine"
)

func tell(s machine.Session, code machine.Code, num, aux uint64) string {
	return fmt.Sprintf("%d code %d num %d aux %d", s, code, num, aux)
}

func expect(t *testing.T, o *out, want ...string) {
	t.Helper()
	var got []string
	for _, e := range o.Effects {
		got = append(got, tell(e.To.Session, e.Code, e.Num, e.Aux))
	}
	o.Reset()
	if !slices.Equal(got, want) {
		t.Errorf("told %q, want %q", got, want)
	}
}

func who(s machine.Session) machine.Who { return machine.Who{Session: s, Req: uint64(s)} }

func TestBarrier_L10_GenerationsAreNumbered(t *testing.T) {
	var x Barrier
	var o out
	for gen := uint64(1); gen <= 3; gen++ {
		x.Await(&o, who(2), 2, false)
		expect(t, &o)
		x.Await(&o, who(1), 2, false)
		expect(t, &o, tell(2, machine.OK, gen, 0), tell(1, machine.OK, gen, 1))
	}
	if !x.Idle() || New(x.Generation()).Generation() <= x.Generation() {
		t.Errorf("the barrier after %+v does not go on behind it", x)
	}
	x.Await(&o, who(1), 1, false) // of one party
	expect(t, &o, tell(1, machine.OK, 4, 0))
}

func TestBarrier_L10_ABrokenBarrierTellsAll(t *testing.T) {
	for _, c := range []struct {
		why     uint64
		present []string
		do      func(*Barrier, *out)
	}{
		{Abandoned, []string{tell(1, machine.Broken, 1, Abandoned), tell(2, machine.Broken, 1, Abandoned)}, func(x *Barrier, o *out) { x.Abandon(o, who(2)) }},
		{Lost, []string{tell(1, machine.Broken, 1, Lost)}, func(x *Barrier, o *out) { x.Expire(o, 2) }},
	} {
		var x Barrier
		var o out
		x.Await(&o, who(1), 3, false)
		x.Await(&o, who(2), 3, false)
		c.do(&x, &o)
		expect(t, &o, c.present...)
		x.Await(&o, who(3), 3, false) // and who comes later
		expect(t, &o, tell(3, machine.Broken, 1, c.why))
		if x.Idle() {
			t.Error("a broken barrier is idle")
		}
		x.Reset(&o, who(4))
		expect(t, &o, tell(4, machine.OK, 2, 0))
		x.Await(&o, who(1), 1, false)
		expect(t, &o, tell(1, machine.OK, 2, 0))
	}
}

func TestBarrier_L10_TheLastRunsTheActionFirst(t *testing.T) {
	var x Barrier
	var o out
	x.Await(&o, who(1), 2, true)
	x.Await(&o, who(2), 2, true)
	expect(t, &o, tell(2, machine.Granted, 1, 1))
	x.Await(&o, who(3), 2, true) // early: in the next generation
	x.Trip(&o, who(1), false)    // does not run it
	expect(t, &o, tell(1, machine.Stale, 1, 0))
	x.Trip(&o, who(2), false)
	expect(t, &o, tell(1, machine.OK, 1, 0), tell(2, machine.OK, 1, 1))
	x.Await(&o, who(4), 2, true)
	expect(t, &o, tell(4, machine.Granted, 2, 1))
	x.Trip(&o, who(4), true)
	expect(t, &o, tell(3, machine.Broken, 2, Failed), tell(4, machine.Broken, 2, Failed))
}

func TestBarrier_L10_ThoseWhoCameEarlyMayCompleteTheNext(t *testing.T) {
	var x Barrier
	var o out
	for s := machine.Session(1); s <= 5; s++ {
		x.Await(&o, who(s), 2, s%4 == 2)
	}
	expect(t, &o, tell(2, machine.Granted, 1, 1))
	x.Trip(&o, who(2), false)
	expect(t, &o, tell(1, machine.OK, 1, 0), tell(2, machine.OK, 1, 1), tell(3, machine.OK, 2, 0), tell(4, machine.OK, 2, 1))
	if x.Waiting() != 1 || x.Generation() != 3 {
		t.Errorf("state %+v", x)
	}
}

func TestBarrier_L10_AnActionWhoseRunnerIsLost(t *testing.T) {
	var x Barrier
	var o out
	x.Await(&o, who(1), 2, true)
	x.Await(&o, who(2), 2, true)
	x.Await(&o, who(3), 2, true)
	o.Reset()
	x.Expire(&o, 2)
	expect(t, &o, tell(1, machine.Broken, 1, Lost), tell(3, machine.Broken, 1, Lost))
}

func TestBarrier_L10_ResetWhileAnActionRuns(t *testing.T) {
	var x Barrier
	var o out
	x.Await(&o, who(1), 2, true)
	x.Await(&o, who(2), 2, true)
	x.Await(&o, who(3), 2, true)
	o.Reset()
	x.Reset(&o, who(4))
	expect(t, &o, tell(1, machine.Broken, 1, WasReset), tell(2, machine.Broken, 1, WasReset), tell(4, machine.OK, 2, 0))
	x.Trip(&o, who(2), false)
	expect(t, &o, tell(2, machine.Stale, 2, 0))
	x.Await(&o, who(5), 2, false)
	expect(t, &o, tell(3, machine.OK, 2, 0), tell(5, machine.OK, 2, 1))
}

func TestBarrier_WhatMakesNoSenseChangesNothing(t *testing.T) {
	var x Barrier
	var o out
	x.Await(&o, who(1), 0, false)
	expect(t, &o, tell(1, machine.Invalid, 0, 0))
	x.Await(&o, who(1), 2, false)
	x.Await(&o, who(2), 3, false)
	expect(t, &o, tell(2, machine.Invalid, 2, 0))
	x.Destroy(&o)
	expect(t, &o, tell(1, machine.Gone, 1, 0))
	if !x.Idle() || x.Generation() != 2 {
		t.Errorf("state %+v", x)
	}
}

// TestBarrier_L24_AThousandTimes goes round with early ones and actions; the model's twin of it is in RandomHistories.
func TestBarrier_L24_AThousandTimes(t *testing.T) {
	var x Barrier
	var o out
	const parties = 5
	released := map[uint64]uint64{} // by generation: sum of indices
	for i := range uint64(1000 * parties) {
		w := machine.Who{Session: machine.Session(i%parties + 1), Req: i + 1}
		x.Await(&o, w, parties, i%2 == 0)
		for len(o.Effects) > 0 {
			effects := slices.Clone(o.Effects)
			o.Reset()
			for _, e := range effects {
				switch e.Code {
				case machine.Granted:
					x.Trip(&o, e.To, false)
				case machine.OK:
					released[e.Num] += e.Aux
				default:
					t.Fatalf("told %+v", e)
				}
			}
		}
	}
	for gen := uint64(1); gen <= 1000; gen++ {
		if released[gen] != 0+1+2+3+4 {
			t.Errorf("generation %d: indices add up to %d", gen, released[gen])
		}
	}
}
