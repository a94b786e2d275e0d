package plan

import (
	"fmt"
	"slices"
	"strings"
)

// model says what a plan should do, slowly and by definition: it keeps facts (what was sent, what was said, in which order it does not matter) and after
// each input works out everything from them. It has no counters, no phases and no propagation, and looks at transitive dependence, never at neighbours.
type model struct {
	spec  Spec
	below [][]int // below[i]: all that depends on i, transitively

	step      []facts
	started   bool
	cancelled bool
	pivoted   bool
	unwound   bool
	cause     int
}

type facts struct {
	sent     bool
	reported bool
	first    Outcome // as reported
	now      Outcome // as adopted since
	live     bool
	undo     uint8 // of the last undo
	owed     bool
}

const (
	noUndo uint8 = iota
	undoRuns
	undoDone
	undoStuck
	undoSkipped
	undoMarked
)

func newModel(spec Spec) *model {
	m := &model{spec: spec, step: make([]facts, len(spec.Steps)), below: make([][]int, len(spec.Steps)), cause: -1}
	for i := range spec.Steps {
		for j := range spec.Steps {
			if m.dependsOn(j, i) {
				m.below[i] = append(m.below[i], j)
			}
		}
	}
	return m
}

func (m *model) clone() *model {
	c := *m
	c.step = slices.Clone(m.step)
	return &c
}

func (m *model) dependsOn(j, i int) bool {
	for _, a := range m.spec.Steps[j].After {
		if a == i || m.dependsOn(a, i) {
			return true
		}
	}
	return false
}

func (m *model) some(is func(i int) bool) bool {
	for i := range m.step {
		if is(i) {
			return true
		}
	}
	return false
}

// Definitions.

func (m *model) failed(i int) bool  { return m.step[i].reported && m.step[i].first != OK }
func (m *model) running(i int) bool { return m.step[i].sent && !m.step[i].reported }
func (m *model) stopped() bool      { return m.cancelled || m.spec.Rollback && m.some(m.failed) }
func (m *model) ready(i int) bool {
	if !m.started || m.stopped() || m.step[i].sent {
		return false
	}
	for _, a := range m.spec.Steps[i].After {
		if !m.step[a].reported || m.step[a].first != OK {
			return false
		}
	}
	return true
}
func (m *model) forwardOver() bool { return m.started && !m.some(m.running) && !m.some(m.ready) }
func (m *model) rollback() bool {
	return m.unwound || m.spec.Rollback && m.stopped() && m.forwardOver()
}
func (m *model) owes(i int) bool {
	f := m.step[i]
	mayHaveEffects := f.reported && (f.now == OK || f.now == Unknown || f.now == Dirty)
	return m.rollback() && (f.owed || f.undo == noUndo && mayHaveEffects && m.spec.Steps[i].Undo)
}
func (m *model) busy(i int) bool {
	return m.step[i].live || m.step[i].undo == undoRuns || m.step[i].undo == undoStuck || m.owes(i)
}
func (m *model) undoNow(i int) bool {
	return m.owes(i) && !m.step[i].live && m.step[i].undo != undoRuns && !slices.ContainsFunc(m.below[i], m.busy)
}
func (m *model) settled() bool { return m.forwardOver() && !(m.rollback() && m.some(m.busy)) }

// input is what happens to a plan.
type input struct {
	kind string // start report over undo resolve cancel late unwind
	step int
	o    Outcome
	over bool
	ok   bool
	how  Resolution
}

func (in input) String() string {
	switch in.kind {
	case "report", "late":
		s := fmt.Sprintf("%s %d %v", in.kind, in.step, in.o)
		if in.kind == "report" && in.o == Unknown && !in.over {
			s += ", may still run"
		}
		return s
	case "undo":
		return fmt.Sprintf("undo %d ok=%v", in.step, in.ok)
	case "resolve":
		return fmt.Sprintf("resolve %d %v", in.step, in.how)
	case "over":
		return fmt.Sprintf("over %d", in.step)
	}
	return in.kind
}

// apply records what happened and returns what is to be sent, in order of step.
func (m *model) apply(in input) []Effect {
	var fx []Effect
	f := &facts{}
	if in.kind != "start" && in.kind != "cancel" && in.kind != "unwind" {
		f = &m.step[in.step]
	}
	switch in.kind {
	case "start":
		m.started = true
	case "report":
		fx = m.report(in)
	case "over":
		if f.live && m.running(in.step) {
			fx = append(fx, Effect{Retry, in.step})
		}
		f.live = false
	case "undo":
		if f.undo != undoRuns {
			break
		}
		f.undo = undoDone
		if !in.ok {
			f.undo, f.owed = undoStuck, false
		}
	case "resolve":
		switch {
		case f.undo != undoStuck:
		case in.how == RetryUndo:
			f.owed = true
		case in.how == SkipUndo:
			f.undo, f.owed = undoSkipped, false
		case in.how == MarkUndone:
			f.undo, f.owed = undoMarked, false
		}
	case "cancel":
		if m.cancelled || m.pivoted || m.rollback() || m.started && m.forwardOver() {
			break
		}
		m.cancelled, m.started = true, true
		for i := range m.step {
			if m.running(i) {
				fx = append(fx, Effect{Cancel, i})
			}
		}
	case "late":
		fx = m.late(in)
	case "unwind":
		m.unwound = m.unwound || m.settled()
	}
	var todo []Effect
	for i := range m.step {
		switch {
		case m.ready(i):
			todo = append(todo, Effect{Do, i})
		case m.undoNow(i):
			todo = append(todo, Effect{Undo, i})
		}
	}
	for _, e := range todo {
		if e.Op == Do {
			m.step[e.Step].sent = true
		} else {
			m.step[e.Step].undo, m.step[e.Step].owed = undoRuns, false
		}
	}
	return append(fx, todo...)
}

func (m *model) report(in input) []Effect {
	f := &m.step[in.step]
	if !m.running(in.step) {
		return nil
	}
	f.live = in.o == Unknown && !in.over
	if in.o != OK && m.pivoted {
		if f.live {
			return nil
		}
		return []Effect{{Retry, in.step}}
	}
	if in.o == OK && m.spec.Steps[in.step].Pivot && !m.stopped() {
		m.pivoted = true
	}
	if in.o != OK && m.cause < 0 {
		m.cause = in.step
	}
	f.reported, f.first, f.now = true, in.o, in.o
	return nil
}

func (m *model) late(in input) []Effect {
	f := &m.step[in.step]
	if in.o == Unknown {
		return nil
	}
	if m.running(in.step) && f.live {
		return m.report(input{step: in.step, o: in.o, over: true})
	}
	if !f.reported {
		return nil
	}
	happened := in.o == OK || in.o == Dirty
	if f.now == Unknown || happened && (f.now == Clean || f.now == NeverRan) {
		f.now, f.live = in.o, false
	}
	if happened && (f.undo == undoRuns || f.undo == undoDone || f.undo == undoMarked) {
		f.owed = true
	}
	return nil
}

func (m *model) state(i int) State {
	f := m.step[i]
	switch {
	case f.undo == undoRuns:
		return Undoing
	case f.undo == undoDone:
		return Undone
	case f.undo == undoStuck:
		return Stuck
	case f.undo == undoSkipped:
		return UndoSkipped
	case f.undo == undoMarked:
		return UndoMarked
	case f.reported:
		return map[Outcome]State{Unknown: Lost, OK: Done, Clean: Failed, Dirty: FailedDirty, NeverRan: NotRun}[f.now]
	case f.sent:
		return Running
	case m.stopped(), m.some(func(a int) bool { return m.failed(a) && slices.Contains(m.below[a], i) }):
		return Skipped
	}
	return Waiting
}

func (m *model) phase() Phase {
	switch {
	case m.settled():
		return Settled
	case m.rollback():
		return RollingBack
	case m.stopped():
		return Draining
	}
	return Forward
}

func (m *model) rolledBack() bool {
	return m.settled() && m.rollback() &&
		!m.some(func(i int) bool { return m.step[i].undo == undoSkipped || m.step[i].undo == undoMarked })
}

// feed gives one input to the machine.
func feed(m *Machine, in input) (fx []Effect, err error) {
	switch in.kind {
	case "start":
		fx = m.Start(nil)
	case "report":
		fx = m.Report(in.step, in.o, in.over, nil)
	case "over":
		fx = m.Over(in.step, nil)
	case "undo":
		fx = m.UndoReport(in.step, in.ok, nil)
	case "resolve":
		fx, err = m.Resolve(in.step, in.how, nil)
	case "cancel":
		fx = m.Cancel(nil)
	case "late":
		fx = m.Late(in.step, in.o, nil)
	case "unwind":
		fx = m.Unwind(nil)
	default:
		panic("no input " + in.kind)
	}
	return fx, err
}

// both gives one input to model and machine and says where they differ: "" is nowhere.
func both(want *model, got *Machine, in input) string {
	stuck := in.kind == "resolve" && want.step[in.step].undo == undoStuck
	fx, err := feed(got, in)
	if in.kind == "resolve" && (err == nil) != stuck {
		return fmt.Sprintf("error %v, stuck %v", err, stuck)
	}
	wfx := want.apply(in)
	slices.SortFunc(fx, func(a, b Effect) int { return 10*(a.Step-b.Step) + int(a.Op) - int(b.Op) })
	slices.SortFunc(wfx, func(a, b Effect) int { return 10*(a.Step-b.Step) + int(a.Op) - int(b.Op) })
	if !slices.Equal(fx, wfx) {
		return fmt.Sprintf("effects %v, want %v", fx, wfx)
	}
	return compare(want, got)
}

func compare(want *model, got *Machine) string {
	stuck := 0
	for i := range want.step {
		if g, w := got.State(i), want.state(i); g != w {
			return fmt.Sprintf("step %d is %v, want %v", i, g, w)
		}
		if g, w := got.Outcome(i), want.step[i].now; g != w {
			return fmt.Sprintf("step %d has outcome %v, want %v", i, g, w)
		}
		if want.step[i].undo == undoStuck {
			stuck++
		}
	}
	type whole struct {
		Phase                                                        Phase
		Settled, Stuck, Failed, Cancelled, Pivoted, RolledBack, None bool
		StuckCount, Cause                                            int
	}
	g := whole{Phase: got.Phase(), Settled: got.Settled(), Stuck: got.Stuck(), Failed: got.Failed(), Cancelled: got.Cancelled(), Pivoted: got.Pivoted(),
		RolledBack: got.RolledBack(), StuckCount: got.StuckCount(), Cause: got.Cause()}
	w := whole{Phase: want.phase(), Settled: want.settled(), Stuck: stuck > 0, Failed: want.some(want.failed), Cancelled: want.cancelled,
		Pivoted: want.pivoted, RolledBack: want.rolledBack(), StuckCount: stuck, Cause: want.cause}
	if g != w {
		return fmt.Sprintf("%+v, want %+v", g, w)
	}
	return ""
}

func (s Spec) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "rollback=%v", s.Rollback)
	for i, st := range s.Steps {
		fmt.Fprintf(&b, "; %d", i)
		if st.Undo {
			b.WriteString(" undo")
		}
		if st.Pivot {
			b.WriteString(" pivot")
		}
		fmt.Fprintf(&b, " after %v", st.After)
	}
	return b.String()
}
