package executor_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/distgear/distgear"
	"github.com/distgear/distgear/executor"
	"github.com/distgear/distgear/geartest"
)

func wait[T any](t *testing.T, f *executor.Future[T], err error) (T, error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	return f.Wait(ctx)
}

// TestPool is what an executor does in all placements.
func TestPool(t *testing.T) { poolTable(t, executor.Config{}) }

func poolTable(t *testing.T, cfg executor.Config) {
	placements(t, cfg, func(t *testing.T, p *pool) {
		ctx := t.Context()
		ex := p.Executor
		t.Run("results", func(t *testing.T) {
			ins := make([]int, 1000)
			for i := range ins {
				ins[i] = i
			}
			fs, err := executor.InvokeAll(ctx, ex, double, ins...)
			if err != nil {
				t.Fatal(err)
			}
			for i, f := range fs {
				if v, err := f.Wait(ctx); v != 2*i || err != nil {
					t.Fatal(i, v, err)
				}
			}
			if s, err := ex.Stats(ctx); err != nil || s.Waiting+s.Leased+s.Parked+s.Ended != 0 && !p.durable {
				t.Error("something is left", s, err)
			}
		})
		t.Run("values are not shared", func(t *testing.T) {
			in := []int{1, 2}
			f, err := executor.Submit(ctx, ex, grow, in)
			in[0] = 100
			out, err := wait(t, f, err)
			if err != nil || !slices.Equal(out, []int{2, 2, 2}) || in[0] != 100 {
				t.Error(in, out, err)
			}
		})
		t.Run("failures", func(t *testing.T) { failures(t, p) })
		t.Run("retries", func(t *testing.T) {
			for _, how := range []string{"clean", "after"} {
				f, err := executor.Submit(ctx, ex, flaky, how, executor.ID(fmt.Sprintf("flaky-%s-%d", how, counted.Add(1))))
				if v, err := wait(t, f, err); v != 3 || err != nil { // at one of the workers
					t.Error(how, v, err)
				}
			}
		})
		t.Run("cancel", func(t *testing.T) { cancels(t, p) })
		t.Run("IDs", func(t *testing.T) { ids(t, p) })
		t.Run("times", func(t *testing.T) { times(t, p) })
		t.Run("progress", func(t *testing.T) {
			f, err := executor.Submit(ctx, ex, slow, 60_000)
			if err != nil {
				t.Fatal(err)
			}
			geartest.Eventually(t, 0, "progress", func() bool { done, total := f.Progress(); return done == 1 && total == 60_000 })
			f.Cancel()
			if _, err := wait(t, f, nil); !errors.Is(err, distgear.ErrCancelled) {
				t.Error(err)
			}
		})
		t.Run("batch", func(t *testing.T) { batches(t, p) })
		t.Run("many", func(t *testing.T) { many(t, p) })
		t.Run("pause", func(t *testing.T) {
			if err := ex.Pause(ctx, "lunch"); err != nil {
				t.Fatal(err)
			}
			f, err := executor.Submit(ctx, ex, double, 4)
			if s, _ := ex.Stats(ctx); s.Paused != "lunch" || s.Ready != 1 {
				t.Error(s)
			}
			if err := ex.Resume(ctx); err != nil {
				t.Fatal(err)
			}
			if v, err := wait(t, f, err); v != 8 || err != nil {
				t.Error(v, err)
			}
		})
		t.Run("labels nobody has", func(t *testing.T) {
			f, err := executor.Submit(ctx, ex, double, 4, executor.Labels{"gpu=yes"})
			if err != nil {
				t.Fatal(err)
			}
			short, cancel := context.WithCancelCause(ctx)
			cancel(errTold)
			if _, err := f.Wait(short); !errors.Is(err, errTold) {
				t.Error(err)
			}
			f.Cancel()
			if _, err := wait(t, f, nil); !errors.Is(err, distgear.ErrCancelled) {
				t.Error(err)
			}
		})
		t.Run("large", func(t *testing.T) {
			v, err := wait2(executor.Submit(ctx, ex, blob, 500_000))(t)
			if len(v) != 500_000 || err != nil {
				t.Error(len(v), err)
			}
			v, err = wait2(executor.Submit(ctx, ex, blob, 5_000_000))(t)
			if len(v) != 5_000_000 || err != nil {
				t.Error(len(v), err)
			}
		})
		t.Run("shutdown", func(t *testing.T) {
			f, err := executor.Submit(ctx, ex, slow, 20)
			if err != nil {
				t.Fatal(err)
			}
			if err := ex.Shutdown(ctx); err != nil {
				t.Fatal(err)
			}
			select {
			case <-f.Done():
			default:
				t.Error("Shutdown did not wait")
			}
			if _, err := executor.Submit(ctx, ex, double, 1); !errors.Is(err, executor.ErrShutdown) {
				t.Error(err)
			}
			if fs, err := executor.InvokeAll(ctx, ex, double, 1, 2); len(fs) != 0 || !errors.Is(err, executor.ErrShutdown) {
				t.Error(fs, err)
			}
		})
	})
}

func wait2[T any](f *executor.Future[T], err error) func(*testing.T) (T, error) {
	return func(t *testing.T) (T, error) { t.Helper(); return wait(t, f, err) }
}

func failures(t *testing.T, p *pool) {
	ctx := t.Context()
	for _, c := range []struct {
		how     string
		text    string
		outcome distgear.Outcome
		is      error
	}{
		{"clean", "try ", distgear.FailedClean, errTold},
		{"dirty", "try 1", distgear.FailedDirty, errTold},
		{"permanent", "try 1", distgear.FailedClean, errTold},
		{"panic", "panic: try 1", distgear.FailedDirty, nil},
	} {
		_, err := wait2(executor.Submit(ctx, p.Executor, fails, c.how))(t)
		var e *distgear.RemoteError
		if !errors.As(err, &e) || e.Outcome != c.outcome || !strings.Contains(e.Message, c.text) || e.Kind != "fails" || e.Node == "" {
			t.Errorf("%s: %v (%+v)", c.how, err, e)
			continue
		}
		if c.is != nil && !errors.Is(err, c.is) {
			t.Errorf("%s: %v is not %v", c.how, err, c.is)
		}
		if c.how == "panic" && !strings.Contains(e.Stack, "place_test.go") {
			t.Errorf("the panic has no stack: %q", e.Stack)
		}
		if c.how == "clean" && p.workers == 1 && e.Message != "try 4: told so" {
			t.Errorf("3 retries: %v", err)
		}
	}
}

func cancels(t *testing.T, p *pool) {
	ctx := t.Context()
	var fs []*executor.Future[string]
	for range p.workers*slots + 3 {
		f, err := executor.Submit(ctx, p.Executor, slow, 60_000)
		if err != nil {
			t.Fatal(err)
		}
		fs = append(fs, f)
	}
	geartest.Eventually(t, 0, "all slots are taken", func() bool { s, _ := p.Stats(ctx); return s.Leased >= p.workers*slots })
	for i, f := range slices.Backward(fs) { // first what waits, then what runs
		f.Cancel()
		f.Cancel()
		if _, err := wait(t, f, nil); !errors.Is(err, distgear.ErrCancelled) {
			t.Error(i, err)
		}
	}
	f, err := executor.Submit(ctx, p.Executor, double, 4)
	if v, err := wait(t, f, err); v != 8 || err != nil {
		t.Error(v, err)
	}
	f.Cancel() // of no use
	if v, err := wait(t, f, nil); v != 8 || err != nil {
		t.Error(v, err)
	}
}

func ids(t *testing.T, p *pool) {
	ctx := t.Context()
	id := executor.ID("the-one")
	f, err := executor.Submit(ctx, p.Executor, keyed, struct{}{}, id)
	if v, err := wait(t, f, err); v != "the-one" || err != nil || f.ID() != "the-one" {
		t.Error(v, err, f.ID())
	}
	g, err := executor.Submit(ctx, p.Executor, keyed, struct{}{}, id)
	if v, err := wait(t, g, err); v != "the-one" || err != nil || g == f {
		t.Error("the same task again:", v, err)
	}
	h, err := executor.Find[string](ctx, p.Executor, "the-one")
	if v, err := wait(t, h, err); v != "the-one" || err != nil {
		t.Error("found:", v, err)
	}
	if k, err := executor.Find[int](ctx, p.Executor, "the-one"); err == nil {
		if _, err = wait(t, k, nil); !errors.Is(err, distgear.ErrConflict) && !(p.durable && errors.Is(err, distgear.ErrInvalid)) {
			t.Error("another type:", err)
		}
	}
	if _, err := executor.Submit(ctx, p.Executor, double, 1, id); !errors.Is(err, distgear.ErrConflict) {
		t.Error("another action:", err)
	}
	if _, err := executor.Find[string](ctx, p.Executor, "nobody"); !errors.Is(err, executor.ErrNoTask) {
		t.Error(err)
	}
	none, err := executor.Submit(ctx, p.Executor, keyed, struct{}{})
	if v, err := wait(t, none, err); v == "" || v != string(none.ID()) || err != nil {
		t.Errorf("a task without an ID has a key of its own: %q %q %v", v, none.ID(), err)
	}
	// One that waits is found as well, and all its handles end with it.
	w, err := executor.Submit(ctx, p.Executor, slow, 60_000, executor.ID("waits"))
	if err != nil {
		t.Fatal(err)
	}
	v, err := executor.Find[string](ctx, p.Executor, "waits")
	if err != nil {
		t.Fatal(err)
	}
	v.Cancel()
	if _, err := wait(t, w, nil); !errors.Is(err, distgear.ErrCancelled) {
		t.Error(err)
	}
	if _, err := wait(t, v, nil); !errors.Is(err, distgear.ErrCancelled) {
		t.Error(err)
	}
}

func times(t *testing.T, p *pool) {
	ctx := t.Context()
	began := time.Now()
	if v, err := wait2(executor.Submit(ctx, p.Executor, double, 1, executor.Delay(50*time.Millisecond)))(t); v != 2 || err != nil || time.Since(began) < 50*time.Millisecond {
		t.Error(v, err, time.Since(began))
	}
	if _, err := wait2(executor.Submit(ctx, p.Executor, double, 1, executor.Labels{"gpu=yes"}, executor.Deadline(time.Now().Add(20*time.Millisecond))))(t); !errors.Is(err, distgear.ErrQueueTimeout) || distgear.OutcomeOf(err) != distgear.NeverRan {
		t.Error(err)
	}
	quick := &distgear.Action[string, string]{Name: fails.Name, Do: fails.Do, Timeout: 20 * time.Millisecond}
	if p.n.HubURL() != "" { // the worker has its own action of that name
		if _, err := wait2(executor.Submit(ctx, p.Executor, quick, "timeout"))(t); !errors.Is(err, distgear.ErrTimeout) {
			t.Error(err)
		}
	}
}

func batches(t *testing.T, p *pool) {
	ctx := t.Context()
	if e, err := p.AwaitBatch(ctx, "nothing"); e != (executor.BatchEnd{}) || err != nil {
		t.Error(e, err)
	}
	for i := range 20 {
		if _, err := executor.Submit(ctx, p.Executor, double, i-2, executor.Batch("b")); err != nil {
			t.Fatal(err)
		}
	}
	f, err := executor.Submit(ctx, p.Executor, slow, 10, executor.Batch("b"))
	if err != nil {
		t.Fatal(err)
	}
	e, err := p.AwaitBatch(ctx, "b")
	if err != nil || e.OK+e.Failed > 21 {
		t.Error(e, err)
	}
	select {
	case <-f.Done():
	default:
		t.Error("the batch ended before its last task")
	}
}

func many(t *testing.T, p *pool) {
	ctx := t.Context()
	ins := func(yield func(int) bool) {
		for i := range 500 {
			if !yield(i) {
				return
			}
		}
	}
	sum := 0
	for v, err := range executor.Map(ctx, p.Executor, double, ins, executor.Ahead(16)) {
		if err != nil {
			t.Fatal(err)
		}
		sum += v
	}
	if sum != 500*499 {
		t.Error(sum)
	}
	next := 0
	for v, err := range executor.Map(ctx, p.Executor, double, ins, executor.Ordered(true)) {
		if err != nil || v != 2*next {
			t.Fatal(next, v, err)
		}
		next++
	}
	if next != 500 {
		t.Error(next)
	}
	failed := 0
	for _, err := range executor.Map(ctx, p.Executor, double, slices.Values([]int{-1, 1, -2})) {
		if errors.Is(err, errOdd) {
			failed++
		}
	}
	if failed != 2 {
		t.Error(failed)
	}
	for _, err := range executor.Map(ctx, p.Executor, slow, slices.Values([]int{1, 60_000, 60_000})) {
		if err != nil {
			t.Error(err)
		}
		break // the others are cancelled
	}
	if err := p.Await(ctx); err != nil {
		t.Fatal(err)
	}
	if v, err := executor.InvokeAny(ctx, p.Executor, slow, 60_000, 5, 60_000); v != "slept" || err != nil {
		t.Error(v, err)
	}
	if _, err := executor.InvokeAny(ctx, p.Executor, double, -1, -2); !errors.Is(err, errOdd) || !strings.Contains(err.Error(), "none of 2 tasks is OK") {
		t.Error(err)
	}
	fs, err := executor.InvokeAll(ctx, p.Executor, slow, 40, 1, 20)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for f := range executor.AsCompleted(ctx, fs...) {
		if _, err := f.Wait(ctx); err != nil {
			t.Error(err)
		}
		n++
	}
	if n != 3 {
		t.Error(n)
	}
	if err := p.Await(ctx); err != nil {
		t.Fatal(err)
	}
	short, cancel := context.WithCancelCause(ctx)
	cancel(errTold)
	var last error
	for _, last = range executor.Map(short, p.Executor, double, ins) {
	}
	if !errors.Is(last, errTold) {
		t.Error(last)
	}
}
