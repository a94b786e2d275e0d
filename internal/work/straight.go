package work

import (
	"time"

	"github.com/distgear/distgear/internal/machine"
	"github.com/distgear/distgear/internal/machine/tasks"
)

// The straight way: as long as a process that is alone has plain tasks only, they
// wait in the ring of its own worker, and the machine knows nothing of them. Whoever
// needs more than that calls gather first: it tells the machine of all of them, as if they
// had come to it, and what runs as leased. Then all is as always, until the machine is empty again.

// plain tells whether nothing but its turn decides when a job may start.
func (j *Job) plain() bool {
	s := j.spec
	return j.id == "" && s.Key == "" && s.Labels == "" && s.Batch == "" && s.Priority == 0 && s.NotBefore == 0 && s.Deadline == 0 && s.Kind != "" && len(s.Kind) <= 512
}

// open opens the straight way if it may be open.
func (f *Fast) open() {
	if f.straight || f.self == nil || f.working > 0 || f.paused || f.closed != nil || f.limited || f.m.Len() > 0 || len(f.waits) > 0 {
		return
	}
	f.straight = f.self.here.open(f.m.Last(), f.capacity)
}

// gather closes the straight way, with mu held.
func (f *Fast) gather() {
	if !f.straight {
		return
	}
	f.straight = false
	w := f.self.here
	last, ended, run, wait := w.gather()
	f.m.Passed(last, ended)
	if len(run)+len(wait) == 0 {
		return
	}
	now := f.now()
	f.m.Advance(now)
	if len(run) > 0 {
		o := f.offerOf(f.self)
		o.Slots = max(o.Slots, len(run)) // that of an attempt which waited for others may have been lent
		f.m.Work(&f.out, f.self.session, o)
		f.adopt = true
		f.replay(run, now)
		f.adopt = false
		f.offeredLocked(f.self)
	}
	f.replay(wait, now)
}

// replay tells the machine of jobs that have their numbers.
func (f *Fast) replay(as []*Attempt, now int64) {
	items := make([]tasks.Item[*Job], len(as))
	for i, a := range as {
		j := a.job
		items[i] = f.item(j, now)
		j.task.Number, j.task.Submitted = j.name.number, now
		if j.at != 0 {
			j.task.Submitted = j.at
		}
	}
	f.req++
	f.m.Submit(&f.out, machine.Who{Session: me, Req: f.req}, tasks.How{Watch: true}, items) // there is room: see Worker.straight
	for _, a := range as {
		f.accepted(a.job)
	}
	f.carryOut()
}

// submit takes jobs up by the straight way; false: it is closed to them.
func (f *Fast) submit(js ...*Job) bool {
	if f.self == nil {
		return false
	}
	for _, j := range js {
		if !j.plain() {
			return false
		}
	}
	w := f.self.here
	for _, j := range js {
		a := &j.first
		a.Context, a.Kind, a.Number, a.Timeout, a.From = &j.ctx, j.spec.Kind, 1, j.spec.Timeout, f.room.Node
		a.To, a.job, a.worker = f.self, j, w
		j.name.origin = f.origin
	}
	return w.straight(js, f.now)
}

// way is the straight way at a Worker.
type way struct {
	open     bool
	capacity int    // tasks that may wait or run
	last     uint64 // number of a task
	ended    uint64 // tasks, since it was opened
}

// open opens the straight way. Nothing that the machine knows waits or runs here.
func (w *Worker) open(last uint64, capacity int) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return false
	}
	w.way = way{open: true, last: last, capacity: capacity}
	return true
}

// gather closes it, and tells what runs and what waits; both belong to the caller.
func (w *Worker) gather() (last, ended uint64, run, wait []*Attempt) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.way.open = false
	for _, s := range w.current {
		if s.a != nil && s.a.straight {
			s.a.straight = false
			run = append(run, s.a)
		}
	}
	for w.queue.Len() > 0 {
		if a := w.pop(); a != nil {
			a.straight, a.state = false, takenBack
			wait = append(wait, a)
		}
	}
	return w.way.last, w.way.ended, run, wait
}

// straight puts the first attempts of jobs; false: none of them.
func (w *Worker) straight(js []*Job, now func() int64) bool {
	w.mu.Lock()
	if !w.way.open || w.queue.Len()+w.running+len(js) > w.way.capacity {
		w.mu.Unlock()
		return false
	}
	at := int64(0) // what starts at once does not wait
	if w.queue.Len()+w.running+len(js) > w.slots {
		at = now()
	}
	for _, j := range js {
		w.way.last++
		j.name.number, j.at, j.helper = w.way.last, at, w
		j.first.name, j.first.state, j.first.straight = j.name, queued, true
		w.queue.Push(&j.first)
	}
	start := w.startLocked()
	w.mu.Unlock()
	if start {
		w.room.Pool.Go(w)
	}
	return true
}

// help runs an attempt in the goroutine that waits for it, if it is the next and a
// slot is free: that spares two hand-overs. False: it is not, or has started.
func (w *Worker) help(a *Attempt) bool {
	w.mu.Lock()
	if !a.straight || w.queue.Len() == 0 || *w.queue.At(0) != a || w.running >= w.slots+w.lent {
		w.mu.Unlock()
		return false
	}
	w.queue.Pop()
	s := w.slotLocked()
	s.begin(w, a)
	start := w.startLocked()
	w.mu.Unlock()
	if start {
		w.room.Pool.Go(w)
	}
	w.runOne(s, a, time.Now())
	j := w.overLocked(s, a)
	w.free = append(w.free, s)
	start = w.startLocked()
	w.mu.Unlock()
	if start {
		w.room.Pool.Go(w)
	}
	w.end(j)
	return true
}
