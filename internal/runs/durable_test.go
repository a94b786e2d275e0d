package runs_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/distgear/distgear/cluster"
	"github.com/distgear/distgear/internal/fault"
	"github.com/distgear/distgear/internal/journal"
	"github.com/distgear/distgear/internal/memo"
	"github.com/distgear/distgear/internal/naming"
	"github.com/distgear/distgear/internal/runs"
	"github.com/distgear/distgear/internal/wire"
	"github.com/distgear/distgear/record"
)

// chain runs steps one after the other; change may change them.
func chain(ctx context.Context, r *runs.Run, h *runs.Host, name string, change func(p *runs.Plan), steps ...string) (*runs.Plan, error) {
	p := &runs.Plan{Name: name, Rollback: true}
	for i, n := range steps {
		s := &runs.Step{Name: n, Kind: "op", Undo: true, Timeout: time.Minute, Queue: time.Minute, Input: []byte("in")}
		if i > 0 {
			s.After = []int{i - 1}
		}
		p.Steps = append(p.Steps, s)
	}
	if change != nil {
		change(p)
	}
	naming.Steps(string(r.ID()), p.Name, p.Steps)
	if f := r.Do(ctx, h, p); f != nil {
		return p, f.Err
	}
	return p, nil
}

// everywhere runs a world without a crash, and then with one at each point: the
// owner's death, and another owner beside it.
func everywhere(t *testing.T, setUp func(w *world), check func(w *world)) {
	t.Helper()
	once := func(plan map[int]crash) (points int) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			w.plan = plan
			setUp(w)
			w.play(nil)
			check(w)
			points = w.point
			w.close(fmt.Sprintf("crashes %v", plan))
		})
		return points
	}
	n := once(nil)
	for _, c := range []crash{killOwner, usurp} {
		for at := 1; at <= n; at++ {
			once(map[int]crash{at: c})
		}
	}
}

// wants checks how a run ended.
func (w *world) wants(state record.RunState, result string) {
	if w.gave == nil || w.gave.Why != journal.Finished || w.gave.State != string(state) || result != "" && string(w.gave.Report.Payload) != result {
		w.wrong("ended as %+v, want %s %s", w.gave, state, result)
	}
}

// net checks the net effects: steps that are done, of all those in below.
func (w *world) net(plan string, steps map[string]int) {
	for s, n := range steps {
		if got := w.effects[runID+"/"+plan+"/"+s]; got != n {
			w.wrong("step %s has a net effect of %d, want %d", s, got, n)
		}
	}
}

// Plans that are complete return at once, with what they returned, and what the
// handler takes from its run is what it was.
func TestDurable_D4_TheHandlerIsCalledAgain(t *testing.T) {
	var seen []string
	everywhere(t, func(w *world) {
		seen = nil
		w.handler = func(ctx context.Context, r *runs.Run, h *runs.Host) ([]byte, error) {
			now := memo.Now(r)
			members, err := memo.Members(r, func() ([]cluster.Member, error) {
				return []cluster.Member{{Name: h.Here.Node, State: cluster.Alive}}, nil
			})
			if err != nil {
				return nil, err
			}
			p, err := chain(ctx, r, h, "first", nil, "a", "b")
			if err != nil {
				return nil, err
			}
			draws := memo.Rand(r)
			x := fmt.Sprintf("%s %d %s %d %d", p.Steps[1].Result, now.UnixNano(), members[0].Name, draws.Uint64(), draws.Uint64())
			if _, err := chain(ctx, r, h, "second", func(p *runs.Plan) { p.Steps[0].Input = []byte(x) }, "c"); err != nil {
				return nil, err
			}
			return []byte(x), nil
		}
		w.do = func(_ *world, _, step, _ string, in []byte, _ uint32) wire.Report {
			if step == "c" {
				seen = append(seen, string(in))
			}
			return wire.Report{Outcome: wire.OK, Over: true, Payload: []byte("did " + step)}
		}
	}, func(w *world) {
		w.wants(record.OK, strings.Join(seen, "|"))
		for k, n := range w.ran {
			if n != 1 {
				w.wrong("%s ran %d times", k, n)
			}
		}
	})
}

// A plan of another shape parks the run, with a difference that a person can read.
func TestDurable_D5_AnotherShape(t *testing.T) {
	version := 1
	w := func(t *testing.T) *world {
		w := newWorld(t)
		w.handler = func(ctx context.Context, r *runs.Run, h *runs.Host) ([]byte, error) {
			steps := []string{"pay", "reserve", "ship"}
			if version == 2 {
				steps = []string{"pay", "pack", "ship"}
			}
			p, err := chain(ctx, r, h, "order", func(p *runs.Plan) {
				p.Steps[2].Undo = version == 1
			}, steps...)
			return p.Steps[2].Result, err
		}
		w.do = func(w *world, _, step, _ string, _ []byte, _ uint32) wire.Report {
			if version == 1 && step == "reserve" { // the next version is deployed
				version = 2
				w.push(func() { w.takeOver(w.owner, true) })
			}
			return wire.Report{Outcome: wire.OK, Over: true, Payload: []byte("did " + step)}
		}
		return w
	}
	synctest.Test(t, func(t *testing.T) {
		version = 1
		w := w(t)
		w.play(nil)
		want := `plan "order" has another shape than the journal of run run-1 says: run the version that made it, or adopt the new shape, or fork:
  step reserve (sent to w1): gone; it was op, after pay
  step ship (not sent): came after reserve, now pack; had an undo, now no undo
  step pack: new: op, after pay`
		if w.gave == nil || w.gave.Why != journal.Parked || w.gave.Text != want {
			t.Errorf("gave %+v\nwant %s", w.gave, want)
		}
		version = 1 // the version that made it goes on
		w.do = nil
		w.play(nil)
		w.wants(record.OK, "did ship")
		w.close("back to version 1")
	})
	synctest.Test(t, func(t *testing.T) {
		version = 1
		w := w(t)
		w.adopt = true
		w.play(nil)
		if w.gave == nil || w.gave.Why != journal.Parked || !strings.Contains(w.gave.Text, "step reserve is sent to w1; run the version that made it") {
			t.Errorf("adopted although a step that runs is gone: %+v", w.gave)
		}
		w.close("gone")
	})
	synctest.Test(t, func(t *testing.T) {
		version = 1
		w := w(t)
		w.do = func(w *world, _, step, _ string, _ []byte, _ uint32) wire.Report {
			if version == 1 && step == "pay" {
				version = 2
				w.plan[w.point+9] = killOwner // pay is OK, and ship runs
			}
			return wire.Report{Outcome: wire.OK, Over: true, Payload: []byte("did " + step)}
		}
		w.adopt = true
		w.handler = func(ctx context.Context, r *runs.Run, h *runs.Host) ([]byte, error) {
			p, err := chain(ctx, r, h, "order", func(p *runs.Plan) {
				if version == 2 {
					p.Steps = append(p.Steps, &runs.Step{Name: "pack", Kind: "op", After: []int{1}, Undo: true, Timeout: time.Minute, Queue: time.Minute, Input: []byte("in")})
				}
			}, "pay", "ship")
			return p.Steps[len(p.Steps)-1].Result, err
		}
		w.play(nil)
		w.wants(record.OK, "did pack")
		for k, n := range w.ran {
			if n != 1 {
				w.wrong("%s ran %d times", k, n)
			}
		}
		w.close("adopted")
	})
}

// Who returns without coming to a plan that was begun forgets what it did: the
// run is parked.
func TestDurable_D5_APlanIsMissing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		calls := 0
		w.handler = func(ctx context.Context, r *runs.Run, h *runs.Host) ([]byte, error) {
			if calls++; calls > 1 {
				return nil, nil
			}
			_, err := chain(ctx, r, h, "p", nil, "a", "b")
			return nil, err
		}
		w.plan[12] = killOwner
		w.play(nil)
		if w.gave.Why != journal.Parked || !strings.Contains(w.gave.Text, `has a plan "p", and this handler returned without coming to it`) {
			t.Errorf("%+v", w.gave)
		}
		w.close("")
	})
}

// A journal of a newer version parks the run, as does one that is malformed.
func TestDurable_NewerJournal(t *testing.T) {
	for name, c := range map[string]struct {
		unit []byte
		want string
	}{
		"newer":     {[]byte{journal.Version + 1, 0}, "written by a newer version"},
		"malformed": {[]byte{journal.Version, 0, 99}, "malformed"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.units = [][]byte{c.unit}
				w.handler = func(context.Context, *runs.Run, *runs.Host) ([]byte, error) {
					w.wrong("the handler was called")
					return nil, nil
				}
				w.play(nil)
				if w.gave.Why != journal.Parked || !strings.Contains(w.gave.Text, c.want) {
					t.Errorf("%+v", w.gave)
				}
				w.close("")
			})
		})
	}
}

// Waiting for an instant, a signal and a decision holds nothing at a node.
func TestDurable_D7_Waiting(t *testing.T) {
	everywhere(t, func(w *world) {
		begin := time.Now()
		w.handler = func(ctx context.Context, r *runs.Run, h *runs.Host) ([]byte, error) {
			if err := r.Sleep(ctx, 10*time.Minute); err != nil {
				if ctx.Err() == nil {
					w.wrong("suspended, and its context goes on: %v", err)
				}
				return nil, err
			}
			if d := time.Since(begin); d < 10*time.Minute || d > 11*time.Minute {
				w.wrong("slept %v", d)
			}
			go2, err := r.Signal(ctx, "go")
			if err != nil {
				return nil, err
			}
			if _, err := chain(ctx, r, h, "p", nil, "a"); err != nil {
				return nil, err
			}
			a, err := memo.Approve(ctx, r, "ship")
			if err != nil {
				return nil, err
			}
			again, err := r.Signal(ctx, "go")
			return fmt.Appendf(nil, "%s %s %v %s", go2, again, a.Approved, a.By), err
		}
		signals := 0
		w.idle = func() bool { // somebody signals when the run waits for it, nobody owning it
			if w.gave == nil || w.gave.Why != journal.Suspended || len(w.gave.Signals) == 0 || !w.owns(nil) || len(w.signals) > 0 {
				return false
			}
			signals++
			switch n := w.gave.Signals[0]; n {
			case "go":
				w.signal("go", fmt.Sprint("ahead", signals))
			default:
				s, err := memo.Approval(strings.TrimPrefix(n, "approve "), record.Approval{Approved: true, By: "ann"})
				if err != nil {
					w.wrong("%v", err)
				}
				w.signal(s.Name, string(s.Value))
			}
			return true
		}
	}, func(w *world) {
		w.wants(record.OK, "ahead1 ahead3 true ann")
		suspended := 0
		for _, g := range w.gives {
			if g.Why == journal.Suspended {
				suspended++
			}
		}
		if suspended < 4 {
			w.wrong("suspended %d times, want 4", suspended)
		}
		if w.ran[runID+"/p/a"] != 1 {
			w.wrong("a ran %d times", w.ran[runID+"/p/a"])
		}
	})
}

// What comes within a second is not worth a suspension.
func TestDurable_D7_ShortWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.handler = func(ctx context.Context, r *runs.Run, _ *runs.Host) ([]byte, error) {
			if err := r.Sleep(ctx, 500*time.Millisecond); err != nil {
				return nil, err
			}
			w.push(func() { w.signal("s", "now") })
			return r.Signal(ctx, "s")
		}
		w.play(nil)
		w.wants(record.OK, "now")
		if len(w.gives) != 1 || len(w.signals) != 0 {
			t.Errorf("given back %d times, %d signals left", len(w.gives), len(w.signals))
		}
		w.close("")
	})
}

// After a suspension nothing that the handler does through its run has an effect.
func TestDurable_D7_SuspendedDoesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.handler = func(ctx context.Context, r *runs.Run, h *runs.Host) ([]byte, error) {
			_, err := r.Signal(ctx, "never")
			if !errors.Is(err, fault.ErrSuspended) || ctx.Err() == nil {
				w.wrong("%v, %v", err, ctx.Err())
			}
			if _, err := chain(ctx, r, h, "p", nil, "a"); !errors.Is(err, fault.ErrSuspended) {
				w.wrong("Do: %v", err)
			}
			if err := r.Sleep(ctx, time.Second); !errors.Is(err, fault.ErrSuspended) {
				w.wrong("Sleep: %v", err)
			}
			return []byte("ignored"), nil
		}
		w.play(func() bool { return w.gave != nil })
		if w.gave.Why != journal.Suspended || len(w.units) != 0 || len(w.ran) != 0 {
			t.Errorf("%+v, %d units, ran %v", w.gave, len(w.units), w.ran)
		}
		w.close("")
	})
}
