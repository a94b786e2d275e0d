// Package shared holds objects that every node of a cluster can see: locks,
// conditions, barriers, counters, maps, queues. In a process that is alone they
// are what the same objects are in any program.
//
//	m := shared.NewMutex(n, "accounts")       // cheap, no I/O
//	lease, err := m.Lock(ctx)
//	defer lease.Unlock()
//
//	q := shared.NewQueue[Job](n, "jobs", 100) // bounded
//	err = q.Put(ctx, job)                     // blocks while it is full
//
// An object is known by its name, at most 256 bytes; the first use makes it. The
// same name used as another kind, or with another size, is an error
// (ErrMismatch). An object lives until Destroy, or until nobody could tell the
// difference: it is empty, nobody holds it and nobody waits.
//
// Values are encoded as package distgear does it. In a process that is alone
// they are handed on as they are: do not change what you have put in.
//
// # Guarantees
//
// What an operation answered is in the hub's ledger: on disk if the hub has a
// directory. Operations of one object are linearizable; what a node did before it
// released a lock is seen by everybody who gets the lock after it. Every grant has
// a Token that only grows. docs/guarantees.md has a row for each object.
//
// # Failures
//
// Every method that may block obeys its context. When the node's session with
// the hub is lost, what the node held is lost (Lease.Lost), waiting ends with
// ErrSessionLost, and operations under way end with it too: their outcome is
// unknown. Later operations work in a new session. While the hub is away,
// operations wait. ErrDestroyed, ErrMismatch, ErrNotHeld and ErrInvalid mean that
// nothing was changed.
package shared

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/distgear/distgear"
	"github.com/distgear/distgear/internal/client"
	"github.com/distgear/distgear/internal/machine"
	"github.com/distgear/distgear/internal/room"
	"github.com/distgear/distgear/internal/shard"
)

// The errors of shared objects.
var (
	ErrDestroyed   = errors.New("shared: the object was destroyed")
	ErrMismatch    = errors.New("shared: the name belongs to another kind of object")
	ErrSessionLost = errors.New("shared: the session with the hub was lost")
	ErrNotHeld     = errors.New("shared: not held")
	ErrHeld        = errors.New("shared: held by who asks; it would wait for itself")
	ErrUpgrade     = errors.New("shared: a reader cannot become a writer; release first")
	ErrBroken      = errors.New("shared: the barrier is broken")
	ErrInvalid     = distgear.ErrInvalid
)

// LostError is ErrSessionLost, and names what was under way: its outcome is
// unknown.
type LostError struct{ Op, Object string }

// Error says what is unknown.
func (e *LostError) Error() string {
	return fmt.Sprintf("%s of %q: the session with the hub was lost: it is not known whether it was done", e.Op, e.Object)
}

// Is makes it ErrSessionLost and distgear.ErrUnknown.
func (e *LostError) Is(target error) bool {
	return target == ErrSessionLost || target == distgear.ErrUnknown
}

// Token fences: of two grants of one object the later has the higher Token, on
// whatever node and after whatever crash of the hub. A resource that remembers
// the highest one it has seen can refuse what comes late.
type Token uint64

const maxName = 256 // bytes

// base is a named object as one node knows it.
type base struct {
	room *room.Room
	kind shard.Kind
	name string
	err  error // what is wrong with the name or the size

	mu    sync.Mutex
	param uint64
	obj   *client.Object
	sink  client.Sink
}

// key names what a node keeps for an object, so that two handles are one.
type key struct {
	kind  shard.Kind
	name  string
	param uint64
}

func newBase(n *distgear.Node, kind shard.Kind, name string, param uint64) *base {
	r := n.Room()
	return r.Value(key{kind, name, param}, func() any { return makeBase(r, kind, name, param, nil) }).(*base)
}

func makeBase(r *room.Room, kind shard.Kind, name string, param uint64, sink client.Sink) *base {
	b := &base{room: r, kind: kind, name: name, param: param, sink: sink}
	if name == "" || len(name) > maxName {
		b.err = fmt.Errorf("%w: the name of a shared object has 1 to %d bytes, not %d", ErrInvalid, maxName, len(name))
	}
	return b
}

// object is the handle for the ledger. An object that was destroyed has a new
// one: its name is free again.
func (b *base) object() *client.Object {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.obj == nil {
		b.obj = b.room.Ledger.Object(b.kind, b.name, b.param, b.sink)
	}
	return b.obj
}

// do sends one operation and waits for its answer; retry is for those that
// change nothing.
func (b *base) do(ctx context.Context, what string, op shard.Op, retry bool) (client.Answer, error) {
	if b.err != nil {
		return client.Answer{}, b.err
	}
	a, err := b.object().Do(ctx, op, retry)
	if err != nil {
		return a, b.fault(what, err)
	}
	if a.Code == machine.Invalid {
		return a, fmt.Errorf("%w: %s of %s %q", ErrInvalid, what, b.kind, b.name)
	}
	return a, nil
}

// fault says an error of the client in the words of this package.
func (b *base) fault(what string, err error) error {
	kind, mismatch := errors.AsType[*client.KindError](err)
	switch {
	case mismatch:
		return fmt.Errorf("%w: %w", ErrMismatch, kind)
	case errors.Is(err, client.ErrGone):
		b.mu.Lock()
		if b.obj != nil && b.obj.Gone() {
			b.obj = nil // the next operation makes it anew
		}
		b.mu.Unlock()
		return fmt.Errorf("%w: %s of %s %q", ErrDestroyed, what, b.kind, b.name)
	case errors.Is(err, client.ErrLost):
		return &LostError{Op: what, Object: b.name}
	case errors.Is(err, client.ErrClosed):
		return distgear.ErrLeft
	case errors.Is(err, client.ErrTooLarge):
		return fmt.Errorf("%w: %s of %q: a key and a value have at most %d bytes", ErrInvalid, what, b.name, client.MaxOp)
	case errors.Is(err, client.ErrOverloaded):
		return fmt.Errorf("%w: %w", distgear.ErrOverloaded, err)
	}
	return err
}

// wait sends an operation that may be answered much later. When ctx ends first
// the wait is taken back; nil: it was answered all the same.
func (b *base) wait(ctx context.Context, what string, op shard.Op) error {
	if b.err != nil {
		return b.err
	}
	a, err := b.object().Wait(ctx, op)
	switch {
	case err != nil:
		return lostToo(ctx, b.fault(what, err))
	case a.Code == machine.Invalid:
		return fmt.Errorf("%w: %s of %s %q", ErrInvalid, what, b.kind, b.name)
	}
	return nil
}

// destroy destroys the object for everybody.
func (b *base) destroy(ctx context.Context) error {
	_, err := b.do(ctx, "destroy", shard.Op{Verb: shard.VDestroy}, false)
	if errors.Is(err, ErrDestroyed) {
		return nil // by somebody else
	}
	if err == nil {
		b.mu.Lock()
		b.obj = nil
		b.mu.Unlock()
	}
	return err
}
