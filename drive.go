package distgear

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/distgear/distgear/internal/link"
	"github.com/distgear/distgear/internal/machine/members"
	"github.com/distgear/distgear/internal/plan"
	"github.com/distgear/distgear/internal/wire"
)

const (
	// grace is how long a step waits for a node to send it to (S14).
	grace = 5 * time.Second
	// replace is how soon a step that found no node looks again; a change of
	// membership makes it look at once.
	replace = 100 * time.Millisecond
	// undoLimit is how many attempts an undo gets before it is stuck (S10).
	undoLimit = 8
)

// drive carries out one plan: it feeds internal/plan with what happened and
// does what that answers. The goroutine that drives is the handler's, in
// Run.Do; later, one that is started when something comes in late.
type drive struct {
	r    *Run
	n    *Node // of the cluster the steps run in
	p    *Plan
	m    *plan.Machine
	name string

	mu      sync.Mutex // guards the mailbox
	box     []mail
	driving bool          // somebody takes mail
	wake    chan struct{} // 1: there is mail

	// The rest belongs to the driving goroutine, under r.mu for the record's sake.
	tracks  []track
	fx      []plan.Effect
	fxs     [4]plan.Effect
	settled []chan struct{} // closed when the plan settles
	back    bool            // Do has returned: the steps are the user's to read
	left    bool            // the node has left before the plan had settled
}

// mail is something that happened.
type mail struct {
	what what
	step int
	a    *attempt    // report: whose
	rep  wire.Report // report
	how  plan.Resolution
	done chan struct{} // unwind: closed when settled
	errs chan error    // resolve: 1
}

type what uint8

const (
	mReport  what = iota
	mAgain        // time for another attempt
	mUndo         // time for another undo
	mResolve      // an operator's verb
	mUnwind       // undo a finished plan
)

// attempt is one try of a step, or of its undo; it receives the report.
type attempt struct {
	d    *drive
	step int
	undo bool
	at   place
	f    flight
}

// Report implements link.Receiver.
func (a *attempt) Report(r wire.Report) {
	a.d.post(mail{what: mReport, step: a.step, a: a, rep: r})
}

// track is what the driver knows of a step.
type track struct {
	cur      *attempt // the latest; nil before the first
	first    attempt  // the space of the first
	tries    int      // attempts that count
	undos    int
	at       place // where it ran, or may have
	reported bool  // the machine was told its outcome
	outcome  wire.Outcome
	result   []byte
	message  string    // of the last error
	began    time.Time // of the first attempt
	over     time.Time
	until    time.Time // grace: when to stop looking for a node
	timer    *time.Timer
	waiting  bool         // for another attempt
	late     int          // results that came after another attempt's
	before   plan.Outcome // of the attempts before this one, together
	again    bool         // there were such attempts
}

func newDrive(r *Run, n *Node, p *Plan, name string) *drive {
	d := &drive{r: r, n: n, p: p, name: name, m: plan.New(p.spec()), wake: make(chan struct{}, 1), driving: true}
	d.tracks = make([]track, len(p.steps))
	d.fx = d.fxs[:0]
	return d
}

// post puts mail in the box. It never blocks.
func (d *drive) post(m mail) {
	d.mu.Lock()
	d.box = append(d.box, m)
	start := !d.driving
	if start {
		d.driving = true
	}
	d.mu.Unlock()
	if start { // late: the handler has gone on
		if !d.n.later(func() { d.loop(context.Background()) }) {
			d.mu.Lock()
			d.driving = false
			d.mu.Unlock()
			m.refuse()
		}
		return
	}
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

func (m mail) refuse() {
	if m.errs != nil {
		m.errs <- ErrLeft
	}
	if m.done != nil {
		close(m.done)
	}
}

// run starts the plan and drives it until it has settled.
func (d *drive) run(ctx context.Context) {
	d.r.mu.Lock()
	d.fx = d.m.Start(d.fx)
	d.act()
	d.r.mu.Unlock()
	d.loop(ctx)
	d.r.mu.Lock()
	d.back = true
	d.r.mu.Unlock()
}

// loop takes mail until the plan has settled. ctx cancels it (S11).
func (d *drive) loop(ctx context.Context) {
	cancelled := ctx.Done()
	var batch []mail
	for {
		d.mu.Lock()
		batch, d.box = d.box, batch[:0]
		if len(batch) == 0 && d.m.Settled() {
			d.driving = false
			d.mu.Unlock()
			return
		}
		d.mu.Unlock()
		if len(batch) == 0 {
			select {
			case <-d.wake:
			case <-d.r.n.stop: // the node leaves hard: nobody will finish it
				d.mu.Lock()
				d.driving = false
				d.mu.Unlock()
				d.r.mu.Lock()
				d.left = true
				d.r.mu.Unlock()
				return
			case <-cancelled:
				cancelled = nil
				d.r.mu.Lock()
				d.fx = d.m.Cancel(d.fx)
				d.act()
				d.r.touchLocked()
				d.r.mu.Unlock()
			}
			continue
		}
		d.r.mu.Lock()
		for i := range batch {
			d.handle(&batch[i])
			d.act()
			batch[i] = mail{}
		}
		if d.m.Settled() {
			for _, c := range d.settled {
				close(c)
			}
			d.settled = nil
		}
		d.r.touchLocked()
		d.r.mu.Unlock()
	}
}

func (d *drive) handle(m *mail) {
	switch m.what {
	case mReport:
		if m.a.undo {
			d.undone(m.step, m.a, m.rep)
		} else {
			d.reported(m.step, m.a, m.rep)
		}
	case mAgain:
		if t := &d.tracks[m.step]; t.waiting {
			t.waiting = false
			d.dispatch(m.step)
		}
	case mUndo:
		if t := &d.tracks[m.step]; t.waiting {
			t.waiting = false
			d.dispatchUndo(m.step)
		}
	case mResolve:
		var err error
		d.fx, err = d.m.Resolve(m.step, m.how, d.fx)
		m.errs <- err
	case mUnwind:
		d.settled = append(d.settled, m.done)
		d.fx = d.m.Unwind(d.fx)
	}
}

// act carries out the machine's effects, and those that follow at once.
func (d *drive) act() {
	for i := 0; i < len(d.fx); i++ {
		e := d.fx[i]
		t := &d.tracks[e.Step]
		switch e.Op {
		case plan.Do:
			t.began = time.Now()
			d.dispatch(e.Step)
		case plan.Retry:
			t.reported = false
			p := plan.Policy{}
			_, wait := p.Next(plan.Last{Outcome: plan.Clean, Attempt: 1}, rand.Float64())
			d.after(e.Step, mAgain, max(wait, min(5*time.Second, 50*time.Millisecond<<min(t.tries, 7))))
		case plan.Cancel:
			switch {
			case t.waiting: // no attempt is in flight: there will be none
				t.waiting = false
				t.timer.Stop()
				o := plan.Outcome(t.outcome)
				if t.tries == 0 || o == plan.OK {
					o = plan.NeverRan
				}
				d.final(e.Step, o, true, ErrCancelled)
			case t.cur != nil:
				d.n.cancel(t.cur.f)
			}
		case plan.Undo:
			t.undos, t.until = 0, time.Time{}
			d.dispatchUndo(e.Step)
		}
	}
	d.fx = d.fx[:0]
}

// dispatch makes the next attempt of a step.
func (d *drive) dispatch(i int) {
	s, t := d.p.steps[i], &d.tracks[i]
	if s.encode != nil && s.input == nil {
		d.r.mu.Unlock() // it is the user's code
		in, err := s.encode()
		d.r.mu.Lock()
		if err == nil && len(in) > MaxPayload {
			err = tooLarge(s.kind, len(in))
		}
		if err != nil {
			d.final(i, plan.NeverRan, true, fmt.Errorf("%w: %w", ErrInvalid, err))
			return
		}
		if s.input = in; s.input == nil {
			s.input = []byte{}
		}
	}
	at, err := d.n.place(s.on, s.kind, d.r.reach(), t.at.life)
	if err != nil {
		d.unplaced(i, err)
		return
	}
	c := s.command(d.key(s, "/do"))
	c.Attempt = uint32(t.tries + 1)
	c.Start = d.n.hubTime(time.Now()).Add(s.queue).UnixMilli()
	a := &t.first
	if t.cur != nil {
		a = new(attempt)
	}
	*a = attempt{d: d, step: i, at: at}
	t.cur = a
	f, err := d.n.start(at, &c, s.lost(), a)
	if err != nil {
		d.unplaced(i, err)
		return
	}
	a.f, t.at = f, at
	t.tries++
}

func (d *drive) key(s *step, end string) string {
	return string(d.r.id) + "/" + d.name + "/" + s.name + end
}

// unplaced waits for a node to send the step to, for the grace (S14).
func (d *drive) unplaced(i int, err error) {
	t := &d.tracks[i]
	t.message = err.Error()
	now := time.Now()
	if t.until.IsZero() {
		t.until = now.Add(grace)
	}
	if now.After(t.until) || d.m.Phase() != plan.Forward {
		d.final(i, plan.NeverRan, true, err)
		return
	}
	d.after(i, mAgain, replace)
}

func (d *drive) after(i int, w what, wait time.Duration) {
	t := &d.tracks[i]
	t.waiting = true
	t.timer = time.AfterFunc(wait, func() { d.post(mail{what: w, step: i}) })
}

// reported takes the report of an attempt in.
func (d *drive) reported(i int, a *attempt, r wire.Report) {
	s, t := d.p.steps[i], &d.tracks[i]
	if a != t.cur || t.waiting { // S12: of an attempt that was given up
		if r.Outcome == wire.Unknown {
			return
		}
		t.late++
		d.n.cfg.Logger.Warn("late result of an earlier attempt", "run", d.r.id, "step", s.name, "outcome", Outcome(r.Outcome), "node", a.at.node)
		if t.waiting && r.Outcome == wire.OK { // in time to save another attempt
			t.waiting = false
			t.timer.Stop()
			t.cur = a
		} else {
			d.fx = d.m.Late(i, plan.Outcome(r.Outcome), d.fx)
			return
		}
	}
	t.outcome = r.Outcome
	if r.Outcome == wire.OK {
		t.result, t.message = r.Payload, ""
		d.final(i, plan.OK, true, nil)
		return
	}
	err := reportError(r, a.at.node, s.kind)
	t.message = err.Error()
	if r.Outcome == wire.Unknown && !r.Over { // S3 lost: it may be running still
		d.final(i, plan.Unknown, false, err)
		return
	}
	if t.reported {
		if r.Outcome == wire.Unknown {
			d.fx = d.m.Over(i, d.fx)
			return
		}
		d.final(i, plan.Outcome(r.Outcome), true, err)
		return
	}
	remote, _ := errors.AsType[*RemoteError](err)
	if r.Outcome == wire.NeverRan && remote != nil && remote.refused {
		t.tries--
		d.unplaced(i, err)
		return
	}
	if d.m.Phase() == plan.Forward && !(remote != nil && remote.cancelled) {
		l := lastOf(err, r, s.on, t.tries)
		p := plan.Policy{Retries: s.retries, Idempotent: s.idem}
		if next, wait := p.Next(l, rand.Float64()); next == plan.Again {
			t.until = time.Time{}
			t.before, t.again = d.together(t, plan.Outcome(r.Outcome)), true
			d.after(i, mAgain, wait)
			return
		}
	}
	d.final(i, plan.Outcome(r.Outcome), true, err)
}

// final tells the machine how a step ended; after the first time, that this
// came late.
func (d *drive) final(i int, o plan.Outcome, over bool, err error) {
	s, t := d.p.steps[i], &d.tracks[i]
	if !d.back {
		s.ended, s.err, s.node, s.result = true, err, t.at.node, t.result
	}
	t.over = time.Now()
	t.outcome = wire.Outcome(o)
	if err != nil {
		t.message = err.Error()
	}
	if t.reported {
		d.fx = d.m.Late(i, o, d.fx)
		return
	}
	o = d.together(t, o)
	t.outcome = wire.Outcome(o)
	t.reported = true
	d.fx = d.m.Report(i, o, over, d.fx)
}

// together is what is known of all attempts of a step: one that failed clean
// does not hide an unknown one before it.
func (d *drive) together(t *track, o plan.Outcome) plan.Outcome {
	if !t.again {
		return o
	}
	return t.before.Then(o)
}

// dispatchUndo makes the next attempt to undo a step.
func (d *drive) dispatchUndo(i int) {
	s, t := d.p.steps[i], &d.tracks[i]
	at, err := d.placeUndo(s, t)
	if err != nil {
		now := time.Now()
		if t.until.IsZero() {
			t.until = now.Add(grace)
		}
		if now.Before(t.until) {
			t.message = err.Error()
			d.after(i, mUndo, replace)
			return
		}
		d.undoFailed(i, err)
		return
	}
	u := wire.UndoInput{In: s.input, Outcome: t.outcome, Node: string(t.at.node)}
	if t.outcome == wire.OK {
		u.Out = t.result
	} else {
		u.Message = t.message
	}
	c := s.command(d.key(s, "/undo"))
	c.Flags |= wire.Undo
	c.Attempt = uint32(t.undos + 1)
	c.Input = wire.AppendUndo(nil, &u)
	a := &attempt{d: d, step: i, undo: true, at: at}
	t.cur = a
	f, err := d.n.start(at, &c, s.lost(), a)
	if err != nil {
		d.undoFailed(i, err)
		return
	}
	a.f = f
}

// placeUndo is where the step ran, if that node lives, also in a new life. For
// a step that any node could do, another will undo it when that one is gone.
func (d *drive) placeUndo(s *step, t *track) (place, error) {
	n := d.n
	if t.at.life == n.id {
		return t.at, nil
	}
	if ss := n.session.Load(); ss != nil {
		if m := ss.View().Members[string(t.at.node)]; m != nil {
			switch m.State {
			case members.Alive, members.Suspect, members.Joining:
				return place{t.at.node, link.ID(m.Life)}, nil
			}
		}
	}
	if s.on.name == "" {
		return n.place(s.on, s.kind, d.r.reach(), 0)
	}
	return place{}, fmt.Errorf("%w: %s, where it is to be undone, is gone", ErrNoNode, t.at.node)
}

// undone takes the report of an undo in.
func (d *drive) undone(i int, a *attempt, r wire.Report) {
	t := &d.tracks[i]
	if a != t.cur {
		return
	}
	stuck := d.m.State(i) == plan.Stuck
	if r.Outcome == wire.OK {
		t.cur, t.over = nil, time.Now()
		if stuck { // it said so after all
			fx, _ := d.m.Resolve(i, plan.RetryUndo, nil)
			if len(fx) == 0 {
				return // its turn comes again
			}
		}
		d.fx = d.m.UndoReport(i, true, d.fx)
		return
	}
	err := reportError(r, a.at.node, "undo of "+d.p.steps[i].kind)
	t.message = err.Error()
	if r.Outcome == wire.Unknown && !r.Over { // it may be running: not a second one beside it
		if !stuck {
			d.fx = d.m.UndoReport(i, false, d.fx)
		}
		return
	}
	if !stuck {
		d.undoFailed(i, err)
	}
}

func (d *drive) undoFailed(i int, err error) {
	t := &d.tracks[i]
	t.message = err.Error()
	t.undos++
	var remote *RemoteError
	permanent := errors.As(err, &remote) && remote.permanent
	if t.undos >= undoLimit || permanent || errors.Is(err, ErrInvalid) {
		t.cur = nil
		d.n.cfg.Logger.Error("undo is stuck: retry, skip or mark it", "run", d.r.id, "step", d.p.steps[i].name, "err", err)
		d.fx = d.m.UndoReport(i, false, d.fx)
		return
	}
	wait := min(2*time.Second, 50*time.Millisecond<<min(t.undos-1, 8))
	if remote != nil {
		wait = max(wait, remote.after)
	}
	d.after(i, mUndo, wait)
}

// err is what Run.Do returns.
func (d *drive) err(ctx context.Context) error {
	if !d.left && !d.m.Failed() && !d.m.Cancelled() {
		return nil
	}
	e := &PlanError{Plan: d.name, Rollback: d.p.Rollback, RolledBack: d.p.Rollback && d.m.RolledBack()}
	var errs []error
	if c := d.m.Cause(); c >= 0 {
		e.Step = d.p.steps[c].name
		errs = append(errs, d.p.steps[c].err)
	}
	if d.left {
		errs = append([]error{ErrLeft}, errs...)
	} else if d.m.Cancelled() {
		why := ErrCancelled
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			why = ErrTimeout
		}
		errs = append([]error{why}, errs...)
	} else {
		for i, s := range d.p.steps {
			if i != d.m.Cause() && s.ended && s.err != nil {
				errs = append(errs, fmt.Errorf("step %s: %w", s.name, s.err))
			}
		}
	}
	if e.Err = errs[0]; len(errs) > 1 {
		e.Err = errors.Join(errs...)
	}
	for i, s := range d.p.steps {
		if !s.ended {
			s.ended, s.err = true, fmt.Errorf("%w: step %s was %s", ErrInvalid, s.name, d.m.State(i))
		}
	}
	return e
}

// undoKey turns the key of an undo into that of what is undone.
func undoKey(key string) string { return strings.TrimSuffix(key, "/undo") + "/do" }
