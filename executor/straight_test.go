package executor_test

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/distgear/distgear"
	"github.com/distgear/distgear/executor"
)

// TestStraight: plain tasks that no machine knows of are as others for who looks,
// cancels, pauses or shuts down.
func TestStraight(t *testing.T) {
	slots := runtime.GOMAXPROCS(0)
	fill := func(t *testing.T) (*executor.Executor, *gate, []*executor.Future[string]) {
		ex, g := executor.New(alone(t), "straight"), newGate()
		var fs []*executor.Future[string]
		for i := range slots + 3 {
			fs = append(fs, g.submit(t, ex, string(rune('a'+i))))
			if i < slots {
				<-g.began
			}
		}
		return ex, g, fs
	}
	t.Run("stats and order", func(t *testing.T) {
		ex, g, fs := fill(t)
		for range 2 {
			if s, err := ex.Stats(t.Context()); err != nil || s.Leased != slots || s.Ready != 3 || s.Slots != slots || s.Workers != 1 {
				t.Errorf("%+v, %v", s, err)
			}
		}
		last := g.submit(t, ex, "z") // behind those that waited
		close(g.open)
		if err := ex.Await(t.Context()); err != nil {
			t.Fatal(err)
		}
		var got []string
		for range 4 {
			got = append(got, <-g.began)
		}
		if slots == 1 && !slices.IsSorted(got) {
			t.Error(got)
		}
		for _, f := range append(fs, last) {
			if _, err := wait(t, f, nil); err != nil {
				t.Error(err)
			}
		}
	})
	t.Run("cancel", func(t *testing.T) {
		ex, g, fs := fill(t)
		fs[slots].Cancel()
		if _, err := wait(t, fs[slots], nil); !errors.Is(err, distgear.ErrCancelled) {
			t.Error(err)
		}
		fs[0].Cancel()
		close(g.open)
		for i, f := range fs {
			if _, err := wait(t, f, nil); err != nil && i != 0 && i != slots {
				t.Error(i, err)
			}
		}
		if s, _ := ex.Stats(t.Context()); s.Leased+s.Waiting+s.Ended != 0 {
			t.Errorf("%+v", s)
		}
	})
	t.Run("pause", func(t *testing.T) {
		ex, g, fs := fill(t)
		_ = ex.Pause(t.Context(), "lunch")
		close(g.open)
		for _, f := range fs[:slots] {
			if _, err := wait(t, f, nil); err != nil {
				t.Error(err)
			}
		}
		f, err := executor.Submit(t.Context(), ex, double, 1)
		if s, _ := ex.Stats(t.Context()); s.Leased != 0 || s.Ready != 4 || err != nil {
			t.Errorf("%+v, %v", s, err)
		}
		_ = ex.Resume(t.Context())
		if _, err := f.Wait(context.Background()); err != nil {
			t.Error(err)
		}
	})
	t.Run("shutdown", func(t *testing.T) {
		ex, g, fs := fill(t)
		stopped := make(chan int)
		go func() {
			n, _ := ex.ShutdownNow(context.Background())
			stopped <- n
		}()
		for _, f := range fs[slots:] {
			if _, err := wait(t, f, nil); !errors.Is(err, executor.ErrShutdown) {
				t.Error(err)
			}
		}
		close(g.open)
		if n := <-stopped; n != 3 {
			t.Error(n)
		}
	})
	t.Run("somebody works", func(t *testing.T) {
		ex, g, fs := fill(t)
		worksOn(t, ex, 3, g.act)
		for range 3 {
			<-g.began
		}
		close(g.open)
		for _, f := range fs {
			if _, err := wait(t, f, nil); err != nil {
				t.Error(err)
			}
		}
	})
	t.Run("retries and names", func(t *testing.T) {
		ex := executor.New(alone(t), "straight")
		var runs atomic.Int32
		again := &distgear.Action[int, string]{Name: "again", Retries: 1, Do: func(ctx context.Context, _ int) (string, error) {
			if runs.Add(1)%2 == 1 {
				return "", distgear.RetryAfter(distgear.Clean(errTold), 1)
			}
			return distgear.KeyOf(ctx), nil
		}}
		seen := map[executor.TaskID]bool{}
		for range 3 {
			f, err := executor.Submit(t.Context(), ex, again, 0)
			if err != nil {
				t.Fatal(err)
			}
			if k, err := f.Wait(context.Background()); err != nil || k != string(f.ID()) || seen[f.ID()] {
				t.Error(k, f.ID(), err)
			}
			seen[f.ID()] = true
		}
	})
	t.Run("who waits runs it", func(t *testing.T) {
		ex := executor.New(alone(t), "straight")
		var now, most atomic.Int32
		busy := &distgear.Action[int, int]{Name: "busy", Do: func(_ context.Context, i int) (int, error) {
			if n := now.Add(1); n > most.Load() {
				most.Store(n)
			}
			defer now.Add(-1)
			runtime.Gosched()
			if i%7 == 0 {
				panic(i)
			}
			return i, nil
		}}
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				for i := range 500 {
					f, err := executor.Submit(t.Context(), ex, busy, i)
					if err != nil {
						t.Error(err)
						return
					}
					if i%50 == 0 {
						_, _ = ex.Stats(t.Context())
					}
					if v, err := f.Wait(context.Background()); v != i && err == nil || (i%7 == 0) != (err != nil) {
						t.Error(i, v, err)
					}
				}
			})
		}
		wg.Wait()
		if int(most.Load()) > slots {
			t.Errorf("%d ran at once, want %d", most.Load(), slots)
		}
		if s, _ := ex.Stats(t.Context()); s.Leased+s.Waiting != 0 {
			t.Errorf("%+v", s)
		}
	})
}
