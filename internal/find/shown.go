package find

import (
	"log/slog"

	"github.com/distgear/distgear/cluster"
	"github.com/distgear/distgear/internal/fault"
	"github.com/distgear/distgear/internal/journal"
	"github.com/distgear/distgear/internal/place"
	"github.com/distgear/distgear/internal/runs"
	"github.com/distgear/distgear/internal/wire"
	"github.com/distgear/distgear/record"
)

// shown is the record of a run that has not ended, as its journal tells it.
func shown(rec record.Run, input []byte, units [][]byte) (record.Run, error) {
	past, err := journal.Read(units)
	if err != nil {
		return rec, err
	}
	h := &runs.Host{Here: place.Place{Node: rec.Node}, Log: slog.New(slog.DiscardHandler), Error: func(r wire.Report, _ cluster.NodeName, _ string) error { return fault.Told(r.Error) }}
	plans := make([]*runs.Plan, len(past.Plans))
	for i, x := range past.Plans {
		plans[i] = planOf(x)
	}
	return runs.Shown(h, rec, input, past, plans)
}

// planOf is a plan as the journal has it. Policies are the program's: here steps
// may be tried as often as they were.
func planOf(x *journal.PastPlan) *runs.Plan {
	p := &runs.Plan{Name: x.Shape.Name, Rollback: x.Shape.Rollback, Steps: make([]*runs.Step, len(x.Shape.Steps))}
	tries := make([]int32, len(p.Steps))
	for i := range x.Records {
		if t := &x.Records[i]; t.Kind == journal.Sent && !t.Undo {
			tries[t.Step]++
		}
	}
	for i := range x.Shape.Steps {
		was := &x.Shape.Steps[i]
		s := &runs.Step{
			Name: was.Name, Kind: was.Kind, On: place.Target{Name: cluster.NodeName(was.Node), Labels: was.Labels}, Event: was.Event,
			Undo: was.Undo, Pivot: was.Pivot, Input: was.Input, Retries: max(tries[i]-1, 0), Idem: tries[i] > 1,
		}
		if was.Computed {
			s.Encode = func(b []byte) ([]byte, error) { return b, nil }
		}
		for _, a := range was.After {
			s.After = append(s.After, int(a))
		}
		p.Steps[i] = s
	}
	return p
}
