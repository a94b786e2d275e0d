package runs_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/distgear/distgear/internal/fault"
	"github.com/distgear/distgear/internal/graph"
	"github.com/distgear/distgear/internal/journal"
	"github.com/distgear/distgear/internal/runs"
	"github.com/distgear/distgear/internal/wire"
	"github.com/distgear/distgear/record"
)

// summary is the record that the run ended with.
func (w *world) summary() (rec record.Run) {
	if w.gave == nil || json.Unmarshal(w.gave.Summary(), &rec) != nil {
		w.wrong("no summary")
	}
	return rec
}

// shownNow is what who has nothing but the journal sees of the run.
func (w *world) shownNow() (rec record.Run, plans int, err error) {
	past, err := journal.Read(w.units)
	if err != nil {
		return rec, 0, err
	}
	ps := make([]*runs.Plan, len(past.Plans))
	for i, x := range past.Plans {
		ps[i] = graph.Of(x)
	}
	h := &runs.Host{Log: slog.New(slog.DiscardHandler), Error: asError}
	rec, err = runs.Shown(h, record.Run{}, nil, past, ps)
	return rec, len(ps), err
}

// told checks that what the handler's caller is told is in the journal (I7).
func (w *world) told(out []byte, err error) {
	if !w.ended() {
		w.wrong("I7: told %s, %v before the journal says so", out, err)
		return
	}
	r := w.gave.Report
	if (err == nil) != (r.Outcome == wire.OK) || string(out) != string(r.Payload) {
		w.wrong("I7: told %s, %v; the journal says %d %s", out, err, r.Outcome, r.Payload)
	}
}

// alike checks that who has nothing but the journal sees the run that has ended as its
// last owner did.
func (w *world) alike() {
	sum := w.summary()
	if rec, _, err := w.shownNow(); err != nil {
		w.wrong("shown: %v", err)
	} else if got, want := looks(&rec), looks(&sum); got != want {
		w.wrong("its journal shows it as\n%s\nand its owner saw\n%s", got, want)
	}
}

// alikeNow checks the same while the run goes on, when nothing is on its way to the
// journal and its owner has come to all plans.
func (w *world) alikeNow() {
	w.mu.Lock()
	o := w.owner
	w.mu.Unlock()
	if o == nil || o.dead.Load() || o.open.Load() > 0 || len(w.units) == w.looked {
		return
	}
	rec, plans, err := w.shownNow()
	if err != nil {
		w.wrong("shown: %v", err)
		return
	}
	is := o.run.Record(true)
	if len(is.Plans) != plans {
		return
	}
	w.looked = len(w.units)
	for _, r := range []*record.Run{&rec, &is} { // which node is missing is not in the journal
		for i := range r.Plans {
			for k := range r.Plans[i].Steps {
				if s := &r.Plans[i].Steps[k]; s.State == "retrying" || s.State == "running" || s.State == "undoing" {
					s.Error = ""
				}
			}
		}
	}
	if got, want := looks(&rec), looks(&is); got != want {
		w.wrong("after %d units its journal shows it as\n%s\nand its owner sees\n%s", len(w.units), got, want)
	}
}

// looks is what matters of a record.
func looks(rec *record.Run) string {
	b := new(strings.Builder)
	fmt.Fprintln(b, rec.State, rec.Error)
	for _, p := range rec.Plans {
		for _, s := range p.Steps {
			fmt.Fprintln(b, p.Name, s.Name, s.State, s.Node, s.Attempt, s.UndoAttempt, s.Late, s.Error)
		}
	}
	return b.String()
}

// A plan that was begun goes on with the policies that it began with, whatever they are in
// the program that goes on with it: what was decided by them is not decided again.
func TestDurable_D5_AnotherPolicy(t *testing.T) {
	retries := int32(0)
	everywhere(t, func(w *world) {
		retries = 0
		w.handler = func(ctx context.Context, r *runs.Run, h *runs.Host) ([]byte, error) {
			was := retries
			retries = 5 - retries // the next owner has another version
			_, err := chain(ctx, r, h, "p", func(p *runs.Plan) {
				for _, s := range p.Steps {
					s.Retries, s.Idem = was, was > 0
				}
			}, "a", "b")
			return nil, err
		}
		w.do = func(_ *world, _, step, _ string, _ []byte, _ uint32) wire.Report {
			if step == "b" {
				return fault.Report(fault.Marked(errors.New("no room"), fault.Mark{Clean: true}))
			}
			return wire.Report{Outcome: wire.OK, Over: true}
		}
	}, func(w *world) {
		w.wants(record.RolledBack, "")
		w.net("p", map[string]int{"a": 0, "b": 0})
		if tries := w.summary().Plans[0].Steps[1].Attempt; tries != 1 && tries != 6 {
			w.wrong("b was tried %d times: neither version says so", tries)
		}
	})
}
