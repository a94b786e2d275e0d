package executor

import (
	"context"
	"fmt"
	"slices"

	"github.com/distgear/distgear"
	"github.com/distgear/distgear/internal/work"
)

// TaskID is how a task is known: what ID gave it, or else a name that is its own,
// by which distgear.KeyOf knows it too but Find does not.
type TaskID string

// Future is a handle on the result of a task. It is safe for concurrent use.
type Future[Out any] struct {
	job  work.Job
	core *core
	out  Out
}

// ID is the task's.
func (f *Future[Out]) ID() TaskID { return TaskID(f.job.ID()) }

// Wait waits for the result. When ctx ends first the task goes on, and the error
// wraps ctx's cause. A task that waits for another one, with its own context, lends its
// slot meanwhile, so that tasks may wait for tasks of their executor.
func (f *Future[Out]) Wait(ctx context.Context) (Out, error) {
	if err := f.job.Wait(ctx, &f.core.waiters); err != nil {
		var none Out
		return none, f.gaveUp(err)
	}
	return f.out, f.job.Err()
}

// gaveUp is the error of who waited in vain.
func (f *Future[Out]) gaveUp(err error) error {
	return f.core.gaveUp(fmt.Sprintf("stopped waiting for task %s of executor %q", f.job.ID(), f.core.name), f.job.Kind(), err)
}

// gaveUp says why what ended by err may have waited for an action in vain.
func (e *core) gaveUp(what, kind string, err error) error {
	if fast, ok := e.class.(*work.Fast); ok {
		if s, bad := fast.Stats(context.Background()); bad == nil && slices.Contains(s.Unserved, kind) {
			return fmt.Errorf("%s: no worker of executor %q offers %q: call Work with it on some node: %w", what, e.name, kind, err)
		}
	}
	return fmt.Errorf("%s: %w", what, err)
}

// Done is closed when the task has ended.
func (f *Future[Out]) Done() <-chan struct{} { return f.job.Done() }

// Cancel asks that the task ends. It does not wait: one that has not started ends at once
// with distgear.ErrCancelled, what runs is told by its context and ends when its action
// returns, and one that has ended stays as it is.
func (f *Future[Out]) Cancel() { f.core.class.Cancel(&f.job) }

// Progress is what the action said last by the function Progress; zeros before.
func (f *Future[Out]) Progress() (done, total int64) { return f.job.Progress() }

// result takes the encoded result.
func (f *Future[Out]) result(b []byte) (err error) {
	if f.out, err = outOf[Out](b); err != nil {
		return fmt.Errorf("%w: result of %s: %w", distgear.ErrInvalid, f.job.Kind(), err)
	}
	return nil
}

// future is for who has the Job only.
func (f *Future[Out]) future() *Future[Out] { return f }

func futureOf[Out any](j *work.Job) *Future[Out] {
	return j.Body().(interface{ future() *Future[Out] }).future() //nolint:forcetypeassert // of tasks with that result only
}

func (f *Future[Out]) copyOf(from work.Body) error {
	o, ok := from.(interface{ future() *Future[Out] })
	if !ok {
		return fmt.Errorf("%w: the result of task %s has another type", distgear.ErrConflict, f.job.ID())
	}
	f.out = o.future().out
	return nil
}
