package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/distgear/distgear/internal/cli/show"
	"github.com/distgear/distgear/record"
)

func (a *app) runsCmd() *cobra.Command {
	c := &cobra.Command{
		Use: "runs", Short: "List, show, watch, cancel and repair runs",
		Args: cobra.NoArgs, RunE: func(c *cobra.Command, _ []string) error { return a.listRuns(c.Context(), url.Values{}) },
	}
	c.AddCommand(a.runsListCmd(), a.runsShowCmd(), a.runsWatchCmd(), a.runsCancelCmd(), a.runsUndoCmd())
	return c
}

func (a *app) runsListCmd() *cobra.Command {
	var events, states []string
	var limit int
	c := &cobra.Command{
		Use: "list", Short: "List the runs that the nodes remember, newest first", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return a.listRuns(c.Context(), url.Values{"event": events, "state": states, "limit": {strconv.Itoa(limit)}})
		},
	}
	f := c.Flags()
	f.StringArrayVar(&events, "event", nil, "only runs of this event; repeated: any of them")
	f.StringArrayVar(&states, "state", nil, "only runs in this state; repeated: any of them")
	f.IntVar(&limit, "limit", 100, "at most so many")
	return c
}

func (a *app) listRuns(ctx context.Context, q url.Values) error {
	cl, err := a.client()
	if err != nil {
		return err
	}
	var list struct {
		Runs []record.Run `json:"runs"`
	}
	if err := cl.call(ctx, "GET", "/v1/runs?"+q.Encode(), nil, &list); err != nil {
		return err
	}
	rows := [][]string{{"ID", "EVENT", "STATE", "NODE", "STARTED", "TOOK"}}
	for _, r := range list.Runs {
		if a.json {
			if err := a.writeRecord(r); err != nil {
				return err
			}
			continue
		}
		took := "-"
		if !r.Ended.IsZero() {
			took = r.Ended.Sub(r.Started).Round(time.Millisecond).String()
		}
		rows = append(rows, []string{string(r.ID), r.Event, string(r.State), string(r.Node), ago(r.Started), took})
	}
	if a.json {
		return nil
	}
	return a.table(rows)
}

func (a *app) writeRecord(r record.Run) error {
	b, err := json.Marshal(r)
	if err != nil {
		return exit(Unknown, "%w", err)
	}
	return a.write(string(b))
}

func runPath(id string) string { return "/v1/runs/" + url.PathEscape(id) }

func (a *app) runsShowCmd() *cobra.Command {
	return &cobra.Command{
		Use: "show ID", Short: "Show a run: its plans as trees, input and result", Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			cl, err := a.client()
			if err != nil {
				return err
			}
			var rec record.Run
			if err := cl.call(c.Context(), "GET", runPath(args[0]), nil, &rec); err != nil {
				return err
			}
			if a.json {
				return a.writeRecord(rec)
			}
			ink := show.Plain
			if isTerminal(a.out) {
				ink = show.Paint
			}
			text := show.Tree(rec, time.Now(), ink)
			text += faults(rec)
			if rec.Input != nil {
				text += "\ninput   " + string(rec.Input)
			}
			if rec.Result != nil {
				text += "\nresult  " + string(rec.Result)
			}
			return a.write(text)
		},
	}
}

// faults tells of steps that did not go well: why, and what can be done.
func faults(rec record.Run) string {
	var b strings.Builder
	for _, p := range rec.Plans {
		for _, s := range p.Steps {
			if s.Error == "" || s.State == "ok" {
				continue
			}
			fmt.Fprintf(&b, "\n%-7s %s: %s", s.State, s.Name, show.Short(s.Error))
			if s.State == "stuck" {
				fmt.Fprintf(&b, "\n        decide: distgear runs undo %s %s retry|skip|done", rec.ID, s.Name)
			}
		}
	}
	return b.String()
}

func (a *app) runsWatchCmd() *cobra.Command {
	return &cobra.Command{
		Use: "watch ID", Short: "Tell the changes of a run until it has ended; ends as the run did", Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			cl, err := a.client()
			if err != nil {
				return err
			}
			rec, err := a.watchRun(c.Context(), cl, record.RunID(args[0]), func(ch show.Change) error {
				if !a.json {
					return a.write(ch.String())
				}
				b, err := json.Marshal(ch)
				if err != nil {
					return exit(Unknown, "%w", err)
				}
				return a.write(string(b))
			})
			if err != nil {
				return interrupted(err, "the run goes on")
			}
			if rec.State != record.OK {
				return exit(Failed, "the run is %s", rec.State)
			}
			return nil
		},
	}
}

func (a *app) runsCancelCmd() *cobra.Command {
	return &cobra.Command{
		Use: "cancel ID", Short: "Cancel a run: what it did is undone as its plans say", Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return a.tell(c.Context(), runPath(args[0])+"/cancel", struct{}{}, args[0])
		},
	}
}

// tell posts an order about a run.
func (a *app) tell(ctx context.Context, path string, body any, id string) error {
	cl, err := a.client()
	if err != nil {
		return err
	}
	var accepted map[string]any
	if err := cl.call(ctx, "POST", path, body, &accepted); err != nil {
		return err
	}
	if a.json {
		b, err := json.Marshal(accepted)
		if err != nil {
			return exit(Unknown, "%w", err)
		}
		return a.write(string(b))
	}
	a.say("the run was told: `distgear runs watch %s` shows what becomes of it", id)
	return nil
}

func (a *app) runsUndoCmd() *cobra.Command {
	var reason string
	c := &cobra.Command{
		Use: "undo ID STEP retry|skip|done", Short: "Decide about an undo that is stuck", Args: cobra.ExactArgs(3),
		Long: "undo decides about a step whose undo keeps failing: retry tries it again; skip leaves the step as it is; done says that\n" +
			"it was undone by hand. skip and done need a --reason.",
		ValidArgs: []string{"retry", "skip", "done"},
		RunE: func(c *cobra.Command, args []string) error {
			how := record.Resolution(args[2])
			switch {
			case how != record.Retry && how != record.Skip && how != record.MarkDone:
				return exit(Usage, "%s is neither retry, skip nor done", how)
			case how != record.Retry && reason == "":
				return exit(Usage, "%s needs a --reason: it is logged where the run is", how)
			}
			return a.tell(c.Context(), runPath(args[0])+"/undo/"+url.PathEscape(args[1]), map[string]string{"how": string(how), "reason": reason}, args[0])
		},
	}
	c.Flags().StringVar(&reason, "reason", "", "why; needed for skip and done")
	return c
}
