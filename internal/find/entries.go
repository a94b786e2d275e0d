package find

import (
	"cmp"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/distgear/distgear/cluster"
	"github.com/distgear/distgear/internal/fault"
	"github.com/distgear/distgear/internal/journal"
	machine "github.com/distgear/distgear/internal/machine/runs"
	"github.com/distgear/distgear/internal/machine/tasks"
	"github.com/distgear/distgear/internal/plan"
	"github.com/distgear/distgear/record"
)

// clock is by how much the time of the ledger is behind that of this node. What is
// less than a second is the way between them.
type clock time.Duration

func (c clock) time(ms int64) time.Time {
	return time.UnixMilli(ms).Add(time.Duration(c).Truncate(time.Second))
}

// entries is what the ledger tells of a run that has no summary: its journal, who
// owned it, and how it stands.
func entries(v *machine.View, at clock, units [][]byte) ([]record.Entry, error) {
	t := teller{}
	for _, u := range units {
		when, recs, err := journal.Parse(u)
		if err != nil {
			return nil, err
		}
		t.unit(time.Unix(0, when), recs)
	}
	if n := len(t.es); n > 0 && t.es[n-1].What == record.Finished {
		t.es = t.es[:n-1] // its owner said so; it has ended when the ledger says so, which knows more
	}
	es := owners(t.es, v, at)
	es = slices.Insert(es, 0, record.Entry{At: at.time(v.Started), What: record.Accepted})
	switch v.State {
	case tasks.Parked:
		es = append(es, record.Entry{At: at.time(v.Since), What: record.SetAside, Text: v.Reason})
	case tasks.Ended:
		es = append(es, record.Entry{At: at.time(v.Since), What: record.Finished, Outcome: string(state(v.State, v.Outcome, "")), Text: v.Reason})
	}
	return es, nil
}

// owners puts those that the run had where they belong.
func owners(es []record.Entry, v *machine.View, at clock) []record.Entry {
	put := func(e record.Entry) {
		i := slices.IndexFunc(es, func(x record.Entry) bool { return x.At.After(e.At) })
		if i < 0 {
			i = len(es)
		}
		es = slices.Insert(es, i, e)
	}
	if v.State == tasks.Leased {
		put(record.Entry{At: at.time(v.Since), What: record.Owned, Node: cluster.NodeName(v.Node), Epoch: uint64(v.Epoch)})
	}
	for i := range v.Owners {
		o := &v.Owners[i]
		put(record.Entry{At: at.time(o.Began), What: record.Owned, Node: cluster.NodeName(o.Node)})
		text := o.Text
		if o.Lost {
			text = "lost"
		}
		if v.Reason == "" || text != v.Reason { // said at the end
			put(record.Entry{At: at.time(o.Ended), What: record.OwnerGone, Node: cluster.NodeName(o.Node), Began: at.time(o.Began), Text: text})
		}
	}
	return es
}

// teller puts what a journal tells into words.
type teller struct {
	es    []record.Entry
	plans []*toldPlan
}

// toldPlan is a plan of it.
type toldPlan struct {
	shape *journal.Plan
	sent  map[uint32]record.Entry // by the attempt's number
	tries map[[2]string]int       // of a step, and of its undo
}

func (t *teller) unit(at time.Time, recs []journal.Record) {
	adopted := map[uint32]bool{} // what is repeated of it in another shape happened before
	for i := range recs {
		r := &recs[i]
		e := record.Entry{At: at, Undo: r.Undo}
		switch r.Kind {
		case journal.Planned:
			t.plans = append(t.plans, &toldPlan{shape: r.Shape, sent: map[uint32]record.Entry{}, tries: map[[2]string]int{}})
			e.What, e.Plan = record.Planned, r.Shape.Name
		case journal.Value:
			e.What, e.Name = record.Valued, r.Name
			if name, ok := strings.CutPrefix(r.Name, "signal "); ok {
				e.What, e.Name, e.Text = record.Signalled, name, decision(name, r.Input)
			}
		case journal.Slept:
			e.What, e.Until = record.Slept, time.Unix(0, r.Until)
		case journal.Stopped:
			e.What = record.RunCancel
		case journal.Closed:
			e.What, e.Outcome, e.Text = record.Finished, plan.Outcome(r.Report.Outcome).String(), message(&r.Report)
		default:
			if int(r.Plan) >= len(t.plans) {
				continue // journal.Read says so
			}
			if r.Kind == journal.Adopted {
				adopted[r.Plan] = true
			}
			if !t.plans[r.Plan].tell(&e, r, adopted[r.Plan]) {
				continue
			}
		}
		t.es = append(t.es, e)
	}
}

// tell tells a record of the plan; false: it is none of its own.
func (p *toldPlan) tell(e *record.Entry, r *journal.Record, adopted bool) bool {
	e.Plan = p.shape.Name
	switch r.Kind {
	case journal.Adopted:
		p.shape = r.Shape
		e.What = record.Adopted
		return true
	case journal.Cancelled:
		e.What = record.PlanCancel
		if r.Timeout {
			e.Text = "its time was up"
		}
		return true
	case journal.Unwound:
		e.What = record.Unwound
		return true
	case journal.Forked:
		return false
	}
	if int(r.Step) >= len(p.shape.Steps) {
		return false
	}
	e.Step = p.shape.Steps[r.Step].Name
	lane := [2]string{e.Step, ""}
	if r.Undo {
		lane[1] = "undo"
	}
	switch r.Kind {
	case journal.Sent:
		if !adopted {
			p.tries[lane]++
		}
		e.What, e.Node, e.Attempt = record.Sent, cluster.NodeName(r.Node), p.tries[lane]
		p.sent[r.Number] = *e
	case journal.Reported:
		was := p.sent[r.Number]
		e.What, e.Node, e.Attempt, e.Began = record.Reported, was.Node, was.Attempt, was.At
		e.Outcome, e.Text = plan.Outcome(r.Report.Outcome).String(), message(&r.Report)
	case journal.Ended:
		e.What, e.Outcome, e.Text = record.NotSent, plan.Outcome(r.Report.Outcome).String(), message(&r.Report)
	case journal.Decided:
		e.What, e.Text, e.Undo = record.Resolved, r.Text, true
		switch plan.Resolution(r.How) {
		case plan.SkipUndo:
			e.How = record.Skip
		case plan.MarkUndone:
			e.How = record.MarkDone
		default:
			e.How = record.Retry
		}
	default: // of a kind that is newer than this
		e.What = record.Happening(r.Kind.String())
	}
	return !adopted
}

// decision is what a signal tells that is an approval.
func decision(name string, value []byte) string {
	var a record.Approval
	if !strings.HasPrefix(name, "approve ") || json.Unmarshal(value, &a) != nil {
		return ""
	}
	said := "refused"
	if a.Approved {
		said = "approved"
	}
	if a.By != "" {
		said += " by " + a.By
	}
	if a.Reason != "" {
		said += ": " + a.Reason
	}
	return fault.Clip(said)
}

func message(r *journal.Report) string {
	if r.Error == nil {
		return ""
	}
	return fault.Clip(r.Error.Message)
}

// ended is what is kept of a run that has ended: its journal, if it was small, else
// what its record tells.
func ended(rec *record.Run, v *machine.View, at clock) []record.Entry {
	if units, err := machine.Units(v.Journal); err == nil && len(units) > 0 {
		if es, err := entries(v, at, units); err == nil {
			es[len(es)-1] = finished(rec, v)
			return es
		}
	}
	return told(rec, v, at)
}

func finished(rec *record.Run, v *machine.View) record.Entry {
	return record.Entry{At: rec.Ended, What: record.Finished, Node: rec.Node, Epoch: uint64(v.Epoch), Outcome: string(rec.State), Text: rec.Error}
}

// told is what the record of a run that has ended tells of what happened.
func told(rec *record.Run, v *machine.View, at clock) []record.Entry {
	var es []record.Entry
	for i := range rec.Plans {
		p := &rec.Plans[i]
		var of []record.Entry
		for k := range p.Steps {
			s := &p.Steps[k]
			for _, a := range s.Attempts {
				e := record.Entry{At: a.Sent, What: record.Sent, Plan: p.Name, Step: s.Name, Undo: a.Undo, Attempt: a.Number, Node: a.Node}
				of = append(of, e)
				if !a.Ended.IsZero() {
					e.At, e.What, e.Began, e.Outcome, e.Text = a.Ended, record.Reported, a.Sent, a.Outcome, a.Error
					of = append(of, e)
				}
			}
		}
		slices.SortStableFunc(of, earlier)
		began := rec.Started
		if len(of) > 0 {
			began = of[0].At
		}
		es = append(append(es, record.Entry{At: began, What: record.Planned, Plan: p.Name}), of...)
	}
	slices.SortStableFunc(es, earlier) // an unwound plan ends after those that follow it
	es = owners(es, v, at)
	es = slices.Insert(es, 0, record.Entry{At: rec.Started, What: record.Accepted})
	return append(es, finished(rec, v))
}

// earlier orders entries: what follows from a report has its time, and comes after it.
func earlier(a, b record.Entry) int {
	first := []record.Happening{record.Sent, record.Planned, record.Reported} // the last comes first
	return cmp.Or(a.At.Compare(b.At), slices.Index(first, b.What)-slices.Index(first, a.What))
}
