// Package members is the hub's authority over who is a member: a pure state
// machine, operations in, effects out.
//
//	m := members.New(members.Config{TTL: 3 * time.Second}, now)
//	member, effects, err := m.Join(now, members.Request{Name: "a", Life: 7})
//	effects = m.Tick(now)            // a few times per TTL
//	version, all := m.Snapshot()
//
// A name belongs to the session that has it until that session is over. Who
// asks for a name that is taken waits: the next beat of the holder refuses
// it (unless it comes at its heels), the end of the holder lets it in. So a node
// that crashed and was started again waits out its former self, and a mistaken
// second node of one name is told after a beat.
//
// # Guarantees
//
// Incarnations grow, also over restarts of the hub as long as its clock is
// not turned back. A name has at most one session that is alive or suspect.
// A member is lost only after a whole time-to-live of silence, in which one
// call counts as at most a quarter of it: a hub that was stopped for a while
// and wakes does not take its own sleep for theirs. A joining member is alive
// only after its init event succeeded, unless no member handled that event when
// it came or it resumes. Versions of the view have no gaps, and a view rebuilt
// from its changes equals Snapshot.
//
// # Failures
//
// Nothing here survives the process but what a Roster has taken up: From makes a
// machine that goes on with it, and every session has its whole time-to-live again.
// A hub without one learns from the nodes that resume (Request.Known). The init event
// and the loss event are raised at least once: again elsewhere when their handler
// was lost, and by the next hub.
//
// A Machine is not safe for concurrent use.
package members

import (
	"cmp"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"
)

// The kinds of command by which handlers are told. Their input is a Member.
const (
	KindJoin = "node.join"
	KindLost = "node.lost"
)

// Config of a Machine.
type Config struct {
	TTL   time.Duration // of a session; zero: 3 s
	Keep  time.Duration // how long a session that is over is remembered; zero: 10 min
	Init  time.Duration // how long the init event of one member may take, retries included; zero: 30 s
	Grace time.Duration // how much longer than TTL those of a Roster may be silent at first; zero: not longer
}

// Machine is who is a member. Make one with New.
type Machine struct {
	cfg         Config
	last        time.Time     // of the last call
	now         time.Duration // time as the machine counts it: see step
	version     uint64
	incarnation uint64    // highest one given
	order       []*record // by incarnation
	lives       map[uint64]*record
	losses      []*loss
	restored    bool                // it goes on with what another began
	loads       map[uint64]struct{} // lives whose load changed
	out         []Effect
}

type record struct {
	m        Member
	began    time.Duration // when it asked to join
	heard    time.Duration // when it last gave a sign of life
	ended    time.Duration // when it was over
	rev      uint64        // of its kinds
	asked    bool          // its init event was given to a handler
	admitted bool          // was alive once
	resume   bool
	adopted  bool // taken up from another's view: it has to join itself
	job      job  // its init event
}

// job is something to be done by one of the members that handle a kind.
type job struct {
	began   time.Duration
	handler uint64        // life of who does it now; zero: nobody
	again   time.Duration // when to try again
	tried   []uint64      // handlers that did not do it
	open    bool
}

type loss struct {
	m   Member
	job job
}

// New returns a machine without members. Versions start at now's milliseconds
// since 1970, so that they too grow over restarts.
func New(cfg Config, now time.Time) *Machine {
	cfg.TTL = cmp.Or(cfg.TTL, 3*time.Second)
	cfg.Keep = cmp.Or(cfg.Keep, 10*time.Minute)
	cfg.Init = cmp.Or(cfg.Init, 30*time.Second)
	return &Machine{
		cfg:     cfg,
		last:    now,
		version: uint64(max(now.UnixMilli(), 0)),
		lives:   make(map[uint64]*record),
		loads:   make(map[uint64]struct{}),
	}
}

// TTL is the time-to-live of a session.
func (m *Machine) TTL() time.Duration { return m.cfg.TTL }

// Version is the number of the latest change.
func (m *Machine) Version() uint64 { return m.version }

// Snapshot is the view: every session that is remembered, by incarnation.
func (m *Machine) Snapshot() (version uint64, all []Member) {
	all = make([]Member, len(m.order))
	for i, r := range m.order {
		all[i] = r.m
	}
	return m.version, all
}

// Member returns the session of a life, if it is remembered.
func (m *Machine) Member(life uint64) (Member, bool) {
	if r := m.lives[life]; r != nil {
		return r.m, true
	}
	return Member{}, false
}

// Loads returns the loads that changed since it was last called, by life.
// A load is no step of the view.
func (m *Machine) Loads() map[uint64]Load {
	if len(m.loads) == 0 {
		return nil
	}
	all := make(map[uint64]Load, len(m.loads))
	for life := range m.loads {
		if r := m.lives[life]; r != nil && r.m.State.Live() {
			all[life] = r.m.Load
		}
	}
	clear(m.loads)
	return all
}

// Join begins a session. The member returned is joining, or alive already; a
// life that has a session is given that one, so a request may be resent. A
// request that cannot be granted is answered with a *Refusal.
func (m *Machine) Join(now time.Time, q Request) (Member, []Effect, error) {
	m.step(now)
	if err := q.check(); err != nil {
		return Member{}, nil, err
	}
	old := m.lives[q.Life]
	if old != nil && old.m.State.Live() && !old.adopted {
		if old.m.Name != q.Name {
			return Member{}, nil, &Refusal{Reason: fmt.Sprintf("this process is a member already, as %q", old.m.Name)}
		}
		m.hear(old)
		m.setKinds(old, q.Kinds, q.Rev)
		return old.m, m.take(), nil
	}
	// A lease that has not lapsed is younger than this machine can be, when
	// the session was with the hub before it.
	resume := q.Resume && !m.restored && m.now < m.cfg.TTL && (old == nil || old.adopted && old.m.State.Live())
	if resume {
		m.adopt(q.Life, q.Known)
		if old != nil {
			m.settle(old, 0)
		}
	}
	m.incarnation = max(m.incarnation+1, uint64(max(now.UnixMilli(), 0)))
	kinds := slices.Clone(q.Kinds)
	slices.Sort(kinds)
	r := &record{
		m: Member{
			Name: q.Name, Life: q.Life, Incarnation: m.incarnation, State: Joining, Since: stamp(now),
			Labels: q.Labels, Kinds: slices.Compact(kinds), Version: q.Version, Load: q.Load,
		},
		began:  m.now,
		heard:  m.now,
		rev:    q.Rev,
		resume: resume,
	}
	m.forget(q.Life)
	m.order = append(m.order, r)
	m.lives[q.Life] = r
	if r.resume && !m.waits(r) {
		m.admit(r)
		return r.m, m.take(), nil
	}
	m.changed(r)
	m.proceed(r)
	return r.m, m.take(), nil
}

// adopt takes up members of another's view that this machine, being new,
// does not know.
func (m *Machine) adopt(self uint64, known []Member) {
	for _, k := range known {
		taken := slices.ContainsFunc(m.order, func(r *record) bool { return r.m.Name == k.Name && r.m.State.Live() })
		if taken || m.lives[k.Life] != nil || (k.State != Alive && k.State != Suspect) || k.Life == 0 || k.Life == self || nameFault(k.Name) != "" {
			continue
		}
		k.Reason = ""
		r := &record{m: k, heard: m.now, admitted: true, adopted: true}
		m.incarnation = max(m.incarnation, k.Incarnation)
		at, _ := slices.BinarySearchFunc(m.order, r, func(a, b *record) int { return cmp.Compare(a.m.Incarnation, b.m.Incarnation) })
		m.order = slices.Insert(m.order, at, r)
		m.lives[k.Life] = r
		m.changed(r)
	}
}

// Beat is a sign of life. It answers ErrJoinAgain when there is no such
// session or it is over; the member then says why, if it is remembered.
func (m *Machine) Beat(now time.Time, life, incarnation uint64, load Load) (Member, []Effect, error) {
	m.step(now)
	r, err := m.session(life, incarnation)
	if err != nil {
		return r.member(), nil, err
	}
	m.hear(r)
	if !reflect.DeepEqual(r.m.Load, load) {
		r.m.Load = load
		m.loads[life] = struct{}{}
	}
	return r.m, m.take(), nil
}

// SetKinds says which kinds of command a member handles from now on. A
// revision that is not higher than the one known changes nothing, so requests
// may be resent and overtake each other.
func (m *Machine) SetKinds(now time.Time, life, incarnation uint64, kinds []string, rev uint64) (Member, []Effect, error) {
	m.step(now)
	r, err := m.session(life, incarnation)
	if err != nil {
		return r.member(), nil, err
	}
	if s := kindsFault(kinds); s != "" {
		return r.m, nil, &Refusal{Reason: s}
	}
	m.hear(r)
	m.setKinds(r, kinds, rev)
	return r.m, m.take(), nil
}

func (m *Machine) setKinds(r *record, kinds []string, rev uint64) {
	if rev <= r.rev {
		return
	}
	r.rev = rev
	kinds = slices.Clone(kinds)
	slices.Sort(kinds)
	kinds = slices.Compact(kinds)
	if !slices.Equal(kinds, r.m.Kinds) {
		r.m.Kinds = kinds
		m.changed(r)
	}
}

// Leave ends a session at its node's wish. One that is over already, or was
// never known, is no fault.
func (m *Machine) Leave(now time.Time, life, incarnation uint64) []Effect {
	m.step(now)
	if r, err := m.session(life, incarnation); err == nil {
		m.end(r, Left, "")
	}
	return m.take()
}

// Admit says that the init event of a member succeeded on a handler. A stale
// answer is ignored.
func (m *Machine) Admit(now time.Time, life, incarnation, handler uint64) []Effect {
	m.step(now)
	if r := m.initialising(life, incarnation, handler); r != nil {
		m.admit(r)
	}
	return m.take()
}

// Refuse says that the init event of a member failed: the member is turned
// away. A stale answer is ignored.
func (m *Machine) Refuse(now time.Time, life, incarnation, handler uint64, reason string) []Effect {
	m.step(now)
	if r := m.initialising(life, incarnation, handler); r != nil {
		reason = strings.ToValidUTF8(reason[:min(len(reason), maxReason)], "")
		m.end(r, Left, cmp.Or(reason, "refused by its init event"))
	}
	return m.take()
}

// InitFailed says that a handler could not be made to run the init event of
// a member: another is asked at once, the same again later.
func (m *Machine) InitFailed(now time.Time, life, incarnation, handler uint64) []Effect {
	m.step(now)
	if r := m.initialising(life, incarnation, handler); r != nil {
		m.failed(&r.job)
		m.init(r)
	}
	return m.take()
}

// LossTold says that a handler took up a loss.
func (m *Machine) LossTold(now time.Time, life, incarnation uint64) []Effect {
	m.step(now)
	m.drop(func(l *loss) bool { return l.m.Life == life && l.m.Incarnation == incarnation })
	return m.take()
}

// LossFailed says that a handler could not be told: another is asked at once,
// the same again later.
func (m *Machine) LossFailed(now time.Time, life, incarnation, handler uint64) []Effect {
	m.step(now)
	for _, l := range m.losses {
		if l.m.Life == life && l.m.Incarnation == incarnation && l.job.handler == handler {
			m.failed(&l.job)
			m.tell(l)
		}
	}
	return m.take()
}

// Tick lets time pass. Call it several times per time-to-live.
func (m *Machine) Tick(now time.Time) []Effect {
	m.step(now)
	for _, r := range slices.Clone(m.order) {
		switch silent := m.now - r.heard; {
		case r.m.State.Over():
			if m.now-r.ended >= m.cfg.Keep && m.lives[r.m.Life] == r {
				m.forget(r.m.Life)
				m.version++
				m.out = append(m.out, Changed{Version: m.version, Member: r.m, Dropped: true})
			}
		case silent >= m.cfg.TTL:
			m.end(r, Lost, fmt.Sprintf("silent for %v", m.cfg.TTL))
		case silent >= m.cfg.TTL/2 && r.m.State == Alive:
			r.m.State, r.m.Since = Suspect, stamp(now)
			m.changed(r)
		case r.job.open && m.now-r.job.began >= m.cfg.Init:
			m.end(r, Left, fmt.Sprintf("its init event did not end within %v", m.cfg.Init))
		case r.job.open && r.job.handler == 0 && m.now >= r.job.again:
			m.init(r)
		}
	}
	m.drop(func(l *loss) bool { return m.now-l.job.began >= m.cfg.Keep })
	for _, l := range m.losses {
		if l.job.handler == 0 && m.now >= l.job.again {
			m.tell(l)
		}
	}
	return m.take()
}

// step advances the machine's time, by at most a quarter of a time-to-live.
// What passed beyond that was a stall of the hub, in which it could not hear.
func (m *Machine) step(now time.Time) {
	if d := now.Sub(m.last); d > 0 {
		m.now += min(d, m.cfg.TTL/4)
		m.last = now
	}
}

func (m *Machine) take() []Effect {
	out := m.out
	m.out = nil
	return out
}

func (m *Machine) changed(r *record) {
	m.version++
	m.out = append(m.out, Changed{Version: m.version, Member: r.m, Rev: r.rev, Asked: r.asked})
}

// note has a Roster know what another machine needs to go on with a member: with
// the change that tells of it, or with one of its own, in which others see no
// difference.
func (m *Machine) note(r *record, untold bool) {
	for i, e := range slices.Backward(m.out) {
		if c, ok := e.(Changed); ok && c.Member.Life == r.m.Life {
			c.Asked, c.Untold = r.asked, untold
			m.out[i] = c
			return
		}
	}
	m.changed(r)
}

// drop forgets losses that need not be told any more.
func (m *Machine) drop(done func(*loss) bool) {
	m.losses = slices.DeleteFunc(m.losses, func(l *loss) bool {
		if !done(l) {
			return false
		}
		m.out = append(m.out, Told{Life: l.m.Life, Incarnation: l.m.Incarnation})
		return true
	})
}

func (m *Machine) session(life, incarnation uint64) (*record, error) {
	r := m.lives[life]
	if r == nil || r.m.Incarnation != incarnation || !r.m.State.Live() || r.adopted {
		return r, ErrJoinAgain
	}
	return r, nil
}

func (r *record) member() Member {
	if r == nil {
		return Member{}
	}
	return r.m
}

func (m *Machine) initialising(life, incarnation, handler uint64) *record {
	r := m.lives[life]
	if r == nil || r.m.Incarnation != incarnation || !r.job.open || r.job.handler != handler {
		return nil
	}
	return r
}

func (m *Machine) forget(life uint64) {
	if old := m.lives[life]; old != nil {
		delete(m.lives, life)
		m.order = slices.DeleteFunc(m.order, func(r *record) bool { return r == old })
	}
}

// hear notes a sign of life.
func (m *Machine) hear(r *record) {
	r.heard = m.now
	if r.m.State == Suspect {
		r.m.State, r.m.Since = Alive, stamp(m.last)
		m.changed(r)
	}
	m.settle(r, m.cfg.TTL/10)
}

// settle refuses those who wait for the name of a session that has shown to
// be alive, and have waited for so long: a beat that follows at their heels may
// have been sent before its node died.
func (m *Machine) settle(r *record, waited time.Duration) {
	for _, o := range slices.Clone(m.order) {
		if o != r && o.m.Name == r.m.Name && o.m.State == Joining && o.m.Incarnation > r.m.Incarnation && m.now-o.began >= waited {
			m.end(o, Left, fmt.Sprintf("the name %q belongs to a node that is %v (life %x): give this one another name, or stop that one", r.m.Name, r.m.State, r.m.Life))
		}
	}
}

// waits says that an earlier session has the name.
func (m *Machine) waits(r *record) bool {
	return slices.ContainsFunc(m.order, func(o *record) bool {
		return o != r && o.m.Name == r.m.Name && o.m.State.Live() && o.m.Incarnation < r.m.Incarnation
	})
}

// proceed takes a joining member on, if it has its name.
func (m *Machine) proceed(r *record) {
	switch {
	case r.m.State != Joining || r.job.open || m.waits(r):
	case r.resume:
		m.admit(r)
	default:
		r.job = job{open: true, began: m.now}
		m.init(r)
	}
}

// init has the init event raised by the best handler. Where nobody handles it
// the member is admitted; where somebody did and is gone it waits for another.
func (m *Machine) init(r *record) {
	h, found := m.pick(KindJoin, &r.job)
	switch {
	case h != nil:
		if !r.asked {
			r.asked = true
			m.note(r, false)
		}
		m.out = append(m.out, NeedInit{Member: r.m, Handler: h.m})
	case !found && !r.asked:
		m.admit(r)
	}
}

func (m *Machine) tell(l *loss) {
	if h, _ := m.pick(KindLost, &l.job); h != nil {
		m.out = append(m.out, RaiseLost{Member: l.m, Handler: h.m})
	}
}

// pick gives a job to the least loaded member that is alive, handles the kind
// and has not failed at it. When all have, they are asked again half a
// time-to-live later.
func (m *Machine) pick(kind string, j *job) (best *record, found bool) {
	for _, r := range m.order {
		if r.m.State != Alive && !r.adopted || r.m.State.Over() || !r.m.Handles(kind) {
			continue
		}
		found = true // an adopted one will join in a moment, or be lost
		if !r.adopted && !slices.Contains(j.tried, r.m.Life) && (best == nil || less(&r.m, &best.m)) {
			best = r
		}
	}
	if best == nil {
		j.tried, j.handler, j.again = nil, 0, m.now+m.cfg.TTL/2
		return nil, found
	}
	j.handler = best.m.Life
	return best, true
}

func less(a, b *Member) bool {
	return cmp.Or(cmp.Compare(a.Load.InFlight, b.Load.InFlight), cmp.Compare(a.Load.CPU, b.Load.CPU), cmp.Compare(a.Name, b.Name)) < 0
}

func (m *Machine) failed(j *job) {
	j.tried = append(j.tried, j.handler)
	j.handler = 0
}

func (m *Machine) admit(r *record) {
	r.m.State, r.m.Since = Alive, stamp(m.last)
	r.admitted, r.asked, r.job = true, false, job{}
	m.changed(r)
}

// end ends a session, and lets go on what waited for that.
func (m *Machine) end(r *record, s State, reason string) {
	r.m.State, r.m.Since, r.m.Reason = s, stamp(m.last), reason
	r.ended, r.asked, r.job = m.now, false, job{}
	m.changed(r)
	for _, o := range slices.Clone(m.order) {
		switch {
		case o.m.Name == r.m.Name:
			m.proceed(o)
		case o.job.open && o.job.handler == r.m.Life:
			m.failed(&o.job)
			m.init(o)
		}
	}
	for _, l := range m.losses {
		if l.job.handler == r.m.Life {
			m.failed(&l.job)
			m.tell(l)
		}
	}
	if s == Lost && r.admitted {
		l := &loss{m: r.m, job: job{began: m.now}}
		// A loss that nobody wants to hear of when it happens is not kept
		// for who might come later.
		m.tell(l)
		if l.job.handler != 0 {
			m.losses = append(m.losses, l)
			m.note(r, true)
		}
	}
}

func stamp(now time.Time) time.Time { return now.Round(0).UTC() }
