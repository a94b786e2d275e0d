package journal

import "time"

// outcomes are those of a wire.Report in words.
var outcomes = [...]string{"unknown", "ok", "failed, clean", "failed, dirty", "never ran"}

// Teller puts a journal into words. The zero value has been told nothing.
type Teller struct{ plans []*Plan }

// Tell is a line for each record of the next unit.
func (t *Teller) Tell(unit []byte) (at time.Time, lines []string, err error) {
	ns, recs, err := Parse(unit)
	for i := range recs {
		lines = append(lines, t.line(&recs[i]))
	}
	return time.Unix(0, ns), lines, err
}

func (t *Teller) line(r *Record) string {
	line := r.Kind.String()
	switch r.Kind {
	case Planned:
		t.plans = append(t.plans, r.Shape)
		return line + " " + r.Shape.Name
	case Value:
		return line + " " + r.Name
	case Slept:
		return line + " until " + time.Unix(0, r.Until).UTC().Format(time.RFC3339)
	case Closed:
		return line + " " + outcomes[r.Report.Outcome]
	case Stopped, Stored:
		return line
	}
	if int(r.Plan) >= len(t.plans) {
		return line // Read says so
	}
	if r.Kind == Adopted {
		t.plans[r.Plan] = r.Shape
	}
	p := t.plans[r.Plan]
	line += " " + p.Name
	switch r.Kind {
	case Sent, Reported, Ended, Decided, Forked:
		if int(r.Step) < len(p.Steps) {
			line += "/" + p.Steps[r.Step].Name
		}
	}
	if r.Undo {
		line += " undo"
	}
	switch r.Kind {
	case Sent:
		line += " to " + r.Node
	case Reported, Ended:
		line += " " + outcomes[r.Report.Outcome]
	}
	return line
}

// Began is when the first unit of a journal was made; zero: there is none.
func Began(units [][]byte) time.Time {
	if len(units) == 0 {
		return time.Time{}
	}
	at, _, err := Parse(units[0])
	if err != nil {
		return time.Time{}
	}
	return time.Unix(0, at)
}
