// Command dbos is the side of DBOS Transact in the rows about durable workflows: a caller that starts workflows and runs them in its own process, on the PostgreSQL
// whose address it is given. It is a module of its own, so that nobody who builds bench downloads DBOS; package bench starts it where -program names dbos.
package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/dbos-inc/dbos-transact-golang/dbos"
	"github.com/distgear/distgear/bench/proc"
)

func main() { os.Exit(proc.Run(newRole)) }

const steps = 10 // of a workflow of the row durable-steps

// work is a workflow's input.
type work struct{ First, Steps int }

// newRole starts workflows directly, not by one of DBOS's queues, which are polled: the fastest way that it has. All else is DBOS's default, so is its pool of 20
// connections: with 64 and with 90 it does less on two cores.
func newRole(sp proc.Spec) (*proc.Role, error) {
	if sp.Role != "caller" {
		return nil, fmt.Errorf("no role %s of %s", sp.Role, sp.Side)
	}
	c, err := dbos.NewContext(context.Background(), dbos.Config{AppName: "bench", DatabaseURL: sp.URL, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return nil, err
	}
	var tally proc.Tally
	keep := func(t proc.Tally) { tally = t } // before the first workflow is started
	flow := func(ctx dbos.Context, w work) (int, error) {
		n := w.First
		for range w.Steps {
			var err error
			if n, err = dbos.RunAsStep(ctx, func(context.Context) (int, error) {
				tally.Ran(n)
				return n + 1, nil
			}, dbos.WithStepName("step")); err != nil {
				return 0, err
			}
		}
		return n, nil
	}
	dbos.RegisterWorkflow(c, flow, dbos.WithWorkflowName("flow"))
	if err := dbos.Launch(c); err != nil {
		return nil, err
	}
	one := func(first, steps int) error {
		run, err := dbos.RunWorkflow(c, flow, work{first, steps})
		if err != nil {
			return err
		}
		last, err := run.GetResult()
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
	stop := func() {
		if err := dbos.Shutdown(c, 3*time.Second); err != nil {
			fmt.Fprintln(os.Stderr, "dbos:", err)
		}
	}
	return &proc.Role{Answers: map[string]func(string) (proc.Reply, error){"run": run}, Stop: stop}, nil
}
