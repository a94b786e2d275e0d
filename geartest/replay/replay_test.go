package replay_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/distgear/distgear"
	"github.com/distgear/distgear/geartest"
	"github.com/distgear/distgear/geartest/replay"
	"github.com/distgear/distgear/record"
)

func TestMain(m *testing.M) { geartest.Main(m, nil) }

// patience is how long a test waits for what should come at once.
const patience = 30 * time.Second

type (
	action  = distgear.Action[int, int]
	handler = func(ctx context.Context, r *distgear.Run, in int) (int, error)
)

var (
	pay  = &action{Name: "pay", Do: func(_ context.Context, in int) (int, error) { return in + 1, nil }, Undo: func(context.Context, distgear.Did[int, int]) error { return nil }}
	pack = &action{Name: "pack", Do: func(_ context.Context, in int) (int, error) { return in, nil }}
	ship = &action{Name: "ship", Do: func(_ context.Context, in int) (int, error) { return in, nil }}
)

func event(on handler) *distgear.Event[int, int] {
	return &distgear.Event[int, int]{Name: "order", Durable: true, On: on}
}

// plan runs a plan of these actions, one after the other.
func plan(ctx context.Context, r *distgear.Run, name string, in int, as ...*action) error {
	p := distgear.Plan{Name: name, Rollback: true}
	var after []distgear.Dep
	for _, a := range as {
		after = []distgear.Dep{a.Step(&p, distgear.Any(), in, after...)}
	}
	return r.Do(ctx, &p)
}

// first is the version that made the journals: it waits after two plans.
func first(ctx context.Context, r *distgear.Run, in int) (int, error) {
	_ = r.Rand()
	if err := plan(ctx, r, "pay", in, pay); err != nil {
		return 0, err
	}
	if err := plan(ctx, r, "pack", in, pack, ship); err != nil {
		return 0, err
	}
	if err := r.Signal(ctx, "sent", nil); err != nil {
		return 0, err
	}
	return in, nil
}

// bubble runs a test whose seconds cost nothing.
func bubble(t *testing.T, name string, f func(t *testing.T)) {
	t.Run(name, func(t *testing.T) { synctest.Test(t, f) })
}

// recorded is a run of the first version, while it waits, and when it has ended.
func recorded(t *testing.T) (waits, ended *replay.Journal) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { waits, ended = recordBoth(t) })
	return waits, ended
}

func recordBoth(t *testing.T) (waits, ended *replay.Journal) {
	n := geartest.Alone(t, geartest.Nodes{Handlers: func(*distgear.Node) []distgear.Handler {
		return []distgear.Handler{pay, pack, ship, event(first)}
	}}).Here()
	f, err := event(nil).Raise(t.Context(), n, 7, distgear.ID("o-1"))
	if err != nil {
		t.Fatal(err)
	}
	geartest.Eventually(t, patience, "it waits", func() bool {
		rec, err := n.FindRun(t.Context(), f.ID())
		return err == nil && rec.State == record.Waiting
	})
	j, err := replay.Record(t.Context(), n, f.ID())
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "o-1.json")
	if err := j.Write(file); err != nil {
		t.Fatal(err)
	}
	if waits, err = replay.Read(file); err != nil {
		t.Fatal(err)
	}
	if err := n.SignalRun(t.Context(), f.ID(), "sent", nil); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	if ended, err = replay.Record(t.Context(), n, f.ID()); err != nil {
		t.Fatal(err)
	}
	return waits, ended
}

// TestRecord_NotKept: what the ledger has not, or not any more, is an error that says so.
func TestRecord_NotKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := geartest.Alone(t, geartest.Nodes{Handlers: func(*distgear.Node) []distgear.Handler { return []distgear.Handler{large, copied} }}).Here()
		f, err := large.Raise(t.Context(), n, strings.Repeat("x", 40_000))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := replay.Record(t.Context(), n, f.ID()); !errors.Is(err, distgear.ErrInvalid) || !strings.Contains(err.Error(), "has ended") {
			t.Errorf("of a run that has ended, with a large journal: %v", err)
		}
		if _, err := replay.Record(t.Context(), n, "nobody"); !errors.Is(err, distgear.ErrNoRun) {
			t.Errorf("of no run: %v", err)
		}
	})
}

var (
	copied = &distgear.Action[string, string]{Name: "copy", Do: func(_ context.Context, in string) (string, error) { return in, nil }}
	large  = &distgear.Event[string, int]{Name: "large", Durable: true, On: func(ctx context.Context, r *distgear.Run, in string) (int, error) {
		p := distgear.Plan{Name: "copy"}
		copied.Step(&p, distgear.Any(), in)
		return 0, r.Do(ctx, &p)
	}}
)

// TestRead_Bad: what is no recorded journal is an error that names the file.
func TestRead_Bad(t *testing.T) {
	for _, text := range []string{"", "{", "[]", "{}", `{"event":"e"}`} {
		file := filepath.Join(t.TempDir(), "j.json")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := replay.Read(file); err == nil || !strings.Contains(err.Error(), "j.json") {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// TestCheck replays a journal against versions that can go on with it, and others.
func TestCheck(t *testing.T) {
	j, whole := recorded(t)
	if tells := strings.Join(j.Tells, "\n"); !strings.Contains(tells, "planned pack") || !strings.Contains(tells, "reported pack/pack ok") {
		t.Errorf("it tells %s", tells)
	}
	for name, x := range map[string]struct {
		on   handler
		want string // in the difference; empty: none
	}{
		"the same": {on: first},
		"more is waited for after": {on: func(ctx context.Context, r *distgear.Run, in int) (int, error) {
			if _, err := first(ctx, r, in); err != nil {
				return 0, err
			}
			return in, r.Signal(ctx, "paid", nil)
		}},
		"another plan after": {on: func(ctx context.Context, r *distgear.Run, in int) (int, error) {
			if err := plan(ctx, r, "pay", in, pay); err != nil {
				return 0, err
			}
			_ = r.Now()
			if err := plan(ctx, r, "pack", in, pack, ship); err != nil {
				return 0, err
			}
			return 0, plan(ctx, r, "bill", in, pay)
		}},
		"it ends after": {on: func(ctx context.Context, r *distgear.Run, in int) (int, error) {
			return 0, errors.Join(plan(ctx, r, "pay", in, pay), plan(ctx, r, "pack", in, pack, ship))
		}},
		"a step less": {on: func(ctx context.Context, r *distgear.Run, in int) (int, error) {
			return 0, errors.Join(plan(ctx, r, "pay", in, pay), plan(ctx, r, "pack", in, ship))
		}, want: "step pack (ok): gone"},
		"a plan before": {on: func(ctx context.Context, r *distgear.Run, in int) (int, error) {
			if err := plan(ctx, r, "check", in, pay); err != nil {
				return 0, err
			}
			return first(ctx, r, in)
		}, want: `it makes a plan "check" before it has come to what the journal has: plan pay, pack`},
		"it waits before": {on: func(ctx context.Context, r *distgear.Run, in int) (int, error) {
			if err := plan(ctx, r, "pay", in, pay); err != nil {
				return 0, err
			}
			return 0, r.Signal(ctx, "packed", nil)
		}, want: "it waits before it has come to what the journal has: plan pack"},
		"a plan is gone": {on: func(ctx context.Context, r *distgear.Run, in int) (int, error) {
			return 0, plan(ctx, r, "pay", in, pay)
		}, want: `has a plan "pack"`},
		"it panics": {on: func(context.Context, *distgear.Run, int) (int, error) { panic("as it was told") }, want: "panicked: as it was told"},
	} {
		for at, j := range map[string]*replay.Journal{"while it waits": j, "when it has ended": whole} {
			bubble(t, name+" "+at, func(t *testing.T) {
				err := j.Check(t.Context(), event(x.on))
				if d, ok := errors.AsType[*replay.Difference](err); x.want == "" && err != nil || x.want != "" && (!ok || !strings.Contains(d.Text, x.want)) {
					t.Errorf("%v, want %q", err, x.want)
				}
			})
		}
	}
	bubble(t, "bad input", func(t *testing.T) {
		if err := j.Check(t.Context(), pay); !errors.Is(err, distgear.ErrInvalid) {
			t.Errorf("without a handler: %v", err)
		}
		text := &distgear.Event[[]string, int]{Name: "order", Durable: true, On: func(context.Context, *distgear.Run, []string) (int, error) { return 0, nil }}
		if _, ok := errors.AsType[*replay.Difference](j.Check(t.Context(), text)); !ok {
			t.Error("a handler that wants another input may go on")
		}
		newer := *j
		newer.Units = [][]byte{{99}}
		if err := newer.Check(t.Context(), event(first)); !errors.Is(err, distgear.ErrInvalid) || !strings.Contains(err.Error(), "newer") {
			t.Errorf("of a newer version: %v", err)
		}
		none, cancel := context.WithCancel(t.Context())
		cancel()
		if err := j.Check(none, event(first)); err == nil {
			t.Error("under a context that has ended it says nothing")
		}
	})
}

// TestCheck_Going: of a run whose step is being done nobody knows more; a handler that
// gives its plan another shape is found out.
func TestCheck_Going(t *testing.T) { synctest.Test(t, checkGoing) }

func checkGoing(t *testing.T) {
	begun, open := make(chan struct{}), make(chan struct{})
	slow := &action{Name: "ship", Do: func(ctx context.Context, in int) (int, error) {
		close(begun)
		select {
		case <-open:
		case <-ctx.Done():
		}
		return in, nil
	}}
	goes := func(ctx context.Context, r *distgear.Run, in int) (int, error) {
		if err := r.Sleep(ctx, time.Millisecond); err != nil {
			return 0, err
		}
		return in, plan(ctx, r, "go", in, pay, slow)
	}
	n := geartest.Alone(t, geartest.Nodes{Handlers: func(*distgear.Node) []distgear.Handler { return []distgear.Handler{pay, slow, event(goes)} }}).Here()
	f, err := event(nil).Raise(t.Context(), n, 7)
	if err != nil {
		t.Fatal(err)
	}
	<-begun
	j, err := replay.Record(t.Context(), n, f.ID())
	close(open)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Wait(t.Context()); err != nil {
		t.Error(err)
	}
	if err := j.Check(t.Context(), event(goes)); err != nil {
		t.Error(err)
	}
	err = j.Check(t.Context(), event(func(ctx context.Context, r *distgear.Run, in int) (int, error) {
		return in, plan(ctx, r, "go", in, slow, pay)
	}))
	if d, ok := errors.AsType[*replay.Difference](err); !ok || !strings.Contains(d.Text, "step ship (sent to node-1): came after pay, now nothing") {
		t.Errorf("%v", err)
	}
}

// TestCheck_Later: what was recorded long ago is checked as if it were then, also a run
// whose time is up by now.
func TestCheck_Later(t *testing.T) {
	waits, ended := recorded(t)
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(365 * 24 * time.Hour)
		e := event(func(ctx context.Context, r *distgear.Run, in int) (int, error) {
			if ctx.Err() != nil {
				return 0, ctx.Err()
			}
			return first(ctx, r, in)
		})
		e.Timeout = time.Hour
		for _, j := range []*replay.Journal{waits, ended} {
			if err := j.Check(t.Context(), e); err != nil {
				t.Error(err)
			}
		}
	})
}

// TestCheck_Stops: a handler that hangs is cancelled with the context.
func TestCheck_Stops(t *testing.T) {
	j, _ := recorded(t)
	j.Units = nil
	synctest.Test(t, func(t *testing.T) { stops(t, j) })
}

func stops(t *testing.T, j *replay.Journal) {
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	err := j.Check(ctx, event(func(ctx context.Context, _ *distgear.Run, _ int) (int, error) {
		<-ctx.Done()
		return 0, ctx.Err()
	}))
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
}
