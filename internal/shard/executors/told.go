package executors

import (
	"bytes"

	"github.com/distgear/distgear/internal/machine/runs"
	"github.com/distgear/distgear/internal/machine/tasks"
)

// Told is what has become of a task, for who wants to know: as JSON it is an Event of
// package lifecycle.
type Told struct {
	At      int64  `json:"at"` // ms since 1970
	ID      string `json:"id"`
	Event   string `json:"event"`
	What    string `json:"what"`
	Node    string `json:"node,omitempty"`
	Epoch   uint32 `json:"epoch,omitempty"`
	Step    string `json:"step,omitempty"`
	Outcome string `json:"outcome,omitempty"`
	Text    string `json:"text,omitempty"`
}

// publish tells of a Moved.
func (x *Executor) publish(c *Call, e *tasks.Effect[string]) {
	t := e.Task
	told := &Told{At: c.Now, ID: t.ID, Event: t.Kind(), What: e.Text}
	if e.To.Session != 0 {
		told.Node = c.Ledger.Node(e.To.Session)
	}
	switch e.Text {
	case tasks.Began:
		told.Epoch = t.Epoch
	case tasks.SetApart:
		told.Text = t.Reason()
	case tasks.IsOver:
		told.Outcome, told.Text = x.outcome(t), t.Reason()
	}
	c.Ledger.Publish(told)
}

// outcome is how a task has ended, as its record says.
func (x *Executor) outcome(t *tasks.Task[string]) string {
	if x.ended != "" {
		return x.ended
	}
	switch {
	case t.Outcome == tasks.OK:
		return "ok"
	case t.Cause == tasks.Cancelled, t.Outcome == tasks.NeverRan:
		return "cancelled"
	}
	return "failed"
}

// stuck tells that an undo of a run needs a person.
func (x *Executor) stuck(c *Call, t *tasks.Task[string], step string) {
	x.run(t).Note(runs.Note{At: c.Now, Verb: "stuck", Node: c.Ledger.Node(c.By), Text: step})
	if c.Heard {
		c.Ledger.Publish(&Told{At: c.Now, ID: t.ID, Event: t.Kind(), What: "stuck", Node: c.Ledger.Node(c.By), Step: step})
	}
}

// note keeps who has done what with a run. Before Val is who that is.
func (x *Executor) note(c *Call, t *tasks.Task[string], verb string, text []byte) {
	by, _ := c.by()
	x.run(t).Note(runs.Note{At: c.Now, Verb: verb, Node: c.Ledger.Node(c.By), By: string(by), Text: string(text)})
}

// by takes Val apart: who, and the rest.
func (c *Call) by() (who, rest []byte) {
	n := 0
	if len(c.Op.Key) > 0 && c.Op.B <= uint64(len(c.Op.Val)) {
		n = int(c.Op.B)
	}
	return c.Op.Val[:n], c.Op.Val[n:]
}

// noted keeps a note that says itself what was done (RunNote).
func (x *Executor) noted(c *Call, t *tasks.Task[string]) {
	_, rest := c.by()
	verb, text, ok := bytes.Cut(rest, []byte{0})
	if !ok || len(verb) == 0 {
		x.invalid(c)
		return
	}
	x.note(c, t, string(verb), text)
	x.answer(c, nil)
}
