package work

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/distgear/distgear/internal/fault"
	"github.com/distgear/distgear/internal/link"
	"github.com/distgear/distgear/internal/machine"
	"github.com/distgear/distgear/internal/machine/tasks"
	"github.com/distgear/distgear/internal/room"
	"github.com/distgear/distgear/internal/work/frames"
)

// me is the session of this process with its own machine: it submits and watches.
const me machine.Session = 1

// Fast is the Class whose queue is in this process. Workers are in this process,
// or elsewhere, by links. What is queued is lost with this process.
//
// A process that is alone runs the tasks itself, with as many slots as it has
// processors, as long as nobody works for the executor here.
type Fast struct {
	room     *room.Room
	name     string
	refuse   bool
	origin   uint64 // of the names of its tasks
	limited  bool   // tasks do not start as soon as a slot is free
	capacity int
	start    time.Time
	telling  atomic.Int64 // jobs that have ended, and were not told so yet
	asked    atomic.Bool  // there is idle

	mu       sync.Mutex
	m        *tasks.Machine[*Job]
	out      tasks.Out[*Job]
	one      [1]tasks.Item[*Job]
	reports  [1]tasks.Report[*Job]
	scratch  []byte // of inputs on their way
	benches  map[machine.Session]*bench
	session  machine.Session // the last one that was given
	self     *bench          // that runs tasks as long as nobody works here; nil: not alone
	working  int             // benches of this process but self
	straight bool            // see straight.go
	adopt    bool            // what the machine leases runs already
	paused   bool
	lives    map[link.ID]*life
	pending  int           // tasks that were accepted and have not ended
	idle     chan struct{} // closed when pending is 0; nil: nobody waits
	req      uint64
	waits    map[uint64]*wait
	batches  map[uint64]func(BatchEnd)
	ended    []*Job   // to be told once mu is free
	over     []func() // batches, told after those
	closed   error    // why it takes no more tasks
	left     bool     // the node leaves, or has left
	dropped  bool     // what has not started is ended by closed
	due      int64    // when the timer fires; 0: it does not
	timer    *time.Timer
	looked   lookedAt
	ctx      context.Context // until the node has left
	quit     context.CancelFunc
	expected map[string]*expected // by batch
}

// wait is a submission in line.
type wait struct {
	done chan struct{} // closed when all is in, or the line was dropped
	jobs []*Job
	in   int // of jobs: so many were taken up, and looked at
}

// NewFast returns an empty queue. refuse: it refuses tasks when it is full,
// instead of letting submitters wait. It does no I/O.
func NewFast(r *room.Room, name string, l Limits, refuse bool) *Fast {
	f := &Fast{
		room: r, name: name, refuse: refuse, limited: l.Rate > 0 || l.Running > 0, capacity: l.Capacity, start: time.Now(), m: tasks.New[*Job](l, 0), session: me,
		benches: map[machine.Session]*bench{}, lives: map[link.ID]*life{}, waits: map[uint64]*wait{}, batches: map[uint64]func(BatchEnd){}, expected: map[string]*expected{},
	}
	f.ctx, f.quit = context.WithCancel(context.Background())
	if r.Links != nil {
		f.origin = uint64(r.Links.ID())
		r.SetRaw(frames.KindProgress+name, f.progress)
	} else {
		f.origin = rand.Uint64()
		f.self = f.seatLocked(NewWorker(r, runtime.GOMAXPROCS(0), nil, true))
		f.offeredLocked(f.self)
		f.self.here.OnOffer(func() { f.offered(f.self) })
		f.open()
	}
	r.Join((*guest)(f))
	queuesOf(r).add(f)
	f.look()
	return f
}

// now is the time of the machine: ms, from 1.
func (f *Fast) now() int64 { return time.Since(f.start).Milliseconds() + 1 }

// spec is what the machine is told of a job.
func (f *Fast) item(j *Job, now int64) tasks.Item[*Job] {
	if j.entry == nil {
		j.entry = &entry{}
	}
	s := j.Spec()
	if s.NotBefore != 0 {
		s.NotBefore += now + 1 // now is rounded down
	}
	if s.Deadline != 0 {
		s.Deadline += now
	}
	return tasks.Item[*Job]{Task: &j.task, Spec: s, Val: j}
}

// Submit implements Class.
func (f *Fast) Submit(ctx context.Context, j *Job) error {
	if f.submit(j) {
		return nil
	}
	f.mu.Lock()
	f.gather()
	if f.closed != nil {
		f.mu.Unlock()
		return f.closed
	}
	now := f.now()
	f.m.Advance(now)
	f.one[0] = f.item(j, now)
	f.req++
	who := machine.Who{Session: me, Req: f.req}
	n, waits := f.m.Submit(&f.out, who, tasks.How{Wait: !f.refuse, Watch: true}, f.one[:])
	f.one[0] = tasks.Item[*Job]{}
	if waits {
		_, err := f.inLine(ctx, who, []*Job{j}, 0)
		return err
	}
	if n == 0 {
		f.unlock()
		return ErrFull
	}
	if j.task.Number != 0 {
		f.accepted(j)
		f.unlock()
		return nil
	}
	err := f.known(j)
	f.unlock()
	return err
}

// accepted counts a job that was taken up.
func (f *Fast) accepted(j *Job) {
	j.name = name{f.origin, j.task.Number}
	if !j.counted && !j.gone {
		j.counted = true
		f.pending++
	}
}

// known makes j a second handle of the task with its ID; an error: it was refused.
func (f *Fast) known(j *Job) error {
	t := f.m.Find(j.id)
	if t == nil || t.Kind() != j.spec.Kind {
		return fmt.Errorf("%w: a task with the ID %q is there, of another action", fault.ErrConflict, j.id)
	}
	if t.Val != j {
		j.leader = t.Val
		t.Val.Tell(j)
	}
	return nil
}

// SubmitAll implements Class.
func (f *Fast) SubmitAll(ctx context.Context, js []*Job) (int, error) {
	if f.submit(js...) {
		return len(js), nil
	}
	f.mu.Lock()
	f.gather()
	if f.closed != nil {
		f.mu.Unlock()
		return 0, f.closed
	}
	now := f.now()
	f.m.Advance(now)
	items := make([]tasks.Item[*Job], len(js))
	for i, j := range js {
		items[i] = f.item(j, now)
	}
	f.req++
	who := machine.Who{Session: me, Req: f.req}
	n, waits := f.m.Submit(&f.out, who, tasks.How{Wait: !f.refuse, Watch: true}, items)
	f.taken(js[:n])
	if waits {
		return f.inLine(ctx, who, js, n)
	}
	f.unlock()
	if n < len(js) {
		return n, ErrFull
	}
	return n, nil
}

// taken looks at what the machine did with jobs that it took.
func (f *Fast) taken(js []*Job) {
	for _, j := range js {
		if j.task.Number != 0 {
			f.accepted(j)
		} else if err := f.known(j); err != nil {
			j.End(err)
		}
	}
}

// inLine waits until there is room for what is behind the first in of js. It is
// called with mu held, and unlocks it. It tells how many were taken up.
func (f *Fast) inLine(ctx context.Context, who machine.Who, js []*Job, in int) (int, error) {
	w := &wait{done: make(chan struct{}), jobs: js, in: in}
	f.waits[who.Req] = w
	f.unlock()
	err := Await(ctx, w.done)
	f.mu.Lock()
	defer f.unlock()
	if f.waits[who.Req] == w {
		f.m.Advance(f.now())
		f.abandon(who, w)
	}
	if w.in == len(js) {
		return w.in, nil
	}
	if f.closed != nil && err == nil {
		return w.in, f.closed
	}
	return w.in, fmt.Errorf("%w: gave up waiting for room: %w", ErrFull, err)
}

// abandon takes a submission out of the line.
func (f *Fast) abandon(who machine.Who, w *wait) {
	delete(f.waits, who.Req)
	in, _ := f.m.Abandon(&f.out, who)
	f.taken(w.jobs[w.in:in])
	w.in = in
}

// Join implements Class.
func (f *Fast) Join(w *Worker) (leave func(ctx context.Context)) {
	f.mu.Lock()
	f.gather()
	b := f.seatLocked(w)
	if f.left {
		defer w.Close()
	}
	if f.working++; f.working == 1 && f.self != nil {
		f.offeredLocked(f.self)
	}
	f.unlock()
	b.stop = w.OnOffer(func() { f.offered(b) })
	f.offered(b)
	return func(ctx context.Context) {
		b.stop()
		_ = w.Await(ctx)
		f.mu.Lock()
		f.m.Advance(f.now())
		f.m.Unwork(&f.out, b.session, f.room.Node)
		delete(f.benches, b.session)
		if f.working--; f.working == 0 && f.self != nil {
			f.offeredLocked(f.self)
		}
		f.unlock()
	}
}

// seatLocked gives a worker here a session.
func (f *Fast) seatLocked(w *Worker) *bench {
	f.session++
	b := &bench{f: f, session: f.session, here: w}
	f.benches[b.session] = b
	return b
}

// offered tells the machine what a worker here offers now.
func (f *Fast) offered(b *bench) {
	f.mu.Lock()
	f.offeredLocked(b)
	f.unlock()
}

func (f *Fast) offeredLocked(b *bench) {
	if f.benches[b.session] != b {
		return
	}
	f.m.Advance(f.now())
	f.m.Work(&f.out, b.session, f.offerOf(b))
}

// offerOf is what a worker here offers now.
func (f *Fast) offerOf(b *bench) tasks.Offer {
	if b == f.self && f.working > 0 {
		return nothing()
	}
	o := b.here.Offer()
	o.Prefetch, o.Bytes = 0, math.MaxInt // what waits does so in the queue: it is as near
	return o
}

// Cancel implements Class.
func (f *Fast) Cancel(j *Job) {
	if j.Over() {
		return
	}
	f.mu.Lock()
	f.gather()
	if j.entry != nil && j.leader != nil {
		j = j.leader
	}
	if j.entry == nil || j.gone { // it has ended, or will in this very moment
		f.unlock()
		return
	}
	f.m.Advance(f.now())
	if j.why == nil {
		j.why = fmt.Errorf("%w: task %s of %s", fault.ErrCancelled, j.ID(), j.spec.Kind)
	}
	_ = f.m.Cancel(&f.out, &j.task) // it has ended then
	f.unlock()
}

// Find implements Class.
func (f *Fast) Find(_ context.Context, j *Job) error {
	f.mu.Lock()
	t := f.m.Find(j.id)
	if t == nil {
		f.mu.Unlock()
		return fmt.Errorf("%w: %q", ErrNoTask, j.id)
	}
	j.entry = &entry{leader: t.Val}
	f.mu.Unlock()
	t.Val.Tell(j)
	return nil
}

// Batch implements Class.
func (f *Fast) Batch(_ context.Context, name string, done func(BatchEnd)) (stop func(), err error) {
	f.mu.Lock()
	f.req++
	who := machine.Who{Session: me, Req: f.req}
	f.batches[who.Req] = done
	f.m.WatchBatch(&f.out, who, name)
	f.unlock()
	return func() {
		f.mu.Lock()
		delete(f.batches, who.Req)
		f.m.UnwatchBatch(who)
		f.mu.Unlock()
	}, nil
}

// Pause implements Class.
func (f *Fast) Pause(_ context.Context, reason string) error {
	f.mu.Lock()
	f.gather()
	f.paused = reason != ""
	f.m.Advance(f.now())
	if reason == "" {
		f.m.Resume(&f.out)
	} else {
		f.m.Pause(reason)
	}
	f.unlock()
	return nil
}

// Stats implements Class.
func (f *Fast) Stats(context.Context) (Stats, error) {
	f.mu.Lock()
	defer f.unlock()
	f.gather()
	s := f.m.Stats()
	r := Stats{
		Waiting: s.Delayed + s.Ready + s.Line, Ready: s.Ready, Leased: s.Leased, Parked: s.Parked, Ended: s.Ended,
		Workers: s.Workers, Slots: s.Slots, Paused: s.Paused, Unserved: s.Unserved,
	}
	if s.Oldest > 0 {
		r.Oldest = time.Duration(f.now()-s.Oldest) * time.Millisecond
	}
	return r, nil
}

// Await implements Class.
func (f *Fast) Await(ctx context.Context) error {
	f.mu.Lock()
	f.gather()
	f.asked.Store(true)
	if f.idle == nil {
		f.idle = make(chan struct{})
	}
	idle := f.idle
	f.unlock()
	return Await(ctx, idle)
}

// Close implements Class.
func (f *Fast) Close(now bool) int {
	f.mu.Lock()
	defer f.unlock()
	f.gather()
	if f.closed == nil {
		f.closed = ErrShutdown
	}
	if !now {
		return 0
	}
	return f.drop(f.closed)
}

// drop ends what has not started, for a reason.
func (f *Fast) drop(why error) (n int) {
	f.m.Advance(f.now())
	f.dropped = true
	for req, w := range f.waits {
		who := machine.Who{Session: me, Req: req}
		f.abandon(who, w)
		n += len(w.jobs) - w.in
		close(w.done)
	}
	var cursor uint64
	for {
		page, next := f.m.Page(tasks.Filter{}, cursor, 1000)
		for _, t := range page {
			switch t.State {
			case tasks.Delayed, tasks.Ready, tasks.Parked:
				t.Val.why = why
				_ = f.m.Cancel(&f.out, t)
				n++
			case tasks.Leased:
				n += f.recall(t.Val)
			}
		}
		if next == 0 {
			return n
		}
		cursor = next
	}
}

// guest is Fast as its node sees it.
type guest Fast

// Changed implements room.Guest.
func (g *guest) Changed() { (*Fast)(g).look() }

// Leaving implements room.Guest.
func (g *guest) Leaving() {
	f := (*Fast)(g)
	f.mu.Lock()
	f.gather()
	f.left = true
	f.closed = fault.ErrLeft
	f.drop(fault.ErrLeft)
	var here []*Worker
	for _, b := range f.benches {
		if b.here != nil {
			here = append(here, b.here)
		}
	}
	f.unlock()
	for _, w := range here {
		w.Close()
	}
}

// Left implements room.Guest.
func (g *guest) Left() {
	f := (*Fast)(g)
	f.mu.Lock()
	if f.timer != nil {
		f.timer.Stop()
	}
	batches := f.batches
	f.batches = nil
	f.quit()
	f.unlock()
	for _, done := range batches {
		done(BatchEnd{Err: fault.ErrLeft})
	}
}

// unlock carries out what the machine wants told, and unlocks mu.
func (f *Fast) unlock() {
	f.carryOut()
	if d := f.m.Due(); d != f.due && d != 0 {
		f.arm(d)
	}
	n := int64(len(f.ended))
	if f.telling.Add(n) == 0 && f.pending == 0 && f.idle != nil {
		close(f.idle)
		f.idle = nil
		f.asked.Store(false)
	}
	f.open()
	if len(f.ended)+len(f.over) == 0 {
		f.mu.Unlock()
		return
	}
	over := f.over
	f.over = nil
	var space [8]*Job // mostly it is one
	ended := append(space[:0], f.ended...)
	clear(f.ended)
	f.ended = f.ended[:0]
	f.mu.Unlock()
	for _, j := range ended {
		if !f.tell(j) {
			n--
		}
	}
	f.told(n)
	for _, done := range over {
		done()
	}
}

// told notes that jobs were told that they have ended.
func (f *Fast) told(n int64) {
	if f.telling.Add(-n) == 0 && f.asked.Load() {
		f.mu.Lock()
		f.unlock()
	}
}

// tell ends a job as its task has ended; false: it will, when its result is here.
func (f *Fast) tell(j *Job) bool {
	r := j.last
	if r == nil {
		j.End(j.why)
		return true
	}
	j.last = nil // it may hold much more than what is of j
	if ref, ok := r.result(); ok {
		f.room.Pool.Go(&fetching{f, j, ref, r.node})
		return false
	}
	j.Report(f.room, &r.Report, r.node)
	return true
}

// arm sets the timer.
func (f *Fast) arm(due int64) {
	f.due = due
	d := time.Until(f.start.Add(time.Duration(due-1) * time.Millisecond))
	if f.timer == nil {
		f.timer = time.AfterFunc(d, f.tick)
		return
	}
	f.timer.Reset(d)
}

func (f *Fast) tick() {
	f.mu.Lock()
	now := f.now()
	f.due = 0
	for d := f.m.Due(); d != 0 && d <= now; d = f.m.Due() {
		f.m.Tick(&f.out, now)
		f.carryOut()
	}
	f.unlock()
}

var (
	_ Class      = (*Fast)(nil)
	_ room.Guest = (*guest)(nil)
)
