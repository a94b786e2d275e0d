package distgear

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/distgear/distgear/cluster"
	"github.com/distgear/distgear/internal/engine"
	"github.com/distgear/distgear/internal/machine/members"
	"github.com/distgear/distgear/internal/payload"
	"github.com/distgear/distgear/internal/room"
	"github.com/distgear/distgear/internal/runner"
	"github.com/distgear/distgear/internal/served"
	"github.com/distgear/distgear/internal/wire"
)

// works is what package executor's rooms need of this node.
func (n *Node) works() room.Works {
	return room.Works{
		Pool: n.pool, Wrapped: n.cfg.Wrap != nil, Labels: n.cfg.Labels, Hold: n.active.Hold, Free: n.active.Done, Told: n.tellKinds,
		Check: checkAction, Serve: n.serveTask,
		Failed: func(c *runner.Context, err error, panicked any, stack string) wire.Report {
			if panicked != nil {
				err = &served.Panic{Value: panicked, Stack: stack}
			}
			return served.Failed(c.Cancelled(), err)
		},
		Error: func(r wire.Report, node, kind string) error { return reportError(r, cluster.NodeName(node), kind) },
		Handling: func(kind string) []*members.Member {
			if s := n.session.Load(); s != nil {
				return s.View().Handling(kind)
			}
			return nil
		},
		Live: func() []*members.Member {
			return slices.DeleteFunc(n.where.Members(), func(m *members.Member) bool { return !m.State.Live() })
		},
		Valid: func() bool { s := n.session.Load(); return s == nil || s.Valid(time.Now()) },
	}
}

func checkAction(h any) error {
	if e, ok := h.(interface{ event() Handler }); ok {
		return fmt.Errorf("%q is an event: tasks are actions", e.event().Kind())
	}
	return check(h.(Handler)) //nolint:forcetypeassert // nothing else gets here
}

// serveTask runs a command that is a task's, with the context that its action
// shall have; c is what is below that.
func (n *Node) serveTask(ctx context.Context, c *runner.Context, h any, w *wire.Command, from string) wire.Report {
	o := &offer{h: h.(Handler)} //nolint:forcetypeassert // checkAction saw it
	if n.cfg.Wrap != nil {
		o.h = n.cfg.Wrap(o.h)
	}
	out, _, err := protect(ctx, o.h, n.command(c, o, w, cluster.NodeName(from)))
	return served.Ended(c.Cancelled(), out, err, engine.MaxObject) // what is large goes to the engine's object store
}

// What is said of payloads elsewhere is of the same bound.
var _ = [1]struct{}{}[MaxPayload-payload.Max]
