// Package executor distributes tasks over workers: over the goroutines of one
// process, or over the nodes of a cluster, with the same program. A task is an
// action with an input; its result comes by a future.
//
//	ex := executor.New(n, "render")                        // cheap, no I/O
//	f, err := executor.Submit(ctx, ex, Render, frame)      // waits only while the executor is full
//	png, err := f.Wait(ctx)
//
//	for png, err := range executor.Map(ctx, ex, Render, slices.Values(frames)) { … }
//
//	err := ex.Work(ctx, 8, Render)                         // elsewhere, or here: until ctx ends
//
// Alone, an executor for which nobody works in the process runs its tasks itself,
// as many at once as there are processors. In a cluster it needs workers: tasks
// wait until one comes that offers their action. Workers are leased tasks as they have
// free slots, so load balances itself; they come and go at any time.
//
// An action is run as by Action.Call: Timeout, Retries, Idempotent, Permanent,
// Clean, RetryAfter and panics mean the same. distgear.KeyOf is the task's ID in all
// attempts. Action.Queue does not apply: see Deadline.
//
// # Guarantees
//
// A future ends once. Attempts of a task do not overlap, but for an idempotent
// task whose worker was lost. What was cancelled before it started never runs.
// Higher Priority first; within a priority keys take turns, and tasks of one key
// are leased in the order in which they came. What a worker gives back goes to the front.
//
// Without Durable the queue is in the process that submits: its tasks end with it,
// and limits, priorities and keys hold for what one process submits. Values that
// nobody could change behind the other's back stay as they are within a process;
// all others are encoded when they are submitted, and results when they are there. In a
// cluster an input or a result has at most 64 MiB encoded; what is above
// distgear.MaxPayload (64 KiB, if Durable) goes by the hub's object store.
//
// # Failures
//
// A task that failed is a *distgear.RemoteError, as a call is. When its worker was
// lost an idempotent task goes to another one; others end with distgear.ErrUnknown, as
// does a task with which three workers were lost. ErrFull, ErrShutdown and distgear.ErrInvalid
// mean that nothing was taken up.
package executor

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/distgear/distgear"
	"github.com/distgear/distgear/internal/room"
	"github.com/distgear/distgear/internal/work"
	"github.com/distgear/distgear/internal/work/durable"
	"github.com/distgear/distgear/internal/work/stand"
)

// The errors of executors.
var (
	// ErrFull: the executor has as many tasks as it may. Nothing was taken up.
	ErrFull = work.ErrFull
	// ErrShutdown: it was shut down. Nothing was taken up; a task that ends with it never ran.
	ErrShutdown = work.ErrShutdown
	// ErrNoTask: no task has that ID, or its result is not kept any more.
	ErrNoTask = work.ErrNoTask
	// ErrNoSchedule: the executor has no schedule of that name. It is distgear.ErrInvalid, too.
	ErrNoSchedule = durable.ErrNoSchedule
	// ErrParked: the task waits for a person.
	ErrParked = work.ErrParked
)

// Config says how an executor is; the zero value works. All who use an executor
// say the same; in one process another Config for the same name is refused.
type Config struct {
	// Durable: tasks are kept by the cluster's ledger. What was accepted survives its
	// submitter, the workers and the hub; alone it is as without.
	Durable bool
	// Capacity is how many tasks there may be that have not ended; zero means
	// 1 000 000. Who submits more waits.
	Capacity int
	// Refuse: who submits more is refused, with ErrFull, instead of waiting.
	Refuse bool

	Rate           float64       // attempts that may start per second; zero means no limit
	Concurrency    int           // attempts at once, over all workers; zero means no limit
	KeyRate        float64       // as Rate, for the tasks of each Key
	KeyConcurrency int           // as Concurrency, for the tasks of each Key
	Sticky         bool          // tasks of a Key go to the worker that had the last one, while that works
	Retain         time.Duration // how long the result of a task with an ID is kept; zero means 1 min. No more than 100 000 are kept
	Grace          time.Duration // what runs when its Work ends goes on for so long, and is cancelled then; zero means 30 s
}

const (
	defaultCapacity = 1_000_000
	defaultGrace    = 30 * time.Second
	maxName         = 100
)

// Executor is a named queue of tasks, and those who work on it. Make it with New;
// it is safe for concurrent use. Executors of one name at one node are the same one.
type Executor struct{ *core }

// core is what the Executors of one name have in common.
type core struct {
	n     *distgear.Node
	room  *room.Room
	name  string
	cfg   Config
	fault error // why it cannot be used
	fast  *work.Fast
	class work.Class // fast, or the durable one

	last    atomic.Pointer[preparing] // what was submitted last
	actions sync.Map                  // any of *distgear.Action → *prepared
	waiters sync.Pool                 // see work.Job.Wait
}

type coreKey string

// New returns the executor with that name, with the zero Config. The name has at
// most 100 bytes, without blanks and : /. It does no I/O; a fault is told by Submit and Work.
func New(n *distgear.Node, name string) *Executor { return Config{}.New(n, name) }

// New returns the executor with that name; see the function New.
func (c Config) New(n *distgear.Node, name string) *Executor {
	r := n.Room()
	e := r.Value(coreKey(name), func() any { return c.open(n, r, name) }).(*core) //nolint:forcetypeassert // it is ours
	if e.cfg != c {
		return &Executor{&core{n: n, room: r, name: name, cfg: c, fast: e.fast, class: e.class,
			fault: fmt.Errorf("%w: executor %q is in use in this process with another Config", distgear.ErrInvalid, name)}}
	}
	return &Executor{e}
}

func (c Config) open(n *distgear.Node, r *room.Room, name string) *core {
	e := &core{n: n, room: r, name: name, cfg: c}
	if err := c.check(name); err != nil {
		e.fault = fmt.Errorf("%w: executor %q: %w", distgear.ErrInvalid, name, err)
		return e
	}
	l := work.Limits{
		Capacity: c.Capacity, Rate: int64(c.Rate * 1000), Running: c.Concurrency, KeyRate: int64(c.KeyRate * 1000), KeyRunning: c.KeyConcurrency,
		Sticky: c.Sticky, Retain: c.Retain.Milliseconds(),
	}
	if l.Capacity == 0 {
		l.Capacity = defaultCapacity
	}
	e.fast = work.NewFast(r, name, l, c.Refuse)
	e.class = e.fast
	if c.Durable && !r.Ledger.Alone() {
		e.class = durable.New(r, name, l, c.Refuse)
	}
	return e
}

func (c Config) check(name string) error {
	var faults []error
	fault := func(bad bool, format string, args ...any) {
		if bad {
			faults = append(faults, fmt.Errorf(format, args...))
		}
	}
	fault(name == "" || len(name) > maxName || strings.ContainsAny(name, ":/ \t\r\n"), "its name: 1 to %d bytes, without blanks and : /", maxName)
	fault(c.Capacity < 0, "Capacity %d is negative", c.Capacity)
	fault(c.Concurrency < 0 || c.KeyConcurrency < 0, "Concurrency and KeyConcurrency must not be negative")
	for _, rate := range []float64{c.Rate, c.KeyRate} {
		fault(rate != 0 && !(rate >= 0.001 && rate <= math.MaxInt64/2000), "rate %v: want at least 0.001 in a second, or zero for no limit", rate)
	}
	fault(c.Retain < 0 || c.Grace < 0, "Retain and Grace must not be negative")
	fault(c.Retain > 0 && c.Retain < time.Millisecond, "Retain %v: at least 1 ms", c.Retain)
	return errors.Join(faults...)
}

// Name is the executor's name.
func (e *Executor) Name() string { return e.name }

// Work offers so many slots for some actions, here, until ctx ends; then it gives back what
// has not started, and waits for what runs: for Grace, then it cancels that, and
// waits as long again. Concurrency 0 means as many as there are processors. It
// returns nil when nothing runs any more; distgear.ErrLeft when the node has left.
//
// Several may work at one node, each with slots of its own. The actions need not be
// handled by the node. Alone, an executor for which somebody works runs nothing itself.
func (e *Executor) Work(ctx context.Context, concurrency int, actions ...distgear.Handler) error {
	if err := e.faulty(); err != nil {
		return err
	}
	m := make(map[string]any, len(actions))
	var faults []error
	if concurrency < 0 || concurrency > 1<<16 {
		faults = append(faults, fmt.Errorf("concurrency %d: want 1 to 65536, or 0 for the number of processors", concurrency))
	}
	if len(actions) == 0 {
		faults = append(faults, errors.New("name the actions that it works on"))
	}
	for i, a := range actions {
		if a == nil {
			faults = append(faults, fmt.Errorf("action %d is nil", i+1))
			continue
		}
		if err := e.room.Check(a); err != nil {
			faults = append(faults, err)
			continue
		}
		if m[a.Kind()] != nil {
			faults = append(faults, fmt.Errorf("action %q is there twice", a.Kind()))
		}
		m[a.Kind()] = a
	}
	if len(faults) > 0 {
		return fmt.Errorf("%w: work for executor %q: %w", distgear.ErrInvalid, e.name, errors.Join(faults...))
	}
	if concurrency == 0 {
		concurrency = runtime.GOMAXPROCS(0)
	}
	w := work.NewWorker(e.room, concurrency, m, false)
	leaveStand := stand.Join(e.room, e.name, w)
	leave := []func(context.Context){func(context.Context) { leaveStand() }, e.fast.Join(w)}
	if e.class != work.Class(e.fast) {
		leave = append(leave, e.class.Join(w))
	}
	var err error
	select {
	case <-ctx.Done():
	case <-w.Closed():
		err = distgear.ErrLeft
	}
	w.Close()
	if left := e.drain(w); left != nil && err == nil {
		err = left
	}
	over, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	for _, l := range leave {
		l(over)
	}
	return err
}

// drain waits for what runs, at first as long as it likes.
func (e *Executor) drain(w *work.Worker) error {
	grace := e.cfg.Grace
	if grace == 0 {
		grace = defaultGrace
	}
	for range 2 {
		ctx, cancel := context.WithTimeout(context.Background(), grace)
		err := w.Await(ctx)
		cancel()
		if err == nil {
			return nil
		}
		w.Cancel()
	}
	return fmt.Errorf("executor %q: %d tasks were cancelled and run all the same after %v: their actions do not heed their context", e.name, w.Running(), grace)
}

func (e *core) faulty() error { return e.fault }

// Shutdown takes no more tasks of this process, and waits until those that it has
// submitted have ended. The error is ctx's cause: some go on.
func (e *Executor) Shutdown(ctx context.Context) error {
	if e.fault != nil {
		return e.fault
	}
	e.class.Close(false)
	return e.class.Await(ctx)
}

// ShutdownNow takes no more tasks of this process, ends those that have not
// started with ErrShutdown (durable ones stay in the queue), and waits for what runs. It
// tells how many have not started, as far as that is known at once.
func (e *Executor) ShutdownNow(ctx context.Context) (int, error) {
	if e.fault != nil {
		return 0, e.fault
	}
	n := e.class.Close(true)
	return n, e.class.Await(ctx)
}

// Await waits until all tasks that this process has submitted have ended. The
// error is ctx's cause.
func (e *Executor) Await(ctx context.Context) error {
	if e.fault != nil {
		return e.fault
	}
	return e.class.Await(ctx)
}

// Pause keeps tasks from being started until Resume; what runs goes on. The reason is
// for people; empty means "paused". Without Durable it is for what this process submits.
func (e *Executor) Pause(ctx context.Context, reason string) error {
	if e.fault != nil {
		return e.fault
	}
	if reason == "" {
		reason = "paused"
	}
	return e.class.Pause(ctx, reason)
}

// Resume ends a Pause.
func (e *Executor) Resume(ctx context.Context) error {
	if e.fault != nil {
		return e.fault
	}
	return e.class.Pause(ctx, "")
}

// Stats is how an executor stands; without Durable: its queue in this process.
type Stats struct {
	Waiting  int           // tasks that wait for their time, or for a worker
	Ready    int           // of those, tasks that wait for a worker only
	Leased   int           // with a worker: running, or about to
	Parked   int           // waiting for a person
	Ended    int           // and still known by their ID
	Oldest   time.Duration // how long the oldest of Ready waits, about
	Workers  int           // calls of Work that this queue knows
	Slots    int           // of those workers
	Paused   string        // why; empty: it is not
	Unserved []string      // actions that wait, and that no worker offers; at most 16
}

// Stats tells how the executor stands.
func (e *Executor) Stats(ctx context.Context) (Stats, error) {
	if e.fault != nil {
		return Stats{}, e.fault
	}
	s, err := e.class.Stats(ctx)
	return Stats(s), err
}

// BatchEnd is what became of the tasks of a batch.
type BatchEnd struct {
	OK     int // tasks
	Failed int // all others: those that were cancelled, too
}

// AwaitBatch waits until all tasks of a Batch have ended that were submitted so far, and
// tells what became of them. An unknown batch is one that has ended, with no tasks:
// what has ended is forgotten with its results (Retain).
func (e *Executor) AwaitBatch(ctx context.Context, batch string) (BatchEnd, error) {
	if e.fault != nil {
		return BatchEnd{}, e.fault
	}
	told := make(chan work.BatchEnd, 1) // told once, and nobody may be there any more
	stop, err := e.class.Batch(ctx, batch, func(b work.BatchEnd) { told <- b })
	if err != nil {
		return BatchEnd{}, err
	}
	select {
	case b := <-told:
		return BatchEnd{b.OK, b.Failed}, b.Err
	case <-ctx.Done():
		stop()
		return BatchEnd{}, context.Cause(ctx)
	}
}

// Progress tells who submitted the task that ctx belongs to how far it is: done
// of total, in whatever unit. Elsewhere than in a task it does nothing. It may be
// called often: what is sent is at most five a second.
func Progress(ctx context.Context, done, total int64) {
	if a := work.AttemptOf(ctx); a != nil {
		a.Advance(done, total)
	}
}
