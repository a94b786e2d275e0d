package stand

import (
	"context"
	"fmt"

	"github.com/distgear/distgear/internal/fault"
	"github.com/distgear/distgear/internal/wire"
	"github.com/distgear/distgear/internal/work"
	"github.com/distgear/distgear/internal/work/values"
)

// fetch puts an attempt when its input is here, which is too large for the lease.
func (s *stand) fetch(w *work.Worker, x *inbound, ref wire.Ref) {
	s.mu.Lock()
	s.fetching[x] = true
	s.mu.Unlock()
	s.room.Pool.Go(&fetching{w, x, ref})
}

// fetching fetches an input, on a goroutine of the node.
type fetching struct {
	w   *work.Worker
	x   *inbound
	ref wire.Ref
}

// Run implements runner.Task.
func (f *fetching) Run() {
	x, s := f.x, f.x.stand
	in, err := values.Fetch(x, s.room, f.ref)
	s.mu.Lock()
	delete(s.fetching, x)
	s.mu.Unlock()
	var rep wire.Report
	switch {
	case x.Cancelled() != nil:
		rep = fault.NeverRan(fault.ErrCancelled, fault.Cancelled)
	case err != nil:
		rep = fault.NeverRan(fmt.Errorf("fetching its input of %d bytes: %w", f.ref.Size, err), 0)
	default:
		x.Input = in
		if f.w.Put(&x.Attempt) {
			return
		}
		rep = work.GiveBack()
	}
	x.Reported(nil, &rep)
}

// storing stores a result that is too large for a report, on a goroutine of the
// node, and then reports it.
type storing struct {
	x       *inbound
	payload []byte
}

// Run implements runner.Task.
func (t *storing) Run() {
	x := t.x
	defer x.stand.room.Free()
	ref, err := values.Store(context.WithoutCancel(x), x.stand.room, values.Fast(x.stand.name), x.Name(), "out", t.payload)
	rep := wire.Report{Outcome: wire.OK, Over: true, Payload: ref}
	if err != nil {
		rep = fault.Report(err) // what was done is known no more
	}
	x.Reported(nil, &rep)
}
