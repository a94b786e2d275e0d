package hub

import (
	"encoding/json"
	"time"

	"github.com/distgear/distgear/internal/link"
	"github.com/distgear/distgear/internal/machine/members"
	"github.com/distgear/distgear/internal/session"
)

// What the authority decides it tells when the ledger has it in the log, and acts on
// then: broadcasts, answers, events. The machine is ahead of that, as the ledger's own
// state is. Beats are not in the log: they are answered at once with what is known to
// be in it, as long as it is sure that no other hub decides (docs/adr/0006).

// held is what is done when the log has what it depends on. It belongs to the loop.
type held struct {
	version uint64 // of the view
	do      func()
	in      *link.Inbound // the request that it answers; nil: it is an event
	at      time.Time     // when that came
	renews  bool          // the answer renews a session: the hub has to be the one at that time
}

const (
	decisionsBytes = 128 << 10             // of changes in one entry, about
	keepAgain      = 20 * time.Millisecond // until what the ledger did not take is handed in again
)

// apply takes up what the machine wants.
func (h *authority) apply(effects []members.Effect) {
	for _, e := range effects {
		switch e := e.(type) {
		case members.Changed:
			h.decided.Changes = append(h.decided.Changes, e)
		case members.Told:
			h.decided.Told = append(h.decided.Told, e)
		case members.NeedInit:
			h.hold(func() { h.raise(members.KindJoin, e.Member, e.Handler, h.initEnded) })
		case members.RaiseLost:
			h.hold(func() { h.raise(members.KindLost, e.Member, e.Handler, h.lossEnded) })
		}
	}
}

// hold has f called when all that was decided so far is in the log.
func (h *authority) hold(f func()) {
	h.held = append(h.held, held{version: h.machine.Version(), do: f})
}

// late tells whether a request has waited too long for its answer. It is answered that
// it was in vain then, and its node tries again: one that hears nothing tries more
// and more rarely.
func (h *authority) late(x *held) bool { return x.in != nil && time.Since(x.at) > h.cfg.TTL/2 }

// settle goes on with what was decided as far as it can.
func (h *authority) settle() {
	h.keep()
	kept := h.kept.Load()
	h.tell(kept)
	h.waiting.Store(len(h.held) > 0) // before it looks: see confirm
	rest := h.held[:0]
	for _, x := range h.held {
		switch {
		case x.version <= kept && (!x.renews || h.sure(x.at)):
			x.do()
		case h.late(&x):
			x.in.Reply(failure("the ledger does not take anything now"))
		default:
			rest = append(rest, x)
		}
	}
	clear(h.held[len(rest):])
	h.held = rest
	h.waiting.Store(len(h.held) > 0)
}

// keep hands to the ledger what was decided.
func (h *authority) keep() {
	for h.again == nil && len(h.decided.Changes)+len(h.decided.Told) > 0 {
		all := h.decided.Changes
		n, size := 0, 0
		for n < len(all) && n < round && (n == 0 || size < decisionsBytes) {
			size += all[n].Weight()
			n++
		}
		d := members.Decisions{Changes: all[:n]}
		if n == len(all) {
			d.Told = h.decided.Told
		}
		if !h.term.keep(&d) {
			if !h.stuck {
				h.stuck = true
				h.log.Warn("what was decided about members waits for the ledger", "changes", len(all))
			}
			h.again = time.After(keepAgain)
			return
		}
		h.stuck = false
		h.flight = append(h.flight, d.Changes...)
		h.decided.Changes = all[n:]
		if n == len(all) {
			h.decided = members.Decisions{}
		}
		if h.term.desk == nil && n > 0 { // nothing keeps it: it counts at once
			h.kept.Store(d.Changes[n-1].Version)
		}
	}
}

// confirm says up to which change of the view the log has them, and that no other hub
// was the writer before cut. The ledger's goroutines call it.
func (h *authority) confirm(version uint64, cut time.Time) {
	for at := int64(cut.Sub(h.began)); ; {
		old := h.proved.Load()
		if old >= at || h.proved.CompareAndSwap(old, at) {
			break
		}
	}
	news := false
	for old := h.kept.Load(); old < version && !news; old = h.kept.Load() {
		news = h.kept.CompareAndSwap(old, version)
	}
	if news || h.waiting.Load() {
		select {
		case h.confirmed <- struct{}{}:
		default:
		}
	}
}

// sure tells whether a session may be renewed by what came at a time: so soon after a
// round that is in the log that another hub, if it took over since then, counts the
// session as live longer than its node does. See term.grace.
func (h *authority) sure(at time.Time) bool {
	return !h.term.several || int64(at.Sub(h.began))-h.proved.Load() <= int64(h.cfg.TTL/10*9)
}

// prove has the ledger confirm, while nothing else happens, that this hub is the
// writer.
func (h *authority) prove(now time.Time) {
	at := int64(now.Sub(h.began))
	if proved := h.proved.Load(); h.term.several && at-proved > int64(h.cfg.TTL/20*9) && proved >= h.proving && h.term.prove() {
		h.proving = at
	}
}

// tell tells what the log has.
func (h *authority) tell(version uint64) {
	n := 0
	for n < len(h.flight) && h.flight[n].Version <= version {
		n++
	}
	if n == 0 {
		return
	}
	changes := h.flight[:n]
	h.flight = h.flight[n:]
	h.roster.Apply(&members.Decisions{Changes: changes})
	from, size := 0, 0
	for i := range changes {
		h.changed(&changes[i])
		if size += changes[i].Weight(); size > maxBroadcast || i == n-1 {
			h.broadcast(session.Broadcast{Version: changes[i].Version, Changes: changes[from : i+1]})
			from, size = i+1, 0
		}
	}
}

// changed logs a change of the view, and keeps the links in step with it.
func (h *authority) changed(c *members.Changed) {
	m := &c.Member
	switch {
	case c.Dropped:
		h.requests.Forget(link.ID(m.Life))
	case m.State.Over() && h.touched[m.Life]:
		h.own.Over(link.ID(m.Life)) // who waits for it, a raise, waits no more
	case m.State == members.Joining && h.touched[m.Life]:
		h.own.Back(link.ID(m.Life))
	}
	if c.Dropped {
		delete(h.logged, m.Life)
		delete(h.skews, m.Life)
		return
	}
	if h.logged[m.Life] == m.State { // other kinds, say: nothing for the log
		return
	}
	h.logged[m.Life] = m.State
	level := h.log.Info
	if m.State == members.Joining {
		level = h.log.Debug
	}
	if m.State == members.Suspect || m.State == members.Lost || m.Refused() {
		level = h.log.Warn
	}
	args := []any{"node", m.Name, "state", m.State, "incarnation", m.Incarnation, "life", link.ID(m.Life)}
	if m.Reason != "" {
		args = append(args, "reason", m.Reason)
	}
	level("member", args...)
}

// hello says that this hub is there, and what the last change was.
func (h *authority) hello() { h.broadcast(session.Broadcast{Version: h.roster.Version()}) }

// broadcast publishes to every session. What is lost of it is found missing by the
// next one, and by beats.
func (h *authority) broadcast(b session.Broadcast) {
	b.Hub, b.Term = h.term.ledger, h.term.number
	data, err := json.Marshal(b)
	if err != nil {
		h.log.Error("cannot encode a broadcast", "err", err) // a load that is no number
		return
	}
	_ = h.conn.Publish(session.ViewSubject(h.prefix), data)
}

// view answers what the log has: the changes since the one that was asked for, or all.
func (h *authority) view(q session.ViewRequest) (r session.ViewReply) {
	r.Version = h.roster.Version()
	loaded := func(m *members.Member) {
		if now, ok := h.machine.Member(m.Life); ok && now.Incarnation == m.Incarnation {
			m.Load = now.Load
		}
	}
	if q.Hub == h.term.ledger && q.Since != 0 {
		if r.Changes, r.Partial = h.roster.Since(q.Since); r.Partial {
			for i := range r.Changes {
				loaded(&r.Changes[i].Member)
			}
			return r
		}
	}
	r.Members = h.roster.Members()
	for i := range r.Members {
		loaded(&r.Members[i])
	}
	return r
}
