package runs_test

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/distgear/distgear/internal/fault"
	"github.com/distgear/distgear/internal/journal"
	"github.com/distgear/distgear/internal/naming"
	"github.com/distgear/distgear/internal/place"
	"github.com/distgear/distgear/internal/runs"
	"github.com/distgear/distgear/internal/wire"
	"github.com/distgear/distgear/record"
)

var whole = flag.Bool("whole", false, "crash at every pair of points, not at a sample of them")

// diamond runs a → b, c → d → e with rollback; b and d have computed inputs.
func diamond(kind string) func(ctx context.Context, r *runs.Run, h *runs.Host) ([]byte, error) {
	return func(ctx context.Context, r *runs.Run, h *runs.Host) ([]byte, error) {
		steps := make([]*runs.Step, 5)
		for i, after := range [][]int{nil, {0}, {0}, {1, 2}, {3}} {
			steps[i] = &runs.Step{
				Name: string(rune('a' + i)), Kind: kind, After: after, Undo: true, Idem: kind == "idem", Timeout: time.Minute, Queue: time.Minute, Input: []byte("in"),
			}
		}
		if kind == "idem" {
			for _, s := range steps {
				s.Retries = 3
			}
		}
		steps[2].On = place.Target{Name: "w2"}
		steps[1].Encode = func(b []byte) ([]byte, error) { return append(b, steps[0].Result...), nil }
		steps[3].Encode = func(b []byte) ([]byte, error) {
			return append(append(b, steps[1].Result...), steps[2].Result...), nil
		}
		p := &runs.Plan{Name: "p", Rollback: true, Steps: steps}
		naming.Steps(string(r.ID()), p.Name, p.Steps)
		if f := r.Do(ctx, h, p); f != nil {
			return nil, f.Err
		}
		return steps[4].Result, nil
	}
}

var diamondBelow = map[string][]string{"a": {"b", "c", "d", "e"}, "b": {"d", "e"}, "c": {"d", "e"}, "d": {"e"}}

// scenario is a way in which the diamond ends without crashes.
type scenario struct {
	name string
	kind string
	last wire.Outcome // of e
}

var scenarios = []scenario{
	{"forward", "op", wire.OK},
	{"forward idempotent", "idem", wire.OK},
	{"rollback", "op", wire.Clean},
	{"rollback idempotent", "idem", wire.Dirty},
}

// run runs the diamond with crashes at points, and answers how many points there
// were.
func (s scenario) run(t *testing.T, plan map[int]crash) (points int) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.plan, w.below, w.handler = plan, diamondBelow, diamond(s.kind)
		w.do = func(_ *world, _, step, _ string, in []byte, _ uint32) wire.Report {
			if want := map[string]string{"b": "did a", "d": "did bdid c"}[step]; want != "" && string(in) != want {
				w.wrong("step %s has the input %q, want %q", step, in, want)
			}
			if step == "e" && s.last != wire.OK {
				r := fault.Report(fault.Marked(fault.ErrConflict, fault.Mark{Clean: s.last == wire.Clean, Permanent: true}))
				return r
			}
			return wire.Report{Outcome: wire.OK, Over: true, Payload: []byte("did " + step)}
		}
		w.play(nil)
		s.check(w, plan)
		points = w.point
		w.close(fmt.Sprintf("%s, crashes %v", s.name, plan))
	})
	return points
}

// check checks how the run ended.
func (s scenario) check(w *world, plan map[int]crash) {
	if w.gave == nil {
		return
	}
	var lost bool // a worker died: outcomes may be unknown
	for _, c := range plan {
		lost = lost || c&killWorker != 0
	}
	switch got := record.RunState(w.gave.State); {
	case w.gave.Why != journal.Finished:
		w.wrong("I6: given back: %d %s", w.gave.Why, w.gave.Text)
	case got == record.RolledBack:
		if s.last == wire.OK && (!lost || s.kind == "idem") {
			w.wrong("rolled back although nothing failed and no outcome was unknown")
		}
		for k, n := range w.effects {
			if n != 0 {
				w.wrong("I1: %s has a net effect of %d", k, n)
			}
		}
	case got == record.OK:
		if s.last != wire.OK || string(w.gave.Report.Payload) != "did e" {
			w.wrong("ok: %s", w.gave.Report.Payload)
		}
		for _, step := range []string{"a", "b", "c", "d", "e"} {
			k := runID + "/p/" + step
			if w.effects[k] != 1 || w.ran[k] != 1 && (!lost || s.kind != "idem") {
				w.wrong("%s was done %d times, net %d", k, w.ran[k], w.effects[k])
			}
		}
	default:
		w.wrong("ended as %q", got)
	}
	if !lost {
		for k, n := range w.ran {
			if n > 1 && !(s.last == wire.Dirty && k == runID+"/p/e") {
				w.wrong("%s ran %d times although its node lived", k, n)
			}
		}
	}
}

var crashes = []crash{killOwner, killWorker, usurp, killOwner | killWorker, usurp | killWorker}

// A crash at every point: of the owner, of the worker, of both, and an owner that
// does not know that it is none any more.
func TestCrash_EachPoint(t *testing.T) {
	for _, s := range scenarios {
		t.Run(s.name, func(t *testing.T) {
			n := s.run(t, nil)
			t.Logf("%d points", n)
			for _, c := range crashes {
				for at := 1; at <= n; at++ {
					s.run(t, map[int]crash{at: c})
				}
			}
		})
	}
}

// Crashes at pairs of points, the second one also while the first is recovered
// from.
func TestCrash_Pairs(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	for _, s := range scenarios {
		t.Run(s.name, func(t *testing.T) {
			n := s.run(t, nil)
			if !*whole {
				for range 400 {
					at := 1 + rng.IntN(n)
					s.run(t, map[int]crash{at: crashes[rng.IntN(len(crashes))], at + 1 + rng.IntN(n): crashes[rng.IntN(len(crashes))]})
				}
				return
			}
			for at := 1; at <= n; at++ {
				for second := at + 1; second <= at+n; second++ {
					s.run(t, map[int]crash{at: crashes[rng.IntN(len(crashes))], second: crashes[rng.IntN(len(crashes))]})
				}
			}
		})
	}
}
