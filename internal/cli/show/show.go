// Package show draws records of runs for people: as a tree, and as one line per
// change. It has no state and writes nothing.
//
//	fmt.Println(show.Tree(rec, time.Now(), show.Paint))
//	for _, c := range show.Changes(before, rec) { fmt.Println(c) }
//
// # Guarantees
//
// Every step of a record is shown once; a step stands below the last of those
// it comes after.
package show

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"charm.land/lipgloss/v2"
	"charm.land/lipgloss/v2/tree"

	"github.com/distgear/distgear/cluster"
	"github.com/distgear/distgear/record"
)

// Ink colours a text as its state is coloured; Plain leaves it alone.
type Ink func(text string, state string) string

// Plain is no colour.
func Plain(text, _ string) string { return text }

// Paint colours for a terminal. Writers that cannot show colours must be
// wrapped (lipgloss.Fprint does).
func Paint(text, state string) string {
	s := lipgloss.NewStyle()
	switch state {
	case "ok", "alive", "✓":
		s = s.Foreground(lipgloss.Green)
	case "failed", "stuck", "lost", "✗":
		s = s.Foreground(lipgloss.Red)
	case "unknown", "retrying", "suspect", "rolling back", "undoing":
		s = s.Foreground(lipgloss.Yellow)
	case "undone", "rolled back", "marked undone":
		s = s.Foreground(lipgloss.Magenta)
	case "running", "joining":
		s = s.Foreground(lipgloss.Cyan)
	case "heading":
		s = s.Bold(true)
	default:
		s = s.Faint(true)
	}
	return s.Render(text)
}

// spinner is what stands before a step that is under way.
var spinner = [...]string{"⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏"}

// Sign is one character for a state. now turns the spinner.
func Sign(state string, now time.Time) string {
	switch state {
	case "ok":
		return "✓"
	case "failed", "stuck":
		return "✗"
	case "unknown":
		return "?"
	case "running", "retrying", "undoing", "rolling back", "cancelling":
		return spinner[int(now.UnixMilli()/100)%len(spinner)]
	case "undone", "rolled back", "marked undone":
		return "↺"
	case "waiting":
		return "·"
	}
	return "-"
}

// Tree draws a run: a line for the run, and its plans' steps below. now is what
// the time of steps under way is counted to.
func Tree(rec record.Run, now time.Time, ink Ink) string {
	state, on := string(rec.State), ""
	if rec.Node != "" { // a run that waits is on none
		on = "  on " + string(rec.Node)
	}
	t := tree.Root(fmt.Sprintf("%s %s  %s%s%s", ink(Sign(state, now), state), ink(rec.Event, "heading"), ink(state, state), on,
		spent(rec.Started, rec.Ended, now)))
	for i, p := range rec.Plans {
		into := t
		if len(rec.Plans) > 1 {
			into = tree.Root(planName(p, i))
			t.Child(into)
		}
		addSteps(into, p, now, ink)
	}
	t.EnumeratorStyle(lipgloss.NewStyle().PaddingRight(1)).IndenterStyle(lipgloss.NewStyle().PaddingRight(1))
	if rec.Error != "" && rec.State.Final() {
		return t.String() + "\n" + ink(Short(rec.Error), "failed")
	}
	return t.String()
}

func planName(p record.Plan, i int) string {
	if p.Name == "" {
		return fmt.Sprintf("plan %d", i+1)
	}
	return "plan " + p.Name
}

const indent = 4 // cells that a level of the tree takes

func addSteps(into *tree.Tree, p record.Plan, now time.Time, ink Ink) {
	depth := make([]int, len(p.Steps))
	parent := make([]int, len(p.Steps))
	wide, index := 0, map[string]int{}
	for i, s := range p.Steps {
		index[s.Name], parent[i] = i, -1
		if len(s.After) > 0 { // steps come after those that were added before them
			if at, ok := index[s.After[len(s.After)-1]]; ok {
				parent[i], depth[i] = at, depth[at]+1
			}
		}
		wide = max(wide, lipgloss.Width(s.Name)+indent*depth[i])
	}
	nodes := make([]*tree.Tree, len(p.Steps))
	for i, s := range p.Steps {
		nodes[i] = tree.Root(StepLine(s, wide-indent*depth[i], now, ink))
	}
	for i := range slices.Backward(nodes) { // a child is whole before its parent takes it
		kids := []any{}
		for j := range nodes {
			if parent[j] == i {
				kids = append(kids, child(nodes[j]))
			}
		}
		nodes[i].Child(kids...)
	}
	for i, n := range nodes {
		if parent[i] < 0 {
			into.Child(child(n))
		}
	}
}

func child(t *tree.Tree) any {
	if t.Children().Length() == 0 {
		return t.Value()
	}
	return t
}

// StepLine is a step in a line: name in wide cells, state, node, time, attempt.
func StepLine(s record.Step, wide int, now time.Time, ink Ink) string {
	state := string(s.State)
	line := fmt.Sprintf("%s%s  %s %s", s.Name, strings.Repeat(" ", max(0, wide-lipgloss.Width(s.Name))), ink(Sign(state, now), state), ink(fmt.Sprintf("%-8s", state), state))
	node := string(s.Node)
	if node == "" {
		node = s.Target
	}
	line += fmt.Sprintf("  %-4s", node)
	line += fmt.Sprintf(" %6s", strings.TrimSpace(spent(s.Started, s.Ended, now)))
	if s.Attempt > 1 {
		line += "  " + ink(fmt.Sprintf("attempt %d", s.Attempt), "retrying")
	}
	if s.UndoAttempt > 1 {
		line += "  " + ink(fmt.Sprintf("undo attempt %d", s.UndoAttempt), "retrying")
	}
	if len(s.After) > 1 {
		line += "  " + ink("← "+strings.Join(s.After, ", "), "dim")
	}
	return strings.TrimRight(line, " ")
}

// spent is the time between two moments; to now where there is no second.
func spent(from, to, now time.Time) string {
	if from.IsZero() {
		return ""
	}
	if to.IsZero() {
		to = now
	}
	d := max(0, to.Sub(from))
	switch {
	case d < time.Millisecond:
		return "  <1 ms"
	case d < time.Second:
		return fmt.Sprintf("  %d ms", d.Milliseconds())
	case d < time.Minute:
		return fmt.Sprintf("  %.1f s", d.Seconds())
	}
	return "  " + d.Round(time.Second).String()
}

// Change is what is new in a record: about a step, or about the run (Step is
// empty).
type Change struct {
	Run     record.RunID     `json:"run"`
	Event   string           `json:"event"`
	Plan    string           `json:"plan,omitempty"`
	Step    string           `json:"step,omitempty"`
	State   string           `json:"state"`
	Node    cluster.NodeName `json:"node,omitempty"`
	Attempt int              `json:"attempt,omitempty"`
	Took    time.Duration    `json:"-"`
	Millis  int64            `json:"ms,omitempty"`
	Error   string           `json:"error,omitempty"`
}

// String is the change in a line.
func (c Change) String() string {
	var b strings.Builder
	if c.Step == "" {
		fmt.Fprintf(&b, "%s: %s", c.Event, c.State)
	} else {
		fmt.Fprintf(&b, "  %-12s %-8s", c.Step, c.State)
		if c.Node != "" {
			fmt.Fprintf(&b, "  %-4s", c.Node)
		}
		if c.Took > 0 {
			fmt.Fprintf(&b, "  %d ms", c.Millis)
		}
		if c.Attempt > 1 {
			fmt.Fprintf(&b, "  attempt %d", c.Attempt)
		}
	}
	if c.Error != "" {
		fmt.Fprintf(&b, "  (%s)", Short(c.Error))
	}
	return strings.TrimRight(b.String(), " ")
}

// Short is the first line of a message, and of that not more than a line's
// worth.
func Short(message string) string {
	message, _, _ = strings.Cut(message, "\n")
	if r := []rune(message); len(r) > 120 {
		return string(r[:119]) + "…"
	}
	return message
}

// Changes is what is new in a record since before, the zero record for all. The
// run's own change comes last if the run, or its rollback, has ended, else first.
func Changes(before, rec record.Run) []Change {
	var cs []Change
	run := Change{Run: rec.ID, Event: rec.Event, State: string(rec.State), Node: rec.Node}
	if rec.State.Final() {
		run.Error = rec.Error
		run.Took = rec.Ended.Sub(rec.Started)
		run.Millis = run.Took.Milliseconds()
	}
	ends := rec.State.Final() || before.State == record.RollingBack // what the steps came to is told before
	if before.State != rec.State && !ends {
		cs = append(cs, run)
	}
	old := map[[2]string]record.Step{}
	for i, p := range before.Plans {
		for _, s := range p.Steps {
			old[[2]string{planName(p, i), s.Name}] = s
		}
	}
	type timed struct {
		Change
		at    time.Time
		ended bool // else it is under way, since the others have ended
	}
	var steps []timed
	for i, p := range rec.Plans {
		for _, s := range p.Steps {
			o := old[[2]string{planName(p, i), s.Name}]
			if s.State == "waiting" || o.State == s.State && o.Attempt == s.Attempt && o.Node == s.Node {
				continue
			}
			c := Change{Run: rec.ID, Event: rec.Event, Plan: p.Name, Step: s.Name, State: string(s.State), Node: s.Node, Attempt: s.Attempt}
			at, ended := s.Started, false
			switch s.State {
			case "running", "retrying", "undoing":
			default:
				if ended = !s.Ended.IsZero(); ended {
					at = s.Ended
				}
				if ended && s.State != "undone" {
					c.Took = s.Ended.Sub(s.Started)
					c.Millis = c.Took.Milliseconds()
				}
			}
			if s.State != "ok" && s.State != "undone" {
				c.Error = s.Error
			}
			steps = append(steps, timed{c, at, ended})
		}
	}
	slices.SortStableFunc(steps, func(a, b timed) int {
		if a.ended != b.ended {
			if a.ended {
				return -1
			}
			return 1
		}
		return a.at.Compare(b.at)
	})
	for _, s := range steps {
		cs = append(cs, s.Change)
	}
	if before.State != rec.State && ends {
		cs = append(cs, run)
	}
	return cs
}
