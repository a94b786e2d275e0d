package work

import (
	"context"
	"sync"
	"time"

	"github.com/distgear/distgear/internal/machine/tasks"
	"github.com/distgear/distgear/internal/room"
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

	job   *Job  // instead of Input: a task of this process
	state uint8 // under Worker.mu
}

// Reporter is told what became of an Attempt. Its methods must not block.
type Reporter interface {
	// Reported is called once, unless the attempt was taken back: it has ended,
	// or was given back (wire.NeverRan with fault.Refused).
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

// Worker is what one call of Work has: slots, and the actions that it offers.
// Make it with NewWorker.
type Worker struct {
	room    *room.Room
	slots   int
	labels  map[string]string
	actions map[string]any // distgear.Handler, by kind; nil: whatever there is

	mu      sync.Mutex
	queue   []*Attempt // a ring: head, count
	head    int
	count   int
	running int
	closed  bool
	idle    chan struct{}  // made by Drain; closed when nothing runs
	changed map[int]func() // told when Offer has changed
	next    int
	cost    time.Duration // of a task, on average; 0: not known
}

// Offer is what the worker can do now, for the machine.
func (w *Worker) Offer() tasks.Offer { panic("soon") }

// OnOffer calls f after each change of Offer, until stop is called. f must not
// block, and may be called by several goroutines.
func (w *Worker) OnOffer(f func()) (stop func()) { panic("soon") }

// Put runs a soon: when a slot is free, in the order of the calls.
func (w *Worker) Put(a *Attempt) { panic("soon") }

// TakeBack takes an attempt back that has not started; false: it has, or was
// reported.
func (w *Worker) TakeBack(a *Attempt) bool { panic("soon") }

// Drain gives back what waits, refuses what is put from now on, and waits until
// nothing runs or ctx ends.
func (w *Worker) Drain(ctx context.Context) error { panic("soon") }
