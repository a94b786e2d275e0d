package collections

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"sync"

	"github.com/distgear/distgear"
	"github.com/distgear/distgear/internal/client"
	"github.com/distgear/distgear/internal/codec"
	"github.com/distgear/distgear/internal/machine"
	"github.com/distgear/distgear/internal/machine/queues"
	"github.com/distgear/distgear/internal/objects"
	"github.com/distgear/distgear/internal/operation"
)

// Queue is a queue as one node knows it.
type Queue[T any] struct {
	*objects.Base

	items codec.Of[T]
	bound queues.Bound
	alone *aloneQueue[T] // instead of a session with a hub
}

type numbersKey struct{}

// NewQueue returns the node's queue with that name and capacity, which is at most
// most; so many items a queue without capacity may hold.
func NewQueue[T any](h objects.Host, name string, capacity, most int) *Queue[T] {
	numbers := h.Room.Value(numbersKey{}, func() any { return &queueNumbers{} }).(*queueNumbers)
	id := objects.ID{Kind: operation.KQueue, Name: name, Param: uint64(capacity)}
	v := h.Room.Value(id, func() any {
		s := &Queue[T]{items: codec.For[T](), bound: queues.Bound{Capacity: capacity, Most: most}}
		s.Base = objects.New(h, id, s)
		if capacity < 0 || capacity > most {
			s.Err = fmt.Errorf("%w: the capacity of queue %q is 0 to %d, not %d", objects.ErrInvalid, name, most, capacity)
		}
		if h.Room.Ledger.Alone() {
			s.alone = newAloneQueue(s, numbers)
		}
		return s
	})
	if s, ok := v.(*Queue[T]); ok {
		return s
	}
	s := &Queue[T]{Base: objects.New(h, id, nil)}
	s.Err = fmt.Errorf("%w: queue %q has another type of items in this process: %s, not %v", objects.ErrMismatch, name, v, s)
	return s
}

// String is the type of its items.
func (s *Queue[T]) String() string { return reflect.TypeFor[T]().String() }

// Event implements client.Sink. Who waits at the hub is told by itself.
func (s *Queue[T]) Event(*operation.Output) {}

// Lost implements client.Sink.
func (s *Queue[T]) Lost() {
	if s.alone != nil {
		s.alone.close()
	}
}

// buffers are for what is encoded, which is copied before it is sent.
var buffers = sync.Pool{New: func() any { return new([]byte) }}

// Put adds an item; false: there is no room, and wait is false.
func (s *Queue[T]) Put(ctx context.Context, item T, wait bool) (bool, error) {
	if s.Err != nil {
		return false, s.Err
	}
	if s.alone != nil {
		return s.alone.put(ctx, item, wait)
	}
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	var err error
	if *buf, err = s.items.Append((*buf)[:0], item); err != nil {
		return false, fmt.Errorf("%w: item: %w", objects.ErrInvalid, err)
	}
	op := operation.Op{Verb: operation.VPut, Val: *buf}
	var a client.Answer
	if wait {
		a, err = s.Object().Wait(ctx, op)
	} else {
		op.B = 1
		a, err = s.Object().Do(ctx, op, false)
	}
	if err != nil {
		return false, s.Fault("put", err)
	}
	return s.outcome(a.Code, wait)
}

// How many items PutAll sends before it waits for their answers.
const (
	putItems = 4096
	putBytes = 4 << 20
)

// puts is told how several puts ended.
type puts struct {
	done chan struct{} // closed when all are answered

	mu    sync.Mutex
	codes []machine.Code // 0: lost
	left  int
}

// onePut is one of puts: a request.
type onePut struct {
	p *puts
	i int
}

// Output implements client.Receiver.
func (o *onePut) Output(out *operation.Output) bool {
	o.p.answered(o.i, out.Code)
	return true
}

// Lost implements client.Receiver.
func (o *onePut) Lost() { o.p.answered(o.i, 0) }

func (p *puts) answered(i int, code machine.Code) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.codes[i] = code
	p.left--
	if p.left == 0 {
		close(p.done)
	}
}

// PutSome puts the first items, and returns how many are in.
func (s *Queue[T]) PutSome(ctx context.Context, items []T) (int, error) {
	if s.Err != nil {
		return 0, s.Err
	}
	if s.alone != nil {
		for i, v := range items {
			if _, err := s.alone.put(ctx, v, true); err != nil {
				return i, err
			}
		}
		return len(items), nil
	}
	obj := s.Object()
	of, err := obj.Open(ctx)
	if err != nil {
		return 0, s.Fault("put", err)
	}
	n := min(len(items), putItems)
	p := &puts{done: make(chan struct{}), codes: make([]machine.Code, n), left: n}
	reqs, each := make([]uint64, 0, n), make([]onePut, n)
	var buf []byte
	size := 0
	var fault error
	for i := range n {
		if buf, err = s.items.Append(buf[:0], items[i]); err != nil {
			fault = fmt.Errorf("%w: item: %w", objects.ErrInvalid, err)
			break
		}
		size += len(buf)
		if size > putBytes && i > 0 {
			break
		}
		each[i] = onePut{p, i}
		req, err := obj.Start(of, &each[i], operation.Op{Verb: operation.VPut, Val: buf})
		if err != nil {
			switch {
			case errors.Is(err, client.ErrLost) && i == 0:
				return 0, context.Cause(ctx) // nothing was sent: again in the next session
			case errors.Is(err, client.ErrOverloaded) && i > 0: // the rest when these are answered
			default:
				fault = s.Fault("put", err)
			}
			break
		}
		reqs = append(reqs, req)
	}
	p.mu.Lock()
	p.left -= n - len(reqs)
	all := p.left == 0
	p.mu.Unlock()
	if !all {
		select {
		case <-p.done:
		case <-ctx.Done():
			for i := len(reqs) - 1; i >= 0; i-- { // from behind: what gets in meanwhile are the first
				_, _ = obj.Start(of, nil, operation.Op{Verb: operation.VAbandon, A: reqs[i]}) // without the session the wait is over as well
			}
			<-p.done
		}
	}
	return s.putOutcome(ctx, p.codes[:len(reqs)], fault)
}

// putOutcome counts what is in.
func (s *Queue[T]) putOutcome(ctx context.Context, codes []machine.Code, fault error) (int, error) {
	for i, code := range codes {
		switch code {
		case machine.OK:
			continue
		case 0:
			return i, s.Fault("put", client.ErrLost)
		case machine.Gone:
			return i, s.Fault("put", client.ErrGone)
		default:
		}
		if err := context.Cause(ctx); err != nil && code == machine.Refused {
			return i, err
		}
		_, err := s.outcome(code, true)
		return i, err
	}
	return len(codes), fault
}

// oneItem takes up an answer with at most one item.
type oneItem struct {
	code machine.Code
	num  uint64
	val  []byte
}

// Take implements client.Taker.
func (t *oneItem) Take(_ machine.Session, o *operation.Output) bool {
	t.code, t.num, t.val = o.Code, o.Num, append(t.val[:0], o.Val...)
	return true
}

func (s *Queue[T]) one(ctx context.Context, what string, op operation.Op, wait bool) (v T, ok bool, err error) {
	t := &oneItem{}
	if wait {
		err = s.Object().Await(ctx, op, t)
	} else {
		err = s.Object().Ask(ctx, op, t, op.Verb == operation.VPeek)
	}
	if err != nil {
		return v, false, s.Fault(what, err)
	}
	switch t.code {
	case machine.OK:
		v, err = s.decode(t.val)
		return v, err == nil, err
	case machine.Refused:
		return v, false, nil
	default:
		return v, false, fmt.Errorf("%w: %s of queue %q", objects.ErrInvalid, what, s.Name)
	}
}

func (s *Queue[T]) decode(b []byte) (T, error) {
	v, err := s.items.New(b)
	if err != nil {
		err = fmt.Errorf("%w: an item of queue %q: %w", objects.ErrInvalid, s.Name, err)
	}
	return v, err
}

// Take removes the first item; false: there is none, and wait is false.
func (s *Queue[T]) Take(ctx context.Context, wait bool) (v T, ok bool, err error) {
	switch {
	case s.Err != nil:
		return v, false, s.Err
	case s.alone != nil:
		return s.alone.take(ctx, wait)
	case wait:
		return s.one(ctx, "take", operation.Op{Verb: operation.VTake, A: 1}, true)
	}
	return s.one(ctx, "take", operation.Op{Verb: operation.VTake, A: 1, B: 1}, false)
}

// Peek reads the first item.
func (s *Queue[T]) Peek(ctx context.Context) (v T, ok bool, err error) {
	switch {
	case s.Err != nil:
		return v, false, s.Err
	case s.alone != nil:
		return s.alone.peek(ctx)
	}
	return s.one(ctx, "peek", operation.Op{Verb: operation.VPeek}, false)
}

// Len is how many items there are.
func (s *Queue[T]) Len(ctx context.Context) (int, error) {
	switch {
	case s.Err != nil:
		return 0, s.Err
	case s.alone != nil:
		return s.alone.length(ctx)
	}
	a, err := s.Do(ctx, "len", operation.Op{Verb: operation.VQueueLen}, true)
	return int(a.Num), err
}

// manyItems takes up an answer with several.
type manyItems struct {
	mu   sync.Mutex // an answer may still come when ctx has ended
	code machine.Code
	buf  []byte
	ends []int
}

// Take implements client.Taker.
func (t *manyItems) Take(_ machine.Session, o *operation.Output) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.code = o.Code
	if o.Code != machine.OK {
		return true
	}
	t.buf = append(t.buf, o.Val...)
	t.ends = append(t.ends, len(t.buf))
	return o.Aux == 0
}

// TakeSome removes items with VTake or VDrain: at least one, if wait.
func (s *Queue[T]) TakeSome(ctx context.Context, verb operation.Verb, most int, wait bool) ([]T, error) {
	if s.Err != nil {
		return nil, s.Err
	}
	if s.alone != nil {
		return s.alone.takeSome(ctx, most, wait)
	}
	t := &manyItems{}
	op := operation.Op{Verb: verb, A: uint64(most)}
	var err error
	if wait {
		err = s.Object().Await(ctx, op, t)
	} else {
		err = s.Object().Ask(ctx, op, t, false)
	}
	if err != nil {
		err = s.Fault("take", err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if err == nil && t.code != machine.OK && t.code != machine.Refused {
		return nil, fmt.Errorf("%w: take of queue %q", objects.ErrInvalid, s.Name)
	}
	all := make([]T, 0, len(t.ends))
	from := 0
	for _, to := range t.ends {
		v, bad := s.decode(t.buf[from:to:to])
		from = to
		if bad != nil {
			err = errors.Join(err, bad)
			continue
		}
		all = append(all, v)
	}
	return all, err
}

// Transfer moves the first item to another queue.
func (s *Queue[T]) Transfer(ctx context.Context, to *Queue[T]) (v T, err error) {
	if err := errors.Join(s.Err, to.Err); err != nil {
		return v, err
	}
	if s.alone != nil {
		return s.alone.transfer(ctx, to.alone)
	}
	for {
		from, into := s.Object(), to.Object()
		of, err := from.Open(ctx)
		if err != nil {
			return v, s.Fault("transfer", err)
		}
		with, err := into.Open(ctx)
		if err != nil {
			return v, to.Fault("transfer", err)
		}
		if of != with {
			continue
		}
		t := &oneItem{}
		err = from.AwaitIn(ctx, of, operation.Op{Verb: operation.VTransfer, A: into.Handle()}, t)
		switch {
		case client.NotSent(err):
			continue
		case errors.Is(err, client.ErrGone): // one of them
			return v, s.gone(ctx, to)
		case err != nil:
			return v, s.Fault("transfer", err)
		case t.code == machine.OK:
			return s.decode(t.val)
		case t.code == machine.Refused: // a queue without bound that is full all the same
			return v, to.full(true)
		case t.code != machine.Wake:
			return v, fmt.Errorf("%w: transfer from queue %q to %q", objects.ErrInvalid, s.Name, to.Name)
		}
		if err := context.Cause(ctx); err != nil {
			return v, err
		}
	}
}

// full is Refused to who put: false, or for who would wait an error.
func (s *Queue[T]) full(wait bool) error {
	if wait {
		return fmt.Errorf("%w: queue %q has %d items", distgear.ErrOverloaded, s.Name, s.bound.Most)
	}
	return nil
}

// outcome says the answer to a put.
func (s *Queue[T]) outcome(code machine.Code, wait bool) (bool, error) {
	switch code {
	case machine.OK:
		return true, nil
	case machine.Refused:
		return false, s.full(wait)
	}
	return false, fmt.Errorf("%w: put into queue %q", objects.ErrInvalid, s.Name)
}

// Size is what the queue of a process that is alone has to tell.
func (s *Queue[T]) Size() Size {
	z := Size{Kind: s.Kind, Name: s.Name}
	if a := s.alone; a != nil {
		a.mu.Lock()
		z.Length = a.m.Length()
		z.Takers, z.Putters = a.m.Waiting()
		a.mu.Unlock()
	}
	return z
}
