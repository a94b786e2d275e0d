// Package tasks is the queue of one executor: which task goes to which worker,
// and when. See docs/adr/0005.
package tasks

import "github.com/distgear/distgear/internal/machine"

// Spec is what a submitter says about a task. Times are in ms, of the clock of
// whoever runs the machine. Strings are kept as they are.
type Spec struct {
	ID         string // by which it is found, and known when it is submitted again; not empty
	Kind       string // the action
	Key        string // fairness, limits per key, stickiness; empty is a key like others, but without limits and stickiness
	Labels     string // the worker must have them: "k=v" sorted, joined by newlines
	Batch      string // whose end is told when all of its tasks have ended
	Priority   int8   // higher first
	Idempotent bool
	Retries    uint16 // further attempts after a failure
	Timeout    uint32 // of an attempt once it runs, ms; for the worker
	NotBefore  int64  // 0: now
	Deadline   int64  // an attempt that has not been leased by then never is; 0: none
	Retain     int64  // how long the result is kept; 0: the executor's
}

// State of a task.
type State uint8

// The states.
const (
	Delayed State = 1 + iota // its time has not come, or it waits before another attempt
	Ready
	Leased
	Parked // waits for a person
	Ended
)

// Outcome of an attempt, and of a task. The numbers are those of wire.Outcome.
type Outcome uint8

// Offer is what a worker can do.
type Offer struct {
	Kinds    []string
	Labels   map[string]string
	Slots    int // tasks that it runs at once; 0: it takes no more, and keeps what it has
	Prefetch int // tasks beyond that which it may have waiting
	Bytes    int // of inputs that may wait there
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
	Permanent bool  // trying again is useless
	After     int64 // wait at least so long before the next attempt, ms
	Value     V     // the result, or what the error says
}

// Limits of an executor. Zero is none.
type Limits struct {
	Capacity    int   // tasks that have not ended: who submits more waits or is refused
	Rate        int64 // attempts that start per 1000 s
	Burst       int   // attempts that may start at once after a while; 0: as many as in a tenth of a second, at least 1
	Running     int   // attempts at once
	KeyRate     int64 // the same per key
	KeyRunning  int
	Sticky      bool
	Retain      int64 // ms; 0: 60 000
	MaxRetained int   // 0: 100 000
	MaxLosses   int   // workers lost with a task before it is parked; 0: 3
}

// Code says what an Effect tells.
type Code uint8

// The codes.
const (
	Run      Code = 1 + iota // To runs Task, by the lease Lease
	Recall                   // To gives Lease back if it has not started
	Stop                     // To cancels what it runs under Lease, and reports all the same
	Finished                 // to who watches: Task has ended, or was parked
	Advanced                 // to who watches: progress, Task.Done of Task.Total
	Accepted                 // to Who: Task was taken up; Known tells that it had been before
	Refused                  // to Who: it was not; Why tells
	Next                     // To is asked for the next time of the schedule Text
	BatchEnd                 // to who watches: all tasks of the batch Text have ended
)

// Effect is something to be told.
type Effect[V any] struct {
	Code  Code
	To    machine.Who
	Task  *Task[V] // the machine's: only read, and only until the next operation, unless V's owner knows better
	Lease Lease
	Known bool
	Why   error
	Text  string
}
