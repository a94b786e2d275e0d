package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/distgear/distgear/bench/proc"
	"github.com/hibiken/asynq"
)

const (
	// asynqWorkers is how many tasks asynq's server runs at once; its default, the number of processors, is slower where Redis syncs.
	asynqWorkers = 256
	// asynqSubmitters hand in tasks side by side: asynq has no call for many. Redis syncs once for what came in together.
	asynqSubmitters = 64
)

// asynqCaller is asynq's client and its server in one process, both with their defaults but for the numbers above. A task's result is that its function ended; asynq
// keeps it in Redis, where only asking again and again finds it.
//
// A worker's death is not measured: asynq takes a task back 30 s after its lease of 30 s was last renewed, looks once a minute, and so needs about 90 s.
func asynqCaller(sp proc.Spec) (*proc.Role, error) {
	at := asynq.RedisClientOpt{Addr: sp.URL, PoolSize: asynqSubmitters + asynqWorkers}
	client, inspector := asynq.NewClient(at), asynq.NewInspector(at)
	server := asynq.NewServer(at, asynq.Config{Concurrency: asynqWorkers, LogLevel: asynq.ErrorLevel})
	var (
		tally atomic.Pointer[proc.Tally]
		ended = make(chan int, asynqWorkers) // as many as run at once
	)
	handler := asynq.HandlerFunc(func(_ context.Context, task *asynq.Task) error {
		i := int(binary.BigEndian.Uint64(task.Payload()))
		tally.Load().Ran(i)
		ended <- i
		return nil
	})
	if err := server.Start(handler); err != nil {
		return nil, err
	}
	submit := func(i int) error {
		_, err := client.Enqueue(asynq.NewTask("none", binary.BigEndian.AppendUint64(nil, uint64(i))))
		return err
	}
	stop := func() {
		server.Shutdown()
		client.Close()
		inspector.Close()
	}
	if sp.Row == "exec-durable-latency" {
		return runRole(func() (proc.Reply, error) {
			return proc.Sequence(sp, 1, func(t proc.Tally) { tally.Store(&t) }, func(i int) error {
				if err := submit(i); err != nil {
					return err
				}
				if got := <-ended; got != i {
					return fmt.Errorf("task %d ended, not %d", got, i)
				}
				return nil
			})
		}, stop), nil
	}
	return runRole(func() (proc.Reply, error) {
		return proc.BurnDown(sp, func(t proc.Tally) error {
			tally.Store(&t)
			return spread(asynqSubmitters, sp.Count, submit)
		}, func(ctx context.Context) error {
			for range sp.Count {
				select {
				case <-ended:
				case <-ctx.Done():
					return ctx.Err()
				}
			}
			for { // until Redis knows it too
				q, err := inspector.GetQueueInfo("default")
				if err != nil || q.Size == 0 {
					return err
				}
				if q.Retry+q.Archived > 0 {
					return errors.New("tasks failed")
				}
				time.Sleep(time.Millisecond)
			}
		})
	}, stop), nil
}

// spread calls do with 0 … n-1 from several goroutines.
func spread(goroutines, n int, do func(i int) error) error {
	var next atomic.Int64
	errs := make([]error, goroutines)
	var wg sync.WaitGroup
	for g := range goroutines {
		wg.Go(func() {
			for errs[g] == nil {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				errs[g] = do(i)
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}
