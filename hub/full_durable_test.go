//go:build linux || darwin

package hub_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/distgear/distgear"
	"github.com/distgear/distgear/geartest"
	"github.com/distgear/distgear/shared"
)

// A disk that is full refuses new runs and says so; those that were accepted are kept, wait,
// and end when there is room, also those that the hub was killed with.
func TestDiskFull_DurableEvents(t *testing.T) {
	t.Parallel()
	hubs := geartest.StartHubs(t, geartest.Hubs{Role: "small hub", Count: 1, Disk: true, TTL: chaosTTL})
	n, err := distgear.Join(t.Context(), distgear.Config{Name: "a", Hub: hubs.URLs(), TTL: chaosTTL, Logger: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = n.Leave(context.Background()) })
	var mu sync.Mutex
	done := map[string]int{}
	step := &distgear.Action[string, string]{Name: "step", Do: func(_ context.Context, in string) (string, error) {
		mu.Lock()
		defer mu.Unlock()
		done[in]++
		return in, nil
	}}
	event := &distgear.Event[string, string]{Name: "event", Durable: true, On: func(ctx context.Context, r *distgear.Run, in string) (string, error) {
		var word string
		if err := r.Signal(ctx, "go", &word); err != nil {
			return "", err
		}
		p := distgear.Plan{Name: "p"}
		s := step.Step(&p, distgear.Any(), in[:8])
		if err := r.Do(ctx, &p); err != nil {
			return "", err
		}
		return s.Result()
	}}
	if err := n.Handle(step, event); err != nil {
		t.Fatal(err)
	}
	var runs []*distgear.Future[string]
	raise := func() error {
		ctx, cancel := context.WithTimeout(t.Context(), 600*time.Millisecond)
		defer cancel()
		in := fmt.Sprintf("run-%04d%s", len(runs), strings.Repeat("x", 10_000))
		f, err := event.Raise(ctx, n, in, distgear.ID(in[:8]))
		if err == nil {
			runs = append(runs, f)
		}
		return err
	}
	if err := raise(); err != nil {
		t.Fatal(err)
	}
	signalTo(t, hubs, syscall.SIGUSR1)
	var refused error
	geartest.Eventually(t, 0, "the disk is full", func() bool { refused = raise(); return refused != nil })
	if distgear.OutcomeOf(refused) != distgear.Unknown || !strings.Contains(refused.Error(), "doctor tells why") {
		t.Errorf("a raise that nobody confirmed: %v", refused)
	}
	geartest.Eventually(t, 0, "the doctor says why", func() bool {
		h, err := shared.Doctor(t.Context(), n)
		return err == nil && slices.ContainsFunc(h.Findings, func(f shared.Finding) bool { return f.Code == "trouble" && strings.Contains(f.Do, "a full disk") })
	})
	accepted := len(runs)
	signalTo(t, hubs, syscall.SIGUSR2)
	geartest.Eventually(t, 0, "there is room", func() bool { return raise() == nil }) // the one of before, or that it was raised after all
	if now := len(runs); now != accepted+1 {
		t.Fatalf("%d runs, and before %d", now, accepted)
	}
	hubs.Kill(0)
	hubs.Start(0)
	for _, f := range runs {
		if err := n.SignalRun(t.Context(), f.ID(), "go", "now"); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for i, f := range runs {
		if out, err := f.Wait(ctx); err != nil || out != fmt.Sprintf("run-%04d", i) {
			t.Fatalf("run %d: %q, %v", i, out, err)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	for in, times := range done {
		if times != 1 {
			t.Errorf("%s was done %d times", in, times)
		}
	}
	t.Logf("%d runs were accepted", len(runs))
}
