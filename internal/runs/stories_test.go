package runs_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/distgear/distgear/internal/fault"
	"github.com/distgear/distgear/internal/handled"
	"github.com/distgear/distgear/internal/journal"
	"github.com/distgear/distgear/internal/link"
	"github.com/distgear/distgear/internal/place"
	"github.com/distgear/distgear/internal/runs"
	"github.com/distgear/distgear/internal/wire"
	"github.com/distgear/distgear/record"
)

// story is what may happen to a run besides deaths.
type story struct {
	name  string
	setUp func(w *world)
	ends  []record.RunState // as which it may
	left  map[string]int    // what is left of it when it ends as failed: net effects, by plan/step
}

// fails answers as an action that fails a few times; how marks the failure.
func fails(times int, how fault.Mark) func() wire.Report {
	return func() wire.Report {
		if times--; times < 0 {
			return wire.Report{Outcome: wire.OK, Over: true}
		}
		return fault.Report(fault.Marked(errors.New("boom"), how))
	}
}

// at answers for some steps, by name; others are OK.
func at(of map[string]func() wire.Report) func(*world, string, string, string, []byte, uint32) wire.Report {
	return func(_ *world, _, step, _ string, _ []byte, _ uint32) wire.Report {
		if f := of[step]; f != nil {
			return f()
		}
		return wire.Report{Outcome: wire.OK, Over: true}
	}
}

// one is a handler of one plan, a chain.
func one(change func(p *runs.Plan), steps ...string) func(context.Context, *runs.Run, *runs.Host) ([]byte, error) {
	return func(ctx context.Context, r *runs.Run, h *runs.Host) ([]byte, error) {
		_, err := chain(ctx, r, h, "p", change, steps...)
		return nil, err
	}
}

// undoing answers for the undos of some steps.
func undoing(of map[string]func() wire.Report) func(*world, string) wire.Report {
	return func(_ *world, step string) wire.Report {
		if f := of[step]; f != nil {
			return f()
		}
		return wire.Report{Outcome: wire.OK, Over: true}
	}
}

var chainBelow = map[string][]string{"a": {"b", "c", "d"}, "b": {"c", "d"}, "c": {"d"}}

// helped has an operator decide about step b once it is stuck, on the spot or while
// nobody owns the run.
func helped(w *world, how record.Resolution, later bool, fix func()) {
	done := false
	w.idle = func() bool {
		if w.owns(nil) || w.state() != record.Stuck || done && later {
			return false
		}
		fix()
		if !later {
			_, ok := w.ask("_resolve", fmt.Sprintf(`{"ID":%q,"Step":"b","How":%q,"Reason":"by hand"}`, runID, how))
			return ok
		}
		done = true
		w.takeOver(w.owner, true)
		s, err := handled.Decision("b", how, "by hand")
		if err != nil {
			w.wrong("%v", err)
		}
		w.signal(s.Name, string(s.Value))
		return true
	}
}

var stories = []story{
	{"pivot, retried twice", func(w *world) {
		w.handler = one(func(p *runs.Plan) {
			p.Steps[1].Pivot = true
			p.Steps[2].Kind, p.Steps[2].Idem = "idem", true
			p.Steps[3].Kind, p.Steps[3].Idem = "idem", true
		}, "a", "b", "c", "d")
		w.do = at(map[string]func() wire.Report{"c": fails(2, fault.Mark{Clean: true}), "d": fails(1, fault.Mark{})})
	}, []record.RunState{record.OK, record.RolledBack}, nil},
	{"fails clean twice", func(w *world) {
		w.handler = one(func(p *runs.Plan) { p.Steps[1].Retries = 2 }, "a", "b", "c")
		w.do = at(map[string]func() wire.Report{"b": fails(2, fault.Mark{Clean: true, After: 3 * time.Second})})
	}, []record.RunState{record.OK, record.RolledBack}, nil},
	{"fails clean too often", func(w *world) {
		w.handler = one(func(p *runs.Plan) { p.Steps[1].Retries = 1 }, "a", "b", "c")
		w.do = at(map[string]func() wire.Report{"b": fails(2, fault.Mark{Clean: true})})
	}, []record.RunState{record.RolledBack}, nil},
	{"cancelled", func(w *world) {
		w.handler = one(nil, "a", "b", "c")
		w.do = at(map[string]func() wire.Report{"b": func() wire.Report {
			w.push(w.cancelRun)
			return wire.Report{Outcome: wire.OK, Over: true}
		}})
	}, []record.RunState{record.Cancelled, record.RolledBack}, nil},
	{"cancelled after a sleep", func(w *world) {
		w.handler = func(ctx context.Context, r *runs.Run, h *runs.Host) ([]byte, error) {
			if err := r.Sleep(ctx, 10*time.Second); err != nil {
				return nil, err
			}
			_, err := chain(ctx, r, h, "p", nil, "a", "b", "c")
			return nil, err
		}
		w.do = at(map[string]func() wire.Report{"b": func() wire.Report {
			w.push(w.cancelRun)
			return wire.Report{Outcome: wire.OK, Over: true}
		}})
	}, []record.RunState{record.Cancelled, record.RolledBack}, nil},
	{"cancelled in a sleep", func(w *world) {
		w.handler = func(ctx context.Context, r *runs.Run, h *runs.Host) ([]byte, error) {
			name := "p"
			if err := r.Sleep(ctx, time.Second/2); errors.Is(err, fault.ErrSuspended) {
				return nil, err
			} else if err != nil {
				name = "q" // what is to be done then
			}
			_, err := chain(context.WithoutCancel(ctx), r, h, name, nil, "a", "b", "c")
			if err == nil {
				err = r.Sleep(context.WithoutCancel(ctx), time.Minute)
			}
			return nil, err
		}
		once := false
		w.idle = func() bool {
			if once || w.owns(nil) {
				return false
			}
			once = true
			w.cancelRun()
			return true
		}
	}, []record.RunState{record.OK, record.RolledBack, record.Cancelled}, nil},
	{"cancelled while it is tried again", func(w *world) {
		w.handler = one(func(p *runs.Plan) { p.Steps[1].Retries = 5 }, "a", "b", "c")
		n := 0
		w.do = at(map[string]func() wire.Report{"b": func() wire.Report {
			if n++; n == 2 {
				w.push(w.cancelRun)
			}
			return fault.Report(fault.Marked(errors.New("boom"), fault.Mark{Clean: true, After: time.Second}))
		}})
	}, []record.RunState{record.Cancelled, record.RolledBack}, nil},
	{"an undo fails twice", func(w *world) {
		w.handler = one(nil, "a", "b", "c")
		w.do = at(map[string]func() wire.Report{"c": fails(99, fault.Mark{Permanent: true})})
		w.undo = undoing(map[string]func() wire.Report{"b": fails(2, fault.Mark{}), "a": fails(1, fault.Mark{Clean: true})})
	}, []record.RunState{record.RolledBack}, nil},
	{"an undo that is invalid", func(w *world) {
		w.handler = one(nil, "a", "b", "c")
		w.do = at(map[string]func() wire.Report{"c": fails(99, fault.Mark{Permanent: true})})
		bad := true
		w.undo = undoing(map[string]func() wire.Report{"b": func() wire.Report {
			if bad {
				return fault.Report(fmt.Errorf("%w: no such thing", fault.ErrInvalid))
			}
			return wire.Report{Outcome: wire.OK, Over: true}
		}})
		helped(w, record.Retry, false, func() { bad = false })
	}, []record.RunState{record.RolledBack}, nil},
	{"an undo is stuck and skipped", func(w *world) {
		w.handler = one(nil, "a", "b", "c")
		w.do = at(map[string]func() wire.Report{"c": fails(99, fault.Mark{Permanent: true})})
		w.undo = undoing(map[string]func() wire.Report{"b": fails(99, fault.Mark{Permanent: true})})
		w.below = nil
		helped(w, record.Skip, false, func() {})
	}, []record.RunState{record.Failed, record.RolledBack}, map[string]int{"p/a": 0, "p/b": 1, "p/c": 0}},
	{"an undo is stuck and marked while nobody owns it", func(w *world) {
		w.handler = one(nil, "a", "b", "c")
		w.do = at(map[string]func() wire.Report{"c": fails(99, fault.Mark{Permanent: true})})
		w.undo = undoing(map[string]func() wire.Report{"b": fails(99, fault.Mark{Permanent: true})})
		w.below = nil
		helped(w, record.MarkDone, true, func() {})
	}, []record.RunState{record.Failed, record.RolledBack}, map[string]int{"p/a": 0, "p/b": 1, "p/c": 0}},
	{"stuck after the pivot", func(w *world) {
		w.handler = one(func(p *runs.Plan) {
			p.Steps[0].Pivot = true
			p.Steps[1].Kind, p.Steps[1].Idem = "idem", true
			p.Steps[2].Kind, p.Steps[2].Idem = "idem", true
		}, "a", "b", "c")
		bad := true
		w.do = at(map[string]func() wire.Report{"b": func() wire.Report {
			if bad {
				return fault.Report(fault.Clean(errors.New("boom")))
			}
			return wire.Report{Outcome: wire.OK, Over: true}
		}})
		helped(w, record.Retry, false, func() { bad = false })
	}, []record.RunState{record.OK, record.RolledBack}, nil},
	{"a step is a durable event", func(w *world) {
		w.handler = one(func(p *runs.Plan) {
			p.Steps[1].Event, p.Steps[1].Durable, p.Steps[1].Kind = true, true, "idem"
			p.Steps[2].Kind = "idem"
		}, "a", "b", "c")
		w.do = at(map[string]func() wire.Report{"c": fails(1, fault.Mark{})})
	}, []record.RunState{record.RolledBack}, nil},
	{"unwound", func(w *world) {
		w.handler = func(ctx context.Context, r *runs.Run, h *runs.Host) ([]byte, error) {
			if _, err := chain(ctx, r, h, "p", nil, "a", "b"); err != nil {
				return nil, err
			}
			_, err := chain(ctx, r, h, "q", func(p *runs.Plan) { p.Steps[1].Retries = 1 }, "c", "d")
			if err == nil && w.unwind {
				err = errors.New("it is too late to say so")
			}
			if err != nil {
				return nil, err
			}
			return []byte(time.Now().String()), nil
		}
		w.do = at(map[string]func() wire.Report{"d": fails(1, fault.Mark{Clean: true})})
		w.undo = undoing(map[string]func() wire.Report{"a": fails(1, fault.Mark{})})
		done := false
		w.idle = func() bool {
			if !w.ended() || done || w.gave.State != string(record.OK) {
				return false
			}
			done, w.unwind, w.gave = true, true, nil
			w.push(w.lease)
			return true
		}
	}, []record.RunState{record.RolledBack, record.Failed}, map[string]int{"p/a": 1, "p/b": 1, "q/c": 0, "q/d": 0}},
	{"without rollback", func(w *world) {
		w.handler = func(ctx context.Context, r *runs.Run, h *runs.Host) ([]byte, error) {
			p, err := chain(ctx, r, h, "p", func(p *runs.Plan) {
				p.Rollback, p.Steps[2].After = false, nil
			}, "a", "b", "c")
			if err == nil {
				return nil, nil
			}
			name := "q"
			for _, s := range p.Steps {
				if errors.Is(s.Err, fault.ErrUnknown) {
					name += s.Name
				}
			}
			_, err = chain(ctx, r, h, name, nil, "d")
			return nil, err
		}
		w.do = at(map[string]func() wire.Report{"b": fails(9, fault.Mark{})})
	}, []record.RunState{record.OK, record.RolledBack, record.Failed}, nil},
}

// run tells the story with crashes at points, and answers how many points there were.
func (s *story) run(t *testing.T, plan map[int]crash) (points int) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.plan, w.below = plan, chainBelow
		s.setUp(w)
		w.play(nil)
		s.check(w)
		points = w.point
		w.close(fmt.Sprintf("%s, crashes %v", s.name, plan))
	})
	return points
}

func (s *story) check(w *world) {
	if w.gave == nil || w.gave.Why != journal.Finished {
		w.wrong("I6: given back: %+v", w.gave)
		return
	}
	state := record.RunState(w.gave.State)
	if !slices.Contains(s.ends, state) {
		w.wrong("ended as %s, want one of %v", state, s.ends)
	}
	for k, n := range w.effects {
		want, told := 0, true
		switch state {
		case record.OK:
			want = 1
		case record.Failed:
			want, told = s.left[strings.TrimPrefix(k, runID+"/")], s.left != nil
		}
		if told && n != want && s.name != "without rollback" {
			w.wrong("I1: %s has a net effect of %d, want %d", k, n, want)
		}
	}
}

// Each story, with deaths at a sample of the points, and of their pairs: at each point what the
// journal shows is what the owner sees, and the rules hold.
func TestCrash_Stories(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	kind := func() crash { return crashes[rng.IntN(len(crashes))] }
	for i := range stories {
		s := &stories[i]
		t.Run(s.name, func(t *testing.T) {
			n := s.run(t, nil)
			if !*whole {
				for range 100 {
					at := 1 + rng.IntN(n)
					s.run(t, map[int]crash{at: kind()})
					s.run(t, map[int]crash{at: kind(), at + 1 + rng.IntN(n): kind()})
				}
				return
			}
			for at := 1; at <= n; at++ {
				for _, c := range crashes {
					s.run(t, map[int]crash{at: c})
				}
				for second := at + 1; second <= at+n; second++ {
					s.run(t, map[int]crash{at: kind(), second: kind()})
				}
			}
		})
	}
}

// What a handler has read of a plan that has settled stays so, whatever came later and was
// there when the next owner called it again: else it would take another way.
func TestDurable_D4_LateForWhoHasReadIt(t *testing.T) {
	everywhere(t, func(w *world) {
		release := map[string]chan struct{}{"b": make(chan struct{}), "e": make(chan struct{})}
		order := []string{"b", "e"} // b reports while e runs
		w.handler = func(ctx context.Context, r *runs.Run, h *runs.Host) ([]byte, error) {
			host := *h
			start := h.Start
			host.Start = func(at place.Place, c *wire.Command, begin time.Time, lost time.Duration, to link.Receiver) (runs.Flight, error) {
				f, err := start(at, c, begin, lost, to)
				if strings.HasSuffix(c.Key, "/b/do") { // nothing was heard for long
					w.push(func() { to.Report(wire.Report{}) })
				}
				return f, err
			}
			p, err := chain(ctx, r, &host, "p", func(p *runs.Plan) { p.Rollback = false }, "a", "b")
			if errors.Is(err, fault.ErrSuspended) {
				return nil, err
			}
			name := fmt.Sprintf("b is %s, %v", p.Steps[1].Result, p.Steps[1].Err)
			_, err = chain(ctx, r, h, "q", func(p *runs.Plan) { p.Steps[0].Name = name }, "", "e")
			return nil, err
		}
		w.idle = func() bool {
			if len(order) == 0 || w.owns(nil) || !w.doing[runID+"/q/e"] {
				return false
			}
			close(release[order[0]])
			order = order[1:]
			return true
		}
		w.do = func(_ *world, _, step, _ string, _ []byte, _ uint32) wire.Report {
			if c := release[step]; c != nil {
				<-c
			}
			return wire.Report{Outcome: wire.OK, Over: true, Payload: []byte("did")}
		}
	}, func(w *world) {
		if w.gave == nil || w.gave.Why != journal.Finished {
			w.wrong("ended as %+v", w.gave)
		}
	})
}

// Nodes whose clocks are an hour from the hub's record by that one: a step that is tried
// again later is so after the same while at the next owner, and so with what sleeps.
func TestDurable_ClocksDiffer(t *testing.T) {
	for _, ahead := range []time.Duration{time.Hour, -time.Hour} {
		var began time.Time
		everywhere(t, func(w *world) {
			w.ahead, began = ahead, time.Now()
			w.handler = func(ctx context.Context, r *runs.Run, h *runs.Host) ([]byte, error) {
				if err := r.Sleep(ctx, 10*time.Second); err != nil {
					return nil, err
				}
				_, err := chain(ctx, r, h, "p", func(p *runs.Plan) { p.Steps[1].Retries = 2 }, "a", "b")
				return nil, err
			}
			w.do = at(map[string]func() wire.Report{"b": fails(2, fault.Mark{Clean: true, After: 3 * time.Second})})
		}, func(w *world) {
			w.wants(record.OK, "")
			if took := time.Since(began); took < 16*time.Second || took > 30*time.Second {
				w.wrong("it took %v", took)
			}
			if d := journal.Began(w.units).Sub(began) - ahead; d < 0 || d > time.Minute {
				w.wrong("recorded as begun %v after it was, by the hub's clock", d)
			}
		})
	}
}
