// Package words is how one speaks of an executor's tasks (internal/machine/tasks),
// and how that is written as bytes.
//
//	b = words.AppendSpec(b, &spec, before, input)                             // at a node
//	err := words.ParseSpecs(b, func(s *words.Spec, input []byte) { … })       // at the hub
//
// # Guarantees
//
// Any bytes may be parsed: nothing panics. A list is walked from its beginning, and what is malformed
// may follow what was read: who applies a list as a whole parses it twice, or collects first.
//
// # Failures
//
// ErrMalformed is all that there is to say of bytes that are not what they should be.
package words

import (
	"errors"
	"math"
	"strconv"

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
	ErrJournal    = errors.New("tasks: the journal of the run is full: 8 MiB")
	ErrSignals    = errors.New("tasks: 10 000 signals to the run wait to be taken")
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
	Bytes    int               // beyond its slots leases go on while what it has is less, by Spec.Size; 0: 1 MiB
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
	Message string // what the error said; of a lost one the node that had it, if that is known
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
	Moved                    // to nobody, if Observe was called: what has become of Task is in Text, with its worker in To
)

// Schedule is a task that is submitted again and again.
type Schedule[V any] struct {
	Name string
	Text string // when: only people and sessions read it
	Spec Spec   // of the tasks; each has the ID "Name@" and its time, in ms
	Val  V      // their input; the machine gives it to each
	Next int64  // 0: somebody is asked for it
	Last int64  // the time that was due last; 0: none yet
	Skip bool   // a time that was missed by more than a minute is left out; otherwise the first missed one fires late, and those up to now do not
	All  bool   // the first missed one fires late, and then those of the last day, one after the other

	Paused bool // what comes due is left out
}

// NowID is the ID of a task of a schedule that somebody wants at a time, in ms, besides its own.
func NowID(name string, at int64) string { return name + "@" + strconv.FormatInt(at, 10) + "-now" }

// How long the texts of a Spec may be.
const (
	MaxText   = 512
	maxLabels = 4096
)

// Fault is ErrInvalid if a spec cannot be.
func (s *Spec) Fault() error {
	if s.Kind == "" || len(s.Kind) > MaxText || len(s.ID) > MaxText || len(s.Key) > MaxText || len(s.Batch) > MaxText || len(s.Labels) > maxLabels ||
		s.NotBefore < 0 || s.NotBefore > MaxTime || s.Deadline < 0 || s.Deadline > MaxTime || s.Retain < 0 || s.Retain > MaxTime {
		return ErrInvalid
	}
	return nil
}

// Sane is l within what can be.
func (l Limits) Sane() Limits {
	for _, p := range []*int{&l.Capacity, &l.Burst, &l.Running, &l.KeyRunning, &l.MaxRetained, &l.MaxLosses} {
		*p = max(*p, 0)
	}
	for _, p := range []*int64{&l.Rate, &l.KeyRate} {
		*p = min(max(*p, 0), MaxRate)
	}
	l.Retain = min(max(l.Retain, 0), MaxTime)
	l.Burst = min(l.Burst, MaxBurst)
	return l
}

// MaxTime bounds all times, in ms: beyond the year 30000.
const MaxTime = 1 << 50

// PerToken is what one lease takes of a rate: rates are per 1000 s, so much comes back each ms.
const PerToken = 1_000_000

// The bounds of rates and bursts.
const (
	MaxRate  = math.MaxInt64 / PerToken / 2
	MaxBurst = 1 << 32
)
