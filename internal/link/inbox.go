package link

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/distgear/distgear/internal/runner"
	"github.com/distgear/distgear/internal/wire"
)

// state of an inbound slot.
type state uint8

const (
	empty     state = iota
	running         // the command was admitted and has no outcome yet
	done            // rep holds the outcome
	forgotten       // it had an outcome, too long ago
)

// Copied is the size up to which results are copied by Reply, into space that
// the commands of a slot use one after the other.
const Copied = 256

// inSlot is the place of a command and its outcome. What rep points to changes
// only after a command of a later generation was admitted, by receive, which is
// who reads it too when it answers.
type inSlot struct {
	gen   uint64
	state state
	at    int64 // ns since 1970 when it was done
	in    *Inbound
	spare *Inbound    // of the command before, to be used again once it is free
	rep   wire.Report // while the command runs its payload is spare space
}

// inbox is what came from one source.
type inbox struct {
	e    *Endpoint
	id   ID
	name string
	back *out

	mu    *sync.Mutex // that of back
	slots []inSlot
	sends uint64 // the last send taken up
	told  uint64 // as last told to the source
}

// Inbound is a command that arrived. Its context is apart: a handler may have
// given it to others, who keep it for longer than the command lasts.
type Inbound struct {
	*runner.Context
	wire.Command
	OneWay bool

	box  *inbox
	ref  Ref
	free atomic.Bool
}

// From is the endpoint that it came from.
func (in *Inbound) From() ID { return in.box.id }

// FromName is the name of that endpoint.
func (in *Inbound) FromName() string { return in.box.name }

// Run implements runner.Task.
func (in *Inbound) Run() {
	if in.OneWay {
		in.box.tookUp(in.ref.gen)
	}
	in.box.e.cfg.Serve(in)
}

// Reply reports the outcome; it must be called once. A payload of more than
// Copied bytes belongs to the link from then on.
func (in *Inbound) Reply(r wire.Report) {
	if in.OneWay {
		return
	}
	b := in.box
	if n := reportSize(&r); n > maxBatch { // the smaller ones save MaxPayload's lock
		if n > b.e.cfg.Conn.MaxPayload()-512 {
			r = wire.Report{Outcome: wire.Dirty, Error: &wire.Error{Message: "the result is larger than a message may be"}}
		}
	}
	b.mu.Lock()
	s := &b.slots[in.ref.slot]
	if s.gen != in.ref.gen || s.state != running {
		b.mu.Unlock()
		return // the source gave up waiting long ago and has used the slot again
	}
	own := s.rep.Payload
	s.state, s.in, s.spare, s.rep, s.at = done, nil, in, r, b.e.now()
	if len(r.Payload) <= Copied {
		s.rep.Payload = append(own[:0], r.Payload...)
	}
	b.sendLocked(in.ref, &r)
}

// Free lets in be used for the next command of its slot: nothing of it may be
// used any more but its context. Who does not call it leaves it to the garbage
// collector.
func (in *Inbound) Free() {
	in.Context, in.Command, in.box = nil, wire.Command{}, nil // what it points to is not kept
	in.free.Store(true)
}

func (b *inbox) send(ref Ref, r *wire.Report) {
	b.mu.Lock()
	b.sendLocked(ref, r)
}

// sendLocked unlocks.
func (b *inbox) sendLocked(ref Ref, r *wire.Report) {
	o := b.back
	size := reportSize(r)
	o.reserve(size)
	n := len(o.buf)
	o.buf = wire.AppendReport(o.buf, ref.slot, ref.gen, r)
	o.bytes += len(o.buf) - n // beyond the limit too: bounded by the source's slots
	o.kickLocked()
}

func reportSize(r *wire.Report) int {
	n := 64 + len(r.Payload)
	if r.Error != nil {
		n += 64 + len(r.Error.Message) + len(r.Error.Stack)
		for _, s := range r.Error.Chain {
			n += 8 + len(s)
		}
	}
	return n
}

// admitLocked takes a command in. A resent one is to be answered if it has an
// outcome.
func (b *inbox) admitLocked(x *receiver, f *wire.Frame) (rep wire.Report, answer bool) {
	s := b.slot(f.Slot)
	if s == nil || f.Gen < s.gen {
		return rep, false
	}
	if f.Gen == s.gen {
		return s.rep, s.state == done
	}
	in := s.spare
	if in == nil || !in.free.Load() {
		in = x.fresh()
	}
	x.fill(in, b, f)
	own := s.rep.Payload[:0]
	if cap(own) > Copied {
		own = nil
	}
	*s = inSlot{gen: f.Gen, state: running, in: in, rep: wire.Report{Payload: own}}
	return rep, false
}

// slot grows the table up to what a source may use; nil beyond that.
func (b *inbox) slot(i uint32) *inSlot {
	if i >= Slots {
		return nil
	}
	for int(i) >= len(b.slots) {
		b.slots = append(b.slots, inSlot{})
	}
	return &b.slots[i]
}

// ask answers for a slot: its outcome, nothing while it runs, and that it
// never ran when it never arrived; from then on it is refused.
func (b *inbox) ask(f *wire.Frame) {
	b.mu.Lock()
	s := b.slot(f.Slot)
	if s == nil || f.Gen < s.gen || f.Gen == s.gen && s.state == running {
		b.mu.Unlock()
		return
	}
	if f.Gen > s.gen {
		b.refuseLocked(s, f.Gen)
	}
	rep := s.rep
	if s.state == forgotten {
		rep = wire.Report{}
	}
	b.mu.Unlock()
	b.send(Ref{f.Slot, f.Gen}, &rep)
}

func (b *inbox) refuseLocked(s *inSlot, gen uint64) {
	*s = inSlot{gen: gen, state: done, at: b.e.now(), rep: wire.Report{
		Outcome: wire.NeverRan, Error: &wire.Error{Message: "the command did not arrive"}}}
}

func (b *inbox) cancel(f *wire.Frame) {
	b.mu.Lock()
	s := b.slot(f.Slot)
	if s == nil || f.Gen < s.gen {
		b.mu.Unlock()
		return
	}
	if f.Gen > s.gen { // it was lost on the way; and now it shall not come
		b.refuseLocked(s, f.Gen)
		rep := s.rep
		b.mu.Unlock()
		b.send(Ref{f.Slot, f.Gen}, &rep)
		return
	}
	var ctx *runner.Context // not s.in, which may be another command once it is unlocked
	if s.in != nil {
		ctx = s.in.Context
	}
	b.mu.Unlock()
	if ctx != nil {
		ctx.Cancel(context.Canceled)
	}
}

// cancelRunning cancels the commands that run now and for which pick says so.
func (b *inbox) cancelRunning(pick func(*Inbound) bool) {
	b.mu.Lock()
	var ctxs []*runner.Context
	for i := range b.slots {
		if s := &b.slots[i]; s.state == running && pick(s.in) {
			ctxs = append(ctxs, s.in.Context)
		}
	}
	b.mu.Unlock()
	for _, c := range ctxs {
		c.Cancel(context.Canceled)
	}
}

// sweep forgets results that were surely received, or that nobody asked for.
func (b *inbox) sweep(now int64) {
	b.mu.Lock()
	for i := range b.slots {
		s := &b.slots[i]
		if s.state != done {
			continue
		}
		age := time.Duration(now - s.at)
		if age > forget || age > forgetPayload && len(s.rep.Payload) > 0 {
			s.state, s.spare, s.rep = forgotten, nil, wire.Report{}
		}
	}
	b.mu.Unlock()
}

// tookUp notes that a send starts, and tells the source in time.
func (b *inbox) tookUp(number uint64) {
	b.mu.Lock()
	b.sends = max(b.sends, number)
	n := b.sends
	tell := n-b.told >= window/4
	if tell {
		b.told = n
	}
	b.mu.Unlock()
	if tell {
		b.back.append(16, func(p []byte) []byte { return wire.AppendCredit(p, n) })
	}
}
