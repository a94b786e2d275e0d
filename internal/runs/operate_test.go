package runs_test

import (
	"context"
	"errors"
	"fmt"
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

// A durable run that is cancelled is rolled back, whoever dies meanwhile.
func TestDurable_S11_Cancel(t *testing.T) {
	everywhere(t, func(w *world) {
		w.below = map[string][]string{"a": {"b", "c"}, "b": {"c"}}
		w.handler = func(ctx context.Context, r *runs.Run, h *runs.Host) ([]byte, error) {
			_, err := chain(ctx, r, h, "p", nil, "a", "b", "c")
			if err != nil && !errors.Is(err, fault.ErrSuspended) && !errors.Is(err, fault.ErrCancelled) {
				w.wrong("%v", err)
			}
			return nil, err
		}
		w.do = func(w *world, _, step, _ string, _ []byte, _ uint32) wire.Report {
			if step == "b" {
				w.push(w.cancelRun)
			}
			return wire.Report{Outcome: wire.OK, Over: true}
		}
	}, func(w *world) {
		w.wants(record.Cancelled, "")
		w.net("p", map[string]int{"a": 0, "b": 0, "c": 0})
	})
}

// A deadline that has passed before a crash is one after it, too.
func TestDurable_S11_Deadline(t *testing.T) {
	everywhere(t, func(w *world) {
		var why error
		w.handler = func(ctx context.Context, r *runs.Run, h *runs.Host) ([]byte, error) {
			ctx, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
			defer cancel()
			_, err := chain(ctx, r, h, "p", func(p *runs.Plan) { p.Steps[1].Retries = 100 }, "a", "b")
			if !errors.Is(err, fault.ErrSuspended) {
				why = err
			}
			return nil, err
		}
		w.do = func(_ *world, _, step, _ string, _ []byte, _ uint32) wire.Report {
			if step == "b" {
				return fault.Report(fault.Clean(errors.New("not yet")))
			}
			return wire.Report{Outcome: wire.OK, Over: true}
		}
		w.idle = func() bool {
			if w.ended() && !errors.Is(why, fault.ErrTimeout) {
				w.wrong("ended with %v", why)
			}
			return false
		}
	}, func(w *world) {
		w.wants(record.RolledBack, "")
		w.net("p", map[string]int{"a": 0, "b": 0})
	})
}

// Stuck undos, and what an operator decides about them, survive.
func TestDurable_S10_Stuck(t *testing.T) {
	for _, c := range []struct {
		how   record.Resolution
		state record.RunState
		b     int
	}{{record.Retry, record.RolledBack, 0}, {record.Skip, record.Failed, 1}, {record.MarkDone, record.Failed, 1}} {
		t.Run(string(c.how), func(t *testing.T) {
			everywhere(t, func(w *world) {
				fixed := false
				w.handler = func(ctx context.Context, r *runs.Run, h *runs.Host) ([]byte, error) {
					_, err := chain(ctx, r, h, "p", nil, "a", "b", "c")
					return nil, err
				}
				w.do = func(_ *world, _, step, _ string, _ []byte, _ uint32) wire.Report {
					if step == "c" {
						return fault.Report(fault.Useless(errors.New("boom")))
					}
					return wire.Report{Outcome: wire.OK, Over: true}
				}
				w.undo = func(_ *world, step string) wire.Report {
					if step == "b" && !fixed {
						return fault.Report(fault.Marked(errors.New("boom"), fault.Mark{Permanent: true}))
					}
					return wire.Report{Outcome: wire.OK, Over: true}
				}
				w.idle = func() bool {
					if w.owns(nil) || w.state() != record.Stuck {
						return false
					}
					fixed = true
					w.net("p", map[string]int{"a": 1})
					_, ok := w.ask("_resolve", fmt.Sprintf(`{"ID":%q,"Step":"b","How":%q,"Reason":"by hand"}`, runID, c.how))
					return ok
				}
			}, func(w *world) {
				w.wants(c.state, "")
				w.net("p", map[string]int{"a": 0, "b": c.b, "c": 0})
			})
		})
	}
}

// A decision that comes while nobody owns the run is kept for the next owner.
func TestDurable_S10_DecidedWhileNobodyOwnsIt(t *testing.T) {
	everywhere(t, func(w *world) {
		fixed := false
		w.handler = func(ctx context.Context, r *runs.Run, h *runs.Host) ([]byte, error) {
			_, err := chain(ctx, r, h, "p", nil, "a", "b", "c")
			return nil, err
		}
		w.do = func(_ *world, _, step, _ string, _ []byte, _ uint32) wire.Report {
			if step == "c" {
				return fault.Report(fault.Useless(errors.New("boom")))
			}
			return wire.Report{Outcome: wire.OK, Over: true}
		}
		w.undo = func(_ *world, step string) wire.Report {
			if step == "b" && !fixed {
				return fault.Report(fault.Marked(errors.New("boom"), fault.Mark{Permanent: true}))
			}
			return wire.Report{Outcome: wire.OK, Over: true}
		}
		w.idle = func() bool {
			if fixed || w.owns(nil) || w.state() != record.Stuck {
				return false
			}
			fixed = true
			o := w.owner
			w.takeOver(o, true) // and before there is another one:
			s, err := handled.Decision("b", record.MarkDone, "by hand")
			if err != nil {
				w.wrong("%v", err)
			}
			w.signal(s.Name, string(s.Value))
			return true
		}
	}, func(w *world) {
		w.wants(record.Failed, "")
		w.net("p", map[string]int{"a": 0, "b": 1, "c": 0})
		if len(w.signals) > 0 {
			w.wrong("the decision was not taken: %v", w.signals)
		}
	})
}

// So do a step that is stuck after the pivot, and the decision about it.
func TestDurable_S15_StuckAfterThePivot(t *testing.T) {
	for _, how := range []record.Resolution{record.Retry, record.MarkDone} {
		t.Run(string(how), func(t *testing.T) {
			everywhere(t, func(w *world) {
				fixed := false
				w.handler = func(ctx context.Context, r *runs.Run, h *runs.Host) ([]byte, error) {
					_, err := chain(ctx, r, h, "p", func(p *runs.Plan) { p.Steps[0].Pivot = true }, "a", "b")
					return nil, err
				}
				w.do = func(_ *world, _, step, _ string, _ []byte, _ uint32) wire.Report {
					if step == "b" && !fixed {
						return fault.Report(fault.Useless(errors.New("boom")))
					}
					return wire.Report{Outcome: wire.OK, Over: true}
				}
				w.idle = func() bool {
					if w.owns(nil) || w.state() != record.Stuck {
						return false
					}
					fixed = true
					if _, ok := w.ask("_resolve", fmt.Sprintf(`{"ID":%q,"Step":"b","How":"skip","Reason":"x"}`, runID)); ok {
						w.wrong("skipped what can only go forward")
					}
					_, ok := w.ask("_resolve", fmt.Sprintf(`{"ID":%q,"Step":"b","How":%q,"Reason":"by hand"}`, runID, how))
					return ok
				}
			}, func(w *world) {
				w.wants(record.OK, "")
				w.net("p", map[string]int{"a": 1})
			})
		})
	}
}

// A result that comes after its step was given up as unknown is asked for by the
// next owner, adopted and undone.
func TestDurable_S12_LateResult(t *testing.T) {
	everywhere(t, func(w *world) {
		release := make(chan struct{})
		var once bool
		w.handler = func(ctx context.Context, r *runs.Run, h *runs.Host) ([]byte, error) {
			host := *h
			start := h.Start
			host.Start = func(at place.Place, c *wire.Command, begin time.Time, lost time.Duration, to link.Receiver) (runs.Flight, error) {
				f, err := start(at, c, begin, lost, to)
				if strings.HasSuffix(c.Key, "/b/do") && !c.Owner.Attach { // nothing was heard for long
					w.push(func() { to.Report(wire.Report{}) })
				}
				return f, err
			}
			_, err := chain(ctx, r, &host, "p", nil, "a", "b")
			return nil, err
		}
		w.do = func(w *world, _, step, _ string, _ []byte, _ uint32) wire.Report {
			if step == "b" {
				<-release
			}
			return wire.Report{Outcome: wire.OK, Over: true}
		}
		w.idle = func() bool {
			if once || w.owns(nil) {
				return false
			}
			once = true
			close(release)
			return true
		}
	}, func(w *world) {
		if len(w.plan) > 0 && w.gave.State == string(record.OK) { // its owner died before it gave it up
			w.net("p", map[string]int{"a": 1, "b": 1})
			return
		}
		w.wants(record.RolledBack, "")
		w.net("p", map[string]int{"a": 0, "b": 0})
	})
}

// A run that has ended is undone when what it was a step of is: its handler is
// called for its plans, and they roll back, the last one first (S16).
func TestDurable_S16_Unwind(t *testing.T) {
	everywhere(t, func(w *world) {
		w.handler = func(ctx context.Context, r *runs.Run, h *runs.Host) ([]byte, error) {
			if _, err := chain(ctx, r, h, "one", nil, "a", "b"); err != nil {
				return nil, err
			}
			_, err := chain(ctx, r, h, "two", nil, "c")
			return []byte("done"), err
		}
		w.undo = func(w *world, step string) wire.Report {
			if step == "b" {
				w.net("two", map[string]int{"c": 0})
			}
			return wire.Report{Outcome: wire.OK, Over: true}
		}
		done := false
		w.idle = func() bool {
			if !w.ended() || done {
				return false
			}
			done = true
			w.wants(record.OK, "done")
			w.net("one", map[string]int{"a": 1, "b": 1})
			w.net("two", map[string]int{"c": 1})
			w.unwind, w.gave = true, nil
			w.push(w.lease)
			return true
		}
	}, func(w *world) {
		w.wants(record.RolledBack, "done") // its result stays
		w.net("one", map[string]int{"a": 0, "b": 0})
		w.net("two", map[string]int{"c": 0})
	})
}

// A step that is a durable event does not end with the node that it was raised at:
// it is raised again, as the same attempt.
func TestDurable_S16_DurableStep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		var attempts []uint32
		w.handler = func(ctx context.Context, r *runs.Run, h *runs.Host) ([]byte, error) {
			p, err := chain(ctx, r, h, "p", func(p *runs.Plan) { p.Steps[0].Event, p.Steps[0].Durable = true, true }, "inner")
			return p.Steps[0].Result, err
		}
		w.do = func(w *world, _, _, _ string, _ []byte, attempt uint32) wire.Report {
			if attempts = append(attempts, attempt); len(attempts) == 1 {
				w.killWorker(w.workers["w1"])
			}
			return wire.Report{Outcome: wire.OK, Over: true, Payload: []byte("did")}
		}
		w.play(nil)
		w.wants(record.OK, "did")
		if fmt.Sprint(attempts) != "[1 1]" {
			t.Errorf("attempts %v", attempts)
		}
		w.close("")
	})
}

// A node that leaves gives its runs back: others go on at once.
func TestDurable_Leave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		left := false
		w.handler = func(ctx context.Context, r *runs.Run, h *runs.Host) ([]byte, error) {
			p, err := chain(ctx, r, h, "p", nil, "a", "b")
			return p.Steps[1].Result, err
		}
		w.do = func(w *world, _, _, _ string, _ []byte, _ uint32) wire.Report {
			if o := w.owner; !left {
				left = true
				w.push(func() { w.bury(o) })
			}
			return wire.Report{Outcome: wire.OK, Over: true, Payload: []byte("did")}
		}
		w.play(nil)
		w.wants(record.OK, "did")
		if g := w.gives[0]; g.Why != journal.Suspended || !g.Until.IsZero() || len(g.Signals) > 0 {
			t.Errorf("%+v", g)
		}
		w.net("p", map[string]int{"a": 1, "b": 1})
		w.close("")
	})
}

// What a handler's panic says goes to the hub, which counts (D9).
func TestDurable_D9_Panicked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.handler = func(_ context.Context, r *runs.Run, _ *runs.Host) ([]byte, error) {
			w.owner.reg.Panicked(r, "boom at main.go:1")
			return nil, nil
		}
		w.play(nil)
		if w.gave.Why != journal.Panicked || w.gave.Text != "boom at main.go:1" {
			t.Errorf("%+v", w.gave)
		}
		w.close("")
	})
}

// The record shows each attempt, also those of owners before.
func TestDurable_Record(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.plan[14] = killOwner // b is in the journal, and was not sent
		w.handler = diamond("op")
		w.do = func(_ *world, _, step, _ string, _ []byte, _ uint32) wire.Report {
			if step == "e" {
				return fault.Report(fault.Useless(errors.New("boom")))
			}
			return wire.Report{Outcome: wire.OK, Over: true, Payload: []byte("did " + step)}
		}
		w.play(nil)
		var got []string
		for _, s := range w.summary().Plans[0].Steps {
			for _, a := range s.Attempts {
				got = append(got, fmt.Sprintf("%s %d undo=%v at %s: %s", s.Name, a.Number, a.Undo, a.Node, a.Outcome))
				if a.Sent.IsZero() || a.Ended.IsZero() {
					t.Errorf("%+v", a)
				}
			}
			got = append(got, fmt.Sprintf("%s is %s", s.Name, s.State))
		}
		want := `a 1 undo=false at w1: ok; a 1 undo=true at w1: ok; a is undone; b 1 undo=false at w1: never ran; b 1 undo=false at w1: ok; b 1 undo=true at w1: ok; b is undone; ` +
			`c 1 undo=false at w2: ok; c 1 undo=true at w2: ok; c is undone; d 1 undo=false at w1: ok; d 1 undo=true at w1: ok; d is undone; ` +
			`e 1 undo=false at w1: failed, clean; e is failed`
		if s := strings.Join(got, "; "); s != want {
			t.Errorf("\n got %s\nwant %s", s, want)
		}
		w.close("")
	})
}
