package shared

import (
	"context"
	"crypto/sha256"
	"errors"
	"sync"

	"github.com/distgear/distgear"
	"github.com/distgear/distgear/internal/machine"
	"github.com/distgear/distgear/internal/objects"
	"github.com/distgear/distgear/internal/operation"
)

// Once does one thing once in the whole cluster. Make it with NewOnce; it is
// safe for concurrent use.
//
//	err := shared.NewOnce(n, "schema").Do(ctx, createSchema)
//
// Do returns nil when a function has returned nil, here or elsewhere, and waits
// for one that runs. A function that failed or panicked does not count: the next Do
// runs its own. Nor does one whose node was lost before it had returned, or
// before the hub had heard so: another runs it again, maybe while the first is
// still at it, if that does not obey its context. So a function that must not be
// repeated has to find out itself, or to fence by the Token of a Mutex.
//
// That it is done is remembered until Destroy. Once that a node knows it, Do
// sends no message.
type Once struct{ o *once }

// once is a named Once as one node knows it.
type once struct {
	*objects.Base // a counter: 1 when it is done
	lock          *Mutex

	known sync.Mutex
	done  bool   // as far as is known here, guarded by known
	ends  uint64 // how often it ended to be known, guarded by known
}

// NewOnce returns the Once with that name. It does no I/O. It has a lock of its
// own, whose name begins with a zero byte.
func NewOnce(n *distgear.Node, name string) *Once {
	h, lock := host(n), NewMutex(n, part("once", name))
	id := objects.ID{Kind: operation.KCounter, Name: name, Param: onceCounter}
	return &Once{h.Room.Value(id, func() any {
		o := &once{lock: lock}
		o.Base = objects.New(h, id, o)
		return o
	}).(*once)}
}

// part names an object that is a part of another one.
func part(of, name string) string {
	const room = 32 // bytes for what stands before
	if len(name) > objects.MaxName-room {
		h := sha256.Sum256([]byte(name))
		name = "\x00" + string(h[:])
	}
	return "\x00" + of + "\x00" + name
}

// Do runs f unless it was done, or waits for who runs it. Its error is that of
// f, or says that f was not run (ctx ended, ErrSessionLost while it waited), or that
// f returned nil and the hub may not know it: then f may run again. A Do under the
// context of f is refused with ErrHeld. The context of f ends when the session is
// lost.
func (o *Once) Do(ctx context.Context, f func(context.Context) error) error {
	x := o.o
	if done, err := x.isDone(ctx); done || err != nil {
		return err
	}
	return x.lock.Do(ctx, func(under context.Context, _ Token) error {
		if done, err := x.isDone(under); done || err != nil {
			return err
		}
		if err := f(under); err != nil {
			return err
		}
		_, err := x.Do(ctx, "mark", operation.Op{Verb: operation.VCounterStore, A: 1}, true) // also in another session: it is done
		return err
	})
}

// Done tells whether it is done.
func (o *Once) Done(ctx context.Context) (bool, error) { return o.o.isDone(ctx) }

// Destroy forgets that it was done, for everybody: the name may be used anew. A
// Do under way gets ErrDestroyed, or ErrSessionLost at its end. Another node may
// take it for done until it has heard of that.
func (o *Once) Destroy(ctx context.Context) error {
	return errors.Join(o.o.Destroy(ctx), o.o.lock.Destroy(ctx))
}

func (x *once) isDone(ctx context.Context) (bool, error) {
	x.known.Lock()
	done, ends := x.done, x.ends
	x.known.Unlock()
	if done {
		return true, nil
	}
	a, err := x.Do(ctx, "load", operation.Op{Verb: operation.VCounterLoad}, true)
	if err != nil || a.Num == 0 {
		return false, err
	}
	x.known.Lock()
	if x.ends == ends { // what came meanwhile may be later than the answer
		x.done = true
	}
	x.known.Unlock()
	return true, nil
}

func (x *once) forget() {
	x.known.Lock()
	x.done = false
	x.ends++
	x.known.Unlock()
}

// Event implements client.Sink.
func (x *once) Event(o *operation.Output) {
	if o.Code == machine.Gone {
		x.forget()
	}
}

// Lost implements client.Sink: nobody would tell us any more.
func (x *once) Lost() { x.forget() }
