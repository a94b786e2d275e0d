package link

import (
	"sync"

	"github.com/distgear/distgear/internal/runner"
	"github.com/distgear/distgear/internal/wire"
)

// receiver is what only receive uses, for one message after the other.
type receiver struct {
	kinds    map[string]string
	kind     string           // the last that was interned
	contexts []runner.Context // not used yet; so are the next
	inbounds []Inbound
	run      []runner.Task
	told     []delivery
}

// delivery is a report on its way to who waits for it.
type delivery struct {
	to  Receiver
	rep wire.Report
}

const (
	// slabSize is how many inbound commands and contexts are allocated at once.
	// Their memory is free when nobody has any of them.
	slabSize = 16
	// atOnce is how many frames are taken in under one lock. Who sends needs
	// that lock too.
	atOnce = 32
)

// intern turns the bytes of a kind into a string without allocating one for
// each command.
func (x *receiver) intern(kind []byte) string {
	if x.kind == string(kind) {
		return x.kind
	}
	s, ok := x.kinds[string(kind)]
	if !ok {
		s = string(kind)
		if len(x.kinds) < 1024 { // a source that makes kinds up gains nothing
			if x.kinds == nil {
				x.kinds = map[string]string{}
			}
			x.kinds[s] = s
		}
	}
	x.kind = s
	return s
}

// fresh returns a new inbound command.
func (x *receiver) fresh() *Inbound {
	if len(x.inbounds) == 0 {
		x.inbounds = make([]Inbound, slabSize)
	}
	in := &x.inbounds[0]
	x.inbounds = x.inbounds[1:]
	return in
}

// fill makes in the command of a frame, and one to run.
func (x *receiver) fill(in *Inbound, b *inbox, f *wire.Frame) {
	if len(x.contexts) == 0 {
		x.contexts = make([]runner.Context, slabSize)
	}
	in.Context, in.box, in.ref = &x.contexts[0], b, Ref{f.Slot, f.Gen}
	x.contexts = x.contexts[1:]
	in.free.Store(false)
	in.Kind, in.Flags, in.Attempt = x.intern(f.Kind), f.Flags, f.Attempt
	in.Start, in.Command.Run, in.Input, in.Key = f.Start, f.Run, f.Input, ""
	in.Owner = f.Owner
	if len(f.Key) > 0 {
		in.Key = string(f.Key)
	}
	x.run = append(x.run, in)
}

// tell hands the reports on.
func (x *receiver) tell() {
	for i := range x.told {
		d := &x.told[i]
		d.to.Report(d.rep)
	}
	clear(x.told)
	x.told = x.told[:0]
}

// receive takes one message apart. It runs on the connection's goroutine, one
// message after the other.
func (e *Endpoint) receive(data []byte) {
	r, err := wire.Read(data)
	if err != nil {
		e.malformed(data)
		return
	}
	x := &e.recv
	src := ID(r.Life)
	o := e.out(src)
	var box *inbox
	var held *sync.Mutex // over frames of one type
	var frames int
	var last wire.Type
	release := func() {
		if held != nil {
			held.Unlock()
			held = nil
		}
		x.tell()
	}
	var f wire.Frame
	for r.Next(&f) {
		if frames++; f.Type != last || frames >= atOnce {
			release()
			frames, last = 0, f.Type
		}
		switch f.Type {
		case wire.TReport:
			if held == nil {
				held = &o.mu
				held.Lock()
			}
			if to, late := o.releaseLocked(Ref{f.Slot, f.Gen}); to != nil {
				f.Report.Late = late
				x.told = append(x.told, delivery{to, f.Report})
			}
			continue
		case wire.TCredit:
			o.credited(f.Gen)
			continue
		case wire.THello:
			o.forgive()
			o.sweep(e.now(), true)
			continue
		}
		if box == nil {
			box = e.box(src, r.Name)
		}
		switch f.Type {
		case wire.TCommand:
			if held == nil {
				held = box.mu
				held.Lock()
			}
			if rep, answer := box.admitLocked(x, &f); answer {
				release()
				box.send(Ref{f.Slot, f.Gen}, &rep)
			}
		case wire.TSend:
			in := x.fresh()
			x.fill(in, box, &f)
			in.OneWay = true
		case wire.TCancel:
			// A command of this very message must be running before it can stop.
			box.cancel(&f)
		case wire.TAsk:
			box.ask(&f)
		}
	}
	release()
	e.cfg.Runner.GoAll(x.run)
	clear(x.run)
	x.run = x.run[:0]
	if r.Err() != nil {
		e.malformed(data)
	}
}

func (e *Endpoint) malformed(data []byte) {
	e.badOnce.Do(func() {
		e.cfg.Logger.Warn("dropped a malformed message; another version or another program writes to this subject (told once)",
			"subject", e.subject(e.cfg.ID), "bytes", len(data))
	})
}
