package work

import (
	"context"
	"fmt"
	"runtime/debug"
	"strconv"
	"time"

	"github.com/distgear/distgear/internal/fault"
	"github.com/distgear/distgear/internal/machine/tasks"
	"github.com/distgear/distgear/internal/runner"
	"github.com/distgear/distgear/internal/wire"
)

// Attempt is one run of a task at a Worker, and the context that its action
// gets: actions may keep it, so it is never used again. Who makes it fills in the
// upper fields, and does not change them after Put.
type Attempt struct {
	*runner.Context        // cancelled when the attempt shall stop; its CommandKey is the task's ID
	Kind            string // the action
	Number          uint32 // of the attempt, from 1
	Timeout         uint32 // ms it may run; 0: no bound
	From            string // the node whose task it is
	Input           []byte // encoded
	To              Reporter

	name     name   // of the task
	epoch    uint32 // of the lease
	job      *Job   // instead of Input: a task of this process
	worker   *Worker
	state    uint8 // under Worker.mu
	straight bool  // under Worker.mu: no machine knows of it
	values   bool  // the result is in job: it was not encoded
}

// Reporter is told what became of an Attempt. Its methods must not block.
type Reporter interface {
	// Reported is called once, with a report that is only lent, unless the attempt was taken back: it has ended,
	// or was given back (see GivenBack).
	Reported(a *Attempt, rep *wire.Report)
	// Advanced is called with what the action said of its progress.
	Advanced(a *Attempt, done, total int64)
}

// The states of an Attempt.
const (
	queued uint8 = 1 + iota
	started
	takenBack
)

// name is what a task without an ID is called by: the process that queued it, and
// its number there.
type name struct{ origin, number uint64 }

// String is the name as users see it.
func (n name) String() string {
	if n.number == 0 {
		return ""
	}
	return strconv.FormatUint(n.origin, 36) + "." + strconv.FormatUint(n.number, 36)
}

// Lease says which task of which process a is of; before Put.
func (a *Attempt) Lease(origin uint64, l tasks.Lease) {
	a.name, a.epoch = name{origin, l.Number}, l.Epoch
}

// Leased is what Lease said of the task.
func (a *Attempt) Leased() tasks.Lease { return tasks.Lease{Number: a.name.number, Epoch: a.epoch} }

// Name is what the task is called by that Lease spoke of.
func (a *Attempt) Name() string { return a.name.String() }

// Origin is the process whose task it is: a node's life; 0: not a fast one.
func (a *Attempt) Origin() uint64 { return a.name.origin }

type attemptKey struct{}

// AttemptOf is the attempt that ctx belongs to, or nil.
func AttemptOf(ctx context.Context) *Attempt {
	a, _ := ctx.Value(attemptKey{}).(*Attempt)
	return a
}

// Value implements context.Context.
func (a *Attempt) Value(key any) any {
	switch key.(type) {
	case attemptKey:
		return a
	case runner.Key:
		if a.CommandKey == "" {
			return a.name.String()
		}
	}
	return a.Context.Value(key)
}

// Advance tells the submitter how far the action is.
func (a *Attempt) Advance(done, total int64) { a.To.Advanced(a, done, total) }

var errGivenBack = fmt.Errorf("%w: the worker gave the task back", fault.ErrLeft)

// GiveBack is the report of what did not start and is not to blame.
func GiveBack() wire.Report { return fault.NeverRan(errGivenBack, fault.Refused) }

// GivenBack tells whether a report says that the attempt did not start and that
// another one may, at once: nothing was wrong with the task.
func GivenBack(rep *wire.Report) bool {
	return rep.Outcome == wire.NeverRan && rep.Error != nil && rep.Error.Flags&fault.Refused != 0
}

// run runs a at its worker.
func (a *Attempt) run(w *Worker, now time.Time) wire.Report {
	if a.From != w.room.Node && !w.room.Valid() { // what waited was cancelled for that, too
		return fault.NeverRan(fmt.Errorf("%w: its session with the hub has lapsed", fault.ErrNoNode), fault.Refused)
	}
	if a.Cancelled() != nil {
		return fault.NeverRan(fault.ErrCancelled, fault.Cancelled)
	}
	h := w.actions[a.Kind]
	if h == nil && w.any && a.job != nil {
		h = a.job.handler
	}
	if h == nil {
		return fault.NeverRan(fault.Useless(fmt.Errorf("%w: it does not work on %q: name the action in its Work", fault.ErrNoNode, a.Kind)), 0)
	}
	if a.Timeout > 0 {
		a.SetDeadline(now.Add(time.Duration(a.Timeout) * time.Millisecond))
	}
	if a.job == nil {
		return a.serve(w, h, a.Input)
	}
	if h == a.job.handler && !w.room.Wrapped {
		a.values = true
		panicked, stack, err := a.do()
		if err == nil && panicked == nil {
			return wire.Report{Outcome: wire.OK, Over: true}
		}
		return w.room.Failed(a.Context, err, panicked, stack)
	}
	in, err := a.job.Input(nil)
	if err != nil {
		return fault.NeverRan(fault.Useless(err), 0)
	}
	return a.serve(w, h, in)
}

func (a *Attempt) serve(w *Worker, h any, in []byte) wire.Report {
	key, _ := a.Value(runner.Key{}).(string)
	return w.room.Serve(a, a.Context, h, &wire.Command{Kind: a.Kind, Key: key, Attempt: a.Number, Input: in}, a.From)
}

// do runs the action with values as they are.
func (a *Attempt) do() (panicked any, stack string, err error) {
	defer func() {
		if v := recover(); v != nil {
			panicked, stack = v, string(debug.Stack())
		}
	}()
	return nil, "", a.job.body.Do(a)
}
