package collections

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/distgear/distgear"
	"github.com/distgear/distgear/internal/client"
	"github.com/distgear/distgear/internal/machine"
	"github.com/distgear/distgear/internal/machine/queues"
	"github.com/distgear/distgear/internal/objects"
	"github.com/distgear/distgear/internal/operation"
)

// aloneQueue is the queue of a process that is alone: the machine of package queues
// with items as they are.
type aloneQueue[T any] struct {
	s       *Queue[T]
	numbers *queueNumbers
	id      machine.Session // of two queues the one with the lower is locked first

	mu     sync.Mutex
	open   bool // the name is this queue's
	closed bool
	m      queues.Queue[T]
	out    machine.Out[T]
	req    uint64
	waits  map[uint64]*queueWait[T] // by request
}

// queueWait is a goroutine that waits.
type queueWait[T any] struct {
	code machine.Code // 0: the node left
	v    T
	told chan struct{} // 1: whoever tells does not wait
}

// queueNumbers are what the queues of a node that is alone have in common.
type queueNumbers struct {
	queues    atomic.Uint64
	transfers atomic.Uint64 // requests of Transfers, which two queues know: apart from those of one
}

func newAloneQueue[T any](s *Queue[T], numbers *queueNumbers) *aloneQueue[T] {
	return &aloneQueue[T]{s: s, numbers: numbers, id: machine.Session(numbers.queues.Add(1)), waits: map[uint64]*queueWait[T]{}}
}

// lock locks mu, with the name ours.
func (a *aloneQueue[T]) lock(ctx context.Context, what string) error {
	for {
		a.mu.Lock()
		switch {
		case a.closed:
			a.mu.Unlock()
			return distgear.ErrLeft
		case a.open:
			return nil
		}
		a.mu.Unlock()
		obj := a.s.Object()
		if _, err := obj.Open(ctx); err != nil {
			return a.s.Fault(what, err)
		}
		a.mu.Lock()
		a.open = !obj.Gone()
		a.mu.Unlock()
	}
}

// ask is who asks now: each queue is a session, and Transfers, which two queues
// know, are session 0.
func (a *aloneQueue[T]) ask() machine.Who {
	a.req++
	return machine.Who{Session: a.id, Req: a.req}
}

// tell tells who waits here, with mu held.
func (a *aloneQueue[T]) tell(e *machine.Effect[T]) {
	if len(a.waits) == 0 || e.To.Session != a.id && e.To.Session != 0 {
		return
	}
	if w := a.waits[e.To.Req]; w != nil {
		delete(a.waits, e.To.Req)
		w.code, w.v = e.Code, e.Val
		w.told <- struct{}{}
	}
}

// first is the answer to who, if there is one yet; others are told.
func (a *aloneQueue[T]) first(who machine.Who) (code machine.Code, v T) {
	for i := range a.out.Effects {
		e := &a.out.Effects[i]
		if i == 0 && e.To == who {
			code, v = e.Code, e.Val
		} else {
			a.tell(e)
		}
	}
	a.out.Reset()
	return code, v
}

// wait waits for the answer to who; it is called with mu held, and unlocks it.
func (a *aloneQueue[T]) wait(ctx context.Context, who machine.Who, what string) (v T, code machine.Code, err error) {
	w := &queueWait[T]{told: make(chan struct{}, 1)}
	a.waits[who.Req] = w
	a.mu.Unlock()
	select {
	case <-w.told:
	case <-ctx.Done():
		if a.abandon(who) {
			return v, 0, context.Cause(ctx)
		}
		<-w.told
	}
	switch w.code {
	case 0:
		return v, 0, distgear.ErrLeft
	case machine.Gone:
		return v, 0, a.s.Fault(what, client.ErrGone)
	default:
		return w.v, w.code, nil
	}
}

// abandon takes a wait back; false: its answer came before.
func (a *aloneQueue[T]) abandon(who machine.Who) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.m.Abandon(&a.out, who)
	back := len(a.out.Effects) > 0
	a.out.Reset()
	if back {
		delete(a.waits, who.Req)
	}
	return back
}

func (a *aloneQueue[T]) put(ctx context.Context, item T, wait bool) (bool, error) {
	if err := a.lock(ctx, "put"); err != nil {
		return false, err
	}
	who := a.ask()
	a.m.Put(&a.out, who, item, a.s.bound, wait)
	code, _ := a.first(who)
	if code != 0 || !wait {
		a.mu.Unlock()
		return a.s.outcome(code, wait)
	}
	_, code, err := a.wait(ctx, who, "put")
	if err != nil {
		return false, err
	}
	return a.s.outcome(code, wait)
}

func (a *aloneQueue[T]) take(ctx context.Context, wait bool) (v T, ok bool, err error) {
	if err := a.lock(ctx, "take"); err != nil {
		return v, false, err
	}
	who := a.ask()
	a.m.Take(&a.out, who, 1, wait)
	code, v := a.first(who)
	if code != 0 {
		a.mu.Unlock()
		return v, code == machine.OK, nil
	}
	v, code, err = a.wait(ctx, who, "take")
	return v, code == machine.OK, err
}

// takeSome takes at least one item, or with wait waits for one.
func (a *aloneQueue[T]) takeSome(ctx context.Context, most int, wait bool) ([]T, error) {
	if err := a.lock(ctx, "take"); err != nil {
		return nil, err
	}
	who := a.ask()
	a.m.Take(&a.out, who, most, wait)
	if len(a.out.Effects) == 0 {
		v, code, err := a.wait(ctx, who, "take")
		if err != nil || code != machine.OK {
			return nil, err
		}
		return []T{v}, nil
	}
	defer a.mu.Unlock()
	var items []T
	for i := range a.out.Effects {
		e := &a.out.Effects[i]
		switch {
		case e.To != who:
			a.tell(e)
		case e.Code == machine.OK:
			if items == nil {
				items = make([]T, 0, e.Num)
			}
			items = append(items, e.Val)
		}
	}
	a.out.Reset()
	return items, nil
}

func (a *aloneQueue[T]) peek(ctx context.Context) (v T, ok bool, err error) {
	if err := a.lock(ctx, "peek"); err != nil {
		return v, false, err
	}
	defer a.mu.Unlock()
	who := a.ask()
	a.m.Peek(&a.out, who)
	code, v := a.first(who)
	return v, code == machine.OK, nil
}

func (a *aloneQueue[T]) length(ctx context.Context) (int, error) {
	if err := a.lock(ctx, "len"); err != nil {
		return 0, err
	}
	defer a.mu.Unlock()
	return a.m.Length(), nil
}

// lockBoth locks two queues, with their names theirs.
func (a *aloneQueue[T]) lockBoth(ctx context.Context, b *aloneQueue[T]) error {
	first, second := a, b
	if b.id < a.id {
		first, second = b, a
	}
	if err := first.lock(ctx, "transfer"); err != nil || a == b {
		return err
	}
	if err := second.lock(ctx, "transfer"); err != nil {
		first.mu.Unlock()
		return err
	}
	return nil
}

func (a *aloneQueue[T]) transfer(ctx context.Context, to *aloneQueue[T]) (v T, err error) {
	for {
		if err := a.lockBoth(ctx, to); err != nil {
			return v, err
		}
		who := machine.Who{Req: 1<<63 + a.numbers.transfers.Add(1)}
		queues.Transfer(&a.out, &a.m, &to.m, who, to.s.bound, true)
		var code machine.Code
		for i := range a.out.Effects {
			e := &a.out.Effects[i]
			if e.To == who {
				code, v = e.Code, e.Val
				continue
			}
			a.tell(e) // each is known to one of them
			if a != to {
				to.tell(e)
			}
		}
		a.out.Reset()
		if code != 0 {
			if to != a {
				to.mu.Unlock()
			}
			a.mu.Unlock()
			return v, a.moved(to, code)
		}
		if err := a.asleep(ctx, who, to); err != nil {
			return v, err
		}
	}
}

func (a *aloneQueue[T]) moved(to *aloneQueue[T], code machine.Code) error {
	switch code {
	case machine.OK:
		return nil
	case machine.Refused:
		return to.s.full(true)
	default:
		return fmt.Errorf("%w: transfer from queue %q to %q", objects.ErrInvalid, a.s.Name, to.s.Name)
	}
}

// asleep waits until a Transfer may be tried again. It is called with both locked.
func (a *aloneQueue[T]) asleep(ctx context.Context, who machine.Who, to *aloneQueue[T]) error {
	at, other := a, to // which of them it waits at: an empty queue, otherwise the full one
	if a.m.Length() > 0 {
		at, other = to, a
	}
	if other != at {
		other.mu.Unlock()
	}
	_, _, err := at.wait(ctx, who, "transfer")
	return err
}

// destroy ends the queue after its name was given up.
func (a *aloneQueue[T]) destroy() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.open = false
	a.m.Destroy(&a.out)
	for i := range a.out.Effects {
		a.tell(&a.out.Effects[i])
	}
	a.out.Reset()
}

// close ends the queue because the node left.
func (a *aloneQueue[T]) close() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.closed = true
	for req, w := range a.waits {
		delete(a.waits, req)
		w.told <- struct{}{}
	}
}

// Destroy destroys the queue for everybody.
func (s *Queue[T]) Destroy(ctx context.Context) error {
	if s.Err != nil {
		return s.Err
	}
	err := s.Base.Destroy(ctx)
	if s.alone != nil && err == nil {
		s.alone.destroy()
	}
	return err
}

// gone says that one of two queues was destroyed, and finds out which: the next use
// makes it anew.
func (s *Queue[T]) gone(ctx context.Context, to *Queue[T]) error {
	err := s.Fault("transfer", client.ErrGone)
	_, _ = s.Do(ctx, "len", operation.Op{Verb: operation.VQueueLen}, true)  // notes it when it is gone
	_, _ = to.Do(ctx, "len", operation.Op{Verb: operation.VQueueLen}, true) // the same
	return err
}
