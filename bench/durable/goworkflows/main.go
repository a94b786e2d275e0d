// Command goworkflows is the side of go-workflows in the rows about durable workflows, on a SQLite file: a caller that is client and worker in one, which opens the
// file in the folder that its hub was given. It is a module of its own, so that nobody who builds bench downloads go-workflows; package bench starts it where
// -program names goworkflows.
package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/cschleiden/go-workflows/backend"
	"github.com/cschleiden/go-workflows/backend/monoprocess"
	"github.com/cschleiden/go-workflows/backend/sqlite"
	"github.com/cschleiden/go-workflows/client"
	"github.com/cschleiden/go-workflows/registry"
	"github.com/cschleiden/go-workflows/worker"
	"github.com/cschleiden/go-workflows/workflow"
	"github.com/distgear/distgear/bench/proc"
)

func main() { os.Exit(proc.Run(newRole)) }

func newRole(sp proc.Spec) (*proc.Role, error) {
	switch sp.Role {
	case "hub": // SQLite has no server: the caller opens a file in the hub's folder
		return &proc.Role{Ready: proc.Reply{URL: sp.Dir}, Answers: map[string]func(string) (proc.Reply, error){}}, nil
	case "caller":
		return caller(sp)
	}
	return nil, fmt.Errorf("no role %s of %s", sp.Role, sp.Side)
}

const (
	steps    = 10          // of a workflow of the row durable-steps
	cached   = 1024        // executors of workflows that are kept: more than there are in flight, where the default is 128
	patience = time.Minute // for a result; the default is 20 s
)

// caller starts workflows and works on them. As the library's own benchmark does, it has the worker told of new tasks (monoprocess), which else looks for them each
// 200 ms, and keeps the SQLite backend's settings: one connection, a write-ahead log, a sync at each commit. A result can only be polled for, with pauses that
// grow from 1 ms by half.
func caller(sp proc.Spec) (*proc.Role, error) {
	ctx, cancel := context.WithCancel(context.Background())
	b := monoprocess.NewMonoprocessBackend(sqlite.NewSqliteBackend(filepath.Join(sp.URL, "flows.db"),
		sqlite.WithBackendOptions(backend.WithLogger(slog.New(slog.DiscardHandler)))))
	o := worker.DefaultOptions
	o.WorkflowExecutorCacheSize = cached
	w := worker.New(b, &o)
	stop := func() {
		cancel()
		w.WaitForCompletion()
		b.Close()
	}
	var tally proc.Tally
	keep := func(t proc.Tally) { tally = t } // before the first workflow is started
	step := func(_ context.Context, number int) (int, error) {
		tally.Ran(number)
		return number + 1, nil
	}
	flow := func(ctx workflow.Context, first, steps int) (int, error) {
		n := first
		for range steps {
			var err error
			if n, err = workflow.ExecuteActivity[int](ctx, workflow.DefaultActivityOptions, "step", n).Get(ctx); err != nil {
				return 0, err
			}
		}
		return n, nil
	}
	if err := w.RegisterWorkflow(flow, registry.WithName("flow")); err != nil {
		cancel()
		return nil, err
	}
	if err := w.RegisterActivity(step, registry.WithName("step")); err != nil {
		cancel()
		return nil, err
	}
	if err := w.Start(ctx); err != nil {
		cancel()
		return nil, err
	}
	c := client.New(b)
	one := func(first, steps int) error {
		run, err := c.CreateWorkflowInstance(ctx, client.WorkflowInstanceOptions{InstanceID: "flow-" + strconv.Itoa(first)}, "flow", first, steps)
		if err != nil {
			return err
		}
		last, err := client.GetWorkflowResult[int](ctx, c, run, patience)
		if err != nil {
			return err
		}
		if last != first+steps {
			return fmt.Errorf("the workflow of step %d ended with %d, not %d", first, last, first+steps)
		}
		return nil
	}
	run := func(string) (proc.Reply, error) {
		if sp.Row == "durable-steps" {
			return proc.Sequence(sp, steps, keep, func(task int) error { return one(task*steps, steps) })
		}
		return proc.InFlight(sp, keep, func(task int) error { return one(task, 1) })
	}
	return &proc.Role{Answers: map[string]func(string) (proc.Reply, error){"run": run}, Stop: stop}, nil
}
