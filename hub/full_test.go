//go:build linux || darwin

package hub_test

import (
	"context"
	"math"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/distgear/distgear"
	"github.com/distgear/distgear/geartest"
	"github.com/distgear/distgear/shared"
)

// smallRole is a hub whose files may not grow beyond 300 kB from SIGUSR1 to SIGUSR2: to it the disk is full.
func smallRole(ctx context.Context, args []string) error {
	signal.Ignore(syscall.SIGXFSZ) // then such a write fails
	change := make(chan os.Signal, 1)
	signal.Notify(change, syscall.SIGUSR1, syscall.SIGUSR2)
	go func() { // until the process ends
		for s := range change {
			var l syscall.Rlimit
			if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &l); err != nil {
				panic(err)
			}
			l.Cur = 300_000
			if s == syscall.SIGUSR2 {
				l.Cur = min(l.Max, math.MaxInt64)
			}
			if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &l); err != nil {
				panic(err)
			}
		}
	}()
	return geartest.HubsRole(ctx, args)
}

// A disk that is full: nothing is acknowledged, the hub says why, what was acknowledged is there, and all goes on when there is room.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	hubs := geartest.StartHubs(t, geartest.Hubs{Role: "small hub", Count: 1, Disk: true, TTL: chaosTTL})
	n, err := distgear.Join(t.Context(), distgear.Config{Name: "a", Hub: hubs.URLs(), TTL: chaosTTL, Logger: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = n.Leave(context.Background()) })
	m := shared.NewMap[int, []byte](n, "m")
	value := make([]byte, 10_000)
	store := func(i int) bool {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		return m.Store(ctx, i, value) == nil
	}
	if !store(0) {
		t.Fatal("it cannot store at all")
	}
	lease, err := shared.NewMutex(n, "held").Lock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	signalTo(t, hubs, syscall.SIGUSR1)
	stored := 0
	geartest.Eventually(t, 0, "the disk is full", func() bool {
		if !store(stored + 1) {
			return true
		}
		stored++
		return false
	})
	if stored > 100 {
		t.Errorf("%d values of 10 kB were acknowledged, there is room for 30", stored)
	}
	geartest.Eventually(t, 0, "the hub says why", func() bool {
		return strings.Contains(hubs.Process(0).Output(), "is the disk full?")
	})
	signalTo(t, hubs, syscall.SIGUSR2)
	geartest.Eventually(t, 0, "it goes on", func() bool { return store(-1) })
	select {
	case <-lease.Lost():
		t.Error("a session of 9 s was lost by the second that the disk was full")
	default:
	}
	check := func(when string) {
		t.Helper()
		for i := range stored + 1 {
			if v, ok, err := m.Load(t.Context(), i); len(v) != len(value) || !ok || err != nil {
				t.Errorf("%s: %d was acknowledged: %d bytes, %v, %v", when, i, len(v), ok, err)
			}
		}
	}
	check("when there is room again")
	hubs.Kill(0)
	hubs.Start(0)
	check("after a restart")
	t.Logf("%d values were acknowledged", stored)
}

func signalTo(t *testing.T, hubs *geartest.HubProcesses, s syscall.Signal) {
	t.Helper()
	if err := syscall.Kill(hubs.Process(0).Pid(), s); err != nil {
		t.Fatal(err)
	}
}

// Of three hubs one has a full disk: the others go on, and when there is room that one is whole again without a restart.
func TestDiskFull_OneOfThree(t *testing.T) {
	t.Parallel()
	hubs := geartest.StartHubs(t, geartest.Hubs{Role: "small hub", Count: 3, Disk: true, TTL: chaosTTL})
	n, err := distgear.Join(t.Context(), distgear.Config{Name: "a", Hub: hubs.URLs(), TTL: chaosTTL, Logger: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = n.Leave(context.Background()) })
	m := shared.NewMap[int, []byte](n, "m")
	value := make([]byte, 10_000)
	stored := 0
	store := func() {
		t.Helper()
		if err := m.Store(t.Context(), stored, value); err != nil {
			t.Fatal(err)
		}
		stored++
	}
	store()
	if err := syscall.Kill(hubs.Process(1).Pid(), syscall.SIGUSR1); err != nil {
		t.Fatal(err)
	}
	geartest.Eventually(t, 0, "one says that its disk is full", func() bool {
		store()
		return strings.Contains(hubs.Process(1).Output(), "is the disk full?")
	})
	for range 20 {
		store()
	}
	if err := syscall.Kill(hubs.Process(1).Pid(), syscall.SIGUSR2); err != nil {
		t.Fatal(err)
	}
	hubs.Kill(0) // so nothing is acknowledged without the one that was full
	store()
	for i := range stored {
		if v, rev, err := m.LoadLatest(t.Context(), i); len(v) != len(value) || rev == 0 || err != nil {
			t.Fatalf("%d of %d was acknowledged: %d bytes, %v, %v", i, stored, len(v), rev, err)
		}
	}
}
