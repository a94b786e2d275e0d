package session

import (
	"encoding/json"
	"errors"
	"math"
	"math/rand/v2"
	"time"

	"github.com/distgear/distgear/internal/link"
	"github.com/distgear/distgear/internal/machine/members"
	"github.com/distgear/distgear/internal/wire"
)

// busy is how many requests may be unanswered before they become rare. Each
// keeps a slot of the link until a hub is there and says that it never
// arrived.
const busy = 16

// answer is what became of a request of the beating goroutine.
type answer struct {
	q        *request
	report   wire.Report
	received time.Time
}

// request is a join or a beat on its way. It implements link.Receiver.
type request struct {
	s           *Session
	sent        time.Time
	join        bool
	incarnation uint64 // that a beat renews
	number      uint64 // of the join
	rev         uint64
	done        bool
}

// Report is called from the connection's goroutine.
func (q *request) Report(r wire.Report) {
	select {
	case q.s.answers <- answer{q, r, time.Now()}:
	default:
	}
}

// beater is what the beating goroutine knows.
type beater struct {
	s       *Session
	hub     uint64
	term    uint64 // of the hub that answered last
	inc     uint64
	joined  bool // otherwise it asks to join
	flying  int  // requests without a final answer
	joins   uint64
	backoff time.Duration // between joins
	refused string        // why the last join was, if it was
	state   members.State
}

func (s *Session) beats() {
	b := &beater{s: s, backoff: 50 * time.Millisecond}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-s.ctx.Done():
			return
		case a := <-s.answers:
			if b.take(a) {
				timer.Reset(0)
			}
			continue
		case <-s.wake:
		case <-timer.C:
		}
		if s.session().left {
			continue
		}
		timer.Reset(b.send())
	}
}

// send sends a beat or a request to join, and says when to send the next.
func (b *beater) send() time.Duration {
	s, ttl := b.s, b.s.TTL()
	next := ttl/5 - time.Duration(rand.Int64N(int64(ttl/50)+1)) // not all nodes at once
	if !s.cfg.Conn.Up() {
		return min(next, 50*time.Millisecond)
	}
	if b.joined {
		now := time.Now()
		skew := now.UnixNano() - s.HubTime(now).UnixNano()
		b.start(KindBeat, BeatRequest{Life: s.life(), Incarnation: b.inc, Load: s.load(), Skew: skew}, &request{incarnation: b.inc})
		if b.flying > busy {
			next = 2 * ttl
		}
		return next
	}
	b.joins++
	rev := s.rev.Load() // before Kinds: what it answers is at least as new
	q := JoinRequest{
		Protocol: Protocol, Prefix: s.cfg.Prefix,
		Request: members.Request{
			Name: s.cfg.Name, Life: s.life(), Labels: s.cfg.Labels, Version: s.cfg.Version,
			Rev: rev, Kinds: s.cfg.Kinds(), Load: s.load(),
		},
	}
	if s.session().admitted && s.Valid(time.Now()) {
		q.Resume = true
		for _, m := range s.View().Members {
			if m.Life != s.life() && (m.State == members.Alive || m.State == members.Suspect) {
				q.Known = append(q.Known, *m)
			}
		}
	}
	b.start(KindJoin, q, &request{join: true, number: b.joins, rev: rev})
	b.backoff = min(2*b.backoff, time.Second)
	switch {
	case b.refused != "":
		return max(ttl, b.backoff)
	case b.flying > busy:
		return max(2*ttl, b.backoff)
	}
	return b.backoff
}

// load is Config.Load's answer, without what JSON cannot say: a beat must go
// out.
func (s *Session) load() members.Load {
	l := s.cfg.Load()
	if math.IsNaN(l.CPU) || math.IsInf(l.CPU, 0) {
		l.CPU = 0
	}
	return l
}

func (b *beater) start(kind string, in any, q *request) {
	data, err := json.Marshal(in)
	if err != nil {
		b.s.complain("cannot encode a request to the hub", err)
		return
	}
	q.s, q.sent = b.s, time.Now()
	_, err = b.s.cfg.Endpoint.Start(link.Hub, &wire.Command{Kind: kind, Input: data}, b.s.TTL(), q)
	switch {
	case err == nil:
		b.flying++
	case !errors.Is(err, link.ErrClosed):
		b.s.complain("cannot send to the hub", err)
	}
}

// take takes up an answer, and says whether to send at once.
func (b *beater) take(a answer) (again bool) {
	if !a.q.done && (a.report.Outcome != wire.Unknown || a.report.Over) {
		a.q.done = true
		b.flying--
	}
	if a.report.Outcome != wire.OK {
		return false // the next one is due soon
	}
	if a.q.join {
		return b.joinAnswered(a)
	}
	return b.beatAnswered(a)
}

func (b *beater) joinAnswered(a answer) bool {
	var r JoinReply
	if err := read(&a.report, &r); err != nil {
		b.s.complain("cannot read the hub's answer to a join", err)
		return false
	}
	if b.joined || b.deposed(r.Stamp) {
		return false // one that was sent before the one that was answered
	}
	if r.Refused != "" {
		b.refuse(r.Refused)
		return false
	}
	s := b.s
	s.clock.sample(r.Stamp, a.q.sent, a.received)
	s.ttl.Store(int64(max(r.TTL, time.Millisecond)))
	b.hub, b.term, b.inc, b.joined, b.state = r.Hub, r.Term, r.Member.Incarnation, true, r.Member.State
	b.backoff = 50 * time.Millisecond
	s.renew(a.q.sent)
	s.update(func(n *standing) {
		n.hub, n.incarnation, n.joined, n.rev = b.hub, b.inc, true, a.q.rev
		n.admitted = n.admitted || b.state == members.Alive
		n.refused = nil
	})
	if b.state == members.Alive {
		b.refused = ""
	}
	s.news.put(news{follow: true, hub: b.hub})
	return true
}

func (b *beater) beatAnswered(a answer) bool {
	var r BeatReply
	if err := read(&a.report, &r); err != nil {
		b.s.complain("cannot read the hub's answer to a beat", err)
		return false
	}
	if !b.joined || a.q.incarnation != b.inc {
		return false
	}
	s := b.s
	if b.deposed(r.Stamp) || r.Hub < b.hub && s.Valid(time.Now()) {
		return false
	}
	s.clock.sample(r.Stamp, a.q.sent, a.received)
	if !r.Again && r.Hub == b.hub {
		b.term = r.Term
		s.renew(a.q.sent)
		if b.state = r.State; b.state == members.Alive {
			b.refused = ""
			if !s.session().admitted {
				s.update(func(n *standing) { n.admitted = true })
			}
		}
		s.news.put(news{hub: r.Hub, version: r.Version})
		return false
	}
	// The session is over, or the ledger is another one: that never had it, or has one
	// of the same number that was asked for when two hubs began at once.
	b.joined = false
	s.update(func(n *standing) { n.joined = false })
	if r.Hub == b.hub {
		s.revoke()
	}
	if r.State == members.Left && r.Reason != "" {
		b.refuse(r.Reason)
		return false
	}
	s.cfg.Logger.Info("joining the hub again", "node", s.cfg.Name, "reason", r.Reason, "newHub", r.Hub != b.hub)
	return true
}

// deposed tells that an answer comes from a hub from which another has taken over:
// one that was stopped, and does not know it yet.
func (b *beater) deposed(st Stamp) bool { return st.Hub == b.hub && st.Term < b.term }

// refuse notes that the hub does not want this node. A node that was admitted
// once goes on asking.
func (b *beater) refuse(reason string) {
	if b.s.session().admitted && reason != b.refused {
		b.s.cfg.Logger.Warn("the hub refused this node, which will ask again", "node", b.s.cfg.Name, "reason", reason)
	}
	b.refused = reason
	b.s.update(func(n *standing) { n.refused = &RefusedError{Reason: reason} })
}

// renew extends the lease, counted from when the request was sent.
func (s *Session) renew(sent time.Time) {
	ttl := s.TTL()
	end := int64(sent.Sub(s.start) + ttl - ttl/5)
	if end > s.lease.Load() && !s.session().left {
		s.lease.Store(end)
		signal(s.renewed)
	}
}

// revoke ends the lease now.
func (s *Session) revoke() {
	s.lease.Store(0)
	signal(s.renewed)
}

// keep calls OnLapse and OnRenew.
func (s *Session) keep() {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	begun, lapsed := false, false
	for {
		left := time.Duration(s.lease.Load()) - time.Since(s.start)
		switch {
		case s.session().left:
			left = time.Hour
		case left > 0:
			begun = true
			if lapsed {
				lapsed = false
				s.cfg.OnRenew()
			}
		case begun && !lapsed:
			lapsed = true
			s.cfg.OnLapse()
		}
		if left <= 0 {
			left = time.Hour // until it is renewed
		}
		timer.Reset(left)
		select {
		case <-timer.C:
		case <-s.renewed:
		case <-s.ctx.Done():
			return
		}
	}
}
