package runs

import (
	"fmt"
	"time"

	"github.com/distgear/distgear/internal/fault"
	"github.com/distgear/distgear/internal/plan"
)

// forwardLimit is how often a step may fail after the pivot before it is stuck:
// an operator decides then (S15). A node that is away is waited for each time.
const forwardLimit = 8

// forward makes another attempt of a step that failed after the pivot.
func (d *drive) forward(i int) {
	t := &d.tracks[i]
	t.reported, t.until = false, 0
	t.failures++
	if t.useless || t.failures >= forwardLimit {
		t.stuck = true
		d.getStuck(i, "step after the pivot is stuck: retry it, or mark it done")
		return
	}
	d.later(i, min(5*time.Second, 50*time.Millisecond<<(t.failures-1)), d.again)
}

// getStuck tells operators that a step needs one of them.
func (d *drive) getStuck(i int, text string) {
	d.logger().Error(text, "run", d.r.id, "step", d.p.Steps[i].Name, "err", d.tracks[i].message)
	if d.log != nil && !d.log.folding {
		d.r.log.stuck = d.p.Steps[i].Name
	}
}

// again is dispatch for a step whose input may not have been computed.
func (d *drive) again(i int) {
	if s := d.p.Steps[i]; s.Encode != nil && s.Input == nil {
		d.call(i)
		return
	}
	d.dispatch(i)
}

// decide carries out what an operator says about a step that is stuck after the
// pivot.
func (d *drive) decide(i int, how plan.Resolution) error {
	t := &d.tracks[i]
	switch how {
	case plan.RetryUndo:
		t.stuck, t.failures, t.until = false, 0, 0
		d.again(i)
	case plan.MarkUndone:
		t.stuck, t.message = false, "an operator says that it is done"
		d.final(i, plan.OK, true, nil)
	default:
		return fault.Clean(fmt.Errorf("%w: step %s comes after the pivot and can only go forward: want retry, or done with a reason", fault.ErrInvalid, d.p.Steps[i].Name))
	}
	return nil
}

// stuck tells whether an operator has to decide about the plan.
func (d *drive) stuck() bool {
	if d.m.Pivoted() {
		for i := range d.tracks {
			if d.tracks[i].stuck {
				return true
			}
		}
	}
	return d.m.Stuck()
}
