package work

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/distgear/distgear/internal/machine/tasks"
	"github.com/distgear/distgear/internal/room"
	"github.com/distgear/distgear/internal/wire"
)

const (
	// ahead is for how long the tasks last that may wait at a worker.
	ahead = 20 * time.Millisecond
	// maxPrefetch is how many tasks may wait at a worker, however short they are.
	maxPrefetch = 4096
	// maxAhead is how many bytes of inputs may wait at a worker.
	maxAhead = 4 << 20
)

// Worker is what one call of Work has: slots, and the actions that it offers.
// Make it with NewWorker; it is safe for concurrent use.
type Worker struct {
	room    *room.Room
	slots   int
	actions map[string]any // distgear.Handler, by kind
	any     bool           // tasks of this process are run whatever their action

	mu       sync.Mutex
	queue    []*Attempt // a ring: head, count
	head     int
	count    int
	running  int
	lent     int     // slots of attempts that wait for other tasks
	current  []*slot // all that were ever used
	free     []*slot // those that do not run
	closed   bool
	over     chan struct{} // closed with closed
	idle     chan struct{} // made by Drain; closed when nothing runs
	watch    map[int]func()
	next     int
	cost     time.Duration // of a task, on average; 0: not known
	prefetch int           // as offered
}

// slot is what one goroutine needs that runs attempts.
type slot struct {
	a   *Attempt // what runs
	rep wire.Report
}

// NewWorker returns a worker with so many slots. The actions are distgear.Handlers
// by kind. With whatever, tasks of this process are run if nobody named their action.
func NewWorker(r *room.Room, slots int, actions map[string]any, whatever bool) *Worker {
	return &Worker{room: r, slots: slots, actions: actions, any: whatever, watch: map[int]func(){}, over: make(chan struct{})}
}

// Offer is what the worker can do now, for the machine.
func (w *Worker) Offer() tasks.Offer {
	w.mu.Lock()
	defer w.mu.Unlock()
	o := tasks.Offer{Kinds: slices.Sorted(maps.Keys(w.actions)), Labels: w.room.Labels, Bytes: maxAhead}
	if !w.closed {
		o.Slots, o.Prefetch = w.slots+w.lent, w.prefetch
	}
	return o
}

// OnOffer calls f after each change of Offer, until stop is called. f must not
// block; several goroutines may call it.
func (w *Worker) OnOffer(f func()) (stop func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.next++
	id := w.next
	w.watch[id] = f
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.watch, id)
	}
}

// tell tells that Offer has changed.
func (w *Worker) tell() {
	w.mu.Lock()
	fs := slices.Collect(maps.Values(w.watch))
	w.mu.Unlock()
	for _, f := range fs {
		f()
	}
}

// Put runs a soon: when a slot is free, in the order of the calls. False: the
// worker is closed; nobody will be told of a.
func (w *Worker) Put(a *Attempt) bool {
	a.worker = w
	w.mu.Lock()
	if w.closed {
		w.mu.Unlock()
		return false
	}
	a.state = queued
	w.push(a)
	start := w.startLocked()
	w.mu.Unlock()
	if start {
		w.room.Pool.Go(w)
	}
	return true
}

// startLocked tells whether one more slot shall run.
func (w *Worker) startLocked() bool {
	if w.count == 0 || w.running >= w.slots+w.lent {
		return false
	}
	w.running++
	return true
}

// Run is a slot at work: it implements runner.Task.
func (w *Worker) Run() {
	now := time.Now()
	w.mu.Lock()
	if len(w.free) == 0 {
		w.free = append(w.free, &slot{})
		w.current = append(w.current, w.free[0])
	}
	s := w.free[len(w.free)-1]
	w.free = w.free[:len(w.free)-1]
	for w.running <= w.slots+w.lent {
		if s.a = w.pop(); s.a == nil {
			break
		}
		w.mu.Unlock()
		ended := w.runOne(s.a, &s.rep, now)
		w.mu.Lock()
		s.a = nil
		if w.measureLocked(ended.Sub(now)) {
			w.mu.Unlock()
			w.tell()
			w.mu.Lock()
		}
		now = ended
	}
	w.free = append(w.free, s)
	if w.running--; w.running == 0 && w.idle != nil {
		close(w.idle)
		w.idle = nil
	}
	w.mu.Unlock()
}

// runOne runs one attempt and tells when that was done. rep is only space.
func (w *Worker) runOne(a *Attempt, rep *wire.Report, began time.Time) time.Time {
	if !w.room.Hold() {
		*rep = giveBack()
		a.To.Reported(a, rep)
		return began
	}
	*rep = a.run(w, began)
	ended := time.Now()
	a.To.Reported(a, rep)
	*rep = wire.Report{}
	w.room.Free()
	return ended
}

// measureLocked takes up how long a task lasted, and tells whether Offer has changed.
func (w *Worker) measureLocked(d time.Duration) (changed bool) {
	if w.cost == 0 {
		w.cost = d
	} else {
		w.cost += (d - w.cost) / 8
	}
	n := min(int(ahead*time.Duration(w.slots)/max(w.cost, 1)), maxPrefetch)
	if n < w.slots {
		n = 0 // less than one for each: it would wait behind a long one
	}
	changed = n > 2*w.prefetch || 2*n < w.prefetch
	if changed {
		w.prefetch = n
	}
	return changed
}

// TakeBack takes an attempt back that has not started; false: it has, or was
// reported.
func (w *Worker) TakeBack(a *Attempt) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if a.state != queued {
		return false
	}
	a.state = takenBack // and passed over when its turn comes
	return true
}

// takeBackNumber is TakeBack for who knows the task by its number only.
func (w *Worker) takeBackNumber(origin, number uint64, epoch uint32) *Attempt {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := range w.count {
		a := w.queue[(w.head+i)&(len(w.queue)-1)]
		if a.state == queued && a.name == (name{origin, number}) && a.epoch == epoch {
			a.state = takenBack
			return a
		}
	}
	return nil
}

// lend gives the slot of an attempt that waits for other tasks to others: it may
// be these that it waits for. done takes it back: for a moment more may run
// than there are slots.
func (w *Worker) lend() (done func()) {
	w.lends(+1)
	return func() { w.lends(-1) }
}

func (w *Worker) lends(n int) {
	w.mu.Lock()
	w.lent += n
	start := w.startLocked()
	w.mu.Unlock()
	if start {
		w.room.Pool.Go(w)
	}
	w.tell()
}

// Closed is closed by Close.
func (w *Worker) Closed() <-chan struct{} { return w.over }

// Running is how many attempts run now.
func (w *Worker) Running() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.running
}

// Close gives back what waits, and refuses what is put from now on.
func (w *Worker) Close() {
	w.mu.Lock()
	if w.closed {
		w.mu.Unlock()
		return
	}
	w.closed = true
	close(w.over)
	var back []*Attempt
	for a := w.pop(); a != nil; a = w.pop() {
		back = append(back, a)
	}
	w.mu.Unlock()
	w.tell()
	rep := giveBack()
	for _, a := range back {
		a.To.Reported(a, &rep)
	}
}

// Await waits until nothing runs or ctx ends. It comes after Close.
func (w *Worker) Await(ctx context.Context) error {
	w.mu.Lock()
	if w.running == 0 {
		w.mu.Unlock()
		return nil
	}
	if w.idle == nil {
		w.idle = make(chan struct{})
	}
	idle := w.idle
	w.mu.Unlock()
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Cancel cancels what runs.
func (w *Worker) Cancel() {
	w.mu.Lock()
	var current []*Attempt
	for _, s := range w.current {
		if s.a != nil {
			current = append(current, s.a)
		}
	}
	w.mu.Unlock()
	for _, a := range current {
		a.Cancel(context.Canceled)
	}
}

func (w *Worker) push(a *Attempt) {
	if w.count == len(w.queue) {
		q := make([]*Attempt, max(16, 2*len(w.queue)))
		for i := range w.count {
			q[i] = w.queue[(w.head+i)&(len(w.queue)-1)]
		}
		w.queue, w.head = q, 0
	}
	w.queue[(w.head+w.count)&(len(w.queue)-1)] = a
	w.count++
}

// pop is the next attempt to start, or nil.
func (w *Worker) pop() *Attempt {
	for w.count > 0 {
		a := w.queue[w.head]
		w.queue[w.head] = nil
		w.head = (w.head + 1) & (len(w.queue) - 1)
		w.count--
		if a.state == queued {
			a.state = started
			return a
		}
	}
	return nil
}
