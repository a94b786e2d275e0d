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

// alike checks that who has nothing but the journal sees the run that has ended as its
// last owner did.
func (w *world) alike() {
	past, err := journal.Read(w.units)
	if err != nil {
		w.wrong("%v", err)
		return
	}
	plans := make([]*runs.Plan, len(past.Plans))
	for i, x := range past.Plans {
		plans[i] = graph.Of(x)
	}
	h := &runs.Host{Log: slog.New(slog.DiscardHandler), Error: asError}
	rec, err := runs.Shown(h, record.Run{}, nil, past, plans)
	if err != nil {
		w.wrong("shown: %v", err)
		return
	}
	sum := w.summary()
	if got, want := looks(&rec), looks(&sum); got != want {
		w.wrong("its journal shows it as\n%s\nand its owner saw\n%s", got, want)
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
