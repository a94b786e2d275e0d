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

	"github.com/distgear/distgear/executor"
)

func (a *app) executorsCmd() *cobra.Command {
	c := a.listCmd("executors", "what waits, runs and is parked, since when the oldest that is ready waits, how many end per second, and who works", func(f *found) [][]string {
		rows := [][]string{{"NAME", "CLASS", "WAITING", "DELAYED", "READY", "LEASED", "PARKED", "ENDED", "OLDEST", "RATE", "WORKERS", "SLOTS", "PAUSED"}}
		for i := range f.Executors {
			rows = append(rows, executorRow(&f.Executors[i]))
		}
		return rows
	})
	c.Short = "List the executors by name, pause and resume them"
	c.Long = strings.Replace(c.Long, "the shared executors", "the executors", 1)
	c.Long = strings.Replace(c.Long, "\n\n", "\nThose of class durable are in the ledger; a fast one is in the memory of the node that is named.\n\n", 1)
	c.AddCommand(a.pauseCmd(), a.resumeCmd())
	return c
}

func executorRow(e *executor.Info) []string {
	class := string(e.Class)
	if e.Node != "" {
		class += "@" + string(e.Node)
	}
	return []string{
		e.Name, class, strconv.Itoa(e.Waiting), strconv.Itoa(e.Delayed), strconv.Itoa(e.Ready), strconv.Itoa(e.Leased), strconv.Itoa(e.Parked),
		strconv.Itoa(e.Ended), ago(e.Oldest), perSecond(e.Rate), strconv.Itoa(e.Workers), strconv.Itoa(e.Slots), cmp.Or(e.Paused, "-"),
	}
}

func perSecond(rate float64) string {
	switch {
	case rate == 0:
		return "-"
	case rate < 10:
		return fmt.Sprintf("%.1f/s", rate)
	}
	return fmt.Sprintf("%.0f/s", rate)
}

func executorPath(name string) string { return "/v1/executors/" + url.PathEscape(name) }

func (a *app) pauseCmd() *cobra.Command {
	var reason string
	c := &cobra.Command{
		Use: "pause NAME", Short: "Keep tasks from being started; what runs goes on", Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			body := map[string]string{"reason": reason}
			return a.order(c.Context(), "POST", executorPath(args[0])+"/pause", body, "paused: `distgear executors resume %s` ends it", args[0])
		},
	}
	c.Flags().StringVar(&reason, "reason", "", "why; `distgear executors` shows it")
	return c
}

func (a *app) resumeCmd() *cobra.Command {
	return &cobra.Command{
		Use: "resume NAME", Short: "End a pause", Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return a.order(c.Context(), "POST", executorPath(args[0])+"/resume", nil, "%s goes on", args[0])
		},
	}
}

// order asks for something to be done, and says so.
func (a *app) order(ctx context.Context, method, path string, body any, says string, args ...any) error {
	cl, err := a.client()
	if err != nil {
		return err
	}
	var raw json.RawMessage
	if err := cl.call(ctx, method, path, body, &raw); err != nil {
		return err
	}
	if a.json {
		return a.write(string(raw))
	}
	a.say(says, args...)
	return nil
}

func (a *app) tasksCmd() *cobra.Command {
	c := a.tasksListCmd("tasks EXECUTOR [ID-PREFIX]")
	c.Short = "List, show, retry, cancel and park the tasks of an executor"
	c.AddCommand(
		a.tasksListCmd("list EXECUTOR [ID-PREFIX]"), a.tasksShowCmd(),
		a.taskVerbCmd("retry", "Have a task that is parked or failed run again, as if it were new", "told: `distgear tasks show %s %s` shows what becomes of it"),
		a.taskVerbCmd("cancel", "Ask that a task ends: what runs is told by its context", "told: `distgear tasks show %s %s` shows what becomes of it"),
		a.tasksParkCmd(),
	)
	return c
}

func (a *app) tasksListCmd(use string) *cobra.Command {
	var f struct{ state, action, key, after string }
	var limit int
	var watch bool
	c := &cobra.Command{
		Use: use, Short: "List the tasks of an executor, the newest first", Args: cobra.RangeArgs(1, 2),
		Long: "tasks lists tasks of an executor, the newest first: all, or those whose IDs begin with ID-PREFIX.\n" +
			"What has ended is known until its Retain is over.\n\n" + exitHelp,
		RunE: func(c *cobra.Command, args []string) error {
			if f.state != "" && !slices.Contains(executor.TaskStates(), f.state) {
				return exit(Usage, "%s is no state of a task: want one of %s", f.state, strings.Join(executor.TaskStates(), ", "))
			}
			cl, err := a.client()
			if err != nil {
				return err
			}
			q := url.Values{"limit": {strconv.Itoa(limit)}, "prefix": args[1:]}
			for name, v := range map[string]string{"state": f.state, "action": f.action, "key": f.key, "after": f.after} {
				if v != "" {
					q.Set(name, v)
				}
			}
			path := executorPath(args[0]) + "/tasks?" + q.Encode()
			if watch {
				return a.watch(c.Context(), cl, path, "tasks", a.listedTasks)
			}
			var raw json.RawMessage
			if err := cl.call(c.Context(), "GET", path, nil, &raw); err != nil {
				return err
			}
			return a.listedTasks(raw)
		},
	}
	fs := c.Flags()
	fs.StringVar(&f.state, "state", "", "only tasks in this state: "+strings.Join(executor.TaskStates(), ", "))
	fs.StringVar(&f.action, "action", "", "only tasks of this action")
	fs.StringVar(&f.key, "key", "", "only tasks of this key")
	fs.StringVar(&f.after, "after", "", "the page that follows, as the one before said")
	fs.IntVar(&limit, "limit", 100, "at most so many")
	fs.BoolVarP(&watch, "watch", "w", false, "then again whenever they have changed, until interrupted")
	return c
}

// listedTasks writes a list of tasks.
func (a *app) listedTasks(raw json.RawMessage) error {
	var l struct {
		Tasks []json.RawMessage `json:"tasks"`
		Next  string            `json:"next"`
	}
	if err := json.Unmarshal(raw, &l); err != nil {
		return exit(Unknown, "the gateway sent what this version does not know: %w", err)
	}
	if l.Next != "" {
		a.say("there are more: --after %s, or a larger --limit", l.Next)
	}
	rows := [][]string{{"ID", "ACTION", "STATE", "SINCE", "NODE", "KEY", "ATTEMPTS", "PROGRESS", "ERROR"}}
	for _, t := range l.Tasks {
		if a.json {
			if err := a.write(string(t)); err != nil {
				return err
			}
			continue
		}
		var in executor.TaskInfo
		if err := json.Unmarshal(t, &in); err != nil {
			return exit(Unknown, "the gateway sent what this version does not know: %w", err)
		}
		rows = append(rows, []string{
			string(in.ID), in.Action, in.State, since(&in), cmp.Or(string(in.Node), "-"), cmp.Or(in.Key, "-"), strconv.Itoa(in.Attempts), progress(&in),
			cmp.Or(brief(in.Reason), brief(in.Error), "-"),
		})
	}
	if a.json {
		return nil
	}
	return a.table(rows)
}

// since is how long a task has been in its state, or when a delayed one is due.
func since(t *executor.TaskInfo) string {
	if t.State == "delayed" {
		return "in " + max(time.Until(t.Since), 0).Round(time.Second).String()
	}
	return ago(t.Since)
}

func progress(t *executor.TaskInfo) string {
	switch {
	case t.Goal > 0:
		return fmt.Sprintf("%d/%d %d%%", t.Done, t.Goal, 100*t.Done/t.Goal)
	case t.Done > 0:
		return strconv.FormatInt(t.Done, 10)
	}
	return "-"
}

// brief is the beginning of a text's first line.
func brief(s string) string {
	s, _, _ = strings.Cut(s, "\n")
	if r := []rune(s); len(r) > 60 {
		return string(r[:59]) + "…"
	}
	return s
}

func taskPath(args []string) string {
	return executorPath(args[0]) + "/tasks/" + url.PathEscape(args[1])
}

func (a *app) tasksShowCmd() *cobra.Command {
	var watch bool
	c := &cobra.Command{
		Use: "show EXECUTOR ID", Short: "Show a task: its failed attempts, input and result", Args: cobra.ExactArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			cl, err := a.client()
			if err != nil {
				return err
			}
			if watch {
				return a.watchTask(c.Context(), cl, taskPath(args))
			}
			var raw json.RawMessage
			if err := cl.call(c.Context(), "GET", taskPath(args), nil, &raw); err != nil {
				return err
			}
			_, err = a.shownTask(raw)
			return err
		},
	}
	c.Flags().BoolVarP(&watch, "watch", "w", false, "then again whenever it has changed, until it has ended; ends as the task did")
	return c
}

// watchTask shows a task whenever it has changed.
func (a *app) watchTask(ctx context.Context, cl *client, path string) error {
	var state string
	err := a.rewatch(ctx, func(seen func()) error {
		for raw, err := range follow[json.RawMessage](ctx, cl, path, "task") {
			if err != nil {
				return err
			}
			seen()
			if !a.json && state != "" {
				if err := a.write("── " + time.Now().Format("15:04:05")); err != nil {
					return err
				}
			}
			if state, err = a.shownTask(raw); err != nil || over(state) {
				return err
			}
		}
		return exit(Unreachable, "the gateway at %s has ended the stream", cl.base)
	})
	if err == nil && over(state) && state != "ok" {
		return exit(Failed, "the task is %s", state)
	}
	return err
}

func over(state string) bool {
	return slices.Contains([]string{"ok", "failed", "cancelled", "late"}, state)
}

// shownTask writes a task, and tells its state.
func (a *app) shownTask(raw json.RawMessage) (state string, err error) {
	var t executor.TaskInfo
	if err := json.Unmarshal(raw, &t); err != nil {
		return "", exit(Unknown, "the gateway sent what this version does not know: %w", err)
	}
	if a.json {
		return t.State, a.write(string(raw))
	}
	return t.State, a.write(describe(&t))
}

// describe is a task for people.
func describe(t *executor.TaskInfo) string {
	var b strings.Builder
	line := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "%-10s "+format+"\n", append([]any{name}, args...)...)
	}
	queue := "durable"
	if t.Class == executor.Fast {
		queue = "fast, in the memory of " + string(t.Queue)
	}
	line("task", "%s of executor %s (%s)", t.ID, t.Executor, queue)
	state := t.State + " since " + ago(t.Since)
	switch {
	case t.State == "delayed":
		state = "delayed, due " + since(t)
	case t.Node != "":
		state += ", at node " + string(t.Node)
	}
	line("action", "%s", t.Action)
	line("state", "%s", state)
	line("submitted", "%s ago; attempts: %d; retries: %d", ago(t.Submitted), t.Attempts, t.Retries)
	for _, f := range [][2]string{{"key", t.Key}, {"batch", t.Batch}, {"labels", strings.Join(t.Labels, ", ")}, {"parked", t.Reason}, {"error", t.Error}} {
		if f[1] != "" {
			line(f[0], "%s", f[1])
		}
	}
	if t.Priority != 0 {
		line("priority", "%d", t.Priority)
	}
	if !t.Deadline.IsZero() {
		line("deadline", "%s", t.Deadline.Format(time.RFC3339))
	}
	if p := progress(t); p != "-" {
		line("progress", "%s", p)
	}
	for i, h := range t.History {
		name := ""
		if i == 0 {
			name = "history"
		}
		what := h.Outcome
		if h.Lost {
			what = "lost"
		}
		line(name, "%s  %-9s on %s, %v: %s", h.Began.Local().Format("15:04:05"), what, cmp.Or(string(h.Node), "session "+h.Session), h.Ended.Sub(h.Began), cmp.Or(brief(h.Error), "-"))
	}
	if t.Input != nil {
		line("input", "%s", t.Input)
	}
	if t.Result != nil {
		line("result", "%s", t.Result)
	}
	if t.State == "parked" {
		line("decide", "distgear tasks retry|cancel %s %s", t.Executor, t.ID)
	}
	return b.String()
}

func (a *app) taskVerbCmd(verb, short, says string) *cobra.Command {
	return &cobra.Command{
		Use: verb + " EXECUTOR ID", Short: short, Args: cobra.ExactArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			return a.order(c.Context(), "POST", taskPath(args)+"/"+verb, nil, says, args[0], args[1])
		},
	}
}

func (a *app) tasksParkCmd() *cobra.Command {
	var reason string
	c := &cobra.Command{
		Use: "park EXECUTOR ID", Short: "Keep a task from being run until somebody retries or cancels it", Args: cobra.ExactArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			if reason == "" {
				return exit(Usage, "park needs a --reason: the task keeps it for who looks after it")
			}
			body := map[string]string{"reason": reason}
			return a.order(c.Context(), "POST", taskPath(args)+"/park", body, "told: `distgear tasks retry %s %s` has it run again", args[0], args[1])
		},
	}
	c.Flags().StringVar(&reason, "reason", "", "why; needed")
	return c
}
