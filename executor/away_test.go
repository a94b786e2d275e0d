package executor_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/distgear/distgear"
	"github.com/distgear/distgear/cluster"
	"github.com/distgear/distgear/executor"
	"github.com/distgear/distgear/geartest"
)

// workers starts a cluster with processes that work, and the pool of the hub's node.
func workers(t testing.TB, count int) *pool {
	t.Helper()
	c := geartest.StartCluster(t, geartest.Nodes{Count: count, Role: "worker"})
	p := &pool{Executor: executor.New(c.Here(), poolName), c: c, n: c.Here(), workers: count}
	p.await(t, count)
	return p
}

func (p *pool) await(t testing.TB, count int) {
	t.Helper()
	geartest.Eventually(t, 0, fmt.Sprintf("%d workers", count), func() bool {
		s, err := p.Stats(t.Context())
		return err == nil && s.Slots == count*slots
	})
}

// TestWorkerKilled: idempotent tasks go to another worker, others are unknown.
func TestWorkerKilled(t *testing.T) {
	p := workers(t, 2)
	ctx := t.Context()
	var again, once []*executor.Future[string]
	for range 4 { // two in each worker
		f, err := executor.Submit(ctx, p.Executor, slow, 300)
		if err != nil {
			t.Fatal(err)
		}
		again = append(again, f)
	}
	for _, f := range again { // all run
		geartest.Eventually(t, 0, "it runs", func() bool { n, _ := f.Progress(); return n == 1 })
	}
	p.c.Process(p.c.Name(0)).Kill()
	for _, f := range again {
		if v, err := f.Wait(ctx); v != "slept" || err != nil {
			t.Error(v, err)
		}
	}
	p.c.Await(p.c.Name(0), cluster.Lost)
	p.await(t, 1)
	for range 2 {
		f, err := executor.Submit(ctx, p.Executor, slowOnce, 60_000)
		if err != nil {
			t.Fatal(err)
		}
		once = append(once, f)
	}
	for _, f := range once {
		geartest.Eventually(t, 0, "it runs", func() bool { n, _ := f.Progress(); return n == 1 })
	}
	waits, err := executor.Submit(ctx, p.Executor, double, 5)
	if err != nil {
		t.Fatal(err)
	}
	p.c.Process(p.c.Name(1)).Kill()
	for _, f := range once {
		if _, err := f.Wait(ctx); !errors.Is(err, distgear.ErrUnknown) {
			t.Error(err)
		}
	}
	// Nobody works now: what waits goes on doing so, until somebody does.
	p.await(t, 0)
	p.c.Start(p.c.Name(0))
	if v, err := waits.Wait(ctx); v != 10 || err != nil {
		t.Error(v, err)
	}
}

// TestWorkersComeAndGo: nodes that work join and leave while tasks run; none is lost.
func TestWorkersComeAndGo(t *testing.T) {
	c := geartest.StartCluster(t, geartest.Nodes{Count: 2, Handlers: func(*distgear.Node) []distgear.Handler { return nil }})
	ex := executor.New(c.Here(), "come-and-go")
	var wg sync.WaitGroup
	stop := make(chan struct{})
	for i := range 2 {
		w := executor.New(c.Node(c.Name(i)), "come-and-go")
		wg.Go(func() {
			for round := 0; ; round++ {
				select {
				case <-stop:
					return
				default:
				}
				ctx, cancel := context.WithTimeout(context.Background(), time.Duration(5+7*i+round%5)*time.Millisecond)
				if err := w.Work(ctx, 1+round%3, double, slowOnce); err != nil {
					t.Error(err)
				}
				cancel()
			}
		})
	}
	ctx := t.Context()
	var fs []*executor.Future[int]
	var gs []*executor.Future[string]
	for i := range 3000 {
		f, err := executor.Submit(ctx, ex, double, i)
		if err != nil {
			t.Fatal(err)
		}
		fs = append(fs, f)
		if i%30 == 0 { // it is not idempotent, and no worker is lost
			g, err := executor.Submit(ctx, ex, slowOnce, 1)
			if err != nil {
				t.Fatal(err)
			}
			gs = append(gs, g)
		}
	}
	for i, f := range fs {
		if v, err := f.Wait(ctx); v != 2*i || err != nil {
			t.Fatal(i, v, err)
		}
	}
	for _, g := range gs {
		if _, err := g.Wait(ctx); err != nil {
			t.Error(err)
		}
	}
	close(stop)
	wg.Wait()
}

// TestWorkerLeaves: a node that leaves finishes what runs and gives back the rest.
func TestWorkerLeaves(t *testing.T) {
	p := workers(t, 2)
	var fs []*executor.Future[string]
	for range 40 {
		f, err := executor.Submit(t.Context(), p.Executor, slowOnce, 20)
		if err != nil {
			t.Fatal(err)
		}
		fs = append(fs, f)
	}
	if err := p.c.Process(p.c.Name(0)).Stop(); err != nil {
		t.Error(err)
	}
	for _, f := range fs {
		if v, err := f.Wait(t.Context()); v != "slept" || err != nil {
			t.Error(v, err)
		}
	}
}

// TestSubmitterGone: the tasks of a process that was killed, or has left, are cancelled
// where they run, and leave their slots to others.
func TestSubmitterGone(t *testing.T) {
	for state, end := range map[cluster.State]func(*geartest.Process) error{
		cluster.Lost: func(p *geartest.Process) error { p.Kill(); return nil },
		cluster.Left: (*geartest.Process).Stop,
	} {
		t.Run(state.String(), func(t *testing.T) {
			c := geartest.StartCluster(t, geartest.Nodes{Count: 1, Role: "submitter"})
			ex := executor.New(c.Here(), poolName)
			ctx, stop := context.WithCancel(t.Context())
			var wg sync.WaitGroup
			wg.Go(func() {
				if err := ex.Work(ctx, slots, works...); err != nil {
					t.Error(err)
				}
			})
			defer wg.Wait()
			defer stop()
			geartest.Eventually(t, 0, "they run", func() bool { return running.Load() == slots })
			if err := end(c.Process(c.Name(0))); err != nil {
				t.Error(err)
			}
			c.Await(c.Name(0), state)
			if v, err := wait2(executor.Submit(ctx, ex, double, 4))(t); v != 8 || err != nil {
				t.Error(v, err)
			}
			geartest.Eventually(t, 0, "none runs", func() bool { return running.Load() == 0 })
		})
	}
}

// TestUnreadable: an input that the worker's action does not take is an error.
func TestUnreadable(t *testing.T) {
	p := workers(t, 1)
	text := &distgear.Action[string, string]{Name: double.Name, Do: func(context.Context, string) (string, error) { return "", nil }}
	_, err := wait2(executor.Submit(t.Context(), p.Executor, text, "seven"))(t)
	if !errors.Is(err, distgear.ErrInvalid) || distgear.OutcomeOf(err) != distgear.NeverRan {
		t.Error(err)
	}
	if _, err := executor.Submit(t.Context(), p.Executor, grow, make([]int, 2_000_000)); err != nil && !errors.Is(err, distgear.ErrInvalid) {
		t.Error(err)
	}
}

// BenchmarkAway is one submitter and two processes that work.
func BenchmarkAway(b *testing.B) {
	p := workers(b, 2)
	ctx := context.Background()
	const window = 20_000
	fs := make([]*executor.Future[int], window)
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		k := i % window
		if fs[k] != nil {
			if v, err := fs[k].Wait(ctx); v != 2*(i-window) || err != nil {
				b.Fatal(v, err)
			}
		}
		f, err := executor.Submit(ctx, p.Executor, double, i)
		if err != nil {
			b.Fatal(err)
		}
		fs[k] = f
		i++
	}
	for ; i%window != 0 && fs[i%window] != nil; i++ {
		if _, err := fs[i%window].Wait(ctx); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "tasks/s")
}
