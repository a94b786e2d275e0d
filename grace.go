package distgear

import (
	"context"
	"errors"
	"time"

	"github.com/distgear/distgear/internal/fault"
	"github.com/distgear/distgear/internal/runs"
)

// waitsFor waits a little before a call looks again for a node to run on (S14):
// when its target is gone and was a member, or has just come back and refused
// because its lease is not renewed yet. False means that waiting is over, or of
// no use: then err is the answer. until is the end of the grace; it is set by
// the first call.
func (n *Node) waitsFor(ctx context.Context, on Target, kind string, err error, until *time.Time) bool {
	if !n.mayReturn(on, kind, err) {
		return false
	}
	now := time.Now()
	if until.IsZero() {
		*until = now.Add(runs.Grace)
	}
	if now.After(*until) {
		return false
	}
	t := time.NewTimer(min(runs.LookAgain, until.Sub(now)+time.Millisecond))
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
	case <-n.done:
	}
	return false
}

// mayReturn tells whether a command that never ran because of err may run soon.
func (n *Node) mayReturn(on Target, kind string, err error) bool {
	if n.draining.Load() {
		return false
	}
	if e, ok := errors.AsType[*RemoteError](err); ok {
		return e.trace.Has(fault.Refused)
	}
	if !errors.Is(err, ErrNoNode) {
		return false
	}
	if on.to.Name == "" {
		return n.where.Known(kind)
	}
	s := n.session.Load()
	return s != nil && s.View().Members[string(on.to.Name)] != nil
}
