package executors

import (
	"cmp"
	"encoding/binary"
	"hash/fnv"
	"slices"
	"strings"

	"github.com/distgear/distgear/internal/machine"
	"github.com/distgear/distgear/internal/machine/pack"
	"github.com/distgear/distgear/internal/machine/runs"
	"github.com/distgear/distgear/internal/machine/tasks"
	"github.com/distgear/distgear/internal/machine/words"
	"github.com/distgear/distgear/internal/operation"
)

// A task whose worker keeps a journal is the run of a durable event: docs/adr/0007.
// What the ledger has of it beside the task is in Executor.runs, by the task's number. It is
// there from the first VAppend, VSignal or RunCancel on, until the task is
// forgotten.

// run is what there is beside a task, made when there is nothing.
func (x *Executor) run(t *tasks.Task[string]) *runs.Run {
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
func (x *Executor) sweepRuns() {
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
func (x *Executor) raised(c *Call) bool {
	for i := range x.items {
		it := &x.items[i]
		t := x.m.Find(it.Spec.ID)
		if t == nil {
			continue
		}
		if r := x.runs[t.Number]; r == nil || t.Kind() != it.Spec.Kind || r.Sum() != sum(it.Val, c.Op.Key) {
			return false
		}
	}
	return true
}

// begin notes what runs were raised with.
func (x *Executor) begin(c *Call) {
	if c.Op.A&operation.SubmitRuns == 0 {
		return
	}
	for i := range x.items {
		if t := x.items[i].Task; t.Number != 0 {
			r := x.run(t)
			r.Begin(sum(x.items[i].Val, c.Op.Key))
			if c.Op.A&operation.SubmitForks != 0 {
				r.Fork(slices.Clone(c.Op.Key))
			}
		}
	}
}

// sum tells inputs apart, and the journals of forks.
func sum(in string, journal []byte) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(in)) // never fails
	_, _ = h.Write(journal)
	return h.Sum64()
}

// view is what there is to tell of a run.
func (x *Executor) view(c *Call, t *tasks.Task[string], b []byte) []byte {
	v := runs.View{Kind: t.Kind(), State: t.State, Outcome: t.Outcome, Now: c.Now, Started: t.Submitted, Since: t.Since, Reason: t.Reason(), Epoch: t.Epoch}
	for _, a := range t.History() {
		v.Owners = append(v.Owners, runs.Owner{Node: c.Ledger.Node(a.Worker), Began: a.Began, Ended: a.Ended, Lost: a.Lost, Text: a.Message})
	}
	if n := len(v.Owners); n > 0 && t.State == tasks.Ended && t.Cause == tasks.Reported && t.Outcome != tasks.OK {
		v.Owners[n-1].Text = "" // how the run ended is not why this one gave it back
	}
	if s := t.Worker(); s != 0 {
		v.Node = c.Ledger.Node(s)
	}
	r := x.runs[t.Number]
	if r != nil {
		v.Waits, v.Summary, v.Journal, v.Notes = r.Waits(), r.Summary(), r.Units(), r.Notes()
	}
	if r != nil && r.Ended() {
		v.Input = r.Input()
		if t.State == tasks.Ended && len(v.Summary) == 0 {
			v.Report = reported(t)
		}
	} else {
		v.Input = []byte(t.Val)
	}
	return runs.AppendView(b, &v)
}

// append takes an entry of a run's owner up (VAppend).
func (x *Executor) append(c *Call) {
	e, err := runs.ParseEntry(c.Op.Val)
	if err != nil {
		x.invalid(c)
		return
	}
	t := x.m.Held(c.By, e.Lease)
	if t == nil {
		x.say(c, machine.Stale, 0, 0)
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
			x.m.Suspend(&x.out, t, c.Now+PanicWait)
		}
	case runs.Ended:
		in := r.Input()
		if in == nil {
			in = []byte(t.Val)
		}
		r.End(slices.Clone(e.Summary), in, e.Keep)
		x.ended = e.State
		x.dones = append(x.dones[:0], tasks.Report[string]{Lease: e.Lease, Outcome: e.Outcome, Permanent: true, Message: cmp.Or(e.Text, e.State), Val: string(e.Report)})
		x.m.Done(&x.out, c.By, x.dones)
		clear(x.dones)
		x.dones = x.dones[:0]
	case runs.Kept:
		if e.Stuck != "" {
			x.stuck(c, t, e.Stuck)
		}
	}
	x.say(c, machine.OK, 0, 0)
}

// PanicWait is how long a run rests, in ms, whose handler has panicked.
const PanicWait = 500

func (x *Executor) suspend(c *Call, t *tasks.Task[string], r *runs.Run, e *runs.Entry) {
	switch {
	case r.Suspend(slices.Clone(e.Signals)), e.In == 0 && len(e.Signals) == 0:
		x.m.GiveBack(&x.out, c.By, []tasks.Lease{e.Lease})
	case e.In == 0:
		x.m.Suspend(&x.out, t, 0)
	default:
		x.m.Suspend(&x.out, t, c.Now+min(e.In, MaxDelay))
	}
}

// signal keeps a signal to a run, or tells it its owner (VSignal).
func (x *Executor) signal(c *Call) {
	t := x.m.Find(string(c.Op.Key))
	who, val := c.by()
	s, err := runs.ParseSignal(val)
	switch {
	case err != nil:
		x.invalid(c)
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
	if len(who) > 0 {
		verb, of := "signal", s.Name
		if name, ok := strings.CutPrefix(s.Name, "approve "); ok {
			verb, of = "approve", name
		}
		x.note(c, t, verb, []byte(of))
	}
	if t.State == tasks.Leased {
		x.buf = runs.AppendSignal(x.buf[:0], &s)
		x.said = operation.Output{Code: machine.Message, Aux: operation.RunSignal, Num: t.Number, Val: x.buf}
		c.Ledger.Tell(machine.Who{Session: t.Worker()}, &x.said)
	} else if wake {
		x.m.Wake(&x.out, t)
	}
	x.say(c, machine.OK, s.Number, 0)
}

// operate does to a run what VTask says.
func (x *Executor) operate(c *Call, t *tasks.Task[string]) {
	r := x.runs[t.Number]
	_, why := c.by()
	switch c.Op.A {
	case operation.RunCancel:
		if t.State != tasks.Ended {
			x.note(c, t, "cancel", why)
		}
		x.cancelRun(c, t, r)
	case operation.RunAdopt:
		if t.State != tasks.Parked {
			x.answer(c, tasks.ErrNotRetried)
			return
		}
		x.note(c, t, "adopt", why)
		x.run(t).Adopt()
		x.run(t).Resume()
		x.answer(c, x.m.Retry(&x.out, t))
	case operation.RunUnwind:
		if t.State != tasks.Ended || r == nil || len(r.Units()) == 0 {
			x.answer(c, tasks.ErrNotRetried)
			return
		}
		r.Unwind()
		x.answer(c, x.m.Again(&x.out, t))
	case operation.RunTerminate:
		if t.State != tasks.Ended {
			x.note(c, t, "terminate", why)
		}
		x.answer(c, x.m.Terminate(&x.out, t, string(why)))
	case operation.RunNote:
		x.noted(c, t)
	default:
		x.invalid(c)
	}
}

// cancelRun cancels a run: its owner is told, or there will be one to undo what was done.
func (x *Executor) cancelRun(c *Call, t *tasks.Task[string], r *runs.Run) {
	switch {
	case t.State == tasks.Ended:
		x.answer(c, tasks.ErrEnded)
		return
	case t.State == tasks.Leased:
		x.run(t).Cancel()
		x.buf = words.AppendLease(x.buf[:0], tasks.Lease{Number: t.Number, Epoch: t.Epoch})
		x.said = operation.Output{Code: machine.Message, Aux: uint64(tasks.Stop), Num: t.Number, Val: x.buf}
		c.Ledger.Tell(machine.Who{Session: t.Worker()}, &x.said)
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
	x.say(c, machine.OK, 0, 0)
}

// appendRuns appends the runs to a snapshot.
func (x *Executor) appendRuns(b []byte) []byte {
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
func (x *Executor) restoreRuns(r *pack.Reader) error {
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
