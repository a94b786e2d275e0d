package runs

import (
	"sync"
	"testing"

	"github.com/distgear/distgear/internal/link"
	"github.com/distgear/distgear/internal/wire"
	"github.com/distgear/distgear/record"
)

// The drive of a plan whose steps are all OK is another plan's after the run:
// the record is as before, and reports that come again reach nobody.
func TestPlainPlan(t *testing.T) {
	var mu sync.Mutex
	var receivers []link.Receiver
	h := fake(t, func(_ wire.Command, r link.Receiver) {
		mu.Lock()
		defer mu.Unlock()
		receivers = append(receivers, r)
	})
	keys := keysOf("run-1")
	first := six(t, h, "run-1", &keys, Beginning{Event: "plan"})
	if first.plans[0].d != nil {
		t.Fatal("the drive was kept")
	}
	old := receivers
	for range 8 {
		six(t, h, "run-1", &keys, Beginning{Event: "plan"})
		for _, r := range old {
			r.Report(wire.Report{Outcome: wire.Unknown})
			r.Report(wire.Report{Outcome: wire.Dirty, Over: true})
		}
	}
	rec := first.Record(true)
	if rec.State != record.OK || len(rec.Plans) != 1 || len(rec.Plans[0].Steps) != 6 {
		t.Fatalf("%+v", rec)
	}
	for _, s := range rec.Plans[0].Steps {
		if s.State != "ok" || s.Node != "worker" || s.Attempt != 1 || s.Late != 0 || s.Error != "" || s.Started.IsZero() || s.Ended.IsZero() {
			t.Errorf("%+v", s)
		}
	}
}

// A nested run keeps its drives: it may be undone (S16).
func TestNestedPlanIsKept(t *testing.T) {
	var mu sync.Mutex
	var undone []string
	h := fake(t, func(c wire.Command, _ link.Receiver) {
		mu.Lock()
		defer mu.Unlock()
		if c.Flags&wire.Undo != 0 {
			undone = append(undone, c.Key)
		}
	})
	keys := keysOf("parent/1/plan/do")
	r := six(t, h, "parent/1/plan/do", &keys, Beginning{Event: "plan", Key: "parent/1/plan/do", Nested: true, Attempt: 1})
	if err := r.Unwind(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(undone) != 6 || undone[0] != string(r.ID())+"/1/step-6/undo" {
		t.Errorf("undone: %q", undone)
	}
}
