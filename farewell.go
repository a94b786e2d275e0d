package distgear

import (
	"context"
	"sync"
	"time"

	"github.com/distgear/distgear/cluster"
	"github.com/distgear/distgear/internal/link"
	"github.com/distgear/distgear/internal/machine/members"
	"github.com/distgear/distgear/internal/wire"
)

const (
	// kindHeard is what a node tells one that left, after all that it sent there.
	kindHeard = "_heard"
	// farewellTime is how long a node that has left goes on refusing what comes
	// from those that have not said that they heard of it.
	farewellTime = 500 * time.Millisecond
)

// farewell is who has heard that this node left: nothing more comes from them.
type farewell struct {
	mu    sync.Mutex
	heard map[cluster.NodeName]bool
	wake  chan struct{} // closed at the next change; nil: nobody waits
}

// changed wakes who waits.
func (f *farewell) changed(from cluster.NodeName) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if from != "" {
		if f.heard == nil {
			f.heard = map[cluster.NodeName]bool{}
		}
		f.heard[from] = true
	}
	if f.wake != nil {
		close(f.wake)
		f.wake = nil
	}
}

// serve takes up that a node has heard.
func (f *farewell) serve(_ context.Context, from cluster.NodeName, _ *wire.Command) ([]byte, error) {
	f.changed(from)
	return nil, nil
}

// unaware returns what is closed at the next change, or nil when all have heard.
func (f *farewell) unaware(n *Node) chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, m := range n.view() {
		if link.ID(m.Life) != n.id && m.State == members.Alive && !f.heard[cluster.NodeName(m.Name)] {
			if f.wake == nil {
				f.wake = make(chan struct{})
			}
			return f.wake
		}
	}
	return nil
}

// wait refuses what comes from nodes that have not heard yet that this one has
// left: what they sent to it never ran, and they are told so.
func (f *farewell) wait(ctx context.Context, n *Node) {
	t := time.NewTimer(farewellTime)
	defer t.Stop()
	for {
		c := f.unaware(n)
		if c == nil {
			return
		}
		select {
		case <-c:
		case <-t.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

// saidGoodbye tells a node that left that it was heard, and sends nothing more.
func (n *Node) saidGoodbye(id link.ID) {
	now, cancel := context.WithCancel(context.Background())
	cancel() // if there is no room it will wait for us in vain
	_ = n.end.Send(now, id, &wire.Command{Kind: kindHeard})
	n.end.Leaving(id)
}
