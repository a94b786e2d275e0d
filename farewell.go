package distgear

import (
	"context"

	"github.com/distgear/distgear/cluster"
	"github.com/distgear/distgear/internal/link"
	"github.com/distgear/distgear/internal/machine/members"
	"github.com/distgear/distgear/internal/wire"
)

// kindHeard is what a node tells one that left, after all that it sent there.
const kindHeard = "_heard"

// heard takes up that a node has heard that this one left.
func (n *Node) heard(_ context.Context, from cluster.NodeName, _ *wire.Command) ([]byte, error) {
	n.bye.Heard(string(from))
	return nil, nil
}

// others are the live members but this one: what they sent to a node that has
// left never ran, and they are told so until they have heard of it.
func (n *Node) others() (names []string) {
	for _, m := range n.where.Members() {
		if link.ID(m.Life) != n.id && m.State == members.Alive {
			names = append(names, m.Name)
		}
	}
	return names
}

// saidGoodbye tells a node that left that it was heard, and sends nothing more.
func (n *Node) saidGoodbye(id link.ID) {
	now, cancel := context.WithCancel(context.Background())
	cancel() // if there is no room it will wait for us in vain
	_ = n.end.Send(now, id, &wire.Command{Kind: kindHeard})
	n.end.Leaving(id)
}
