package show

import (
	"fmt"
	"strings"
	"time"

	"charm.land/lipgloss/v2"

	"github.com/distgear/distgear/record"
)

// Timeline draws what happened in a durable run, a line for each entry.
func Timeline(es []record.Entry, ink Ink) string {
	wide := 0
	for i := range es {
		wide = max(wide, lipgloss.Width(es[i].Step))
	}
	var lines []string
	for i := range es {
		lines = append(lines, EntryLine(&es[i], es[0].At, wide, ink))
	}
	return strings.Join(lines, "\n")
}

// EntryLine is an entry in a line: the time since a moment, and what happened; the
// name of a step in wide cells.
func EntryLine(e *record.Entry, since time.Time, wide int, ink Ink) string {
	line := ink(fmt.Sprintf("%10s", offset(e.At.Sub(since))), "dim") + "  "
	if e.Step == "" {
		return strings.TrimRight(line+aboutRun(e, ink), " ")
	}
	name := e.Step
	if e.Undo {
		name = ink("↺ ", "undone") + name
	} else {
		name = "  " + name
	}
	return strings.TrimRight(line+"  "+name+strings.Repeat(" ", max(0, wide-lipgloss.Width(e.Step)))+"  "+aboutStep(e, ink), " ")
}

func offset(d time.Duration) string {
	switch d = max(0, d); {
	case d < time.Minute:
		return fmt.Sprintf("%.3f s", d.Seconds())
	case d < 48*time.Hour:
		return d.Round(time.Second).String()
	}
	return fmt.Sprintf("%.1f days", d.Hours()/24)
}

func aboutRun(e *record.Entry, ink Ink) string {
	said := func(text string) string {
		if e.Text == "" {
			return text
		}
		return text + ": " + Short(e.Text)
	}
	node := string(e.Node)
	if node == "" {
		node = "a node that is gone"
	}
	if e.Epoch > 0 {
		node = fmt.Sprintf("%s, epoch %d", node, e.Epoch)
	}
	switch e.What {
	case record.Owned:
		return "owned by " + node
	case record.OwnerGone:
		return ink(said("no more owned by "+node+" after "+strings.TrimSpace(spent(e.Began, e.At, e.At))), "retrying")
	case record.Planned:
		return ink("plan "+e.Plan, "heading")
	case record.PlanCancel:
		return said("plan " + e.Plan + " cancelled")
	case record.Unwound:
		return "plan " + e.Plan + " is to be undone"
	case record.Adopted:
		return "plan " + e.Plan + " goes on in another shape: an operator adopted it"
	case record.Valued:
		return "took " + e.Name
	case record.Signalled:
		return said("took the signal " + e.Name)
	case record.Slept:
		return "sleeps until " + e.Until.Local().Format(time.DateTime)
	case record.Finished:
		text := "finished " + ink(Sign(e.Outcome, e.At)+" "+e.Outcome, e.Outcome)
		if e.Node != "" {
			text += "  by " + node
		}
		return said(text)
	case record.SetAside:
		return ink(said("parked"), "stuck")
	case record.Operated:
		text := "operator: " + e.Name
		if e.Text != "" {
			text += " " + Short(e.Text)
		}
		if e.By != "" {
			text += "  by " + e.By
		}
		if e.Node != "" {
			text += "  at " + node
		}
		return text
	}
	return said(strings.Join(strings.Fields(string(e.What)+" "+e.Plan+" "+e.Name), " "))
}

func aboutStep(e *record.Entry, ink Ink) string {
	var b strings.Builder
	switch e.What {
	case record.Sent:
		b.WriteString("→ " + string(e.Node))
	case record.Reported, record.NotSent:
		state := e.Outcome
		if strings.HasPrefix(state, "failed") {
			state = "failed"
		}
		b.WriteString(ink(Sign(state, e.At)+" "+e.Outcome, state))
		if e.Node != "" {
			b.WriteString("  " + string(e.Node))
		}
		b.WriteString(spent(e.Began, e.At, e.At))
	case record.Resolved:
		b.WriteString("an operator decided: " + string(e.How))
	case record.BeginStuck:
		b.WriteString(ink("stuck: a person has to decide", "stuck"))
	default:
		b.WriteString(string(e.What))
	}
	if e.Attempt > 1 {
		b.WriteString("  " + ink(fmt.Sprintf("attempt %d", e.Attempt), "retrying"))
	}
	if e.Text != "" {
		b.WriteString("  (" + Short(e.Text) + ")")
	}
	return b.String()
}
