package find

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/distgear/distgear/internal/fault"
	"github.com/distgear/distgear/internal/journal"
	machine "github.com/distgear/distgear/internal/machine/runs"
	"github.com/distgear/distgear/internal/machine/tasks"
	"github.com/distgear/distgear/internal/plan"
	"github.com/distgear/distgear/internal/wire"
	"github.com/distgear/distgear/record"
)

// said is entries in words, a line each.
func said(es []record.Entry) string {
	var lines []string
	for _, e := range es {
		at := e.At.UnixMilli()
		e.At = time.Time{}
		var b map[string]any
		j, _ := json.Marshal(e)
		if err := json.Unmarshal(j, &b); err != nil {
			panic(err)
		}
		delete(b, "at")
		delete(b, "what")
		if !e.Began.IsZero() {
			b["began"] = e.Began.UnixMilli()
		}
		if !e.Until.IsZero() {
			b["until"] = e.Until.UnixMilli()
		}
		var fields []string
		for k, v := range b {
			fields = append(fields, fmt.Sprintf("%s=%v", k, v))
		}
		slices.Sort(fields)
		lines = append(lines, strings.TrimSpace(fmt.Sprintf("%d %s %s", at, e.What, strings.Join(fields, " "))))
	}
	return strings.Join(lines, "\n")
}

func unit(ms int64, recs ...journal.Record) []byte {
	var u journal.Unit
	for i := range recs {
		u.Add(&recs[i])
	}
	return u.Bytes(ms * 1e6)
}

// TestEntries: a journal, and who owned the run, in words.
func TestEntries(t *testing.T) {
	shape := &journal.Plan{Name: "trip", Rollback: true, Steps: []journal.Step{{Name: "a", Kind: "x", Undo: true}, {Name: "b", Kind: "x", After: []uint32{0}}}}
	failed := fault.Report(fmt.Errorf("no room"))
	now := time.Now().UnixMilli() // the ledger's clock is this node's
	approval, _ := json.Marshal(record.Approval{Approved: true, By: "anna", Reason: "fine"})
	v := machine.View{
		State: tasks.Leased, Now: now, Started: 1, Since: 50, Node: "m2", Epoch: 3,
		Owners: []machine.Owner{{Node: "m1", Began: 2, Ended: 45, Lost: true}},
	}
	units := [][]byte{
		unit(3, journal.Record{Kind: journal.Planned, Shape: shape}, journal.Record{Kind: journal.Sent, Step: 0, Number: 0, Node: "w1"}),
		unit(10, journal.Record{Kind: journal.Reported, Step: 0, Number: 0, Report: wire.Report{Outcome: wire.Unknown}}, journal.Record{Kind: journal.Sent, Step: 0, Number: 1, Node: "w2"}),
		unit(20, journal.Record{Kind: journal.Reported, Step: 0, Number: 1, Report: wire.Report{Outcome: wire.OK, Over: true}}),
		unit(30, journal.Record{Kind: journal.Value, Name: "now"}, journal.Record{Kind: journal.Slept, Until: 31e6}),
		unit(40, journal.Record{Kind: journal.Value, Name: "signal go", Input: []byte("1")}, journal.Record{Kind: journal.Value, Name: "signal approve ship", Input: approval}),
		unit(60, journal.Record{Kind: journal.Adopted, Number: 2, Shape: shape}, journal.Record{Kind: journal.Sent, Step: 0, Number: 1, Node: "w2"},
			journal.Record{Kind: journal.Reported, Step: 0, Number: 1, Report: wire.Report{Outcome: wire.OK, Over: true}}),
		unit(70, journal.Record{Kind: journal.Sent, Step: 1, Number: 2, Node: "w1"}),
		unit(80, journal.Record{Kind: journal.Reported, Step: 1, Number: 2, Report: failed}, journal.Record{Kind: journal.Sent, Step: 0, Undo: true, Number: 3, Node: "w2"}),
		unit(81, journal.Record{Kind: journal.Stopped}, journal.Record{Kind: journal.Cancelled, Timeout: true}),
		unit(90, journal.Record{Kind: journal.Reported, Step: 0, Undo: true, Number: 3, Report: failed}),
		unit(91, journal.Record{Kind: journal.Ended, Step: 0, Undo: true, Report: failed}),
		unit(92, journal.Record{Kind: journal.Decided, Step: 0, How: uint8(plan.MarkUndone), Text: "by hand"}),
	}
	at := clock(0)
	es, err := entries(&v, at, units)
	if err != nil {
		t.Fatal(err)
	}
	const want = `1 accepted
2 owned node=m1
3 planned plan=trip
3 sent attempt=1 node=w1 plan=trip step=a
10 reported attempt=1 began=3 node=w1 outcome=unknown plan=trip step=a
10 sent attempt=2 node=w2 plan=trip step=a
20 reported attempt=2 began=10 node=w2 outcome=ok plan=trip step=a
30 value name=now
30 slept until=31
40 signal name=go
40 signal name=approve ship text=approved by anna: fine
45 owner gone began=2 node=m1 text=lost
50 owned epoch=3 node=m2
60 adopted plan=trip
70 sent attempt=1 node=w1 plan=trip step=b
80 reported attempt=1 began=70 node=w1 outcome=failed, dirty plan=trip step=b text=no room
80 sent attempt=1 node=w2 plan=trip step=a undo=true
81 cancelled
81 plan cancelled plan=trip text=its time was up
90 reported attempt=1 began=80 node=w2 outcome=failed, dirty plan=trip step=a text=no room undo=true
91 not sent outcome=failed, dirty plan=trip step=a text=no room undo=true
92 resolved how=done plan=trip step=a text=by hand undo=true`
	if got := said(es); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}

	v.State, v.Since, v.Reason, v.Node = tasks.Parked, 95, "look at it", ""
	if es, err = entries(&v, at, units[:1]); err != nil || !strings.HasSuffix(said(es), "\n95 parked text=look at it") {
		t.Errorf("parked: %v\n%s", err, said(es))
	}
	v.State, v.Outcome, v.Reason = tasks.Ended, tasks.Dirty, "no use"
	if es, err = entries(&v, at, nil); err != nil || !strings.HasSuffix(said(es), "\n95 finished outcome=failed text=no use") {
		t.Errorf("terminated: %v\n%s", err, said(es))
	}
	if _, err := entries(&v, at, [][]byte{{journal.Version + 1}}); err == nil {
		t.Error("a newer journal is read")
	}
}

// TestTold: what is kept of a run that has ended, in the order in which it happened.
func TestTold(t *testing.T) {
	at := func(ms int64) time.Time { return time.UnixMilli(ms) }
	rec := record.Run{Node: "m1", State: record.RolledBack, Error: "b: no room", Started: at(1), Ended: at(50), Plans: []record.Plan{{Name: "trip", Steps: []record.Step{
		{Name: "a", Attempts: []record.Attempt{{Number: 1, Node: "w1", Sent: at(3), Ended: at(10), Outcome: "ok"}, {Number: 1, Undo: true, Node: "w1", Sent: at(30), Ended: at(40), Outcome: "ok"}}},
		{Name: "b", Attempts: []record.Attempt{{Number: 1, Node: "w2", Sent: at(10), Ended: at(30), Outcome: "failed, clean", Error: "no room"}}},
	}}}}
	v := machine.View{State: tasks.Ended, Epoch: 2, Owners: []machine.Owner{{Node: "m1", Began: 2, Ended: 20, Lost: true}}}
	const want = `1 accepted
2 owned node=m1
3 planned plan=trip
3 sent attempt=1 node=w1 plan=trip step=a
10 reported attempt=1 began=3 node=w1 outcome=ok plan=trip step=a
10 sent attempt=1 node=w2 plan=trip step=b
20 owner gone began=2 node=m1 text=lost
30 reported attempt=1 began=10 node=w2 outcome=failed, clean plan=trip step=b text=no room
30 sent attempt=1 node=w1 plan=trip step=a undo=true
40 reported attempt=1 began=30 node=w1 outcome=ok plan=trip step=a undo=true
50 finished epoch=2 node=m1 outcome=rolled back text=b: no room`
	if got := said(told(&rec, &v, 0)); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	for _, u := range [][]byte{unit(3, journal.Record{Kind: journal.Value, Name: "signal go"}), unit(49, journal.Record{Kind: journal.Closed, Report: wire.Report{Outcome: wire.Dirty}})} {
		v.Journal = append(binary.AppendUvarint(v.Journal, uint64(len(u))), u...)
	}
	if got := said(ended(&rec, &v, 0)); !strings.HasSuffix(got, "3 signal name=go\n20 owner gone began=2 node=m1 text=lost\n50 finished epoch=2 node=m1 outcome=rolled back text=b: no room") {
		t.Errorf("with a journal\n%s", got)
	}
	// It ends once, whenever the ledger took it from its owner, and not before that.
	v.Owners = append(v.Owners, machine.Owner{Node: "m2", Began: 21, Ended: 50})
	if got := said(ended(&rec, &v, 0)); !strings.HasSuffix(got, "21 owned node=m2\n50 owner gone began=21 node=m2\n50 finished epoch=2 node=m1 outcome=rolled back text=b: no room") {
		t.Errorf("with another owner\n%s", got)
	}
	units, err := machine.Units(v.Journal)
	if err != nil {
		t.Fatal(err)
	}
	v.State = tasks.Leased
	if es, err := entries(&v, 0, units); err != nil || strings.Contains(said(es), "finished") {
		t.Errorf("not yet: %v\n%s", err, said(es))
	}
}
