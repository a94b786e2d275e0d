package shared

import (
	"context"
	"fmt"

	"github.com/distgear/distgear"
	"github.com/distgear/distgear/internal/collections"
	"github.com/distgear/distgear/internal/operation"
)

// Queue is a first-in first-out queue that all nodes see. Make it with NewQueue;
// it is safe for concurrent use.
//
// Items leave in the order in which they came in; who waits to put, and who waits to
// take, is served in order, over all nodes. An item is handed to one taker, once. After
// that it is the taker's: one that dies, or loses its session, with the item has lost
// it (at most once). A node that died is not known to be dead until its session has
// ended (9 s, by default): each of its takers that waited may get, and lose, an item
// until then. So ErrSessionLost from a method that takes means that what it
// took, if anything, is gone; from one that puts, that the item may be in the queue or
// not. What a node has put stays when the node ends; what it only waited to put is not in
// the queue.
//
// When the context of a method ends, nothing was put or taken, unless the item was
// handed out in that very moment: then the method returns as if ctx had not ended. That
// asks the hub: while there is none, methods return when it is back, or the session is
// lost. (Offer, Poll, Peek, Len and Drain return at once, with the outcome unknown.)
//
// An item has at most 700 KiB, encoded; a larger one is refused with ErrInvalid (a
// process that is alone does not measure items, and hands them on as they are). An item
// that does not decode into T is lost, with ErrInvalid to who took it.
type Queue[T any] struct{ s *collections.Queue[T] }

// MaxItems is how many items a queue without a capacity may hold, and the
// largest capacity.
const MaxItems = 10_000_000

// NewQueue returns the queue with that name, which holds at most so many items. With
// capacity 0 nobody waits to put; more than MaxItems are refused with
// distgear.ErrOverloaded. All who use the name say the same capacity (ErrMismatch), and in
// one process the same T. It does no I/O.
func NewQueue[T any](n *distgear.Node, name string, capacity int) *Queue[T] {
	return &Queue[T]{collections.NewQueue[T](host(n), name, capacity, MaxItems)}
}

// Put adds an item at the end; it waits while the queue is full.
func (q *Queue[T]) Put(ctx context.Context, item T) error {
	_, err := q.s.Put(ctx, item, true)
	return err
}

// Offer adds an item at the end if there is room now; false: there is none.
func (q *Queue[T]) Offer(ctx context.Context, item T) (bool, error) { return q.s.Put(ctx, item, false) }

// PutAll puts items, one behind the other but maybe with others' in between,
// without waiting for the answer to each. It returns how many are in: the first so
// many. With an error that is ErrSessionLost more may be in.
func (q *Queue[T]) PutAll(ctx context.Context, items ...T) (int, error) {
	done := 0
	for done < len(items) {
		n, err := q.s.PutSome(ctx, items[done:])
		done += n
		if err == nil && done < len(items) {
			err = context.Cause(ctx)
		}
		if err != nil {
			return done, err
		}
	}
	return done, nil
}

// Take removes the first item; it waits while there is none.
func (q *Queue[T]) Take(ctx context.Context) (T, error) {
	v, _, err := q.s.Take(ctx, true)
	return v, err
}

// Poll removes the first item if there is one now; false: there is none.
func (q *Queue[T]) Poll(ctx context.Context) (T, bool, error) { return q.s.Take(ctx, false) }

// TakeN removes the first items, at least one and at most so many; it waits
// while there is none, and not for more than one. It may return fewer than there
// are: about 1 MiB. Items may come together with an error: ErrInvalid, some did not
// decode; ErrSessionLost, more were taken and are lost.
func (q *Queue[T]) TakeN(ctx context.Context, most int) ([]T, error) {
	if most <= 0 {
		return nil, fmt.Errorf("%w: take %d items", ErrInvalid, most)
	}
	return q.s.TakeSome(ctx, operation.VTake, most, true)
}

// Drain removes as many items as there are when it begins, and returns them;
// fewer if others take meanwhile. It does not wait. Items may come together with an
// error.
func (q *Queue[T]) Drain(ctx context.Context) ([]T, error) {
	left, err := q.Len(ctx)
	var all []T
	for left > 0 && err == nil {
		var some []T
		some, err = q.s.TakeSome(ctx, operation.VDrain, left, false)
		all = append(all, some...)
		left -= len(some)
		if len(some) == 0 {
			break
		}
	}
	return all, err
}

// Peek reads the first item, which stays; false: there is none.
func (q *Queue[T]) Peek(ctx context.Context) (T, bool, error) { return q.s.Peek(ctx) }

// Len is how many items there are, without those that wait to be put.
func (q *Queue[T]) Len(ctx context.Context) (int, error) { return q.s.Len(ctx) }

// Transfer moves the first item to the end of another queue and returns it, in
// one operation: at no time it is in none of them, or in both. It waits while this queue
// is empty or the other one is full, behind those who wait to take from one or put into the
// other; of several who wait any may be first. Both queues are of one node.
func (q *Queue[T]) Transfer(ctx context.Context, to *Queue[T]) (T, error) {
	if to == nil || to.s.Room != q.s.Room {
		var none T
		return none, fmt.Errorf("%w: transfer to a queue of another node", ErrInvalid)
	}
	return q.s.Transfer(ctx, to.s)
}

// Destroy ends the queue for everybody: items are gone, who waits gets
// ErrDestroyed. The name may be used anew.
func (q *Queue[T]) Destroy(ctx context.Context) error { return q.s.Destroy(ctx) }
