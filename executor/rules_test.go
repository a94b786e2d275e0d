package executor_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/distgear/distgear"
	"github.com/distgear/distgear/executor"
	"github.com/distgear/distgear/geartest"
)

// alone is a node alone.
func alone(t testing.TB) *distgear.Node {
	t.Helper()
	n, err := distgear.Join(context.Background(), distgear.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = n.Leave(context.Background()) })
	return n
}

// gate holds tasks until it is opened, and notes their order.
type gate struct {
	open  chan struct{}
	began chan string // as many as a test has tasks
	act   *distgear.Action[string, string]
}

func newGate() *gate {
	g := &gate{open: make(chan struct{}), began: make(chan string, 1000)}
	g.act = &distgear.Action[string, string]{Name: "gate", Do: func(ctx context.Context, s string) (string, error) {
		g.began <- s
		select {
		case <-g.open:
			return s, nil
		case <-ctx.Done():
			return "", ctx.Err()
		}
	}}
	return g
}

func (g *gate) submit(t *testing.T, ex *executor.Executor, s string, opts ...executor.TaskOption) *executor.Future[string] {
	t.Helper()
	f, err := executor.Submit(t.Context(), ex, g.act, s, opts...)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// worksOn runs Work in the background; stop ends it and returns what it returned.
func worksOn(t *testing.T, ex *executor.Executor, slots int, actions ...distgear.Handler) (stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	before, _ := ex.Stats(ctx)
	go func() { done <- ex.Work(ctx, slots, actions...) }()
	geartest.Eventually(t, 0, "somebody works", func() bool { s, _ := ex.Stats(ctx); return s.Workers > before.Workers })
	stop = sync.OnceValue(func() error { cancel(); return <-done })
	t.Cleanup(func() { _ = stop() })
	return stop
}

// TestOrder: priority, turns of keys, first in first out within one.
func TestOrder(t *testing.T) {
	ex := executor.New(alone(t), "order")
	g := newGate()
	_ = ex.Pause(t.Context(), "")
	for _, s := range []string{"a1", "a2", "a3", "b1", "c1", "c2"} {
		g.submit(t, ex, s, executor.Key(s[:1]))
	}
	g.submit(t, ex, "late", executor.Priority(-1))
	g.submit(t, ex, "first", executor.Priority(5))
	worksOn(t, ex, 1, g.act)
	close(g.open)
	_ = ex.Resume(t.Context())
	if err := ex.Await(t.Context()); err != nil {
		t.Fatal(err)
	}
	var got []string
	for range 8 {
		got = append(got, <-g.began)
	}
	if want := []string{"first", "a1", "b1", "c1", "a2", "c2", "a3", "late"}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

// TestKeyConcurrency: no more than so many of a key at once, while others go on.
func TestKeyConcurrency(t *testing.T) {
	ex := executor.Config{KeyConcurrency: 1, Concurrency: 3}.New(alone(t), "keys")
	g := newGate()
	worksOn(t, ex, 10, g.act)
	for i := range 3 {
		for _, k := range []executor.Key{"a", "b", "c", "d"} {
			g.submit(t, ex, fmt.Sprint(k, i), k)
		}
	}
	var got []string
	for range 3 {
		got = append(got, <-g.began)
	}
	if s, _ := ex.Stats(t.Context()); s.Leased != 3 || s.Ready != 9 {
		t.Error(s)
	}
	keys := map[byte]bool{}
	for _, s := range got {
		keys[s[0]] = true
	}
	if len(keys) != 3 {
		t.Errorf("at once: %v", got)
	}
	close(g.open)
	if err := ex.Await(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// TestRate: attempts do not start faster than that.
func TestRate(t *testing.T) {
	ex := executor.Config{Rate: 200}.New(alone(t), "rate")
	began := time.Now()
	fs, err := executor.InvokeAll(t.Context(), ex, double, slices.Repeat([]int{1}, 60)...)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range fs {
		if _, err := f.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if took := time.Since(began); took < 190*time.Millisecond { // 20 at once, 40 more
		t.Errorf("60 tasks at 200/s took %v", took)
	}
}

// TestCapacity: who submits more waits, or is refused.
func TestCapacity(t *testing.T) {
	n := alone(t)
	g := newGate()
	ex := executor.Config{Capacity: 2, Refuse: true}.New(n, "refuses")
	g.submit(t, ex, "1")
	g.submit(t, ex, "2")
	if _, err := executor.Submit(t.Context(), ex, g.act, "3"); !errors.Is(err, executor.ErrFull) {
		t.Error(err)
	}
	if fs, err := executor.InvokeAll(t.Context(), ex, g.act, "3", "4"); len(fs) != 0 || !errors.Is(err, executor.ErrFull) {
		t.Error(fs, err)
	}
	waits := executor.Config{Capacity: 2}.New(n, "waits")
	worksOn(t, waits, 2, g.act)
	g.submit(t, waits, "1")
	g.submit(t, waits, "2")
	short, cancel := context.WithCancelCause(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := executor.Submit(short, waits, g.act, "3")
		done <- err
	}()
	inLine := func() bool { s, _ := waits.Stats(t.Context()); return s.Waiting == 1 }
	geartest.Eventually(t, 0, "it waits in line", inLine)
	cancel(errTold)
	if err := <-done; !errors.Is(err, executor.ErrFull) || !errors.Is(err, errTold) {
		t.Error(err)
	}
	all := make(chan int, 1)
	go func() {
		fs, err := executor.InvokeAll(t.Context(), waits, g.act, "3", "4", "5", "6", "7")
		for _, f := range fs {
			if _, e := f.Wait(t.Context()); e != nil {
				err = e
			}
		}
		if err != nil {
			t.Error(err)
		}
		all <- len(fs)
	}()
	geartest.Eventually(t, 0, "they wait in line", func() bool { s, _ := waits.Stats(t.Context()); return s.Waiting == 5 })
	close(g.open)
	if n := <-all; n != 5 {
		t.Error(n)
	}
	if err := waits.Await(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// TestShutdownNow gives back what did not start, and waits for what runs.
func TestShutdownNow(t *testing.T) {
	ex := executor.Config{Capacity: 5}.New(alone(t), "now")
	g := newGate()
	worksOn(t, ex, 2, g.act)
	var fs []*executor.Future[string]
	for i := range 5 {
		fs = append(fs, g.submit(t, ex, fmt.Sprint(i)))
	}
	<-g.began
	<-g.began
	line := make(chan error, 1)
	go func() {
		_, err := executor.Submit(t.Context(), ex, g.act, "in line")
		line <- err
	}()
	geartest.Eventually(t, 0, "it waits in line", func() bool { s, _ := ex.Stats(t.Context()); return s.Waiting == 4 })
	short, cancel := context.WithCancelCause(t.Context())
	cancel(errTold)
	if n, err := ex.ShutdownNow(short); n != 4 || !errors.Is(err, errTold) {
		t.Error(n, err)
	}
	if err := <-line; !errors.Is(err, executor.ErrShutdown) {
		t.Error(err)
	}
	for _, f := range fs[2:] {
		if _, err := f.Wait(t.Context()); !errors.Is(err, executor.ErrShutdown) {
			t.Error(err)
		}
	}
	close(g.open)
	if err := ex.Await(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, f := range fs[:2] {
		if _, err := f.Wait(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

// TestWork: it gives back what has not started and finishes what runs, first as it
// likes, then cancelled.
func TestWork(t *testing.T) {
	ex := executor.Config{Grace: 30 * time.Millisecond}.New(alone(t), "work")
	g := newGate()
	stop := worksOn(t, ex, 1, g.act)
	a := g.submit(t, ex, "a")
	b := g.submit(t, ex, "b")
	<-g.began
	if err := stop(); err != nil {
		t.Error(err)
	}
	if _, err := a.Wait(t.Context()); !errors.Is(err, distgear.ErrCancelled) {
		t.Error("after the grace it is cancelled:", err)
	}
	if s := <-g.began; s != "b" { // the process runs it itself, now that nobody works
		t.Error(s)
	}
	close(g.open)
	if _, err := b.Wait(t.Context()); err != nil {
		t.Error(err)
	}
	// While somebody works, an action that nobody offers waits.
	worksOn(t, ex, 1, g.act)
	f, err := executor.Submit(t.Context(), ex, double, 1)
	if err != nil {
		t.Fatal(err)
	}
	short, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if _, err := f.Wait(short); err == nil || !strings.Contains(err.Error(), `no worker of executor "work" offers "double"`) {
		t.Error(err)
	}
	if s, _ := ex.Stats(t.Context()); !slices.Equal(s.Unserved, []string{"double"}) {
		t.Error(s)
	}
	err = nil
	for _, bad := range executor.Map(late(t), ex, double, slices.Values([]int{1})) {
		err = errors.Join(err, bad)
	}
	if _, bad := executor.InvokeAny(late(t), ex, double, 1, 2); !strings.Contains(fmt.Sprint(bad), `no worker of executor "work" offers "double"`) || !errors.Is(bad, context.DeadlineExceeded) {
		t.Error(bad)
	}
	if !strings.Contains(fmt.Sprint(err), `stopped the map over executor "work": no worker of executor "work" offers "double"`) || !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	worksOn(t, ex, 1, double)
	if v, err := f.Wait(t.Context()); v != 2 || err != nil {
		t.Error(v, err)
	}
}

// TestNested: tasks may wait for tasks of their executor, however few its slots are.
func TestNested(t *testing.T) {
	ex := executor.New(alone(t), "nested")
	var fib *distgear.Action[int, int]
	fib = &distgear.Action[int, int]{Name: "fib", Do: func(ctx context.Context, n int) (int, error) {
		if n < 2 {
			return n, nil
		}
		fs, err := executor.InvokeAll(ctx, ex, fib, n-1, n-2)
		if err != nil {
			return 0, err
		}
		a, err := fs[0].Wait(ctx)
		if err != nil {
			return 0, err
		}
		b, err := fs[1].Wait(ctx)
		return a + b, err
	}}
	worksOn(t, ex, 1, fib)
	f, err := executor.Submit(t.Context(), ex, fib, 12)
	if v, err := wait(t, f, err); v != 144 || err != nil {
		t.Error(v, err)
	}
}

// TestBadInput: each fault is told, and says what to do.
func TestBadInput(t *testing.T) {
	n := alone(t)
	ctx := t.Context()
	ex := executor.New(n, "bad")
	over, cancel := context.WithCancelCause(ctx)
	cancel(errTold)
	submit := func(opts ...executor.TaskOption) error {
		_, err := executor.Submit(ctx, ex, double, 1, opts...)
		return err
	}
	event := &distgear.Event[int, int]{Name: "e", On: func(context.Context, *distgear.Run, int) (int, error) { return 0, nil }}
	other := executor.Config{Capacity: 3}.New(n, "bad")
	for _, c := range []struct {
		text string
		err  error
	}{
		{"ID", submit(executor.ID(""))},
		{"ID", submit(executor.ID("a b"))},
		{"ID", submit(executor.ID(strings.Repeat("x", 201)))},
		{"Delay -1s", submit(executor.Delay(-time.Second))},
		{"Priority 200", submit(executor.Priority(200))},
		{"is past", submit(executor.Deadline(time.Now().Add(-time.Second)))},
		{"key=value", submit(executor.Labels{"gpu"})},
		{"Retain", submit(executor.Retain(-1))},
		{"are for Map", submit(executor.Ahead(3))},
		{"Delay -1ns; Priority 200", errors.New("Delay -1ns; Priority 200: " + strings.ReplaceAll(fmt.Sprint(submit(executor.Delay(-1), executor.Priority(200))), "\n", "; "))},
		{"told so", second(executor.Submit(over, ex, double, 1))},
		{"needs Do", second(executor.Submit(ctx, ex, &distgear.Action[int, int]{Name: "x"}, 1))},
		{"kind", second(executor.Submit(ctx, ex, &distgear.Action[int, int]{Do: double.Do}, 1))},
		{"nil", second(executor.Submit[int, int](ctx, ex, nil, 1))},
		{"chan", second(executor.Submit(ctx, ex, &distgear.Action[chan int, int]{Name: "x", Do: func(context.Context, chan int) (int, error) { return 0, nil }}, make(chan int)))},
		{"another Config", second(executor.Submit(ctx, other, double, 1))},
		{"another Config", other.Work(ctx, 1, double)},
		{"its name", second(executor.Submit(ctx, executor.New(n, "a b"), double, 1))},
		{"Capacity -1", executor.Config{Capacity: -1}.New(n, "neg").Work(ctx, 1, double)},
		{"rate", executor.Config{Rate: -1}.New(n, "rate").Work(ctx, 1, double)},
		{"name the actions", ex.Work(ctx, 1)},
		{"concurrency -1", ex.Work(ctx, -1, double)},
		{"twice", ex.Work(ctx, 1, double, double)},
		{"nil", ex.Work(ctx, 1, nil)},
		{"is an event", ex.Work(ctx, 1, event)},
		{"no inputs", second(executor.InvokeAny[int, int](ctx, ex, double))},
	} {
		if c.err == nil || !strings.Contains(c.err.Error(), c.text) {
			t.Errorf("want %q: %v", c.text, c.err)
		}
		if c.err != nil && !errors.Is(c.err, distgear.ErrInvalid) && !strings.Contains(c.text, ";") {
			t.Errorf("not ErrInvalid: %v", c.err)
		}
	}
}

func second[T any](_ T, err error) error { return err }

// late is a context that ends soon.
func late(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	t.Cleanup(cancel)
	return ctx
}

// TestLeave: a node that leaves ends what has not started, waits for what runs, and
// takes nothing more.
func TestLeave(t *testing.T) {
	n := alone(t)
	ex := executor.New(n, "leave")
	g := newGate()
	var fs []*executor.Future[string]
	slots := runtime.GOMAXPROCS(0)
	for i := range slots + 2 {
		fs = append(fs, g.submit(t, ex, fmt.Sprint(i)))
	}
	for range slots {
		<-g.began
	}
	left := make(chan error, 1)
	go func() { left <- n.Leave(context.Background()) }()
	for _, f := range fs[slots:] {
		if _, err := f.Wait(t.Context()); !errors.Is(err, distgear.ErrLeft) {
			t.Error(err)
		}
	}
	select {
	case err := <-left:
		t.Error(err, "Leave did not wait for what runs")
	default:
	}
	close(g.open)
	if err := <-left; err != nil {
		t.Error(err)
	}
	for _, f := range fs[:slots] {
		if _, err := f.Wait(t.Context()); err != nil {
			t.Error(err)
		}
	}
	if _, err := executor.Submit(t.Context(), ex, double, 1); !errors.Is(err, distgear.ErrLeft) {
		t.Error(err)
	}
	if err := ex.Work(t.Context(), 1, double); !errors.Is(err, distgear.ErrLeft) {
		t.Error(err)
	}
	if _, err := executor.New(n, "later").Stats(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := executor.Submit(t.Context(), executor.New(n, "later"), double, 1); !errors.Is(err, distgear.ErrLeft) {
		t.Error(err)
	}
}

// TestCancelChaos: many futures, cancelled at any time: each ends, once, as it
// should, and nothing is left.
func TestCancelChaos(t *testing.T) {
	ex := executor.Config{Capacity: 100}.New(alone(t), "chaos")
	var ran atomic.Int64
	work := &distgear.Action[int, int]{Name: "work", Idempotent: true, Do: func(ctx context.Context, n int) (int, error) {
		ran.Add(1)
		if n%7 == 0 {
			<-ctx.Done()
			return 0, ctx.Err()
		}
		if n%5 == 0 {
			runtime.Gosched()
		}
		return n, nil
	}}
	var wg sync.WaitGroup
	var ok, cancelled atomic.Int64
	const each, by = 2000, 4
	for g := range by {
		wg.Go(func() {
			var inner sync.WaitGroup
			defer inner.Wait()
			for i := range each {
				f, err := executor.Submit(t.Context(), ex, work, g*each+i)
				if err != nil {
					t.Error(err)
					return
				}
				if i%3 == 0 || (g*each+i)%7 == 0 {
					inner.Go(func() { f.Cancel() })
				}
				inner.Go(func() {
					v, err := f.Wait(t.Context())
					switch {
					case err == nil && v == g*each+i:
						ok.Add(1)
					case errors.Is(err, distgear.ErrCancelled) && v == 0:
						cancelled.Add(1)
					default:
						t.Error(v, err)
					}
				})
			}
		})
	}
	wg.Wait()
	if ok.Load()+cancelled.Load() != each*by {
		t.Error("lost:", ok.Load(), cancelled.Load())
	}
	if s, _ := ex.Stats(t.Context()); s.Waiting+s.Leased+s.Parked+s.Ended != 0 {
		t.Error("left:", s)
	}
}
