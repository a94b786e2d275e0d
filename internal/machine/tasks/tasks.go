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
// attempt: it is parked. MaxLosses workers lost with a task park it, too. One that a
// worker was lost with is leased to free slots only from then on, where it starts at once: so
// what only waited at those workers is not parked with what ended them.
package tasks

import (
	"github.com/distgear/distgear/internal/machine"
	"github.com/distgear/distgear/internal/machine/assign"
	"github.com/distgear/distgear/internal/machine/words"
)

// What is said in the words of package words, and of package assign.
type (
	// Spec is words.Spec.
	Spec = words.Spec
	// State is words.State.
	State = words.State
	// Outcome is words.Outcome.
	Outcome = words.Outcome
	// Cause is words.Cause.
	Cause = words.Cause
	// Offer is words.Offer.
	Offer = words.Offer
	// Lease is words.Lease.
	Lease = words.Lease
	// Report is words.Report.
	Report[V any] = words.Report[V]
	// Limits is words.Limits.
	Limits = words.Limits
	// Attempt is words.Attempt.
	Attempt = words.Attempt
	// Code is words.Code.
	Code = words.Code
	// Schedule is words.Schedule.
	Schedule[V any] = words.Schedule[V]
	// WorkerStats is assign.WorkerStats.
	WorkerStats = assign.WorkerStats
)

// The states.
const (
	Delayed = words.Delayed
	Ready   = words.Ready
	Leased  = words.Leased
	Parked  = words.Parked
	Ended   = words.Ended
)

// The outcomes.
const (
	Unknown  = words.Unknown
	OK       = words.OK
	Clean    = words.Clean
	Dirty    = words.Dirty
	NeverRan = words.NeverRan
)

// The causes.
const (
	Reported  = words.Reported
	Cancelled = words.Cancelled
	Late      = words.Late
	Lost      = words.Lost
	Poisonous = words.Poisonous
	ByHand    = words.ByHand
)

// What an Effect tells.
const (
	Run      = words.Run
	Recall   = words.Recall
	Stop     = words.Stop
	Finished = words.Finished
	Advanced = words.Advanced
	Accepted = words.Accepted
	Refused  = words.Refused
	Next     = words.Next
	BatchEnd = words.BatchEnd
	Moved    = words.Moved
)

// The errors of operations.
var (
	ErrNoTask     = words.ErrNoTask
	ErrFull       = words.ErrFull
	ErrConflict   = words.ErrConflict
	ErrEnded      = words.ErrEnded
	ErrNotRetried = words.ErrNotRetried
	ErrNoSchedule = words.ErrNoSchedule
	ErrInvalid    = words.ErrInvalid
	ErrMalformed  = words.ErrMalformed
	ErrJournal    = words.ErrJournal
	ErrSignals    = words.ErrSignals
)

// Item is a task to be submitted.
type Item[V any] struct {
	Task *Task[V] // zero, or with the Number and Submitted that it has already (see Passed); the machine's from then on
	Spec Spec
	Val  V // the input
}

// How a task is submitted.
type How struct {
	Wait  bool // in line, when the executor is full
	Watch bool // Finished is told to the submitter's session
}

// Effect is something to be told. Leases of a session that has ended, and what
// it watched, are told to it all the same: the host drops that. More is there if the
// code says so.
type Effect[V any] struct {
	Code  Code
	Lease Lease // of Run, Recall, Stop
	To    machine.Who
	Task  *Task[V] // only read, and only until the next operation, unless V's owner knows better
	*More[V]
}

// More is what Refused, Next, BatchEnd and Moved tell besides.
type More[V any] struct {
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

// tell appends an effect of a task.
func (o *Out[V]) tell(code Code, to machine.Session, t *Task[V]) {
	o.Effects = append(o.Effects, Effect[V]{Code: code, To: machine.Who{Session: to}, Task: t, Lease: Lease{Number: t.Number, Epoch: t.Epoch}})
}

// more appends an effect that has more to tell.
func (o *Out[V]) more(code Code, to machine.Who, m More[V]) {
	o.Effects = append(o.Effects, Effect[V]{Code: code, To: to, More: &m})
}

// What Moved tells.
const (
	TookUp    = "accepted"
	Began     = "owned"
	Rested    = "suspended"
	LostOwner = "owner gone"
	SetApart  = "parked"
	IsOver    = "finished"
)

// Task is a task as the machine keeps it: others only read it. The host makes
// it, as a zero value, alone or in a struct of its own. Its Number is 0 while it is in
// line; its Epoch that of the latest lease, 0: none yet.
type Task[V any] struct {
	assign.Node[Task[V]]
	ID  string
	Val V // the input; the result once it ended OK

	Timeout   uint32
	Attempts  uint16 // that count for Retries: reported ones
	Retries   uint16
	State     State
	Outcome   Outcome // of the last attempt; once Ended or Parked, the task's
	Cause     Cause   // once Ended or Parked
	losses    uint8   // workers lost with it
	flags     flags
	Submitted int64 // ms
	Since     int64 // ms, when it came into its state; of a delayed one, until when

	watch machine.Session // the first who watches; 0: nobody
	rare  *rare[V]        // what most have not; nil: nothing
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
