package plan

import (
	"math"
	"testing"
	"time"
)

func TestPolicy_S4_S14(t *testing.T) {
	ms := time.Millisecond
	free, idem := Policy{Retries: 2}, Policy{Retries: 2, Idempotent: true}
	tests := []struct {
		name string
		p    Policy
		l    Last
		next Next
		wait time.Duration // with jitter 1
	}{
		{"S4 ok", free, Last{Outcome: OK, Attempt: 1}, GiveUp, 0},
		{"S4 clean is free", free, Last{Outcome: Clean, SameNode: true, Attempt: 1}, Again, 50 * ms},
		{"S4 never ran is free", free, Last{Outcome: NeverRan, SameNode: true, Attempt: 2}, Again, 100 * ms},
		{"S4 retries are spent", free, Last{Outcome: Clean, SameNode: true, Attempt: 3}, GiveUp, 0},
		{"S4 zero means none", Policy{}, Last{Outcome: NeverRan, Attempt: 1}, GiveUp, 0},
		{"S4 an attempt below one is the first", Policy{}, Last{Outcome: NeverRan}, GiveUp, 0},
		{"S4 permanent", idem, Last{Outcome: Clean, Permanent: true, After: ms, Attempt: 1}, GiveUp, 0},
		{"S4 dirty", free, Last{Outcome: Dirty, SameNode: true, Attempt: 1}, GiveUp, 0},
		{"S4 dirty with a wish", free, Last{Outcome: Dirty, SameNode: true, After: ms, Attempt: 1}, GiveUp, 0},
		{"S4 dirty but idempotent", idem, Last{Outcome: Dirty, SameNode: true, Attempt: 1}, Again, 50 * ms},
		{"S4 unknown, same node", Policy{}, Last{SameNode: true, Permanent: true, Attempt: 9}, AskSame, 5 * time.Second},
		{"S4 unknown, node gone", free, Last{Movable: true, Attempt: 1}, GiveUp, 0},
		{"S4 unknown, node gone, idempotent, named", idem, Last{Attempt: 1}, Again, 50 * ms},
		{"S4 unknown, retries spent", idem, Last{Movable: true, Attempt: 3}, GiveUp, 0},
		{"S4 a wish", free, Last{Outcome: Clean, SameNode: true, After: time.Minute, Attempt: 1}, Again, time.Minute},
		{"S14 any moves on", idem, Last{Movable: true, Attempt: 1}, Again, 0},
		{"S14 any moves on, never ran", free, Last{Outcome: NeverRan, Movable: true, Attempt: 1}, Again, 0},
		{"S14 any moves on, with a wish", free, Last{Outcome: Clean, Movable: true, After: ms, Attempt: 1}, Again, ms},
		{"S14 named waits", free, Last{Outcome: NeverRan, Attempt: 1}, Again, 50 * ms},
	}
	for _, tt := range tests {
		if next, wait := tt.p.Next(tt.l, 1); next != tt.next || wait != tt.wait {
			t.Errorf("%s: %v in %v, want %v in %v", tt.name, next, wait, tt.next, tt.wait)
		}
	}
}

func TestPolicy_Backoff(t *testing.T) {
	tests := []struct {
		base, limit time.Duration
		attempt     int
		jitter      float64
		want        time.Duration
	}{
		{0, 0, 1, 0, 25 * time.Millisecond},
		{0, 0, 1, 0.5, 37500 * time.Microsecond},
		{0, 0, 1, 7, 50 * time.Millisecond},
		{0, 0, 1, -7, 25 * time.Millisecond},
		{0, 0, 1, math.NaN(), 25 * time.Millisecond},
		{0, 0, 7, 1, 3200 * time.Millisecond},
		{0, 0, 8, 1, 5 * time.Second},
		{0, 0, math.MaxInt, 1, 5 * time.Second},
		{time.Minute, time.Second, 1, 1, time.Second},
		{1<<62 + 1, math.MaxInt64, 2, 0, math.MaxInt64 / 2},
	}
	for _, tt := range tests {
		p := Policy{Retries: math.MaxInt, Base: tt.base, Max: tt.limit}
		if _, got := p.Next(Last{Outcome: Clean, SameNode: true, Attempt: tt.attempt}, tt.jitter); got != tt.want {
			t.Errorf("%+v: %v", tt, got)
		}
	}
}

// TestOutcome_Then: what is known of several attempts is what the worst of them left open.
func TestOutcome_Then(t *testing.T) {
	rank := []Outcome{NeverRan, Clean, Dirty, Unknown, OK}
	for i, a := range rank {
		for j, b := range rank {
			if got, want := a.Then(b), rank[max(i, j)]; got != want {
				t.Errorf("%v then %v is %v, want %v", a, b, got, want)
			}
		}
	}
}
