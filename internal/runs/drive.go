package runs

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/distgear/distgear/internal/fault"
	"github.com/distgear/distgear/internal/journal"
	"github.com/distgear/distgear/internal/place"
	"github.com/distgear/distgear/internal/plan"
	"github.com/distgear/distgear/internal/runner"
	"github.com/distgear/distgear/internal/wire"
)

const (
	// Grace is how long a step waits for a node to send it to (S14).
	Grace = 5 * time.Second
	// LookAgain is how soon a step that found no node looks again.
	LookAgain = 100 * time.Millisecond
)

// drive carries out one plan: it feeds internal/plan with what happened and
// does what that answers. The run's mutex guards it. What happened is taken in
// between enter and exit, on whichever goroutine it comes; nothing there blocks.
type drive struct {
	r *Run
	h *Host // of the cluster the steps run in
	p *Plan
	m plan.Machine

	log    *planLog    // nil unless the run is durable
	wake   sync.Cond   // for the goroutine in Do: calls, the end, or Host.Stop
	hook   runner.Hook // the drive itself
	index  int         // of the run's plans
	tracks []track
	firsts []attempt // the first attempt of each step
	fx     []plan.Effect
	calls  []int        // steps whose input the goroutine in Do has to compute
	inputs []byte       // computed
	cmd    wire.Command // being sent
	now    time.Time    // when what is being taken in came

	settled []chan struct{} // closed when the plan settles
	back    bool            // Do has returned: the steps are the user's to read
	left    bool            // the node has left before the plan had settled
	told    bool            // it has settled once: what came later is not told to who reads the steps
	held    bool            // something came in after Do had returned, and is not settled
	reads   bool            // of a durable run: the goroutine in Do comes to calls at once
	loose   bool            // who cancels may still hold on to it

	fxSpace   [4]plan.Effect
	callSpace [4]int
}

// attempt is one try of a step, or of its undo; it receives the report.
// It knows the run and not the drive, which may be another plan's by the time a
// report comes that nobody waits for.
type attempt struct {
	r    *Run
	plan int32
	step int32
	undo bool
	// Of a durable run's: what was heard of it, whether this node asked for it, or
	// made it, and its number among all of the plan.
	heard           heard
	attached, fresh bool
	number          uint32

	at place.Place
	f  Flight
}

// heard is what was reported of an attempt.
type heard uint8

const (
	heardNothing heard = iota
	heardUnknown       // it may come still
	heardAll
)

// Report implements link.Receiver.
func (a *attempt) Report(r wire.Report) {
	a.r.mu.Lock()
	d := a.r.plans[a.plan].d
	if d == nil || !d.entered() {
		a.r.mu.Unlock()
		return
	}
	switch {
	case d.log != nil:
		d.take(a, &r)
	case a.undo:
		d.undone(int(a.step), a, &r)
	default:
		d.reported(int(a.step), a, &r)
	}
	d.exit()
}

// track is what the driver knows of a step.
type track struct {
	cur      *attempt // the latest; nil before the first
	at       place.Place
	result   []byte
	message  string // of the last error
	until    int64  // grace: when to stop looking for a node, in ns since 1970
	timer    *time.Timer
	tries    int32 // attempts that count
	undos    int32
	late     int32 // results that came after another attempt's
	outcome  wire.Outcome
	before   plan.Outcome // of the attempts before this one, together
	again    bool         // there were such attempts
	reported bool         // the machine was told its outcome
	waiting  bool         // for another attempt, or for its input
	failures int8         // after the pivot
	useless  bool         // the last failure said that trying again is
	stuck    bool         // after the pivot
}

// stop takes back that the step waits.
func (t *track) stop() {
	t.waiting = false
	if t.timer != nil {
		t.timer.Stop()
	}
}

// drives are spaces for drives and their tracks.
var drives = sync.Pool{New: func() any { return new(drive) }}

// maxTracks is up to how many tracks are kept for use again.
const maxTracks = 64

// newDrive returns the drive of a run's next plan. The run is locked.
func newDrive(r *Run, h *Host, p *Plan) *drive {
	d := drives.Get().(*drive)
	n := len(p.Steps)
	tracks := d.tracks
	if n > cap(tracks) {
		tracks = make([]track, n)
	}
	*d = drive{r: r, h: h, p: p, index: len(r.plans), tracks: tracks[:n], firsts: make([]attempt, n)}
	var space [8]plan.Step
	d.m.Init(p.Spec(space[:0]))
	d.wake.L = &r.mu
	d.hook = d
	d.fx, d.calls, d.inputs = d.fxSpace[:0], d.callSpace[:0], p.Inputs
	return d
}

// plain tells whether all steps are OK and nothing that happened is worth
// remembering but that, and nobody can bring anything in any more. A durable run has its record
// in the ledger.
func (d *drive) plain() bool {
	if !d.back || d.left || d.held || d.loose || !d.m.Settled() || d.m.Failed() || d.m.Cancelled() {
		return false
	}
	for i := range d.tracks {
		t := &d.tracks[i]
		if t.cur != &d.firsts[i] || t.tries != 1 || t.late != 0 || t.outcome != wire.OK || t.timer != nil || t.cur.attached {
			return false
		}
	}
	return true
}

// logger is where things are told, unless they were told already.
func (d *drive) logger() *slog.Logger {
	if d.folding() {
		return slog.New(slog.DiscardHandler)
	}
	return d.h.Log
}

// recycle takes a plain drive back.
func (d *drive) recycle() {
	clear(d.tracks)
	if cap(d.tracks) <= maxTracks {
		*d = drive{tracks: d.tracks[:0]}
		drives.Put(d)
	}
}

// enter begins to take something in; false when the node has left and nobody
// will. exit must follow.
func (d *drive) enter() bool {
	d.r.mu.Lock()
	if !d.entered() {
		d.r.mu.Unlock()
		return false
	}
	return true
}

// entered is enter for who has locked the run.
func (d *drive) entered() bool {
	d.now = time.Now()
	if l := d.r.log; l != nil && (l.over != nil || l.given) {
		return false
	}
	if d.back && !d.held { // the handler has gone on
		d.held = d.h.Hold()
		return d.held
	}
	return true
}

// exit does what follows from what was taken in.
func (d *drive) exit() {
	d.act()
	d.r.touch()
	if d.log != nil {
		d.r.log.flush(d.now)
	}
	if d.m.Settled() {
		for _, c := range d.settled {
			close(c)
		}
		d.settled = nil
		if d.held {
			d.held = false
			d.h.Free()
		}
		d.wake.Signal()
	}
	d.r.mu.Unlock()
}

// start begins the plan.
func (d *drive) start() {
	if !d.folding() {
		d.now = time.Now()
	}
	d.fx = d.m.Start(d.fx)
	d.act()
}

// await returns when the plan has settled, or the node has left. In between it
// computes inputs.
func (d *drive) await() {
	l := d.r.log
	for !d.m.Settled() || len(d.calls) > 0 || l != nil && l.unsaid() {
		if l != nil && l.over != nil { // somebody else finishes it
			break
		}
		if len(d.calls) > 0 {
			i := d.calls[0]
			d.calls = d.calls[:copy(d.calls, d.calls[1:])]
			if d.tracks[i].waiting { // else it was cancelled
				d.compute(i)
				d.act()
				d.r.touch()
			}
			if l != nil {
				l.flush(time.Now())
			}
			continue
		}
		select {
		case <-d.r.host.Stop: // nobody will finish it here
			if l != nil {
				_ = l.give(&journal.Give{Why: journal.Suspended})
				continue
			}
			d.left, d.back = true, true
			return
		default:
			d.wake.Wait()
		}
	}
	d.back, d.reads = true, false
}

// promptly is how long computing an input may take for what happened before to be
// journaled together with what follows.
const promptly = time.Millisecond

// maxInputs is how much of the computed inputs shares one allocation.
const maxInputs = 4 << 10

// compute asks the user's function for a step's input, and sends it.
func (d *drive) compute(i int) {
	s, t := d.p.Steps[i], &d.tracks[i]
	if len(d.inputs) > maxInputs {
		d.inputs = nil
	}
	begin := len(d.inputs)
	reads := d.reads
	d.reads = false // it is the user's code: others do not wait for it
	began := time.Now()
	d.r.mu.Unlock()
	b, err := s.Encode(d.inputs)
	d.r.mu.Lock()
	d.now = time.Now()
	d.reads = reads && d.now.Sub(began) < promptly
	switch {
	case !t.waiting || d.r.log != nil && d.r.log.over != nil: // meanwhile it was cancelled, or this node's part is over
		return
	case err == nil && d.m.Phase() != plan.Forward: // something failed: nothing starts any more
		err = fault.ErrCancelled
	case err != nil:
		err = fmt.Errorf("%w: %w", fault.ErrInvalid, err)
	}
	t.waiting = false
	if err != nil {
		d.ended(i, false, err)
		d.final(i, plan.NeverRan, true, err)
		return
	}
	d.inputs, s.Input = b, b[begin:len(b):len(b)]
	d.dispatch(i)
}

// act carries out the machine's effects, and those that follow at once.
func (d *drive) act() {
	for i := 0; i < len(d.fx); i++ {
		e := d.fx[i]
		t := &d.tracks[e.Step]
		switch e.Op {
		case plan.Do:
			d.p.Steps[e.Step].Began = d.now.UnixNano()
			if d.p.Steps[e.Step].Encode != nil {
				d.call(e.Step)
			} else {
				d.dispatch(e.Step)
			}
		case plan.Retry:
			d.forward(e.Step)
		case plan.Cancel:
			switch {
			case t.waiting: // no attempt is in flight: there will be none
				t.stop()
				o := plan.Outcome(t.outcome)
				if t.tries == 0 || o == plan.OK {
					o = plan.NeverRan
				}
				d.final(e.Step, o, true, fault.ErrCancelled)
			case d.log != nil:
				if t.cur != nil && !d.log.folding {
					d.todo(cancel, t.cur)
				}
			case t.cur != nil:
				d.h.Cancel(t.cur.at, t.cur.f)
			}
		case plan.Undo:
			t.undos, t.until = 0, 0
			d.dispatchUndo(e.Step)
		}
	}
	d.fx = d.fx[:0]
	d.told = d.told || d.m.Settled()
}

// call has a step's input computed by the goroutine in Do.
func (d *drive) call(i int) {
	d.tracks[i].waiting = true
	if !d.folding() {
		d.calls = append(d.calls, i)
		d.wake.Signal()
	}
}

// dispatch makes the next attempt of a step.
func (d *drive) dispatch(i int) {
	s, t := d.p.Steps[i], &d.tracks[i]
	if d.folding() {
		t.waiting = true
		return
	}
	at, err := d.h.Place(s.On, s.Kind, d.r.joining(), t.at.Life)
	if err != nil {
		d.unplaced(i, err)
		return
	}
	if d.log != nil {
		d.commit(i, at, false)
		return
	}
	s.Command(&d.cmd, int(t.tries)+1)
	a := &d.firsts[i]
	if t.cur != nil {
		a = new(attempt)
	}
	*a = attempt{r: d.r, plan: int32(d.index), step: int32(i), at: at}
	t.cur = a
	f, err := d.h.Start(at, &d.cmd, d.now.Add(s.Queue), s.Lost(), a)
	if err != nil {
		d.unplaced(i, err)
		return
	}
	a.f, t.at = f, at
	t.tries++
}

// unplaced waits for a node to send the step to, for the grace (S14).
func (d *drive) unplaced(i int, err error) {
	t := &d.tracks[i]
	t.message = err.Error()
	if d.folding() { // a record tells what came of it
		t.waiting = true
		return
	}
	if d.patience(t) || d.m.Phase() != plan.Forward {
		d.ended(i, false, err)
		d.final(i, plan.NeverRan, true, err)
		return
	}
	d.later(i, LookAgain, d.dispatch)
}

// patience tells whether the grace is over; it begins with the first question.
func (d *drive) patience(t *track) (over bool) {
	now := d.now.UnixNano()
	if t.until == 0 {
		t.until = now + int64(Grace)
	}
	return now > t.until
}

// later makes another attempt after a while.
func (d *drive) later(i int, wait time.Duration, try func(int)) {
	t := &d.tracks[i]
	t.waiting = true
	if d.folding() {
		d.log.due[i] = d.now.Add(wait)
		return
	}
	t.timer = time.AfterFunc(wait, func() {
		if !d.enter() {
			return
		}
		if t.waiting {
			t.waiting = false
			try(i)
		}
		d.exit()
	})
}

// reported takes the report of an attempt in.
func (d *drive) reported(i int, a *attempt, r *wire.Report) {
	s, t := d.p.Steps[i], &d.tracks[i]
	if a != t.cur || t.waiting || t.stuck { // S12: of an attempt that was given up
		if r.Outcome == wire.Unknown {
			return
		}
		t.late++
		d.logger().Warn("late result of an earlier attempt", "run", d.r.id, "step", s.Name, "outcome", plan.Outcome(r.Outcome), "node", a.at.Node)
		if r.Outcome != wire.OK || !t.waiting && !t.stuck || d.m.State(i) != plan.Running {
			d.fx = d.m.Late(i, plan.Outcome(r.Outcome), d.fx)
			return
		}
		t.stop() // in time to save another attempt
		t.cur, t.stuck = a, false
	}
	t.outcome, t.useless = r.Outcome, flagged(r, fault.Permanent)
	if r.Outcome == wire.OK {
		t.result, t.message = r.Payload, ""
		d.final(i, plan.OK, true, nil)
		return
	}
	err := d.h.Error(*r, a.at.Node, s.Kind)
	t.message = err.Error()
	o := plan.Outcome(r.Outcome)
	switch {
	case r.Outcome == wire.Unknown && !r.Over: // S3 lost: it may be running still
		d.final(i, o, false, err)
	case t.reported && r.Outcome == wire.Unknown:
		d.fx = d.m.Over(i, d.fx)
	case t.reported:
		d.final(i, o, true, err)
	case r.Outcome == wire.NeverRan && flagged(r, fault.Refused), r.Outcome == wire.Unknown && s.Durable:
		t.tries--
		if a.attached && d.m.Phase() == plan.Forward {
			d.later(i, 0, d.dispatch) // its owner died before it was sent
			return
		}
		d.unplaced(i, err)
	default:
		if wait, yes := d.repeats(s, t, r); yes {
			t.until = 0
			t.before, t.again = t.together(o), true
			d.later(i, wait, d.dispatch)
			return
		}
		d.final(i, o, true, err)
	}
}

func flagged(r *wire.Report, flag uint8) bool { return r.Error != nil && r.Error.Flags&flag != 0 }

// repeats tells whether a failed attempt is followed by another, and when (S4).
func (d *drive) repeats(s *Step, t *track, r *wire.Report) (wait time.Duration, yes bool) {
	if d.m.Phase() != plan.Forward || flagged(r, fault.Cancelled) {
		return 0, false
	}
	l := plan.Last{
		Outcome: plan.Outcome(r.Outcome), Movable: s.On.Name == "", Attempt: int(t.tries),
		Permanent: flagged(r, fault.Permanent),
		SameNode:  r.Outcome != wire.Unknown, // who reported lives
	}
	if r.Error != nil {
		l.After = time.Duration(r.Error.AfterMS) * time.Millisecond
	}
	next, wait := plan.Policy{Retries: int(s.Retries), Idempotent: s.Idem}.Next(l, rand.Float64())
	return wait, next == plan.Again
}

// final tells the machine how a step ended; after the first time, that this
// came late.
func (d *drive) final(i int, o plan.Outcome, over bool, err error) {
	s, t := d.p.Steps[i], &d.tracks[i]
	if !d.back && !d.told { // nor is it when the handler is called again
		s.Ended, s.Err, s.Node, s.Result = true, err, t.at.Node, t.result
	}
	s.Over = d.now.UnixNano()
	t.outcome = wire.Outcome(o)
	if err != nil {
		t.message = err.Error()
	}
	if t.reported {
		d.fx = d.m.Late(i, o, d.fx)
		return
	}
	o = t.together(o)
	t.outcome = wire.Outcome(o)
	t.reported = true
	d.fx = d.m.Report(i, o, over, d.fx)
}

// together is what is known of all attempts of a step: one that failed clean
// does not hide an unknown one before it.
func (t *track) together(o plan.Outcome) plan.Outcome {
	if !t.again {
		return o
	}
	return t.before.Then(o)
}
