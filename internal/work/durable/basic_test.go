package durable_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/distgear/distgear"
	"github.com/distgear/distgear/executor"
	"github.com/distgear/distgear/geartest"
)

func TestMain(m *testing.M) {
	geartest.Main(m, geartest.Roles{"hubs": geartest.HubsRole, "worker": chaosWorker, "submitter": chaosSubmitter, "sleeper": sleeper})
}

const slots = 2 // of each worker

var (
	works  = []distgear.Handler{double, slow}
	double = &distgear.Action[int, int]{Name: "double", Idempotent: true, Do: func(_ context.Context, n int) (int, error) { return 2 * n, nil }}
	// slow runs until it is cancelled, or for so many ms.
	slow = &distgear.Action[int, string]{Name: "slow", Idempotent: true, Do: func(ctx context.Context, ms int) (string, error) {
		executor.Progress(ctx, 1, int64(ms))
		t := time.NewTimer(time.Duration(ms) * time.Millisecond)
		defer t.Stop()
		select {
		case <-t.C:
			return "slept", nil
		case <-ctx.Done():
			return "", ctx.Err()
		}
	}}
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

// durably is the executor of the tests about the durable class.
var durably = executor.Config{Durable: true, Retain: 10 * time.Minute}

const durableName = "durable"

// worksDurably works for the durable executor at a node until that has left.
func worksDurably(n *distgear.Node, concurrency int, actions ...distgear.Handler) error {
	err := durably.New(n, durableName).Work(context.Background(), concurrency, actions...)
	if errors.Is(err, distgear.ErrLeft) {
		return nil
	}
	return err
}

// durableCluster is a hub and two nodes of this process that work.
func durableCluster(t *testing.T, configure func(*distgear.Config), actions ...distgear.Handler) (*geartest.Cluster, *executor.Executor) {
	t.Helper()
	var wg sync.WaitGroup
	t.Cleanup(wg.Wait) // when all have left
	c := geartest.StartCluster(t, geartest.Nodes{Count: 2, Configure: configure, Handlers: func(n *distgear.Node) []distgear.Handler {
		wg.Go(func() {
			if err := worksDurably(n, slots, actions...); err != nil {
				t.Errorf("work: %v", err)
			}
		})
		return nil
	}})
	return c, durably.New(c.Here(), durableName)
}

func TestDurable_Results(t *testing.T) {
	_, ex := durableCluster(t, nil, works...)
	ins := make([]int, 5000)
	for i := range ins {
		ins[i] = i
	}
	fs, err := executor.InvokeAll(t.Context(), ex, double, ins...)
	if err != nil {
		t.Fatal(err)
	}
	for i, f := range fs {
		if v, err := f.Wait(t.Context()); v != 2*i || err != nil {
			t.Fatal(i, v, err)
		}
	}
	if err := ex.Await(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// TestDurable_Found: a task is found by its ID from another node, before and after its end.
func TestDurable_Found(t *testing.T) {
	c, ex := durableCluster(t, nil, works...)
	there := durably.New(c.Node(c.Name(0)), durableName)
	f, err := executor.Submit(t.Context(), ex, slow, 50, executor.ID("s"))
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		g, err := executor.Find[string](t.Context(), there, "s")
		if v, err := wait(t, g, err); v != "slept" || err != nil {
			t.Error(v, err)
		}
		if v, err := wait(t, f, nil); v != "slept" || err != nil {
			t.Error(v, err)
		}
	}
	if _, err := executor.Find[string](t.Context(), there, "nobody"); !errors.Is(err, executor.ErrNoTask) {
		t.Error(err)
	}
}

// TestDurable_Large: inputs and results over 64 KiB go by the object store.
func TestDurable_Large(t *testing.T) {
	echo := &distgear.Action[[]byte, []byte]{Name: "echo", Idempotent: true, Do: func(_ context.Context, b []byte) ([]byte, error) {
		if b[0]++; len(b) == 2 {
			return make([]byte, 64<<20+1), nil
		}
		return b, nil
	}}
	_, ex := durableCluster(t, nil, echo)
	for _, n := range []int{1, 64 << 10, 64<<10 + 1, 900 << 10, 8 << 20} {
		in := make([]byte, n)
		in[n-1] = 7
		f, err := executor.Submit(t.Context(), ex, echo, in, executor.ID(fmt.Sprint("large-", n)))
		if out, err := wait(t, f, err); err != nil || len(out) != n || out[0] != 1 && n > 1 || out[n-1] != 7 && n > 1 {
			t.Errorf("%d bytes: %d bytes back: %v", n, len(out), err)
		}
		g, err := executor.Find[[]byte](t.Context(), ex, executor.TaskID(fmt.Sprint("large-", n)))
		if out, err := wait(t, g, err); err != nil || len(out) != n {
			t.Errorf("%d bytes, found: %d bytes back: %v", n, len(out), err)
		}
	}
	for _, n := range []int{64 << 20, 1} { // as an input, and as a result
		f, err := executor.Submit(t.Context(), ex, echo, make([]byte, n+1))
		if err == nil {
			_, err = wait(t, f, nil)
		}
		if !errors.Is(err, distgear.ErrInvalid) || !strings.Contains(err.Error(), "67108864 are allowed") {
			t.Errorf("%d bytes: %v", n+1, err)
		}
	}
}

// TestDurable_Stats: what the hub says of an executor, and a pause.
func TestDurable_Stats(t *testing.T) {
	_, ex := durableCluster(t, nil, works...)
	ctx := t.Context()
	geartest.Eventually(t, 0, "workers are there", func() bool { s, err := ex.Stats(ctx); return err == nil && s.Workers == 2 && s.Slots == 2*slots })
	if err := ex.Pause(ctx, "lunch"); err != nil {
		t.Fatal(err)
	}
	f, err := executor.Submit(ctx, ex, double, 4)
	if s, _ := ex.Stats(ctx); s.Paused != "lunch" || s.Ready != 1 || s.Waiting != 1 {
		t.Error(s)
	}
	if err := ex.Resume(ctx); err != nil {
		t.Fatal(err)
	}
	if v, err := wait(t, f, err); v != 8 || err != nil {
		t.Error(v, err)
	}
	b := executor.Batch("b")
	for i := range 10 {
		if _, err := executor.Submit(ctx, ex, slow, i, b); err != nil {
			t.Fatal(err)
		}
	}
	if end, err := ex.AwaitBatch(ctx, "b"); err != nil || end != (executor.BatchEnd{OK: 10}) {
		t.Error(end, err)
	}
}

// TestDurable_Cancel: what waits ends at once, what runs when it heeds its context.
func TestDurable_Cancel(t *testing.T) {
	_, ex := durableCluster(t, nil, works...)
	var fs []*executor.Future[string]
	for range 2*slots + 3 {
		f, err := executor.Submit(t.Context(), ex, slow, 60_000)
		if err != nil {
			t.Fatal(err)
		}
		fs = append(fs, f)
	}
	geartest.Eventually(t, 0, "progress", func() bool { done, total := fs[0].Progress(); return done == 1 && total == 60_000 })
	for i, f := range fs {
		f.Cancel()
		f.Cancel()
		if _, err := wait(t, f, nil); !errors.Is(err, distgear.ErrCancelled) {
			t.Error(i, err)
		}
	}
	f, err := executor.Submit(t.Context(), ex, double, 4)
	if v, err := wait(t, f, err); v != 8 || err != nil {
		t.Error(v, err)
	}
}

// TestDurable_Full: who submits more waits in line, or gives up, or is refused.
func TestDurable_Full(t *testing.T) {
	c := geartest.StartCluster(t, geartest.Nodes{Count: 1})
	cfg := executor.Config{Durable: true, Capacity: 3}
	ex := cfg.New(c.Here(), durableName)
	ctx := t.Context()
	for i := range 3 {
		if _, err := executor.Submit(ctx, ex, double, i); err != nil {
			t.Fatal(err)
		}
	}
	short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	if fs, err := executor.InvokeAll(short, ex, double, 3, 4); !errors.Is(err, context.DeadlineExceeded) || len(fs) != 0 {
		t.Error(len(fs), err)
	}
	all := make(chan error, 1)
	go func() {
		fs, err := executor.InvokeAll(ctx, ex, double, 5, 6, 7, 8)
		if err == nil && len(fs) != 4 {
			err = fmt.Errorf("%d are in", len(fs))
		}
		all <- err
	}()
	geartest.Eventually(t, 0, "four wait in line", func() bool { s, err := ex.Stats(ctx); return err == nil && s.Waiting == 7 })
	work, stop := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- cfg.New(c.Node(c.Name(0)), durableName).Work(work, 1, works...) }()
	if err := <-all; err != nil {
		t.Error(err)
	}
	if err := ex.Shutdown(ctx); err != nil {
		t.Error(err)
	}
	if _, err := executor.Submit(ctx, ex, double, 1); !errors.Is(err, executor.ErrShutdown) {
		t.Error(err)
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
	refuses := executor.Config{Durable: true, Capacity: 3, Refuse: true}.New(c.Here(), "refuses")
	if fs, err := executor.InvokeAll(ctx, refuses, double, 1, 2, 3, 4, 5); !errors.Is(err, executor.ErrFull) || len(fs) != 3 {
		t.Error(len(fs), err)
	}
	if _, err := executor.Submit(ctx, refuses, double, 1); !errors.Is(err, executor.ErrFull) {
		t.Error(err)
	}
}

// TestDurable_Schedule: a schedule fires, each time once, whoever reads it.
func TestDurable_Schedule(t *testing.T) {
	c, ex := durableCluster(t, nil, works...)
	ctx := t.Context()
	if err := executor.Every(ctx, ex, "often", "@every 1s", double, 21); err != nil {
		t.Fatal(err)
	}
	geartest.Eventually(t, 10*time.Second, "two of its tasks have ended", func() bool { s, err := ex.Stats(ctx); return err == nil && s.Ended >= 2 })
	if err := executor.Every(ctx, ex, "later", "30 9 * * *", slow, 1, executor.LeaveOut); err != nil {
		t.Fatal(err)
	}
	all, err := ex.Schedules(ctx)
	if err != nil || len(all) != 2 || all[0].Name != "later" || all[1].Name != "often" {
		t.Fatalf("%+v, %v", all, err)
	}
	if s := all[0]; s.When != "30 9 * * *" || s.Action != slow.Name || s.Missed != executor.LeaveOut || s.Next.Hour() != 9 || s.Next.Minute() != 30 || !s.Last.IsZero() {
		t.Errorf("%+v", s)
	}
	if s := all[1]; s.Missed != executor.CatchUp || time.Since(s.Last) > time.Minute || s.Last.After(time.Now()) {
		t.Errorf("%+v", s)
	}
	if err := ex.PauseSchedule(ctx, "often"); err != nil {
		t.Error(err)
	}
	if all, err = ex.Schedules(ctx); err != nil || all[0].Paused || !all[1].Paused {
		t.Errorf("%+v, %v", all, err)
	}
	if err := ex.ResumeSchedule(ctx, "often"); err != nil {
		t.Error(err)
	}
	if err := ex.ResumeSchedule(ctx, "nobody"); !errors.Is(err, distgear.ErrInvalid) {
		t.Error(err)
	}
	if err := ex.Unschedule(ctx, "often"); err != nil {
		t.Error(err)
	}
	if err := ex.Unschedule(ctx, "often"); !errors.Is(err, distgear.ErrInvalid) {
		t.Error(err)
	}
	if err := executor.Every(ctx, ex, "bad", "every day", double, 21); !errors.Is(err, distgear.ErrInvalid) || !strings.Contains(err.Error(), `schedule "bad": `) {
		t.Error(err)
	}
	if err := executor.Every(ctx, executor.New(c.Here(), "fast"), "often", "@daily", double, 21); !errors.Is(err, distgear.ErrInvalid) {
		t.Error(err)
	}
	if _, err := executor.New(c.Here(), "fast").Schedules(ctx); !errors.Is(err, distgear.ErrInvalid) {
		t.Error(err)
	}
}
