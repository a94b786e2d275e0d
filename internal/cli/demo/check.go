package demo

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/distgear/distgear/cluster"
	"github.com/distgear/distgear/record"
)

// Check is one rule of the demo and whether it was kept.
type Check struct {
	What  string `json:"what"`
	Wrong string `json:"wrong,omitempty"` // empty if it was kept
}

// facts is what a phase left: the record of its run, the workers' journal and
// their files. Checks are functions of it alone.
type facts struct {
	release string
	rec     record.Run
	journal []entry
	files   map[string]string // content by node/name
}

func check(what string, faults ...string) Check {
	return Check{What: what, Wrong: strings.Join(slices.DeleteFunc(faults, func(f string) bool { return f == "" }), "; ")}
}

// want is a fault unless ok.
func want(ok bool, format string, args ...any) string {
	if ok {
		return ""
	}
	return fmt.Sprintf(format, args...)
}

func (f *facts) steps() []record.Step {
	var all []record.Step
	for _, p := range f.rec.Plans {
		all = append(all, p.Steps...)
	}
	return all
}

func (f *facts) step(name string) record.Step {
	for _, s := range f.steps() {
		if s.Name == name {
			return s
		}
	}
	return record.Step{Name: name, State: "missing"}
}

// runState: the run ended as it had to.
func (f *facts) runState(state record.RunState) string {
	return want(f.rec.State == state, "the run is %q, not %q: %s", f.rec.State, state, f.rec.Error)
}

// stepStates: so did its steps; of none given, all.
func (f *facts) stepStates(state record.StepState, names ...string) string {
	var bad []string
	n := 0
	for _, s := range f.steps() {
		if len(names) > 0 && !slices.Contains(names, s.Name) {
			continue
		}
		n++
		if s.State != state {
			bad = append(bad, fmt.Sprintf("%s is %q, not %q %s", s.Name, s.State, state, s.Error))
		}
	}
	if n < max(1, len(names)) {
		bad = append(bad, fmt.Sprintf("the record has %d steps", n))
	}
	return strings.Join(bad, "; ")
}

// atOnce: the steps were under way at the same time.
func (f *facts) atOnce(names ...string) string {
	var last, first time.Time
	for _, name := range names {
		s := f.step(name)
		if s.Started.IsZero() || s.Ended.IsZero() {
			return name + " has no times"
		}
		if s.Started.After(last) {
			last = s.Started
		}
		if first.IsZero() || s.Ended.Before(first) {
			first = s.Ended
		}
	}
	return want(last.Before(first), "%s ran one after another", strings.Join(names, ", "))
}

// forward: each step began after those it comes after had ended.
func (f *facts) forward() string {
	var bad []string
	for _, s := range f.steps() {
		for _, a := range s.After {
			if before := f.step(a); s.Started.IsZero() || s.Started.Before(before.Ended) {
				bad = append(bad, s.Name+" began before "+a+" ended")
			}
		}
	}
	return strings.Join(bad, "; ")
}

// backward: each undo ended before the undo of what the step comes after did,
// by the record.
func (f *facts) backward() string {
	var bad []string
	for _, s := range f.steps() {
		for _, a := range s.After {
			if before := f.step(a); s.State == "undone" && before.State == "undone" && !s.Ended.Before(before.Ended) {
				bad = append(bad, "the record says that "+a+" was undone before "+s.Name)
			}
		}
	}
	return strings.Join(bad, "; ")
}

// undoOrder is the undone steps, the first undone first.
func (f *facts) undoOrder() string {
	steps := slices.DeleteFunc(f.steps(), func(s record.Step) bool { return s.State != "undone" })
	slices.SortFunc(steps, func(a, b record.Step) int { return a.Ended.Compare(b.Ended) })
	var names []string
	for _, s := range steps {
		names = append(names, s.Name)
	}
	return strings.Join(names, ", ")
}

// backwardReally: … and by the workers' own journal it had ended before the
// other began, and each undo that began ended.
func (f *facts) backwardReally() string {
	var bad []string
	for _, s := range f.steps() {
		if s.State != "undone" {
			continue
		}
		over := f.last(s.Name, "undone")
		if over < 0 {
			bad = append(bad, "no worker has undone "+s.Name)
		}
		for _, a := range s.After {
			if i := f.first(a, "undo"); i >= 0 && i < over {
				bad = append(bad, "the undo of "+a+" began before that of "+s.Name+" ended")
			}
		}
	}
	return strings.Join(bad, "; ")
}

func (f *facts) first(step, what string) int {
	return slices.IndexFunc(f.journal, func(e entry) bool { return e.Step == f.release+"."+step && e.What == what })
}

func (f *facts) last(step, what string) int {
	for i, e := range slices.Backward(f.journal) {
		if e.Step == f.release+"."+step && e.What == what {
			return i
		}
	}
	return -1
}

// noFiles: nothing of the release is on disk.
func (f *facts) noFiles() string {
	var left []string
	for name := range f.files {
		if strings.Contains(name, "/"+f.release+".") {
			left = append(left, name)
		}
	}
	slices.Sort(left)
	return want(len(left) == 0, "left over: %s", strings.Join(left, ", "))
}

// file is the content of a step's file where the record says that it ran.
func (f *facts) file(step string) (text, fault string) {
	at := string(f.step(step).Node) + "/" + f.release + "." + step
	text, ok := f.files[at]
	return text, want(ok, "there is no file %s", at)
}

// flowed: what a step made is in what the steps after it made, down to the
// run's result.
func (f *facts) flowed(result string) string {
	var bad []string
	last := ""
	for _, s := range f.steps() {
		text, fault := f.file(s.Name)
		bad = append(bad, fault)
		for _, a := range s.After {
			from, _ := f.file(a)
			bad = append(bad, want(strings.Contains(text, sum([]byte(from))), "%s knows nothing of %s", s.Name, a))
		}
		last = sum([]byte(text))
	}
	bad = append(bad, want(result == last, "the result is %q, the last file's sum %q", result, last))
	return strings.Join(slices.DeleteFunc(bad, func(s string) bool { return s == "" }), "; ")
}

// checkDeploy is what must be true of a deploy that worked.
func checkDeploy(f *facts, result string) []Check {
	on := ""
	for _, w := range workers {
		s := f.step("fetch-" + string(w))
		if s.Node != w {
			on += fmt.Sprintf("%s ran on %q; ", s.Name, s.Node)
		}
	}
	return []Check{
		check("the run and all its steps are ok", f.runState(record.OK), f.stepStates("ok")),
		check("one fetch on each of the three nodes, all at once", on, f.atOnce(fetches()...)),
		check("join waited for all three, start for join", f.forward()),
		check("checksums flowed from step to step into the result, and fit the files on disk", f.flowed(result)),
	}
}

// checkRollback is what must be true of one whose last step failed.
func checkRollback(f *facts, before map[string]string) []Check {
	s := f.step("start")
	others := ""
	for name, text := range before {
		if f.files[name] != text {
			others = name + " was changed"
		}
	}
	return []Check{
		check("the last step failed, and the run says why", f.runState(record.RolledBack), want(strings.Contains(f.rec.Error, "port 8080 is taken"), "its error is %q", f.rec.Error)),
		check("every step is undone, also the one that failed half-way", f.stepStates("undone"), want(s.UndoAttempt > 0, "start was never undone")),
		check("undone in reverse order, by the record and by the workers' journal", f.backward(), f.backwardReally()),
		check("none of its files is left, and the first deploy's are untouched", f.noFiles(), others),
	}
}

// checkMoved is what must be true of the idempotent step whose node was killed.
func checkMoved(f *facts, victim cluster.NodeName) []Check {
	s := f.step("index")
	first := f.first("index", "do")
	return []Check{
		check(fmt.Sprintf("index, which is idempotent and may run on any node, moved off %s: attempt 2 is ok", victim),
			f.runState(record.OK), f.stepStates("ok"), want(s.Attempt == 2, "it is attempt %d", s.Attempt),
			want(s.Node != victim && s.Node != "", "it ran on %q", s.Node),
			want(first >= 0 && f.journal[max(first, 0)].Node == victim, "the first attempt was not on %s", victim)),
		check("it has the whole file now", want(f.last("index", "done") > first, "no worker has finished it"),
			want(strings.Contains(f.files["shared/"+f.release+".index"], "index on "+string(s.Node)), "the file says %q", f.files["shared/"+f.release+".index"])),
	}
}

// checkUnknown is what must be true of the step that is not, on the same node.
func checkUnknown(f *facts, victim cluster.NodeName, atDeath map[string]string) []Check {
	mess := string(victim) + "/" + f.release + ".migrate"
	outcome := ""
	if i := f.first("migrate", "undo"); i >= 0 {
		outcome = f.journal[i].Outcome
	}
	return []Check{
		check("migrate, which is not, did not run twice: nobody knows how far it came, so the run is rolled back",
			f.runState(record.RolledBack), want(f.first("migrate", "do") == f.last("migrate", "do"), "it ran twice"),
			want(f.first("migrate", "done") < 0, "it finished"), want(f.step("migrate").Attempt == 1, "it is attempt %d", f.step("migrate").Attempt)),
		check(fmt.Sprintf("its undo waited for %s, was told that the outcome is unknown, and came before the undo of reserve", victim),
			f.stepStates("undone", "migrate", "reserve"), want(outcome == "unknown", "it was told %q", outcome), f.backward(), f.backwardReally()),
		check("the half-written file it left behind is gone", want(atDeath[mess] == "partial", "there was none"), f.noFiles()),
	}
}

// checkReturn is what must be true of the node that was killed.
func checkReturn(before, lost, after cluster.Member) []Check {
	return []Check{
		check(fmt.Sprintf("%s was lost, and came back as a new incarnation", after.Name),
			want(lost.State == cluster.Lost && lost.Incarnation == before.Incarnation, "it was %s", lost.State),
			want(after.State == cluster.Alive, "it is %s", after.State),
			want(after.Incarnation > before.Incarnation, "incarnation %d after %d", after.Incarnation, before.Incarnation)),
	}
}
