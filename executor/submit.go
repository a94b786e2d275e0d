package executor

import (
	"context"
	"fmt"
	"math"
	"reflect"
	"time"
	"unsafe"

	"github.com/distgear/distgear"
	"github.com/distgear/distgear/internal/codec"
	"github.com/distgear/distgear/internal/work"
	"github.com/distgear/distgear/internal/work/values"
)

// defaultTimeout is an attempt's when the action says none.
const defaultTimeout = 30 * time.Second

// prepared is what an executor knows of an action.
type prepared[In, Out any] struct {
	a     *distgear.Action[In, Out]
	spec  work.Spec
	in    codec.Of[In]
	out   codec.Of[Out]
	asIs  bool // inputs are kept as they are
	back  bool // and results
	fault error
}

// preparing is the last of them.
type preparing struct{ action, prepared any }

// prepare looks an action up.
func prepare[In, Out any](e *core, a *distgear.Action[In, Out]) *prepared[In, Out] {
	if l := e.last.Load(); l != nil && l.action == any(a) {
		return l.prepared.(*prepared[In, Out]) //nolint:forcetypeassert // stored below
	}
	v, ok := e.actions.Load(a)
	if !ok {
		v, _ = e.actions.LoadOrStore(a, fresh(e, a))
	}
	e.last.Store(&preparing{a, v})
	return v.(*prepared[In, Out]) //nolint:forcetypeassert // stored here
}

func fresh[In, Out any](e *core, a *distgear.Action[In, Out]) *prepared[In, Out] {
	p := &prepared[In, Out]{a: a, in: codec.For[In](), out: codec.For[Out]()}
	if a == nil {
		p.fault = fmt.Errorf("%w: task of executor %q: the action is nil", distgear.ErrInvalid, e.name)
		return p
	}
	if err := e.room.Check(a); err != nil {
		p.fault = fmt.Errorf("%w: task of executor %q: %w", distgear.ErrInvalid, e.name, err)
		return p
	}
	p.asIs, p.back = p.in.Copies(), p.out.Copies()
	var none In
	if e.room.Links != nil && !flat(reflect.TypeFor[In]()) {
		p.asIs = false // its size is told to the queue
	}
	timeout := a.Timeout
	if timeout == 0 {
		timeout = defaultTimeout
	}
	p.spec = work.Spec{
		Kind: a.Name, Idempotent: a.Idempotent, Retries: uint16(min(a.Retries, math.MaxUint16)),
		Timeout: uint32(min(timeout.Milliseconds(), math.MaxUint32)), Size: uint32(unsafe.Sizeof(none)) + 16,
	}
	return p
}

// flat tells whether all values of a type have about the same size.
func flat(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.Struct:
		for f := range t.NumField() {
			if !flat(t.Field(f).Type) {
				return t == reflect.TypeFor[time.Time]()
			}
		}
		return true
	case reflect.Array:
		return flat(t.Elem())
	}
	return t.Kind() <= reflect.Complex128
}

// task is a task as its submitter has it.
type task[In, Out any] struct {
	Future[Out]
	p   *prepared[In, Out]
	in  In
	raw []byte // instead of in; nil: in counts, or it is encoded to nothing
}

// fill makes t a task.
func (t *task[In, Out]) fill(e *core, p *prepared[In, Out], in In, spec *work.Spec, id string) error {
	t.p, t.core = p, e
	if p.asIs {
		t.in = in
	} else {
		var err error
		if t.raw, err = p.in.Append(nil, in); err != nil {
			return fmt.Errorf("%w: input of %s: %w", distgear.ErrInvalid, p.spec.Kind, err)
		}
		if err = e.tooLarge("input", p.spec.Kind, len(t.raw)); err != nil {
			return err
		}
		s := *spec
		s.Size = uint32(len(t.raw)) + 16
		spec = &s
	}
	t.job.Init(spec, id, p.a, t)
	return nil
}

// tooLarge is the error of an input or result that has n bytes; nil if it may.
func (e *core) tooLarge(what, kind string, n int) error {
	if e.room.Links == nil { // it stays where it is
		return nil
	}
	return values.TooLarge(what, kind, n)
}

// Do implements work.Body.
func (t *task[In, Out]) Do(ctx context.Context) error {
	in := t.in
	if !t.p.asIs {
		var err error
		if in, err = t.p.in.New(t.raw); err != nil {
			return distgear.Permanent(distgear.Clean(fmt.Errorf("%w: input of %s: %w", distgear.ErrInvalid, t.p.spec.Kind, err)))
		}
	}
	out, err := t.p.a.Do(ctx, in)
	if err != nil {
		return err
	}
	if t.p.back {
		t.out = out
		return nil
	}
	b, err := t.p.out.Append(nil, out)
	if err != nil {
		return distgear.Permanent(fmt.Errorf("%w: result of %s: %w", distgear.ErrInvalid, t.p.spec.Kind, err))
	}
	if err = t.core.tooLarge("result", t.p.spec.Kind, len(b)); err != nil {
		return distgear.Permanent(err)
	}
	return t.Result(b)
}

// Input implements work.Body.
func (t *task[In, Out]) Input(b []byte) ([]byte, error) {
	if !t.p.asIs {
		return append(b, t.raw...), nil
	}
	return t.p.in.Append(b, t.in)
}

// Submit hands a task over, and returns when it was taken up: at once, unless the
// executor is full (or, if it is durable, the ledger has to write it down). ctx bounds only that: the task goes on. An error
// means that it was not taken up: distgear.ErrInvalid, ErrFull, ErrShutdown, distgear.ErrLeft.
func Submit[In, Out any](ctx context.Context, ex *Executor, a *distgear.Action[In, Out], in In, opts ...TaskOption) (*Future[Out], error) {
	if err := ready(ctx, ex); err != nil {
		return nil, err
	}
	p := prepare(ex.core, a)
	if p.fault != nil {
		return nil, p.fault
	}
	spec, id := &p.spec, ""
	if len(opts) > 0 {
		o, err := read(spec, opts, false)
		if err != nil {
			return nil, err
		}
		spec, id = &o.spec, o.id
	}
	t := &task[In, Out]{}
	if err := t.fill(ex.core, p, in, spec, id); err != nil {
		return nil, err
	}
	if err := ex.class.Submit(ctx, &t.job); err != nil {
		return nil, ex.notTaken(err)
	}
	return &t.Future, nil
}

func ready(ctx context.Context, ex *Executor) error {
	if ex.fault != nil {
		return ex.fault
	}
	if ctx.Err() != nil {
		return fmt.Errorf("%w: %w", distgear.ErrInvalid, context.Cause(ctx))
	}
	return nil
}

// notTaken is the error of a submission.
func (e *core) notTaken(err error) error { return fmt.Errorf("submit to %q: %w", e.name, err) }

// InvokeAll submits a task for each input. The futures are in the order of the
// inputs; with an error they are those of the first inputs: so many were taken up.
func InvokeAll[In, Out any](ctx context.Context, ex *Executor, a *distgear.Action[In, Out], ins ...In) ([]*Future[Out], error) {
	ts, js, err := all(ctx, ex, a, ins, nil)
	if err != nil {
		return nil, err
	}
	n, err := ex.class.SubmitAll(ctx, js)
	fs := make([]*Future[Out], n)
	for i := range fs {
		fs[i] = &ts[i].Future
	}
	if err != nil {
		return fs, ex.notTaken(err)
	}
	return fs, nil
}

// slabSize is how many tasks of one InvokeAll are allocated at once.
const slabSize = 32

// all makes tasks. What listens to them, if anything, is told of each end.
func all[In, Out any](ctx context.Context, ex *Executor, a *distgear.Action[In, Out], ins []In, l work.Listener) ([]*task[In, Out], []*work.Job, error) {
	if err := ready(ctx, ex); err != nil {
		return nil, nil, err
	}
	p := prepare(ex.core, a)
	if p.fault != nil {
		return nil, nil, p.fault
	}
	ts, js := make([]*task[In, Out], len(ins)), make([]*work.Job, len(ins))
	var slab []task[In, Out] // tasks that are allocated at once; who keeps one keeps them
	for i, in := range ins {
		if len(slab) == 0 {
			slab = make([]task[In, Out], min(slabSize, len(ins)-i))
		}
		ts[i], slab = &slab[0], slab[1:]
		if err := ts[i].fill(ex.core, p, in, &p.spec, ""); err != nil {
			return nil, nil, err
		}
		js[i] = &ts[i].job
		if l != nil {
			js[i].Tell(l)
		}
	}
	return ts, js, nil
}

// InvokeAny submits a task for each input, and returns the first result that is OK;
// the others are cancelled. When all fail, or ctx ends, the error tells why.
func InvokeAny[In, Out any](ctx context.Context, ex *Executor, a *distgear.Action[In, Out], ins ...In) (Out, error) {
	var none Out
	if len(ins) == 0 {
		return none, fmt.Errorf("%w: no inputs", distgear.ErrInvalid)
	}
	c := newCollector()
	_, js, err := all(ctx, ex, a, ins, c)
	if err != nil {
		return none, err
	}
	n, err := ex.class.SubmitAll(ctx, js)
	if err != nil {
		err = ex.notTaken(err)
	}
	defer func() {
		for _, j := range js[:n] {
			if !j.Over() {
				ex.class.Cancel(j)
			}
		}
	}()
	for range n {
		j, end := c.next(ctx)
		if end != nil {
			return none, ex.gaveUp(fmt.Sprintf("stopped waiting for %d tasks of executor %q", n, ex.name), a.Name, end)
		}
		if j.Err() == nil {
			return futureOf[Out](j).out, nil
		}
		if err == nil {
			err = j.Err()
		}
	}
	if n > 1 {
		err = fmt.Errorf("none of %d tasks is OK; the first that failed: %w", n, err)
	}
	return none, err
}
