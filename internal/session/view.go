package session

import (
	"cmp"
	"maps"
	"slices"

	"github.com/distgear/distgear/internal/machine/members"
)

// maxPast is how many ended lives are remembered after the hub forgot them.
const maxPast = 4096

// View is who is a member, as far as this node knows. It is never changed: a
// change makes a new View.
type View struct {
	Version  uint64                     // number of the last change; comparable between nodes under one Hub
	Hub      uint64                     // the ledger that numbers it, or the hub where there is none; 0: none yet
	Members  map[string]*members.Member // by name: the session that has the name, else the latest
	lives    map[uint64]*members.Member
	handling map[string][]*members.Member
	past     map[uint64]bool
}

// Handling returns the alive members that handle a kind of command, by name.
// The slice belongs to the View.
func (v *View) Handling(kind string) []*members.Member { return v.handling[kind] }

// All are the sessions that have a name, one for each, in no order.
func (v *View) All() []*members.Member { return slices.Collect(maps.Values(v.Members)) }

// Named is the session that has a name, else the latest that had; nil: none.
func (v *View) Named(name string) *members.Member { return v.Members[name] }

// Life returns the latest session of a life, or nil.
func (v *View) Life(life uint64) *members.Member { return v.lives[life] }

// Life is what is known of a process that is or was a node.
type Life uint8

// The zero value says that the life is not known, or no longer.
const (
	LifeUnknown Life = iota
	LifeAlive        // it has a session, if only as one who joins
	LifeSuspect
	LifeOver // its session ended; the same life may join again
)

// state says where a life stands.
func (v *View) state(life uint64) Life {
	m := v.lives[life]
	switch {
	case m == nil && v.past[life]:
		return LifeOver
	case m == nil:
		return LifeUnknown
	case m.State == members.Suspect:
		return LifeSuspect
	case m.State.Live():
		return LifeAlive
	}
	return LifeOver
}

// build makes a view of all sessions. It keeps all, past and what they hold.
func build(hub, version uint64, all map[uint64]*members.Member, past map[uint64]bool) *View {
	v := &View{
		Version: version, Hub: hub,
		Members:  make(map[string]*members.Member, len(all)),
		lives:    maps.Clone(all),
		handling: make(map[string][]*members.Member),
		past:     past,
	}
	for _, m := range all {
		if o := v.Members[m.Name]; o == nil || better(m, o) {
			v.Members[m.Name] = m
		}
	}
	for _, m := range v.Members {
		if m.State == members.Alive {
			for _, k := range m.Kinds {
				v.handling[k] = append(v.handling[k], m)
			}
		}
	}
	for _, s := range v.handling {
		slices.SortFunc(s, func(a, b *members.Member) int { return cmp.Compare(a.Name, b.Name) })
	}
	return v
}

// better says which of two sessions of one name a caller means.
func better(a, b *members.Member) bool {
	rank := func(m *members.Member) int {
		switch m.State {
		case members.Alive, members.Suspect:
			return 3
		case members.Joining:
			return 2
		}
		if m.Refused() { // never a member: it does not hide what became of one
			return 0
		}
		return 1
	}
	return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a.Incarnation, b.Incarnation)) > 0
}
