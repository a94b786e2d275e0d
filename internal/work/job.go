package work

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/distgear/distgear/internal/room"
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
}

// Job is a task as its submitter has it, and what its future waits for. Init
// comes first. It is safe for concurrent use, and must not be copied.
type Job struct {
	spec    Spec
	body    Body
	handler any // distgear.Handler: the action

	done, total atomic.Int64 // progress
	over        atomic.Bool  // it has ended; err and body's result do not change any more
	err         error

	mu     sync.Mutex
	waiter *waiter       // the first who waits
	ended  chan struct{} // for all others; made when asked for
	told   []Listener
}

// Listener is told that a Job has ended. Ended must not block.
type Listener interface{ Ended(j *Job) }

// waiter is one goroutine that waits for a Job.
type waiter struct{ c chan struct{} } // 1: it may be gone

var waiters = sync.Pool{New: func() any { return &waiter{make(chan struct{}, 1)} }}

// Init makes j a task: h is the action, a distgear.Handler.
func (j *Job) Init(s Spec, h any, b Body) { j.spec, j.handler, j.body = s, h, b }

// Spec is what the submitter says. A Class may fill in what is empty while it
// takes the job up; later it is only read.
func (j *Job) Spec() *Spec { return &j.spec }

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
func (j *Job) Wait(ctx context.Context) error {
	if j.over.Load() {
		return nil
	}
	j.mu.Lock()
	if j.waiter != nil || j.over.Load() {
		j.mu.Unlock()
		select {
		case <-j.Done():
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	w := waiters.Get().(*waiter)
	j.waiter = w
	j.mu.Unlock()
	if end := ctx.Done(); end == nil {
		<-w.c
	} else {
		select {
		case <-w.c:
		case <-end:
			j.mu.Lock()
			mine := j.waiter == w
			if mine {
				j.waiter = nil
			}
			j.mu.Unlock()
			if mine {
				waiters.Put(w)
				return context.Cause(ctx)
			}
			<-w.c // it ends in this very moment
		}
	}
	waiters.Put(w)
	return nil
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
