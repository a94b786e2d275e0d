package plan

import (
	"slices"
	"strings"
	"testing"
)

// alphabet is what may happen in an exhaustive exploration.
type alphabet struct {
	outcomes []Outcome // of reports; Unknown with and without an attempt that may still run
	late     []Outcome
	stuck    []Resolution // nil: undos do not fail
	cancel   bool
	unwind   bool
}

// inputs returns all that could happen next, in the world and not only in the machine's opinion: also late results and cancels that should do nothing.
func (a alphabet) inputs(m *model) []input {
	if !m.started {
		ins := []input{{kind: "start"}}
		if a.cancel {
			ins = append(ins, input{kind: "cancel"})
		}
		return ins
	}
	var ins []input
	for i, f := range m.step {
		if m.running(i) && !f.live {
			for _, o := range a.outcomes {
				ins = append(ins, input{kind: "report", step: i, o: o, over: true})
				if o == Unknown {
					ins = append(ins, input{kind: "report", step: i, o: o})
				}
			}
		}
		if f.live {
			ins = append(ins, input{kind: "over", step: i})
		}
		if f.sent {
			for _, o := range a.late {
				ins = append(ins, input{kind: "late", step: i, o: o})
			}
		}
		if f.undo == undoRuns {
			ins = append(ins, input{kind: "undo", step: i, ok: true})
			if a.stuck != nil {
				ins = append(ins, input{kind: "undo", step: i})
			}
		}
		if f.undo == undoStuck {
			for _, how := range a.stuck {
				ins = append(ins, input{kind: "resolve", step: i, how: how})
			}
		}
	}
	if a.cancel {
		ins = append(ins, input{kind: "cancel"})
	}
	if a.unwind && m.settled() {
		ins = append(ins, input{kind: "unwind"})
	}
	return ins
}

// explorer walks every reachable pair of model and machine once and compares them after every input.
type explorer struct {
	t       *testing.T
	a       alphabet
	seen    map[string]struct{}
	path    []input
	plans   int
	states  int
	steps   int
	settled int
}

func (x *explorer) plan(spec Spec) {
	x.plans++
	x.seen = map[string]struct{}{}
	x.path = x.path[:0]
	x.walk(newModel(spec), New(spec))
}

func (x *explorer) walk(want *model, got *Machine) {
	key := fingerprint(want, got)
	if _, ok := x.seen[key]; ok {
		return
	}
	x.seen[key] = struct{}{}
	x.states++
	if got.Settled() {
		x.settled++
	}
	ins := x.a.inputs(want)
	progress := false
	for _, in := range ins {
		w, g := want.clone(), clone(got)
		x.steps++
		x.path = append(x.path, in)
		if diff := both(w, g, in); diff != "" {
			x.t.Fatalf("%v\nafter %v:\n%s", want.spec, x.path, diff)
		}
		progress = progress || in.kind != "cancel" && in.kind != "late"
		x.walk(w, g)
		x.path = x.path[:len(x.path)-1]
	}
	if !progress && !want.settled() {
		x.t.Fatalf("%v\nafter %v:\nnot settled, and nothing can happen any more", want.spec, x.path)
	}
}

func clone(m *Machine) *Machine {
	c := *m
	c.bits, c.pending = slices.Clone(m.bits), slices.Clone(m.pending)
	return &c
}

func fingerprint(want *model, got *Machine) string {
	b := make([]byte, 0, 12*len(want.step)+16)
	flag := func(fs ...bool) {
		var v byte
		for i, f := range fs {
			if f {
				v |= 1 << i
			}
		}
		b = append(b, v)
	}
	for i, f := range want.step {
		flag(f.sent, f.reported, f.live, f.owed)
		b = append(b, byte(f.first), byte(f.now), f.undo)
		b = append(b, byte(got.bits[i]), byte(got.bits[i]>>8), byte(got.bits[i]>>16), byte(got.pending[i]))
	}
	flag(want.started, want.cancelled, want.pivoted, want.unwound, got.started, got.cancelled, got.pivoted, got.undoing)
	return string(append(b, byte(want.cause), byte(got.cause), byte(got.running), byte(got.open), byte(got.stuck), byte(got.phase)))
}

// graphs calls f with every acyclic graph of n steps whose edges go from later to earlier ones.
func graphs(n int, f func(steps []Step)) {
	pairs := n * (n - 1) / 2
	for g := range 1 << pairs {
		steps := make([]Step, n)
		bit := 0
		for i := range n {
			for j := range i {
				if g>>bit&1 == 1 {
					steps[i].After = append(steps[i].After, j)
				}
				bit++
			}
		}
		f(steps)
	}
}

// TestPlan_Exhaustive compares machine and model in every state that plans of up to four steps can reach. A row is a set of plans and of things that may
// happen to them; what happens in which order is always explored completely.
func TestPlan_Exhaustive(t *testing.T) {
	all := []Outcome{Unknown, OK, Clean, Dirty, NeverRan}
	verbs := []Resolution{RetryUndo, SkipUndo, MarkUndone}
	type row struct {
		name   string
		sizes  []int
		pivots bool
		undos  bool // every subset of steps has an undo; false: all have
		a      alphabet
	}
	tests := []row{
		{"two: everything at once", []int{0, 1, 2}, true, true, alphabet{all, []Outcome{OK, Clean}, verbs, true, true}},
		{"two: every late result", []int{1, 2}, true, true, alphabet{all, all, verbs, false, false}},
		{"three: failures, pivots, cancel", []int{3}, true, true, alphabet{all, nil, nil, true, false}},
		{"three: stuck, cancel, unwind", []int{3}, false, true, alphabet{[]Outcome{OK, Dirty, Unknown}, nil, verbs, true, true}},
		{"three: late", []int{3}, false, true, alphabet{[]Outcome{OK, Unknown}, []Outcome{OK, Clean}, []Resolution{RetryUndo}, false, false}},
		{"four: failures, cancel", []int{4}, false, true, alphabet{[]Outcome{OK, Clean, Unknown}, nil, nil, true, false}},
		{"four: pivots", []int{4}, true, false, alphabet{[]Outcome{OK, Dirty}, nil, nil, true, true}},
		{"four: stuck", []int{4}, false, true, alphabet{[]Outcome{OK, Dirty}, nil, []Resolution{RetryUndo, SkipUndo}, false, false}},
		{"five: order", []int{5}, false, false, alphabet{[]Outcome{OK, NeverRan}, nil, nil, false, false}},
	}
	if underRace { // a minute, and nothing to find in one goroutine: go test without -race runs them
		tests = slices.DeleteFunc(tests, func(tt row) bool { return slices.Max(tt.sizes) > 3 })
	}
	for _, tt := range tests {
		t.Run(strings.ReplaceAll(tt.name, " ", "_"), func(t *testing.T) {
			t.Parallel()
			x := &explorer{t: t, a: tt.a}
			for _, n := range tt.sizes {
				graphs(n, func(steps []Step) {
					for undos := range 1 << n {
						if !tt.undos && undos != 1<<n-1 {
							continue
						}
						for pivot := -1; pivot < n && (pivot < 0 || tt.pivots); pivot++ {
							for i := range steps {
								steps[i].Undo, steps[i].Pivot = undos>>i&1 == 1, i == pivot
							}
							x.plan(Spec{Steps: steps})
							x.plan(Spec{Steps: steps, Rollback: true})
						}
					}
				})
			}
			t.Logf("%d plans, %d states, %d of them settled, %d transitions, all as the model says", x.plans, x.states, x.settled, x.steps)
		})
	}
}
