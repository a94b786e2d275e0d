package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/distgear/distgear/bench/proc"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"
)

const (
	riverWorkers = river.QueueNumWorkersMax // River looks for jobs ten times a second: what it takes at once is its rate
	riverBatch   = 5000                     // jobs in a call of InsertManyFast
)

type noneArgs struct {
	Task int `json:"task"`
}

func (noneArgs) Kind() string { return "none" }

// riverCaller is a River client that inserts and works in one process, with its defaults but for the numbers above. A job's result is the event that it is complete,
// which River sends when the database says so.
//
// A worker's death is not measured: River rescues a job after an hour (RescueStuckJobsAfter).
func riverCaller(sp proc.Spec) (*proc.Role, error) {
	ctx := context.Background()
	pool, err := pgxpool.New(ctx, sp.URL)
	if err != nil {
		return nil, err
	}
	driver := riverpgxv5.New(pool)
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	migrator, err := rivermigrate.New(driver, &rivermigrate.Config{Logger: log})
	if err != nil {
		return nil, err
	}
	if _, err := migrator.Migrate(ctx, rivermigrate.DirectionUp, nil); err != nil {
		return nil, err
	}
	var tally atomic.Pointer[proc.Tally]
	workers := river.NewWorkers()
	river.AddWorker(workers, river.WorkFunc(func(_ context.Context, job *river.Job[noneArgs]) error {
		tally.Load().Ran(job.Args.Task)
		return nil
	}))
	c, err := river.NewClient(driver, &river.Config{
		Queues: map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: riverWorkers}}, Workers: workers, Logger: log,
	})
	if err != nil {
		return nil, err
	}
	ended, unsubscribe := c.SubscribeConfig(&river.SubscribeConfig{ // all: it drops what does not fit
		ChanSize: sp.Count + 1, Kinds: []river.EventKind{river.EventKindJobCompleted, river.EventKindJobFailed, river.EventKindJobCancelled}})
	next := func(ctx context.Context) (int64, error) {
		var e *river.Event
		select {
		case e = <-ended:
		case <-ctx.Done():
			return 0, ctx.Err()
		}
		if e.Kind != river.EventKindJobCompleted {
			return 0, fmt.Errorf("job %d: %s", e.Job.ID, e.Kind)
		}
		return e.Job.ID, nil
	}
	if err := c.Start(ctx); err != nil {
		return nil, err
	}
	stop := func() {
		soft, cancel := context.WithTimeout(ctx, 3*time.Second)
		defer cancel()
		c.Stop(soft)
		unsubscribe()
		pool.Close()
	}
	if sp.Row == "exec-durable-latency" {
		return runRole(func() (proc.Reply, error) {
			return proc.Sequence(sp, 1, func(t proc.Tally) { tally.Store(&t) }, func(i int) error {
				r, err := c.Insert(ctx, noneArgs{i}, nil)
				if err != nil {
					return err
				}
				id, err := next(ctx)
				if err == nil && id != r.Job.ID {
					err = fmt.Errorf("job %d ended, not %d", id, r.Job.ID)
				}
				return err
			})
		}, stop), nil
	}
	return runRole(func() (proc.Reply, error) {
		return proc.BurnDown(sp, func(t proc.Tally) error {
			tally.Store(&t)
			for first := 0; first < sp.Count; first += riverBatch {
				var jobs []river.InsertManyParams
				for i := first; i < min(first+riverBatch, sp.Count); i++ {
					jobs = append(jobs, river.InsertManyParams{Args: noneArgs{i}})
				}
				if _, err := c.InsertManyFast(ctx, jobs); err != nil {
					return err
				}
			}
			return nil
		}, func(ctx context.Context) error {
			for range sp.Count {
				if _, err := next(ctx); err != nil {
					return err
				}
			}
			return nil
		})
	}, stop), nil
}
