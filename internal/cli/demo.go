package cli

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"syscall"

	"github.com/charmbracelet/x/term"
	"github.com/spf13/cobra"

	"github.com/distgear/distgear/cluster"
	"github.com/distgear/distgear/internal/cli/demo"
)

func (a *app) demoCmd() *cobra.Command {
	var plain, durable bool
	c := &cobra.Command{
		Use:   "demo",
		Short: "Show plans, rollback and a killed process on this machine, in 15 seconds",
		Long: "demo starts a hub and three worker processes, and shows a deploy that works, one that is rolled back, and what becomes of\n" +
			"plans when a process is killed. With --durable it shows a durable event whose master is killed in the middle of its plan, and\n" +
			"another's during its rollback: the other master goes on. Every phase checks itself: the exit code is 0 only if all ended as the rules say, else 1.",
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			o := demo.Options{Out: a.out, Mode: demo.Plain, Durable: durable}
			switch {
			case a.json:
				o.Mode = demo.JSON
			case !plain && isTerminal(a.out):
				o.Mode = demo.Live
				if isTerminal(a.in) {
					o.In = a.in
				}
			}
			ctx, stop := signal.NotifyContext(c.Context(), syscall.SIGHUP) // the terminal is closed
			defer stop()
			err := demo.Run(ctx, o)
			if errors.Is(err, context.Canceled) {
				return exit(Failed, "interrupted")
			}
			if err != nil {
				return exit(Failed, "%w", err)
			}
			return nil
		},
	}
	c.Flags().BoolVar(&durable, "durable", false, "of a durable event, whose masters are killed")
	c.Flags().BoolVar(&plain, "plain", false, "a line per change, as when the output is no terminal")
	return c
}

func (a *app) demoWorkerCmd() *cobra.Command {
	var name, hub, root string
	c := &cobra.Command{
		Use: "demo-worker", Short: "A worker process of the demo", Hidden: true, Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := demo.Worker(c.Context(), cluster.NodeName(name), hub, root, a.in, a.out); err != nil {
				return exit(Failed, "%w", err)
			}
			return nil
		},
	}
	f := c.Flags()
	f.StringVar(&name, "name", "", "the node's name")
	f.StringVar(&hub, "hub", "", "the hub's URL")
	f.StringVar(&root, "root", "", "the demo's folder")
	return c
}

// isTerminal tells whether v is a terminal.
func isTerminal(v any) bool {
	f, ok := v.(*os.File)
	return ok && term.IsTerminal(f.Fd())
}
