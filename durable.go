package distgear

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/distgear/distgear/cluster"
	"github.com/distgear/distgear/internal/events"
	"github.com/distgear/distgear/internal/runner"
	"github.com/distgear/distgear/internal/wire"
)

// lasts begins the kind by which nodes tell that an event they handle is durable.
const lasts = "_durable:"

// lasting tells whether an event is durable, as who handles it says.
func (n *Node) lasting(kind string) bool {
	if o := n.offers.Load().m[kind]; o != nil {
		return o.durable
	}
	s := n.session.Load()
	return s != nil && len(s.View().Handling(lasts+kind)) > 0
}

// desk makes what this node has to do with durable events.
func (n *Node) desk() {
	n.events = events.New(events.Host{Room: &n.room, Runs: n.runs, Serve: n.serveRun, Now: n.host.Clock})
}

// offerRuns tells the ledger of which durable events this node owns runs.
func (n *Node) offerRuns() {
	var kinds []string
	for _, k := range n.kinds() {
		if k, ok := strings.CutPrefix(k, lasts); ok {
			kinds = append(kinds, k)
		}
	}
	if n.events != nil && len(kinds) > 0 {
		n.events.Offer(kinds)
	}
}

// serveRun calls the handler of a run that this node owns.
func (n *Node) serveRun(ctx *runner.Context, l *events.Lease) error {
	o := n.offers.Load().m[l.Kind]
	if o == nil || n.draining.Load() && n.end != nil {
		return fmt.Errorf("%w: %q", ErrNoNode, l.Kind)
	}
	o.inFlight.Add(1)
	defer o.inFlight.Add(-1)
	w := wire.Command{Kind: l.Kind, Key: l.ID, Flags: wire.Event, Input: l.Input}
	if strings.Contains(l.ID, "/") {
		w.Flags |= wire.Nested
	}
	c := n.command(ctx, o, &w, n.name)
	c.lease = &l.Lease
	_, _, err := protect(ctx, o.h, c)
	return err
}

// began is from when a command's timeout counts.
func (c *Command) began() time.Time {
	if c.lease != nil && !c.lease.Started.IsZero() {
		return c.lease.Started
	}
	return time.Now()
}

// through has a durable event that came as a command raised in the ledger, and
// waits for its end: it is a step of a plan, or who raised it did not know.
func (n *Node) through(ctx context.Context, c *Command) ([]byte, error) {
	kind, key, undo, input := c.Kind, c.Key, c.Undo, c.Input
	if c.From != n.name {
		input = append([]byte(nil), input...) // the message goes
	}
	if c.direct {
		recycle(c)
	}
	if undo {
		return nil, n.events.Undo(ctx, kind, key, input)
	}
	o, err := n.events.Through(ctx, &events.Raise{ID: key, Kind: kind, Input: input})
	if err != nil {
		return nil, err
	}
	return o.Report.Payload, o.Mark(reportError(o.Report, cluster.NodeName(o.Node), kind))
}
