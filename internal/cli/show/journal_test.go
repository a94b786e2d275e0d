package show

import (
	"testing"
	"time"

	"github.com/distgear/distgear/record"
)

// TestTimeline: each kind of entry has its line, and one of a later version is not lost.
func TestTimeline(t *testing.T) {
	at := func(ms int) time.Time { return time.UnixMilli(int64(1_000_000 + ms)) }
	es := []record.Entry{
		{At: at(0), What: record.Accepted},
		{At: at(1), What: record.Owned, Node: "m1", Epoch: 1},
		{At: at(1), What: record.Planned, Plan: "trip"},
		{At: at(2), What: record.Sent, Step: "book", Attempt: 1, Node: "w1"},
		{At: at(12), What: record.Reported, Step: "book", Attempt: 1, Node: "w1", Began: at(2), Outcome: "failed, clean", Text: "no room\nat all"},
		{At: at(20), What: record.Sent, Step: "book", Attempt: 2, Node: "w2"},
		{At: at(30), What: record.Reported, Step: "book", Attempt: 2, Node: "w2", Began: at(20), Outcome: "ok"},
		{At: at(30), What: record.Valued, Name: "now"},
		{At: at(31), What: record.Signalled, Name: "approve pay", Text: "approved by anna"},
		{At: at(1500), What: record.OwnerGone, Node: "m1", Began: at(1), Text: "lost"},
		{At: at(1501), What: record.OwnerGone, Began: at(1500)},
		{At: at(61_000), What: record.Sent, Step: "a", Undo: true, Attempt: 1, Node: "w2"},
		{At: at(61_500), What: record.NotSent, Step: "a", Undo: true, Outcome: "never ran", Text: "nobody handles it"},
		{At: at(62_000), What: record.Resolved, Step: "a", Undo: true, How: record.Skip, Text: "we keep it"},
		{At: at(62_001), What: record.PlanCancel, Plan: "trip"},
		{At: at(62_002), What: record.Unwound, Plan: "trip"},
		{At: at(62_003), What: "new kind", Name: "x", Text: "why"},
		{At: at(62_004), What: "new kind", Step: "a"},
		{At: at(62_005), What: record.SetAside, Text: "out of paper"},
		{At: at(400_000_000), What: record.Finished, Node: "m2", Epoch: 2, Outcome: "rolled back", Text: "no room"},
	}
	const want = `   0.000 s  accepted
   0.001 s  owned by m1, epoch 1
   0.001 s  plan trip
   0.002 s      book  → w1
   0.012 s      book  ✗ failed, clean  w1  10 ms  (no room)
   0.020 s      book  → w2  attempt 2
   0.030 s      book  ✓ ok  w2  10 ms  attempt 2
   0.030 s  took now
   0.031 s  took the signal approve pay: approved by anna
   1.500 s  no more owned by m1 after 1.5 s: lost
   1.501 s  no more owned by a node that is gone after 1 ms
      1m1s    ↺ a     → w2
      1m2s    ↺ a     - never ran  (nobody handles it)
      1m2s    ↺ a     an operator decided: skip  (we keep it)
      1m2s  plan trip cancelled
      1m2s  plan trip is to be undone
      1m2s  new kind x: why
      1m2s      a     new kind
      1m2s  parked: out of paper
  4.6 days  finished ↺ rolled back  by m2, epoch 2: no room`
	if got := Timeline(es, Plain); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if Timeline(nil, Plain) != "" {
		t.Error("a line of nothing")
	}
}
