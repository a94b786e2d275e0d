package client

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/distgear/distgear/internal/machine"
	"github.com/distgear/distgear/internal/operation"
)

// ErrGone is the answer of an object that was destroyed.
var ErrGone = errors.New("client: the object was destroyed")

// KindError is the answer when a name is that of another kind of object, or of
// one made with another parameter. Nothing was changed.
type KindError struct {
	Name          string
	Want, Is      operation.Kind
	Param, Stands uint64
}

// Error says what the name is.
func (e *KindError) Error() string {
	if e.Want == e.Is {
		return fmt.Sprintf("%s %q exists with another size: %d, not %d", e.Is, e.Name, e.Stands, e.Param)
	}
	return fmt.Sprintf("%q is a %s, not a %s", e.Name, e.Is, e.Want)
}

// Sink is told what concerns an object as a whole. Its methods are called like
// a Receiver's.
type Sink interface {
	Event(o *operation.Output) // something that answers no request
	Lost()                     // the session was lost: nothing is held any more
}

// Object is a shared object as one client knows it. It is safe for concurrent
// use.
type Object struct {
	c      *Client
	kind   operation.Kind
	name   string
	param  uint64
	sink   Sink
	handle uint64

	sem chan struct{} // 1: who opens it

	mu   sync.Mutex
	open machine.Session // the session in which it is open
	gone bool

	closed bool            // guarded by Client.guard
	asked  machine.Session // in which VOpen was sent last, guarded by Client.guard
}

// maxResting is how many numbers of closed objects are not used again yet. An
// operation of one may still be about to be sent with the number of another, which
// is closed meanwhile (VTransfer).
const maxResting = 1024

// guard is what an operation is sent under.
func (c *Client) guard() *sync.Mutex {
	if c.alone != nil {
		return &c.alone.mu
	}
	return &c.mu
}

// admit tells whether an operation on the object may be sent; it is called with
// the guard held. After VClose comes nothing, so the number is free.
func (o *Object) admit(of machine.Session, ops []operation.Op) bool {
	if o == nil {
		return true
	}
	if ops[0].Verb == operation.VOpen && !o.closed {
		o.asked = of
	}
	return !o.closed
}

// Object returns the handle of a name, which is made when there is none. With a
// nil sink nothing is told. It does no I/O.
func (c *Client) Object(kind operation.Kind, name string, param uint64, sink Sink) *Object {
	c.omu.Lock()
	defer c.omu.Unlock()
	o := &Object{c: c, kind: kind, name: name, param: param, sink: sink, sem: make(chan struct{}, 1)}
	if len(c.free) > maxResting {
		o.handle = c.free[0]
		c.free = c.free[1:]
		c.objects[o.handle-1] = o
		return o
	}
	c.objects = append(c.objects, o)
	o.handle = uint64(len(c.objects))
	return o
}

func (c *Client) event(o *operation.Output) {
	c.omu.Lock()
	var obj *Object
	if h := o.Handle; h > 0 && h <= uint64(len(c.objects)) {
		obj = c.objects[h-1]
	}
	c.omu.Unlock()
	if obj == nil {
		return
	}
	if o.Code == machine.Gone {
		obj.destroyed()
	}
	if obj.sink != nil {
		obj.sink.Event(o)
	}
}

func (c *Client) lostObjects() {
	c.omu.Lock()
	all := make([]*Object, 0, len(c.objects))
	for _, o := range c.objects {
		if o != nil && o.sink != nil {
			all = append(all, o)
		}
	}
	c.omu.Unlock()
	for _, o := range all {
		o.sink.Lost()
	}
}

func (o *Object) destroyed() {
	o.mu.Lock()
	o.gone = true
	o.mu.Unlock()
}

// Gone tells whether the object was destroyed, as far as is known here.
func (o *Object) Gone() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.gone
}

// Name is the object's name.
func (o *Object) Name() string { return o.name }

// Open makes sure that the ledger has the object open in the session there is
// now, and returns that session.
func (o *Object) Open(ctx context.Context) (machine.Session, error) {
	for {
		if err := o.c.Ready(ctx); err != nil {
			return 0, err
		}
		now, ok := o.c.Session()
		if !ok {
			continue
		}
		o.mu.Lock()
		gone, open := o.gone, o.open == now
		o.mu.Unlock()
		switch {
		case gone:
			return 0, ErrGone
		case open:
			return now, nil
		}
		select {
		case o.sem <- struct{}{}:
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		}
		err := o.openIn(ctx, now)
		<-o.sem
		if err != nil && !errors.Is(err, ErrLost) {
			return 0, err
		}
	}
}

func (o *Object) openIn(ctx context.Context, now machine.Session) error {
	o.mu.Lock()
	done := o.open == now
	o.mu.Unlock()
	if done {
		return nil
	}
	a, err := o.ask(ctx, now, operation.Op{Verb: operation.VOpen, A: uint64(o.kind), B: o.param, Key: []byte(o.name)}, nil, false)
	if err != nil {
		return err
	}
	if a.Code != machine.OK && !(a.Code == machine.Invalid && a.Num == 0) { // Invalid without a kind: it is open already
		return &KindError{Name: o.name, Want: o.kind, Is: operation.Kind(a.Num), Param: o.param, Stands: a.Aux}
	}
	o.mu.Lock()
	o.open = now
	o.mu.Unlock()
	return nil
}

// Start sends operations on the object in a session in which it is open; see
// Client.Start. Their Handle is set here.
func (o *Object) Start(of machine.Session, r Receiver, ops ...operation.Op) (uint64, error) {
	for i := range ops {
		if ops[i].Handle == 0 {
			ops[i].Handle = o.handle
		}
	}
	return o.c.startOn(o, of, r, ops)
}

// Handle is the number for the object, for operations on two objects.
func (o *Object) Handle() uint64 { return o.handle }

// Close forgets the object: the ledger frees what the session holds of it.
// Operations that come later are ErrGone. It may be called more than once.
func (o *Object) Close() {
	o.destroyed()
	c, g := o.c, o.c.guard()
	g.Lock()
	closed, of := o.closed, o.asked
	o.closed = true
	g.Unlock()
	if closed {
		return
	}
	c.omu.Lock()
	c.objects[o.handle-1] = nil
	c.omu.Unlock()
	if of != 0 {
		_, err := c.Start(of, &closing{c, o.handle}, operation.Op{Verb: operation.VClose, Handle: o.handle})
		if err == nil {
			return
		}
	} // without the session it is closed already
	c.rest(o.handle)
}

// rest makes a number that means nothing to the ledger any more free.
func (c *Client) rest(handle uint64) {
	c.omu.Lock()
	c.free = append(c.free, handle)
	c.omu.Unlock()
}

// closing waits until the ledger has closed a handle: until then it may tell of its
// object under that number.
type closing struct {
	c      *Client
	handle uint64
}

// Output implements Receiver.
func (x *closing) Output(*operation.Output) bool { x.c.rest(x.handle); return true }

// Lost implements Receiver.
func (x *closing) Lost() { x.c.rest(x.handle) }
