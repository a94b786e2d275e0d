package runs_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/distgear/distgear/internal/fault"
	"github.com/distgear/distgear/internal/journal"
	"github.com/distgear/distgear/internal/memo"
	"github.com/distgear/distgear/internal/runs"
	"github.com/distgear/distgear/internal/wire"
	"github.com/distgear/distgear/record"
)

// fork makes the run that has ended go on, as another, from a step on.
func (w *world) fork(from string) {
	units, err := journal.Fork(w.units, w.id, from)
	if err != nil {
		w.wrong("%v", err)
		return
	}
	w.units, w.id, w.adopt, w.gave, w.shapes = units, "fork", true, nil, nil
	for _, u := range units {
		_, recs, err := journal.Parse(u)
		if err != nil {
			w.wrong("%v", err)
		}
		for _, r := range recs {
			switch r.Kind {
			case journal.Planned:
				w.shapes = append(w.shapes, r.Shape)
			case journal.Adopted:
				w.shapes[r.Plan] = r.Shape
			}
		}
	}
	w.push(w.lease)
}

// A run that goes on from another does not run again what that one did before, and undoes
// it under the keys that it was done under.
func TestDurable_D5_Fork(t *testing.T) {
	for _, c := range []struct {
		name  string
		fails string // the step that fails in the fork, too
		state record.RunState
		net   map[string]int
	}{
		{"goes on", "", record.OK, map[string]int{"run-1/one/x": 1, "run-1/two/a": 1, "run-1/two/b": 1, "run-1/two/c": 0, "fork/two/c": 1, "fork/two/d": 1}},
		{"is undone", "d", record.Failed, map[string]int{"run-1/one/x": 1, "run-1/two/a": 0, "run-1/two/b": 0, "fork/two/c": 0, "fork/two/d": 0}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var nows map[string]bool
			everywhere(t, func(w *world) {
				nows = map[string]bool{}
				forked := false
				w.handler = func(ctx context.Context, r *runs.Run, h *runs.Host) ([]byte, error) {
					nows[memo.Now(r).String()] = true
					if _, err := chain(ctx, r, h, "one", func(p *runs.Plan) { p.Rollback = false }, "x"); err != nil {
						return nil, err
					}
					p, err := chain(ctx, r, h, "two", func(p *runs.Plan) {
						p.Rollback = forked // the first run leaves what it did
						p.Steps[2].Input = fmt.Appendf(nil, "forked %v", forked)
					}, "a", "b", "c", "d")
					return p.Steps[3].Result, err
				}
				w.do = func(w *world, _, step, key string, in []byte, _ uint32) wire.Report {
					if step == "c" && string(in) != fmt.Sprintf("forked %v", forked) {
						w.wrong("c has the input %q", in)
					}
					if !forked && step == "c" || forked && step == c.fails {
						return fault.Report(fault.Clean(fault.Useless(errors.New("boom"))))
					}
					return wire.Report{Outcome: wire.OK, Over: true, Payload: []byte("did " + key)}
				}
				w.idle = func() bool {
					if !w.ended() || forked {
						return false
					}
					forked = true
					w.wants(record.Failed, "")
					w.fork("c")
					return true
				}
			}, func(w *world) {
				w.wants(c.state, "")
				for k, n := range c.net {
					if w.effects[k] != n {
						w.wrong("%s has a net effect of %d, want %d", k, w.effects[k], n)
					}
					if w.ran[k] > 1 || k[:4] == "fork" && w.ran["run-1"+k[4:]] > 0 {
						w.wrong("%s ran %d times", k, w.ran[k])
					}
				}
				if len(nows) != 1 {
					w.wrong("r.Now has said %v", nows)
				}
			})
		})
	}
}
