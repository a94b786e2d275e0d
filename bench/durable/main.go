// Command durable is Temporal's side of the rows about durable workflows: its development server on a SQLite file, as a child of this process, and a caller that is
// client and worker in one. It is a module of its own, so that nobody who builds bench downloads Temporal; package bench starts it where -sides names temporal.
package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/distgear/distgear/bench/proc"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"
)

func main() { os.Exit(proc.Run(newRole)) }

func newRole(sp proc.Spec) (*proc.Role, error) {
	switch sp.Role {
	case "hub":
		return server(sp)
	case "caller":
		return caller(sp)
	}
	return nil, fmt.Errorf("no role %s of %s", sp.Role, sp.Side)
}

// server runs the program that lies beside this one. Its defaults are kept but for three, in its favour: a write-ahead log, which syncs at each commit too, but once
// rather than four times, so that 256 workflows can be in flight; and how often it looks for tasks that follow from a step, which by default is 20 times a second at most.
func server(sp proc.Spec) (*proc.Role, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	addr := l.Addr().String()
	l.Close()
	_, port, _ := strings.Cut(addr, ":")
	var said bytes.Buffer
	cmd := exec.Command(filepath.Join(filepath.Dir(self), "temporal"), "server", "start-dev",
		"--ip", "127.0.0.1", "--port", port, "--headless", "--log-level", "error", "--db-filename", filepath.Join(sp.Dir, "temporal.db"),
		"--sqlite-pragma", "journal_mode=wal", "--sqlite-pragma", "synchronous=full",
		"--dynamic-config-value", "history.transferProcessorMaxPollRPS=1000", "--dynamic-config-value", "history.timerProcessorMaxPollRPS=1000")
	cmd.Dir, cmd.Stdout, cmd.Stderr, cmd.SysProcAttr = sp.Dir, &said, &said, &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	stop := func() {
		cmd.Process.Kill() // nobody reads what it keeps
		cmd.Wait()
	}
	for end := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		c, err := client.Dial(client.Options{HostPort: addr, Logger: quiet{}})
		if err == nil {
			c.Close()
			break
		}
		if time.Now().After(end) {
			stop()
			return nil, fmt.Errorf("temporal: %w\n%s", err, said.Bytes())
		}
	}
	return &proc.Role{Ready: proc.Reply{URL: addr}, Answers: map[string]func(string) (proc.Reply, error){}, Stop: stop}, nil
}

const (
	queue = "bench"
	steps = 10 // of a workflow of the row durable-steps
)

// caller starts workflows and works on them, with the SDK's defaults.
func caller(sp proc.Spec) (*proc.Role, error) {
	ctx := context.Background()
	c, err := client.Dial(client.Options{HostPort: sp.URL, Logger: quiet{}})
	if err != nil {
		return nil, err
	}
	var tally proc.Tally
	keep := func(t proc.Tally) { tally = t } // before the first workflow is started
	step := func(_ context.Context, number int) (int, error) {
		tally.Ran(number)
		return number + 1, nil
	}
	flow := func(ctx workflow.Context, first, steps int) (int, error) {
		ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{StartToCloseTimeout: time.Minute})
		n := first
		for range steps {
			if err := workflow.ExecuteActivity(ctx, "step", n).Get(ctx, &n); err != nil {
				return 0, err
			}
		}
		return n, nil
	}
	w := worker.New(c, queue, worker.Options{})
	named(w, flow, step)
	if err := w.Start(); err != nil {
		return nil, err
	}
	one := func(first, steps int) error {
		run, err := c.ExecuteWorkflow(ctx, client.StartWorkflowOptions{TaskQueue: queue}, "flow", first, steps)
		if err != nil {
			return err
		}
		var last int
		if err := run.Get(ctx, &last); err != nil {
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
	return &proc.Role{Answers: map[string]func(string) (proc.Reply, error){"run": run}, Stop: func() {
		w.Stop()
		c.Close()
	}}, nil
}
