package shard

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/distgear/distgear/internal/machine"
	"github.com/distgear/distgear/internal/machine/runs"
	"github.com/distgear/distgear/internal/machine/tasks"
	"github.com/distgear/distgear/internal/machine/words"
	"github.com/distgear/distgear/internal/operation"
	"github.com/distgear/distgear/internal/shard/executors"
)

// leased is the lease that a session was told of, and what it brings of the run.
func leased(t *testing.T, all []operation.Output) (words.Grant, runs.Lease) {
	t.Helper()
	e := one(t, all, tasks.Run)
	g, err := words.ParseGrant(e.Num, e.Val)
	if err != nil {
		t.Fatal(err)
	}
	var l runs.Lease
	if len(e.Key) > 0 {
		if l, err = runs.ParseLease(e.Key); err != nil {
			t.Fatal(err)
		}
	}
	return g, l
}

func (c *crew) entry(s machine.Session, e runs.Entry) []operation.Output {
	c.t.Helper()
	return c.do(s, operation.Op{Verb: operation.VAppend, Val: runs.AppendEntry(nil, &e)})
}

func (c *crew) survives() {
	c.t.Helper()
	o := newWorld()
	if err := o.Restore(c.Snapshot()); err != nil || !bytes.Equal(o.Snapshot(), c.Snapshot()) {
		c.t.Fatal("the state does not survive:", err)
	}
}

func answered(t *testing.T, all []operation.Output) machine.Code {
	t.Helper()
	for _, o := range all {
		if o.Req != 0 {
			return o.Code
		}
	}
	t.Fatalf("no answer in %+v", all)
	return 0
}

func TestRuns_I5_TheNextOwnerHasTheJournalAndTheOneBeforeCannotAppend(t *testing.T) {
	c := newCrew(t, 7, 8, 9)
	c.do(7, operation.Op{Verb: operation.VSubmit, A: operation.SubmitWatches, Val: spec("r")})
	first, l := leased(t, c.do(8, operation.Op{Verb: operation.VWork, Val: offer(1)}))
	if len(l.Units) != 0 {
		t.Fatalf("%+v", l)
	}
	if code := answered(t, c.entry(8, runs.Entry{Lease: first.Lease, Unit: []byte("plan")})); code != machine.OK {
		t.Fatal(code)
	}
	c.do(9, operation.Op{Verb: operation.VWork, Val: offer(1)})
	c.survives()
	c.Apply(c.now, operation.AppendEntry(nil, &operation.Entry{Type: operation.EntryExpire, Session: 8}))
	second, l := leased(t, c.hear(9))
	if second.Epoch <= first.Epoch || len(l.Units) != 1 || string(l.Units[0]) != "plan" {
		t.Fatalf("%+v %+v", second, l)
	}
	if code := answered(t, c.entry(9, runs.Entry{Lease: first.Lease, Unit: []byte("late")})); code != machine.Stale {
		t.Errorf("an older epoch appends: %v", code)
	}
	end := runs.Entry{Lease: second.Lease, Unit: []byte("end"), Why: runs.Ended, Outcome: tasks.OK, Report: []byte("out"), Summary: []byte("{}")}
	if code := answered(t, c.entry(9, end)); code != machine.OK {
		t.Fatal(code)
	}
	e := one(t, c.hear(7), tasks.Finished)
	if got, err := words.ParseEnd(e.Val); err != nil || got.Outcome != tasks.OK || string(got.Val) != "out" {
		t.Errorf("%+v %v", got, err)
	}
	if code := answered(t, c.do(7, operation.Op{Verb: operation.VSignal, Key: []byte("r"), Val: runs.AppendSignal(nil, &runs.Signal{Name: "go"})})); code != machine.Refused {
		t.Errorf("a signal to a run that has ended: %v", code)
	}
	c.survives()
}

func TestRuns_SuspendedUntilASignalOrATime(t *testing.T) {
	c := newCrew(t, 7, 8)
	c.do(7, operation.Op{Verb: operation.VSubmit, Val: spec("r")})
	g, _ := leased(t, c.do(8, operation.Op{Verb: operation.VWork, Val: offer(1)}))
	all := c.entry(8, runs.Entry{Lease: g.Lease, Unit: []byte("u"), Why: runs.Suspended, Signals: []string{"go"}})
	if len(all) != 1 || answered(t, all) != machine.OK {
		t.Fatalf("%+v", all)
	}
	c.survives()
	signal := operation.Op{Verb: operation.VSignal, Key: []byte("r"), Val: runs.AppendSignal(nil, &runs.Signal{Name: "go", Value: []byte("v")})}
	c.do(7, signal)
	g, l := leased(t, c.hear(8))
	if len(l.Signals) != 1 || string(l.Signals[0].Value) != "v" || l.Signals[0].Number != 1 {
		t.Fatalf("%+v", l)
	}
	all = c.entry(8, runs.Entry{Lease: g.Lease, Unit: []byte("took"), Took: []uint64{1}, Why: runs.Suspended, In: 5000})
	if len(all) != 1 {
		t.Fatalf("%+v", all)
	}
	c.now += 6000
	c.Apply(c.now, nil)
	g, l = leased(t, c.hear(8))
	if len(l.Signals) != 0 || len(l.Units) != 2 {
		t.Fatalf("%+v", l)
	}
	c.do(7, signal) // its owner is told
	if e := one(t, c.hear(8), operation.RunSignal); e.Num != g.Number {
		t.Fatalf("%+v", e)
	}
	cancel := operation.Op{Verb: operation.VTask, Key: []byte("r"), A: operation.RunCancel}
	if code := answered(t, c.do(7, cancel)); code != machine.OK {
		t.Fatal(code)
	}
	one(t, c.hear(8), tasks.Stop)
	g2, l := leased(t, c.entry(8, runs.Entry{Lease: g.Lease, Unit: []byte("u"), Why: runs.Suspended, In: 5000}))
	if !l.Cancelled || g2.Epoch == g.Epoch {
		t.Fatalf("a cancelled run rests: %+v", l)
	}
}

func TestRuns_D9_ThreePanicsPark(t *testing.T) {
	c := newCrew(t, 7, 8)
	c.do(7, operation.Op{Verb: operation.VSubmit, A: operation.SubmitWatches, Val: spec("r")})
	g, _ := leased(t, c.do(8, operation.Op{Verb: operation.VWork, Val: offer(1)}))
	for range 2 {
		c.entry(8, runs.Entry{Lease: g.Lease, Why: runs.Panicked, Text: "boom"})
		c.now += executors.PanicWait
		c.Apply(c.now, nil)
		g, _ = leased(t, c.hear(8))
	}
	c.entry(8, runs.Entry{Lease: g.Lease, Why: runs.Panicked, Text: "boom"})
	e := one(t, c.hear(7), tasks.Finished)
	if end, err := words.ParseEnd(e.Val); err != nil || end.State != tasks.Parked || end.Reason != "boom" {
		t.Fatalf("%+v %v", end, err)
	}
	if _, l := leased(t, c.do(8, operation.Op{Verb: operation.VTask, Key: []byte("r"), A: operation.RunAdopt})); !l.Adopt {
		t.Errorf("%+v", l)
	}
	if code := answered(t, c.do(7, operation.Op{Verb: operation.VTask, Key: []byte("r"), A: operation.RunTerminate, Val: []byte("enough")})); code != machine.OK {
		t.Fatal(code)
	}
	one(t, c.hear(8), tasks.Stop)
	c.survives()
}

func TestRuns_D1_TheSameIDWithAnotherInputIsAConflict(t *testing.T) {
	c := newCrew(t, 7, 8)
	raise := func(kind, in string) operation.Output {
		t.Helper()
		all := c.do(7, operation.Op{Verb: operation.VSubmit, A: operation.SubmitWatches | operation.SubmitRuns, Val: words.AppendSpec(nil, &tasks.Spec{ID: "r", Kind: kind, Idempotent: true}, nil, []byte(in))})
		if len(all) != 1 && all[1].Aux != uint64(tasks.Finished) {
			t.Fatalf("%+v", all)
		}
		return all[0]
	}
	check := func() {
		t.Helper()
		if o := raise("deploy", "in"); o.Code != machine.OK {
			t.Errorf("the same again: %+v", o)
		}
		for _, o := range []operation.Output{raise("deploy", "other"), raise("ship", "in")} {
			if o.Code != machine.Refused || !errors.Is(words.Error(o.Aux), tasks.ErrConflict) {
				t.Errorf("%+v", o)
			}
		}
		c.survives()
	}
	check()
	g, _ := leased(t, c.do(8, operation.Op{Verb: operation.VWork, Val: words.AppendOffer(nil, &tasks.Offer{Slots: 1, Kinds: []string{"deploy"}})}))
	check()
	all := c.do(7, operation.Op{Verb: operation.VWatch, A: operation.WatchRun, Key: []byte("r")})
	v, err := runs.ParseView(all[0].Val)
	if err != nil || v.Kind != "deploy" || v.State != tasks.Leased || string(v.Input) != "in" {
		t.Errorf("%+v %v", v, err)
	}
	c.entry(8, runs.Entry{Lease: g.Lease, Unit: []byte("u"), Why: runs.Ended, Outcome: tasks.OK, Report: []byte("out"), Summary: []byte("{}"), Keep: true})
	c.hear(7)
	check()
	if code := answered(t, c.do(7, operation.Op{Verb: operation.VTask, Key: []byte("r"), A: operation.RunUnwind})); code != machine.OK {
		t.Fatal(code)
	}
	g, l := leased(t, c.hear(8))
	if string(g.Input) != "in" || !l.Unwind || len(l.Units) != 1 {
		t.Errorf("%+v %+v", g, l)
	}
}

// What is kept elsewhere is referred to while the journal has it, and what becomes
// of the run.
func TestRuns_D10_RefersToWhatIsKeptElsewhere(t *testing.T) {
	c := newCrew(t, 8)
	check := func(when string, want ...string) {
		t.Helper()
		for _, val := range []string{"R5ref-unit", "R5ref-out", "R5ref-shown", "R5ref-none"} {
			if known, refers := c.Refers("render", "r", val); !known || refers != slices.Contains(want, val) {
				t.Errorf("%s: %s: known %v, refers %v", when, val, known, refers)
			}
		}
	}
	c.do(8, operation.Op{Verb: operation.VSubmit, A: operation.SubmitRuns, Val: spec("r")})
	g, _ := leased(t, c.do(8, operation.Op{Verb: operation.VWork, Val: offer(1)}))
	c.entry(8, runs.Entry{Lease: g.Lease, Unit: []byte("head R5ref-unit tail")})
	check("while it runs", "R5ref-unit")
	c.entry(8, runs.Entry{Lease: g.Lease, Why: runs.Ended, Outcome: tasks.OK, Report: []byte("node R5ref-out"), Summary: []byte("R5ref-shown")})
	check("when it has ended", "R5ref-unit", "R5ref-out", "R5ref-shown")
}

// A run that a schedule has raised has no journal until somebody has begun it, whoever
// owns it: it may be lost, looked at, and ended all the same.
func TestRuns_OfASchedule(t *testing.T) {
	c := newCrew(t, 7, 8, 9)
	val := words.AppendSchedule(nil, &tasks.Schedule[[]byte]{Text: "@hourly", Spec: tasks.Spec{Kind: "noop", Idempotent: true}, Val: []byte("in"), Next: 60_000})
	c.do(7, operation.Op{Verb: operation.VSchedule, Key: []byte("tick"), Val: val})
	c.do(8, operation.Op{Verb: operation.VWork, Val: offer(1)})
	c.do(9, operation.Op{Verb: operation.VWork, Val: offer(1)})
	c.now = 61_000
	c.Apply(c.now, nil)
	first, second := machine.Session(8), machine.Session(9)
	all := c.hear(first)
	if len(all) == 0 {
		first, second = second, first
		all = c.hear(first)
	}
	g, l := leased(t, all)
	if g.ID != "tick@60000" || string(g.Input) != "in" || len(l.Units) != 0 {
		t.Fatalf("%+v %+v", g, l)
	}
	c.survives()
	c.Apply(c.now, operation.AppendEntry(nil, &operation.Entry{Type: operation.EntryExpire, Session: first}))
	g, l = leased(t, c.hear(second))
	if string(g.Input) != "in" || len(l.Units) != 0 {
		t.Fatalf("%+v %+v", g, l)
	}
	look := func() runs.View {
		t.Helper()
		for _, o := range c.do(7, operation.Op{Verb: operation.VWatch, A: operation.WatchRun, Key: []byte(g.ID)}) {
			if v, err := runs.ParseView(o.Val); o.Req != 0 && err == nil {
				return v
			}
		}
		t.Fatal("no view")
		return runs.View{}
	}
	if v := look(); string(v.Input) != "in" || len(v.Owners) != 1 || v.State != tasks.Leased {
		t.Errorf("%+v", v)
	}
	if code := answered(t, c.entry(second, runs.Entry{Lease: g.Lease, Unit: []byte("u"), Why: runs.Ended, Outcome: tasks.OK, Report: []byte("out")})); code != machine.OK {
		t.Fatal(code)
	}
	if v := look(); string(v.Input) != "in" || v.State != tasks.Ended || v.Outcome != tasks.OK {
		t.Errorf("%+v", v)
	}
	c.survives()
}

// What operators do is noted in the entry that does it, whoever they say they are; entries of
// before there were such say nobody.
func TestRuns_Notes(t *testing.T) {
	c := newCrew(t, 7, 8)
	c.do(7, operation.Op{Verb: operation.VSubmit, A: operation.SubmitRuns, Val: spec("r")})
	order := func(a uint64, who, rest string) machine.Code {
		t.Helper()
		return answered(t, c.do(7, operation.Op{Verb: operation.VTask, Key: []byte("r"), A: a, B: uint64(len(who)), Val: []byte(who + rest)}))
	}
	if code := order(operation.RunNote, "anna", "fork\x00as x"); code != machine.OK {
		t.Fatal(code)
	}
	for _, bad := range []string{"", "fork", "\x00as x"} {
		if code := order(operation.RunNote, "anna", bad); code != machine.Invalid {
			t.Errorf("%q: %v", bad, code)
		}
	}
	signal := runs.AppendSignal(nil, &runs.Signal{Name: "go"})
	c.do(7, operation.Op{Verb: operation.VSignal, Key: []byte("r"), Val: signal})
	c.do(7, operation.Op{Verb: operation.VSignal, Key: []byte("r"), B: 3, Val: append([]byte("bob"), signal...)})
	c.survives()
	g, l := leased(t, c.do(8, operation.Op{Verb: operation.VWork, Val: offer(1)}))
	if len(l.Signals) != 2 {
		t.Errorf("%+v", l)
	}
	if code := answered(t, c.entry(8, runs.Entry{Lease: g.Lease, Unit: []byte("u"), Stuck: "pay"})); code != machine.OK {
		t.Fatal(code)
	}
	if code := order(operation.RunTerminate, "", "no use"); code != machine.OK {
		t.Fatal(code)
	}
	if code := order(operation.RunTerminate, "", "again"); code != machine.Refused {
		t.Fatal(code)
	}
	c.survives()
	var got []string
	for _, o := range c.do(7, operation.Op{Verb: operation.VWatch, A: operation.WatchRun, Key: []byte("r")}) {
		if v, err := runs.ParseView(o.Val); o.Req != 0 && err == nil {
			for _, n := range v.Notes {
				got = append(got, strings.Join([]string{n.Verb, n.Node, n.By, n.Text}, " "))
			}
		}
	}
	want := []string{"fork n7 anna as x", "signal n7 bob go", "stuck n8  pay", "terminate n7  no use"}
	if !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
}
