package client

import (
	"testing"
	"time"

	"github.com/distgear/distgear/internal/machine"
)

// Who holds the last session's locks compares sessions by number.
func TestSessionAt_TheClockIsTurnedBack(t *testing.T) {
	now := time.UnixMilli(1_800_000_000_000)
	var last machine.Session
	for i, at := range []time.Time{now, now, now.Add(time.Hour), now, now.Add(-time.Hour), now.Add(2 * time.Hour)} {
		id := sessionAt(at, 7<<29, last)
		if id <= last {
			t.Errorf("%d: session %d after %d", i, id, last)
		}
		last = id
	}
	if ms := int64(last >> 22); ms != now.Add(2*time.Hour).UnixMilli() {
		t.Errorf("it is of %d", ms)
	}
}

// Waiting is how many receivers are waiting to be told something.
func (c *Client) Waiting() int {
	if c.alone != nil {
		c.alone.mu.Lock()
		defer c.alone.mu.Unlock()
		return len(c.alone.wait)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.life.wait)
}
