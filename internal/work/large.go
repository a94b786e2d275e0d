package work

import (
	"fmt"
	"strconv"

	"github.com/distgear/distgear/internal/fault"
	"github.com/distgear/distgear/internal/machine/tasks"
	"github.com/distgear/distgear/internal/wire"
	"github.com/distgear/distgear/internal/work/frames"
	"github.com/distgear/distgear/internal/work/values"
)

// What is too large for a command or a report is stored, and a reference travels:
// an input for one lease, by the process that submitted the task; a result by the
// worker. The process that submitted drops both: the input when the attempt is over, the
// result when it has it. What is left when that process is killed the hub deletes a day later.

// store stores the input of an attempt first, and then sends the lease.
func (x *lease) store() {
	x.j.away = x
	x.b.f.room.Pool.Go((*storing)(x))
}

// storing is a lease whose input is being stored, on a goroutine of the node.
type storing lease

// Run implements runner.Task.
func (s *storing) Run() {
	x := (*lease)(s)
	f, j := x.b.f, x.j
	var ref []byte
	val, err := j.body.Input(nil)
	if err == nil {
		ref, err = values.Store(f.ctx, f.room, values.Fast(f.name), name{f.origin, x.lease.Number}.String(), "in-"+strconv.FormatUint(uint64(x.lease.Epoch), 10), val)
	}
	f.mu.Lock()
	defer f.unlock()
	x.input, _ = values.Ref(ref)
	if j.away != x || j.task.Epoch != x.lease.Epoch || j.task.State != tasks.Leased { // it was given back, or the worker is lost
		x.drop()
		return
	}
	f.m.Advance(f.now())
	if err != nil {
		j.away = nil
		rep := fault.NeverRan(fmt.Errorf("input of %s: %w", j.spec.Kind, err), 0)
		f.reported(x.b, j, x.lease, &rep, f.room.Node, false)
		return
	}
	x.start(append(frames.AppendLease(nil, x.lease), ref...))
}

// drop drops the input that was stored for an attempt that is over.
func (x *lease) drop() {
	if x.input.Name != "" {
		values.Drop(x.b.f.ctx, x.b.f.room, x.input)
		x.input = wire.Ref{}
	}
}

// result is where the result of an attempt is stored, if it is.
func (r *report) result() (wire.Ref, bool) {
	if r == nil || r.Outcome != wire.OK {
		return wire.Ref{}, false
	}
	return values.Ref(r.Payload)
}

// dropResult drops a result that nobody waits for.
func (f *Fast) dropResult(rep *wire.Report) {
	if ref, ok := (&report{Report: *rep}).result(); ok {
		values.Drop(f.ctx, f.room, ref)
	}
}

// expected is the jobs of a batch that have ended and whose results are on their
// way: the end of the batch is told after theirs.
type expected struct {
	jobs int
	over []func()
}

// expect notes that a job has ended whose result may have to be fetched, with mu held.
func (f *Fast) expect(j *Job) {
	if _, ok := j.last.result(); !ok || j.spec.Batch == "" {
		return
	}
	if f.expected[j.spec.Batch] == nil {
		f.expected[j.spec.Batch] = &expected{}
	}
	f.expected[j.spec.Batch].jobs++
}

// batchOver has it told that a batch has ended, with mu held.
func (f *Fast) batchOver(batch string, tell func()) {
	if e := f.expected[batch]; e != nil {
		e.over = append(e.over, tell)
		return
	}
	f.over = append(f.over, tell)
}

// fetching fetches the result of a job that has ended, on a goroutine of the node.
type fetching struct {
	f    *Fast
	j    *Job
	ref  wire.Ref
	node string // where it was made
}

// Run implements runner.Task.
func (x *fetching) Run() {
	f, j := x.f, x.j
	b, err := values.Fetch(f.ctx, f.room, x.ref)
	values.Drop(f.ctx, f.room, x.ref)
	if err != nil {
		if f.ctx.Err() != nil {
			err = fault.ErrLeft
		}
		j.End(fmt.Errorf("task %s of %s is OK, but its result of %d bytes, which %s stored, cannot be had: %w", j.ID(), j.spec.Kind, x.ref.Size, x.node, err))
	} else {
		j.Report(f.room, &wire.Report{Outcome: wire.OK, Over: true, Payload: b}, x.node)
	}
	f.told(1)
	if j.spec.Batch == "" {
		return
	}
	f.mu.Lock()
	defer f.unlock()
	if e := f.expected[j.spec.Batch]; e != nil {
		if e.jobs--; e.jobs == 0 {
			delete(f.expected, j.spec.Batch)
			f.over = append(f.over, e.over...)
		}
	}
}
