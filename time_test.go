package distgear_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/distgear/distgear"
	"github.com/distgear/distgear/executor"
	"github.com/distgear/distgear/geartest"
	"github.com/distgear/distgear/record"
	"github.com/distgear/distgear/schedule"
	"github.com/distgear/distgear/shared"
)

// In a bubble of testing/synctest a cluster made by Alone has a clock that runs when nobody
// does anything: what takes a month is over at once, and after exactly a month. Each of these tests is such a recipe.

const day = 24 * time.Hour

type timed = distgear.Event[int, int]

// bubbled is a node with these handlers, in a bubble.
func bubbled(t *testing.T, hs ...distgear.Handler) *distgear.Node {
	return geartest.Alone(t, geartest.Nodes{Handlers: func(*distgear.Node) []distgear.Handler { return hs }}).Here()
}

// TestTime_Sleep: a durable run that sleeps for 30 days is on no node meanwhile, and goes on to the second.
func TestTime_Sleep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		calls := 0
		remind := &timed{Name: "remind", Durable: true, On: func(ctx context.Context, r *distgear.Run, in int) (int, error) {
			calls++
			for range 3 {
				if err := r.Sleep(ctx, 10*day); err != nil {
					return 0, err
				}
			}
			return in + 1, nil
		}}
		n, began := bubbled(t, remind), time.Now()
		f, err := remind.Raise(t.Context(), n, 41)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(29 * day)
		rec, err := n.FindRun(t.Context(), f.ID())
		if err != nil || rec.State != record.Waiting || rec.Node != "" || rec.Until.Sub(began) != 30*day {
			t.Errorf("after 29 days: %+v, %v", rec, err)
		}
		if out, err := f.Wait(t.Context()); err != nil || out != 42 {
			t.Errorf("%d, %v", out, err)
		}
		if d := time.Since(began); d.Truncate(time.Second) != 30*day || calls != 4 {
			t.Errorf("took %v and %d calls", d, calls)
		}
	})
}

// TestTime_Retries: a step that is tried again every hour.
func TestTime_Retries(t *testing.T) {
	for _, durable := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			var at []time.Duration
			began := time.Now()
			ask := &distgear.Action[int, int]{Name: "ask", Retries: 5, Do: func(_ context.Context, in int) (int, error) {
				if at = append(at, time.Since(began).Truncate(time.Minute)); len(at) < 4 {
					return 0, distgear.RetryAfter(errors.New("closed"), time.Hour)
				}
				return in, nil
			}}
			e := &timed{Name: "asks", Durable: durable, On: func(ctx context.Context, r *distgear.Run, in int) (int, error) {
				p := distgear.Plan{Name: "ask"}
				ask.Step(&p, distgear.Any(), in)
				return in, r.Do(ctx, &p)
			}}
			f, err := e.Raise(t.Context(), bubbled(t, ask, e), 7)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := f.Wait(t.Context()); err != nil {
				t.Error(err)
			}
			if len(at) != 4 || at[1] < time.Hour || at[3] < 3*time.Hour || at[3] > 5*time.Hour {
				t.Errorf("durable %v: tried at %v", durable, at)
			}
		})
	}
}

// TestTime_Timeout: a run of two hours at most, that waits for a signal.
func TestTime_Timeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := &timed{Name: "ask", Durable: true, Timeout: 2 * time.Hour, On: func(ctx context.Context, r *distgear.Run, in int) (int, error) {
			return in, r.Signal(ctx, "answer", nil)
		}}
		began := time.Now()
		n := bubbled(t, e)
		f, err := e.Raise(t.Context(), n, 7, distgear.Delay(3*day))
		if err != nil {
			t.Fatal(err)
		}
		if _, err = f.Wait(t.Context()); err == nil || !strings.Contains(err.Error(), "deadline") && !errors.Is(err, distgear.ErrTimeout) {
			t.Errorf("nobody answered: %v", err)
		}
		if d := time.Since(began); d < 3*day+2*time.Hour || d > 3*day+3*time.Hour {
			t.Errorf("took %v", d)
		}
		if f, err = e.Raise(t.Context(), n, 8); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		if err := n.SignalRun(t.Context(), f.ID(), "answer", nil); err != nil {
			t.Error(err)
		}
		if _, err := f.Wait(t.Context()); err != nil {
			t.Errorf("somebody answered in time: %v", err)
		}
	})
}

// TestTime_Schedule: what is due each night, for a week, and not while it is paused.
func TestTime_Schedule(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var at []string
		e := &timed{Name: "nightly", Durable: true, On: func(_ context.Context, r *distgear.Run, in int) (int, error) {
			mu.Lock()
			defer mu.Unlock()
			at = append(at, r.Now().UTC().Format("02 15:04"))
			return in, nil
		}}
		n := bubbled(t, e)
		if err := schedule.Every(t.Context(), n, "backup", "30 2 * * *", e, 1); err != nil {
			t.Fatal(err)
		}
		time.Sleep(3 * day)
		if err := schedule.Pause(t.Context(), n, "backup"); err != nil {
			t.Error(err)
		}
		time.Sleep(2 * day)
		if err := schedule.Resume(t.Context(), n, "backup"); err != nil {
			t.Error(err)
		}
		time.Sleep(2 * day)
		mu.Lock()
		defer mu.Unlock()
		if got := strings.Join(at, ", "); got != "01 02:30, 02 02:30, 03 02:30, 06 02:30, 07 02:30" {
			t.Error(got)
		}
	})
}

// TestTime_Again: several such tests follow each other in one process, and use what waits.
func TestTime_Again(t *testing.T) {
	for range 3 {
		synctest.Test(t, func(t *testing.T) {
			double := &distgear.Action[int, int]{Name: "double", Do: func(_ context.Context, in int) (int, error) {
				time.Sleep(time.Hour)
				return 2 * in, nil
			}, Timeout: day}
			n := bubbled(t, double)
			if out, err := double.Call(t.Context(), n, distgear.Any(), 21); err != nil || out != 42 {
				t.Errorf("%d, %v", out, err)
			}
			if out, err := executor.Submit(t.Context(), executor.New(n, "x"), double, 21); err != nil {
				t.Error(err)
			} else if out, err := out.Wait(t.Context()); err != nil || out != 42 {
				t.Errorf("%d, %v", out, err)
			}
			m := shared.NewMutex(n, "m")
			held, err := m.Lock(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			time.AfterFunc(time.Hour, func() {
				if err := held.Unlock(); err != nil {
					t.Error(err)
				}
			})
			if held, err := m.Lock(t.Context()); err != nil {
				t.Error(err)
			} else if err := held.Unlock(); err != nil {
				t.Error(err)
			}
		})
	}
}
