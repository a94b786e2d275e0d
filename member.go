package distgear

import (
	"context"
	"fmt"
	"iter"
	"slices"

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
		for _, m := range n.view() {
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
		w := &watcher{n: n, wake: make(chan struct{}, 1)}
		n.mu.Lock()
		n.watchers[w] = true
		for _, m := range n.view() {
			w.put(member(m))
		}
		n.mu.Unlock()
		defer func() {
			n.mu.Lock()
			delete(n.watchers, w)
			n.mu.Unlock()
		}()
		for {
			for _, m := range w.take() {
				if !yield(m, nil) {
					return
				}
			}
			select {
			case <-w.wake:
			case <-ctx.Done():
				return
			case <-n.done:
				yield(cluster.Member{}, ErrLeft)
				return
			}
		}
	}
}

// maxPending is how many changes a slow watcher may be behind before older
// states of a member give way to newer ones.
const maxPending = 1024

// watcher holds the changes that a Watch has not yielded yet; n.mu guards it.
type watcher struct {
	n       *Node
	pending []cluster.Member
	wake    chan struct{} // 1: something is pending
}

func (w *watcher) put(m cluster.Member) {
	if len(w.pending) >= maxPending {
		w.pending = slices.DeleteFunc(w.pending, func(o cluster.Member) bool { return o.Name == m.Name })
	}
	w.pending = append(w.pending, m)
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

func (w *watcher) take() []cluster.Member {
	w.n.mu.Lock()
	defer w.n.mu.Unlock()
	ms := w.pending
	w.pending = nil
	return ms
}

// view is what this node knows of the members, by name.
func (n *Node) view() []*members.Member {
	s := n.session.Load()
	if s == nil {
		return []*members.Member{n.self()}
	}
	v := s.View()
	ms := make([]*members.Member, 0, len(v.Members))
	for _, m := range v.Members {
		ms = append(ms, m)
	}
	slices.SortFunc(ms, func(a, b *members.Member) int {
		if a.Name < b.Name {
			return -1
		}
		return 1
	})
	return ms
}

// places are the live nodes, this one first.
func (n *Node) places() []place.Place {
	ps := []place.Place{n.here()}
	for _, m := range n.view() {
		if m.Life != uint64(n.id) && (m.State == members.Alive || m.State == members.Suspect) {
			ps = append(ps, place.Of(m))
		}
	}
	return ps
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

// here is this very node.
func (n *Node) here() place.Place { return place.Place{Node: n.name, Life: n.id} }

// place chooses the node for a command. joining is a node that may be
// addressed although it is no member yet; avoid one that was just tried.
func (n *Node) place(t place.Target, kind string, joining cluster.NodeName, avoid link.ID) (place.Place, error) {
	s := n.session.Load()
	if t.Name != "" {
		if t.Name == n.name {
			return n.here(), nil
		}
		if s != nil {
			m := s.View().Members[string(t.Name)]
			if m != nil && (m.State == members.Alive || m.State == members.Suspect || m.State == members.Joining && t.Name == joining) {
				return place.Place{Node: t.Name, Life: link.ID(m.Life)}, nil
			}
		}
		return place.Place{}, fmt.Errorf("%w: node %q is not a live member", ErrNoNode, t.Name)
	}
	var best place.Place
	if o := n.offers.Load().m[kind]; o != nil && t.Matches(n.cfg.Labels) && !n.draining.Load() {
		best = n.here()
	}
	if s != nil {
		best = place.Least(t, best, int(n.active.Load()), s.View().Handling(kind), n.end.Load, n.id, avoid)
	}
	if best.Life == 0 {
		with := ""
		if len(t.Labels) > 0 {
			with = fmt.Sprintf(" with labels %v", t.Labels)
		}
		return best, fmt.Errorf("%w: no live node handles %q%s", ErrNoNode, kind, with)
	}
	return best, nil
}

// placeEvent chooses who handles an event: this node if it does. An event with
// an ID always goes to the same node as long as the same nodes handle it, so
// that the ID is known there.
func (n *Node) placeEvent(kind, id string) (place.Place, error) {
	if n.offers.Load().m[kind] != nil {
		if n.draining.Load() {
			return place.Place{}, ErrLeft
		}
		return n.here(), nil
	}
	s := n.session.Load()
	if id == "" || s == nil {
		return n.place(place.Target{}, kind, "", 0)
	}
	best := place.Rendezvous(id, s.View().Handling(kind))
	if best.Life == 0 {
		return best, fmt.Errorf("%w: no live node handles %q", ErrNoNode, kind)
	}
	return best, nil
}

// known tells whether any member, alive or not, handles the kind.
func (n *Node) known(kind string) bool {
	if n.offers.Load().m[kind] != nil {
		return true
	}
	s := n.session.Load()
	if s == nil {
		return false
	}
	v := s.View()
	if len(v.Handling(kind)) > 0 {
		return true
	}
	for _, m := range v.Members {
		if slices.Contains(m.Kinds, kind) {
			return true
		}
	}
	return false
}
