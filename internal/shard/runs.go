package shard

import (
	"cmp"
	"encoding/binary"
	"hash/fnv"
	"slices"

	"github.com/distgear/distgear/internal/machine"
	"github.com/distgear/distgear/internal/machine/pack"
	"github.com/distgear/distgear/internal/machine/runs"
	"github.com/distgear/distgear/internal/machine/tasks"
	"github.com/distgear/distgear/internal/machine/words"
)

// A task whose worker keeps a journal is the run of a durable event: docs/adr/0007.
// What the ledger has of it beside the task is in executor.runs, by the task's number. It is
// there from the first VAppend, VSignal or RunCancel on, until the task is
// forgotten.

// run is what there is beside a task, made when there is nothing.
func (x *executor) run(t *tasks.Task[string]) *runs.Run {
	r := x.runs[t.Number]
	if r == nil {
		if x.runs == nil {
			x.runs = map[uint64]*runs.Run{}
		}
		x.sweepRuns()
		r = &runs.Run{}
		x.runs[t.Number] = r
	}
	return r
}

// sweepRuns forgets the runs of tasks that are forgotten, when they may be half of all.
func (x *executor) sweepRuns() {
	s := x.m.Stats()
	if len(x.runs) < 2*(x.m.Len()+s.Ended)+1024 {
		return
	}
	for n := range x.runs {
		if x.m.Numbered(n) == nil {
			delete(x.runs, n)
		}
	}
}

// raised tells whether the runs to be submitted are those that their IDs say.
func (x *executor) raised() bool {
	for i := range x.items {
		it := &x.items[i]
		t := x.m.Find(it.Spec.ID)
		if t == nil {
			continue
		}
		if r := x.runs[t.Number]; r == nil || t.Kind() != it.Spec.Kind || r.Sum() != sum(it.Val) {
			return false
		}
	}
	return true
}

// begin notes what runs were raised with.
func (x *executor) begin(c *call) {
	if c.op.A&SubmitRuns == 0 {
		return
	}
	for i := range x.items {
		if t := x.items[i].Task; t.Number != 0 {
			x.run(t).Begin(sum(x.items[i].Val))
		}
	}
}

// sum tells inputs apart.
func sum(in string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(in)) // never fails
	return h.Sum64()
}

// view is what there is to tell of a run.
func (x *executor) view(c *call, t *tasks.Task[string], b []byte) []byte {
	v := runs.View{Kind: t.Kind(), State: t.State, Outcome: t.Outcome, Started: t.Submitted, Since: t.Since, Reason: t.Reason()}
	if s := t.Worker(); s != 0 {
		v.Node = c.node(s)
	}
	r := x.runs[t.Number]
	if r != nil {
		v.Waits, v.Summary, v.Journal = r.Waits(), r.Summary(), r.Units()
	}
	if t.State != tasks.Ended {
		v.Input = []byte(t.Val)
	}
	return runs.AppendView(b, &v)
}

// append takes an entry of a run's owner up (VAppend).
func (x *executor) append(c *call) {
	e, err := runs.ParseEntry(c.op.Val)
	if err != nil {
		c.invalid()
		return
	}
	t := x.m.Held(c.ses.id, e.Lease)
	if t == nil {
		c.answer(machine.Stale, 0, 0)
		return
	}
	r := x.run(t)
	if err := r.Append(slices.Clone(e.Unit), e.Took); err != nil {
		x.answer(c, err)
		return
	}
	if len(e.Unit) > 0 {
		t.Proven()
	}
	switch e.Why {
	case runs.Suspended:
		x.suspend(c, t, r, &e)
	case runs.Parked:
		x.m.SetAside(&x.out, t, tasks.Clean, e.Text)
	case runs.Panicked:
		if r.Panicked() {
			x.m.SetAside(&x.out, t, tasks.Dirty, e.Text)
		} else {
			x.m.Suspend(&x.out, t, c.wall()+panicWait)
		}
	case runs.Ended:
		in := r.Input()
		if in == nil {
			in = []byte(t.Val)
		}
		r.End(slices.Clone(e.Summary), in, e.Keep)
		x.dones = append(x.dones[:0], tasks.Report[string]{Lease: e.Lease, Outcome: e.Outcome, Permanent: true, Message: e.Text, Val: string(e.Report)})
		x.m.Done(&x.out, c.ses.id, x.dones)
		clear(x.dones)
		x.dones = x.dones[:0]
	case runs.Kept:
	}
	c.answer(machine.OK, 0, 0)
}

// panicWait is how long a run rests, in ms, whose handler has panicked.
const panicWait = 500

func (x *executor) suspend(c *call, t *tasks.Task[string], r *runs.Run, e *runs.Entry) {
	switch {
	case r.Suspend(slices.Clone(e.Signals)), e.In == 0 && len(e.Signals) == 0:
		x.m.GiveBack(&x.out, c.ses.id, []tasks.Lease{e.Lease})
	case e.In == 0:
		x.m.Suspend(&x.out, t, 0)
	default:
		x.m.Suspend(&x.out, t, c.wall()+min(e.In, maxDelay))
	}
}

// signal keeps a signal to a run, or tells it its owner (VSignal).
func (x *executor) signal(c *call) {
	t := x.m.Find(string(c.op.Key))
	s, err := runs.ParseSignal(c.op.Val)
	switch {
	case err != nil:
		c.invalid()
		return
	case t == nil:
		x.answer(c, tasks.ErrNoTask)
		return
	case t.State == tasks.Ended:
		x.answer(c, tasks.ErrEnded)
		return
	}
	s, wake, err := x.run(t).Signal(s.Name, slices.Clone(s.Value))
	if err != nil {
		x.answer(c, err)
		return
	}
	if t.State == tasks.Leased {
		x.buf = runs.AppendSignal(x.buf[:0], &s)
		c.said = Output{Code: machine.Message, Aux: RunSignal, Num: t.Number, Val: x.buf}
		c.put(machine.Who{Session: t.Worker()}, &c.said, "")
	} else if wake {
		x.m.Wake(&x.out, t)
	}
	c.answer(machine.OK, s.Number, 0)
}

// RunSignal is the Aux of what the owner of a run is told of a signal: Val is
// runs.AppendSignal. It follows the codes of package tasks.
const RunSignal = 64

// What VTask does to a run: A, following those for any task.
const (
	RunCancel    = 16 + iota // undo what there is to undo; a run that nobody has begun ends at once
	RunAdopt                 // a parked one goes on with plans of another shape
	RunUnwind                // one that has ended and kept its journal is undone
	RunTerminate             // it ends without being undone; Val: why
)

// operate does to a run what VTask says.
func (x *executor) operate(c *call, t *tasks.Task[string]) {
	r := x.runs[t.Number]
	switch c.op.A {
	case RunCancel:
		x.cancelRun(c, t, r)
	case RunAdopt:
		if t.State != tasks.Parked {
			x.answer(c, tasks.ErrNotRetried)
			return
		}
		x.run(t).Adopt()
		x.run(t).Resume()
		x.answer(c, x.m.Retry(&x.out, t))
	case RunUnwind:
		if t.State != tasks.Ended || r == nil || len(r.Units()) == 0 {
			x.answer(c, tasks.ErrNotRetried)
			return
		}
		r.Unwind()
		x.answer(c, x.m.Again(&x.out, t))
	case RunTerminate:
		x.answer(c, x.m.Terminate(&x.out, t, string(c.op.Val)))
	default:
		c.invalid()
	}
}

// cancelRun cancels a run: its owner is told, or there will be one to undo what was done.
func (x *executor) cancelRun(c *call, t *tasks.Task[string], r *runs.Run) {
	switch {
	case t.State == tasks.Ended:
		x.answer(c, tasks.ErrEnded)
		return
	case t.State == tasks.Leased:
		x.run(t).Cancel()
		x.buf = words.AppendLease(x.buf[:0], tasks.Lease{Number: t.Number, Epoch: t.Epoch})
		c.said = Output{Code: machine.Message, Aux: uint64(tasks.Stop), Num: t.Number, Val: x.buf}
		c.put(machine.Who{Session: t.Worker()}, &c.said, "")
	case r == nil || len(r.Units()) == 0:
		x.answer(c, x.m.Cancel(&x.out, t))
		return
	case t.State == tasks.Parked:
		r.Cancel()
		r.Resume()
		x.answer(c, x.m.Retry(&x.out, t))
		return
	default:
		r.Cancel()
		r.Wake()
		x.m.Wake(&x.out, t)
	}
	c.answer(machine.OK, 0, 0)
}

// appendRuns appends the runs to a snapshot.
func (x *executor) appendRuns(b []byte) []byte {
	numbers := make([]uint64, 0, len(x.runs))
	for n := range x.runs {
		if x.m.Numbered(n) != nil {
			numbers = append(numbers, n)
		}
	}
	slices.SortFunc(numbers, cmp.Compare)
	b = binary.AppendUvarint(b, uint64(len(numbers)))
	var one []byte
	for _, n := range numbers {
		one = x.runs[n].AppendBinary(one[:0])
		b = pack.AppendBytes(binary.AppendUvarint(b, n), one)
	}
	return b
}

// restoreRuns reads what appendRuns wrote.
func (x *executor) restoreRuns(r *pack.Reader) error {
	x.runs = nil
	for n := r.Count(2); n > 0; n-- {
		number := r.Uvarint()
		t := x.m.Numbered(number)
		if t == nil {
			return pack.ErrMalformed
		}
		if err := x.run(t).Restore(r.Bytes()); err != nil {
			return err
		}
	}
	return nil
}
