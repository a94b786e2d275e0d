package lifecycle_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/distgear/distgear"
	"github.com/distgear/distgear/geartest"
	"github.com/distgear/distgear/lifecycle"
	"github.com/distgear/distgear/record"
	"github.com/distgear/distgear/shared"
)

func TestMain(m *testing.M) { geartest.Main(m, nil) }

const patience = 30 * time.Second

// story is what a subscription hears of one run up to its end, or up to a word, a line
// each.
func story(ctx context.Context, t *testing.T, s *lifecycle.Subscription, id record.RunID, last record.Happening) string {
	t.Helper()
	var lines []string
	for e, err := range s.All(ctx) {
		switch {
		case err != nil:
			t.Fatalf("%v, after\n%s", err, strings.Join(lines, "\n"))
		case e.ID != id:
			continue
		case e.Event != "order" || time.Since(e.At).Abs() > time.Minute || (e.What == lifecycle.Owned) != (e.Epoch > 0):
			t.Errorf("%+v", e)
		}
		line := string(e.What)
		if e.Node != "" {
			line += " NODE"
		}
		for _, s := range []string{e.Step, e.Outcome, e.Text} {
			if s != "" {
				line += " " + s
			}
		}
		if lines = append(lines, line); e.What == last {
			break
		}
	}
	return strings.Join(lines, "\n")
}

// Who subscribes hears what becomes of each run, in order, once.
func TestLifecycle(t *testing.T) {
	var panics atomic.Int64
	var fixed atomic.Bool
	keep := &distgear.Action[int, int]{Name: "keep", Do: func(_ context.Context, in int) (int, error) { return in, nil },
		Undo: func(context.Context, distgear.Did[int, int]) error {
			if fixed.Load() {
				return nil
			}
			return distgear.Permanent(errors.New("it cannot be undone"))
		}}
	bad := &distgear.Action[int, int]{Name: "bad", Do: func(context.Context, int) (int, error) { return 0, errors.New("as it was told") }}
	event := &distgear.Event[string, int]{Name: "order", Durable: true, On: func(ctx context.Context, r *distgear.Run, how string) (int, error) {
		switch how {
		case "waits":
			return 1, r.Signal(ctx, "go", nil)
		case "panics":
			if panics.Add(1) <= 3 {
				panic("out of paper")
			}
		case "undo":
			p := distgear.Plan{Name: "p", Rollback: true}
			bad.Step(&p, distgear.Any(), 0, keep.Step(&p, distgear.Any(), 1))
			return 0, r.Do(ctx, &p)
		}
		return 1, nil
	}}
	hs := geartest.Nodes{Handlers: func(*distgear.Node) []distgear.Handler { return []distgear.Handler{keep, bad, event} }}
	body := func(t *testing.T, n *distgear.Node) {
		panics.Store(0)
		fixed.Store(false)
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		s, err := lifecycle.Subscribe(ctx, n, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		raise := func(how string, opts ...distgear.RaiseOption) record.RunID {
			t.Helper()
			f, err := event.Raise(ctx, n, how, opts...)
			if err != nil {
				t.Fatal(err)
			}
			return f.ID()
		}
		check := func(id record.RunID, last record.Happening, want ...string) {
			t.Helper()
			if got := story(ctx, t, s, id, last); got != strings.Join(want, "\n") {
				t.Errorf("%s", got)
			}
		}
		check(raise("ends"), lifecycle.Finished, "accepted", "owned NODE", "finished ok")
		id := raise("waits")
		check(id, lifecycle.Suspended, "accepted", "owned NODE", "suspended NODE")
		if err := n.SignalRun(ctx, id, "go", nil); err != nil {
			t.Fatal(err)
		}
		check(id, lifecycle.Finished, "owned NODE", "finished ok")
		id = raise("ends", distgear.Delay(time.Hour))
		check(id, lifecycle.Accepted, "accepted")
		if err := n.TerminateRun(ctx, id, "no use"); err != nil {
			t.Fatal(err)
		}
		check(id, lifecycle.Finished, "finished failed no use")
		id = raise("undo")
		check(id, lifecycle.Stuck, "accepted", "owned NODE", "stuck NODE keep")
		fixed.Store(true)
		if err := n.ResolveUndo(ctx, id, "keep", record.Retry, ""); err != nil {
			t.Fatal(err)
		}
		check(id, lifecycle.Finished, "finished rolled back")
		id = raise("panics")
		got := story(ctx, t, s, id, lifecycle.Parked)
		if strings.Count(got, "owned NODE") != 3 || strings.Count(got, "suspended") != 2 || !strings.Contains(got, "parked ") || !strings.Contains(got, "out of paper") {
			t.Error(got)
		}
		if err := n.AdoptRun(ctx, id); err != nil {
			t.Fatal(err)
		}
		check(id, lifecycle.Finished, "owned NODE", "finished ok")
		s.Close()
		raise("ends")
		if _, err := s.Next(ctx); !errors.Is(err, shared.ErrClosed) {
			t.Errorf("closed: %v", err)
		}
	}
	t.Run("alone", func(t *testing.T) { body(t, geartest.Alone(t, hs).Here()) })
	t.Run("nodes", func(t *testing.T) { body(t, geartest.StartCluster(t, hs).Here()) })
}

// It is told that an owner was lost, and who owns the run then; who is far behind is cut off.
func TestLifecycle_TakeOver(t *testing.T) {
	var owners atomic.Int64
	hanging := make(chan bool, 1)
	event := &distgear.Event[string, string]{Name: "order", Durable: true, On: func(ctx context.Context, r *distgear.Run, in string) (string, error) {
		if in == "hangs" && owners.Add(1) == 1 {
			hanging <- true
			<-ctx.Done()
			return "", context.Cause(ctx)
		}
		return string(r.Node().Name()), nil
	}}
	c := geartest.StartCluster(t, geartest.Nodes{Count: 2, Proxied: true, Handlers: func(*distgear.Node) []distgear.Handler { return []distgear.Handler{event} }})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	s, err := lifecycle.Subscribe(ctx, c.Here(), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	slow, err := lifecycle.Subscribe(ctx, c.Here(), 2)
	if err != nil {
		t.Fatal(err)
	}
	defer slow.Close()
	f, err := event.Raise(ctx, c.Here(), "hangs", distgear.ID("hangs"))
	if err != nil {
		t.Fatal(err)
	}
	var whats []string
	var lost, next string
	for e, err := range s.All(ctx) {
		if err != nil {
			t.Fatal(err)
		}
		whats = append(whats, string(e.What))
		switch e.What {
		case lifecycle.Owned:
			if next = string(e.Node); lost == "" {
				lost = next
				<-hanging
				c.Cut(e.Node)
			}
		case lifecycle.OwnerGone:
			if string(e.Node) != lost {
				t.Errorf("%s was cut off, and %s is told gone", lost, e.Node)
			}
		}
		if e.What == lifecycle.Finished {
			break
		}
	}
	if got := strings.Join(whats, ", "); got != "accepted, owned, owner gone, owned, finished" || next == lost {
		t.Errorf("%s, by %s, then %s", got, lost, next)
	}
	if out, err := f.Wait(ctx); err != nil || out != next {
		t.Errorf("%q %v", out, err)
	}
	for err == nil {
		_, err = slow.Next(ctx)
	}
	if !errors.Is(err, shared.ErrSlow) {
		t.Errorf("too slow: %v", err)
	}
}
