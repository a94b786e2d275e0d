package session

import (
	"sync/atomic"
	"time"
)

// clock estimates the hub's time from the answers to beats, as NTP does (RFC
// 5905, section 8 and the clock filter of section 10): of the last samples the
// one with the shortest round trip counts. It rests on this process's
// monotonic clock, so setting the local time of day does not move it.
type clock struct {
	start  time.Time
	offset atomic.Int64 // ns since 1970 at the hub when start was

	// What follows belongs to the goroutine that calls sample.
	term  uint64
	ring  [8]sample
	count int
}

type sample struct{ offset, trip int64 }

func newClock(start time.Time) *clock {
	c := &clock{start: start}
	c.offset.Store(start.UnixNano())
	return c
}

// sample takes up an answer that was sent for and received at these times.
func (c *clock) sample(st Stamp, sent, received time.Time) {
	if st.Time == 0 {
		return
	}
	if st.Term != c.term { // another hub, with a clock of its own
		c.term, c.count = st.Term, 0
	}
	t0, t3 := int64(sent.Sub(c.start)), int64(received.Sub(c.start))
	s := sample{
		offset: (st.Time - st.Held - t0 + st.Time - t3) / 2,
		trip:   max(t3-t0-st.Held, 0),
	}
	c.ring[c.count%len(c.ring)] = s
	c.count++
	best := s
	for _, o := range c.ring[:min(c.count, len(c.ring))] {
		if o.trip < best.trip {
			best = o
		}
	}
	c.offset.Store(best.offset)
}

// at is the hub's time at a local time.
func (c *clock) at(now time.Time) time.Time {
	return time.Unix(0, c.offset.Load()+int64(now.Sub(c.start)))
}
