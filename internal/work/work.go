// Package work runs the tasks of executors: who works, what runs where, and what
// became of it. The typed surface is package executor.
//
//	q := work.NewFast(r, "render", limits) // a Class: the queue is in this process
//	err := q.Submit(ctx, job)              // job.End is called when the task has ended
//	leave := q.Join(w)                     // w's slots run what q leases to it
//
// A Class holds the queue of one executor: Fast has it in this process, Durable
// in the ledger. A Worker has the slots of one call of Work; all classes of the
// executor share them. What a Class leases to a Worker is an Attempt.
//
// # Guarantees
//
// A Job ends once. A Worker runs at most as many attempts at once as it has slots,
// first come first served, without a goroutine for each that waits. An attempt that
// was given back, or taken back, did not start.
//
// # Failures
//
// What runs is reported as every command is: OK, clean, dirty, never ran, unknown.
package work

import (
	"context"
	"errors"
	"time"

	"github.com/distgear/distgear/internal/machine/tasks"
)

// The errors of submitting, cancelling and finding.
var (
	ErrFull     = errors.New("executor: full: wait, submit less at a time, or raise Capacity")
	ErrShutdown = errors.New("executor: it was shut down and takes no more tasks")
	ErrNoTask   = errors.New("executor: no such task, or its result is not kept any more (see Retain)")
	ErrParked   = errors.New("executor: the task is parked: it waits for a person, who may retry or cancel it")
)

// Class is where the queue of an executor is. Its methods may be called by any
// number of goroutines.
type Class interface {
	// Submit takes one task up; nil: accepted. It waits while the executor is full,
	// or answers ErrFull if it refuses then. ctx bounds the waiting only. After an error
	// j has not been taken up, unless the error wraps fault.ErrUnknown.
	Submit(ctx context.Context, j *Job) error
	// SubmitAll takes tasks up in their order, and tells how many: the first so many.
	SubmitAll(ctx context.Context, js []*Job) (int, error)
	// Cancel asks that a task ends. It does so by j.End, as always: at once if it
	// waits, when what runs has ended otherwise.
	Cancel(j *Job)
	// Find makes j a handle of the task with j.ID(), which somebody submitted:
	// j ends as it does, or has. ErrNoTask: it is not known (any more).
	Find(ctx context.Context, j *Job) error
	// Batch calls done, once, when all tasks of a batch have ended; also when that is
	// so already. stop: nobody wants to know any more.
	Batch(ctx context.Context, name string, done func(BatchEnd)) (stop func(), err error)
	// Join offers the slots of a worker. leave takes them away: what has not started
	// is given back, and it returns when nothing of this class runs there any more, or
	// ctx ends.
	Join(w *Worker) (leave func(ctx context.Context))
	// Pause keeps tasks from being leased; reason is for people. What runs goes on.
	// An empty reason resumes.
	Pause(ctx context.Context, reason string) error
	// Stats tells what waits and who works.
	Stats(ctx context.Context) (Stats, error)
	// Await waits until all tasks that this process has submitted have ended.
	Await(ctx context.Context) error
	// Close refuses further tasks. With now, those of this process that have not
	// started end with ErrShutdown, unless the class is durable: then they stay in the
	// queue. It tells how many that were.
	Close(now bool) int
}

// BatchEnd is what became of the tasks of a batch.
type BatchEnd struct {
	OK, Failed int   // Failed: all others, those that were cancelled too
	Err        error // the batch is not watched any more: the node left, or the outcome is unknown
}

// Stats is how an executor stands.
type Stats struct {
	Waiting  int           // ready or delayed
	Ready    int           // of those, what could be leased now
	Leased   int           // with a worker: running, or about to
	Parked   int           // waiting for a person
	Ended    int           // and still known
	Oldest   time.Duration // age of the oldest ready task
	Workers  int
	Slots    int
	Paused   string   // why; empty when it is not
	Unserved []string // actions that wait and that no worker offers, at most 16
}

// Limits are those of an executor, in the machine's words.
type Limits = tasks.Limits
