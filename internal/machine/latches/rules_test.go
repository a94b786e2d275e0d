package latches

import (
	"fmt"
	"math"
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

func TestLatch_L10_CountsIDsNotCalls(t *testing.T) {
	var x Latch
	var o out
	x.Wait(&o, who(9), 2)
	x.CountDown(&o, who(1), 2, "a")
	x.CountDown(&o, who(1), 2, "a") // again, after a crash
	x.CountDown(&o, who(2), 2, "a") // and for another
	expect(t, &o, tell(1, machine.OK, 1, 1), tell(1, machine.OK, 1, 0), tell(2, machine.OK, 1, 0))
	x.Expire(&o, 1) // what it counted stays
	x.CountDown(&o, who(2), 2, "b")
	expect(t, &o, tell(2, machine.OK, 0, 1), tell(9, machine.OK, 0, 0))
	x.CountDown(&o, who(2), 2, "c")
	x.Wait(&o, who(3), 2)
	x.Load(&o, who(4))
	expect(t, &o, tell(2, machine.OK, 0, 0), tell(3, machine.OK, 0, 0), tell(4, machine.OK, 0, 1))
	if x.Idle() {
		t.Error("an open latch is idle")
	}
}

func TestLatch_OfNoneIsOpen(t *testing.T) {
	var x Latch
	var o out
	x.Wait(&o, who(1), 0)
	expect(t, &o, tell(1, machine.OK, 0, 0))
	x.Wait(&o, who(1), 1)
	expect(t, &o, tell(1, machine.Invalid, 0, 0))
}

func TestLatch_AnotherCountChangesNothing(t *testing.T) {
	var x Latch
	var o out
	x.Wait(&o, who(1), -1)
	x.CountDown(&o, who(1), 3, "a")
	x.CountDown(&o, who(2), 2, "b")
	x.Wait(&o, who(2), 4)
	x.Load(&o, who(3))
	expect(t, &o, tell(1, machine.Invalid, 0, 0), tell(1, machine.OK, 2, 1), tell(2, machine.Invalid, 3, 0), tell(2, machine.Invalid, 3, 0), tell(3, machine.OK, 2, 0))
	x.Wait(&o, who(1), 3)
	x.Destroy(&o)
	expect(t, &o, tell(1, machine.Gone, 0, 0))
}

func TestWaitGroup_BelowZeroChangesNothing(t *testing.T) {
	var x WaitGroup
	var o out
	x.Add(&o, who(1), 2)
	x.Wait(&o, who(2))
	x.Add(&o, who(1), -3)
	x.Add(&o, who(1), math.MinInt64)
	x.Add(&o, who(1), math.MaxInt64)
	x.Load(&o, who(3))
	expect(t, &o, tell(1, machine.OK, 2, 0), tell(1, machine.Invalid, 2, 0), tell(1, machine.Invalid, 2, 0), tell(1, machine.Invalid, 2, 0), tell(3, machine.OK, 2, 0))
	x.Add(&o, who(1), -2)
	expect(t, &o, tell(1, machine.OK, 0, 0), tell(2, machine.OK, 0, 0))
}
