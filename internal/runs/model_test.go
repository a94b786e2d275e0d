package runs_test

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/distgear/distgear/internal/fault"
	"github.com/distgear/distgear/internal/journal"
	"github.com/distgear/distgear/internal/naming"
	"github.com/distgear/distgear/internal/runs"
	"github.com/distgear/distgear/internal/wire"
	"github.com/distgear/distgear/record"
)

// sketch is a random plan, and how its steps and their undos end.
type sketch struct {
	steps    []runs.Step
	rollback bool
	fails    []int          // how many attempts fail
	how      []wire.Outcome // in which way
	useless  []bool         // and trying again is
	undos    []int          // how many attempts to undo fail
}

func newSketch(rng *rand.Rand) *sketch {
	n := 1 + rng.IntN(6)
	s := &sketch{steps: make([]runs.Step, n), rollback: rng.IntN(3) > 0, fails: make([]int, n), how: make([]wire.Outcome, n), useless: make([]bool, n), undos: make([]int, n)}
	for i := range s.steps {
		x := &s.steps[i]
		*x = runs.Step{
			Name: string(rune('a' + i)), Kind: "op", Undo: rng.IntN(4) > 0, Timeout: time.Minute, Queue: time.Minute, Retries: int32(rng.IntN(3)), Input: []byte("in"),
		}
		if rng.IntN(2) == 0 {
			x.Kind, x.Idem = "idem", true
		}
		for a := range i {
			if rng.IntN(3) == 0 {
				x.After = append(x.After, a)
			}
		}
		if rng.IntN(4) == 0 {
			x.Encode = func(b []byte) ([]byte, error) { return append(b, "computed"...), nil }
			x.Input = nil
		}
		s.how[i] = []wire.Outcome{wire.Clean, wire.Dirty, wire.NeverRan}[rng.IntN(3)]
		if rng.IntN(3) == 0 {
			s.fails[i], s.useless[i] = 1+rng.IntN(3), rng.IntN(4) == 0
		}
		if rng.IntN(4) == 0 {
			s.undos[i] = 1 + rng.IntN(3)
		}
	}
	if rng.IntN(4) == 0 { // one after the other, with a pivot: what comes after it only goes forward
		s.rollback = true
		at := rng.IntN(n)
		s.steps[at].Pivot = true
		for i := range s.steps {
			if s.steps[i].After = nil; i > 0 {
				s.steps[i].After = []int{i - 1}
			}
			s.useless[i] = s.useless[i] && i <= at
		}
	}
	return s
}

// plan is a plan of the sketch.
func (s *sketch) plan(r *runs.Run) *runs.Plan {
	p := &runs.Plan{Name: "p", Rollback: s.rollback}
	for i := range s.steps {
		x := s.steps[i]
		p.Steps = append(p.Steps, &x)
	}
	naming.Steps(string(r.ID()), p.Name, p.Steps)
	return p
}

// ending is how a run ended, as far as it does not depend on which of two
// independent steps was first.
type ending struct {
	state   record.RunState
	steps   string         // without rollback
	effects map[string]int // of steps that have an undo
}

func (s *sketch) run(t *testing.T, name string, plan map[int]crash) (e ending, points int) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.plan = plan
		for i := range s.steps {
			for j := range s.steps {
				if s.steps[j].Undo && s.depends(j, i) { // the others stay as they are
					w.below[s.steps[i].Name] = append(w.below[s.steps[i].Name], s.steps[j].Name)
				}
			}
		}
		if !s.rollback {
			w.below = nil
		}
		failed := map[string]int{}
		fails := func(o wire.Outcome, useless bool) wire.Report {
			return fault.Report(fault.Marked(fault.ErrConflict, fault.Mark{Clean: o == wire.Clean, NeverRan: o == wire.NeverRan, Permanent: useless}))
		}
		w.do = func(_ *world, _, step, _ string, _ []byte, attempt uint32) wire.Report {
			i := int(step[0] - 'a')
			if int(attempt) <= s.fails[i] {
				return fails(s.how[i], s.useless[i])
			}
			return wire.Report{Outcome: wire.OK, Over: true, Payload: []byte("did " + step)}
		}
		w.undo = func(w *world, step string) wire.Report {
			w.mu.Lock()
			defer w.mu.Unlock()
			if failed[step]++; failed[step] <= s.undos[step[0]-'a'] {
				return fails(wire.Dirty, false)
			}
			return wire.Report{Outcome: wire.OK, Over: true}
		}
		w.handler = func(ctx context.Context, r *runs.Run, h *runs.Host) ([]byte, error) {
			if f := r.Do(ctx, h, s.plan(r)); f != nil {
				return nil, f.Err
			}
			return []byte("done"), nil
		}
		w.play(nil)
		if w.gave != nil && w.gave.Why == journal.Finished {
			e = ending{state: record.RunState(w.gave.State), effects: map[string]int{}}
			for _, p := range w.summary().Plans {
				for i, x := range p.Steps {
					if !s.rollback {
						e.steps += " " + x.Name + " " + string(x.State)
					}
					if k := runID + "/p/" + x.Name; s.steps[i].Undo {
						e.effects[k] = w.effects[k]
					}
				}
			}
			if e.state == record.RolledBack {
				for k, n := range e.effects {
					if n != 0 {
						w.wrong("I1: %s has a net effect of %d", k, n)
					}
				}
			}
		}
		points = w.point
		w.close(fmt.Sprintf("%s, crashes %v, %+v", name, plan, s))
	})
	return e, points
}

func (s *sketch) depends(j, i int) bool {
	return slices.ContainsFunc(s.steps[j].After, func(a int) bool { return a == i || s.depends(a, i) })
}

// Random plans with random failures and random crashes of owners end as they do
// without the crashes: no outcome is unknown.
func TestCrash_Model(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	rounds := 150
	if *whole {
		rounds = 5000
	}
	for round := range rounds {
		name := fmt.Sprintf("seed %d, round %d", seed, round)
		rng := rand.New(rand.NewPCG(seed, uint64(round)))
		s := newSketch(rng)
		want, n := s.run(t, name, nil)
		for range 3 {
			plan := map[int]crash{}
			for range 1 + rng.IntN(4) {
				plan[1+rng.IntN(2*n)] = []crash{killOwner, usurp}[rng.IntN(2)]
			}
			got, _ := s.run(t, name, plan)
			if got.state != want.state || got.steps != want.steps || !maps.Equal(got.effects, want.effects) {
				t.Fatalf("%s, crashes %v, %+v\n got %v\nwant %v", name, plan, s, got, want)
			}
		}
		plan := map[int]crash{} // with workers that die it ends, too, and rolled back means what it says
		for range 1 + rng.IntN(4) {
			plan[1+rng.IntN(2*n)] = crashes[rng.IntN(len(crashes))]
		}
		s.run(t, name, plan)
	}
}
