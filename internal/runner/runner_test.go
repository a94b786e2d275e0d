package runner

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type task func()

func (t task) Run() { t() }

func TestBlockedTasksHoldUpNobody(t *testing.T) {
	p := New()
	release := make(chan struct{})
	var started, done sync.WaitGroup
	const n = 1000
	started.Add(n)
	done.Add(n)
	for range n {
		p.Go(task(func() { started.Done(); <-release; done.Done() }))
	}
	started.Wait() // all of them run at once although none ends
	close(release)
	done.Wait()
	p.Close()
}

func TestEveryTaskRunsOnce(t *testing.T) {
	p := New()
	var ran atomic.Int64
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 200 {
				ts := make([]Task, 50)
				for i := range ts {
					ts[i] = task(func() { ran.Add(1) })
				}
				p.GoAll(ts)
				p.Go(task(func() { ran.Add(1) }))
			}
		})
	}
	wg.Wait()
	p.Close()
	if ran.Load() != 4*200*51 {
		t.Fatalf("ran %d", ran.Load())
	}
	ok := make(chan struct{})
	p.Go(task(func() { close(ok) })) // after Close it still runs
	<-ok
}

func TestContext(t *testing.T) {
	var c Context
	if c.Err() != nil || c.Value("x") != nil {
		t.Fatal("zero context is not blank")
	}
	child, cancel := context.WithCancel(&c)
	defer cancel()
	ran := make(chan struct{})
	c.AfterFunc(func() { close(ran) })
	stop := c.AfterFunc(func() { t.Error("stopped function ran") })
	if !stop() || stop() {
		t.Fatal("stop")
	}
	c.Cancel(context.Canceled)
	<-ran
	<-c.Done()
	<-child.Done()
	if !errors.Is(c.Err(), context.Canceled) {
		t.Fatal(c.Err())
	}

	var d Context
	d.SetDeadline(time.Now().Add(20 * time.Millisecond))
	<-d.Done()
	if !errors.Is(d.Err(), context.DeadlineExceeded) {
		t.Fatal(d.Err())
	}
	var e Context // without a look at Done the deadline counts as well
	e.SetDeadline(time.Now().Add(-1))
	if e.Cancelled() != nil || !errors.Is(e.Err(), context.DeadlineExceeded) {
		t.Fatal(e.Err())
	}
}

// slowHook is taken up by a Cancel that then takes its time.
type slowHook struct{ taken, release chan struct{} }

func (h slowHook) Cancelled() { close(h.taken); <-h.release }

// Who clears a hook that a Cancel has taken up is told, so that it does not
// use it again: the Cancel would reach the wrong one.
func TestHook(t *testing.T) {
	var c Context
	h := slowHook{make(chan struct{}), make(chan struct{})}
	var hook, other Hook = h, h
	if !c.SetHook(&hook) || c.SetHook(&other) {
		t.Fatal("one hook, no second")
	}
	if !c.ClearHook(&hook) || !c.SetHook(&hook) {
		t.Fatal("a cleared hook can be set again")
	}
	done := make(chan struct{})
	go func() { c.Cancel(context.Canceled); close(done) }()
	<-h.taken
	if c.ClearHook(&hook) {
		t.Error("cleared a hook that is being told")
	}
	close(h.release)
	<-done
	if c.SetHook(&hook) {
		t.Error("a hook on a context that is over")
	}
}

func BenchmarkGo(b *testing.B) {
	p := New()
	defer p.Close()
	done := make(chan struct{})
	var t Task = task(func() { done <- struct{}{} })
	b.ReportAllocs()
	for b.Loop() {
		p.Go(t)
		<-done
	}
}
