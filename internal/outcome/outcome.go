// Package outcome is what a node remembers of the commands that it served for
// durable runs: what runs, what came of it, and who owns each run. Whoever goes on
// with a run asks here before it sends anything again.
//
//	var t outcome.Table
//	rep := t.Serve(ctx, command, hubTime, func() wire.Report { … }) // runs it at most once
//	t.LetGo(run, epoch)                                              // it has ended
//
// # Guarantees
//
// A command that is to be attached runs nothing: it waits for the attempt that it
// names and is answered as that was; of one that was not seen it says never ran,
// and no owner before can send it any more. A command of a lower epoch than the
// run's highest is refused. Two attempts of one key do not run at once.
//
// # Failures
//
// Outcomes are kept until the run lets go of them, for up to an hour and in up to
// 32 MiB. An attempt that was sent before something was forgotten, and is not
// known, is unknown. What runs is never forgotten.
package outcome

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/distgear/distgear/internal/fault"
	"github.com/distgear/distgear/internal/runner"
	"github.com/distgear/distgear/internal/wire"
)

const (
	// Keep is for how long an outcome is kept.
	Keep = time.Hour
	// MaxBytes is about how much is kept.
	MaxBytes = 32 << 20
	// maxRuns is of how many runs the owner is kept.
	maxRuns = 100_000
	// margin is by how much clocks may differ.
	margin = time.Minute
	// overhead is about what an outcome takes besides its texts, in bytes.
	overhead = 256
)

// Table is what a node remembers. The zero value is empty; it is safe for
// concurrent use.
type Table struct {
	mu    sync.Mutex
	runs  map[string]*run
	done  []*entry // in the order in which they ended, from head on
	head  int
	bytes int
	since time.Time // nothing that came after it was forgotten
	queue []*run    // all of them, in the order in which they are looked at again, from first on
	first int
}

type run struct {
	id      string
	epoch   uint64
	ended   bool
	seen    time.Time
	queued  time.Time
	entries entries
}

type entry struct {
	of     *run
	key    string
	number uint32
	came   time.Time
	ended  time.Time
	ctx    *runner.Context // nil when it has ended: rep is there
	over   chan struct{}   // closed then; nil: nobody waits
	rep    wire.Report
	size   int
}

// ErrStale is why a command of an owner before is refused.
var ErrStale = errors.New("distgear: the run has another owner")

// Serve runs a command of a durable run by calling do, or answers for it. now is
// the hub's time. The command's Owner is taken out of it.
func (t *Table) Serve(ctx *runner.Context, c *wire.Command, now time.Time, do func() wire.Report) wire.Report {
	o := c.Owner
	c.Owner = wire.Owner{}
	e, runs, rep := t.admit(ctx, c, &o, now)
	if e == nil {
		return rep
	}
	if runs == ctx {
		rep = do()
		t.ended(e, &rep, now)
		return rep
	}
	// Another runs it.
	select {
	case <-e.over:
	case <-ctx.Done(): // who asks wants it to stop; what comes of that is the answer
		runs.Cancel(context.Canceled)
		<-e.over
	}
	t.mu.Lock()
	rep = e.rep
	t.mu.Unlock()
	if rep.Outcome == wire.NeverRan {
		rep = fault.NeverRan(fmt.Errorf("%w: %s", fault.ErrNoNode, rep.Error.Message), fault.Refused)
	}
	return rep
}

// admit decides about a command: the entry to run it as, or to wait for, and the
// context that this runs with; or nil and the answer.
func (t *Table) admit(ctx *runner.Context, c *wire.Command, o *wire.Owner, now time.Time) (*entry, *runner.Context, wire.Report) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.sweep(now)
	r := t.of(c.Key[:o.Run], now)
	if o.Epoch < r.epoch || o.Epoch == r.epoch && r.ended {
		return nil, nil, fault.NeverRan(fmt.Errorf("%w, of epoch %d: this command is of %d", ErrStale, r.epoch, o.Epoch), fault.Permanent)
	}
	if o.Epoch > r.epoch { // one that had ended may be undone
		r.epoch, r.ended = o.Epoch, false
	}
	e := r.entries.find(c.Key)
	switch {
	case e != nil && e.number == o.Number && !e.running():
		return nil, nil, e.rep
	case e != nil && e.number == o.Number:
		if e.over == nil {
			e.over = make(chan struct{})
		}
		return e, e.ctx, wire.Report{}
	case e != nil && e.number > o.Number:
		return nil, nil, wire.Report{Over: true} // that one is not remembered any more
	case o.Attach && time.UnixMilli(c.Start).Before(t.since.Add(margin)) && !t.since.IsZero():
		return nil, nil, wire.Report{Over: true}
	case o.Attach:
		return nil, nil, fault.NeverRan(fmt.Errorf("%w: attempt %d of %s has not come here", fault.ErrNoNode, o.Number, c.Key), fault.Refused)
	case e != nil && e.running():
		return nil, nil, fault.NeverRan(fmt.Errorf("%w: an attempt of %s is running", fault.ErrNoNode, c.Key), fault.Refused)
	}
	e = &entry{of: r, key: c.Key, number: o.Number, came: now, ctx: ctx}
	r.entries.put(e)
	return e, ctx, wire.Report{}
}

func (e *entry) running() bool { return e.ctx != nil }

// of is what is known of a run.
func (t *Table) of(id string, now time.Time) *run {
	if t.runs == nil {
		t.runs = map[string]*run{}
	}
	r := t.runs[id]
	if r == nil {
		r = &run{id: id}
		t.runs[r.id] = r
		t.enqueue(r, now)
	}
	r.seen = now
	return r
}

// ended keeps what came of an attempt. One that never ran is not kept: it may be
// sent here again.
func (t *Table) ended(e *entry, rep *wire.Report, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e.rep, e.ended, e.ctx = *rep, now, nil
	if e.over != nil {
		close(e.over)
	}
	if rep.Outcome == wire.NeverRan || e.of.ended {
		t.forget(e)
		return
	}
	e.size = overhead + len(e.key) + len(rep.Payload)
	if rep.Error != nil {
		e.size += len(rep.Error.Message) + len(rep.Error.Stack)
	}
	t.bytes += e.size
	t.done = append(t.done, e)
	t.sweep(now)
}

// forget drops an entry that is not running.
func (t *Table) forget(e *entry) {
	e.of.entries.drop(e)
}

// sweep forgets what is too old, or too much.
func (t *Table) sweep(now time.Time) {
	for t.head < len(t.done) {
		e := t.done[t.head]
		if t.bytes <= MaxBytes && now.Sub(e.ended) < Keep {
			break
		}
		if e.of.entries.find(e.key) == e && !e.of.ended {
			t.since = later(t.since, e.came)
			t.forget(e)
		}
		t.bytes -= e.size
		t.done[t.head] = nil
		t.head++
	}
	if t.head > 1024 && t.head > len(t.done)/2 {
		t.done = append([]*entry(nil), t.done[t.head:]...)
		t.head = 0
	}
	for range maxLooks {
		many := len(t.runs) > maxRuns
		if t.first == len(t.queue) || !many && now.Sub(t.queue[t.first].queued) < Keep {
			return
		}
		r := t.queue[t.first]
		t.queue[t.first] = nil
		t.first++
		if r.entries.none() && (many || now.Sub(r.seen) >= Keep) {
			delete(t.runs, r.id)
			continue
		}
		t.enqueue(r, now)
	}
}

// maxLooks is how many runs are looked at for each that may come: those that are old go
// faster than others come.
const maxLooks = 4

func (t *Table) enqueue(r *run, now time.Time) {
	if t.first > 1024 && t.first > len(t.queue)/2 {
		n := copy(t.queue, t.queue[t.first:])
		clear(t.queue[n:])
		t.queue, t.first = t.queue[:n], 0
	}
	r.queued = now
	t.queue = append(t.queue, r)
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// LetGo forgets the outcomes of a run that has ended. Its commands are refused
// from then on: an owner before may still send some.
func (t *Table) LetGo(id string, epoch uint64, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	r := t.of(id, now)
	if epoch < r.epoch {
		return
	}
	r.epoch, r.ended = epoch, true
	for e := range r.entries.all {
		if !e.running() {
			t.forget(e)
			e.rep = wire.Report{} // what it holds on to goes before its turn comes in done
		}
	}
}
