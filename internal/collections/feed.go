package collections

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/distgear/distgear/internal/client"
	"github.com/distgear/distgear/internal/machine"
	"github.com/distgear/distgear/internal/objects"
	"github.com/distgear/distgear/internal/operation"
)

// The errors of subscriptions.
var (
	ErrSlow   = errors.New("shared: too slow: messages are missing from here on")
	ErrClosed = errors.New("shared: closed")
)

// MaxBacklog is how much waits to be read, in bytes, but for one message.
const MaxBacklog = 16 << 20

// Heard is a message that was not read yet.
type Heard struct {
	Number, From uint64
	Val          []byte
	X            any // instead of Val, in a process that is alone
}

// Feed is a subscription without its type: what its node has heard.
type Feed struct {
	b       *objects.Base
	obj     *client.Object
	session machine.Session
	req     uint64
	limit   int
	begun   chan struct{} // closed when the hub has answered, or the session is lost
	more    chan struct{} // 1: there is something for whoever is next

	mu    sync.Mutex
	on    bool // the hub has answered
	queue []Heard
	head  int
	bytes int
	err   error // what comes after the queue
}

// Subscribe begins to hear what is published; at most limit messages wait to be
// read.
func Subscribe(ctx context.Context, b *objects.Base, limit int) (*Feed, error) {
	if b.Err != nil {
		return nil, b.Err
	}
	for {
		f := &Feed{b: b, obj: b.Object(), limit: limit, begun: make(chan struct{}), more: make(chan struct{}, 1)}
		again, err := f.subscribe(ctx)
		if again {
			continue
		}
		if err != nil {
			return nil, err
		}
		return f, nil
	}
}

// Close ends it, and drops what was not read.
func (f *Feed) Close() {
	if f.end(ErrClosed, true) {
		f.unsubscribe(f.req)
	}
}

// subscribe asks the hub; again: it was not asked.
func (f *Feed) subscribe(ctx context.Context) (again bool, err error) {
	const what = "subscribe"
	if err := context.Cause(ctx); err != nil {
		return false, err
	}
	if f.session, err = f.obj.Open(ctx); err != nil {
		return false, f.b.Fault(what, err)
	}
	if f.req, err = f.obj.Start(f.session, f, operation.Op{Verb: operation.VSubscribe}); err != nil {
		if errors.Is(err, client.ErrLost) {
			return true, nil
		}
		return false, f.b.Fault(what, err)
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

func (f *Feed) unsubscribe(req uint64) {
	_, _ = f.obj.Start(f.session, nil, operation.Op{Verb: operation.VUnsubscribe, A: req}) // a lost session hears nothing any more
}

// end says what comes after the messages; true if it was not ended before.
func (f *Feed) end(err error, drop bool) bool {
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

func (f *Feed) signal() {
	select {
	case f.more <- struct{}{}:
	default:
	}
}

// Next waits for the next message; what it says when all are read, it goes on
// saying.
func (f *Feed) Next(ctx context.Context) (Heard, error) {
	for {
		if h, ok, err := f.pop(); ok || err != nil {
			return h, err
		}
		select {
		case <-f.more:
		case <-ctx.Done():
			return Heard{}, context.Cause(ctx)
		}
	}
}

func (f *Feed) pop() (h Heard, ok bool, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.head == len(f.queue) {
		if f.err != nil {
			f.signal() // to the next reader too
		}
		return h, false, f.err
	}
	h = f.queue[f.head]
	f.queue[f.head] = Heard{}
	f.head++
	f.bytes -= len(h.Val)
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
func (f *Feed) push(o *operation.Output) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	waiting := len(f.queue) - f.head
	switch {
	case f.err != nil: // it has ended, the hub has not heard yet
	case waiting >= f.limit, waiting > 0 && f.bytes+len(o.Val) > MaxBacklog:
		f.err = fmt.Errorf("%w: topic %q, message %d, when %d waited to be read", ErrSlow, f.b.Name, o.Num, waiting)
		return false
	default:
		f.queue = append(f.queue, Heard{o.Num, o.Aux, slices.Clone(o.Val), o.X})
		f.bytes += len(o.Val)
		f.signal()
	}
	return true
}

// begin notes the hub's answer; false: there was one before.
func (f *Feed) begin(on bool) bool {
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
func (f *Feed) Output(o *operation.Output) bool {
	switch o.Code {
	case machine.Message:
		if !f.push(o) {
			f.unsubscribe(o.Req)
		}
		return false
	case machine.OK:
		return !f.begin(true) // the second one is the Unsubscribe's
	case machine.Refused: // the hub has told this node much that it has not heard
		f.end(fmt.Errorf("%w: topic %q: its node is too far behind", ErrSlow, f.b.Name), false)
	case machine.Gone:
		f.end(f.b.Fault("subscription", client.ErrGone), false)
	default:
		f.end(fmt.Errorf("%w: subscription to topic %q", objects.ErrInvalid, f.b.Name), false)
	}
	f.begin(false)
	return true
}

// Lost implements client.Receiver.
func (f *Feed) Lost() {
	f.end(fmt.Errorf("%w: messages of topic %q may be missing from here on", objects.ErrSessionLost, f.b.Name), false)
	f.begin(false)
}
