package session

import (
	"cmp"
	"encoding/json"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/distgear/distgear/internal/machine/members"
)

// keep is how long a member that an earlier ledger had is shown as lost.
const keep = 10 * time.Minute

// mailbox is an unbounded queue for one reader.
type mailbox[T any] struct {
	mu    sync.Mutex
	items []T
	ready chan struct{} // 1: something is there
}

func newMailbox[T any]() *mailbox[T] { return &mailbox[T]{ready: make(chan struct{}, 1)} }

func (b *mailbox[T]) put(items ...T) {
	if len(items) == 0 {
		return
	}
	b.mu.Lock()
	b.items = append(b.items, items...)
	b.mu.Unlock()
	signal(b.ready)
}

func (b *mailbox[T]) take() []T {
	b.mu.Lock()
	defer b.mu.Unlock()
	items := b.items
	b.items = nil
	return items
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// news is something for the follower: a broadcast as it came, a hub to follow,
// or a version that a beat was told of.
type news struct {
	data    []byte
	hub     uint64
	version uint64
	follow  bool
}

// follower keeps the view. It belongs to one goroutine.
type follower struct {
	s       *Session
	hub     uint64 // the ledger whose view is followed; 0: none
	term    uint64 // of its last writer
	seen    uint64 // the ledger whose view all is
	version uint64
	behind  uint64 // version that the last beat was told of
	all     map[uint64]*members.Member
	ghosts  map[uint64]time.Time // members of an earlier ledger's view: when it was gone
	past    map[uint64]bool
	order   []uint64 // of past, oldest first
	notes   []members.Member
	stale   bool // the View has to be made anew
}

func (s *Session) follow() {
	f := &follower{s: s, all: make(map[uint64]*members.Member), ghosts: make(map[uint64]time.Time)}
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		for _, n := range s.news.take() {
			f.take(n)
		}
		f.bury(time.Now())
		f.publish()
		timer.Reset(f.next(time.Now()))
		select {
		case <-s.news.ready:
		case <-timer.C:
		case <-s.ctx.Done():
			return
		}
	}
}

func (f *follower) take(n news) {
	switch {
	case n.follow:
		if n.hub != f.hub {
			f.hub, f.term, f.version, f.behind = n.hub, 0, 0, 0
		}
		f.fetch()
	case n.data == nil: // a beat's answer
		// The broadcast of a new version may be on its way: only what was
		// missing at the beat before is missing.
		if n.hub == f.hub && f.version < f.behind {
			f.fetch()
		}
		f.behind = n.version
	default:
		f.broadcast(n.data)
	}
}

func (f *follower) broadcast(data []byte) {
	var b Broadcast
	if err := json.Unmarshal(data, &b); err != nil {
		f.s.complain("dropped a malformed broadcast of the view", err)
		return
	}
	switch {
	case b.Hub != f.hub:
		// Another ledger: the next beat will tell whether it is ours now.
		signal(f.s.wake)
		return
	case b.Term < f.term:
		return // of a hub from which another has taken over
	case b.Term > f.term:
		f.term = b.Term
		signal(f.s.wake) // the lease may be old by now
	}
	f.steps(b.Changes)
	if b.Version > f.version {
		f.fetch()
	}
	for life, load := range b.Loads {
		if m := f.all[life]; m != nil {
			n := *m
			n.Load = load
			f.all[life], f.stale = &n, true
		}
	}
}

// steps takes up changes as far as none is missing before them.
func (f *follower) steps(changes []members.Changed) {
	for _, c := range changes {
		if c.Version != f.version+1 {
			continue
		}
		f.version = c.Version
		if c.Dropped {
			f.drop(c.Member.Life, c.Member.Incarnation)
		} else {
			f.set(c.Member)
		}
	}
}

// fetch asks the hub for the changes that are missing, or the whole view if it does
// not have them any more, until it has them, or another ledger is to be followed.
func (f *follower) fetch() {
	for wait := 20 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		var q ViewRequest
		if f.seen == f.hub {
			q = ViewRequest{Hub: f.hub, Since: f.version}
		}
		var r ViewReply
		err := f.s.call(f.s.ctx, KindView, q, &r)
		switch {
		case f.s.ctx.Err() != nil, f.s.session().hub != f.hub:
			return
		case err == nil && r.Hub == f.hub && r.Partial:
			f.steps(r.Changes)
			return
		case err == nil && r.Hub == f.hub:
			f.replace(r)
			return
		}
		select {
		case <-time.After(wait):
		case <-f.s.ctx.Done():
			return
		}
	}
}

// replace takes up a whole view, as the changes that lead there.
func (f *follower) replace(r ViewReply) {
	if r.Version < f.version {
		return
	}
	f.version = r.Version
	f.stale = true
	sameHub := f.seen == r.Hub
	f.seen = r.Hub
	fresh := make(map[uint64]bool, len(r.Members))
	names := make(map[string]bool, len(r.Members))
	for _, m := range r.Members {
		fresh[m.Life] = true
		names[m.Name] = names[m.Name] || m.State == members.Alive || m.State == members.Suspect
	}
	var gone []*members.Member
	for life, m := range f.all {
		if !fresh[life] {
			gone = append(gone, m)
		}
	}
	slices.SortFunc(gone, func(a, b *members.Member) int { return cmp.Compare(a.Incarnation, b.Incarnation) })
	for _, m := range gone {
		switch {
		case m.State.Over():
			f.drop(m.Life, m.Incarnation)
		case sameHub:
			f.lose(m, "its session ended while this node was cut off")
			f.drop(m.Life, m.Incarnation)
		case names[m.Name] || m.State == members.Joining:
			f.lose(m, "its session ended with the hub that it had joined")
		case f.ghosts[m.Life].IsZero():
			f.ghosts[m.Life] = time.Now()
		}
	}
	// Who ended comes before who began: a name changes hands in that order.
	slices.SortStableFunc(r.Members, func(a, b members.Member) int { return cmp.Compare(live(a), live(b)) })
	for _, m := range r.Members {
		f.set(m)
	}
}

func live(m members.Member) int {
	if m.State.Live() {
		return 1
	}
	return 0
}

// set takes up one session as the hub has it.
func (f *follower) set(m members.Member) {
	old := f.all[m.Life]
	delete(f.ghosts, m.Life)
	if m.State == members.Alive {
		for life := range f.ghosts { // the name has gone to another life
			if g := f.all[life]; g.Name == m.Name && g.State.Live() {
				f.lose(g, "its name went to another node")
			}
		}
	}
	if old != nil && same(old, &m) {
		f.all[m.Life], f.stale = &m, true // the load may differ
		return
	}
	f.put(&m)
}

func (f *follower) put(m *members.Member) {
	f.all[m.Life], f.stale = m, true
	f.notes = append(f.notes, *m)
	if m.Life == uint64(f.s.cfg.Endpoint.ID()) {
		signal(f.s.wake) // the next beat's answer says what it means
	}
}

func (f *follower) lose(m *members.Member, why string) {
	delete(f.ghosts, m.Life)
	n := *m
	n.State, n.Since, n.Reason = members.Lost, f.s.HubTime(time.Now()), why
	f.put(&n)
}

// drop forgets a session that is over, but not that its life was.
func (f *follower) drop(life, incarnation uint64) {
	m := f.all[life]
	if m == nil || m.Incarnation != incarnation {
		return
	}
	delete(f.all, life)
	delete(f.ghosts, life)
	f.stale = true
	if f.past[life] {
		return
	}
	f.past = maps.Clone(f.past) // views share it
	if f.past == nil {
		f.past = make(map[uint64]bool)
	}
	f.past[life] = true
	f.order = append(f.order, life)
	if len(f.order) > maxPast {
		delete(f.past, f.order[0])
		f.order = f.order[1:]
	}
}

// bury ends what did not follow to the new hub within a time-to-live: every
// lease of the old one has lapsed by then.
func (f *follower) bury(now time.Time) {
	for life, gone := range f.ghosts {
		m, age := f.all[life], now.Sub(gone)
		switch {
		case m.State.Over() && age >= keep:
			f.drop(life, m.Incarnation)
		case m.State.Over():
		case age >= f.s.TTL():
			f.lose(m, "not heard of since the hub was restarted")
			f.ghosts[life] = gone
		case age >= f.s.TTL()/2 && m.State == members.Alive:
			n := *m
			n.State, n.Since = members.Suspect, f.s.HubTime(now)
			f.put(&n)
		}
	}
}

// next is when bury has something to do.
func (f *follower) next(now time.Time) time.Duration {
	d := time.Hour
	for life, gone := range f.ghosts {
		end := gone.Add(f.s.TTL())
		switch f.all[life].State {
		case members.Alive:
			end = gone.Add(f.s.TTL() / 2)
		case members.Left, members.Lost:
			end = gone.Add(keep)
		}
		d = min(d, max(end.Sub(now), time.Millisecond))
	}
	return d
}

// publish makes the View and tells of what has changed, in this order.
func (f *follower) publish() {
	if f.stale {
		f.stale = false
		f.s.view.Store(build(f.hub, f.version, f.all, f.past))
	}
	f.s.notes.put(f.notes...)
	f.notes = nil
	if f.version != 0 {
		f.s.haveView(f.hub)
	}
}

// notify calls OnChange.
func (s *Session) notify() {
	for {
		for _, m := range s.notes.take() {
			if s.ctx.Err() != nil {
				return
			}
			s.cfg.OnChange(m)
		}
		select {
		case <-s.notes.ready:
		case <-s.ctx.Done():
			return
		}
	}
}

func same(a, b *members.Member) bool {
	return a.Incarnation == b.Incarnation && a.State == b.State && a.Reason == b.Reason && a.Version == b.Version &&
		a.Name == b.Name && slices.Equal(a.Kinds, b.Kinds) && maps.Equal(a.Labels, b.Labels)
}
