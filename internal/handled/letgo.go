package handled

import (
	"context"
	"sync"
	"time"

	"github.com/distgear/distgear/cluster"
	"github.com/distgear/distgear/internal/outcome"
	"github.com/distgear/distgear/internal/place"
	"github.com/distgear/distgear/internal/wire"
	"github.com/distgear/distgear/record"
)

// maxFarewells is up to how many bytes of runs wait for a node to answer. Those that
// do not fit it forgets by itself, an hour later.
const maxFarewells = 64 << 10

// farewells tells nodes of the durable runs that have ended, whose outcomes they keep.
// One command at a time is on its way to each; what ends meanwhile goes with the next.
type farewells struct {
	mu sync.Mutex
	to map[place.Place]*farewell
}

// farewell is what one node is told. It receives the node's answers.
type farewell struct {
	g    *Registry
	at   place.Place
	next []byte
}

// LetGo tells a node that a durable run has ended, under the lease of that epoch: it
// forgets what came of the run's attempts. It does not wait; a node that does not hear of it
// keeps them for an hour.
func (g *Registry) LetGo(at place.Place, id record.RunID, epoch uint64) {
	if at.Life == g.host.Here.Life {
		g.Outcomes.LetGo(string(id), epoch, g.host.Clock())
		return
	}
	k := &g.farewells
	k.mu.Lock()
	x := k.to[at]
	if x != nil {
		if len(x.next) < maxFarewells {
			x.next = outcome.AppendGone(x.next, string(id), epoch)
		}
		k.mu.Unlock()
		return
	}
	x = &farewell{g: g, at: at}
	if k.to == nil {
		k.to = map[place.Place]*farewell{}
	}
	k.to[at] = x
	k.mu.Unlock()
	x.send(outcome.AppendGone(nil, string(id), epoch))
}

func (x *farewell) send(b []byte) {
	c := wire.Command{Kind: kindLetGo, Input: b}
	if _, err := x.g.host.Start(x.at, &c, time.Time{}, 0, x); err != nil {
		x.end()
	}
}

// end forgets what is left to say: the node is gone, or busy.
func (x *farewell) end() {
	k := &x.g.farewells
	k.mu.Lock()
	delete(k.to, x.at)
	k.mu.Unlock()
}

// Report implements link.Receiver.
func (x *farewell) Report(wire.Report) {
	k := &x.g.farewells
	k.mu.Lock()
	b := x.next
	if x.next = nil; len(b) == 0 {
		delete(k.to, x.at)
	}
	k.mu.Unlock()
	if len(b) > 0 {
		x.send(b)
	}
}

// serveLetGo forgets the outcomes of durable runs' attempts.
func (g *Registry) serveLetGo(_ context.Context, _ cluster.NodeName, c *wire.Command) ([]byte, error) {
	return nil, g.Outcomes.LetGoOf(c.Input, g.host.Clock())
}
