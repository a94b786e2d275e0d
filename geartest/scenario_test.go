package geartest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/distgear/distgear"
)

// calls is a scenario for the runner's own test: each part calls an action of the next.
func calls(done *atomic.Int64) func() Scenario {
	return func() Scenario {
		s := Scenario{Name: "calls"}
		name := func(p *Part, i int) string { return fmt.Sprintf("add-%d", i%p.Count) }
		s.Run = func(ctx context.Context, p *Part) error {
			own := &distgear.Action[int, int]{Name: name(p, p.Index), Do: func(_ context.Context, in int) (int, error) { return in + 1, nil }}
			if err := p.Node.Handle(own); err != nil {
				return err
			}
			next := &distgear.Action[int, int]{Name: name(p, p.Index+1), Timeout: 5 * time.Second}
			worked := 0
			for p.Going() || worked == 0 {
				x := p.Rand.IntN(1000)
				got, err := next.Call(ctx, p.Node, distgear.Any(), x)
				switch o := distgear.OutcomeOf(err); {
				case err == nil && got == x+1:
					worked++
				case err == nil:
					return fmt.Errorf("%d and 1 is %d", x, got)
				case o != distgear.Unknown && o != distgear.NeverRan:
					return err
				}
				if err := context.Cause(ctx); err != nil {
					return err
				}
			}
			if done != nil {
				done.Add(int64(worked))
			}
			return nil
		}
		s.Verify = func(_ context.Context, t testing.TB, n *distgear.Node) {
			if n == nil {
				t.Error("no node to verify at")
			}
		}
		return s
	}
}

// Package shared runs its scenarios in the other modes too.
func TestRunScenarios_PlacementsAndModes(t *testing.T) {
	var done atomic.Int64
	m := Matrix{Role: "calls", Faults: 1, Every: 100 * time.Millisecond, Least: 50 * time.Millisecond, Seed: 7, Modes: []Mode{Calm, Tiny, Cuts, Restarts}}
	ran := 0
	RunScenarios(t, m, calls(&done), func() Scenario {
		s := Scenario{Name: "modes"}
		s.Setup = func(context.Context, *distgear.Node) error { ran++; return nil }
		s.Run = func(_ context.Context, p *Part) error {
			if p.Index < 0 || p.Index >= p.Count || p.Count != 3 || p.Node == nil {
				return fmt.Errorf("%+v", p)
			}
			return nil
		}
		return s
	})
	if want := 2 + 4 + 2; ran != want || done.Load() == 0 {
		t.Errorf("%d set up instead of %d, %d calls", ran, want, done.Load())
	}
}

// What goes wrong in a part, in this process or another, is found.
func TestRunScenarios_FindsFaults(t *testing.T) {
	fail, all := errors.New("as it was told"), []Scenario{
		{Name: "good", Run: func(context.Context, *Part) error { return nil }},
		{Name: "bad", Run: func(context.Context, *Part) error { return errors.New("as it was told") }},
		{Name: "panics", Run: func(context.Context, *Part) error { panic("as it was told") }},
	}
	errs := runParts(t.Context(), all, Part{over: &atomic.Bool{}}, 1)
	if errs[0] != nil || errs[1] == nil || errs[2] == nil || !strings.Contains(errs[2].Error(), fail.Error()) {
		t.Errorf("%v", errs)
	}
	w := newWorld(t, &Matrix{Count: 1, Role: "bad"}, InProcesses, Calm)
	failed := make([]error, len(all))
	w.runProcesses(all, failed)()
	if failed[0] != nil || failed[1] == nil || failed[2] != nil {
		t.Errorf("%v", failed)
	}
}

func badScenario() Scenario {
	return Scenario{Name: "bad", Run: func(context.Context, *Part) error { return fmt.Errorf("in process %d", os.Getpid()) }}
}
