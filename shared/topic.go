package shared

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"sync"

	"github.com/distgear/distgear"
	"github.com/distgear/distgear/internal/client"
	"github.com/distgear/distgear/internal/codec"
	"github.com/distgear/distgear/internal/machine"
	"github.com/distgear/distgear/internal/shard"
)

// The errors of subscriptions.
var (
	ErrSlow   = errors.New("shared: too slow: messages are missing from here on")
	ErrClosed = errors.New("shared: closed")
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
	b     *base
	codec codec.Of[T]
}

// NewTopic returns the topic with that name. It does no I/O.
func NewTopic[T any](n *distgear.Node, name string) *Topic[T] {
	return &Topic[T]{newBase(n, shard.KTopic, name, 0), codec.For[T]()}
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
// the cause of ctx leave unknown whether it was told. v is at most 700 KB, encoded:
// else ErrInvalid.
func (t *Topic[T]) Publish(ctx context.Context, v T) (subscribers int, err error) {
	op := shard.Op{Verb: shard.VPublish}
	if t.b.room.Ledger.Alone() {
		op.X = v
	} else if op.Val, err = t.codec.Append(nil, v); err != nil {
		return 0, fmt.Errorf("%w: a message of topic %q: %w", ErrInvalid, t.b.name, err)
	}
	a, err := t.b.do(ctx, "publish", op, false)
	return int(a.Aux), err
}

// Destroy ends the topic for everybody: subscriptions end with ErrDestroyed. The
// name may be used anew.
func (t *Topic[T]) Destroy(ctx context.Context) error { return t.b.destroy(ctx) }

const (
	defaultBacklog = 1024     // messages
	maxBacklog     = 16 << 20 // bytes, but for one message; as much as the hub keeps for a session
)

// Subscribe begins to hear what is published. At most buffer messages wait to
// be read (0 means 1,024), and at most 16 MiB: with more the subscription is cut off.
// ctx bounds the Subscribe only; what was published after Subscribe has returned
// is heard. Close ends it.
func (t *Topic[T]) Subscribe(ctx context.Context, buffer int) (*Subscription[T], error) {
	if buffer == 0 {
		buffer = defaultBacklog
	}
	if buffer < 0 {
		return nil, fmt.Errorf("%w: subscription to topic %q with a buffer of %d", ErrInvalid, t.b.name, buffer)
	}
	if t.b.err != nil {
		return nil, t.b.err
	}
	for {
		f := &feed{b: t.b, obj: t.b.object(), limit: buffer, begun: make(chan struct{}), more: make(chan struct{}, 1)}
		again, err := f.subscribe(ctx)
		if again {
			continue
		}
		if err != nil {
			return nil, err
		}
		return &Subscription[T]{f, t.codec}, nil
	}
}

// Subscription hears a topic. Its methods are safe for concurrent use; each
// message is read once.
type Subscription[T any] struct {
	f     *feed
	codec codec.Of[T]
}

// Next waits for the next message. When all that was heard is read, the error
// says how it ended, and stays: ErrSlow, cut off; ErrSessionLost, messages may be
// missing; ErrDestroyed; ErrClosed, by Close. The cause of ctx ends nothing,
// nor does ErrMismatch: it is the error of one message.
func (s *Subscription[T]) Next(ctx context.Context) (m Message[T], err error) {
	h, err := s.f.next(ctx)
	if err != nil {
		return m, err
	}
	m.Number, m.Publisher = h.number, PublisherID(h.from)
	if s.f.b.room.Ledger.Alone() {
		var ok bool
		if m.Value, ok = h.x.(T); !ok && h.x != nil {
			return m, fmt.Errorf("%w: message %d of topic %q is a %T", ErrMismatch, h.number, s.f.b.name, h.x)
		}
		return m, nil
	}
	if err := s.codec.Decode(h.val, &m.Value); err != nil {
		return m, fmt.Errorf("%w: message %d of topic %q: %w", ErrMismatch, h.number, s.f.b.name, err)
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
func (s *Subscription[T]) Close() {
	if s.f.end(ErrClosed, true) {
		s.f.unsubscribe(s.f.req)
	}
}

// heard is a message that was not read yet.
type heard struct {
	number, from uint64
	val          []byte
	x            any
}

// feed is a subscription without its type: what its node has heard.
type feed struct {
	b       *base
	obj     *client.Object
	session machine.Session
	req     uint64
	limit   int
	begun   chan struct{} // closed when the hub has answered, or the session is lost
	more    chan struct{} // 1: there is something for whoever is next

	mu    sync.Mutex
	on    bool // the hub has answered
	queue []heard
	head  int
	bytes int
	err   error // what comes after the queue
}

// subscribe asks the hub; again: it was not asked.
func (f *feed) subscribe(ctx context.Context) (again bool, err error) {
	const what = "subscribe"
	if err := context.Cause(ctx); err != nil {
		return false, err
	}
	if f.session, err = f.obj.Open(ctx); err != nil {
		return false, f.b.fault(what, err)
	}
	if f.req, err = f.obj.Start(f.session, f, shard.Op{Verb: shard.VSubscribe}); err != nil {
		if errors.Is(err, client.ErrLost) {
			return true, nil
		}
		return false, f.b.fault(what, err)
	}
	select {
	case <-f.begun:
	case <-ctx.Done():
		f.unsubscribe(f.req)
		return false, context.Cause(ctx)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.on {
		return false, f.err
	}
	return false, nil
}

func (f *feed) unsubscribe(req uint64) {
	_, _ = f.obj.Start(f.session, nil, shard.Op{Verb: shard.VUnsubscribe, A: req}) // a lost session hears nothing any more
}

// end says what comes after the messages; true if it was not ended before.
func (f *feed) end(err error, drop bool) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	first := f.err == nil
	if first {
		f.err = err
	}
	if drop {
		f.err, f.queue, f.head, f.bytes = err, nil, 0, 0
	}
	f.signal()
	return first
}

func (f *feed) signal() {
	select {
	case f.more <- struct{}{}:
	default:
	}
}

func (f *feed) next(ctx context.Context) (heard, error) {
	for {
		if h, ok, err := f.pop(); ok || err != nil {
			return h, err
		}
		select {
		case <-f.more:
		case <-ctx.Done():
			return heard{}, context.Cause(ctx)
		}
	}
}

func (f *feed) pop() (h heard, ok bool, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.head == len(f.queue) {
		if f.err != nil {
			f.signal() // to the next reader too
		}
		return h, false, f.err
	}
	h = f.queue[f.head]
	f.queue[f.head] = heard{}
	f.head++
	f.bytes -= len(h.val)
	if 2*f.head >= len(f.queue) { // as much is dropped as is moved: constant per message
		n := copy(f.queue, f.queue[f.head:])
		clear(f.queue[n:])
		f.queue, f.head = f.queue[:n], 0
	}
	if len(f.queue) > f.head || f.err != nil {
		f.signal()
	}
	return h, true, nil
}

// push keeps a message; false: there is no room, and it was cut off.
func (f *feed) push(o *shard.Output) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	waiting := len(f.queue) - f.head
	switch {
	case f.err != nil: // it has ended, the hub has not heard yet
	case waiting >= f.limit, waiting > 0 && f.bytes+len(o.Val) > maxBacklog:
		f.err = fmt.Errorf("%w: topic %q, message %d, when %d waited to be read", ErrSlow, f.b.name, o.Num, waiting)
		return false
	default:
		f.queue = append(f.queue, heard{o.Num, o.Aux, slices.Clone(o.Val), o.X})
		f.bytes += len(o.Val)
		f.signal()
	}
	return true
}

// begin notes the hub's answer; false: there was one before.
func (f *feed) begin(on bool) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	select {
	case <-f.begun:
		return false
	default:
	}
	f.on = on
	close(f.begun)
	return true
}

// Output implements client.Receiver.
func (f *feed) Output(o *shard.Output) bool {
	switch o.Code {
	case machine.Message:
		if !f.push(o) {
			f.unsubscribe(o.Req)
		}
		return false
	case machine.OK:
		return !f.begin(true) // the second one is the Unsubscribe's
	case machine.Gone:
		f.end(f.b.fault("subscription", client.ErrGone), false)
	default:
		f.end(fmt.Errorf("%w: subscription to topic %q", ErrInvalid, f.b.name), false)
	}
	f.begin(false)
	return true
}

// Lost implements client.Receiver.
func (f *feed) Lost() {
	f.end(fmt.Errorf("%w: messages of topic %q may be missing from here on", ErrSessionLost, f.b.name), false)
	f.begin(false)
}
