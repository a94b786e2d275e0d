package client

import (
	"fmt"
	"time"

	"github.com/distgear/distgear/internal/machine"
	"github.com/distgear/distgear/internal/operation"
)

// keeper renews, sends again what was not confirmed, and ends a session whose
// lease lapsed.
func (c *Client) keeper() {
	_ = c.begin() // without a connection: in a moment
	step := max(min(c.cfg.TTL/20, 100*time.Millisecond), 5*time.Millisecond)
	t := time.NewTicker(step)
	defer t.Stop()
	for {
		select {
		case <-t.C:
		case <-c.quit:
			return
		}
		c.mu.Lock()
		l, now := c.life, c.ms()
		if l == nil || l.lost {
			c.mu.Unlock()
			if c.begin() == nil && l != nil { // without a connection: the next time
				l.stop()
			}
			continue
		}
		lapsed := now >= l.lease
		every := c.cfg.TTL.Milliseconds() / 5
		if c.busy > 0 {
			every = min(every, busyEvery.Milliseconds())
		}
		if now-l.spoke >= every || !l.open && now-l.spoke >= resend.Milliseconds() {
			l.renew = true
		}
		if len(l.pending) > 0 && l.sent == len(l.pending) && now-l.stuck >= resend.Milliseconds()<<l.tries {
			l.again()
			l.stuck, l.tries = now, min(l.tries+1, 3) // of a hub that cannot store, say: more of the same does not help
		}
		if l.got < l.known && now-l.asked >= resend.Milliseconds() { // what we asked for, or the answer, was lost
			l.ask, l.asked = true, now
		}
		kick := l.renew || l.ask || l.sent < len(l.pending)
		over := c.bury(l, now)
		c.mu.Unlock()
		for _, id := range over {
			c.end(id)
		}
		switch {
		case lapsed:
			c.lose(l, "nothing was heard from the hub for too long", false)
		case kick:
			c.wake()
		}
	}
}

// busyEvery is how often a session is renewed that works for others.
const busyEvery = 400 * time.Millisecond

// Busy says (+1) that the session works for others, who are not to wait for as
// long as its time-to-live when it is silent: it is renewed at least twice a
// second. -1: it does no more.
func (c *Client) Busy(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.busy += n
}

// Reconnected says that messages may have been lost.
func (c *Client) Reconnected() {
	c.mu.Lock()
	if l := c.life; l != nil {
		l.again()
		l.ask = l.open
		l.renew = true
	}
	c.mu.Unlock()
	c.wake()
}

// past is a session that lapsed. What it held stays held at the hub until its
// whole time-to-live is over, so that whoever uses it can stop; then the hub
// is told, which may know it for longer: it may be a new one.
type past struct {
	id machine.Session
	at int64 // ms after start, when the hub may be told
}

// bury takes the sessions that the hub may be told of now.
func (c *Client) bury(l *life, now int64) (over []machine.Session) {
	for l.open && len(c.past) > 0 && now >= c.past[0].at {
		over = append(over, c.past[0].id)
		c.past = c.past[1:]
	}
	return over
}

// lose ends a session. The keeper begins another. over tells that the hub has
// ended it.
func (c *Client) lose(l *life, why string, over bool) {
	c.dmu.Lock()
	defer c.dmu.Unlock()
	c.mu.Lock()
	if l.lost || c.life != l {
		c.mu.Unlock()
		return
	}
	l.lost = true
	wait := l.wait
	c.loss = c.unconfirmed(l)
	l.wait, l.pending, l.sent, l.bytes = nil, nil, 0, 0
	had := l.open
	if had {
		c.opened = make(chan struct{})
	}
	if !over {
		c.past = append(c.past, past{l.id, c.ms() + c.cfg.TTL.Milliseconds()/8})
	}
	c.mu.Unlock()
	if had {
		c.cfg.Logger.Warn("the session with the ledger is lost: "+why, "session", uint64(l.id), "unconfirmed", len(wait))
		c.lostObjects()
	}
	for _, r := range wait {
		r.Lost()
	}
}

// Loss is a session that was lost, and what became of no one knows what.
type Loss struct {
	Session     machine.Session
	Unconfirmed []string // operations that were not confirmed, oldest first, as "counter add of \"n\""; at most MaxLoss
	More        int      // how many there are besides
}

// MaxLoss is how many operations a Loss names.
const MaxLoss = 64

// Loss is the last session that was lost; zero before the first.
func (c *Client) Loss() Loss {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.loss
}

// unconfirmed names what a session has sent, or was about to, and has not been
// told that it was applied. It is called with mu held.
func (c *Client) unconfirmed(l *life) Loss {
	loss := Loss{Session: l.id}
	var op operation.Op
	for i := range l.pending {
		b := &l.pending[i]
		e := operation.Batch(b.ops)
		for n := b.first; e.Next(&op); n++ {
			switch {
			case n <= l.applied, op.Verb == operation.VOpen, op.Verb == operation.VAbandon, op.Verb == operation.VClose: // they change nothing that is shared
			case len(loss.Unconfirmed) < MaxLoss:
				loss.Unconfirmed = append(loss.Unconfirmed, fmt.Sprintf("%v of %q", op.Verb, c.nameOf(op.Handle)))
			default:
				loss.More++
			}
		}
	}
	return loss
}

func (c *Client) nameOf(handle uint64) string {
	c.omu.Lock()
	defer c.omu.Unlock()
	if handle == 0 || handle > uint64(len(c.objects)) || c.objects[handle-1] == nil {
		return ""
	}
	return c.objects[handle-1].name
}

// end tells the ledger that a session is over: what it holds is free at once,
// and not only after its TTL.
func (c *Client) end(id machine.Session) {
	_ = c.cfg.Conn.Publish(EntrySubject(c.cfg.Prefix), operation.AppendEntry(nil, &operation.Entry{Type: operation.EntryExpire, Session: id}))
}

// Close ends the session: what it holds is free. Receivers that wait are told
// that it is lost.
func (c *Client) Close() {
	if c.alone != nil {
		c.alone.close(c)
		return
	}
	c.mu.Lock()
	closed := c.closed
	c.closed = true
	c.mu.Unlock()
	if closed {
		return
	}
	close(c.quit)
	c.wg.Wait()
	c.dmu.Lock()
	defer c.dmu.Unlock()
	c.mu.Lock()
	l := c.life
	if l == nil || l.lost {
		c.mu.Unlock()
		return
	}
	l.lost = true
	wait := l.wait
	l.wait = nil
	c.mu.Unlock()
	l.stop()
	c.lostObjects()
	for _, r := range wait {
		r.Lost()
	}
	c.end(l.id) // when everybody knows
}
