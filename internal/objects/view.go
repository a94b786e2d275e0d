package objects

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/distgear/distgear/internal/client"
	"github.com/distgear/distgear/internal/machine"
	"github.com/distgear/distgear/internal/operation"
)

// Latest is what there is to see of an object now.
type Latest struct {
	Key string
	Aux uint64
}

// View is the latest of an object that its observer was told.
type View struct {
	obj     *client.Object
	b       *Base
	session machine.Session
	req     uint64
	more    chan struct{} // 1: there is something new

	mu   sync.Mutex
	now  Latest
	lost bool
	err  error
}

// Observe begins to observe the object.
func (b *Base) Observe(ctx context.Context) (*View, error) {
	const what = "observe"
	if b.Err != nil {
		return nil, b.Err
	}
	for {
		if err := context.Cause(ctx); err != nil {
			return nil, err
		}
		v := &View{b: b, obj: b.Object(), more: make(chan struct{}, 1)}
		var err error
		if v.session, err = v.obj.Open(ctx); err != nil {
			return nil, b.Fault(what, err)
		}
		if v.req, err = v.obj.Start(v.session, v, operation.Op{Verb: operation.VObserve}); err == nil {
			return v, nil
		}
		if !errors.Is(err, client.ErrLost) {
			return nil, b.Fault(what, err)
		}
	}
}

// Next waits for something new; over: nothing more will come.
func (v *View) Next(ctx context.Context) (now Latest, over bool, err error) {
	select {
	case <-v.more:
	case <-ctx.Done():
		return now, false, context.Cause(ctx)
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.now, v.lost, v.err
}

// Stop ends it.
func (v *View) Stop() {
	_, _ = v.obj.Start(v.session, nil, operation.Op{Verb: operation.VAbandon, A: v.req}) // a lost session hears nothing any more
}

// Output implements client.Receiver.
func (v *View) Output(o *operation.Output) (done bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	switch o.Code {
	case machine.OK, machine.Changed:
		v.now = Latest{string(o.Key), o.Aux}
	case machine.Refused: // it was stopped
		return true
	case machine.Gone:
		v.err, done = v.b.Fault("observe", client.ErrGone), true
	default:
		v.err, done = fmt.Errorf("%w: observe of %s %q", ErrInvalid, v.b.Kind, v.b.Name), true
	}
	v.signal()
	return done
}

// Lost implements client.Receiver.
func (v *View) Lost() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.lost = true
	v.signal()
}

func (v *View) signal() {
	select {
	case v.more <- struct{}{}:
	default:
	}
}
