package runs

import (
	"fmt"
	"slices"
	"time"

	"github.com/distgear/distgear/internal/fault"
	"github.com/distgear/distgear/internal/journal"
	"github.com/distgear/distgear/internal/plan"
)

// Resolve carries out an operator's decision about a stuck undo, or step.
func (r *Run) Resolve(step string, how plan.Resolution, reason string) error {
	r.mu.Lock()
	d, at := r.stuck(step)
	r.mu.Unlock()
	if d == nil {
		return fault.Clean(fmt.Errorf("%w: no undo of a step %q of run %s is stuck", fault.ErrInvalid, step, r.id))
	}
	if !d.enter() {
		return fault.ErrLeft
	}
	defer d.exit()
	if d.log != nil {
		d.note(journal.Record{Kind: journal.Decided, Step: uint32(at), How: uint8(how), Text: reason})
	}
	return d.decided(at, how)
}

// stuck is where an operator has to decide about a step; nil: nowhere.
func (r *Run) stuck(step string) (d *drive, at int) {
	for _, x := range r.plans {
		for i, s := range x.p.Steps {
			if x.d != nil && s.Name == step && (x.d.m.State(i) == plan.Stuck || x.d.tracks[i].stuck) {
				d, at = x.d, i
			}
		}
	}
	return d, at
}

// decided takes a decision in.
func (d *drive) decided(i int, how plan.Resolution) (err error) {
	if d.tracks[i].stuck {
		return d.decide(i, how)
	}
	d.fx, err = d.m.Resolve(i, how, d.fx)
	return err
}

// decide carries out the decisions that came while nobody owned the run. One about a
// step that is not stuck is kept until it is, or the run ends.
func (l *durable) decide(now time.Time) {
	for i := 0; i < len(l.Signals); i++ {
		s := l.Signals[i]
		x, ok := s.Decision()
		if !ok {
			continue
		}
		d, at := l.r.stuck(x.Step)
		if d == nil || d.folding() {
			continue
		}
		l.Signals = slices.Delete(l.Signals, i, i+1)
		i--
		l.took = append(l.took, s.Number)
		d.now = now
		d.note(journal.Record{Kind: journal.Decided, Step: uint32(at), How: x.How, Text: x.Reason})
		if err := d.decided(at, plan.Resolution(x.How)); err != nil {
			d.logger().Warn("an operator's decision is of no use", "run", l.r.id, "step", x.Step, "err", err)
		}
		d.act()
	}
}
