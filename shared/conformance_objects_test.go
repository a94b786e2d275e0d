package shared_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"

	"github.com/distgear/distgear"
	"github.com/distgear/distgear/geartest/history"
	"github.com/distgear/distgear/shared"
)

// rwLocker is what lockClient uses.
type rwLocker interface {
	Lock(context.Context) (shared.Lease, error)
	TryLock(context.Context) (shared.Lease, bool, error)
	RLock(context.Context) (shared.Lease, error)
	TryRLock(context.Context) (shared.Lease, bool, error)
	Downgrade(shared.Lease) error
}

// plainLocker has no readers.
type plainLocker struct{ *shared.Mutex }

func (plainLocker) RLock(context.Context) (s shared.Lease, err error) { return s, nil }
func (plainLocker) TryRLock(context.Context) (s shared.Lease, ok bool, err error) {
	return s, false, nil
}
func (plainLocker) Downgrade(shared.Lease) error { return nil }

type lockHistory = user[history.LockVerb, history.Grant]

// keep holds something for a moment, then gives it back and records that. If it was lost it is free at some time after the moment when it was certainly held.
func keep[In, Out any](c *user[In, Out], in In, out Out, lost <-chan struct{}, release func() error) error {
	held := c.h.Begin(c.id, in) // it was held when this was recorded
	moments := c.rand.IntN(4)
	if c.day && c.rand.IntN(3) == 0 {
		moments = c.rand.IntN(300)
	}
	for range moments {
		if runtime.Gosched(); c.day {
			moment := time.NewTimer(4 * time.Millisecond)
			select {
			case <-moment.C:
			case <-lost:
			}
		}
		now := c.h.Begin(c.id, in)
		select {
		case <-lost:
			now.Never()
			moments = 0
		default:
			held.Never()
			held = now
		}
		if moments == 0 {
			break
		}
	}
	p := c.h.Begin(c.id, in)
	switch err := release(); {
	case err == nil:
		held.Never()
		p.Done(out)
	case errors.Is(err, shared.ErrSessionLost):
		p.Never()
		held.Unknown()
		c.id += clients // it holds something that nobody knows the end of
	default:
		return err
	}
	return nil
}

// maxHolders is how many clients a model of locks knows.
const maxHolders = 64

func lockClient(open func(n *distgear.Node, name string) rwLocker) func(ctx context.Context, c *lockHistory) error {
	return func(ctx context.Context, c *lockHistory) error {
		l := open(c.Node, c.name)
		_, plain := l.(plainLocker)
		for c.more() && c.id < maxHolders {
			verb, back := history.Lock, history.Unlock
			if !plain && c.rand.IntN(3) > 0 {
				verb, back = history.RLock, history.RUnlock
			}
			p := c.h.Begin(c.id, verb)
			ctx, cancel := c.brief(ctx)
			var s shared.Lease
			var err error
			ok := true
			switch try := c.rand.IntN(4) == 0; {
			case try && verb == history.Lock:
				s, ok, err = l.TryLock(ctx)
			case try:
				s, ok, err = l.TryRLock(ctx)
			case verb == history.Lock:
				s, err = l.Lock(ctx)
			default:
				s, err = l.RLock(ctx)
			}
			cancel()
			if err != nil { // not held
				p.Never()
				if expected(err) != nil {
					return err
				}
				continue
			}
			p.Done(history.Grant{OK: ok, Token: uint64(s.Token())})
			if !ok {
				continue
			}
			lost := s.Lost()
			if !plain && verb == history.Lock && c.rand.IntN(3) == 0 {
				d := c.h.Begin(c.id, history.Downgrade)
				switch err := l.Downgrade(s); {
				case err == nil:
					d.Done(history.Grant{OK: true})
					back = history.RUnlock
				case errors.Is(err, shared.ErrSessionLost):
					d.Never()
				default:
					return err
				}
			}
			if err := keep(c, back, history.Grant{OK: true}, lost, s.Unlock); err != nil {
				return err
			}
		}
		return nil
	}
}

func electionClient(ctx context.Context, c *lockHistory) error {
	e := shared.NewElection(c.Node, c.name)
	for c.more() && c.id < maxHolders {
		p := c.h.Begin(c.id, history.Lock)
		ctx, cancel := c.brief(ctx)
		var lead shared.Leadership
		var err error
		ok := true
		if c.rand.IntN(4) == 0 {
			lead, ok, err = e.TryCampaign(ctx, "x")
		} else {
			lead, err = e.Campaign(ctx, "x")
		}
		cancel()
		if err != nil {
			p.Never()
			if expected(err) != nil {
				return err
			}
			continue
		}
		p.Done(history.Grant{OK: ok, Token: uint64(lead.Token())})
		if !ok {
			continue
		}
		if err := keep(c, history.Unlock, history.Grant{OK: true}, lead.Lost(), lead.Resign); err != nil {
			return err
		}
	}
	return nil
}

// permits is the size of the semaphores.
const permits = 4

func semaphoreClient(ctx context.Context, c *user[history.PermitsIn, bool]) error {
	s := shared.NewSemaphore(c.Node, c.name, permits)
	for c.more() {
		k := 1 + c.rand.IntN(permits)
		p := c.h.Begin(c.id, history.PermitsIn{K: k})
		ctx, cancel := c.brief(ctx)
		var held shared.Permits
		var err error
		ok := true
		if c.rand.IntN(4) == 0 {
			held, ok, err = s.TryAcquire(ctx, k)
		} else {
			held, err = s.Acquire(ctx, k)
		}
		cancel()
		if err != nil {
			p.Never()
			if expected(err) != nil {
				return err
			}
			continue
		}
		p.Done(ok)
		if !ok {
			continue
		}
		if err := keep(c, history.PermitsIn{K: k, Release: true}, true, held.Lost(), held.Release); err != nil {
			return err
		}
	}
	return nil
}

// Tokens grow from grant to grant, also where several hold at once.
func tokenClient(ctx context.Context, c *user[struct{}, uint64]) error {
	s := shared.NewSemaphore(c.Node, c.name, permits)
	for c.more() {
		p := c.h.Begin(c.id, struct{}{})
		ctx, cancel := c.brief(ctx)
		held, err := s.Acquire(ctx, 1)
		cancel()
		if err != nil {
			p.Never()
			if expected(err) != nil {
				return err
			}
			continue
		}
		p.Done(uint64(held.Token()))
		if err := held.Release(); expected(err) != nil {
			return err
		}
	}
	return nil
}

func counterClient(ctx context.Context, c *user[history.RegisterIn, history.Value]) error {
	n := shared.NewCounter(c.Node, c.name)
	for c.more() {
		in := history.RegisterIn{Verb: []history.RegisterVerb{history.Load, history.Store, history.Add, history.CompareAndSet}[c.rand.IntN(4)],
			A: c.rand.Int64N(5), B: c.rand.Int64N(5)}
		if err := c.call(in, func() (v history.Value, err error) {
			switch in.Verb {
			case history.Load:
				v.V, err = n.Load(ctx)
			case history.Store:
				err = n.Store(ctx, in.A)
			case history.Add:
				v.V, err = n.Add(ctx, in.A)
			default:
				v.OK, err = n.CompareAndSet(ctx, in.A, in.B)
			}
			return v, err
		}); err != nil {
			return err
		}
	}
	return nil
}

// Sums are unique numbers.
func idClient(ctx context.Context, c *user[struct{}, uint64]) error {
	n := shared.NewCounter(c.Node, c.name)
	for c.more() {
		if err := c.call(struct{}{}, func() (uint64, error) { v, err := n.Add(ctx, 1); return uint64(v), err }); err != nil {
			return err
		}
	}
	return nil
}

func mapClient(ctx context.Context, c *user[history.RegisterIn, history.Value]) error {
	m := shared.NewMap[string, int64](c.Node, c.name)
	verbs := []history.RegisterVerb{history.Load, history.Store, history.Add, history.CompareAndSet, history.Delete, history.LoadOrStore}
	for c.more() {
		in := history.RegisterIn{Key: fmt.Sprint("k", c.rand.IntN(3)), Verb: verbs[c.rand.IntN(len(verbs))]}
		in.A = 1 + int64(c.id)<<40 + c.rand.Int64N(1<<30)<<8 // mostly a value of its own, so that a revision means a value
		var rev shared.Revision
		if in.Verb == history.CompareAndSet {
			was := history.RegisterIn{Key: in.Key, Verb: history.Load}
			if err := c.call(was, func() (v history.Value, err error) {
				v.V, rev, err = m.LoadLatest(ctx, in.Key)
				v.OK = rev != 0
				in.A, in.B = v.V, in.A
				return v, err
			}); err != nil {
				return err
			}
			if rev == 0 {
				continue
			}
		}
		if err := c.call(in, func() (v history.Value, err error) {
			switch in.Verb {
			case history.Load:
				v.V, rev, err = m.LoadLatest(ctx, in.Key)
				v.OK = rev != 0
			case history.Store:
				err = m.Store(ctx, in.Key, in.A)
			case history.Add:
				v.V, v.OK, err = m.Compute(ctx, in.Key, func(old int64, _ bool) (int64, bool) { return old + in.A, true })
			case history.CompareAndSet:
				_, v.OK, err = m.CompareAndSwap(ctx, in.Key, rev, in.B)
			case history.Delete:
				v.OK, err = m.Delete(ctx, in.Key)
			default:
				v.V, v.OK, err = m.LoadOrStore(ctx, in.Key, in.A)
			}
			return v, err
		}); err != nil {
			return err
		}
	}
	return nil
}

// A set is a map of which only the keys count.
func setClient(ctx context.Context, c *user[history.RegisterIn, history.Value]) error {
	m := shared.NewMap[int, struct{}](c.Node, c.name)
	for c.more() {
		k := c.rand.IntN(4)
		in := history.RegisterIn{Key: fmt.Sprint(k), Verb: []history.RegisterVerb{history.Load, history.Delete, history.LoadOrStore}[c.rand.IntN(3)]}
		if err := c.call(in, func() (v history.Value, err error) {
			switch in.Verb {
			case history.Load:
				var rev shared.Revision
				_, rev, err = m.LoadLatest(ctx, k)
				v.OK = rev != 0
			case history.Delete:
				v.OK, err = m.Delete(ctx, k)
			default:
				_, v.OK, err = m.LoadOrStore(ctx, k, struct{}{})
			}
			return v, err
		}); err != nil {
			return err
		}
	}
	return nil
}

// queueSize is the capacity of the queues that are not tiny.
const queueSize = 3

func queueClient(size int) func(ctx context.Context, c *user[history.QueueIn, history.Value]) error {
	return func(ctx context.Context, c *user[history.QueueIn, history.Value]) error {
		qs := []*shared.Queue[int64]{shared.NewQueue[int64](c.Node, c.name, size), shared.NewQueue[int64](c.Node, c.name+" second", size)}
		verbs := []history.QueueVerb{history.Put, history.Put, history.Put, history.Take, history.Take, history.Peek, history.Len, history.Transfer}
		for c.more() {
			in := history.QueueIn{Verb: verbs[c.rand.IntN(len(verbs))], V: int64(c.id)<<32 + int64(c.left)}
			q := qs[0]
			if in.Verb != history.Transfer && c.rand.IntN(3) == 0 {
				in.Second, q = true, qs[1]
			}
			wait := in.Verb == history.Transfer || c.rand.IntN(2) == 0 && (in.Verb == history.Put || in.Verb == history.Take)
			ctx, cancel := ctx, context.CancelFunc(func() {})
			if wait {
				ctx, cancel = c.brief(ctx)
			}
			var v history.Value
			var err error
			p := c.h.Begin(c.id, in)
			switch in.Verb {
			case history.Put:
				if v.OK = true; wait {
					err = q.Put(ctx, in.V)
				} else {
					v.OK, err = q.Offer(ctx, in.V)
				}
			case history.Take:
				if v.OK = true; wait {
					v.V, err = q.Take(ctx)
				} else {
					v.V, v.OK, err = q.Poll(ctx)
				}
			case history.Peek:
				v.V, v.OK, err = q.Peek(ctx)
			case history.Len:
				var n int
				n, err = q.Len(ctx)
				v.V = int64(n)
			default:
				v.OK = true
				v.V, err = q.Transfer(ctx, qs[1])
			}
			cancel()
			switch {
			case err == nil:
				p.Done(v)
			case wait && errors.Is(err, context.DeadlineExceeded):
				p.Never() // as Queue says
			case errors.Is(err, shared.ErrSessionLost):
				p.Unknown()
			default:
				return err
			}
		}
		return nil
	}
}

// latchIDs is how many ids open a latch.
const latchIDs = 12

func latchClient(ctx context.Context, c *user[history.LatchIn, int]) error {
	l := shared.NewLatch(c.Node, c.name, latchIDs)
	for c.more() {
		in := history.LatchIn{ID: c.rand.IntN(latchIDs), Wait: c.rand.IntN(4) == 0}
		if in.Wait { // which changes nothing
			p := c.h.Begin(c.id, in)
			ctx, cancel := c.brief(ctx)
			err := l.Wait(ctx)
			cancel()
			if err == nil {
				p.Done(0)
			} else if p.Never(); expected(err) != nil {
				return err
			}
			continue
		}
		first, began := c.h.Begin(c.id, in), time.Now()
		if err := c.call(in, func() (int, error) { return l.CountDown(ctx, fmt.Sprint(in.ID)) }); err != nil {
			return err
		}
		if time.Since(began) < 100*time.Millisecond {
			first.Never()
		} // else it may have been counted in a session that was lost, and again in the next one, which answered
	}
	return nil
}

func barrierClient(ctx context.Context, c *user[struct{}, history.Arrival]) error {
	b := shared.NewBarrier(c.Node, c.name, clients)
	for c.more() {
		p := c.h.Begin(c.id, struct{}{})
		ctx, cancel := context.WithTimeout(ctx, time.Second) // when the day is over some do not come any more
		g, i, err := b.Await(ctx)
		cancel()
		switch {
		case err == nil:
			p.Done(history.Arrival{Generation: g, Index: i})
			continue
		case errors.Is(err, shared.ErrBroken), errors.Is(err, context.DeadlineExceeded): // the latter while there was no session to ask in
			p.Never()
			return nil
		case errors.Is(err, shared.ErrSessionLost):
			p.Unknown()
			return nil
		}
		return err
	}
	return nil
}
