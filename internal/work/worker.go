package work

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/distgear/distgear/internal/machine/tasks"
	"github.com/distgear/distgear/internal/ring"
	"github.com/distgear/distgear/internal/room"
	"github.com/distgear/distgear/internal/wire"
)

const (
	// ahead is for how long the tasks last that may wait at a worker.
	ahead = 60 * time.Millisecond
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
	queue    ring.Ring[*Attempt]
	running  int
	coming   bool    // a goroutine is on its way to a slot
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
	way      way
}

// slot is what one goroutine needs that runs attempts.
type slot struct {
	a    *Attempt // what runs
	rep  wire.Report
	held bool // the node waits for it
}

// begin notes what runs, with mu held.
func (s *slot) begin(w *Worker, a *Attempt) {
	a.state = started
	s.a = a
	w.running++
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
	w.queue.Push(a)
	start := w.startLocked()
	w.mu.Unlock()
	if start {
		w.room.Pool.Go(w)
	}
	return true
}

// startLocked tells whether one more goroutine shall come to a slot. One at a time
// does, and sends the next: so tasks that are short cost few wake-ups.
func (w *Worker) startLocked() bool {
	if w.coming || w.queue.Len() == 0 || w.running >= w.slots+w.lent {
		return false
	}
	w.coming = true
	return true
}

// slotLocked is a slot that is free, or a new one.
func (w *Worker) slotLocked() *slot {
	if len(w.free) == 0 {
		s := &slot{}
		w.current = append(w.current, s)
		return s
	}
	s := w.free[len(w.free)-1]
	w.free = w.free[:len(w.free)-1]
	return s
}

// doneLocked notes that what ran has ended.
func (w *Worker) doneLocked(s *slot) {
	s.a = nil
	if w.running--; w.running == 0 && w.idle != nil {
		close(w.idle)
		w.idle = nil
	}
}

// Run is a slot at work: it implements runner.Task.
func (w *Worker) Run() {
	now := time.Now()
	var ended *Job
	w.mu.Lock()
	w.coming = false
	s := w.slotLocked()
	for w.running < w.slots+w.lent {
		a := w.pop()
		if a == nil {
			break
		}
		s.begin(w, a)
		start := w.startLocked()
		w.mu.Unlock()
		if start {
			w.room.Pool.Go(w)
		}
		w.end(ended)
		w.runOne(s, a, now)
		began := now
		now = time.Now()
		ended = w.overLocked(s, a)
		if w.measureLocked(now.Sub(began)) {
			w.mu.Unlock()
			w.tell()
			w.mu.Lock()
		}
	}
	w.free = append(w.free, s)
	w.mu.Unlock()
	w.end(ended)
}

// runOne runs one attempt in a slot.
func (w *Worker) runOne(s *slot, a *Attempt, began time.Time) {
	if s.held = w.room.Hold(); !s.held {
		s.rep = GiveBack()
		return
	}
	s.rep = a.run(w, began)
}

// overLocked frees a slot for what comes next, and locks mu. What it returns must be told of its
// end once mu is free, by end; all else is reported.
func (w *Worker) overLocked(s *slot, a *Attempt) (ended *Job) {
	w.mu.Lock()
	if a.straight && a.values && s.rep.Outcome == wire.OK {
		a.straight = false
		w.way.ended++
		a.To.(*bench).f.telling.Add(1) //nolint:forcetypeassert // see Fast.submit
		w.doneLocked(s)
		return a.job
	}
	w.mu.Unlock()
	a.To.Reported(a, &s.rep)
	s.rep = wire.Report{}
	if s.held {
		w.room.Free()
	}
	w.mu.Lock()
	w.doneLocked(s)
	return nil
}

// end ends a job whose attempt was OK; nil: there is none.
func (w *Worker) end(j *Job) {
	if j != nil {
		j.End(nil)
		w.room.Free()
		j.first.To.(*bench).f.told(1) //nolint:forcetypeassert // see Fast.submit
	}
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

// TakeBackOf is TakeBack for who knows the task by its name only.
func (w *Worker) TakeBackOf(origin uint64, l tasks.Lease) *Attempt {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := range w.queue.Len() {
		a := *w.queue.At(i)
		if a.state == queued && a.name == (name{origin, l.Number}) && a.epoch == l.Epoch {
			a.state = takenBack
			return a
		}
	}
	return nil
}

// Drop gives back what waits, and cancels what runs, of those that pick reports.
func (w *Worker) Drop(pick func(*Attempt) bool) {
	var back []*Attempt
	w.mu.Lock()
	for i := range w.queue.Len() {
		if a := *w.queue.At(i); a.state == queued && pick(a) {
			a.state = takenBack
			back = append(back, a)
		}
	}
	w.mu.Unlock()
	rep := GiveBack()
	for _, a := range back {
		a.To.Reported(a, &rep)
	}
	w.cancel(pick)
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
	rep := GiveBack()
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
func (w *Worker) Cancel() { w.cancel(func(*Attempt) bool { return true }) }

func (w *Worker) cancel(pick func(*Attempt) bool) {
	w.mu.Lock()
	var current []*Attempt
	for _, s := range w.current {
		if s.a != nil && pick(s.a) {
			current = append(current, s.a)
		}
	}
	w.mu.Unlock()
	for _, a := range current {
		a.Cancel(context.Canceled)
	}
}

// pop is the next attempt to start, or nil.
func (w *Worker) pop() *Attempt {
	for w.queue.Len() > 0 {
		if a := w.queue.Pop(); a.state == queued {
			a.state = started
			return a
		}
	}
	return nil
}
