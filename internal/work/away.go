package work

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/distgear/distgear/internal/fault"
	"github.com/distgear/distgear/internal/link"
	"github.com/distgear/distgear/internal/machine/tasks"
	"github.com/distgear/distgear/internal/payload"
	"github.com/distgear/distgear/internal/room"
	"github.com/distgear/distgear/internal/wire"
	"github.com/distgear/distgear/internal/work/frames"
	"github.com/distgear/distgear/internal/work/values"
)

// KindOf is what a node offers that works for an executor.
func KindOf(name string) string { return "executor:" + name }

// life is a node elsewhere that works for the executor, or did; under Fast.mu.
type life struct {
	f       *Fast
	id      link.ID
	node    string
	version uint64            // of its offers
	benches map[uint64]*bench // by the number that they have there
	asked   bool              // for its offers; the answer comes when they have changed
}

// look finds who has come to work elsewhere.
func (f *Fast) look() {
	if f.room.Links == nil {
		return
	}
	f.mu.Lock()
	for _, m := range f.room.Handling(KindOf(f.name)) {
		id := link.ID(m.Life)
		if id == f.room.Links.ID() {
			continue
		}
		l := f.lives[id]
		if l == nil {
			l = &life{f: f, id: id, node: m.Name, benches: map[uint64]*bench{}}
			f.lives[id] = l
		}
		l.ask()
	}
	f.unlock()
}

// ask asks for the offers that come after those that are known.
func (l *life) ask() {
	if l.asked {
		return
	}
	c := wire.Command{Kind: frames.KindOffer + l.f.name, Input: binary.AppendUvarint(nil, l.version)}
	_, err := l.f.room.Links.Start(l.id, &c, 0, l)
	l.asked = err == nil // else it is asked at the next change of who is a member
}

// Report implements link.Receiver, for offers.
func (l *life) Report(rep wire.Report) {
	f := l.f
	f.mu.Lock()
	defer f.unlock()
	if rep.Late || f.lives[l.id] != l {
		return // it was lost, and is another life for us since
	}
	l.asked = false
	if rep.Outcome == wire.Unknown {
		f.lose(l)
		return
	}
	version, offers, err := frames.ParseOffers(rep.Payload)
	if rep.Outcome != wire.OK || err != nil {
		offers = nil // it leaves: nobody works there now
	}
	f.m.Advance(f.now())
	for number, b := range l.benches {
		if _, ok := offers[number]; !ok {
			// What has not started was given back, and what runs is reported.
			b.offer = nothing()
			f.m.Work(&f.out, b.session, nothing())
		}
	}
	for number, o := range offers {
		b := l.benches[number]
		if b == nil {
			f.session++
			b = &bench{f: f, session: f.session, life: l, prefix: frames.TaskPrefix(f.name, number), kinds: map[string]string{}}
			l.benches[number], f.benches[b.session] = b, b
		}
		b.offer = o
		if !b.stalled {
			f.m.Work(&f.out, b.session, o)
		}
	}
	if rep.Outcome == wire.OK && err == nil {
		l.version = version
		l.ask()
	}
}

// lose takes a life for lost: what it was leased is lost with it.
func (f *Fast) lose(l *life) {
	if f.lives[l.id] != l {
		return
	}
	delete(f.lives, l.id)
	f.m.Advance(f.now())
	for _, b := range l.benches {
		delete(f.benches, b.session)
		f.m.Expire(&f.out, b.session, l.node)
	}
	if f.dropped { // nobody will run it again
		f.drop(fmt.Errorf("%w: a worker was lost while this node ended: %w", fault.ErrUnknown, f.closed))
	}
}

// lease is an attempt at a worker elsewhere.
type lease struct {
	b     *bench
	j     *Job
	lease tasks.Lease
	ref   link.Ref
	sent  bool
	asked bool     // it was recalled
	input wire.Ref // stored for it; the zero Ref: none
}

// send leases a task to a worker elsewhere.
func (b *bench) send(j *Job, l tasks.Lease) {
	f := b.f
	x := &lease{b: b, j: j, lease: l}
	if j.spec.Size > payload.Max { // not encoded here: others wait for the lock
		x.store()
		return
	}
	begin := len(frames.AppendLease(f.scratch[:0], l))
	input, err := j.body.Input(frames.AppendLease(f.scratch[:0], l))
	if err != nil {
		x.fail(fmt.Errorf("%w: input of %s: %w", fault.ErrInvalid, j.spec.Kind, err))
		return
	}
	if len(input)-begin > payload.Max {
		x.store()
		return
	}
	if cap(input) <= 64<<10 {
		f.scratch = input[:0]
	}
	x.start(input)
}

// fail reports that an attempt could not be sent.
func (x *lease) fail(err error) {
	rep := fault.NeverRan(fault.Useless(err), 0)
	x.b.f.reported(x.b, x.j, x.lease, &rep, x.b.f.room.Node, false)
}

// start sends the lease; input begins with its name.
func (x *lease) start(input []byte) {
	b, j, l := x.b, x.j, x.lease
	f := b.f
	kind := b.kinds[j.spec.Kind]
	if kind == "" {
		kind = b.prefix + j.spec.Kind
		b.kinds[j.spec.Kind] = kind
	}
	c := wire.Command{Kind: kind, Key: j.id, Attempt: uint32(j.task.Attempts) + 1, Run: j.spec.Timeout, Input: input}
	var err error
	if x.ref, err = f.room.Links.Start(b.life.id, &c, 0, x); err == nil {
		x.sent, j.away = true, x
		return
	}
	j.away = nil
	x.drop()
	switch {
	case errors.Is(err, link.ErrOverloaded):
		b.stall()
		f.m.GiveBack(&f.out, b.session, []tasks.Lease{l})
	case errors.Is(err, link.ErrOver), errors.Is(err, link.ErrClosed): // its loss is told by itself
		f.m.Work(&f.out, b.session, nothing())
		f.m.GiveBack(&f.out, b.session, []tasks.Lease{l})
	default:
		x.fail(err)
	}
}

// Report implements link.Receiver, for attempts.
func (x *lease) Report(rep wire.Report) {
	f, j := x.b.f, x.j
	f.mu.Lock()
	defer f.unlock()
	x.drop()
	if j.away == x {
		j.away = nil
	}
	switch {
	case rep.Outcome == wire.Unknown:
		f.lose(x.b.life)
		return
	case rep.Late:
		f.dropResult(&rep)
		return
	}
	f.m.Advance(f.now())
	if x.input.Name != "" && rep.Outcome == wire.NeverRan && fault.TraceOf(rep.Error).Is(values.ErrGone) {
		rep = GiveBack() // a hub that keeps its data in memory was started again: it is stored once more
	}
	switch {
	case GivenBack(&rep) && !x.asked: // it takes nothing now, and will say so, or its session has lapsed
		x.b.stall()
	case x.b.stalled:
		x.b.resume()
	}
	if !f.reported(x.b, j, x.lease, &rep, x.b.life.node, false) {
		f.dropResult(&rep)
	}
}

// stallTime is how long a worker is left alone that refused what it was leased.
const stallTime = 50 * time.Millisecond

// stall leases nothing to a worker for a while.
func (b *bench) stall() {
	if b.stalled {
		return
	}
	b.stalled = true
	b.f.m.Work(&b.f.out, b.session, nothing())
	time.AfterFunc(stallTime, func() {
		b.f.mu.Lock()
		defer b.f.unlock()
		if b.stalled && b.f.benches[b.session] == b {
			b.f.m.Advance(b.f.now())
			b.resume()
		}
	})
}

func (b *bench) resume() {
	b.stalled = false
	b.f.m.Work(&b.f.out, b.session, b.offer)
}

// recall asks for the attempt if it has not started, and tells how many tasks it ended.
func (x *lease) recall() int {
	x.asked = true
	if !x.sent { // who stores its input sees that
		x.j.away = nil
		return x.b.f.givenBack(x.b, x.j, x.lease)
	}
	Send(x.b.f.room, x.b.life.id, frames.KindRecall+x.b.f.name, frames.AppendLease(nil, x.lease))
	return 0
}

func (x *lease) cancel() {
	if x.sent {
		x.b.f.room.Links.Cancel(x.b.life.id, x.ref)
	}
}

// Send sends one way, or not at all.
func Send(r *room.Room, to link.ID, kind string, input []byte) {
	now, cancel := context.WithCancel(context.Background())
	cancel() // it must not wait for room
	_ = r.Links.Send(now, to, &wire.Command{Kind: kind, Input: input})
}

// progress takes in how far an attempt elsewhere is.
func (f *Fast) progress(in *link.Inbound) {
	l, rest, err := frames.ParseLease(in.Input)
	done, total, err2 := frames.ParseTwo(rest)
	if err != nil || err2 != nil {
		return
	}
	f.mu.Lock()
	t := f.m.Numbered(l.Number)
	if t != nil && t.Epoch == l.Epoch {
		t.Val.Advance(done, total)
	}
	f.mu.Unlock()
}

var (
	_ link.Receiver = (*life)(nil)
	_ link.Receiver = (*lease)(nil)
)
