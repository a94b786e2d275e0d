// Package objects is a node's side of named objects in the ledger, without the
// types that users see: the handle of a name, operations and their answers, what
// is held and how its loss is told, locks, and who waits under which.
//
//	h := objects.Host{Room: n.Room(), Unknown: unknown}
//	b := objects.New(h, objects.ID{Kind: operation.KCounter, Name: "hits"}, nil)
//	a, err := b.Do(ctx, "add", operation.Op{Verb: operation.VCounterAdd, A: 1}, false)
//
// Package shared is what users hold of it; maps and queues are in
// internal/collections.
//
// # Failures
//
// Its errors are those of package shared, which has them under the same names.
package objects

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/distgear/distgear"
	"github.com/distgear/distgear/internal/client"
	"github.com/distgear/distgear/internal/machine"
	"github.com/distgear/distgear/internal/operation"
	"github.com/distgear/distgear/internal/room"
)

// The errors of shared objects.
var (
	ErrDestroyed   = errors.New("shared: the object was destroyed")
	ErrMismatch    = errors.New("shared: the name belongs to another kind of object")
	ErrSessionLost = errors.New("shared: the session with the hub was lost")
	ErrNotHeld     = errors.New("shared: not held")
	ErrHeld        = errors.New("shared: held by who asks; it would wait for itself")
	ErrUpgrade     = errors.New("shared: a reader cannot become a writer; release first")
	ErrInvalid     = distgear.ErrInvalid
)

// MaxName is how long a name may be, in bytes.
const MaxName = 256

// Host is where objects are: the room of a node, and the words for what it loses.
type Host struct {
	Room *room.Room
	// Unknown makes the error of an operation on the object with that name whose outcome is
	// unknown, of err, which is client.ErrLost: it is ErrSessionLost.
	Unknown func(op, name string, err error) error
}

// ID is what a node keeps an object by, so that two handles are one.
type ID struct {
	Kind  operation.Kind
	Name  string
	Param uint64
}

// Base is a named object as one node knows it.
type Base struct {
	Host
	ID
	Err error // what is wrong with the name or the size; set before it is used

	sink client.Sink

	mu  sync.Mutex
	obj *client.Object
}

// New returns an object that nobody else uses; see Of. The sink may be nil.
func New(h Host, id ID, sink client.Sink) *Base {
	b := &Base{Host: h, ID: id, sink: sink}
	if id.Name == "" || len(id.Name) > MaxName {
		b.Err = fmt.Errorf("%w: the name of a shared object has 1 to %d bytes, not %d", ErrInvalid, MaxName, len(id.Name))
	}
	return b
}

// Of returns the node's object with that ID, without a sink, and keeps it while
// the node lives: to close it when nobody has a handle of it would end waits that
// are under way. Fault, if it is not nil, is what is wrong with its size.
func Of(h Host, id ID, fault error) *Base {
	return h.Room.Value(id, func() any {
		b := New(h, id, nil)
		if b.Err == nil {
			b.Err = fault
		}
		return b
	}).(*Base)
}

// Object is the handle for the ledger. An object that was destroyed has a new
// one: its name is free again.
func (b *Base) Object() *client.Object {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.obj == nil {
		b.obj = b.Room.Ledger.Object(b.Kind, b.Name, b.Param, b.sink)
	}
	return b.obj
}

// stale tells that the object has another handle by now, or none.
func (b *Base) stale(obj *client.Object) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.obj != obj
}

// Do sends one operation and waits for its answer; retry is for those that
// change nothing.
func (b *Base) Do(ctx context.Context, what string, op operation.Op, retry bool) (client.Answer, error) {
	if b.Err != nil {
		return client.Answer{}, b.Err
	}
	a, err := b.Object().Do(ctx, op, retry)
	if err != nil {
		return a, b.Fault(what, err)
	}
	if a.Code == machine.Invalid {
		return a, fmt.Errorf("%w: %s of %s %q", ErrInvalid, what, b.Kind, b.Name)
	}
	return a, nil
}

// Fault says an error of the client in the words of users.
func (b *Base) Fault(what string, err error) error {
	kind, mismatch := errors.AsType[*client.KindError](err)
	switch {
	case mismatch:
		return fmt.Errorf("%w: %w", ErrMismatch, kind)
	case errors.Is(err, client.ErrGone):
		b.mu.Lock()
		obj := b.obj
		b.mu.Unlock()
		if obj != nil && obj.Gone() {
			b.drop(obj)
		}
		return fmt.Errorf("%w: %s of %s %q", ErrDestroyed, what, b.Kind, b.Name)
	case errors.Is(err, client.ErrLost):
		return b.Unknown(what, b.Name, err)
	case errors.Is(err, client.ErrClosed):
		return distgear.ErrLeft
	case errors.Is(err, client.ErrTooLarge):
		return fmt.Errorf("%w: %s of %q: a value, with its key if it has one, has at most %d bytes, encoded", ErrInvalid, what, b.Name, client.MaxOp)
	case errors.Is(err, client.ErrOverloaded):
		return fmt.Errorf("%w: %w", distgear.ErrOverloaded, err)
	}
	return err
}

// Wait sends an operation that may be answered much later. When ctx ends first
// the wait is taken back; nil: it was answered all the same.
func (b *Base) Wait(ctx context.Context, what string, op operation.Op) error {
	if b.Err != nil {
		return b.Err
	}
	a, err := b.Object().Wait(ctx, op)
	switch {
	case err != nil:
		return lostToo(ctx, b.Fault(what, err))
	case a.Code == machine.Invalid:
		return fmt.Errorf("%w: %s of %s %q", ErrInvalid, what, b.Kind, b.Name)
	}
	return nil
}

// Destroy destroys the object for everybody.
func (b *Base) Destroy(ctx context.Context) error {
	if b.Err != nil {
		return b.Err
	}
	obj := b.Object()
	_, err := obj.Do(ctx, operation.Op{Verb: operation.VDestroy}, false)
	if err == nil || errors.Is(err, client.ErrGone) { // by somebody else
		b.drop(obj)
		return nil
	}
	return b.Fault("destroy", err)
}

// drop closes a handle; the next operation makes a new one, which is opened after
// that: with two open at once the ledger would tell of the object under the first.
func (b *Base) drop(obj *client.Object) {
	b.mu.Lock()
	defer b.mu.Unlock()
	obj.Close()
	if b.obj == obj {
		b.obj = nil
	}
}
