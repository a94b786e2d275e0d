package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/distgear/distgear/internal/scheduled"
	"github.com/distgear/distgear/schedule"
)

func schedulePath(name string) (string, error) {
	of, own, ok := strings.Cut(name, "/")
	switch {
	case !ok:
		return "/v1/schedules/" + url.PathEscape(name), nil
	case of == "" || own == "":
		return "", exit(Usage, "%s is no name of a schedule: want NAME, or EXECUTOR/NAME", name)
	}
	return executorPath(of) + "/schedules/" + url.PathEscape(own), nil
}

func (a *app) schedulesCmd() *cobra.Command {
	c := a.listCmd("schedules", "the event that each raises, or the action of which it submits a task; when, when next and when last, and what becomes of times that were missed", func(f *found) [][]string {
		rows := [][]string{{"NAME", "STARTS", "WHEN", "NEXT", "LAST", "MISSED", "STATE"}}
		for i := range f.Schedules {
			s := &f.Schedules[i]
			row := cellsOf(s)
			rows = append(rows, []string{s.Full().String(), cmp.Or(s.Event, s.Action), s.When, row.next, row.last, row.missed, row.state})
		}
		return rows
	})
	c.Short = "List, show, pause, resume, run and remove the schedules of durable events and of executors"
	c.Long = strings.Replace(c.Long, "the shared schedules", "the schedules of durable events, and those of executors as EXECUTOR/NAME,", 1)
	c.AddCommand(
		a.schedulesShowCmd(),
		a.scheduleVerbCmd("pause", "POST", "Have the times of a schedule left out", "paused: `distgear schedules resume %s` ends it"),
		a.scheduleVerbCmd("resume", "POST", "End a pause; what was due meanwhile stays left out", "%s goes on"),
		a.schedulesRunCmd(),
		a.scheduleVerbCmd("remove", "DELETE", "End a schedule; its runs or tasks stay", "%s is removed, its runs or tasks stay"),
	)
	return c
}

// scheduleCells are a schedule's columns that are alike in a table and by itself.
type scheduleCells struct{ next, last, missed, state string }

func cellsOf(s *scheduled.Info) scheduleCells {
	at := func(t time.Time) string {
		if t.IsZero() {
			return "-"
		}
		return t.Local().Format(time.DateTime)
	}
	c := scheduleCells{at(s.Next), at(s.Last), "one makes up", "on"}
	switch s.Missed {
	case schedule.CatchUp:
	case schedule.CatchUpAll:
		c.missed = "all of a day"
	case schedule.LeaveOut:
		c.missed = "left out"
	}
	if s.Paused {
		c.next, c.state = "-", "paused"
	}
	return c
}

func (a *app) schedulesShowCmd() *cobra.Command {
	return &cobra.Command{
		Use: "show NAME", Short: "Show a schedule: when, what it starts and with which input", Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			path, err := schedulePath(args[0])
			if err != nil {
				return err
			}
			cl, err := a.client()
			if err != nil {
				return err
			}
			var raw json.RawMessage
			if err := cl.call(c.Context(), "GET", path, nil, &raw); err != nil {
				return err
			}
			if a.json {
				return a.write(string(raw))
			}
			var s scheduled.Info
			if err := json.Unmarshal(raw, &s); err != nil {
				return exit(Unknown, "the gateway sent what this version does not know: %w", err)
			}
			return a.write(describeSchedule(&s))
		},
	}
}

// describeSchedule is a schedule for people.
func describeSchedule(s *scheduled.Info) string {
	cells := cellsOf(s)
	starts := "a run of event " + s.Event
	if s.Executor != "" {
		starts = "a task of action " + s.Action + " for executor " + s.Executor
	}
	last := cells.last
	if !s.Last.IsZero() {
		last += fmt.Sprintf(", ID %s@%d unless it was left out", s.Name, s.Last.UnixMilli())
	}
	var b strings.Builder
	for _, line := range [][2]string{
		{"schedule", s.Full().String()}, {"starts", starts}, {"when", s.When}, {"next", cells.next}, {"last", last},
		{"missed", cells.missed}, {"state", cells.state}, {"input", cmp.Or(string(s.Input), "-")},
	} {
		fmt.Fprintf(&b, "%-9s %s\n", line[0], line[1])
	}
	return b.String()
}

func (a *app) scheduleVerbCmd(verb, method, short, says string) *cobra.Command {
	return &cobra.Command{
		Use: verb + " NAME", Short: short, Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			path, err := schedulePath(args[0])
			if err != nil {
				return err
			}
			if method == "POST" {
				path += "/" + verb
			}
			return a.order(c.Context(), method, path, nil, says, args[0])
		},
	}
}

func (a *app) schedulesRunCmd() *cobra.Command {
	return &cobra.Command{
		Use: "run NAME", Short: "Start a run or task of a schedule now, besides its times, paused or not", Args: cobra.ExactArgs(1),
		Long: "run raises a run, or submits a task, as the schedule does when it is due. Its times stay as they are. The ID of the run or task\n" +
			"is written to standard output.",
		RunE: func(c *cobra.Command, args []string) error { return a.runSchedule(c.Context(), args[0]) },
	}
}

func (a *app) runSchedule(ctx context.Context, name string) error {
	path, err := schedulePath(name)
	if err != nil {
		return err
	}
	cl, err := a.client()
	if err != nil {
		return err
	}
	var raw json.RawMessage
	if err := cl.call(ctx, "POST", path+"/run", nil, &raw); err != nil {
		return err
	}
	if a.json {
		return a.write(string(raw))
	}
	var begun struct{ Run, Executor, Task string }
	if err := json.Unmarshal(raw, &begun); err != nil {
		return exit(Unknown, "the gateway sent what this version does not know: %w", err)
	}
	if begun.Run != "" {
		a.say("raised: `distgear runs watch %s` shows what becomes of it", begun.Run)
	} else {
		a.say("submitted: `distgear tasks show %s %s` shows what becomes of it", begun.Executor, begun.Task)
	}
	return a.write(begun.Run + begun.Task)
}
