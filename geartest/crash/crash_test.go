package crash_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/distgear/distgear"
	"github.com/distgear/distgear/geartest"
	"github.com/distgear/distgear/geartest/crash"
	"github.com/distgear/distgear/record"
)

func TestMain(m *testing.M) { geartest.Main(m, nil) }

type (
	action = distgear.Action[int, int]
	event  = distgear.Event[int, int]
	case1  = crash.Case[int, int]
	ends   = crash.End[int]
)

// shop is what the steps of a run change.
type shop struct {
	mu   sync.Mutex
	done map[string]bool // those that are done, and not undone
	ran  map[string]int  // how often
	log  []string
}

func newShop() *shop { return &shop{done: map[string]bool{}, ran: map[string]int{}} }

func (s *shop) say(name string, done bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if done {
		s.ran[name]++
	} else {
		name = "undo " + name
	}
	s.done[strings.TrimPrefix(name, "undo ")] = done
	s.log = append(s.log, name)
}

// left are the steps whose effects are there.
func (s *shop) left() string {
	maps.DeleteFunc(s.done, func(_ string, done bool) bool { return !done })
	return strings.Join(slices.Sorted(maps.Keys(s.done)), " ")
}

// step is an action that takes a second, and can be undone.
func (s *shop) step(name string, fails error) *action {
	return &action{
		Name: name,
		Do: func(ctx context.Context, in int) (int, error) {
			if fails != nil {
				return 0, fails
			}
			select {
			case <-time.After(time.Second):
			case <-ctx.Done():
				return 0, distgear.Clean(ctx.Err())
			}
			s.say(name, true)
			return in + 1, nil
		},
		Undo:       func(context.Context, distgear.Did[int, int]) error { s.say(name, false); return nil },
		Idempotent: true, Retries: 3,
	}
}

func handlers(as ...*action) (hs []distgear.Handler) {
	for _, a := range as {
		hs = append(hs, a)
	}
	return hs
}

// diamond is a → b, c → d.
func diamond(a, b, c, d *action) *event {
	return &event{Name: "order", Durable: true, On: func(ctx context.Context, r *distgear.Run, in int) (int, error) {
		p := distgear.Plan{Name: "order", Rollback: true}
		x := a.Step(&p, distgear.Any(), in)
		y, z := b.Step(&p, distgear.Any(), in, x), c.Step(&p, distgear.Any(), in, x)
		end := d.Step(&p, distgear.Any(), in, y, z)
		if err := r.Do(ctx, &p); err != nil {
			return 0, err
		}
		return end.Result()
	}}
}

var errSoldOut = errors.New("sold out")

// TestEverywhere_OK: an event of idempotent steps is done, whoever dies. What runs
// elsewhere runs once when the owner dies; what a process has not told runs again.
func TestEverywhere_OK(t *testing.T) {
	runs, again := 0, map[string]bool{}
	crash.Everywhere(t, func(t *testing.T) case1 {
		s := newShop()
		as := []*action{s.step("a", nil), s.step("b", nil), s.step("c", nil), s.step("d", nil)}
		return case1{
			Event: diamond(as[0], as[1], as[2], as[3]), Input: 7, Steps: handlers(as...),
			Check: func(end ends) {
				runs++
				if end.Err != nil || end.Out != 8 || s.left() != "a b c d" || end.Run.State != record.OK {
					t.Errorf("%+v, done %s", end, s.left())
				}
				for name, n := range s.ran {
					if n == 1 {
						continue
					}
					if n > 2 || len(end.Died) != 1 || !strings.HasPrefix(end.Died[0], "the process, ") {
						t.Errorf("%s ran %d times: %q", name, n, end.Died)
					}
					again[name] = true
				}
			},
		}
	})
	if runs != 41 || len(again) != 4 {
		t.Errorf("%d runs; ran again at some time: %v", runs, again)
	}
}

// TestEverywhere_RolledBack: of one that fails nothing is left, whoever dies.
func TestEverywhere_RolledBack(t *testing.T) {
	runs := 0
	crash.Everywhere(t, func(t *testing.T) case1 {
		s := newShop()
		as := []*action{s.step("a", nil), s.step("b", nil), s.step("c", nil), s.step("d", distgear.Permanent(errSoldOut))}
		return case1{
			Event: diamond(as[0], as[1], as[2], as[3]), Input: 7, Steps: handlers(as...),
			Check: func(end ends) {
				runs++
				if end.Err == nil || s.left() != "" || end.Run.State != record.RolledBack {
					t.Errorf("%+v, done %s", end, s.left())
				}
				if slices.Index(s.log, "undo a") < slices.Index(s.log, "undo b") {
					t.Errorf("in another order: %q", s.log)
				}
			},
		}
	})
	if runs != 73 {
		t.Errorf("%d runs", runs)
	}
}

// TestEverywhere_Unknown: what is not idempotent, and whose result was lost, is undone.
func TestEverywhere_Unknown(t *testing.T) {
	seen := map[record.RunState]int{}
	crash.Everywhere(t, func(t *testing.T) case1 {
		s := newShop()
		a, b := s.step("a", nil), s.step("b", nil)
		a.Idempotent, b.Idempotent = false, false
		return case1{
			Event: chain("order", a, b), Input: 7, Steps: handlers(a, b),
			Check: func(end ends) {
				seen[end.Run.State]++
				want := ""
				if end.Run.State == record.OK {
					want = "a b"
				}
				if s.left() != want || s.ran["a"] > 1 || s.ran["b"] > 1 || (end.Err == nil) != (want != "") {
					t.Errorf("%+v: %s", end, s.left())
				}
				if owner := len(end.Died) > 0 && strings.HasPrefix(end.Died[0], "the owner"); owner && end.Err != nil {
					t.Errorf("%v, although its steps go on", end.Err)
				}
			},
		}
	})
	if seen[record.OK] == 0 || seen[record.RolledBack] == 0 {
		t.Errorf("how they ended: %v", seen)
	}
}

// chain does steps one after the other.
func chain(name string, as ...*action) *event {
	return &event{Name: name, Durable: true, On: func(ctx context.Context, r *distgear.Run, in int) (int, error) {
		p := distgear.Plan{Name: name, Rollback: true}
		var after []distgear.Dep
		for _, a := range as {
			after = []distgear.Dep{a.Step(&p, distgear.Any(), in, after...)}
		}
		return in, r.Do(ctx, &p)
	}}
}

// TestEverywhere_Waits: a run that sleeps for a month, waits for a signal and for a
// decision, and draws numbers, is the same run whoever dies.
func TestEverywhere_Waits(t *testing.T) {
	crash.Everywhere(t, func(t *testing.T) case1 {
		s := newShop()
		a := s.step("a", nil)
		began := time.Now()
		var drew []uint64
		e := &event{Name: "wait", Durable: true, Timeout: 100 * 24 * time.Hour, On: func(ctx context.Context, r *distgear.Run, in int) (int, error) {
			drew = append(drew, r.Rand().Uint64())
			if err := r.Sleep(ctx, 30*24*time.Hour); err != nil {
				return 0, err
			}
			var n int
			if err := r.Signal(ctx, "more", &n); err != nil {
				return 0, err
			}
			yes, err := r.Approve(ctx, "it")
			if err != nil || !yes.Approved {
				return 0, errors.Join(err, errSoldOut)
			}
			p := distgear.Plan{Name: "p", Rollback: true}
			a.Step(&p, distgear.Any(), in)
			return in + n, r.Do(ctx, &p)
		}}
		return case1{
			Event: e, Input: 7, Steps: handlers(a), Name: "w7", Labels: map[string]string{"zone": "x"},
			Signal: func(name string) (any, bool) {
				if name == "approve it" {
					return record.Approval{Approved: true, By: "ann"}, true
				}
				return 35, name == "more"
			},
			Check: func(end ends) {
				if end.Err != nil || end.Out != 42 || s.left() != "a" || end.Run.Node != "w7" {
					t.Errorf("%+v, done %s", end, s.left())
				}
				if d := time.Since(began); d < 30*24*time.Hour || d > 31*24*time.Hour {
					t.Errorf("took %v", d)
				}
				for _, n := range drew { // before the journal has it a number may be another
					if n != drew[len(drew)-1] && len(end.Died) == 0 {
						t.Errorf("drew %v", drew)
					}
				}
			},
		}
	})
}

// TestPairwise: two deaths leave all or nothing, too.
func TestPairwise(t *testing.T) {
	runs := map[int]int{}
	crash.Pairwise(t, func(t *testing.T) case1 {
		s := newShop()
		a, b := s.step("a", nil), s.step("b", distgear.Permanent(errSoldOut))
		return case1{
			Event: chain("order", a, b), Input: 7, Steps: handlers(a, b),
			Check: func(end ends) {
				runs[len(end.Died)]++
				if end.Err == nil || s.left() != "" || end.Run.State != record.RolledBack {
					t.Errorf("%+v, done %s", end, s.left())
				}
			},
		}
	})
	if runs[0] != 1 || runs[1] == 0 || runs[2] < 100 {
		t.Errorf("runs by deaths: %v", runs)
	}
}

func TestTransfer(t *testing.T) { testTransfer(t) } // the Example

// faulty are tests that must fail, and what they must say.
var faulty = map[string]struct {
	set  func(t *testing.T) case1
	want []string
}{
	"a plan that is another when it is made again": {func(*testing.T) case1 {
		s := newShop()
		a := s.step("a", nil)
		calls := 0
		return case1{Event: &event{Name: "order", Durable: true, On: func(ctx context.Context, r *distgear.Run, in int) (int, error) {
			calls++
			return chain(fmt.Sprint("call ", calls), a).On(ctx, r, in)
		}}, Steps: handlers(a), Check: func(ends) {}}
	}, []string{"--- FAIL: TestChosen/owner_at_2", `the run is parked: the journal of run run-1 has a plan "call 1"`, "2 before the owner knows that the ledger has: planned call 1, sent call 1/a to node-1: the owner dies"}},
	"what the handler does besides its plans": {func(t *testing.T) case1 {
		s := newShop()
		a := s.step("a", nil)
		e := chain("order", a)
		return case1{Event: &event{Name: "order", Durable: true, On: func(ctx context.Context, r *distgear.Run, in int) (int, error) {
			s.say("mail", true)
			return e.On(ctx, r, in)
		}}, Steps: handlers(a), Check: func(ends) {
			if s.ran["mail"] != 1 {
				t.Errorf("%d mails", s.ran["mail"])
			}
		}}
	}, []string{"--- FAIL: TestChosen/owner_at_1", "2 mails", "--- FAIL: TestChosen/process_at_1", "--- FAIL: TestChosen/owner_at_2"}},
	"an undo that fails": {func(*testing.T) case1 {
		s := newShop()
		a, b := s.step("a", nil), s.step("b", distgear.Permanent(errSoldOut))
		a.Undo = func(context.Context, distgear.Did[int, int]) error { return errors.New("no such order") }
		return case1{Event: chain("order", a, b), Steps: handlers(a, b), Check: func(ends) {}}
	}, []string{"the run does not end: it is stuck; step order/a is stuck: ", "no such order"}},
	"a signal that nobody sends": {func(*testing.T) case1 {
		return case1{Event: &event{Name: "order", Durable: true, On: func(ctx context.Context, r *distgear.Run, in int) (int, error) {
			return in, r.Signal(ctx, "go", nil)
		}}, Check: func(ends) {}}
	}, []string{"it waits for a signal that nobody sends (Case.Signal): go"}},
	"an event as a step": {func(*testing.T) case1 {
		s := newShop()
		a := s.step("a", nil)
		inner := chain("inner", a)
		return case1{Event: &event{Name: "order", Durable: true, On: func(ctx context.Context, r *distgear.Run, in int) (int, error) {
			p := distgear.Plan{Name: "p"}
			inner.Step(&p, distgear.Any(), in)
			return in, r.Do(ctx, &p)
		}}, Steps: append(handlers(a), inner), Check: func(ends) {}}
	}, []string{"step inner of plan p is an event: events as steps are not covered here"}},
	"an event that is not durable": {func(*testing.T) case1 {
		return case1{Event: &event{Name: "order", On: func(_ context.Context, _ *distgear.Run, in int) (int, error) { return in, nil }}, Check: func(ends) {}}
	}, []string{"needs a durable Event"}},
	"a handler that panics": {func(*testing.T) case1 {
		return case1{Event: &event{Name: "order", Durable: true, On: func(context.Context, *distgear.Run, int) (int, error) { panic("as it was told") }}, Check: func(ends) {}}
	}, []string{"the run is parked: its handler panics again and again: as it was told"}},
}

// faultyName names one of these, in the environment of a process that makes TestChosen of it.
const faultyName = "CRASH_FAULTY"

// TestChosen is a test of one step; in the processes of TestEverywhere_Faulty one that fails.
func TestChosen(t *testing.T) {
	set := func(t *testing.T) case1 {
		s := newShop()
		a := s.step("a", nil)
		return case1{Event: chain("order", a), Steps: handlers(a), Check: func(end ends) {
			if end.Err != nil || s.left() != "a" {
				t.Errorf("%v: %s", end.Err, s.left())
			}
		}}
	}
	if name, ok := os.LookupEnv(faultyName); ok {
		set = faulty[name].set
	}
	crash.Everywhere(t, set)
}

// TestEverywhere_Faulty: what is wrong with an event makes its test fail, and that
// says where.
func TestEverywhere_Faulty(t *testing.T) {
	for name, x := range faulty {
		t.Run(name, func(t *testing.T) {
			c := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestChosen$", "-test.timeout=30s")
			c.Env = append(os.Environ(), faultyName+"="+name)
			b, err := c.CombinedOutput()
			out := string(b)
			if _, ok := errors.AsType[*exec.ExitError](err); !ok {
				t.Errorf("%v", err)
			}
			for _, w := range x.want {
				if !strings.Contains(out, w) {
					t.Errorf("it does not say %q:\n%s", w, out)
				}
			}
			if n := strings.Count(out, "--- FAIL: TestChosen/"); n > 3 {
				t.Errorf("%d runs were tried after they failed", n)
			}
		})
	}
}
