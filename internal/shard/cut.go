package shard

import (
	"slices"

	"github.com/distgear/distgear/internal/machine"
	"github.com/distgear/distgear/internal/operation"
)

// Release is what one round tells. Release publishes it.
type Release struct {
	send  func(machine.Session, []byte)
	epoch uint64
	parts []part
	over  []machine.Session
	buf   []byte
}

type part struct {
	to      machine.Session
	stamp   uint64
	applied uint64
	c       chunk
}

// confirmWithin is how long, in ledger ms, it may take until a session hears
// that operations which nobody waits for were applied: well below the time after
// which it would send them again. A frame of its own for each round would be in
// the way of what others wait for.
const confirmWithin = 50

// Cut takes what the entries since the last Cut tell. It is nil when that is
// nothing.
func (s *Shard) Cut() *Release {
	late := 0
	for late < len(s.owing) && (s.owing[late].owed == 0 || s.owing[late].owed+confirmWithin <= s.now) {
		late++
	}
	if len(s.dirty) == 0 && len(s.over) == 0 && late == 0 {
		return nil
	}
	r := &Release{send: s.cfg.Send, epoch: s.epoch, over: s.over}
	s.over = nil
	r.parts = make([]part, 0, len(s.dirty)+late)
	for _, ses := range s.owing[:late] {
		ses.listed = false
		if ses.owed != 0 {
			ses.prompt = true
			s.soil(ses)
		}
	}
	s.owing = slices.Delete(s.owing, 0, late)
	for i, ses := range s.dirty {
		s.dirty[i] = nil
		ses.dirty = false
		p := part{to: ses.id, stamp: ses.stamp, applied: ses.applied}
		chunks := ses.out.unsent()
		if len(chunks) == 0 && !ses.prompt {
			if ses.owed == 0 {
				ses.owed = max(s.now, 1)
				if !ses.listed {
					ses.listed = true
					s.owing = append(s.owing, ses)
				}
			}
			continue
		}
		ses.owed, ses.prompt = 0, false
		if len(chunks) == 0 {
			p.c.first = ses.out.following()
			r.parts = append(r.parts, p)
		}
		for _, p.c = range chunks {
			r.parts = append(r.parts, p)
		}
	}
	s.dirty = s.dirty[:0]
	return r
}

// Release publishes the frames.
func (r *Release) Release() {
	for _, p := range r.parts {
		r.buf = operation.AppendFrame(r.buf[:0], &operation.Frame{Type: operation.FrameOutputs, Epoch: r.epoch, Stamp: p.stamp, Applied: p.applied, First: p.c.first})
		r.buf = append(r.buf, p.c.bytes...)
		r.send(p.to, r.buf)
	}
	for _, id := range r.over {
		r.send(id, operation.AppendFrame(r.buf[:0], &operation.Frame{Type: operation.FrameOver, Epoch: r.epoch}))
	}
}
