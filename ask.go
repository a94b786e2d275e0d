package distgear

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

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

var errNoHub = fmt.Errorf("%w: no hub answers (does one run? of three, do two?)", ErrNoNode)

// question is one that was asked of the hub. It implements link.Receiver.
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

// askHub asks the hub something that changes nothing. It serves Room.Ask.
func (n *Node) askHub(ctx context.Context, kind string, in []byte) ([]byte, error) {
	if n.asking.Add(1) > maxAsking {
		n.asking.Add(-1)
		return nil, errNoHub
	}
	q := &question{answer: make(chan wire.Report, 1), asking: &n.asking}
	_, err := n.end.Start(link.Hub, &wire.Command{Kind: kind, Input: in}, hubAnswers, q)
	if err != nil {
		n.asking.Add(-1)
		switch {
		case errors.Is(err, link.ErrClosed):
			err = ErrLeft
		case errors.Is(err, link.ErrTooLarge):
			err = fmt.Errorf("%w: %w", ErrInvalid, err)
		}
		return nil, err
	}
	late := time.NewTimer(hubAnswers)
	defer late.Stop()
	var rep wire.Report
	select {
	case rep = <-q.answer:
	case <-late.C:
	case <-n.done:
		return nil, ErrLeft
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	switch {
	case rep.Outcome == wire.OK:
		return rep.Payload, nil
	case rep.Outcome != wire.Unknown && rep.Error != nil:
		return nil, fmt.Errorf("%w: the hub: %s", ErrNoNode, rep.Error.Message)
	}
	return nil, errNoHub
}
