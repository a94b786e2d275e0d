package work

import (
	"encoding/binary"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/distgear/distgear/internal/fault"
	"github.com/distgear/distgear/internal/link"
	"github.com/distgear/distgear/internal/machine/tasks"
	"github.com/distgear/distgear/internal/room"
	"github.com/distgear/distgear/internal/runner"
	"github.com/distgear/distgear/internal/wire"
	"github.com/distgear/distgear/internal/work/frames"
)

// progressEvery is how often an attempt's progress is sent at most.
const progressEvery = 200 * time.Millisecond

// stand is where the queues of other processes find the workers of one executor
// at this node.
type stand struct {
	room *room.Room
	name string

	mu      sync.Mutex
	workers map[uint64]*Worker
	number  uint64
	version uint64
	polls   []*link.Inbound // they are answered at the next change
}

type standKey string

func standOf(r *room.Room, name string) *stand {
	return r.Value(standKey(name), func() any {
		s := &stand{room: r, name: name, workers: map[uint64]*Worker{}, version: 1}
		r.SetRaw(kindOffer+name, s.poll)
		r.SetRaw(kindRecall+name, s.recall)
		r.SetRaw("_task", refuse) // of a worker that is gone
		r.Join(s)
		return s
	}).(*stand) //nolint:forcetypeassert // it is ours
}

// refuse gives an attempt back for a worker that is gone.
func refuse(in *link.Inbound) {
	in.Reply(giveBack())
	in.Free()
}

func taskPrefix(name string, number uint64) string {
	return fmt.Sprintf("%s%s:%d:", kindTask, name, number)
}

// join offers a worker to the queues of other processes, until leave is called.
func (s *stand) join(w *Worker) (leave func()) {
	s.mu.Lock()
	s.number++
	number := s.number
	s.workers[number] = w
	s.mu.Unlock()
	for kind := range w.actions {
		s.room.SetRaw(taskPrefix(s.name, number)+kind, s.serve(w, kind))
	}
	stop := w.OnOffer(s.changed)
	s.changed()
	if s.room.Offer(KindOf(s.name), true) {
		s.room.Told()
	}
	return func() {
		stop()
		s.mu.Lock()
		delete(s.workers, number)
		s.mu.Unlock()
		s.changed()
		for kind := range w.actions {
			s.room.SetRaw(taskPrefix(s.name, number)+kind, nil)
		}
		if s.room.Offer(KindOf(s.name), false) {
			s.room.Told()
		}
	}
}

// serve takes up the attempts of one action.
func (s *stand) serve(w *Worker, kind string) func(*link.Inbound) {
	return func(in *link.Inbound) {
		l, input, err := frames.ParseLease(in.Input)
		if err != nil {
			in.Reply(fault.NeverRan(fault.Useless(fmt.Errorf("%w: lease of a task: %w", fault.ErrInvalid, err)), 0))
			in.Free()
			return
		}
		x := &inbound{in: in, stand: s}
		x.Attempt = Attempt{
			Context: in.Context, Kind: kind, Number: max(in.Attempt, 1), Timeout: in.Command.Run, From: in.FromName(), Input: input, To: x,
			name: name{uint64(in.From()), l.Number}, epoch: l.Epoch,
		}
		x.CommandKey = in.Key
		if !w.Put(&x.Attempt) {
			refuse(in)
		}
	}
}

// inbound is an attempt for the queue of another process.
type inbound struct {
	Attempt

	in    *link.Inbound
	stand *stand
	told  atomic.Int64 // ns since 1970, when progress was sent last
}

// Reported implements Reporter.
func (x *inbound) Reported(_ *Attempt, rep *wire.Report) {
	x.in.Reply(*rep)
	x.in.Free()
}

// Advanced implements Reporter.
func (x *inbound) Advanced(a *Attempt, done, total int64) {
	now, last := time.Now().UnixNano(), x.told.Load()
	if now-last < int64(progressEvery) || !x.told.CompareAndSwap(last, now) {
		return
	}
	b := frames.AppendLease(nil, tasks.Lease{Number: a.name.number, Epoch: a.epoch})
	b = binary.AppendUvarint(binary.AppendUvarint(b, uint64(max(done, 0))), uint64(max(total, 0)))
	send(x.stand.room, link.ID(a.name.origin), kindProgress+x.stand.name, b)
}

// recall gives an attempt back that has not started.
func (s *stand) recall(in *link.Inbound) {
	l, _, err := frames.ParseLease(in.Input)
	if err != nil {
		return
	}
	s.mu.Lock()
	var a *Attempt
	for _, w := range s.workers {
		if a = w.takeBackNumber(uint64(in.From()), l.Number, l.Epoch); a != nil {
			break
		}
	}
	s.mu.Unlock()
	if a != nil {
		rep := giveBack()
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

// Changed implements room.Guest.
func (s *stand) Changed() {}

// Leaving implements room.Guest: the node takes no new work.
func (s *stand) Leaving() {
	s.mu.Lock()
	ws := make([]*Worker, 0, len(s.workers))
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
	rep := giveBack()
	for _, in := range polls {
		in.Reply(rep)
	}
}

var (
	_ room.Guest  = (*stand)(nil)
	_ runner.Task = (*Worker)(nil)
)
