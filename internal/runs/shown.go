package runs

import (
	"errors"
	"log/slog"
	"time"

	"github.com/distgear/distgear/cluster"
	"github.com/distgear/distgear/internal/journal"
	"github.com/distgear/distgear/internal/place"
	"github.com/distgear/distgear/internal/wire"
	"github.com/distgear/distgear/record"
)

// Shown is the record of a durable run that has not ended, as its journal tells it,
// for who does not own it. It fills rec in, which says of which run.
func Shown(rec record.Run, input []byte, units [][]byte) (record.Run, error) {
	past, err := journal.Read(units)
	if err != nil {
		return rec, err
	}
	h := &Host{Here: place.Place{Node: rec.Node}, Log: slog.New(slog.DiscardHandler), Error: shownError}
	r := &Run{id: rec.ID, host: h, event: rec.Event, input: input, started: rec.Started.UnixNano(), stopped: past.Stopped}
	r.log = &durable{r: r, past: past}
	n := len(units)
	for i, x := range past.Plans {
		p := planOf(x.Shape)
		retried(p, x)
		d := newDrive(r, h, p)
		d.log = &planLog{number: uint32(i), folding: true, due: map[int]time.Time{}}
		d.log.sent, d.log.history = make([]*attempt, x.Next), make([]record.Attempt, x.Next)
		r.plans = append(r.plans, planned{d.p, d})
		d.start()
		for k := range x.Records {
			d.now = time.Unix(0, x.Records[k].At)
			if err := d.fold(&x.Records[k].Record); err != nil {
				return rec, err
			}
			d.act()
		}
		n += len(x.Records)
	}
	r.version = uint32(n) + 1
	return r.recordLocked(true), nil
}

// retried lets steps be tried as often as the journal says: their policies are the
// program's.
func retried(p *Plan, x *journal.PastPlan) {
	for i := range x.Records {
		if t := &x.Records[i]; t.Kind == journal.Sent && !t.Undo {
			p.Steps[t.Step].Retries++
		}
	}
	for _, s := range p.Steps {
		s.Retries = max(s.Retries-1, 0)
		s.Idem = s.Retries > 0
	}
}

// planOf is a plan as the journal has it.
func planOf(x *journal.Plan) *Plan {
	p := &Plan{Name: x.Name, Rollback: x.Rollback, Steps: make([]*Step, len(x.Steps))}
	for i := range x.Steps {
		was := &x.Steps[i]
		s := &Step{
			Name: was.Name, Kind: was.Kind, On: place.Target{Name: cluster.NodeName(was.Node), Labels: was.Labels}, Event: was.Event,
			Undo: was.Undo, Pivot: was.Pivot, Input: was.Input,
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

func shownError(r wire.Report, _ cluster.NodeName, _ string) error {
	if r.Error == nil {
		return errors.New("unknown")
	}
	return errors.New(r.Error.Message)
}
