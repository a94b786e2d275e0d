package executor

import (
	"context"
	"fmt"
	"iter"
	"sync"

	"github.com/distgear/distgear"
	"github.com/distgear/distgear/internal/codec"
	"github.com/distgear/distgear/internal/work"
)

// defaultAhead is how far a Map is ahead of who reads its results.
const defaultAhead = 1000

// Result implements work.Body.
func (t *task[In, Out]) Result(b []byte) error { return t.result(b) }

// Copy implements work.Body.
func (t *task[In, Out]) Copy(from work.Body) error { return t.copyOf(from) }

// found is a task that somebody else submitted.
type found[Out any] struct{ Future[Out] }

// Do implements work.Body: what was found is not run from here.
func (f *found[Out]) Do(context.Context) error { return distgear.ErrNoNode }

// Input implements work.Body.
func (f *found[Out]) Input(b []byte) ([]byte, error) { return b, nil }

// Result implements work.Body.
func (f *found[Out]) Result(b []byte) error { return f.result(b) }

// Copy implements work.Body.
func (f *found[Out]) Copy(from work.Body) error { return f.copyOf(from) }

func outOf[Out any](b []byte) (Out, error) { return codec.Of[Out]{}.New(b) }

// Find is a future of a task that was submitted with an ID: by any process, if the
// executor is Durable; otherwise by this one. ErrNoTask: it is not known, or not
// any more. Out must be the result of its action.
func Find[Out any](ctx context.Context, ex *Executor, id TaskID) (*Future[Out], error) {
	if err := ready(ctx, ex); err != nil {
		return nil, err
	}
	f := &found[Out]{}
	f.core = ex.core
	f.job.Init(&work.Spec{}, string(id), nil, f)
	if err := ex.class.Find(ctx, &f.job); err != nil {
		return nil, fmt.Errorf("find in %q: %w", ex.name, err)
	}
	return &f.Future, nil
}

// collector collects jobs that have ended.
type collector struct {
	mu    sync.Mutex
	ended []*work.Job
	wake  chan struct{} // 1: there is one
}

func newCollector() *collector { return &collector{wake: make(chan struct{}, 1)} }

// Ended implements work.Listener.
func (c *collector) Ended(j *work.Job) {
	c.mu.Lock()
	c.ended = append(c.ended, j)
	c.mu.Unlock()
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// poll is the next one, if there is one now.
func (c *collector) poll() *work.Job {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.ended) == 0 {
		return nil
	}
	j := c.ended[0]
	c.ended[0] = nil
	c.ended = c.ended[1:]
	return j
}

// next waits for the next one.
func (c *collector) next(ctx context.Context) (*work.Job, error) {
	for {
		if j := c.poll(); j != nil {
			return j, nil
		}
		if err := work.Await(ctx, c.wake); err != nil {
			return nil, err
		}
	}
}

// AsCompleted yields futures as they end. It ends early, without a word, when ctx does.
func AsCompleted[Out any](ctx context.Context, fs ...*Future[Out]) iter.Seq[*Future[Out]] {
	return func(yield func(*Future[Out]) bool) {
		c := newCollector()
		for _, f := range fs {
			f.job.Tell(c)
		}
		for range fs {
			j, err := c.next(ctx)
			if err != nil || !yield(futureOf[Out](j)) {
				return
			}
		}
	}
}

// Map runs the action for each input and yields the results as they come, or in
// the order of the inputs (Ordered). Inputs are taken as results are read: at most
// so many tasks are under way (Ahead). A result that failed is yielded as its error,
// and Map goes on; what cannot be submitted, and the end of ctx, are the last
// that is yielded. Who leaves the loop cancels the rest.
func Map[In, Out any](ctx context.Context, ex *Executor, a *distgear.Action[In, Out], ins iter.Seq[In], opts ...TaskOption) iter.Seq2[Out, error] {
	return func(yield func(Out, error) bool) {
		var none Out
		m := &mapping[In, Out]{ex: ex, c: newCollector(), live: map[*work.Job]bool{}}
		if err := m.begin(ctx, a, opts); err != nil {
			yield(none, err)
			return
		}
		next, stop := iter.Pull(ins)
		defer stop()
		defer m.cancel()
		shown := m.o.bar.show(a.Name)
		defer shown.stop()
		more := true
		for {
			for more && len(m.live) < m.o.ahead {
				var in In
				if in, more = next(); !more {
					break
				}
				if err := m.submit(ctx, in); err != nil {
					yield(none, err)
					return
				}
			}
			if len(m.live) == 0 {
				return
			}
			j, err := m.next(ctx)
			if err != nil {
				yield(none, ex.gaveUp(fmt.Sprintf("stopped the map over executor %q", ex.name), a.Name, err))
				return
			}
			delete(m.live, j)
			shown.add()
			if !yield(futureOf[Out](j).out, j.Err()) {
				return
			}
		}
	}
}

// mapping is a Map under way.
type mapping[In, Out any] struct {
	ex    *Executor
	p     *prepared[In, Out]
	o     *options
	c     *collector
	live  map[*work.Job]bool // submitted, and not yielded
	order []*work.Job        // those, if they are yielded in order
}

func (m *mapping[In, Out]) begin(ctx context.Context, a *distgear.Action[In, Out], opts []TaskOption) (err error) {
	if err := ready(ctx, m.ex); err != nil {
		return err
	}
	if m.p = prepare(m.ex.core, a); m.p.fault != nil {
		return m.p.fault
	}
	if m.o, err = read(&m.p.spec, opts, true); err != nil {
		return err
	}
	if m.o.ahead == 0 {
		m.o.ahead = defaultAhead
	}
	return nil
}

func (m *mapping[In, Out]) submit(ctx context.Context, in In) error {
	t := &task[In, Out]{}
	if err := t.fill(m.ex.core, m.p, in, &m.o.spec, ""); err != nil {
		return err
	}
	if !m.o.ordered {
		t.job.Tell(m.c)
	}
	if err := m.ex.class.Submit(ctx, &t.job); err != nil {
		return m.ex.notTaken(err)
	}
	m.live[&t.job] = true
	if m.o.ordered {
		m.order = append(m.order, &t.job)
	}
	return nil
}

// next waits for the result to be yielded next.
func (m *mapping[In, Out]) next(ctx context.Context) (*work.Job, error) {
	if !m.o.ordered {
		return m.c.next(ctx)
	}
	j := m.order[0]
	if err := j.Wait(ctx, &m.ex.waiters); err != nil {
		return nil, err
	}
	m.order[0] = nil
	m.order = m.order[1:]
	return j, nil
}

// cancel ends what nobody will read.
func (m *mapping[In, Out]) cancel() {
	for j := range m.live {
		m.ex.class.Cancel(j)
	}
}
