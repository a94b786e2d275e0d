// Package stand is where the queues of other processes find the workers of an
// executor at this node, by links.
//
//	leave := stand.Join(r, "render", w) // others' queues may lease tasks to w
//
// # Guarantees
//
// What another process has leased to a worker here ends with that process: once its
// session is over, what has not started is dropped, and what runs is cancelled.
//
// # Failures
//
// A lease that cannot be read is refused; one for a worker that is gone is given back.
package stand

import (
	"context"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/distgear/distgear/internal/fault"
	"github.com/distgear/distgear/internal/link"
	"github.com/distgear/distgear/internal/machine/tasks"
	"github.com/distgear/distgear/internal/payload"
	"github.com/distgear/distgear/internal/room"
	"github.com/distgear/distgear/internal/wire"
	"github.com/distgear/distgear/internal/work"
	"github.com/distgear/distgear/internal/work/frames"
	"github.com/distgear/distgear/internal/work/values"
)

// progressEvery is how often an attempt's progress is sent at most.
const progressEvery = 200 * time.Millisecond

// stand is where the queues of other processes find the workers of one executor
// at this node.
type stand struct {
	room *room.Room
	name string

	mu      sync.Mutex
	workers map[uint64]*work.Worker
	live    map[uint64]bool // lives of members, when that was looked at last
	number  uint64
	version uint64
	polls   []*link.Inbound // they are answered at the next change

	fetching map[*inbound]bool // their inputs are on their way
}

type standKey string

func standOf(r *room.Room, name string) *stand {
	return r.Value(standKey(name), func() any {
		s := &stand{room: r, name: name, workers: map[uint64]*work.Worker{}, version: 1, fetching: map[*inbound]bool{}}
		s.live = s.lives()
		r.SetRaw(frames.KindOffer+name, s.poll)
		r.SetRaw(frames.KindRecall+name, s.recall)
		r.SetRaw("_task", refuse) // of a worker that is gone
		r.Join(s)
		return s
	}).(*stand) //nolint:forcetypeassert // it is ours
}

// refuse gives an attempt back for a worker that is gone.
func refuse(in *link.Inbound) {
	in.Reply(work.GiveBack())
	in.Free()
}

// Join offers a worker of an executor to the queues of other processes, until leave
// is called. A node that is alone has no others.
func Join(r *room.Room, executor string, w *work.Worker) (leave func()) {
	if r.Links == nil {
		return func() {}
	}
	return standOf(r, executor).join(w)
}

func (s *stand) join(w *work.Worker) (leave func()) {
	kinds := w.Offer().Kinds
	s.mu.Lock()
	s.number++
	number := s.number
	s.workers[number] = w
	s.mu.Unlock()
	for _, kind := range kinds {
		s.room.SetRaw(frames.TaskPrefix(s.name, number)+kind, s.serve(w, kind))
	}
	stop := w.OnOffer(s.changed)
	s.changed()
	if s.room.Offer(work.KindOf(s.name), true) {
		s.room.Told()
	}
	return func() {
		stop()
		s.mu.Lock()
		delete(s.workers, number)
		s.mu.Unlock()
		s.changed()
		for _, kind := range kinds {
			s.room.SetRaw(frames.TaskPrefix(s.name, number)+kind, nil)
		}
		if s.room.Offer(work.KindOf(s.name), false) {
			s.room.Told()
		}
	}
}

// serve takes up the attempts of one action.
func (s *stand) serve(w *work.Worker, kind string) func(*link.Inbound) {
	return func(in *link.Inbound) {
		l, input, err := frames.ParseLease(in.Input)
		if err != nil {
			in.Reply(fault.NeverRan(fault.Useless(fmt.Errorf("%w: lease of a task: %w", fault.ErrInvalid, err)), 0))
			in.Free()
			return
		}
		x := &inbound{in: in, stand: s}
		x.Attempt = work.Attempt{
			Context: in.Context, Kind: kind, Number: max(in.Attempt, 1), Timeout: in.Command.Run, From: in.FromName(), Input: input, To: x,
		}
		x.Lease(uint64(in.From()), l)
		x.CommandKey = in.Key
		if ref, ok := values.Ref(input); ok {
			s.fetch(w, x, ref)
		} else if !w.Put(&x.Attempt) {
			refuse(in)
		}
	}
}

// inbound is an attempt for the queue of another process.
type inbound struct {
	work.Attempt

	in    *link.Inbound
	stand *stand
	told  atomic.Int64 // ns since 1970, when progress was sent last
}

// Reported implements Reporter.
func (x *inbound) Reported(_ *work.Attempt, rep *wire.Report) {
	if rep.Outcome == wire.OK && len(rep.Payload) > payload.Max {
		x.stand.room.Hold() // it cannot fail: what reports is held
		x.stand.room.Pool.Go(&storing{x, rep.Payload})
		return
	}
	x.in.Reply(*rep)
	x.in.Free()
}

// Advanced implements Reporter.
func (x *inbound) Advanced(a *work.Attempt, done, total int64) {
	now, last := time.Now().UnixNano(), x.told.Load()
	if now-last < int64(progressEvery) || !x.told.CompareAndSwap(last, now) {
		return
	}
	b := frames.AppendLease(nil, a.Leased())
	b = binary.AppendUvarint(binary.AppendUvarint(b, uint64(max(done, 0))), uint64(max(total, 0)))
	work.Send(x.stand.room, link.ID(a.Origin()), frames.KindProgress+x.stand.name, b)
}

// recall gives an attempt back that has not started.
func (s *stand) recall(in *link.Inbound) {
	l, _, err := frames.ParseLease(in.Input)
	if err != nil {
		return
	}
	s.mu.Lock()
	var a *work.Attempt
	for _, w := range s.workers {
		if a = w.TakeBackOf(uint64(in.From()), l); a != nil {
			break
		}
	}
	s.mu.Unlock()
	if a != nil {
		rep := work.GiveBack()
		a.To.Reported(a, &rep)
	}
}

// poll answers with what is offered, when that is not what the other side knows.
func (s *stand) poll(in *link.Inbound) {
	known, n := binary.Uvarint(in.Input)
	s.mu.Lock()
	if n > 0 && known == s.version {
		s.polls = append(s.polls, in)
		s.mu.Unlock()
		return
	}
	b := s.offersLocked()
	s.mu.Unlock()
	in.Reply(wire.Report{Outcome: wire.OK, Over: true, Payload: b})
}

// changed tells the queues that ask.
func (s *stand) changed() {
	s.mu.Lock()
	s.version++
	polls := s.polls
	s.polls = nil
	var bs [][]byte
	for range polls { // a payload is given away
		bs = append(bs, s.offersLocked())
	}
	s.mu.Unlock()
	for i, in := range polls {
		in.Reply(wire.Report{Outcome: wire.OK, Over: true, Payload: bs[i]})
	}
}

func (s *stand) offersLocked() []byte {
	offers := make(map[uint64]tasks.Offer, len(s.workers))
	for number, w := range s.workers {
		offers[number] = w.Offer()
	}
	return frames.AppendOffers(s.version, offers)
}

// lives are those of this node and the others.
func (s *stand) lives() map[uint64]bool {
	ms := s.room.Live()
	live := make(map[uint64]bool, len(ms))
	for _, m := range ms {
		live[m.Life] = true
	}
	return live
}

// Changed implements room.Guest: nobody wants the results of a life that is over.
func (s *stand) Changed() {
	s.mu.Lock()
	was := s.live
	s.live = s.lives()
	var ws []*work.Worker
	for life := range was {
		if !s.live[life] {
			ws = slices.Collect(maps.Values(s.workers))
			break
		}
	}
	live := s.live
	over := func(a *work.Attempt) bool { return was[a.Origin()] && !live[a.Origin()] }
	for x := range s.fetching {
		if over(&x.Attempt) {
			x.Cancel(context.Canceled)
		}
	}
	s.mu.Unlock()
	for _, w := range ws {
		w.Drop(over)
	}
}

// Leaving implements room.Guest: the node takes no new work.
func (s *stand) Leaving() {
	s.mu.Lock()
	ws := make([]*work.Worker, 0, len(s.workers))
	for _, w := range s.workers {
		ws = append(ws, w)
	}
	s.mu.Unlock()
	for _, w := range ws {
		w.Close()
	}
}

// Left implements room.Guest.
func (s *stand) Left() {
	s.mu.Lock()
	polls := s.polls
	s.polls = nil
	s.mu.Unlock()
	rep := work.GiveBack()
	for _, in := range polls {
		in.Reply(rep)
	}
}

var _ room.Guest = (*stand)(nil)
