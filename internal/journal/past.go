package journal

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/distgear/distgear/internal/wire"
)

// Past is what a journal tells, sorted for who goes on with the run. The zero
// value is that of a new run.
type Past struct {
	Plans   []*PastPlan // in the order in which they began
	Stopped bool        // the run was cancelled
	Closed  *Report     // how the run ended; nil: it did not
	Ended   int64       // when it did, in ns since 1970

	values map[string][][]byte
	slept  []int64
	naps   int // that were asked for
}

// PastPlan is what is recorded of one plan.
type PastPlan struct {
	Shape   *Plan
	Records []Timed // after Planned or Adopted, in order
	Began   int64   // ns since 1970
	Next    uint32  // the number of its next attempt, if Adopted said so
	Taken   bool    // the handler has come to it again; for who goes on with the run
	sent    uint32  // how many attempts there were
}

// maxAttempts is how many of a plan there may have been before it was adopted: who goes on
// makes room for as many. A journal has room for a quarter of that.
const maxAttempts = 1 << 20

// Timed is a record and when it was made, in ns since 1970.
type Timed struct {
	At int64
	Record
}

// Read sorts the units of a journal. What they tell is of use only as a whole:
// with an error there is nothing.
func Read(units [][]byte) (*Past, error) {
	p := &Past{}
	for n, u := range units {
		at, recs, err := Parse(u)
		if err != nil {
			return nil, fmt.Errorf("unit %d of %d: %w", n+1, len(units), err)
		}
		for i := range recs {
			if err := p.add(at, &recs[i]); err != nil {
				return nil, fmt.Errorf("unit %d of %d: %w: record %d (%s): %w", n+1, len(units), ErrMalformed, i, recs[i].Kind, err)
			}
		}
	}
	return p, nil
}

func (p *Past) add(at int64, r *Record) error {
	switch r.Kind {
	case Planned:
		p.Plans = append(p.Plans, &PastPlan{Shape: r.Shape, Began: at})
		return nil
	case Value:
		if p.values == nil {
			p.values = map[string][][]byte{}
		}
		p.values[r.Name] = append(p.values[r.Name], r.Input)
		return nil
	case Slept:
		p.slept = append(p.slept, r.Until)
		return nil
	case Stopped:
		p.Stopped = true
		return nil
	case Closed:
		p.Closed, p.Ended = &r.Report, at
		return nil
	case Stored:
		return errors.New("what it stands for was not fetched")
	}
	if int(r.Plan) >= len(p.Plans) {
		return fmt.Errorf("no plan %d has begun", r.Plan)
	}
	x := p.Plans[r.Plan]
	if r.Kind == Sent && r.Number > x.sent || r.Kind == Adopted && r.Number > maxAttempts {
		return fmt.Errorf("attempt %d of plan %s comes after %d others", r.Number, x.Shape.Name, x.sent)
	}
	if r.Kind == Adopted {
		x.Shape, x.Records, x.Next, x.sent = r.Shape, nil, r.Number, r.Number
		return nil
	}
	switch r.Kind {
	case Sent, Reported, Ended, Decided, Forked:
		if int(r.Step) >= len(x.Shape.Steps) {
			return fmt.Errorf("plan %s has no step %d", x.Shape.Name, r.Step)
		}
	}
	if r.Kind == Sent && r.Number == x.sent {
		x.sent++
	}
	x.Records = append(x.Records, Timed{at, *r})
	return nil
}

// Find is the number of the plan of that name; -1: it never began.
func (p *Past) Find(name string) int {
	return slices.IndexFunc(p.Plans, func(x *PastPlan) bool { return x.Shape.Name == name })
}

// Value is the next value of that name, each once; false when there is none.
func (p *Past) Value(name string) ([]byte, bool) {
	vs := p.values[name]
	if len(vs) == 0 {
		return nil, false
	}
	p.values[name] = vs[1:]
	return vs[0], true
}

// Nap is what is known of a call of Sleep.
type Nap struct {
	Until time.Time // zero: nothing, it is the first time
	Name  string    // of the value that tells that it was broken off
	Broke []byte    // that value; nil: it was not
}

// Nap is the next call of Sleep, each once.
func (p *Past) Nap() (n Nap) {
	p.naps++
	n.Name = fmt.Sprintf("sleep %d was broken off", p.naps)
	if len(p.slept) > 0 {
		n.Until, p.slept = time.Unix(0, p.slept[0]), p.slept[1:]
	}
	n.Broke, _ = p.Value(n.Name)
	return n
}

// Over tells whether its time has passed: who was cancelled since has slept all the same.
func (n *Nap) Over(now time.Time) bool { return !n.Until.IsZero() && !n.Until.After(now) }

// Became says what the journal knows of a step, for Diff.
func (x *PastPlan) Became(step int) string {
	said := "not sent"
	for i := range x.Records {
		r := &x.Records[i]
		if int(r.Step) != step {
			continue
		}
		what := ""
		if r.Undo {
			what = "its undo "
		}
		switch r.Kind {
		case Sent:
			said = what + "sent to " + r.Node
		case Reported, Ended:
			said = what + outcomes[r.Report.Outcome]
		}
	}
	return said
}

// Adopt is the records that make a plan go on in another shape: steps of the same
// name and kind that are OK, or were sent, keep what is recorded of them. It is an
// error once the plan has failed, was cancelled or is undone: then only the shape
// that was done tells what is to be undone. So it is if a step that was sent is
// gone, or would come after one that is not OK: nobody could wait for it.
func (x *PastPlan) Adopt(plan uint32, has *Plan) ([]Record, error) {
	was := make([]int, len(x.Shape.Steps))
	for i := range x.Shape.Steps {
		old := &x.Shape.Steps[i]
		was[i] = has.find(old.Name)
		if was[i] >= 0 && (has.Steps[was[i]].Kind != old.Kind || has.Steps[was[i]].Event != old.Event) {
			was[i] = -1
		}
	}
	shape := &Plan{Name: x.Shape.Name, Rollback: has.Rollback, Steps: slices.Clone(has.Steps)}
	kept := make([]bool, len(shape.Steps))
	var ok []Record // in the order of the new shape: steps are OK before those after them are sent
	for i := range x.Shape.Steps {
		var sent, rep, forked *Record
		for j := range x.Records {
			r := &x.Records[j].Record
			switch {
			case r.Kind == Cancelled || r.Kind == Unwound || r.Kind == Decided, r.Undo,
				r.Kind == Reported && int(r.Step) == i && rep != nil: // it was given up, and this came late
				return nil, fmt.Errorf("plan %s cannot go on in another shape: it does not go forward any more", x.Shape.Name)
			case int(r.Step) != i:
			case r.Kind == Forked:
				forked = r
			case r.Kind == Sent:
				sent, rep = r, nil
			case r.Kind == Reported || r.Kind == Ended:
				rep = r
			}
		}
		switch {
		case sent == nil && rep == nil:
			continue
		case sent == nil || rep != nil && rep.Report.Outcome != wire.OK, rep == nil && was[i] < 0:
			return nil, fmt.Errorf("plan %s cannot go on in another shape: step %s is %s; run the version that made it", x.Shape.Name, x.Shape.Steps[i].Name, x.Became(i))
		case was[i] < 0:
			continue // it stays done, and nobody undoes it
		}
		at := was[i]
		kept[at] = rep != nil
		old, now := &x.Shape.Steps[i], &shape.Steps[at]
		now.Input, now.Computed, now.Node, now.Labels = old.Input, old.Computed, old.Node, old.Labels
		for _, r := range []*Record{forked, sent, rep} {
			if r != nil {
				y := *r
				y.Plan, y.Step = plan, uint32(at)
				ok = append(ok, y)
			}
		}
	}
	slices.SortStableFunc(ok, func(a, b Record) int { return int(a.Step) - int(b.Step) })
	for i := range ok {
		s := &shape.Steps[ok[i].Step]
		for _, a := range s.After {
			if !kept[a] {
				return nil, fmt.Errorf("plan %s cannot go on in another shape: step %s is ok and comes after %s now, which is not", x.Shape.Name, s.Name, shape.Steps[a].Name)
			}
		}
	}
	next := x.Next // of the worker's memory: no number comes twice
	for i := range x.Records {
		if r := &x.Records[i]; r.Kind == Sent {
			next = max(next, r.Number+1)
		}
	}
	return append([]Record{{Kind: Adopted, Plan: plan, Number: next, Shape: shape}}, ok...), nil
}
