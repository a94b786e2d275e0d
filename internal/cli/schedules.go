package cli

import (
	"encoding/json"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/distgear/distgear/schedule"
)

func (a *app) schedulesCmd() *cobra.Command {
	c := a.listCmd("schedules", "of which event, when, when next and when last, and what becomes of times that were missed", func(f *found) [][]string {
		rows := [][]string{{"NAME", "EVENT", "WHEN", "NEXT", "LAST", "MISSED", "STATE"}}
		for i := range f.Schedules {
			rows = append(rows, scheduleRow(&f.Schedules[i]))
		}
		return rows
	})
	c.Short = "List the schedules of durable events by name, pause, resume and remove them"
	c.Long = strings.Replace(c.Long, "the shared schedules", "the schedules of durable events", 1)
	c.AddCommand(
		a.scheduleVerbCmd("pause", "Have the times of a schedule left out", "paused: `distgear schedules resume %s` ends it"),
		a.scheduleVerbCmd("resume", "End a pause; what was due meanwhile stays left out", "%s goes on"),
		a.scheduleVerbCmd("remove", "End a schedule; its runs stay", "%s is removed, its runs stay"),
	)
	return c
}

func scheduleRow(s *schedule.Info) []string {
	missed, state := "one makes up", "on"
	switch s.Missed {
	case schedule.CatchUp:
	case schedule.CatchUpAll:
		missed = "all of a day"
	case schedule.LeaveOut:
		missed = "left out"
	}
	next := "-"
	switch {
	case s.Paused:
		state = "paused"
	case !s.Next.IsZero():
		next = s.Next.Local().Format(time.DateTime)
	}
	last := "-"
	if !s.Last.IsZero() {
		last = s.Last.Local().Format(time.DateTime)
	}
	return []string{s.Name, s.Event, s.When, next, last, missed, state}
}

func (a *app) scheduleVerbCmd(verb, short, says string) *cobra.Command {
	return &cobra.Command{
		Use: verb + " NAME", Short: short, Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			path := "/v1/schedules/" + url.PathEscape(args[0])
			if verb != "remove" {
				return a.order(c.Context(), path+"/"+verb, nil, says, args[0])
			}
			cl, err := a.client()
			if err != nil {
				return err
			}
			var raw json.RawMessage
			if err := cl.call(c.Context(), "DELETE", path, nil, &raw); err != nil {
				return err
			}
			if a.json {
				return a.write(string(raw))
			}
			a.say(says, args[0])
			return nil
		},
	}
}
