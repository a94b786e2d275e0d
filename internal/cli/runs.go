package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/distgear/distgear/internal/cli/show"
	"github.com/distgear/distgear/record"
)

func (a *app) runsCmd() *cobra.Command {
	c := &cobra.Command{
		Use: "runs", Short: "List, show, watch, cancel, signal and repair runs",
		Args: cobra.NoArgs, RunE: func(c *cobra.Command, _ []string) error { return a.listRuns(c.Context(), url.Values{}) },
	}
	c.AddCommand(a.runsListCmd(), a.runsShowCmd(), a.runsWatchCmd(), a.runsCancelCmd(), a.runsUndoCmd(),
		a.runsSignalCmd(), a.runsApproveCmd(), a.runsAdoptCmd(), a.runsForkCmd(), a.runsTerminateCmd())
	return c
}

func (a *app) runsListCmd() *cobra.Command {
	var events, states []string
	var limit int
	var watch bool
	c := &cobra.Command{
		Use: "list", Short: "List the durable runs and those that the nodes remember, newest first", Args: cobra.NoArgs,
		Long: "list lists runs, the newest first. With --watch it writes a line for each, the newest last, and then one whenever a run\n" +
			"begins, changes its state or ends, looking once a second at the newest --limit.\n\n" + exitHelp,
		RunE: func(c *cobra.Command, _ []string) error {
			q := url.Values{"event": events, "state": states, "limit": {strconv.Itoa(limit)}}
			if watch {
				return a.watchRuns(c.Context(), "/v1/runs?"+q.Encode())
			}
			return a.listRuns(c.Context(), q)
		},
	}
	f := c.Flags()
	f.StringArrayVar(&events, "event", nil, "only runs of this event; repeated: any of them")
	f.StringArrayVar(&states, "state", nil, "only runs in this state; repeated: any of them")
	f.IntVar(&limit, "limit", 100, "at most so many")
	f.BoolVarP(&watch, "watch", "w", false, "then every change of their states, until interrupted")
	return c
}

// watchRuns writes a line for each run, and again when its state has changed.
func (a *app) watchRuns(ctx context.Context, path string) error {
	cl, err := a.client()
	if err != nil {
		return err
	}
	was := map[record.RunID]record.RunState{} // of those in the list
	return a.rewatch(ctx, func(seen func()) error {
		for raw, err := range follow[json.RawMessage](ctx, cl, path, "runs") {
			if err != nil {
				return err
			}
			seen()
			var list runList
			if err := json.Unmarshal(raw, &list); err != nil {
				return exit(Unknown, "the gateway sent what this version does not know: %w", err)
			}
			now := make(map[record.RunID]record.RunState, len(list.Runs))
			for _, r := range slices.Backward(list.Runs) {
				now[r.ID] = r.State
				if was[r.ID] == r.State {
					continue
				}
				if err := a.changedRun(r); err != nil {
					return err
				}
			}
			was = now
		}
		return exit(Unreachable, "the gateway at %s has ended the stream", cl.base)
	})
}

func (a *app) changedRun(r record.Run) error {
	if a.json {
		return a.writeRecord(r)
	}
	at := time.Now()
	if r.State.Final() {
		at = r.Ended
	}
	text := fmt.Sprintf("%s  %-12s %s  %s", at.Local().Format("15:04:05.000"), r.State, r.ID, r.Event)
	if r.Node != "" {
		text += "  on " + string(r.Node)
	}
	if r.Error != "" {
		text += "  (" + brief(r.Error) + ")"
	}
	return a.write(text)
}

type runList struct {
	Runs []record.Run `json:"runs"`
	More bool         `json:"more"`
}

func (a *app) listRuns(ctx context.Context, q url.Values) error {
	cl, err := a.client()
	if err != nil {
		return err
	}
	var list runList
	if err := cl.call(ctx, "GET", "/v1/runs?"+q.Encode(), nil, &list); err != nil {
		return err
	}
	if list.More {
		a.say("there are more: give a larger --limit, a --state or an --event")
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
		rows = append(rows, []string{string(r.ID), r.Event, string(r.State), cmp.Or(string(r.Node), "-"), ago(r.Started), took})
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
		Use: "show ID", Short: "Show a run: its plans as trees, input and result; of a durable one what happened, in order", Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			cl, err := a.client()
			if err != nil {
				return err
			}
			var rec shownRun
			if err := cl.call(c.Context(), "GET", runPath(args[0]), nil, &rec); err != nil {
				return err
			}
			if rec.Durable {
				if err := cl.call(c.Context(), "GET", runPath(args[0])+"/journal", nil, &rec.Journal); err != nil {
					return err
				}
			}
			if a.json {
				b, err := json.Marshal(rec)
				if err != nil {
					return exit(Unknown, "%w", err)
				}
				return a.write(string(b))
			}
			return a.write(rec.text(a.ink()))
		},
	}
}

// shownRun is a run as show tells it.
type shownRun struct {
	record.Run

	Journal *struct {
		Entries []record.Entry `json:"entries"`
	} `json:"journal,omitempty"`
}

func (r *shownRun) text(ink show.Ink) string {
	text := show.Tree(r.Run, time.Now(), ink)
	text += faults(r.Run) + waits(r.Run)
	if r.Input != nil {
		text += "\ninput   " + string(r.Input)
	}
	if r.Result != nil {
		text += "\nresult  " + string(r.Result)
	}
	if r.Journal != nil {
		text += "\n\n" + show.Timeline(r.Journal.Entries, ink)
	}
	return text
}

func (a *app) ink() show.Ink {
	if isTerminal(a.out) {
		return show.Paint
	}
	return show.Plain
}

// waits tells what a durable run waits for, and what can be done.
func waits(rec record.Run) string {
	var b strings.Builder
	for _, name := range rec.Waits {
		if of, ok := strings.CutPrefix(name, "approve "); ok {
			fmt.Fprintf(&b, "\nwaits   for a decision: distgear runs approve %s %s --yes|--no", rec.ID, of)
		} else {
			fmt.Fprintf(&b, "\nwaits   for a signal: distgear runs signal %s %s", rec.ID, name)
		}
	}
	if !rec.Until.IsZero() {
		fmt.Fprintf(&b, "\nwaits   until %s", rec.Until.Local().Format(time.DateTime))
	}
	if rec.State == record.Parked {
		fmt.Fprintf(&b, "\nparked  %s\n        decide: distgear runs adopt|cancel %s, runs fork %s STEP, or runs terminate %s --reason WHY", rec.Error, rec.ID, rec.ID, rec.ID)
	}
	return b.String()
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
			if s.State == "stuck" && !rec.State.Final() {
				fmt.Fprintf(&b, "\n        decide: distgear runs undo %s %s retry|skip|done", rec.ID, s.Name)
			}
		}
	}
	return b.String()
}

func (a *app) runsWatchCmd() *cobra.Command {
	return &cobra.Command{
		Use: "watch ID", Short: "Tell the changes of a run until it has ended; ends as the run did",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return exit(Usage, "say which run: distgear runs watch ID; `distgear runs list --watch` tells what becomes of all")
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			cl, err := a.client()
			if err != nil {
				return err
			}
			state, err := a.watchAny(c.Context(), cl, args[0])
			if err != nil {
				return interrupted(err, "the run goes on")
			}
			if state != record.OK {
				return exit(Failed, "the run is %s", state)
			}
			return nil
		},
	}
}

// watchAny tells the changes of a run, or the journal of a durable one, and how it ended.
func (a *app) watchAny(ctx context.Context, cl *client, id string) (record.RunState, error) {
	var rec record.Run
	if err := cl.call(ctx, "GET", runPath(id), nil, &rec); err != nil {
		return "", err
	}
	tell := func(v any, text func() string) error {
		if !a.json {
			return a.write(text())
		}
		b, err := json.Marshal(v)
		if err != nil {
			return exit(Unknown, "%w", err)
		}
		return a.write(string(b))
	}
	if !rec.Durable {
		rec, err := a.watchRun(ctx, cl, record.RunID(id), func(ch show.Change) error { return tell(ch, ch.String) })
		return rec.State, err
	}
	var since time.Time
	wide := 0
	for e, err := range follow[watched](ctx, cl, runPath(id)+"/journal", "entry", "end") {
		switch {
		case err != nil:
			return "", err
		case e.State != "":
			return e.State, nil
		case since.IsZero():
			since = e.At
		}
		wide = max(wide, len(e.Step))
		if err := tell(e.Entry, func() string { return show.EntryLine(&e.Entry, since, wide, a.ink()) }); err != nil {
			return "", err
		}
	}
	if ctx.Err() != nil {
		return "", context.Cause(ctx)
	}
	return "", exit(Unknown, "the gateway ended the stream before the run was over: `distgear runs watch %s` goes on", id)
}

// watched is an event of a journal's stream: an entry, or how the run ended.
type watched struct {
	record.Entry

	State record.RunState `json:"state"`
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
