package demo

import (
	"strings"
	"testing"
	"time"

	"github.com/distgear/distgear/cluster"
	"github.com/distgear/distgear/record"
)

func at(ms int) time.Time { return time.UnixMilli(int64(1000 + ms)) }

// worked is what a deploy that worked leaves.
func worked() (*facts, string) {
	f := &facts{release: "v1", files: map[string]string{}, rec: record.Run{State: record.OK, Plans: []record.Plan{{}}}}
	add := func(name, node string, from, to int, after ...string) string {
		text := name
		for _, a := range after {
			from, _ := f.file(a)
			text += sum([]byte(from))
		}
		f.files[node+"/v1."+name] = text
		p := &f.rec.Plans[0]
		p.Steps = append(p.Steps, record.Step{Name: name, Node: cluster.NodeName(node), State: "ok", Attempt: 1, After: after, Started: at(from), Ended: at(to)})
		return sum([]byte(text))
	}
	add("fetch-w1", "w1", 0, 10)
	add("fetch-w2", "w2", 1, 12)
	add("fetch-w3", "w3", 2, 14)
	add("join", "w1", 15, 20, "fetch-w1", "fetch-w2", "fetch-w3")
	return f, add("start", "w2", 21, 30, "join")
}

// rolledBack is what one that failed leaves.
func rolledBack() *facts {
	f, _ := worked()
	f.rec.State, f.rec.Error, f.files = record.RolledBack, "start: port 8080 is taken", map[string]string{}
	for i := range f.rec.Plans[0].Steps {
		s := &f.rec.Plans[0].Steps[i]
		s.State, s.UndoAttempt, s.Ended = "undone", 1, at(90-10*i)
	}
	for i := 4; i >= 0; i-- {
		name := "v1." + f.rec.Plans[0].Steps[i].Name
		f.journal = append(f.journal, entry{Step: name, What: "undo"}, entry{Step: name, What: "undone"})
	}
	return f
}

// moved, unknown: what the runs leave whose node w1 was killed.
func moved() *facts {
	return &facts{release: "v3", files: map[string]string{"shared/v3.index": "index on w2"},
		journal: []entry{{Step: "v3.index", What: "do", Node: "w1"}, {Step: "v3.index", What: "do", Node: "w2"}, {Step: "v3.index", What: "done", Node: "w2"}},
		rec: record.Run{State: record.OK, Plans: []record.Plan{{Steps: []record.Step{
			{Name: "index", State: "ok", Node: "w2", Attempt: 2}}}}}}
}

func unknown() *facts {
	return &facts{release: "v4", files: map[string]string{},
		journal: []entry{{Step: "v4.migrate", What: "do"}, {Step: "v4.migrate", What: "undo", Outcome: "unknown"}, {Step: "v4.migrate", What: "undone"},
			{Step: "v4.reserve", What: "undo"}, {Step: "v4.reserve", What: "undone"}},
		rec: record.Run{State: record.RolledBack, Plans: []record.Plan{{Steps: []record.Step{
			{Name: "reserve", State: "undone", Attempt: 1, Ended: at(20)}, {Name: "migrate", State: "undone", Attempt: 1, After: []string{"reserve"}, Ended: at(10)}}}}}}
}

func wrong(cs []Check) string {
	var all []string
	for _, c := range cs {
		if c.Wrong != "" {
			all = append(all, c.Wrong)
		}
	}
	return strings.Join(all, "; ")
}

// TestChecks doctors what the phases leave: each violation of a rule must be
// seen, and said.
func TestChecks(t *testing.T) {
	deploy := func(doctor func(*facts)) string {
		f, result := worked()
		doctor(f)
		return wrong(checkDeploy(f, result))
	}
	rollback := func(doctor func(*facts)) string {
		f := rolledBack()
		doctor(f)
		return wrong(checkRollback(f, map[string]string{}))
	}
	index := func(doctor func(*facts)) string { f := moved(); doctor(f); return wrong(checkMoved(f, "w1")) }
	migrate := func(doctor func(*facts)) string {
		f := unknown()
		doctor(f)
		return wrong(checkUnknown(f, "w1", map[string]string{"w1/v4.migrate": "partial"}))
	}
	step := func(f *facts, i int) *record.Step { return &f.rec.Plans[0].Steps[i] }
	for _, c := range []struct {
		name   string
		phase  func(func(*facts)) string
		doctor func(*facts)
		want   string // empty: all is well
	}{
		{"deploy", deploy, func(*facts) {}, ""},
		{"deploy failed", deploy, func(f *facts) { f.rec.State = record.Failed }, `the run is "failed"`},
		{"no record", deploy, func(f *facts) { f.rec.Plans = nil }, "0 steps"},
		{"one after another", deploy, func(f *facts) { step(f, 2).Started = at(11) }, "one after another"},
		{"too early", deploy, func(f *facts) { step(f, 3).Started = at(13) }, "join began before fetch-w3 ended"},
		{"wrong node", deploy, func(f *facts) { step(f, 1).Node = "w1" }, `fetch-w2 ran on "w1"`},
		{"other data", deploy, func(f *facts) { f.files["w2/v1.fetch-w2"] = "other" }, "join knows nothing of fetch-w2"},
		{"rollback", rollback, func(*facts) {}, ""},
		{"not undone", rollback, func(f *facts) { step(f, 0).State = "ok" }, `fetch-w1 is "ok"`},
		{"record out of order", rollback, func(f *facts) { step(f, 3).Ended = at(1) }, "join was undone before start"},
		{"journal out of order", rollback, func(f *facts) { f.journal[1], f.journal[2] = f.journal[2], f.journal[1] }, "undo of join began before that of start ended"},
		{"never undone", rollback, func(f *facts) { f.journal = f.journal[2:] }, "no worker has undone start"},
		{"file left", rollback, func(f *facts) { f.files["w3/v1.fetch-w3"] = "x" }, "left over: w3/v1.fetch-w3"},
		{"moved", index, func(*facts) {}, ""},
		{"not moved", index, func(f *facts) { step(f, 0).Node, step(f, 0).Attempt = "w1", 1 }, "it is attempt 1"},
		{"unknown", migrate, func(*facts) {}, ""},
		{"ran twice", migrate, func(f *facts) { f.journal = append(f.journal, entry{Step: "v4.migrate", What: "do"}) }, "it ran twice"},
		{"told a lie", migrate, func(f *facts) { f.journal[1].Outcome = "ok" }, `it was told "ok"`},
		{"ran on", migrate, func(f *facts) { f.rec.State = record.OK }, `the run is "ok"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := c.phase(c.doctor); c.want == "" && got != "" || !strings.Contains(got, c.want) {
				t.Errorf("the checks say %q, not %q", got, c.want)
			}
		})
	}
	if got := wrong(checkReturn(cluster.Member{Incarnation: 2}, cluster.Member{State: cluster.Lost, Incarnation: 2}, cluster.Member{State: cluster.Alive, Incarnation: 2})); !strings.Contains(got, "incarnation 2 after 2") {
		t.Errorf("the checks say %q of the same incarnation", got)
	}
}

// TestFailedCheckFails: a check that failed is shown, counted, and the end.
func TestFailedCheckFails(t *testing.T) {
	var out strings.Builder
	d := &demo{screen: newScreen(Options{Out: &out}, nil)}
	d.check([]Check{check("fine"), check("broken", "", "it was not so")})
	if d.failed != 1 || d.checks != 2 || !strings.Contains(out.String(), "✗ broken\n  it was not so") {
		t.Errorf("%d of %d failed:\n%s", d.failed, d.checks, &out)
	}
	d.screen.close(Summary{Checks: 2, Failed: 1})
	if !strings.Contains(out.String(), "✗ 1 of 2 checks failed") {
		t.Errorf("the end is\n%s", &out)
	}
}

// tookOver is what an order leaves whose master was killed, in the plan or in the rollback.
func tookOver(rollback bool) *taken {
	t := &taken{facts: &facts{release: "o1", files: map[string]string{}, rec: record.Run{State: record.OK, Plans: []record.Plan{{}}}},
		victim: "m1", heir: "m2", kept: 3, ran: 3, took: time.Second}
	var after []string
	for i, name := range tradeSteps() {
		t.rec.Plans[0].Steps = append(t.rec.Plans[0].Steps, record.Step{Name: name, Node: "w1", State: "ok", After: after, Started: at(1000 * i), Ended: at(1000*i + 500)})
		t.journal = append(t.journal, entry{Step: "o1." + name, What: "do"}, entry{Step: "o1." + name, What: "done"})
		t.files["w1/o1."+name] = name
		after = []string{name}
	}
	if !rollback {
		return t
	}
	t.kept, t.ran, t.files = 2, 4, map[string]string{}
	t.rec.State, t.rec.Error = record.RolledBack, "port 8080 is taken"
	t.journal = t.journal[:len(t.journal)-1]
	steps := t.rec.Plans[0].Steps
	for i := range steps {
		s := &steps[len(steps)-1-i]
		s.State, s.Ended = "undone", at(10000+i)
		t.journal = append(t.journal, entry{Step: "o1." + s.Name, What: "undo"}, entry{Step: "o1." + s.Name, What: "undone"})
	}
	return t
}

// TestDurableChecks: what holds is found to hold, and what is broken is found.
func TestDurableChecks(t *testing.T) {
	for _, c := range []struct {
		name     string
		rollback bool
		doctor   func(*taken)
		want     string // empty: all is well
	}{
		{"kept", false, func(*taken) {}, ""},
		{"nobody took over", false, func(x *taken) { x.heir = "" }, `"m1" was killed, and "" went on`},
		{"late", false, func(x *taken) { x.took = 4 * time.Second }, "after 4s"},
		{"done twice", false, func(x *taken) { x.journal = append(x.journal, x.journal[4]) }, `pack: "do" 2 times, not 1`},
		{"undone", false, func(x *taken) { x.journal = append(x.journal, entry{Step: "o1.pay", What: "undo"}) }, `pay: "undo" 1 times, not 0`},
		{"killed too late", false, func(x *taken) { x.kept, x.ran = 4, 2 }, "4 kept, 2 run"},
		{"file missing", false, func(x *taken) { delete(x.files, "w1/o1.ship") }, "there are 5 files, not 6"},
		{"no time", false, func(x *taken) { x.rec.Plans[0].Steps[0].Started = x.rec.Plans[0].Steps[0].Ended }, "reserve took 0s"},
		{"undone once", true, func(*taken) {}, ""},
		{"undone twice", true, func(x *taken) { x.journal = append(x.journal, entry{Step: "o1.pay", What: "undone"}) }, `pay: "undone" 2 times, not 1`},
		{"not undone", true, func(x *taken) { x.journal = x.journal[:len(x.journal)-2] }, `reserve: "undo" 0 times, not 1`},
		{"left over", true, func(x *taken) { x.files["w1/o1.pay"] = "pay" }, "left over: w1/o1.pay"},
		{"not rolled back", true, func(x *taken) { x.rec.State = record.Failed }, `the run is "failed"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			x := tookOver(c.rollback)
			c.doctor(x)
			checks := checkKept
			if c.rollback {
				checks = checkUndoneOnce
			}
			var got string
			for _, c := range checks(x) {
				got += c.Wrong
			}
			if c.want == "" && got != "" || !strings.Contains(got, c.want) {
				t.Errorf("the checks say %q, not %q", got, c.want)
			}
		})
	}
}
