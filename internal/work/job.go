package work

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/distgear/distgear/internal/machine/tasks"
	"github.com/distgear/distgear/internal/room"
	"github.com/distgear/distgear/internal/runner"
	"github.com/distgear/distgear/internal/wire"
)

// Body is the part of a task that knows its types.
type Body interface {
	// Do runs the action with the values it has, and keeps the result.
	Do(ctx context.Context) error
	// Input appends the encoded input.
	Input(b []byte) ([]byte, error)
	// Result takes an encoded result; it must not keep the bytes.
	Result(payload []byte) error
	// Copy takes the result of another task's body, which has ended OK.
	Copy(from Body) error
}

// Spec is what a submitter says about a task, but for its ID. NotBefore and
// Deadline are ms from when it is submitted; 0: none.
type Spec = tasks.Spec

// Job is a task as its submitter has it, and what its future waits for. Init
// comes first. It is safe for concurrent use, and must not be copied.
type Job struct {
	spec    *Spec // shared by many: only read
	id      string
	body    Body
	handler any // distgear.Handler: the action
	err     error

	name        name         // when it has no ID
	done, total atomic.Int64 // progress
	over        atomic.Bool  // it has ended; err and body's result do not change any more

	mu     sync.Mutex
	waiter *waiter       // the first who waits
	ended  chan struct{} // for all others; made when asked for
	told   []Listener

	// Of the class Fast.
	first  Attempt // the first attempt here, and what is below it
	ctx    runner.Context
	at     int64   // ms of its class, when it came and had to wait; 0: not known
	helper *Worker // runs it in the goroutine that waits, if it can; nil: no
	*entry         // under Fast.mu; nil: the machine has not heard of it
}

// entry is a Job as the machine knows it.
type entry struct {
	task    tasks.Task[*Job]
	now     *Attempt // the attempt here that counts
	away    *lease   // the attempt elsewhere that counts
	last    *report  // of the last attempt; nil: none, or OK and the body has it
	counted bool     // it is one of Fast.pending
	gone    bool     // it has ended, and is told so soon
	leader  *Job     // it was known already: another Job is the task
	why     error    // it was cancelled for that
}

// report is what was reported of an attempt.
type report struct {
	wire.Report

	node string
}

// Listener is told that a Job has ended. Ended must not block.
type Listener interface{ Ended(j *Job) }

// waiter is one goroutine that waits for a Job.
type waiter struct{ c chan struct{} } // 1: it may be gone

// Init makes j a task: h is the action, a distgear.Handler. s belongs to j and
// others: it does not change any more.
func (j *Job) Init(s *Spec, id string, h any, b Body) {
	j.spec, j.id, j.handler, j.body = s, id, h, b
}

// Spec is what the submitter says, with the ID.
func (j *Job) Spec() Spec {
	s := *j.spec
	s.ID = j.id
	return s
}

// Body is the part that knows its types.
func (j *Job) Body() Body { return j.body }

// Kind is the action.
func (j *Job) Kind() string { return j.spec.Kind }

// SetID gives a task an ID that has none; its class may do so before anybody
// else sees it.
func (j *Job) SetID(id string) { j.id = id }

// ID is the task's ID, or the name that it was given when it was taken up.
func (j *Job) ID() string {
	if j.id != "" {
		return j.id
	}
	return j.name.String()
}

// Input appends the encoded input.
func (j *Job) Input(b []byte) ([]byte, error) { return j.body.Input(b) }

// Report ends j with what a node reported. The bytes of r are only lent.
func (j *Job) Report(r *room.Room, rep *wire.Report, node string) {
	if rep.Outcome != wire.OK {
		j.End(r.Error(*rep, node, j.spec.Kind))
		return
	}
	j.End(j.body.Result(rep.Payload))
}

// Ended makes j a Listener: it ends as the task that it is a second handle of.
func (j *Job) Ended(leader *Job) {
	if err := leader.Err(); err != nil {
		j.End(err)
		return
	}
	j.End(j.body.Copy(leader.body))
}

// End ends j; only the first call counts. err nil: the body has the result.
func (j *Job) End(err error) {
	j.mu.Lock()
	if j.over.Load() {
		j.mu.Unlock()
		return
	}
	j.err = err
	j.over.Store(true)
	w, ended, told := j.waiter, j.ended, j.told
	j.waiter, j.told = nil, nil
	j.mu.Unlock()
	if w != nil {
		w.c <- struct{}{}
	}
	if ended != nil {
		close(ended)
	}
	for _, l := range told {
		l.Ended(j)
	}
}

// Over tells whether j has ended; then Err is why it failed.
func (j *Job) Over() bool { return j.over.Load() }

// Err is why j failed; nil before its end.
func (j *Job) Err() error {
	if !j.over.Load() {
		return nil
	}
	return j.err
}

// Wait waits until j has ended. An error is the cause of ctx, which ended first.
// A task that waits for another lends its slot meanwhile. Of spaces are what Wait waits
// with: an executor's own, since a bubble of testing/synctest can do nothing with the channels of another.
func (j *Job) Wait(ctx context.Context, spaces *sync.Pool) error {
	if j.over.Load() || j.helper != nil && ctx.Done() == nil && j.helper.help(&j.first) && j.over.Load() {
		return nil
	}
	j.mu.Lock()
	if j.waiter != nil || j.over.Load() {
		j.mu.Unlock()
		return Await(ctx, j.Done())
	}
	w, ok := spaces.Get().(*waiter)
	if !ok {
		w = &waiter{make(chan struct{}, 1)}
	}
	j.waiter = w
	j.mu.Unlock()
	err := j.wait(ctx, w)
	spaces.Put(w)
	return err
}

func (j *Job) wait(ctx context.Context, w *waiter) error {
	end := ctx.Done()
	if end == nil {
		<-w.c
		return nil
	}
	if a := AttemptOf(ctx); a != nil {
		defer a.worker.lend()()
	}
	select {
	case <-w.c:
		return nil
	case <-end:
	}
	j.mu.Lock()
	mine := j.waiter == w
	if mine {
		j.waiter = nil
	}
	j.mu.Unlock()
	if mine {
		return context.Cause(ctx)
	}
	<-w.c // it ends in this very moment
	return nil
}

// Await waits for a channel, or the end of ctx, whose cause is the error. A task
// that waits lends its slot meanwhile.
func Await(ctx context.Context, done <-chan struct{}) error {
	if a := AttemptOf(ctx); a != nil {
		defer a.worker.lend()()
	}
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Done is closed when j has ended.
func (j *Job) Done() <-chan struct{} {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.ended == nil {
		j.ended = make(chan struct{})
		if j.over.Load() {
			close(j.ended)
		}
	}
	return j.ended
}

// Tell tells l when j ends, at once if it has.
func (j *Job) Tell(l Listener) {
	j.mu.Lock()
	over := j.over.Load()
	if !over {
		j.told = append(j.told, l)
	}
	j.mu.Unlock()
	if over {
		l.Ended(j)
	}
}

// Advance notes progress.
func (j *Job) Advance(done, total int64) {
	j.total.Store(total)
	j.done.Store(done)
}

// Progress is what was noted last.
func (j *Job) Progress() (done, total int64) { return j.done.Load(), j.total.Load() }
