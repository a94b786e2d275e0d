package shared

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"github.com/distgear/distgear"
	"github.com/distgear/distgear/internal/codec"
	"github.com/distgear/distgear/internal/collections"
	"github.com/distgear/distgear/internal/objects"
	"github.com/distgear/distgear/internal/operation"
)

// The errors of subscriptions.
var (
	ErrSlow   = collections.ErrSlow
	ErrClosed = collections.ErrClosed
)

// Topic tells everybody who subscribes what is published from then on, to all
// in one order. Make it with NewTopic; it is safe for concurrent use.
//
//	news := shared.NewTopic[string](n, "news")
//	sub, err := news.Subscribe(ctx, 0)
//	defer sub.Close()
//	heard, err := news.Publish(ctx, "hello")
//	for m, err := range sub.All(ctx) { … m.Value … }
//
// A subscriber hears every message from its Subscribe to its end, in order,
// each once. Nothing is retained: a message without subscribers is heard by nobody.
// What a subscriber has not read yet waits in its node's memory; one that is too
// slow is cut off (ErrSlow) and holds up nobody else. Users of one name should
// agree on T: what does not decode is ErrMismatch for that message.
type Topic[T any] struct {
	b     *objects.Base
	codec codec.Of[T]
}

// NewTopic returns the topic with that name. It does no I/O.
func NewTopic[T any](n *distgear.Node, name string) *Topic[T] {
	return &Topic[T]{objects.Of(host(n), objects.ID{Kind: operation.KTopic, Name: name}, nil), codec.For[T]()}
}

// PublisherID says who published: it is the same for all that a node publishes
// in one session with the hub, and no other node's.
type PublisherID uint64

// Message is what a subscriber hears.
type Message[T any] struct {
	Value     T
	Number    uint64 // grows by 1 with each message of the topic; after a Destroy, or when nobody subscribed, by more
	Publisher PublisherID
}

// Publish tells v to all who subscribe, its own node too, and returns how many
// subscriptions that are. It does not wait until they have heard it. LostError and
// the cause of ctx leave unknown whether it was told. v is at most 700 KiB, encoded:
// else ErrInvalid (a process that is alone does not measure it).
func (t *Topic[T]) Publish(ctx context.Context, v T) (subscribers int, err error) {
	op := operation.Op{Verb: operation.VPublish}
	if t.b.Room.Ledger.Alone() {
		op.X = v
	} else if op.Val, err = t.codec.Append(nil, v); err != nil {
		return 0, fmt.Errorf("%w: a message of topic %q: %w", ErrInvalid, t.b.Name, err)
	}
	a, err := t.b.Do(ctx, "publish", op, false)
	return int(a.Aux), err
}

// Destroy ends the topic for everybody: subscriptions end with ErrDestroyed. The
// name may be used anew.
func (t *Topic[T]) Destroy(ctx context.Context) error { return t.b.Destroy(ctx) }

const defaultBacklog = 1024 // messages

// Subscribe begins to hear what is published. At most buffer messages wait to
// be read (0 means 1,024), and at most 16 MiB: with more the subscription is cut off,
// as it is when its node is 32 MiB behind the hub.
// ctx bounds the Subscribe only; what was published after Subscribe has returned
// is heard. Close ends it.
func (t *Topic[T]) Subscribe(ctx context.Context, buffer int) (*Subscription[T], error) {
	if buffer == 0 {
		buffer = defaultBacklog
	}
	if buffer < 0 {
		return nil, fmt.Errorf("%w: subscription to topic %q with a buffer of %d", ErrInvalid, t.b.Name, buffer)
	}
	f, err := collections.Subscribe(ctx, t.b, buffer)
	if err != nil {
		return nil, err
	}
	return &Subscription[T]{f, t.b, t.codec}, nil
}

// Subscription hears a topic. Its methods are safe for concurrent use; each
// message is read once.
type Subscription[T any] struct {
	f     *collections.Feed
	b     *objects.Base
	codec codec.Of[T]
}

// Next waits for the next message. When all that was heard is read, the error
// says how it ended, and stays: ErrSlow, cut off; ErrSessionLost, messages may be
// missing; ErrDestroyed; ErrClosed, by Close. The cause of ctx ends nothing,
// nor does ErrMismatch: it is the error of one message.
func (s *Subscription[T]) Next(ctx context.Context) (m Message[T], err error) {
	h, err := s.f.Next(ctx)
	if err != nil {
		return m, err
	}
	m.Number, m.Publisher = h.Number, PublisherID(h.From)
	if s.b.Room.Ledger.Alone() {
		var ok bool
		if m.Value, ok = h.X.(T); !ok && h.X != nil {
			return m, fmt.Errorf("%w: message %d of topic %q is a %T", ErrMismatch, h.Number, s.b.Name, h.X)
		}
		return m, nil
	}
	if err := s.codec.Decode(h.Val, &m.Value); err != nil {
		return m, fmt.Errorf("%w: message %d of topic %q: %w", ErrMismatch, h.Number, s.b.Name, err)
	}
	return m, nil
}

// All are the messages as they come. It ends after the first error of Next,
// which it yields, but for ErrClosed: after Close it just ends.
func (s *Subscription[T]) All(ctx context.Context) iter.Seq2[Message[T], error] {
	return func(yield func(Message[T], error) bool) {
		for {
			m, err := s.Next(ctx)
			if errors.Is(err, ErrClosed) || !yield(m, err) || err != nil {
				return
			}
		}
	}
}

// Close ends the subscription; what was not read is dropped. It does not block,
// and may be called more than once.
func (s *Subscription[T]) Close() { s.f.Close() }
