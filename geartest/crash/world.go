package crash

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/distgear/distgear"
	"github.com/distgear/distgear/cluster"
	"github.com/distgear/distgear/internal/codec"
	"github.com/distgear/distgear/internal/events"
	"github.com/distgear/distgear/internal/journal"
	"github.com/distgear/distgear/internal/machine/runs"
	"github.com/distgear/distgear/internal/memo"
	"github.com/distgear/distgear/internal/runner"
	"github.com/distgear/distgear/internal/wire"
	"github.com/distgear/distgear/record"
)

const (
	// runID is the run's.
	runID = "run-1"
	// takeOver is how long it takes until another goes on with the run of who died.
	takeOver = 2 * time.Second
	// patience is how long nothing may happen to a run that does not sleep, in the time of the bubble.
	patience = 24 * time.Hour
	// leaveTime is how long a node may take to leave, likewise.
	leaveTime = time.Hour
)

// scene is a Case without its types.
type scene struct {
	event  distgear.Handler
	input  []byte
	steps  []distgear.Handler
	signal func(name string) (any, bool)
	name   cluster.NodeName
	labels map[string]string
}

// world is everything around one run: the ledger that keeps its journal, its owners one after the other, and the processes that they and the steps
// are in. Whatever happens waits for its turn, and that is the next when all goroutines wait: so the points come in one order. Its methods are
// called on the test's goroutine, but for push.
type world struct {
	t      *testing.T
	s      *scene
	deaths []death
	died   []string

	points int
	passed []string
	ended  bool

	// The ledger.
	hub    runs.Run
	epoch  uint64
	teller journal.Teller
	gave   *journal.Give // the last
	said   []byte        // what the run's summary is
	owner  *owner        // nil: nobody
	until  time.Time     // the run sleeps

	owners []*owner
	at     *process

	mu    sync.Mutex
	queue []turn
	more  chan struct{} // 1: something was queued
}

// turn is something that happens.
type turn struct {
	rank string // the lowest is first
	take func()
}

func newWorld(t *testing.T, s *scene, deaths []death) *world {
	return &world{t: t, s: s, deaths: deaths, more: make(chan struct{}, 1)}
}

func (w *world) push(rank string, take func()) {
	w.mu.Lock()
	w.queue = append(w.queue, turn{rank, take})
	w.mu.Unlock()
	select {
	case w.more <- struct{}{}:
	default:
	}
}

func (w *world) next() func() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.queue) == 0 {
		return nil
	}
	at := 0
	for i := range w.queue {
		if w.queue[i].rank < w.queue[at].rank {
			at = i
		}
	}
	f := w.queue[at].take
	w.queue = slices.Delete(w.queue, at, at+1)
	return f
}

// play makes the run, until it has ended or something is wrong.
func (w *world) play() {
	w.at = w.start()
	w.lease()
	idle := time.NewTimer(patience)
	defer idle.Stop()
	for !w.ended && !w.t.Failed() {
		synctest.Wait()
		if f := w.next(); f != nil {
			f()
			idle.Reset(patience)
			continue
		}
		select {
		case <-w.more:
		case <-idle.C:
			if d := time.Until(w.until); d > 0 {
				idle.Reset(d + patience)
				continue
			}
			w.wrong("the run does not end: %s", w.stands())
		}
	}
}

func (w *world) wrong(format string, args ...any) { w.t.Errorf("crash: "+format, args...) }

// told tells of a run that failed which points it passed.
func (w *world) told() {
	if w.t.Failed() {
		w.t.Logf("crash: the points of this run:\n%s", strings.Join(w.passed, "\n"))
	}
}

// pass passes a point, where somebody may die.
func (w *world) pass(name string) {
	w.points++
	line := fmt.Sprintf("%4d %s", w.points, name)
	for _, d := range w.deaths {
		if d.at == w.points {
			line += ": the " + string(d.who) + " dies"
			w.died = append(w.died, fmt.Sprintf("the %s, %s", d.who, name))
			w.die(d.who == theProcess)
		}
	}
	w.passed = append(w.passed, line)
}

// die ends the owner, and its process.
func (w *world) die(process bool) {
	if o := w.owner; o != nil {
		w.owner = nil
		o.die()
		time.AfterFunc(takeOver, func() { w.push("", w.lease) })
	}
	if process {
		p := w.at
		p.die()
		w.push("", func() {
			w.bury(p)
			w.at = w.start()
		})
	}
}

// lease has the run go on.
func (w *world) lease() {
	if w.ended || w.owner != nil {
		return
	}
	if w.at.isDead() { // another is started next
		w.push("", w.lease)
		return
	}
	l, err := runs.ParseLease(w.hub.AppendLease(nil))
	if err != nil {
		w.wrong("the journal: %v", err)
		return
	}
	w.epoch++
	o := &owner{w: w, p: w.at, ctx: &runner.Context{CommandKey: runID}, over: make(chan struct{})}
	lease := &events.Lease{ID: runID, Kind: w.s.event.Kind(), Input: w.s.input, Lease: journal.Lease{
		Journal: o, Epoch: w.epoch, Units: l.Units, Started: journal.Began(l.Units),
	}}
	for _, s := range l.Signals {
		lease.Signals = append(lease.Signals, journal.Signal(s))
	}
	w.owner = o
	w.owners = append(w.owners, o)
	go func() {
		defer close(o.over)
		err := events.Of(o.p.n.Room()).Serve(o.ctx, lease)
		w.push("", func() { w.returned(o, err) })
	}()
}

// returned takes up that a handler has, or never came to the run.
func (w *world) returned(o *owner, err error) {
	if w.owner == o && !o.gave {
		w.wrong("the handler of event %s returned, and has not ended the run: %v", w.s.event.Kind(), err)
	}
}

// appended takes an entry of the owner up.
func (w *world) appended(o *owner, e journal.Entry, then func(error)) {
	if o.isDead() {
		return
	}
	t := w.teller // what is lost was not told
	what := w.tell(&t, &e)
	w.pass("before the ledger has: " + what)
	if o.isDead() {
		return
	}
	w.teller = t
	if err := w.hub.Append(e.Unit, e.Took); err != nil {
		w.wrong("the ledger refuses an entry: %v", err)
		return
	}
	if e.Give != nil {
		w.given(o, e.Give)
	}
	w.pass("before the owner knows that the ledger has: " + what)
	if !o.isDead() {
		then(nil)
	}
}

// tell puts an entry into words.
func (w *world) tell(t *journal.Teller, e *journal.Entry) string {
	var lines []string
	if len(e.Unit) > 0 {
		var err error
		if _, lines, err = t.Tell(e.Unit); err != nil {
			w.wrong("the journal: %v", err)
		}
		w.covers(e.Unit)
	}
	if g := e.Give; g != nil {
		lines = append(lines, [...]string{"", "the run ends", "the run waits", "the run is parked", "the handler panicked"}[g.Why])
	}
	return strings.Join(lines, ", ")
}

// covers refuses plans that cannot be tried here.
func (w *world) covers(unit []byte) {
	_, recs, _ := journal.Parse(unit)
	for i := range recs {
		if recs[i].Kind != journal.Planned {
			continue
		}
		for _, s := range recs[i].Shape.Steps {
			if s.Event {
				w.wrong("step %s of plan %s is an event: events as steps are not covered here; try each event by itself", s.Name, recs[i].Shape.Name)
			}
		}
	}
}

// given takes up that the owner gives the run back.
func (w *world) given(o *owner, g *journal.Give) {
	w.owner, w.gave = nil, g
	switch g.Why {
	case journal.Finished:
		w.ended, w.said = true, o.summary
	case journal.Suspended:
		w.suspended(o, g)
	case journal.Panicked:
		if w.hub.Panicked() {
			w.wrong("the run is parked: its handler panics again and again: %s", g.Text)
		}
		w.push("", w.lease)
	case journal.Parked:
		w.wrong("the run is parked: %s", g.Text)
	}
}

// suspended has the run go on when what it waits for is there.
func (w *world) suspended(o *owner, g *journal.Give) {
	if w.hub.Suspend(g.Signals) || g.Until.IsZero() && len(g.Signals) == 0 {
		w.push("", w.lease)
		return
	}
	until := g.Until
	if at, ok := o.ctx.Deadline(); ok && (until.IsZero() || at.Before(until)) {
		until = at
	}
	if !until.IsZero() {
		of := w.epoch
		w.until = until
		time.AfterFunc(time.Until(until), func() {
			w.push("", func() {
				if w.epoch == of {
					w.hub.Wake()
					w.lease()
				}
			})
		})
	}
	w.push("", func() { w.signal(g.Signals) })
}

// signal sends the run one of these signals.
func (w *world) signal(names []string) {
	for _, name := range names {
		if w.s.signal == nil {
			break
		}
		v, ok := w.s.signal(name)
		if !ok {
			continue
		}
		s, err := signalOf(name, v)
		if err != nil {
			w.wrong("signal %s: %v", name, err)
			return
		}
		if _, wake, err := w.hub.Signal(name, s.Value); err != nil {
			w.wrong("signal %s: %v", name, err)
		} else if wake {
			w.lease()
		}
		return
	}
}

func signalOf(name string, v any) (journal.Signal, error) {
	if a, ok := v.(record.Approval); ok {
		return memo.Approval(strings.TrimPrefix(name, "approve "), a)
	}
	b, err := codec.AppendAny(nil, v)
	return journal.Signal{Name: name, Value: b}, err
}

// stands tells how a run stands that does not end.
func (w *world) stands() string {
	if w.owner == nil && w.gave != nil && len(w.gave.Signals) > 0 {
		return "it waits for a signal that nobody sends (Case.Signal): " + strings.Join(w.gave.Signals, ", ")
	}
	rec, err := w.at.n.FindRun(w.t.Context(), runID)
	if err != nil {
		return err.Error()
	}
	text := "it is " + string(rec.State)
	for _, p := range rec.Plans {
		for _, s := range p.Steps {
			if s.Error != "" {
				text += fmt.Sprintf("; step %s/%s is %s: %s", p.Name, s.Name, s.State, s.Error)
			}
		}
	}
	return text
}

// err is why the run failed.
func (w *world) err() error {
	if r := w.gave.Report; r.Outcome != wire.OK {
		return w.at.n.Room().Error(r, string(w.at.n.Name()), w.s.event.Kind())
	}
	return nil
}

func (w *world) summary() (rec record.Run) {
	if err := json.Unmarshal(w.said, &rec); err != nil {
		w.wrong("the run's summary: %v", err)
	}
	return rec
}

// close ends the process that there is, and what it does.
func (w *world) close() {
	if p := w.at; p != nil {
		p.die()
		w.bury(p)
		w.at = nil
	}
}

// bury waits until nothing of a process goes on.
func (w *world) bury(p *process) {
	close(p.gone)
	p.cancel()
	p.busy.Wait()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(w.t.Context()), leaveTime)
	defer cancel()
	if err := p.n.Leave(ctx); err != nil {
		w.wrong("a node does not end: %v", err)
	}
	for _, o := range w.owners {
		if o.p == p {
			o.die()
			<-o.over
		}
	}
}
