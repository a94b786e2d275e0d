package tasks

import (
	"fmt"
	"testing"

	"github.com/distgear/distgear/internal/machine"
)

// TestLostWhileItWaits kills worker after worker, each with one slot and room for
// many tasks to wait: what only waited there is not parked with what ran.
func TestLostWhileItWaits(t *testing.T) {
	m := New[string](Limits{}, 0)
	var out Out[string]
	var items []Item[string]
	for i := range 50 {
		items = append(items, Item[string]{Task: &Task[string]{}, Spec: Spec{ID: fmt.Sprint("t", i), Kind: "k", Idempotent: true}})
	}
	m.Submit(&out, machine.Who{}, How{}, items)
	lost := map[uint8]int{}
	for s := machine.Session(1); s <= 3; s++ {
		m.Work(&out, s, Offer{Slots: 1, Prefetch: 100})
		if n := m.Stats().Leased; n != 50 && s == 1 || n != 1 && s > 1 {
			t.Fatalf("worker %d has %d tasks", s, n)
		}
		m.Expire(&out, s, "")
	}
	for _, it := range items {
		lost[it.Task.losses]++
	}
	if s := m.Stats(); s.Parked != 1 || lost[3] != 1 || lost[1] != 49 {
		t.Errorf("%d are parked; by workers lost: %v", s.Parked, lost)
	}
	// What was never lost is prefetched again once those are through.
	m.Work(&out, 4, Offer{Slots: 1, Prefetch: 100})
	fresh := Item[string]{Task: &Task[string]{}, Spec: Spec{ID: "fresh", Kind: "k", Idempotent: true}}
	m.Submit(&out, machine.Who{}, How{}, []Item[string]{fresh, {Task: &Task[string]{}, Spec: Spec{ID: "fresh too", Kind: "k", Idempotent: true}}})
	for ended := 0; m.Stats().Ready+m.Stats().Leased > 0; ended++ {
		n := m.turns.Newest(4)
		for n.Before() != nil {
			n = n.Before()
		}
		if m.Done(&out, 4, []Report[string]{{Lease: Lease{Number: n.Number, Epoch: n.Epoch}, Outcome: OK}}) != 0 || ended > 60 {
			t.Fatalf("%d have ended, and no more do: %+v", ended, m.Stats())
		}
	}
	if s := m.Stats(); s.Ended != 51 || s.Parked != 1 {
		t.Errorf("%+v", s)
	}
}
