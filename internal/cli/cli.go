// Package cli is the command distgear: it shows the library (demo), serves a
// cluster (hub) and talks to one over its gateway (nodes, raise, runs, locks,
// objects, queues, executors, tasks, schedules, doctor).
//
//	os.Exit(cli.Main(os.Args[1:]))
//
// # Guarantees
//
// Results are on standard output, all else on standard error. With --json every
// line of standard output is a JSON value. The exit codes are those of Exit.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
)

// Exit is what the command ends with.
type Exit int

// The exit codes.
const (
	OK          Exit = 0
	Failed      Exit = 1 // it ran, and failed
	Usage       Exit = 2
	NeverRan    Exit = 3
	Unknown     Exit = 4 // nobody could say
	Unreachable Exit = 5 // no gateway answers
)

const exitHelp = `Exit codes:
  0  ok
  1  failed: it ran
  2  usage
  3  never ran: nothing was done
  4  unknown: it may have run
  5  cannot reach the gateway`

// exitError is an error with its exit code.
type exitError struct {
	code Exit
	err  error
}

func (e *exitError) Error() string { return e.err.Error() }
func (e *exitError) Unwrap() error { return e.err }

func exit(code Exit, format string, args ...any) error {
	return &exitError{code, fmt.Errorf(format, args...)}
}

// Main runs the command with these arguments and returns its exit code. The
// first interrupt ends it gracefully, the second at once.
func Main(args []string) Exit {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)
	return Run(ctx, args, os.Stdin, os.Stdout, os.Stderr)
}

// Run is Main with everything given.
func Run(ctx context.Context, args []string, in io.Reader, out, errs io.Writer) Exit {
	root := newRoot(&app{in: in, out: out, errs: errs})
	root.SetArgs(args)
	root.SetIn(in)
	root.SetOut(out)
	root.SetErr(errs)
	of, err := root.ExecuteContextC(ctx)
	if err == nil {
		return OK
	}
	known, ours := errors.AsType[*exitError](err)
	if !ours { // what cobra says about arguments
		err = fmt.Errorf("%w\nusage: %s", err, of.UseLine())
	}
	if text := err.Error(); text != "" {
		fmt.Fprintf(errs, "distgear: %s\n", strings.TrimPrefix(text, "distgear: ")) //nolint:errcheck // nobody is left to be told
	}
	if ours {
		return known.code
	}
	return Usage
}

// app is what all commands share: where they write, and the flags of all.
type app struct {
	in        io.Reader
	out, errs io.Writer

	json           bool
	gateway, token string
}

func newRoot(a *app) *cobra.Command {
	root := &cobra.Command{
		Use:   "distgear",
		Short: "Events, plans and nodes of a DistGear cluster",
		Long: "distgear runs plans of commands on the nodes of a cluster, with dependencies, retries and rollback.\n" +
			"`distgear demo` shows it; `distgear hub` starts a cluster; the other commands talk to its gateway.\n\n" + exitHelp,
		SilenceUsage: true, SilenceErrors: true, PersistentPreRunE: named,
	}
	f := root.PersistentFlags()
	f.BoolVar(&a.json, "json", false, "write JSON, a value per line")
	f.StringVar(&a.gateway, "gateway", "", "URL of a gateway (default $DISTGEAR_GATEWAY or "+defaultGateway+")")
	f.StringVar(&a.token, "token", "", "the cluster's secret (default $DISTGEAR_TOKEN)")
	root.AddCommand(a.demoCmd(), a.demoWorkerCmd(), a.hubCmd(), a.nodesCmd(), a.locksCmd(), a.objectsCmd(), a.queuesCmd(), a.executorsCmd(), a.tasksCmd(), a.doctorCmd(), a.raiseCmd(), a.runsCmd(), a.schedulesCmd(), a.versionCmd())
	a.complete(root)
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return exit(Usage, "%w\nsee %s --help", err, c.CommandPath())
	})
	return root
}

// named refuses an argument that is the name of something and empty, as that of a
// variable which is not set.
func named(c *cobra.Command, args []string) error {
	for i, what := range strings.Fields(c.Use)[1:] {
		if i < len(args) && args[i] == "" && what == strings.ToUpper(what) && !strings.HasPrefix(what, "[") {
			return exit(Usage, "%s is empty\nusage: %s", what, c.UseLine())
		}
	}
	return nil
}

// tokenOr is the --token flag, else the environment's.
func (a *app) tokenOr() string {
	if a.token != "" {
		return a.token
	}
	return os.Getenv("DISTGEAR_TOKEN")
}

// write writes a line of a command's result.
func (a *app) write(text string) error {
	if _, err := fmt.Fprintln(a.out, strings.TrimRight(text, "\n")); err != nil {
		return exit(Failed, "writing the result: %w", err)
	}
	return nil
}

// say writes a line for people. Nobody is left to be told when it fails.
func (a *app) say(format string, args ...any) {
	_, _ = fmt.Fprintf(a.errs, format+"\n", args...)
}

func ago(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	d := time.Since(t)
	switch {
	case d < time.Second:
		return "now"
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	}
	return fmt.Sprintf("%dd", int(d.Hours()/24))
}
