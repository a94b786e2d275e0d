package distgear_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/distgear/distgear"
	"github.com/distgear/distgear/cluster"
	"github.com/distgear/distgear/geartest"
)

// A call to a node that was cut off, or has just come back and whose lease counts from before the cut, waits for it as a plan's step does (S14). It is told
// that it never ran only when the node does not come in time.
func TestCall_S14_WaitsForWhoComesBack(t *testing.T) {
	t.Parallel()
	w := nodes(t, func(n *geartest.Nodes) { n.Count, n.Proxied, n.Configure = 2, true, nil })
	for round := range 3 {
		w.Cut("node-1")
		w.Await("node-1", cluster.Lost)
		brief, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		if _, err := w.op.Call(brief, w.Here(), w.on(0), "gone"); distgear.OutcomeOf(err) != distgear.NeverRan || !errors.Is(err, distgear.ErrNoNode) {
			t.Errorf("round %d: while it is gone: %v", round, err)
		}
		cancel()
		began := make(chan error, 1) // the one call
		go func() {
			_, err := w.op.Call(t.Context(), w.Here(), w.on(0), fmt.Sprint("early ", round))
			began <- err
		}()
		w.Heal("node-1")
		for i := range 20 {
			if _, err := w.op.Call(t.Context(), w.Here(), w.on(0), fmt.Sprint(round, "-", i)); err != nil {
				t.Fatalf("round %d, call %d after it came back: %v", round, i, err)
			}
		}
		if err := <-began; err != nil {
			t.Errorf("round %d: begun while it was gone: %v", round, err)
		}
	}
	w.never("do gone")
}

// A node that leaves refuses what comes from those that have not heard of it yet: never ran, not unknown.
func TestLeave_RefusesWhoHasNotHeard(t *testing.T) {
	t.Parallel()
	w := nodes(t, func(n *geartest.Nodes) { n.Count, n.Proxied = 2, true })
	w.Proxy("node-2").Delay(50 * time.Millisecond) // node-2 hears of everything late
	from := w.Node("node-2")
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	left := make(chan error, 1)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	const before, after = 100, 150 // calls, two milliseconds apart: a quarter of those before come too late
	answers := make(chan error, before+after)
	for i := range before + after {
		if i == before {
			go func() { left <- w.Node("node-1").Leave(ctx) }()
		}
		go func() {
			_, err := w.op.Call(ctx, from, w.on(0), fmt.Sprint(i))
			answers <- err
		}()
		<-tick.C
	}
	if err := <-left; err != nil {
		t.Error(err)
	}
	outcomes := map[distgear.Outcome]int{}
	for range before + after {
		err := <-answers
		if o := distgear.OutcomeOf(err); o != distgear.OK && o != distgear.NeverRan {
			t.Errorf("a call to a node that leaves: %v", err)
		}
		outcomes[distgear.OutcomeOf(err)]++
	}
	if outcomes[distgear.OK] < before/4 || outcomes[distgear.NeverRan] < after/2 {
		t.Errorf("outcomes: %v", outcomes)
	}
}
