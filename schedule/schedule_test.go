package schedule_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/distgear/distgear"
	"github.com/distgear/distgear/geartest"
	"github.com/distgear/distgear/record"
	"github.com/distgear/distgear/schedule"
)

func TestMain(m *testing.M) { geartest.Main(m, nil) }

const patience = 30 * time.Second

// A schedule raises one run for each of its times, unless it is paused, whichever node
// reads the timetable.
func TestSchedule(t *testing.T) {
	var mu sync.Mutex
	var ids []record.RunID
	event := &distgear.Event[string, string]{Name: "tick", Durable: true, On: func(_ context.Context, r *distgear.Run, in string) (string, error) {
		mu.Lock()
		defer mu.Unlock()
		ids = append(ids, r.ID())
		return in, nil
	}}
	raised := func() []record.RunID {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(ids)
	}
	hs := geartest.Nodes{Handlers: func(*distgear.Node) []distgear.Handler { return []distgear.Handler{event} }}
	body := func(t *testing.T, n *distgear.Node) {
		mu.Lock()
		ids = nil
		mu.Unlock()
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		if err := schedule.Every(ctx, n, "tick", "@every 1s", event, "in", schedule.CatchUpAll); err != nil {
			t.Fatal(err)
		}
		if err := schedule.Every(ctx, n, "nightly", "TZ=Europe/Vienna 0 3 * * *", event, "in", schedule.LeaveOut); err != nil {
			t.Fatal(err)
		}
		geartest.Eventually(t, patience, "it comes due twice", func() bool { return len(raised()) >= 2 })
		got := raised()
		if got[0] == got[1] || !strings.HasPrefix(string(got[0]), "tick@") {
			t.Errorf("%v", got)
		}
		f, err := event.Find(ctx, n, got[0])
		if err != nil {
			t.Fatal(err)
		}
		if out, err := f.Wait(ctx); err != nil || out != "in" {
			t.Errorf("%q %v", out, err)
		}
		if err := schedule.Pause(ctx, n, "tick"); err != nil {
			t.Fatal(err)
		}
		infos, err := schedule.List(ctx, n)
		if err != nil || len(infos) != 2 {
			t.Fatalf("%+v %v", infos, err)
		}
		if i := infos[0]; i.Name != "nightly" || i.Missed != schedule.LeaveOut || i.Paused || i.Next.Minute() != 0 || i.When != "TZ=Europe/Vienna 0 3 * * *" {
			t.Errorf("%+v", i)
		}
		if i := infos[1]; i.Name != "tick" || i.Event != "tick" || i.Missed != schedule.CatchUpAll || !i.Paused || i.Last.IsZero() {
			t.Errorf("%+v", i)
		}
		if err := schedule.Resume(ctx, n, "tick"); err != nil {
			t.Fatal(err)
		}
		before := len(raised())
		geartest.Eventually(t, patience, "it goes on", func() bool { return len(raised()) > before })
		if err := schedule.Remove(ctx, n, "tick"); err != nil {
			t.Fatal(err)
		}
		if err := schedule.Remove(ctx, n, "tick"); !errors.Is(err, distgear.ErrInvalid) || !errors.Is(err, schedule.ErrNoSchedule) || !strings.Contains(err.Error(), `name: "tick"`) {
			t.Errorf("removed twice: %v", err)
		}
		if err := schedule.Pause(ctx, n, "tick"); !errors.Is(err, distgear.ErrInvalid) {
			t.Errorf("paused when it is gone: %v", err)
		}
		all := raised()
		slices.Sort(all)
		if len(slices.Compact(all)) != len(raised()) {
			t.Errorf("a time has two runs: %v", raised())
		}
	}
	t.Run("alone", func(t *testing.T) { body(t, geartest.Alone(t, hs).Here()) })
	t.Run("nodes", func(t *testing.T) { body(t, geartest.StartCluster(t, hs).Here()) })
}

func TestSchedule_Bad(t *testing.T) {
	n := geartest.Alone(t, geartest.Nodes{Handlers: func(*distgear.Node) []distgear.Handler { return nil }}).Here()
	e := &distgear.Event[string, string]{Name: "e", Durable: true, On: func(context.Context, *distgear.Run, string) (string, error) { return "", nil }}
	plain := &distgear.Event[string, string]{Name: "plain", On: e.On}
	ctx := t.Context()
	for want, err := range map[string]error{
		"is not durable":           schedule.Every(ctx, n, "s", "@daily", plain, ""),
		"cannot be read":           schedule.Every(ctx, n, "s", "whenever", e, ""),
		"without / and":            schedule.Every(ctx, n, "a b", "@daily", e, ""),
		"1 to 100 bytes":           schedule.Every(ctx, n, "", "@daily", e, ""),
		"70001 bytes":              schedule.Every(ctx, n, "s", "@daily", e, strings.Repeat("x", 70_000)),
		"want CatchUp, CatchUpAll": schedule.Every(ctx, n, "s", "@daily", e, "", "twice"),
	} {
		if !errors.Is(err, distgear.ErrInvalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

// A delayed raise is in the ledger, and on no node until its time has come.
func TestDelayedRaise(t *testing.T) {
	began := make(chan time.Time, 8)
	event := &distgear.Event[string, string]{Name: "late", Durable: true, On: func(_ context.Context, _ *distgear.Run, in string) (string, error) {
		began <- time.Now()
		return in, nil
	}}
	hs := geartest.Nodes{Handlers: func(*distgear.Node) []distgear.Handler { return []distgear.Handler{event} }}
	body := func(t *testing.T, n *distgear.Node) {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		raised := time.Now()
		f, err := event.Raise(ctx, n, "in", distgear.Delay(300*time.Millisecond))
		if err != nil {
			t.Fatal(err)
		}
		rec, err := n.FindRun(ctx, f.ID())
		if err != nil || time.Since(raised) < 250*time.Millisecond && (rec.State != record.Waiting || rec.Node != "" || rec.Until.IsZero()) {
			t.Errorf("%+v %v", rec, err)
		}
		if out, err := f.Wait(ctx); err != nil || out != "in" {
			t.Errorf("%q %v", out, err)
		}
		if d := (<-began).Sub(raised); d < 290*time.Millisecond {
			t.Errorf("it began after %v", d)
		}
		if len(began) > 0 {
			t.Error("it ran twice")
		}
	}
	t.Run("alone", func(t *testing.T) { body(t, geartest.Alone(t, hs).Here()) })
	t.Run("nodes", func(t *testing.T) { body(t, geartest.StartCluster(t, hs).Here()) })
}
