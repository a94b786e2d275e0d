package shard

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"github.com/distgear/distgear/internal/look"
	"github.com/distgear/distgear/internal/machine"
	"github.com/distgear/distgear/internal/machine/tasks"
	"github.com/distgear/distgear/internal/machine/words"
	"github.com/distgear/distgear/internal/operation"
)

// crew is a shard with an executor that sessions have open as handle 1.
type crew struct {
	t *testing.T
	*world
	next  map[machine.Session]uint64
	acked map[machine.Session]uint64
	now   int64
}

func newCrew(t *testing.T, sessions ...machine.Session) *crew {
	c := &crew{t, newWorld(), map[machine.Session]uint64{}, map[machine.Session]uint64{}, 1}
	for _, s := range sessions {
		c.Apply(c.now, opening(s))
		c.do(s, operation.Op{Verb: operation.VOpen, Handle: 1, A: uint64(operation.KExecutor), Key: []byte("render")})
	}
	return c
}

// do applies an operation, and tells what the session is told then.
func (c *crew) do(s machine.Session, op operation.Op) []operation.Output {
	c.t.Helper()
	c.next[s]++
	op.Handle = 1
	if op.Verb != operation.VOpen {
		op.Req = c.next[s]
	}
	c.Apply(c.now, entry(s, c.next[s], c.acked[s], op))
	return c.hear(s)
}

// hear is what a session was told since it heard last.
func (c *crew) hear(s machine.Session) []operation.Output {
	c.t.Helper()
	c.cut()
	all, last := c.told(c.t, s)
	if len(all) > 0 {
		c.acked[s] = max(c.acked[s], last.First+uint64(len(all))-1)
	}
	return all
}

// one is the only event of a kind.
func one(t *testing.T, all []operation.Output, code tasks.Code) operation.Output {
	t.Helper()
	var found []operation.Output
	for _, o := range all {
		if o.Req == 0 && o.Code == machine.Message && tasks.Code(o.Aux) == code {
			found = append(found, o)
		}
	}
	if len(found) != 1 {
		t.Fatalf("%d events of code %d in %+v", len(found), code, all)
	}
	return found[0]
}

func spec(id string) []byte {
	return words.AppendSpec(nil, &tasks.Spec{ID: id, Kind: "noop", Idempotent: true, Retries: 1, Timeout: 1000}, nil, []byte("in"))
}

func offer(slots int) []byte { return words.AppendOffer(nil, &tasks.Offer{Slots: slots}) }

func TestExecutor_ATaskIsLeasedDoneAndTold(t *testing.T) {
	c := newCrew(t, 7, 8)
	if a := c.do(7, operation.Op{Verb: operation.VSubmit, A: operation.SubmitWatches, Val: spec("a")}); len(a) != 1 || a[0].Code != machine.OK || a[0].Num != 1 {
		t.Fatalf("%+v", a)
	}
	e := one(t, c.do(8, operation.Op{Verb: operation.VWork, Val: offer(2)}), tasks.Run)
	g, err := words.ParseGrant(e.Num, e.Val)
	if err != nil || e.Handle != 1 || g.ID != "a" || g.Kind != "noop" || g.Attempt != 1 || g.Timeout != 1000 || string(g.Input) != "in" {
		t.Fatalf("%+v %v", g, err)
	}
	o := newWorld() // a standby goes on with the same
	if err := o.Restore(c.Snapshot()); err != nil || !bytes.Equal(o.Snapshot(), c.Snapshot()) {
		t.Fatal("the state does not survive:", err)
	}
	c.do(8, operation.Op{Verb: operation.VDone, Val: words.AppendReport(nil, &tasks.Report[[]byte]{Lease: g.Lease, Outcome: tasks.OK, Val: []byte("out")})})
	e = one(t, c.hear(7), tasks.Finished)
	end, err := words.ParseEnd(e.Val)
	if err != nil || end.ID != "a" || end.State != tasks.Ended || end.Outcome != tasks.OK || string(end.Val) != "out" {
		t.Fatalf("%+v %v", end, err)
	}
	a := c.do(8, operation.Op{Verb: operation.VWatch, Key: []byte("a")})
	if end, err = words.ParseEnd(a[0].Val); err != nil || string(end.Val) != "out" || a[0].Aux != uint64(tasks.Ended) {
		t.Fatalf("%+v %v", a, err)
	}
	if a = c.do(8, operation.Op{Verb: operation.VWatch, Key: []byte("b")}); a[0].Code != machine.Refused || !errors.Is(words.Error(a[0].Aux), tasks.ErrNoTask) {
		t.Fatalf("%+v", a)
	}
}

func TestExecutor_WhoIsQuietIsNotWaitedFor(t *testing.T) {
	c := newCrew(t, 7, 8, 9)
	works := map[machine.Session]bool{}
	c.cfg.Works = func(s machine.Session, on bool) { works[s] = on }
	c.do(8, operation.Op{Verb: operation.VWork, Val: offer(1)})
	c.do(7, operation.Op{Verb: operation.VSubmit, A: operation.SubmitWatches, Val: spec("a")})
	first := one(t, c.hear(8), tasks.Run)
	c.do(9, operation.Op{Verb: operation.VWork, Val: offer(1)})
	c.now = 1600
	c.Apply(c.now, operation.AppendEntry(nil, &operation.Entry{Type: operation.EntryQuiet, Session: 8}))
	second := one(t, c.hear(9), tasks.Run)
	g, _ := words.ParseGrant(first.Num, first.Val)
	h, _ := words.ParseGrant(second.Num, second.Val)
	if h.Number != g.Number || h.Epoch != g.Epoch+1 {
		t.Fatalf("%+v after %+v", h, g)
	}
	o := newWorld()
	if err := o.Restore(c.Snapshot()); err != nil || !o.sessions[8].quiet {
		t.Fatal("a standby does not know who is quiet:", err)
	}
	told := c.do(8, operation.Op{Verb: operation.VDone, Val: words.AppendReport(nil, &tasks.Report[[]byte]{Lease: g.Lease, Outcome: tasks.OK})})
	one(t, told, tasks.Stop)
	if last := told[len(told)-1]; last.Code != machine.OK || last.Num != 1 {
		t.Fatalf("a report of a lease that is over is not stale: %+v", told)
	}
	c.do(7, operation.Op{Verb: operation.VSubmit, Val: spec("b")})
	one(t, c.hear(8), tasks.Run) // it is heard of again
	c.do(9, operation.Op{Verb: operation.VUnwork})
	if !works[8] || works[9] {
		t.Fatal(works)
	}
}

func TestExecutor_TheHistoryNamesTheNodeOfALostWorker(t *testing.T) {
	c := newCrew(t, 7, 8, 9)
	c.do(7, operation.Op{Verb: operation.VSubmit, Val: spec("a")})
	one(t, c.do(8, operation.Op{Verb: operation.VWork, Val: offer(1)}), tasks.Run)
	c.Apply(c.now, operation.AppendEntry(nil, &operation.Entry{Type: operation.EntryExpire, Session: 8}))
	one(t, c.do(9, operation.Op{Verb: operation.VWork, Val: offer(1)}), tasks.Run)
	c.do(9, operation.Op{Verb: operation.VUnwork})
	o := newWorld()
	if err := o.Restore(c.Snapshot()); err != nil {
		t.Fatal(err)
	}
	for _, s := range []*Shard{c.Shard, o.Shard} {
		p, _ := s.Page(look.Query{What: look.Tasks, Executor: "render", ID: "a"})
		if len(p.Tasks) != 1 || len(p.Tasks[0].History) != 2 {
			t.Fatalf("%+v", p.Tasks)
		}
		for i, h := range p.Tasks[0].History {
			if h.Node != []string{"n8", "n9"}[i] || !h.Lost || h.Message != "" {
				t.Errorf("%+v", h)
			}
		}
	}
}

func TestExecutor_SchedulesFireWithoutAnybodyAndAskWhoComes(t *testing.T) {
	c := newCrew(t, 7)
	c.Apply(c.now, operation.AppendEntry(nil, &operation.Entry{Type: operation.EntryClock, Session: operation.Nobody, Stamp: 1_000_000}))
	val := words.AppendSchedule(nil, &tasks.Schedule[[]byte]{Text: "@every 1m", Spec: tasks.Spec{Kind: "noop"}, Val: []byte("in"), Next: 1_060_000})
	if a := c.do(7, operation.Op{Verb: operation.VSchedule, Key: []byte("tick"), Val: val}); a[0].Code != machine.OK {
		t.Fatalf("%+v", a)
	}
	for i := range 3 {
		name := []byte(string(rune('a' + i)))
		if a := c.do(7, operation.Op{Verb: operation.VSchedule, Key: name, Val: words.AppendSchedule(nil, &tasks.Schedule[[]byte]{Text: "@daily", Spec: tasks.Spec{Kind: "k"}, Next: 9_000_000, Skip: true})}); a[0].Code != machine.OK {
			t.Fatalf("%+v", a)
		}
	}
	var names string
	for q := (look.Query{What: look.Schedules, Executor: "render", Limit: 3}); ; {
		p, ok := c.Page(q)
		for _, s := range p.Schedules {
			names += fmt.Sprint(" ", s.Name, " ", s.Text, " ", s.Kind, " ", s.Next, " ", s.Skip)
		}
		if q.After = p.Next; !ok || q.After == "" {
			break
		}
		names += ","
	}
	if want := " a @daily k 9000000 true b @daily k 9000000 true c @daily k 9000000 true, tick @every 1m noop 1060000 false"; names != want {
		t.Fatal(names)
	}
	if d := c.Due(); d != 60_001 {
		t.Fatalf("due at %d", d)
	}
	c.Apply(2, operation.AppendEntry(nil, &operation.Entry{Type: operation.EntryExpire, Session: 7}))
	c.now = 60_100
	c.Apply(c.now, nil)
	if known, _ := c.Refers("render", "tick@1060000", "in"); !known {
		t.Fatal("it has not fired")
	}
	c.Apply(c.now, opening(9))
	a, err := words.ParseAsk(one(t, c.do(9, operation.Op{Verb: operation.VOpen, A: uint64(operation.KExecutor), Key: []byte("render")}), tasks.Next).Val)
	if err != nil || a.Name != "tick" || a.Text != "@every 1m" || a.Last != 1_060_000 || a.After != 1_060_099 {
		t.Fatalf("%+v %v", a, err)
	}
	c.do(9, operation.Op{Verb: operation.VNextTime, Key: []byte("tick"), A: uint64(a.Last), B: 1_120_000})
	if d := c.Due(); d != 120_001 {
		t.Fatalf("due at %d", d)
	}
}

// FuzzExecutor: bytes that come from anywhere never panic, and leave a state that survives.
func FuzzExecutor(f *testing.F) {
	f.Add(byte(operation.VSubmit), spec("a"), uint64(3), uint64(0), []byte{})
	f.Add(byte(operation.VWork), offer(3), uint64(0), uint64(0), []byte{})
	f.Add(byte(operation.VDone), words.AppendReport(nil, &tasks.Report[[]byte]{Lease: tasks.Lease{Number: 1, Epoch: 1}, Outcome: tasks.Dirty}), uint64(0), uint64(0), []byte{})
	f.Add(byte(operation.VConfigure), words.AppendLimits(nil, &tasks.Limits{Capacity: 1, Rate: 5, KeyRate: 1, Sticky: true}), uint64(0), uint64(0), []byte{})
	f.Add(byte(operation.VSchedule), words.AppendSchedule(nil, &tasks.Schedule[[]byte]{Spec: tasks.Spec{Kind: "k"}, Next: 5}), uint64(0), uint64(0), []byte("s"))
	f.Fuzz(func(t *testing.T, verb byte, val []byte, a, b uint64, key []byte) {
		c := newCrew(t, 7, 8)
		c.do(7, operation.Op{Verb: operation.VSubmit, A: operation.SubmitWatches, Val: spec("x")})
		c.do(8, operation.Op{Verb: operation.VWork, Val: offer(1)})
		c.do(8, operation.Op{Verb: operation.Verb(operation.KExecutor)<<4 | operation.Verb(verb&15), Val: val, A: a, B: b, Key: key})
		c.now = 100_000
		c.Apply(c.now, nil)
		o := newWorld()
		if err := o.Restore(c.Snapshot()); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(o.Snapshot(), c.Snapshot()) {
			t.Fatal("another state")
		}
	})
}

// A schedule that is paused is so in the snapshot that a standby goes on from.
func TestExecutor_APausedScheduleSurvives(t *testing.T) {
	c := newCrew(t, 7)
	val := words.AppendSchedule(nil, &tasks.Schedule[[]byte]{Text: "@every 1m", Spec: tasks.Spec{Kind: "noop"}, Val: []byte("in"), Next: 60_000, All: true})
	c.do(7, operation.Op{Verb: operation.VSchedule, Key: []byte("tick"), Val: val})
	pause := operation.Op{Verb: operation.VUnschedule, Key: []byte("tick"), A: operation.SchedulePause}
	if code := answered(t, c.do(7, pause)); code != machine.OK {
		t.Fatal(code)
	}
	c.survives()
	o := newWorld()
	if err := o.Restore(c.Snapshot()); err != nil {
		t.Fatal(err)
	}
	c.world = o
	c.now = 70_000
	c.Apply(c.now, nil)
	if d := c.Due(); d != 0 {
		t.Errorf("due at %d", d)
	}
	p, ok := c.Page(look.Query{What: look.Schedules, Executor: "render"})
	if !ok || len(p.Schedules) != 1 || !p.Schedules[0].Paused || !p.Schedules[0].All {
		t.Fatalf("%+v", p)
	}
	if known, _ := c.Refers("render", "tick@60000", "in"); known {
		t.Fatal("it has fired")
	}
	pause.A = operation.ScheduleResume
	all := c.do(7, pause)
	if a, err := words.ParseAsk(one(t, all, tasks.Next).Val); err != nil || answered(t, all) != machine.OK || a.After < 69_000 {
		t.Fatalf("%+v %v", a, err)
	}
}
