package distgear

import (
	"context"
	"iter"

	"github.com/distgear/distgear/cluster"
	"github.com/distgear/distgear/internal/link"
	"github.com/distgear/distgear/internal/machine/members"
	"github.com/distgear/distgear/internal/place"
)

// member is a member as users see it; the states have the same numbers.
func member(m *members.Member) cluster.Member {
	return cluster.Member{
		Name: cluster.NodeName(m.Name), Incarnation: m.Incarnation, State: cluster.State(m.State), Since: m.Since,
		Labels: m.Labels, Kinds: m.Kinds, Version: m.Version, Load: cluster.Load(m.Load),
	}
}

// Members yields the members that are known now: alive, suspect, and for a
// while those that left or were lost.
func (n *Node) Members(ctx context.Context) iter.Seq2[cluster.Member, error] {
	return func(yield func(cluster.Member, error) bool) {
		for _, m := range n.where.Members() {
			if ctx.Err() != nil {
				yield(cluster.Member{}, context.Cause(ctx))
				return
			}
			if !yield(member(m), nil) {
				return
			}
		}
	}
}

// Watch yields the members that are known now, then every change in the order
// in which the hub made it, until ctx ends (no error) or the node has left
// (ErrLeft). A watcher that is too slow misses states in between, never the last.
func (n *Node) Watch(ctx context.Context) iter.Seq2[cluster.Member, error] {
	return func(yield func(cluster.Member, error) bool) {
		w := n.watchers.Add(n.where.Members)
		defer n.watchers.Remove(w)
		for {
			for _, o := range w.Take() {
				if !yield(member(o), nil) {
					return
				}
			}
			select {
			case <-w.More:
			case <-ctx.Done():
				return
			case <-n.done:
				yield(cluster.Member{}, ErrLeft)
				return
			}
		}
	}
}

// self is the view of a node alone.
func (n *Node) self() *members.Member {
	return &members.Member{
		Name: string(n.name), Life: uint64(n.id), Incarnation: uint64(n.id), State: members.Alive,
		Since: n.since, Labels: n.cfg.Labels, Kinds: n.kinds(), Version: Version, Load: n.load(),
	}
}

// Target says where a command shall run. The zero value is Any().
type Target struct{ to place.Target }

// On is the node with that name.
func On(name cluster.NodeName) Target { return Target{place.Target{Name: name}} }

// Any is the least loaded live node that handles the kind and has all the
// labels, given as "key=value".
func Any(labels ...string) Target { return Target{place.Target{Labels: labels}} }

// String is the target as records show it.
func (t Target) String() string { return t.to.String() }

// mapped is the cluster as this node looks for places in it.
func (n *Node) mapped() *place.Map {
	return &place.Map{
		Here: place.Place{Node: n.name, Life: n.id}, Labels: n.cfg.Labels, Self: n.self, Draining: n.draining.Load,
		View: func() place.View {
			if s := n.session.Load(); s != nil {
				return s.View()
			}
			return nil
		},
		Offers: func(kind string) bool { return n.offers.Load().m[kind] != nil },
		Load:   n.active.Count,
		Sent:   func(id link.ID) int { return n.end.Load(id) },
	}
}
