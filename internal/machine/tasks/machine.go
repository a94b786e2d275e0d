package tasks

import "github.com/distgear/distgear/internal/machine"

// Machine is the queue of one executor. Use New. It is not safe for concurrent use.
type Machine[V any] struct {
}

type flags uint8
type lane[V any] struct{}
type worker[V any] struct{}
type rare[V any] struct{}

// New returns an empty machine. floor is the number of the last task of a machine
// that was here before; 0: none.
func New[V any](l Limits, floor uint64) *Machine[V] { panic("soon") }

// Configure sets other limits. Leases and what is queued stay.
func (m *Machine[V]) Configure(out *Out[V], l Limits) { panic("soon") }

// Limits are those in force.
func (m *Machine[V]) Limits() Limits { panic("soon") }

// Advance sets the time of the operations that follow, in ms. It never goes back.
func (m *Machine[V]) Advance(now int64) { panic("soon") }

// Submit takes tasks up, in their order, and tells how many; items is not kept. Of those one
// that is known by its ID already is dropped: its Task stays zero (Number 0), and
// the older one is watched instead. A task that cannot be taken up for its
// own reasons (ErrConflict, ErrInvalid) is told as Refused to who, at once or later,
// and counts as taken up. waits: the others are in line, and Accepted to who
// follows when all are in. Otherwise, with n < len(items), the executor is full.
func (m *Machine[V]) Submit(out *Out[V], who machine.Who, how How, items []Item[V]) (n int, waits bool) {
	panic("soon")
}

// Abandon takes a submission out of the line; tells how many of its tasks had not
// been taken up, and false if who does not wait.
func (m *Machine[V]) Abandon(who machine.Who) (left int, ok bool) { panic("soon") }

// Work says what a worker can do from now on. One that was quiet is not any more.
func (m *Machine[V]) Work(out *Out[V], s machine.Session, o Offer) { panic("soon") }

// Unwork ends a worker that gave back what had not started: what it still has is
// taken for lost, but does not count for MaxLosses.
func (m *Machine[V]) Unwork(out *Out[V], s machine.Session) { panic("soon") }

// Done takes reports in, and tells how many of them were stale: they change nothing.
func (m *Machine[V]) Done(out *Out[V], s machine.Session, rs []Report[V]) (stale int) { panic("soon") }

// GiveBack takes back what has not started. Stale leases change nothing.
func (m *Machine[V]) GiveBack(out *Out[V], s machine.Session, ls []Lease) { panic("soon") }

// Progress notes how far an attempt is, and tells who watches.
func (m *Machine[V]) Progress(out *Out[V], s machine.Session, l Lease, done, total int64) {
	panic("soon")
}

// Cancel ends a task: at once if it is not leased; otherwise its worker is told to
// stop, and it ends with what that reports. ErrNoTask, ErrEnded.
func (m *Machine[V]) Cancel(out *Out[V], t *Task[V]) error { panic("soon") }

// Retry makes a task ready that is parked or failed, as if it were new. ErrNotRetried.
func (m *Machine[V]) Retry(out *Out[V], t *Task[V]) error { panic("soon") }

// Park keeps a task from being leased until somebody retries or cancels it. The
// worker of one that is leased is told to stop; it is parked by its report, unless
// that is OK. ErrEnded.
func (m *Machine[V]) Park(out *Out[V], t *Task[V], reason string) error { panic("soon") }

// Pause keeps tasks from being leased. What is leased goes on. reason is for people; not empty.
func (m *Machine[V]) Pause(reason string) { panic("soon") }

// Resume ends a Pause.
func (m *Machine[V]) Resume(out *Out[V]) { panic("soon") }

// Watch tells s of the end of a task, and of its progress: Finished at once if it
// has ended or is parked.
func (m *Machine[V]) Watch(out *Out[V], s machine.Session, t *Task[V]) { panic("soon") }

// Unwatch takes a Watch back.
func (m *Machine[V]) Unwatch(s machine.Session, t *Task[V]) { panic("soon") }

// WatchBatch tells who, once, when all tasks of a batch have ended that were
// submitted until then: at once if that is so, or nothing is known of the batch.
// Parked ones have not ended.
func (m *Machine[V]) WatchBatch(out *Out[V], who machine.Who, batch string) { panic("soon") }

// UnwatchBatch takes a WatchBatch back.
func (m *Machine[V]) UnwatchBatch(who machine.Who, batch string) { panic("soon") }

// Find is the task with an ID; nil: there is none, or not any more.
func (m *Machine[V]) Find(id string) *Task[V] { panic("soon") }

// Numbered is the task with a number; nil: there is none, or not any more.
func (m *Machine[V]) Numbered(n uint64) *Task[V] { panic("soon") }

// Schedule keeps a schedule, in the place of one of the same name. ErrInvalid.
func (m *Machine[V]) Schedule(out *Out[V], s Schedule[V]) error { panic("soon") }

// Unschedule ends a schedule. Its tasks stay. ErrNoSchedule.
func (m *Machine[V]) Unschedule(name string) error { panic("soon") }

// NextTime is the answer to Next: the time of the schedule after the one that was
// asked for. It changes nothing if the schedule is not the same any more (its
// Last), or has a time already.
func (m *Machine[V]) NextTime(out *Out[V], name string, last, next int64) { panic("soon") }

// AskNext asks again for each time that is missing: somebody new can answer.
func (m *Machine[V]) AskNext(out *Out[V]) { panic("soon") }

// Schedules are the schedules, by name.
func (m *Machine[V]) Schedules() []*Schedule[V] { panic("soon") }

// Expire ends a session: what it was leased is lost (idempotent tasks are ready
// again, others parked), what it has in line is dropped. Nobody is told what it watched.
func (m *Machine[V]) Expire(out *Out[V], s machine.Session) { panic("soon") }

// Quiet says that nothing was heard of a session for a while: its idempotent
// tasks are leased again, and it is leased nothing until Heard, Work, Done or
// GiveBack. Stop tells it of each.
func (m *Machine[V]) Quiet(out *Out[V], s machine.Session) { panic("soon") }

// Heard ends Quiet.
func (m *Machine[V]) Heard(out *Out[V], s machine.Session) { panic("soon") }

// Due is when Tick is wanted, in ms; 0: not until something else happens.
func (m *Machine[V]) Due() int64 { panic("soon") }

// TickMost is how much one Tick does at most.
const TickMost = 4096

// Tick does what is due at now, at most TickMost of it: call it again while Due
// is not after now.
func (m *Machine[V]) Tick(out *Out[V], now int64) { panic("soon") }

// Len is how many tasks there are that have not ended, without those in line.
func (m *Machine[V]) Len() int { panic("soon") }

// Last is the number of the last task.
func (m *Machine[V]) Last() uint64 { panic("soon") }

// Stats counts.
func (m *Machine[V]) Stats() Stats { panic("soon") }

// Idle tells that there is nothing that anybody could miss: no task, no schedule,
// nobody who works or waits, and the limits of New.
func (m *Machine[V]) Idle() bool { panic("soon") }

// Filter says which tasks a Page has. Zero fields are not asked for.
type Filter struct {
	State  State
	Kind   string
	Key    string
	Prefix string // of the ID
}

// Page is the first tasks after the number cursor, by number, at most n; next is the cursor
// of the next page, 0: there is none. It looks at 100 n tasks at most: a page may
// have fewer than n and others follow.
func (m *Machine[V]) Page(f Filter, cursor uint64, n int) (ts []*Task[V], next uint64) {
	panic("soon")
}

// AppendBinary appends the state to b. appendVal appends a value, and must
// append equal bytes for equal values if equal states are to give equal bytes.
func (m *Machine[V]) AppendBinary(b []byte, appendVal func([]byte, V) []byte) []byte {
	panic("soon")
}

// Restore makes m the state that AppendBinary wrote as b; make makes a task's
// memory, and parse is given the bytes of a value, a part of b that it must not keep. With an error b is not
// such a state, or parse refused a value, and m is as before.
func (m *Machine[V]) Restore(b []byte, parse func([]byte) (V, error)) error { panic("soon") }

// Kind is the action.
func (t *Task[V]) Kind() string { panic("soon") }

// Key is the key; empty: none.
func (t *Task[V]) Key() string { panic("soon") }

// Labels are what the worker must have; see Spec.
func (t *Task[V]) Labels() string { panic("soon") }

// Batch is the name of its batch; empty: none.
func (t *Task[V]) Batch() string { panic("soon") }

// Priority is its priority.
func (t *Task[V]) Priority() int8 { panic("soon") }

// Idempotent tells whether it may be run again after a lost attempt.
func (t *Task[V]) Idempotent() bool { panic("soon") }

// Deadline is its deadline, ms; 0: none.
func (t *Task[V]) Deadline() int64 { panic("soon") }

// Worker is who has it leased; 0: nobody.
func (t *Task[V]) Worker() machine.Session { panic("soon") }

// Failure is what the last failed report had as Val; false: there was none.
func (t *Task[V]) Failure() (V, bool) { panic("soon") }

// Reason is why a person parked it.
func (t *Task[V]) Reason() string { panic("soon") }

// Progress is what was noted last.
func (t *Task[V]) Progress() (done, total int64) { panic("soon") }

// History is its last attempts that failed or were lost, at most 16, oldest first. The
// caller does not keep it.
func (t *Task[V]) History() []Attempt { panic("soon") }
