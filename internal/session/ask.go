package session

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/distgear/distgear/internal/fault"
	"github.com/distgear/distgear/internal/link"
	"github.com/distgear/distgear/internal/wire"
)

const (
	// hubAnswers is how long a hub that is asked has for its answer: one that took
	// over from another is there by then.
	hubAnswers = 5 * time.Second
	// maxAsking is how many questions may have no answer. While no hub is there
	// each keeps a slot of the link that the session needs too.
	maxAsking = 16
)

// errNoHub is the answer of an Asker when no hub gives one.
var errNoHub = fmt.Errorf("%w: no hub answers (does one run? of three, do two?)", fault.ErrNoNode)

// Asker asks the hub what changes nothing. It is safe for concurrent use.
type Asker struct {
	Endpoint *link.Endpoint
	Done     <-chan struct{} // ends all asking

	asking atomic.Int64 // questions that have no answer
}

// question is one that was asked. It implements link.Receiver.
type question struct {
	answer chan wire.Report // 1: the first report; whoever asked may be gone
	over   atomic.Bool
	asking *atomic.Int64
}

// Report implements link.Receiver.
func (q *question) Report(r wire.Report) {
	if (r.Outcome != wire.Unknown || r.Over) && !q.over.Swap(true) {
		q.asking.Add(-1)
	}
	select {
	case q.answer <- r:
	default:
	}
}

// Ask sends a command and returns its result. fault.ErrNoNode: no hub answered in
// time, or it refused; fault.ErrLeft: Done is closed.
func (a *Asker) Ask(ctx context.Context, kind string, in []byte) ([]byte, error) {
	if a.asking.Add(1) > maxAsking {
		a.asking.Add(-1)
		return nil, errNoHub
	}
	q := &question{answer: make(chan wire.Report, 1), asking: &a.asking}
	if _, err := a.Endpoint.Start(link.Hub, &wire.Command{Kind: kind, Input: in}, hubAnswers, q); err != nil {
		a.asking.Add(-1)
		if errors.Is(err, link.ErrClosed) {
			err = fault.ErrLeft
		}
		return nil, err
	}
	late := time.NewTimer(hubAnswers)
	defer late.Stop()
	var rep wire.Report
	select {
	case rep = <-q.answer:
	case <-late.C:
	case <-a.Done:
		return nil, fault.ErrLeft
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	switch {
	case rep.Outcome == wire.OK:
		return rep.Payload, nil
	case rep.Outcome != wire.Unknown && rep.Error != nil:
		return nil, fmt.Errorf("%w: the hub: %s", errNoHub, rep.Error.Message)
	}
	return nil, errNoHub
}
