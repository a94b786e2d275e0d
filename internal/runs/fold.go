package runs

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/distgear/distgear/cluster"
	"github.com/distgear/distgear/internal/fault"
	"github.com/distgear/distgear/internal/journal"
	"github.com/distgear/distgear/internal/link"
	"github.com/distgear/distgear/internal/place"
	"github.com/distgear/distgear/internal/plan"
	"github.com/distgear/distgear/internal/wire"
	"github.com/distgear/distgear/record"
)

// lookTime is for how long a node that an attempt was sent to is looked for in
// this node's view, which may be older than the one of the owner before.
const lookTime = time.Second

// planLog is what the drive of a plan of a durable run has besides.
type planLog struct {
	number  uint32
	folding bool // the journal is being taken in: nothing is done with the world
	timeout bool // it was cancelled because of a deadline
	why     func() error
	sent    []*attempt       // by their numbers
	history []record.Attempt // likewise
	due     map[int]time.Time
	began   time.Time // this node's part in it
}

func (d *drive) folding() bool { return d.log != nil && d.log.folding }

// begin begins a plan of a durable run, or goes on with it. The run is locked.
func (d *drive) begin() error {
	l := d.r.log
	d.now = time.Now()
	switch {
	case l.over != nil:
		return l.over
	case slices.ContainsFunc(d.r.plans[:d.index], func(x planned) bool { return x.p.Name == d.p.Name }):
		return fmt.Errorf("%w: run %s has had a plan %q: give each plan of a durable run a name of its own", fault.ErrInvalid, d.r.id, d.p.Name)
	}
	d.log.began, d.reads = d.now, true
	at := l.past.Find(d.p.Name)
	if at < 0 {
		d.log.number = l.begun
		l.begun++
		d.note(journal.Record{Kind: journal.Planned, Shape: d.p.Shape()})
		d.start()
		l.flush(d.now)
		return nil
	}
	d.log.number = uint32(at)
	return d.resume(l.past.Plans[at])
}

// resume takes in what the journal tells of the plan, and goes on from there.
func (d *drive) resume(x *journal.PastPlan) error {
	l := d.r.log
	x.Taken = true
	if has := d.p.Shape(); has.Hash() != x.Shape.Hash() {
		diff := "  " + strings.Join(journal.Diff(x.Shape, has, x.Became), "\n  ")
		if !l.Adopt {
			return l.give(&journal.Give{Why: journal.Parked, Text: fmt.Sprintf(
				"plan %q has another shape than the journal of run %s says: run the version that made it, or adopt the new shape, or fork:\n%s", d.p.Name, d.r.id, diff)})
		}
		recs, err := x.Adopt(d.log.number, has)
		if err != nil {
			return l.give(&journal.Give{Why: journal.Parked, Text: fmt.Sprintf("%v\n%s", err, diff)})
		}
		x.Shape, x.Next, x.Records = recs[0].Shape, recs[0].Number, nil
		for i := range recs {
			l.unit.Add(&recs[i])
			if i > 0 {
				x.Records = append(x.Records, journal.Timed{At: d.r.host.Clock().UnixNano(), Record: recs[i]})
			}
		}
	}
	for i, s := range d.p.Steps { // what was is what counts: a retry, and an undo, are of that
		s.Was(&x.Shape.Steps[i])
	}
	d.log.folding, d.log.due = true, map[int]time.Time{}
	d.log.sent, d.log.history = make([]*attempt, x.Next), make([]record.Attempt, x.Next)
	d.now = time.Unix(0, x.Began)
	d.start()
	for i := range x.Records {
		d.now = time.Unix(0, x.Records[i].At)
		if err := d.fold(&x.Records[i].Record); err != nil {
			return l.give(&journal.Give{Why: journal.Parked, Text: fmt.Sprintf("the journal of run %s does not fit together: plan %q, record %d: %v", d.r.id, d.p.Name, i, err)})
		}
		d.act()
	}
	d.log.folding = false
	d.goOn()
	l.flush(d.now)
	return nil
}

// fold takes one record in, as what it tells of was.
func (d *drive) fold(x *journal.Record) error {
	i := int(x.Step)
	switch x.Kind {
	case journal.Sent:
		if n := int(x.Number); n > len(d.log.sent) || n < len(d.log.sent) && d.log.sent[n] != nil {
			return fmt.Errorf("attempt %d comes after %d others", n, len(d.log.sent))
		}
		t := &d.tracks[i]
		at := place.Place{Node: cluster.NodeName(x.Node), Life: link.ID(x.Life)}
		t.waiting = false
		if x.HasIn {
			d.p.Steps[i].Input = x.Input
		}
		d.attempted(i, int(x.Number), at, x.Undo)
	case journal.Reported:
		if int(x.Number) >= len(d.log.sent) || d.log.sent[x.Number] == nil {
			return fmt.Errorf("attempt %d was never sent", x.Number)
		}
		a := d.log.sent[x.Number]
		d.take(a, &x.Report)
	case journal.Ended:
		d.tracks[i].waiting = false
		err := fault.Told(x.Report.Error)
		if x.Undo {
			d.undoFailed(i, err, nil)
		} else {
			d.final(i, plan.Outcome(x.Report.Outcome), true, err)
		}
	case journal.Decided:
		_ = d.decided(i, plan.Resolution(x.How)) // one that was refused then is now
	case journal.Cancelled:
		d.log.timeout = x.Timeout
		d.fx = d.m.Cancel(d.fx)
	case journal.Unwound:
		d.fx = d.m.Unwind(d.fx)
	case journal.Forked:
		d.p.Steps[i].Did = x.Name
	default:
		return fmt.Errorf("a record %q of a plan", x.Kind)
	}
	return nil
}

// goOn does what the owner before would have done next: it asks for the attempts
// that have no outcome (S4), and makes those that were due.
func (d *drive) goOn() {
	d.now = time.Now()
	for i := range d.tracks {
		t := &d.tracks[i]
		if !t.waiting {
			continue
		}
		try := d.dispatch
		switch d.m.State(i) {
		case plan.Running:
			if d.p.Steps[i].Encode != nil && d.p.Steps[i].Input == nil {
				d.call(i)
				continue
			}
		case plan.Undoing:
			try = d.dispatchUndo
		default:
			continue
		}
		t.until = 0
		if wait := d.log.due[i].Sub(d.r.host.Clock()); wait > 0 {
			d.later(i, wait, try)
			continue
		}
		t.waiting = false
		try(i)
	}
	for _, a := range d.log.sent {
		if a == nil || a.heard == heardAll || a.fresh {
			continue
		}
		a.attached = true
		d.todo(attach, a)
	}
	d.act()
}

// attempted makes the attempt of that number, which is about to be sent, or was.
func (d *drive) attempted(i, number int, at place.Place, undo bool) *attempt {
	t := &d.tracks[i]
	a := &d.firsts[i]
	if t.cur != nil || undo || a.r != nil {
		a = new(attempt)
	}
	*a = attempt{r: d.r, plan: int32(d.index), step: int32(i), undo: undo, at: at, number: uint32(number), fresh: !d.log.folding}
	t.cur = a
	try := int(t.undos) + 1
	if !undo {
		t.at = at
		t.tries++
		try = int(t.tries)
	}
	if number == len(d.log.sent) {
		d.log.sent, d.log.history = append(d.log.sent, nil), append(d.log.history, record.Attempt{})
	}
	d.log.sent[number], d.log.history[number] = a, record.Attempt{Number: try, Undo: undo, Node: at.Node, Sent: d.now}
	return a
}

// commit records an attempt, to be sent when that is acknowledged.
func (d *drive) commit(i int, at place.Place, undo bool) {
	a := d.attempted(i, len(d.log.sent), at, undo)
	s := d.p.Steps[i]
	x := journal.Record{Kind: journal.Sent, Step: uint32(i), Undo: undo, Number: a.number, Node: string(at.Node), Life: uint64(at.Life)}
	if !undo && s.Encode != nil {
		x.Input, x.HasIn = s.Input, true
	}
	d.note(x)
	d.todo(send, a)
}

func (d *drive) note(x journal.Record) {
	x.Plan = d.log.number
	d.r.log.unit.Add(&x)
}

func (d *drive) todo(op op, a *attempt) {
	d.r.log.todo = append(d.r.log.todo, todo{d: d, a: a, op: op})
}

// owned says for whom the command of an attempt is sent.
func (d *drive) owned(a *attempt) {
	d.cmd.Owner = wire.Owner{Epoch: d.r.log.Epoch, Run: uint32(len(d.r.id)), Number: a.number, Attach: a.attached}
}

// send sends an attempt that is in the journal.
func (d *drive) send(a *attempt) {
	if a.heard == heardAll {
		return
	}
	s, t := d.p.Steps[a.step], &d.tracks[a.step]
	begin := time.Time{}
	if a.undo {
		u := s.UndoInput(t.outcome, t.at.Node, t.result, t.message)
		s.UndoCommand(&d.cmd, int(t.undos)+1, &u)
	} else {
		s.Command(&d.cmd, int(t.tries))
		begin = d.now.Add(s.Queue)
	}
	d.owned(a)
	f, err := d.h.Start(a.at, &d.cmd, begin, s.Lost(), a)
	if err != nil {
		r := fault.NeverRan(err, fault.Refused)
		d.take(a, &r)
		return
	}
	a.f = f
}

// attach asks for the outcome of an attempt that the owner before has sent, or
// was about to. A node that is not there for a while is gone: its session is over.
func (d *drive) attach(a *attempt) {
	s, t := d.p.Steps[a.step], &d.tracks[a.step]
	here := false
	for _, at := range d.h.Places() {
		here = here || at.Life == a.at.Life
	}
	if !here && d.now.Sub(d.log.began) >= lookTime {
		d.take(a, &wire.Report{Over: true})
		return
	}
	if here {
		s.Command(&d.cmd, int(t.tries))
		if a.undo {
			s.UndoCommand(&d.cmd, int(t.undos)+1, &wire.UndoInput{})
		}
		d.cmd.Input = nil
		d.owned(a)
		f, err := d.h.Start(a.at, &d.cmd, d.now.Add(d.log.history[a.number].Sent.Sub(d.r.host.Clock())), s.Lost(), a)
		if err == nil {
			if a.f = f; d.m.Cancelled() && !a.undo && d.m.State(int(a.step)) == plan.Running {
				d.h.Cancel(a.at, f)
			}
			return
		}
	}
	d.attachLater(a)
}

func (d *drive) attachLater(a *attempt) {
	time.AfterFunc(LookAgain, func() {
		if !d.enter() {
			return
		}
		if a.heard != heardAll {
			d.todo(attach, a)
		}
		d.exit()
	})
}

// take takes a report in, of a plan of a durable run: it is recorded, unless
// nothing can follow from it.
func (d *drive) take(a *attempt, r *wire.Report) {
	known := r.Outcome != wire.Unknown || r.Over
	if a.heard == heardAll || a.heard == heardUnknown && !known {
		return
	}
	if a.attached && r.Outcome == wire.NeverRan && !flagged(r, fault.Refused) { // the question, not the attempt
		d.attachLater(a)
		return
	}
	if a.heard = heardUnknown; known {
		a.heard = heardAll
	}
	h := &d.log.history[a.number]
	h.Ended, h.Outcome = d.now, plan.Outcome(r.Outcome).String()
	if r.Error != nil {
		h.Error = r.Error.Message
	}
	if !d.log.folding {
		d.note(journal.Record{Kind: journal.Reported, Step: uint32(a.step), Undo: a.undo, Number: a.number, Report: *r})
	}
	if a.undo {
		d.undone(int(a.step), a, r)
	} else {
		d.reported(int(a.step), a, r)
	}
}

// ended records that a step, or its undo, ended without an attempt being sent:
// what the clock and the view decided is not decided again.
func (d *drive) ended(i int, undo bool, err error) {
	if d.log == nil || d.log.folding {
		return
	}
	r := fault.NeverRan(err, 0)
	d.note(journal.Record{Kind: journal.Ended, Step: uint32(i), Undo: undo, Report: r})
}
