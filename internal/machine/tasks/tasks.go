// Package tasks is the queue of one executor: which task goes to which worker,
// and when. See docs/adr/0005.
//
//	m := tasks.New[*job](tasks.Limits{Capacity: 1000})
//	m.Advance(now)                                    // the time of what follows
//	m.Submit(&out, me, tasks.How{Watch: true}, items) // takes tasks up, and leases them if it can
//	m.Work(&out, session, offer)                      // a worker, and what it can do: Run for each lease
//	m.Done(&out, session, reports)                    // Finished to who watches
//	m.Tick(&out, now)                                 // when Due says so
//
// It is pure. The host keeps the tasks (a Task may be part of a larger struct),
// and carries out what the effects say.
//
// # Guarantees
//
// A task is in one state:
//
//	state    | it waits for           | goes on to
//	---------+------------------------+---------------------------------------------------------------
//	in line  | room: it has no number | Ready or Delayed; gone when its submitter abandons it or ends
//	Delayed  | its time               | Ready; Ended by Cancel or deadline; Parked by Park
//	Ready    | a worker with credit   | Leased; Ended by Cancel or deadline; Parked by Park
//	Leased   | the report of a worker | Ended; Delayed (another attempt); Ready (given back, or the worker is lost or quiet); Parked
//	Parked   | a person               | Ready by Retry; Ended by Cancel
//	Ended    | Retain                 | forgotten, at once if it has no ID; Ready by Retry, if it failed
//
// It has at most one lease that counts, and ends once, unless somebody retries
// it. Nothing of a lease that is over changes it. Effects are a function of the
// operations and their times.
//
// Higher priority goes first. Within a priority the keys that may run take
// turns; tasks of one key, priority and action go first in, first out. What was given back
// goes to the front. Without a key all tasks are of one key, the empty one, to
// which limits of keys and stickiness do not apply. The empty key takes its turn as others do.
//
// # Failures
//
// A task that is not idempotent is never run again after a lost or unknown
// attempt: it is parked. MaxLosses workers lost with a task park it, too.
package tasks

import (
	"errors"

	"github.com/distgear/distgear/internal/machine"
)

// The errors of operations. With one of them nothing was changed.
var (
	ErrNoTask     = errors.New("tasks: no such task, or it is not kept any more")
	ErrFull       = errors.New("tasks: the executor is full")
	ErrConflict   = errors.New("tasks: a task with this ID exists, and is for another action")
	ErrEnded      = errors.New("tasks: the task has ended")
	ErrNotRetried = errors.New("tasks: only a parked task, or one that failed, can be retried")
	ErrNoSchedule = errors.New("tasks: no such schedule")
	ErrInvalid    = errors.New("tasks: an action, ID, key, label, batch or time that cannot be")
)

// Spec is what a submitter says about a task. Times are in ms, of the clock of
// whoever runs the machine. Strings are kept as they are.
type Spec struct {
	ID         string // by which it is found, and known when it is submitted again; empty: it cannot be found, and is forgotten at its end
	Kind       string // the action; not empty
	Key        string // fairness, limits per key, stickiness; empty is a key like others, but without limits and stickiness
	Labels     string // the worker must have them: "k=v" sorted, joined by newlines
	Batch      string // whose end is told when all of its tasks have ended
	Priority   int8   // higher first
	Idempotent bool
	Retries    uint16 // further attempts after a failure
	Timeout    uint32 // of an attempt once it runs, ms; for the worker
	NotBefore  int64  // 0: now
	Deadline   int64  // an attempt that has not been leased by then never is; 0: none
	Retain     int64  // how long the result is kept, ms; 0: the executor's
	Size       uint32 // bytes that it takes at the worker: see Offer.Bytes
}

// Item is a task to be submitted.
type Item[V any] struct {
	Task *Task[V] // zero; the machine's from then on
	Spec Spec
	Val  V // the input
}

// How a task is submitted.
type How struct {
	Wait  bool // in line, when the executor is full
	Watch bool // Finished is told to the submitter's session
}

// State of a task.
type State uint8

// The states. A task in line has none.
const (
	Delayed State = 1 + iota // its time has not come, or it waits before another attempt
	Ready
	Leased
	Parked // waits for a person
	Ended
)

// Outcome of an attempt, and of a task. The numbers are those of wire.Outcome.
type Outcome uint8

// The outcomes.
const (
	Unknown Outcome = iota
	OK
	Clean
	Dirty
	NeverRan
)

// Cause is why a task ended or was parked, if not because of what was reported.
type Cause uint8

// The causes.
const (
	Reported  Cause = iota // its last report says all
	Cancelled              // somebody cancelled it
	Late                   // its deadline came before a worker
	Lost                   // parked: its worker is lost, and it is not idempotent
	Poisonous              // parked: too many workers were lost with it
	ByHand                 // parked by a person: see Reason
)

// Offer is what a worker can do.
type Offer struct {
	Kinds    []string          // the actions; none: any action
	Labels   map[string]string // owned by the machine from then on, as Kinds is
	Slots    int               // tasks that it runs at once; 0: it takes no more, and keeps what it has
	Prefetch int               // tasks beyond that which it may have waiting; only idempotent ones
	Bytes    int               // leases go on while what it has is less, by Spec.Size; 0: 1 MiB
}

// Lease names an attempt: of which task, and which one. A Lease that is not the
// task's latest is stale.
type Lease struct {
	Number uint64 // of the task in this executor; grows
	Epoch  uint32 // counted from 1 over all leases of the task
}

// Report is what became of an attempt.
type Report[V any] struct {
	Lease
	Outcome   Outcome
	Permanent bool   // trying again is useless
	After     int64  // wait at least so long before the next attempt, ms
	Message   string // of the failure, for the history; at most 200 bytes are kept
	Val       V      // the result, or what the error says
}

// Limits of an executor. Zero is none.
type Limits struct {
	Capacity    int   // tasks that have not ended: who submits more waits or is refused
	Rate        int64 // attempts that are leased per 1000 s, those that are given back included
	Burst       int   // attempts that may start at once after a while; 0: as many as in a tenth of a second, at least 1
	Running     int   // attempts at once, those that wait at a worker included
	KeyRate     int64 // the same per key
	KeyRunning  int
	Sticky      bool  // a key's tasks go to the worker that had the last one, while that works
	Retain      int64 // ms; 0: 60 000
	MaxRetained int   // 0: 100 000
	MaxLosses   int   // workers lost with a task before it is parked; 0: 3
}

// Attempt is one lease of a task that is over.
type Attempt struct {
	Worker  machine.Session
	Began   int64
	Ended   int64
	Outcome Outcome
	Lost    bool   // the worker was lost, or quiet
	Message string // what the error said
}

// Code says what an Effect tells.
type Code uint8

// The codes.
const (
	Run      Code = 1 + iota // To runs Task, by the lease Lease
	Recall                   // To gives Lease back if it has not started
	Stop                     // To cancels what it runs under Lease, and reports all the same: the lease may be over
	Finished                 // to who watches: Task has ended, or was parked (see its State); the watch is over
	Advanced                 // to who watches: progress, see Task.Progress
	Accepted                 // to Who: all of the submission that waited has been taken up
	Refused                  // to Who: the task with the ID Text was not taken up; Why tells
	Next                     // somebody (To is empty) is asked for the next time of Schedule after Time: see NextTime
	BatchEnd                 // to Who, which watches: all tasks of the batch Text have ended; OK and Failed count them
)

// Effect is something to be told. Leases of a session that has ended, and what
// it watched, are told to it all the same: the host drops that.
type Effect[V any] struct {
	Code     Code
	To       machine.Who
	Task     *Task[V] // only read, and only until the next operation, unless V's owner knows better
	Lease    Lease
	Text     string
	Why      error
	OK       int
	Failed   int
	Time     int64
	Schedule *Schedule[V]
}

// Out collects effects. The zero value is empty.
type Out[V any] struct{ Effects []Effect[V] }

// Reset empties o and keeps its room.
func (o *Out[V]) Reset() {
	clear(o.Effects)
	o.Effects = o.Effects[:0]
}

func (o *Out[V]) add(e Effect[V]) { o.Effects = append(o.Effects, e) }

// Task is a task as the machine keeps it: others only read it. The host makes
// it, as a zero value, alone or in a struct of its own.
type Task[V any] struct {
	ID     string
	Val    V      // the input; the result once it ended OK
	Number uint64 // 0: in line
	Epoch  uint32 // of the latest lease; 0: none yet

	Timeout   uint32
	Size      uint32
	Attempts  uint16 // that count for Retries: reported ones
	Retries   uint16
	State     State
	Outcome   Outcome // of the last attempt; once Ended or Parked, the task's
	Cause     Cause   // once Ended or Parked
	losses    uint8   // workers lost with it
	flags     flags
	Submitted int64 // ms
	Since     int64 // ms, when it came into its state; of a delayed one, until when

	watch      machine.Session // the first who watches; 0: nobody
	lane       *lane[V]
	worker     *worker[V]
	prev, next *Task[V] // in its lane, at its worker, among the ended
	rare       *rare[V] // what most have not; nil: nothing
}

// Schedule is a task that is submitted again and again.
type Schedule[V any] struct {
	Name string
	Text string // when: only people and sessions read it
	Spec Spec   // of the tasks; each has the ID "Name@" and its time, in ms
	Val  V      // their input; the machine gives it to each
	Next int64  // 0: somebody is asked for it
	Last int64  // the time that was due last; 0: none yet
	Skip bool   // a time that was missed by more than a minute is left out; otherwise the first missed one fires late, and those up to now do not
}

// Stats is how an executor stands.
type Stats struct {
	Line      int // tasks in line
	Delayed   int
	Ready     int
	Leased    int
	Parked    int
	Ended     int // and still known
	Workers   int
	Slots     int
	Quiet     int    // workers of Workers
	Total     uint64 // tasks that ended since the executor began
	Oldest    int64  // when the oldest that is ready was submitted, about; 0: none
	Paused    string // why; empty when it is not
	Schedules int
	Unserved  []string // actions that wait and that no worker offers, at most 16
}
