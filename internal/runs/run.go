package runs

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/distgear/distgear/cluster"
	"github.com/distgear/distgear/internal/fault"
	"github.com/distgear/distgear/internal/journal"
	"github.com/distgear/distgear/internal/runner"
	"github.com/distgear/distgear/internal/wire"
	"github.com/distgear/distgear/record"
)

// Run is one execution of an event. Its zero value is for Begin.
type Run struct {
	// Joining is a node that the run may address before it is a member; set
	// before the first Do.
	Joining *cluster.NodeName

	id    record.RunID
	host  *Host
	event string

	log     *durable // nil unless it is durable
	mu      sync.Mutex
	ctx     *runner.Context // nil when it has ended
	plans   []planned
	usual   [1]planned // where plans begins
	started int64      // ns since 1970
	input   []byte
	end     *ending       // nil while it goes on: very many may wait
	changed chan struct{} // closed at the next change; nil: nobody waits
	version uint32
	lent    bool // input is part of a message
	nested  bool
	stopped bool // cancelled by somebody
}

// planned is a plan of a run.
type planned struct {
	p *Plan
	d *drive // nil when the run has ended and the plan was plain: its steps say all
}

// ending is how a run ended.
type ending struct {
	at      int64 // ns since 1970
	out     []byte
	err     error
	outcome wire.Outcome
}

// ID is the run's id.
func (r *Run) ID() record.RunID { return r.id }

// Plans is how many plans the run has begun.
func (r *Run) Plans() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.plans)
}

// Do runs a plan, whose steps have been named, in the cluster of h, and returns
// when nothing of it runs any more. Nil means that all steps are OK.
func (r *Run) Do(ctx context.Context, h *Host, p *Plan) *Failure {
	r.mu.Lock()
	if r.plans == nil {
		r.plans = r.usual[:0]
	}
	d := newDrive(r, h, p)
	r.plans = append(r.plans, planned{p, d})
	r.touch()
	if r.log == nil {
		d.start()
	} else if f := r.doDurable(ctx, d); f != nil {
		return f
	}
	r.mu.Unlock()
	// The context of a handler is ours: it needs no channel and no timer.
	c, ours := ctx.(*runner.Context)
	ours = ours && c.SetHook(&d.hook)
	var stop func() bool
	if !ours && ctx.Done() != nil {
		stop = context.AfterFunc(ctx, d.Cancelled)
	}
	r.mu.Lock()
	d.await()
	d.loose = ours && !c.ClearHook(&d.hook) || stop != nil && !stop()
	f := d.failure(ctx)
	if r.log != nil {
		r.log.busy--
		r.log.rest()
	}
	r.mu.Unlock() // not deferred: it is not locked while the user computes an input
	if r.log != nil {
		_ = r.log.gone() // the failure has it
	}
	return f
}

// Cancelled implements runner.Hook: it cancels the plan (S11).
func (d *drive) Cancelled() {
	if d.enter() {
		was := d.m.Cancelled()
		if d.fx = d.m.Cancel(d.fx); d.log != nil && d.m.Cancelled() != was {
			d.log.timeout = errors.Is(d.log.why(), context.DeadlineExceeded)
			d.note(journal.Record{Kind: journal.Cancelled, Timeout: d.log.timeout})
		}
		d.exit()
	}
}

// joining is who may be addressed before it is a member; empty: nobody.
func (r *Run) joining() cluster.NodeName {
	if r.Joining == nil {
		return ""
	}
	return *r.Joining
}

// touch counts a change and tells who watches.
func (r *Run) touch() {
	r.version++
	if r.changed != nil {
		close(r.changed)
		r.changed = nil
	}
}

// watch returns a channel that is closed at the next change.
func (r *Run) watch() <-chan struct{} {
	if r.changed == nil {
		r.changed = make(chan struct{})
	}
	return r.changed
}

// Wait waits for the end of the run.
func (r *Run) Wait(ctx context.Context) ([]byte, error) {
	for {
		r.mu.Lock()
		end := r.end
		c := r.watch()
		r.mu.Unlock()
		if end != nil {
			return end.out, end.err
		}
		select {
		case <-c:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// Cancel cancels the run unless it has ended.
func (r *Run) Cancel() {
	r.mu.Lock()
	ctx := r.ctx
	if ctx != nil {
		if l := r.log; l != nil && l.over == nil && !l.given && !r.stopped {
			l.unit.Add(&journal.Record{Kind: journal.Stopped})
			l.flush(time.Now())
		}
		r.stopped = true
		r.touch()
	}
	r.mu.Unlock()
	if ctx != nil {
		ctx.Cancel(context.Canceled)
	}
}

// leave ends every Do of a run whose node has left.
func (r *Run) leave() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, x := range r.plans {
		if x.d != nil {
			x.d.wake.Broadcast() // it looks at Host.Stop
		}
	}
	if r.log != nil {
		r.log.wake.Broadcast()
	}
}

// Unwind rolls a run back, once it has ended.
func (r *Run) Unwind(ctx context.Context) error {
	if _, err := r.Wait(ctx); err != nil && ctx.Err() != nil {
		return err
	}
	r.mu.Lock()
	plans := r.plans
	r.mu.Unlock()
	for i := len(plans) - 1; i >= 0; i-- {
		d := plans[i].d // a nested run keeps them
		if !d.p.Rollback {
			continue
		}
		done := make(chan struct{})
		if !d.enter() {
			return fault.ErrLeft
		}
		d.settled = append(d.settled, done)
		d.fx = d.m.Unwind(d.fx)
		d.exit()
		select {
		case <-done:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		r.mu.Lock()
		ok := d.m.RolledBack()
		r.mu.Unlock()
		if !ok {
			return fmt.Errorf("plan %s of run %s is not all undone", d.p.Name, r.id)
		}
	}
	return nil
}

// Key is the key of the command that began the run.
func (r *Run) Key() string {
	key, _, _ := strings.Cut(string(r.id), "#") // a further attempt's id
	return key
}

// size is about how many bytes a finished run holds on to.
func (r *Run) size() int {
	n := 512 + len(r.input)
	if r.end != nil {
		n += len(r.end.out)
	}
	for _, x := range r.plans {
		n += x.p.Size()
	}
	return n
}

// clean tells whether nothing of a failed run's plans is left.
func (r *Run) clean() bool {
	for _, x := range r.plans {
		if x.d == nil || !x.p.Rollback || !x.d.m.RolledBack() {
			return false
		}
	}
	return len(r.plans) > 0
}

// settle takes the drives of plain plans back, of a run that has ended and will
// not be undone.
func (r *Run) settle() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range r.plans {
		if d := r.plans[i].d; d.plain() {
			r.plans[i].d = nil
			d.recycle()
		}
	}
}

// failure is what Do returns.
func (d *drive) failure(ctx context.Context) *Failure {
	if d.log != nil && d.r.log.over != nil {
		return &Failure{Plan: d.p.Name, Rollback: d.p.Rollback, Err: d.r.log.over}
	}
	if !d.left && !d.m.Failed() && !d.m.Cancelled() {
		return nil
	}
	f := &Failure{Plan: d.p.Name, Rollback: d.p.Rollback, RolledBack: d.p.Rollback && d.m.RolledBack()}
	var errs []error
	if c := d.m.Cause(); c >= 0 {
		f.Step = d.p.Steps[c].Name
		errs = append(errs, d.p.Steps[c].Err)
	}
	switch {
	case d.left:
		errs = append([]error{fault.ErrLeft}, errs...)
	case d.m.Cancelled():
		why := fault.ErrCancelled
		if d.log == nil && errors.Is(ctx.Err(), context.DeadlineExceeded) || d.log != nil && d.log.timeout {
			why = fault.ErrTimeout
		}
		errs = append([]error{why}, errs...)
	default:
		for i, s := range d.p.Steps {
			if i != d.m.Cause() && s.Ended && s.Err != nil {
				errs = append(errs, fmt.Errorf("step %s: %w", s.Name, s.Err))
			}
		}
	}
	if f.Err = errs[0]; len(errs) > 1 {
		f.Err = errors.Join(errs...)
	}
	for i, s := range d.p.Steps {
		if !s.Ended {
			s.Ended, s.Err = true, fmt.Errorf("%w: step %s was %s", fault.ErrInvalid, s.Name, d.m.State(i))
		}
	}
	return f
}

// Await waits until the version of the record is higher than since, or for limit.
func (r *Run) Await(ctx context.Context, since uint64, limit time.Duration) {
	t := time.NewTimer(limit)
	defer t.Stop()
	for {
		r.mu.Lock()
		newer, w := uint64(r.version) > since, r.watch()
		r.mu.Unlock()
		if newer {
			return
		}
		select {
		case <-w:
		case <-t.C:
			return
		case <-ctx.Done():
			return
		case <-r.host.Stop:
			return
		}
	}
}
