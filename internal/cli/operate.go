package cli

import (
	"encoding/json"
	"os/user"

	"github.com/spf13/cobra"
)

func (a *app) runsSignalCmd() *cobra.Command {
	return &cobra.Command{
		Use: "signal ID NAME [JSON|-]", Short: "Send a signal to a durable run, which keeps it until its handler takes it", Args: cobra.RangeArgs(2, 3),
		Long: "signal sends a signal, with JSON that the handler decodes, or - to read that from standard input. It is kept for good when\n" +
			"the command has ended with 0, owned by a node or not; each signal is taken once.",
		RunE: func(c *cobra.Command, args []string) error {
			value, err := a.input(c.Context(), args[2:], "sent")
			if err != nil {
				return err
			}
			body := map[string]any{"name": args[1]}
			if value != nil {
				body["value"] = json.RawMessage(value)
			}
			return a.tell(c.Context(), runPath(args[0])+"/signal", body, args[0])
		},
	}
}

func (a *app) runsApproveCmd() *cobra.Command {
	var yes, no bool
	var by, comment string
	c := &cobra.Command{
		Use: "approve ID NAME --yes|--no", Short: "Tell a durable run a decision that it waits for, or will", Args: cobra.ExactArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			if yes == no {
				return exit(Usage, "decide: --yes or --no")
			}
			body := map[string]any{"name": args[1], "approved": yes}
			if by == "" {
				if u, err := user.Current(); err == nil {
					by = u.Username
				}
			}
			if by != "" {
				body["by"] = by
			}
			if comment != "" {
				body["reason"] = comment
			}
			return a.tell(c.Context(), runPath(args[0])+"/approve", body, args[0])
		},
	}
	f := c.Flags()
	f.BoolVar(&yes, "yes", false, "approve")
	f.BoolVar(&no, "no", false, "refuse")
	f.StringVar(&by, "by", "", "who decides (default the user of this command)")
	f.StringVar(&comment, "comment", "", "why")
	return c
}

func (a *app) runsForkCmd() *cobra.Command {
	var as string
	c := &cobra.Command{
		Use: "fork ID STEP [JSON|-]", Short: "Raise a run that goes on from one that has ended or is parked, from a step on", Args: cobra.RangeArgs(2, 3),
		Long: "fork raises a run from the journal of another: STEP (or PLAN/STEP), what comes after it, and what was not OK run anew; other\n" +
			"steps keep their results and do not run again. With JSON that is the input of the new run, else it has the other's.",
		RunE: func(c *cobra.Command, args []string) error {
			in, err := a.input(c.Context(), args[2:], "raised")
			if err != nil {
				return err
			}
			body := map[string]any{"from": args[1]}
			if in != nil {
				body["input"] = json.RawMessage(in)
			}
			if as != "" {
				body["id"] = as
			}
			cl, err := a.client()
			if err != nil {
				return err
			}
			var fork struct {
				Run string `json:"run"`
			}
			if err := cl.call(c.Context(), "POST", runPath(args[0])+"/fork", body, &fork); err != nil {
				return err
			}
			if a.json {
				b, err := json.Marshal(fork)
				if err != nil {
					return exit(Unknown, "%w", err)
				}
				return a.write(string(b))
			}
			return a.write(fork.Run)
		},
	}
	c.Flags().StringVar(&as, "id", "", "the new run's ID: under it the fork is made once")
	return c
}

func (a *app) runsAdoptCmd() *cobra.Command {
	return &cobra.Command{
		Use: "adopt ID", Short: "Let a parked durable run go on, with the plans that its handler makes now", Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return a.tell(c.Context(), runPath(args[0])+"/adopt", nil, args[0])
		},
	}
}

func (a *app) runsTerminateCmd() *cobra.Command {
	var reason string
	c := &cobra.Command{
		Use: "terminate ID --reason WHY", Short: "End a durable run at once: nothing of it is undone", Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if reason == "" {
				return exit(Usage, "terminate needs a --reason: what the run did stays done, and its record says why")
			}
			return a.tell(c.Context(), runPath(args[0])+"/terminate", map[string]string{"reason": reason}, args[0])
		},
	}
	c.Flags().StringVar(&reason, "reason", "", "why; needed")
	return c
}
