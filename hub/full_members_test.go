//go:build linux || darwin

package hub_test

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/distgear/distgear"
	"github.com/distgear/distgear/geartest"
	"github.com/distgear/distgear/internal/machine/members"
	"github.com/distgear/distgear/internal/session"
	"github.com/distgear/distgear/shared"
)

// A disk that is full: who beats keeps its lease, who is silent is not lost and who joins is not admitted before there is room; then they are.
func TestMembership_DiskFull(t *testing.T) {
	t.Parallel()
	const ttl = time.Second
	hubs := geartest.StartHubs(t, geartest.Hubs{Role: "small hub", Count: 1, Disk: true, TTL: ttl})
	a := newNode(t, hubs.URLs(), "a")
	var load atomic.Int64
	cfg := a.config()
	cfg.Load = func() members.Load { return members.Load{InFlight: int(load.Add(1))} } // so that each beat is seen
	var err error
	if a.s, err = session.Open(within(t), cfg); err != nil {
		t.Fatal(err)
	}
	b := join(t, hubs.URLs(), "b")
	a.sees("b", members.Alive)
	filler, err := distgear.Join(within(t), distgear.Config{Name: "filler", Hub: hubs.URLs(), TTL: ttl, Logger: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = filler.Leave(context.Background()) })
	signalTo(t, hubs, syscall.SIGUSR1)
	m := shared.NewMap[int, []byte](filler, "m")
	for i := 0; !strings.Contains(hubs.Process(0).Output(), "is the disk full?"); i++ {
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		_ = m.Store(ctx, i, make([]byte, 10_000))
		cancel()
	}
	b.crash()
	lapses, incarnation := a.lapses.Load(), a.s.Incarnation()
	opened := make(chan error, 1)
	c := newNode(t, hubs.URLs(), "c")
	go func() { opened <- c.open(within(t)) }()
	for end := load.Load() + 15; load.Load() < end; { // three times-to-live: five beats in each
		seen := a.s.View().Members["a"].Load.InFlight
		geartest.Eventually(t, 0, "a beats, and that is told", func() bool { return a.s.View().Members["a"].Load.InFlight != seen })
		if m := a.s.View().Members["b"]; m.State != members.Alive && m.State != members.Suspect {
			t.Fatalf("b is %v, and the ledger cannot know", m.State)
		}
	}
	select {
	case err := <-opened:
		t.Errorf("c joined, and the ledger cannot know: %v", err)
	default:
	}
	signalTo(t, hubs, syscall.SIGUSR2)
	a.sees("b", members.Lost)
	if err := <-opened; err != nil {
		t.Error(err)
	}
	if got := fmt.Sprint(a.lapses.Load()-lapses, a.s.Incarnation()-incarnation); got != "0 0" {
		t.Errorf("a lost its lease or joined again: %s", got)
	}
}
