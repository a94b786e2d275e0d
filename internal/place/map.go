package place

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/distgear/distgear/cluster"
	"github.com/distgear/distgear/internal/fault"
	"github.com/distgear/distgear/internal/link"
	"github.com/distgear/distgear/internal/machine/members"
)

// View is who is a member, as a node knows it.
type View interface {
	All() []*members.Member // one for each name, in no order
	Named(name string) *members.Member
	Handling(kind string) []*members.Member // those alive
}

// Map is the cluster as a node sees it that looks for a place. Its fields do not
// change; it is safe for concurrent use.
type Map struct {
	Here     Place
	Labels   map[string]string      // this node's
	Self     func() *members.Member // this node, as it would tell of itself
	View     func() View            // nil: the node is alone, or joining
	Offers   func(kind string) bool // this node handles it
	Draining func() bool            // this node takes nothing new
	Load     func() int             // of this node: commands being served
	Sent     func(link.ID) int      // to another: commands under way
}

// Members are those that are known, by name.
func (m *Map) Members() []*members.Member {
	v := m.View()
	if v == nil {
		return []*members.Member{m.Self()}
	}
	ms := v.All()
	slices.SortFunc(ms, func(a, b *members.Member) int { return cmp.Compare(a.Name, b.Name) })
	return ms
}

// Places are the live nodes, this one first.
func (m *Map) Places() []Place {
	ps := []Place{m.Here}
	for _, o := range m.Members() {
		if o.Life != uint64(m.Here.Life) && (o.State == members.Alive || o.State == members.Suspect) {
			ps = append(ps, Of(o))
		}
	}
	return ps
}

// Find chooses the node for a command. joining is a node that may be addressed
// although it is no member yet; avoid one that was just tried.
func (m *Map) Find(t Target, kind string, joining cluster.NodeName, avoid link.ID) (Place, error) {
	v := m.View()
	if t.Name != "" {
		return m.named(v, t.Name, joining)
	}
	var best Place
	if t.Matches(m.Labels) && !m.Draining() && m.Offers(kind) {
		best = m.Here
	}
	if v != nil {
		best = Least(t, best, m.Load(), v.Handling(kind), m.Sent, m.Here.Life, avoid)
	}
	if best.Life == 0 {
		with := ""
		if len(t.Labels) > 0 {
			with = fmt.Sprintf(" with labels %v", t.Labels)
		}
		return best, fmt.Errorf("%w: no live node handles %q%s", fault.ErrNoNode, kind, with)
	}
	return best, nil
}

func (m *Map) named(v View, name, joining cluster.NodeName) (Place, error) {
	if name == m.Here.Node {
		return m.Here, nil
	}
	if v != nil {
		o := v.Named(string(name))
		if o != nil && (o.State == members.Alive || o.State == members.Suspect || o.State == members.Joining && name == joining) {
			return Of(o), nil
		}
	}
	return Place{}, fmt.Errorf("%w: node %q is not a live member", fault.ErrNoNode, name)
}

// FindEvent chooses who handles an event: this node if it does. An event with an
// ID always goes to the same node as long as the same nodes handle it, so that the
// ID is known there.
func (m *Map) FindEvent(kind, id string) (Place, error) {
	if m.Offers(kind) {
		if m.Draining() {
			return Place{}, fault.ErrLeft
		}
		return m.Here, nil
	}
	v := m.View()
	if id == "" || v == nil {
		return m.Find(Target{}, kind, "", 0)
	}
	best := Rendezvous(id, v.Handling(kind))
	if best.Life == 0 {
		return best, fmt.Errorf("%w: no live node handles %q", fault.ErrNoNode, kind)
	}
	return best, nil
}

// Known tells whether any member, alive or not, handles the kind.
func (m *Map) Known(kind string) bool {
	if m.Offers(kind) {
		return true
	}
	v := m.View()
	return v != nil && (len(v.Handling(kind)) > 0 ||
		slices.ContainsFunc(v.All(), func(o *members.Member) bool { return slices.Contains(o.Kinds, kind) }))
}
