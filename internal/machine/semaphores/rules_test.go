package semaphores

import (
	"fmt"
	"slices"
	"testing"

	"github.com/distgear/distgear/internal/machine"
)

func say(o *out) (lines []string) {
	for _, e := range o.Effects {
		lines = append(lines, fmt.Sprintf("%d/%d code %d num %d", e.To.Session, e.To.Req, e.Code, e.Num))
	}
	o.Reset()
	return lines
}

func tell(s machine.Session, req uint64, code machine.Code, num uint64) string {
	return fmt.Sprintf("%d/%d code %d num %d", s, req, code, num)
}

func expect(t *testing.T, o *out, want ...string) {
	t.Helper()
	if got := say(o); !slices.Equal(got, want) {
		t.Errorf("told %q, want %q", got, want)
	}
}

func who(s machine.Session, req uint64) machine.Who { return machine.Who{Session: s, Req: req} }

func TestSemaphore_L10_ALostSessionsPermitsReturn(t *testing.T) {
	var x Semaphore
	var o out
	x.Acquire(&o, who(1, 1), 3, 2, false)
	x.Acquire(&o, who(2, 1), 3, 1, false)
	x.Acquire(&o, who(1, 2), 3, 3, false)
	x.Acquire(&o, who(3, 1), 3, 2, false)
	expect(t, &o, tell(1, 1, machine.OK, 2), tell(2, 1, machine.OK, 1))
	x.Expire(&o, 1) // holds two, and waits for three
	expect(t, &o, tell(3, 1, machine.OK, 2))
	x.Expire(&o, 2)
	x.Expire(&o, 3)
	expect(t, &o)
	if !x.Idle() || x.Size() != 0 {
		t.Errorf("not idle: %+v", x)
	}
}

func TestSemaphore_L10_ABigRequestIsNotStarved(t *testing.T) {
	var x Semaphore
	var o out
	x.Acquire(&o, who(1, 1), 3, 1, false)
	x.Acquire(&o, who(2, 1), 3, 3, false) // waits for all
	x.Acquire(&o, who(3, 1), 3, 1, false) // there would be room
	x.Acquire(&o, who(3, 2), 3, 1, true)
	expect(t, &o, tell(1, 1, machine.OK, 1), tell(3, 2, machine.Refused, 2))
	x.Release(&o, who(1, 2), 1)
	expect(t, &o, tell(1, 2, machine.OK, 0), tell(2, 1, machine.OK, 3))
	x.Release(&o, who(2, 2), 2)
	expect(t, &o, tell(2, 2, machine.OK, 1), tell(3, 1, machine.OK, 1))
}

func TestSemaphore_L7_WhatMakesNoSenseChangesNothing(t *testing.T) {
	var x Semaphore
	var o out
	x.Acquire(&o, who(1, 1), 0, 1, false)
	x.Acquire(&o, who(1, 2), 3, 4, false)
	x.Acquire(&o, who(1, 3), 3, 0, true)
	expect(t, &o, tell(1, 1, machine.Invalid, 0), tell(1, 2, machine.Invalid, 0), tell(1, 3, machine.Invalid, 0))
	if !x.Idle() || x.Size() != 0 {
		t.Errorf("not idle: %+v", x)
	}
	x.Acquire(&o, who(1, 4), 3, 2, false)
	x.Acquire(&o, who(2, 1), 4, 1, false) // another size
	x.Release(&o, who(2, 2), 1)           // holds nothing
	x.Release(&o, who(1, 5), 3)           // holds less
	x.Release(&o, who(1, 6), -1)
	expect(t, &o, tell(1, 4, machine.OK, 2), tell(2, 1, machine.Invalid, 3), tell(2, 2, machine.Stale, 0), tell(1, 5, machine.Stale, 2), tell(1, 6, machine.Invalid, 2))
	if x.Free() != 1 {
		t.Errorf("%d free, want 1", x.Free())
	}
}

func TestSemaphore_AbandonLetsThoseBehindGo(t *testing.T) {
	var x Semaphore
	var o out
	x.Acquire(&o, who(1, 1), 3, 1, false)
	x.Acquire(&o, who(2, 1), 3, 3, false)
	x.Acquire(&o, who(3, 1), 3, 1, false)
	o.Reset()
	x.Abandon(&o, who(2, 1))
	expect(t, &o, tell(2, 1, machine.Refused, 2), tell(3, 1, machine.OK, 1))
	x.Abandon(&o, who(3, 1)) // served: its answer is on its way
	expect(t, &o)
	x.Acquire(&o, who(4, 1), 3, 3, false)
	x.Destroy(&o)
	expect(t, &o, tell(4, 1, machine.Gone, 0))
	x.Release(&o, who(1, 2), 1)
	expect(t, &o, tell(1, 2, machine.Stale, 0))
}
