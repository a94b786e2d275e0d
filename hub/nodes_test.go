package hub_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/distgear/distgear/geartest"
	"github.com/distgear/distgear/shared"
)

// nodeTTL makes sessions with the ledger of 1.5 s.
const nodeTTL = 500 * time.Millisecond

// L3, L5: a node that is killed with the lock, and one that is frozen with it: the next gets it after the session's time-to-live and not before; whoever
// thaws is told that it is lost, and has an older token.
func TestNode_HolderIsGone(t *testing.T) {
	t.Parallel()
	for _, kill := range []bool{true, false} {
		t.Run(map[bool]string{true: "killed", false: "frozen"}[kill], func(t *testing.T) {
			t.Parallel()
			s := newStage(t, geartest.Hubs{Count: 1, TTL: nodeTTL})
			n := s.watcher()
			a, b := s.actor("a"), s.actor("b")
			a.Say("lock")
			first := token(t, a, "locked")
			b.Say("lock")
			s.waits(n, 1, 0)
			began := time.Now()
			if kill {
				a.Kill()
			} else {
				a.Pause()
			}
			second := token(t, b, "locked")
			took := time.Since(began)
			if took < s.ttl*3/4 || took > s.ttl+2*time.Second { // the last word of the holder may be a fifth of it old
				t.Errorf("the next one got it after %v, the session's time-to-live is %v", took, s.ttl)
			}
			t.Logf("the next one got it after %v", took)
			if second <= first {
				t.Errorf("token %d after %d", second, first)
			}
			if kill {
				return
			}
			a.Resume()
			if lost := token(t, a, "lost"); lost != first {
				t.Errorf("lost %d, not %d", lost, first)
			}
			if said := tell(a, "unlock", "unlocked"); !strings.Contains(said, "lost") {
				t.Errorf("unlocking what is lost: %s", said)
			}
			a.Say("lock") // in a new session, behind b
			s.waits(n, 1, 0)
			if said := tell(b, "unlock", "unlocked"); said != "<nil>" {
				t.Error(said)
			}
			if third := token(t, a, "locked"); third <= second {
				t.Errorf("token %d after %d", third, second)
			}
		})
	}
}

// A node that is killed while it stands in line: it is granted the lock in its turn, and the one behind gets it a time-to-live later at most.
func TestNode_WaiterIsKilled(t *testing.T) {
	t.Parallel()
	s := newStage(t, geartest.Hubs{Count: 1, TTL: nodeTTL})
	n := s.watcher()
	a, b, c := s.actor("a"), s.actor("b"), s.actor("c")
	a.Say("lock")
	first := token(t, a, "locked")
	b.Say("lock")
	s.waits(n, 1, 0)
	c.Say("lock")
	s.waits(n, 2, 0)
	b.Kill()
	if said := tell(a, "unlock", "unlocked"); said != "<nil>" {
		t.Error(said)
	}
	if third := token(t, c, "locked"); third <= first {
		t.Errorf("token %d after %d", third, first)
	}
}

// L17: a node that waits on a condition and is killed or frozen when it is notified: the notification goes to the next one. Nobody is woken who was not
// notified.
func TestNode_NotifiedIsGone(t *testing.T) {
	t.Parallel()
	for _, kill := range []bool{true, false} {
		t.Run(map[bool]string{true: "killed", false: "frozen"}[kill], func(t *testing.T) {
			t.Parallel()
			s := newStage(t, geartest.Hubs{Count: 1, TTL: nodeTTL})
			n := s.watcher()
			a, b, c := s.actor("a"), s.actor("b"), s.actor("c")
			for i, p := range []*geartest.Process{a, b} { // in this order
				p.Say("lock")
				token(t, p, "locked")
				p.Say("wait")
				s.waits(n, 0, i+1)
			}
			c.Say("lock")
			token(t, c, "locked")
			if kill {
				a.Kill()
			} else {
				a.Pause()
			}
			if said := tell(c, "signal", "signalled"); said != "<nil>" {
				t.Error(said)
			}
			if said := tell(c, "unlock", "unlocked"); said != "<nil>" {
				t.Error(said)
			}
			token(t, b, "woken")
			if kill {
				return
			}
			a.Resume()
			if line := a.Line("woken"); !strings.Contains(line, "lost") {
				t.Errorf("it was woken with %q", line)
			}
		})
	}
}

// Waiters keep their places when another hub takes over, and locks their holders; who waits on a condition, and who was notified and has not run, too.
func TestTakeover_PlacesAreKept(t *testing.T) {
	t.Parallel()
	for _, freeze := range []bool{false, true} {
		t.Run(map[bool]string{true: "frozen", false: "killed"}[freeze], func(t *testing.T) {
			t.Parallel()
			s := newStage(t, geartest.Hubs{TTL: chaosTTL})
			n := s.watcher()
			gone := func() (back func()) {
				w := s.hubs.Writer()
				if freeze {
					s.hubs.Freeze(w)
					return func() { s.hubs.Thaw(w) }
				}
				s.hubs.Kill(w)
				return func() { s.hubs.Start(w) }
			}
			var all []*geartest.Process
			for i := range 3 {
				all = append(all, s.actor(fmt.Sprint("actor-", i)))
			}
			x, y, z := all[0], all[1], all[2]
			x.Say("lock")
			last := token(t, x, "locked")
			x.Say("wait") // on the condition
			s.waits(n, 0, 1)
			y.Say("lock")
			last = max(last, token(t, y, "locked"))
			x2 := s.actor("actor-3")
			x2.Say("lock")
			s.waits(n, 1, 1)
			z.Say("lock")
			s.waits(n, 2, 1)
			back := gone()
			if said := tell(y, "signal", "signalled"); said != "<nil>" { // x is behind z now
				t.Error(said)
			}
			if said := tell(y, "unlock", "unlocked"); said != "<nil>" {
				t.Error(said)
			}
			for i, next := range []*geartest.Process{x2, z, x} {
				word := "locked"
				if next == x {
					word = "woken"
				}
				got := token(t, next, word)
				if got <= last {
					t.Errorf("token %d after %d", got, last)
				}
				last = got
				if i == 0 { // once more, with one who was notified and has not run
					back()
					back = gone()
				}
				if said := tell(next, "unlock", "unlocked"); said != "<nil>" {
					t.Error(said)
				}
			}
			back()
		})
	}
}

// With one hub of three nothing is acknowledged, and nothing is lost when another is back.
func TestTakeover_NoMajority(t *testing.T) {
	t.Parallel()
	s := newStage(t, geartest.Hubs{Disk: true, TTL: 2 * chaosTTL})
	n := s.watcher()
	c := shared.NewCounter(n, "n")
	if v, err := c.Add(within(t), 1); v != 1 || err != nil {
		t.Fatal(v, err)
	}
	w := s.hubs.Writer()
	s.hubs.Kill(w)
	s.hubs.Kill((w + 1) % 3)
	done := make(chan error, 1)
	go func() {
		v, err := c.Add(within(t), 1)
		if err == nil && v != 2 {
			err = fmt.Errorf("the sum is %d", v)
		}
		done <- err
	}()
	select {
	case err := <-done:
		t.Fatalf("acknowledged by one hub of three: %v", err)
	case <-time.After(2 * time.Second): // longer than a take-over takes
	}
	s.hubs.Start(w)
	if err := <-done; err != nil && !errors.Is(err, shared.ErrSessionLost) {
		t.Fatal(err)
	}
	if v, err := c.Load(within(t)); err != nil || v > 2 || v < 1 {
		t.Fatal(v, err)
	}
	s.hubs.Start((w + 1) % 3)
}
