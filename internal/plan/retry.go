package plan

import "time"

// Policy says when an attempt of a step is repeated (S4, S14). It is pure: the driver keeps count and time.
type Policy struct {
	Retries    int           // attempts after the first; zero means none
	Idempotent bool          // running it twice is as good as once
	Base       time.Duration // backoff after the first attempt; doubled after each one more; zero means 50ms
	Max        time.Duration // longest backoff; zero means 5s
}

// Last is the attempt that has just ended, or was given up waiting for.
type Last struct {
	Outcome   Outcome
	Permanent bool          // the action said that repeating is useless
	After     time.Duration // the action's RetryAfter; zero means it had no wish
	SameNode  bool          // the node that ran it is alive and in the same life
	Movable   bool          // the target is Any: another node will do
	Attempt   int           // from 1
}

// Next is what to do after an attempt.
type Next uint8

const (
	GiveUp  Next = iota // report the outcome
	Again               // one more attempt, wherever the target allows
	AskSame             // ask the node that ran it for the outcome, which it keeps; not a new attempt, so Last.Attempt stays what it was
)

// String returns the decision as people read it.
func (n Next) String() string { return text(int(n), "give up", "again", "ask the same node") }

// Next says what to do after an attempt, and how long to wait before. Ties are decided in this order:
//
//   - Unknown and the same node alive: AskSame, always. Asking is not retrying: it is safe for any action and spends none of Retries.
//   - OK and Permanent: GiveUp. So it is when Retries are spent.
//   - Clean and never ran: Again. Dirty: Again only if Idempotent, for the attempt may have had effects and would have them twice. Unknown and the node or
//     its life gone: Again only if Idempotent, for the lost attempt may have run, too. Neither depends on the target: Any moves on, a named node is waited
//     for by the driver.
//
// RetryAfter says when, never whether: an action whose error is not Clean and which is not Idempotent is not repeated because it named a time.
//
// The wait is RetryAfter's if there is one, longer than Max or not; else none if the node is gone and another will do, since backing off spares a node
// that is not there; else Base·2^(attempt-1), at most Max, of which jitter (0 to 1, out of that range it is clamped) decides the second half.
func (p Policy) Next(l Last, jitter float64) (Next, time.Duration) {
	if l.Outcome == Unknown && l.SameNode {
		return AskSame, p.backoff(l.Attempt, jitter)
	}
	if l.Outcome == OK || l.Permanent || max(l.Attempt, 1) > p.Retries {
		return GiveUp, 0
	}
	if l.Outcome != Clean && l.Outcome != NeverRan && !p.Idempotent {
		return GiveUp, 0
	}
	switch {
	case l.After > 0:
		return Again, l.After
	case l.Movable && !l.SameNode:
		return Again, 0
	}
	return Again, p.backoff(l.Attempt, jitter)
}

func (p Policy) backoff(attempt int, jitter float64) time.Duration {
	d, limit := p.Base, p.Max
	if d <= 0 {
		d = 50 * time.Millisecond
	}
	if limit <= 0 {
		limit = 5 * time.Second
	}
	for ; attempt > 1 && d < limit; attempt-- {
		if d *= 2; d <= 0 { // overflow
			d = limit
		}
	}
	d = min(d, limit)
	if !(jitter > 0) { // also NaN
		jitter = 0
	}
	return d/2 + time.Duration(float64(d-d/2)*min(jitter, 1))
}
