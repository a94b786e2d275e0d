// Package place chooses the node that a command goes to.
//
//	t := place.Target{Labels: []string{"zone=a"}}
//	p := place.Least(t, candidates…)
//
// # Guarantees
//
// Only nodes that match the target are chosen; of those the least loaded, and
// among equals this very node, else any.
//
// # Failures
//
// None: the zero Place says that there is none.
package place

import (
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"strconv"
	"strings"

	"github.com/distgear/distgear/cluster"
	"github.com/distgear/distgear/internal/fault"
	"github.com/distgear/distgear/internal/link"
	"github.com/distgear/distgear/internal/machine/members"
)

// Place is where a command goes: a life of a node.
type Place struct {
	Node cluster.NodeName
	Life link.ID
}

// Of is the place of a member.
func Of(m *members.Member) Place { return Place{cluster.NodeName(m.Name), link.ID(m.Life)} }

// Error is what a link's refusal to send there means to who wanted to.
func (p *Place) Error(err error) error {
	switch {
	case errors.Is(err, link.ErrOverloaded):
		return fmt.Errorf("%w to %s", fault.ErrOverloaded, p.Node)
	case errors.Is(err, link.ErrTooLarge):
		return fmt.Errorf("%w: larger than a message may be: pass large data by reference", fault.ErrInvalid)
	case errors.Is(err, link.ErrOver):
		return fmt.Errorf("%w: %s is gone", fault.ErrNoNode, p.Node)
	case errors.Is(err, link.ErrClosed):
		return fault.ErrLeft
	}
	return err
}

// Target says where a command shall run: on the node with that name, or on any
// that has all the labels ("key=value"). The zero value is any node.
type Target struct {
	Name   cluster.NodeName
	Labels []string
}

// String is the target as records show it.
func (t Target) String() string {
	if t.Name != "" {
		return string(t.Name)
	}
	if len(t.Labels) == 0 {
		return "any"
	}
	return fmt.Sprintf("any%v", t.Labels)
}

// Check finds faults in the labels.
func (t Target) Check() error {
	if len(t.Labels) == 0 {
		return nil
	}
	_, err := ParseLabels(t.Labels)
	return err
}

// Matches tells whether a node with these labels will do.
func (t Target) Matches(labels map[string]string) bool {
	for _, l := range t.Labels {
		k, want, _ := strings.Cut(l, "=")
		if v, ok := labels[k]; !ok || v != want {
			return false
		}
	}
	return true
}

// ParseLabels reads "key=value" pairs.
func ParseLabels(pairs []string) (map[string]string, error) {
	m := map[string]string{}
	for _, p := range pairs {
		k, v, ok := strings.Cut(p, "=")
		if !ok || k == "" {
			return nil, fmt.Errorf("label %s: want key=value", strconv.Quote(p))
		}
		m[k] = v
	}
	return m, nil
}

// Least chooses among the members that handle a kind, and this node if it is
// not the zero Place. load is what this node knows to be in flight to a life;
// avoid is one that is taken only if there is no other.
func Least(t Target, here Place, hereLoad int, handling []*members.Member, load func(link.ID) int, self, avoid link.ID) Place {
	best, low, ties := here, hereLoad, 1
	for _, m := range handling {
		id := link.ID(m.Life)
		if id == self || !t.Matches(m.Labels) {
			continue
		}
		n := m.Load.InFlight + load(id)
		if id == avoid {
			n += 1 << 30
		}
		switch {
		case best.Life == 0 || n < low:
			best, low, ties = Of(m), n, 1
		case n == low && best.Life != self:
			if ties++; rand.IntN(ties) == 0 {
				best = Of(m)
			}
		}
	}
	return best
}

// Rendezvous chooses for an ID: the same node as long as the same members
// handle the kind (rendezvous hashing: Thaler and Ravishankar 1998).
func Rendezvous(id string, handling []*members.Member) Place {
	var best Place
	var high uint64
	for _, m := range handling {
		h := fnv.New64a()
		_, _ = h.Write([]byte(m.Name + "/" + id)) // never fails
		if w := h.Sum64(); best.Life == 0 || w > high {
			best, high = Of(m), w
		}
	}
	return best
}
