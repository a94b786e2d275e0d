package plan

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

var seedFlag = flag.Uint64("seed", 0, "replay one seed of TestPlan_Random and FuzzPlan; 0 means all")

// TestPlan_Random compares machine and model on larger plans, and checks every history against the order rules themselves.
func TestPlan_Random(t *testing.T) {
	seeds, inputs := uint64(4000), 0
	if *seedFlag != 0 {
		inputs = history(t, *seedFlag)
		seeds = 1
	} else {
		for seed := uint64(1); seed <= seeds; seed++ {
			inputs += history(t, seed)
		}
	}
	t.Logf("%d plans, %d inputs", seeds, inputs)
}

func FuzzPlan(f *testing.F) {
	f.Add(uint64(1))
	f.Fuzz(func(t *testing.T, seed uint64) { history(t, seed) })
}

// history runs one plan chosen by seed until it has settled twice or for a while, and returns the number of inputs.
func history(t *testing.T, seed uint64) int {
	r := rand.New(rand.NewPCG(seed, 1))
	spec := Spec{Rollback: r.IntN(4) > 0, Steps: make([]Step, 1+r.IntN(1+r.IntN(30)))}
	dense, undo := r.Float64()*r.Float64(), r.Float64()
	for i := range spec.Steps {
		for j := range i {
			if r.Float64() < dense {
				spec.Steps[i].After = append(spec.Steps[i].After, j)
			}
		}
		if i > 0 && r.IntN(20) == 0 { // named twice
			spec.Steps[i].After = append(spec.Steps[i].After, r.IntN(i), r.IntN(i))
		}
		spec.Steps[i].Undo = r.Float64() < undo
		spec.Steps[i].Pivot = r.IntN(4*len(spec.Steps)) == 0
	}
	sick, rare := r.Float64()*0.3, r.Float64()*0.1
	want, got := newModel(spec), New(spec)
	tr := newTrace(spec)
	var path []input
	for range 12 * (len(spec.Steps) + 3) {
		in := pick(r, want, sick, rare)
		if in.kind == "" {
			break
		}
		path = append(path, in)
		before := clone(got)
		if diff := both(want, got, in); diff != "" {
			t.Fatalf("replay with -run 'TestPlan_Random$' -seed %d\n%v\nafter %v:\n%s", seed, spec, path, diff)
		}
		fx, _ := feed(before, in) // again, for the order in which the machine gives them
		if err := tr.check(in, fx); err != nil {
			t.Fatalf("replay with -run 'TestPlan_Random$' -seed %d\n%v\nafter %v:\n%v", seed, spec, path, err)
		}
	}
	return len(path)
}

// pick chooses what happens next; now and then something that does not fit the state.
func pick(r *rand.Rand, m *model, sick, rare float64) input {
	if len(m.step) > 0 && r.Float64() < rare {
		i := r.IntN(len(m.step))
		all := []input{
			{kind: "late", step: i, o: Outcome(r.IntN(5))}, {kind: "late", step: i, o: OK}, {kind: "cancel"}, {kind: "unwind"}, {kind: "over", step: i},
			{kind: "start"}, {kind: "undo", step: i, ok: r.IntN(2) == 0}, {kind: "resolve", step: i, how: Resolution(r.IntN(3))},
			{kind: "report", step: i, o: Outcome(r.IntN(5)), over: r.IntN(2) == 0},
		}
		return all[r.IntN(len(all))]
	}
	if !m.started {
		return input{kind: "start"}
	}
	var can []input
	for i, f := range m.step {
		if m.running(i) && !f.live {
			in := input{kind: "report", step: i, o: OK, over: r.IntN(2) == 0}
			if r.Float64() < sick {
				in.o = Outcome(r.IntN(5))
			}
			can = append(can, in)
		}
		if f.live {
			can = append(can, input{kind: "over", step: i}, input{kind: "late", step: i, o: Outcome(r.IntN(5))})
		}
		if f.undo == undoRuns {
			can = append(can, input{kind: "undo", step: i, ok: r.Float64() > sick})
		}
		if f.undo == undoStuck {
			can = append(can, input{kind: "resolve", step: i, how: Resolution(r.IntN(3))})
		}
	}
	switch {
	case len(can) > 0:
		return can[r.IntN(len(can))]
	case m.settled() && r.IntN(2) == 0 && !m.unwound:
		return input{kind: "unwind"}
	}
	return input{}
}

// trace holds the rules about order against what was sent and said, without asking how either machine or model came to it.
type trace struct {
	spec  Spec
	below [][]int
	did   []bool // sent and not yet confirmed to be over
	lost  []bool // of those: reported as unknown
	ok    []bool
	undo  []bool // under way or stuck
}

func newTrace(spec Spec) *trace {
	n := len(spec.Steps)
	return &trace{spec: spec, below: newModel(spec).below, did: make([]bool, n), lost: make([]bool, n), ok: make([]bool, n), undo: make([]bool, n)}
}

func (tr *trace) check(in input, fx []Effect) error {
	switch in.kind {
	case "report":
		if tr.did[in.step] {
			tr.lost[in.step] = in.o == Unknown && !in.over
			tr.did[in.step] = tr.lost[in.step]
			tr.ok[in.step] = tr.ok[in.step] || in.o == OK
		}
	case "late":
		if tr.lost[in.step] && in.o != Unknown {
			tr.did[in.step], tr.lost[in.step] = false, false
			tr.ok[in.step] = in.o == OK
		}
	case "over":
		if tr.lost[in.step] {
			tr.did[in.step], tr.lost[in.step] = false, false
		}
	case "undo":
		tr.undo[in.step] = tr.undo[in.step] && !in.ok
	case "resolve":
		tr.undo[in.step] = tr.undo[in.step] && in.how == RetryUndo
	}
	for _, e := range fx {
		switch e.Op {
		case Do, Retry:
			for _, a := range tr.spec.Steps[e.Step].After {
				if !tr.ok[a] {
					return fmt.Errorf("S2: %v %d before %d is ok", e.Op, e.Step, a)
				}
			}
			if tr.did[e.Step] || slices.Contains(tr.undo, true) {
				return fmt.Errorf("S4: %v %d beside an attempt of it, or beside an undo", e.Op, e.Step)
			}
			tr.did[e.Step], tr.lost[e.Step] = true, false
		case Undo:
			if tr.did[e.Step] {
				return fmt.Errorf("S9: undo %d while an attempt may run", e.Step)
			}
			if !tr.spec.Steps[e.Step].Undo {
				return fmt.Errorf("S6: undo %d, which has none", e.Step)
			}
			for _, d := range tr.below[e.Step] {
				if tr.did[d] || tr.undo[d] {
					return fmt.Errorf("S8: undo %d before %d, which depends on it, is done with", e.Step, d)
				}
			}
			tr.undo[e.Step] = true
		}
	}
	return nil
}
