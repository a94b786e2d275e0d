package members

import (
	"cmp"
	"encoding/json"
	"errors"
	"slices"
	"time"
)

// Decisions are what a Machine decided in one go: what a Roster takes up.
type Decisions struct {
	Changes []Changed `json:"changes,omitempty"`
	Told    []Told    `json:"told,omitempty"`
}

// Roster is the view of all members as its changes made it, and all that another
// Machine needs to go on with it. The zero value is that of no members. It is not
// safe for concurrent use.
type Roster struct {
	version     uint64
	incarnation uint64 // highest one seen
	lives       map[uint64]Changed
	losses      []Member // to be told
	recent      []Changed
	weight      int // of recent
}

const (
	maxRecent       = 128 // changes that those who missed some are given
	maxRecentWeight = 256 << 10
)

var errRoster = errors.New("members: malformed roster")

// Version is the number of the last change; 0: there was none.
func (r *Roster) Version() uint64 { return r.version }

// Apply takes up what was decided; a change that is not the next is none. Loads are
// not kept.
func (r *Roster) Apply(d *Decisions) {
	for _, c := range d.Changes {
		if r.version != 0 && c.Version != r.version+1 || c.Version == 0 || c.Member.Life == 0 || !c.Member.State.Live() && !c.Member.State.Over() {
			continue
		}
		c.Member.Load = Load{}
		r.apply(&c)
		r.remember(&c)
	}
	for _, t := range d.Told {
		r.losses = slices.DeleteFunc(r.losses, func(m Member) bool { return m.Life == t.Life && m.Incarnation == t.Incarnation })
	}
}

func (r *Roster) apply(c *Changed) {
	m := &c.Member
	r.version, r.incarnation = c.Version, max(r.incarnation, m.Incarnation)
	if c.Dropped {
		delete(r.lives, m.Life)
		return
	}
	if r.lives == nil {
		r.lives = make(map[uint64]Changed)
	}
	r.lives[m.Life] = *c
	if c.Untold {
		r.losses = append(r.losses, *m)
	}
}

// remember keeps the last changes.
func (r *Roster) remember(c *Changed) {
	r.recent = append(r.recent, *c)
	r.weight += c.Weight()
	drop := 0
	for ; len(r.recent)-drop > maxRecent || r.weight > maxRecentWeight && drop < len(r.recent); drop++ {
		r.weight -= r.recent[drop].Weight()
	}
	r.recent = slices.Delete(r.recent, 0, drop)
}

// Weight estimates the bytes of a change.
func (c *Changed) Weight() int {
	n := 512 + 32*len(c.Member.Load.Kinds) + len(c.Member.Reason)
	for _, k := range c.Member.Kinds {
		n += len(k) + 3
	}
	for k, v := range c.Member.Labels {
		n += len(k) + len(v) + 6
	}
	return n
}

// Since returns the changes after a version, if all of them are remembered.
func (r *Roster) Since(version uint64) ([]Changed, bool) {
	if version == r.version {
		return nil, true
	}
	i := slices.IndexFunc(r.recent, func(c Changed) bool { return c.Version == version+1 })
	if i < 0 {
		return nil, false
	}
	return slices.Clone(r.recent[i:]), true
}

// Member returns the session of a life, if it is remembered.
func (r *Roster) Member(life uint64) (Member, bool) {
	c, ok := r.lives[life]
	return c.Member, ok
}

// Members are all sessions that are remembered, by incarnation.
func (r *Roster) Members() []Member {
	all := make([]Member, 0, len(r.lives))
	for _, c := range r.sorted() {
		all = append(all, c.Member)
	}
	return all
}

func (r *Roster) sorted() []Changed {
	all := make([]Changed, 0, len(r.lives))
	for _, c := range r.lives {
		all = append(all, c)
	}
	slices.SortFunc(all, func(a, b Changed) int {
		return cmp.Or(cmp.Compare(a.Member.Incarnation, b.Member.Incarnation), cmp.Compare(a.Member.Life, b.Member.Life))
	})
	return all
}

// Clone is a copy that changes by itself.
func (r *Roster) Clone() *Roster {
	c := *r
	c.lives = make(map[uint64]Changed, len(r.lives))
	for life, m := range r.lives {
		c.lives[life] = m
	}
	c.losses, c.recent = slices.Clone(r.losses), slices.Clone(r.recent)
	return &c
}

// kept is a Roster as bytes: JSON, since members travel as such anyway.
type kept struct {
	Version     uint64    `json:"version"`
	Incarnation uint64    `json:"incarnation"`
	Lives       []Changed `json:"lives,omitempty"`
	Losses      []Member  `json:"losses,omitempty"`
	Recent      []Changed `json:"recent,omitempty"`
}

// AppendBinary appends what Restore reads: nothing if there was no change. Equal
// rosters give equal bytes.
func (r *Roster) AppendBinary(b []byte) []byte {
	if r.version == 0 {
		return b
	}
	data, err := json.Marshal(kept{r.version, r.incarnation, r.sorted(), r.losses, r.recent})
	if err != nil {
		panic("members: a roster of what was JSON is not JSON: " + err.Error())
	}
	return append(b, data...)
}

// Restore replaces the roster. With an error it is empty.
func (r *Roster) Restore(b []byte) error {
	*r = Roster{}
	if len(b) == 0 {
		return nil
	}
	var k kept
	if json.Unmarshal(b, &k) != nil || k.Version == 0 {
		return errRoster
	}
	n := Roster{version: k.Version, incarnation: k.Incarnation, losses: k.Losses, recent: k.Recent, lives: make(map[uint64]Changed, len(k.Lives))}
	for _, c := range k.Lives {
		if m := &c.Member; n.lives[m.Life].Version != 0 || c.Version == 0 || c.Version > k.Version || m.Life == 0 || !m.State.Live() && !m.State.Over() {
			return errRoster
		}
		n.lives[c.Member.Life] = c
	}
	for i := range n.recent {
		n.weight += n.recent[i].Weight()
	}
	*r = n
	return nil
}

// From returns a machine that goes on with a roster, in which all are as if heard
// just now, and whatever was under way is begun again by the next Tick. Without a
// change in it that is New's.
func From(cfg Config, now time.Time, r *Roster) *Machine {
	m := New(cfg, now)
	if r.version == 0 {
		return m
	}
	m.restored, m.version, m.incarnation = true, r.version, r.incarnation
	for _, c := range r.sorted() {
		n := &record{m: c.Member, heard: m.cfg.Grace, rev: c.Rev, asked: c.Asked, admitted: c.Member.State == Alive || c.Member.State == Suspect}
		m.order = append(m.order, n)
		m.lives[c.Member.Life] = n
	}
	for _, n := range m.order {
		n.job.open = n.m.State == Joining && !m.waits(n)
	}
	for _, l := range r.losses {
		m.losses = append(m.losses, &loss{m: l})
	}
	return m
}
