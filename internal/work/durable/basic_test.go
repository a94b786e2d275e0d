package durable_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/distgear/distgear"
	"github.com/distgear/distgear/executor"
	"github.com/distgear/distgear/geartest"
)

func TestMain(m *testing.M) { geartest.Main(m, nil) }

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
		b[0]++
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
	if _, err := executor.Submit(t.Context(), ex, echo, make([]byte, 64<<20+1)); !errors.Is(err, distgear.ErrInvalid) {
		t.Error(err)
	}
}
