package runs_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/distgear/distgear/cluster"
	"github.com/distgear/distgear/internal/fault"
	"github.com/distgear/distgear/internal/handled"
	"github.com/distgear/distgear/internal/journal"
	"github.com/distgear/distgear/internal/link"
	"github.com/distgear/distgear/internal/outcome"
	"github.com/distgear/distgear/internal/place"
	"github.com/distgear/distgear/internal/runner"
	"github.com/distgear/distgear/internal/runs"
	"github.com/distgear/distgear/internal/wire"
	"github.com/distgear/distgear/record"
)

// A world is everything around one durable run, in a bubble of synctest: the hub
// that keeps its journal, the nodes that own it one after the other, the nodes that
// its commands go to, and what those did to the world outside. All that travels is
// an event in one queue; the next is taken when all goroutines wait. So a crash can
// be put at each point, and is at the same one when the test runs again.
type world struct {
	t       testing.TB
	handler func(ctx context.Context, r *runs.Run, h *runs.Host) ([]byte, error)
	do      func(w *world, kind, step, key string, in []byte, attempt uint32) wire.Report // nil: OK
	undo    func(w *world, step string) wire.Report                                       // nil: OK

	idle func() bool // nil, or what somebody does when nothing else happens; whether it did

	mu     sync.Mutex
	queue  []func()
	more   chan struct{} // 1: something was queued
	point  int
	plan   map[int]crash
	names  []string // of the points that were passed
	trace  []string
	faults []string

	// The hub.
	id      string // of the run
	epoch   uint64
	owner   *owner
	units   [][]byte
	looked  int // how many units there were when alikeNow looked
	gave    *journal.Give
	ok      map[string]bool // keys whose OK is in the journal
	signals []journal.Signal
	number  uint64
	gives   []*journal.Give
	cancel  bool
	adopt   bool
	unwind  bool
	shapes  []*journal.Plan

	workers map[cluster.NodeName]*worker
	lives   map[link.ID]*worker
	life    link.ID
	owners  []*owner
	ahead   time.Duration // the hub's clock, of those of nodes

	effects map[string]int // net, by run/plan/step
	ran     map[string]int // how often it was done
	doing   map[string]bool
	undoing map[string]bool
	below   map[string][]string // all that depends on a step
}

// crash is what happens at a point.
type crash uint8

const (
	killOwner  crash = 1 << iota // the owner is gone with all that it has in memory
	killWorker                   // so is the worker, which comes back in a new life
	usurp                        // another becomes the owner, and the one before does not know
)

type owner struct {
	w       *world
	at      place.Place
	epoch   uint64
	dead    atomic.Bool
	refused atomic.Bool
	stop    chan struct{}
	reg     *handled.Registry
	host    *runs.Host
	run     *runs.Run
	open    atomic.Int32 // entries on their way, and answers
}

type worker struct {
	at      place.Place
	dead    atomic.Bool
	table   *outcome.Table
	flights map[*flight]bool
}

// flight is a command on its way, for who sent it.
type flight struct {
	to  link.Receiver
	by  *owner
	ctx *runner.Context

	number int
}

const runID = "run-1"

func newWorld(t testing.TB) *world {
	w := &world{
		t: t, more: make(chan struct{}, 1), plan: map[int]crash{}, ok: map[string]bool{}, workers: map[cluster.NodeName]*worker{},
		lives: map[link.ID]*worker{}, effects: map[string]int{}, ran: map[string]int{}, doing: map[string]bool{}, undoing: map[string]bool{}, below: map[string][]string{},
		life: 100, id: runID,
	}
	for _, n := range []cluster.NodeName{"w1", "w2"} {
		w.start(n)
	}
	return w
}

func (w *world) start(n cluster.NodeName) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.life++
	x := &worker{at: place.Place{Node: n, Life: w.life}, table: new(outcome.Table), flights: map[*flight]bool{}}
	w.workers[n], w.lives[w.life] = x, x
}

func (w *world) say(format string, args ...any) {
	w.mu.Lock()
	w.trace = append(w.trace, fmt.Sprintf(format, args...))
	w.mu.Unlock()
}

func (w *world) wrong(format string, args ...any) {
	w.mu.Lock()
	w.faults = append(w.faults, fmt.Sprintf(format, args...))
	w.trace = append(w.trace, "WRONG: "+fmt.Sprintf(format, args...))
	w.mu.Unlock()
}

func (w *world) push(f func()) {
	w.mu.Lock()
	w.queue = append(w.queue, f)
	w.mu.Unlock()
	select {
	case w.more <- struct{}{}:
	default:
	}
}

// pass passes a point, where something may crash.
func (w *world) pass(name string, o *owner, x *worker) {
	w.mu.Lock()
	w.point++
	at := w.point
	c := w.plan[at]
	w.names = append(w.names, name)
	w.mu.Unlock()
	if c != 0 {
		w.say("crash %03b at point %d: %s", c, at, name)
	}
	if c&killWorker != 0 && x != nil && !x.dead.Load() {
		w.killWorker(x)
	}
	if c&(killOwner|usurp) != 0 {
		w.mu.Lock()
		o := w.owner
		w.mu.Unlock()
		w.takeOver(o, c&killOwner != 0)
	}
}

// takeOver makes another node the owner.
func (w *world) takeOver(o *owner, dies bool) {
	if o == nil || o.dead.Load() {
		return
	}
	if dies {
		o.dead.Store(true)
		w.push(func() { w.bury(o) })
	}
	w.mu.Lock()
	mine := w.owner == o
	if mine {
		w.owner = nil
	}
	w.mu.Unlock()
	if mine {
		w.push(w.lease)
	}
}

// bury lets the goroutines of a dead owner end.
func (w *world) bury(o *owner) {
	select {
	case <-o.stop:
	default:
		close(o.stop)
	}
	o.reg.CancelAll()
}

func (w *world) killWorker(x *worker) {
	x.dead.Store(true)
	w.push(func() {
		w.start(x.at.Node)
		w.mu.Lock()
		fs := slices.Collect(maps.Keys(x.flights))
		w.mu.Unlock()
		slices.SortFunc(fs, func(a, b *flight) int { return a.number - b.number })
		for _, f := range fs {
			f.ctx.Cancel(context.Canceled) // so that its goroutines end; nobody hears of it
			w.report(x, f, wire.Report{Over: true})
		}
	})
}

// report tells the sender of a command its outcome.
func (w *world) report(x *worker, f *flight, r wire.Report) {
	w.mu.Lock()
	delete(x.flights, f)
	w.mu.Unlock()
	w.push(func() {
		if !f.by.dead.Load() {
			f.to.Report(r)
		}
	})
}

// lease leases the run to a node that is new.
func (w *world) lease() {
	if !w.owns(nil) || w.ended() {
		return
	}
	w.epoch++
	w.gave = nil
	w.mu.Lock()
	w.life++
	w.mu.Unlock()
	o := &owner{w: w, epoch: w.epoch, at: place.Place{Node: cluster.NodeName(fmt.Sprintf("o%d", w.epoch)), Life: w.life}, stop: make(chan struct{})}
	o.host = &runs.Host{
		Here: o.at, Log: slog.New(slog.DiscardHandler), Stop: o.stop, Place: o.place, Start: o.start, Cancel: o.cancel, Error: asError,
		Places: o.places, Hold: func() bool { return true }, Free: func() {}, Clock: w.clock,
	}
	o.reg = handled.New(o.host)
	w.mu.Lock()
	w.owner = o
	w.mu.Unlock()
	w.owners = append(w.owners, o)
	w.say("%s owns the run, epoch %d, %d units", o.at.Node, o.epoch, len(w.units))
	l := &journal.Lease{
		Journal: o, Epoch: o.epoch, Units: append([][]byte(nil), w.units...), Signals: append([]journal.Signal(nil), w.signals...),
		Cancelled: w.cancel, Adopt: w.adopt, Unwind: w.unwind,
	}
	go o.handle(l)
}

// owns tells whether o is the owner; nil is nobody.
func (w *world) owns(o *owner) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.owner == o
}

func (w *world) ended() bool { return w.gave != nil && w.gave.Why == journal.Finished }

func (o *owner) handle(l *journal.Lease) {
	ctx := new(runner.Context)
	o.run = new(runs.Run)
	if _, err := o.reg.Begin(o.run, runs.Beginning{Event: "event", Key: o.w.id, Input: nil, Ctx: ctx, Lease: l}); err != nil {
		o.w.say("%s: begin: %v", o.at.Node, err)
		return
	}
	out, err := o.w.handler(ctx, o.run, o.host)
	o.w.say("%s: handler: %s, %v", o.at.Node, out, err)
	out, err = o.reg.End(o.run, out, err)
	o.w.say("%s: end: %s, %v", o.at.Node, out, err)
	if errors.Is(err, fault.ErrSuspended) {
		return
	}
	if l.Unwind { // nobody waits for its result again
		return
	}
	o.w.push(func() { o.w.told(out, err) })
}

// Append implements journal.Journal: the hub's side.
func (o *owner) Append(e journal.Entry, then func(error)) {
	w := o.w
	if o.dead.Load() {
		return
	}
	if g := e.Give; g != nil && g.Summary != nil { // of now
		sum := g.Summary()
		g.Summary = func() []byte { return sum }
	}
	w.pass("append", o, nil)
	if o.dead.Load() {
		return
	}
	o.open.Add(1)
	w.push(func() { w.appended(o, e, then) })
}

func (w *world) appended(o *owner, e journal.Entry, then func(error)) {
	if !w.owns(o) {
		w.say("%s: refused: %s", o.at.Node, w.shown(e))
		if !o.dead.Load() {
			o.refused.Store(true)
			then(errors.New("the hub has another owner"))
		}
		return
	}
	w.say("%s: appended: %s", o.at.Node, w.shown(e))
	w.keep(o, e)
	w.pass("appended", o, nil)
	if o.dead.Load() {
		return
	}
	w.push(func() {
		if o.dead.Load() {
			return
		}
		o.open.Add(-1)
		then(nil)
		w.pass("acknowledged", o, nil)
	})
}

// keep is what the hub does with an entry.
func (w *world) keep(o *owner, e journal.Entry) {
	if e.Unit != nil {
		w.units = append(w.units, e.Unit)
		_, recs, err := journal.Parse(e.Unit)
		if err != nil {
			w.wrong("unit: %v", err)
		}
		for _, r := range recs {
			switch {
			case r.Kind == journal.Planned:
				w.shapes = append(w.shapes, r.Shape)
			case r.Kind == journal.Adopted:
				w.shapes[r.Plan] = r.Shape
			case r.Kind == journal.Reported && !r.Undo && r.Report.Outcome == wire.OK:
				w.mu.Lock()
				w.ok[w.key(&r)] = true
				w.mu.Unlock()
			}
		}
	}
	for _, n := range e.Took {
		for i, s := range w.signals {
			if s.Number == n {
				w.signals = append(w.signals[:i:i], w.signals[i+1:]...)
				break
			}
		}
	}
	if e.Give == nil {
		return
	}
	w.mu.Lock()
	w.gave, w.owner = e.Give, nil
	w.mu.Unlock()
	w.gives = append(w.gives, e.Give)
	if e.Give.Why == journal.Suspended {
		w.wake()
	}
}

// wake leases the run again when what it waits for is there.
func (w *world) wake() {
	g := w.gave
	if g == nil || g.Why != journal.Suspended || !w.owns(nil) {
		return
	}
	ready := g.Until.IsZero() && len(g.Signals) == 0
	for _, n := range g.Signals {
		for _, s := range w.signals {
			ready = ready || s.Name == n
		}
	}
	if !g.Until.IsZero() {
		if wait := g.Until.Sub(w.clock()); wait > 0 {
			time.AfterFunc(wait, func() { w.push(w.wake) })
		} else {
			ready = true
		}
	}
	if ready {
		w.push(w.lease)
	}
}

// signal sends a signal to the run.
func (w *world) signal(name, value string) {
	w.number++
	s := journal.Signal{Number: w.number, Name: name, Value: []byte(value)}
	w.signals = append(w.signals, s)
	if w.owner != nil {
		w.owner.reg.Signalled(runID, s)
		return
	}
	w.wake()
}

// ask asks the owner, as nodes do; false when there is none, or it refuses.
func (w *world) ask(kind, query string) ([]byte, bool) {
	w.mu.Lock()
	o := w.owner
	w.mu.Unlock()
	if o == nil {
		return nil, false
	}
	out, err := o.reg.Serve()[kind](w.t.Context(), "", &wire.Command{Input: []byte(query)})
	w.say("asked %s %s: %v", kind, query, err)
	return out, err == nil
}

// state is that of the run, as its owner tells it.
func (w *world) state() record.RunState {
	var rec record.Run
	if out, ok := w.ask("_run", `{"ID":"`+runID+`"}`); ok {
		_ = json.Unmarshal(out, &rec) // it is our own
	}
	return rec.State
}

// cancelRun cancels the run, at the hub.
func (w *world) cancelRun() {
	w.cancel = true
	w.ask("_cancel", `{"ID":"`+runID+`"}`)
}

func (w *world) key(r *journal.Record) string {
	return fmt.Sprintf("%s/%s/%s", w.id, w.shapes[r.Plan].Name, w.shapes[r.Plan].Steps[r.Step].Name)
}

func (o *owner) place(t place.Target, _ string, _ cluster.NodeName, _ link.ID) (place.Place, error) {
	o.w.mu.Lock()
	defer o.w.mu.Unlock()
	for _, n := range []cluster.NodeName{"w1", "w2"} {
		if x := o.w.workers[n]; (t.Name == "" || t.Name == n) && !x.dead.Load() {
			return x.at, nil
		}
	}
	return place.Place{}, fmt.Errorf("%w: %s", fault.ErrNoNode, t)
}

func (w *world) alive(life link.ID) *worker {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.lives[life]
}

func (o *owner) places() (ps []place.Place) {
	o.w.mu.Lock()
	defer o.w.mu.Unlock()
	ps = append(ps, o.at)
	for _, x := range o.w.workers {
		if !x.dead.Load() {
			ps = append(ps, x.at)
		}
	}
	return ps
}

func (o *owner) start(at place.Place, c *wire.Command, begin time.Time, _ time.Duration, r link.Receiver) (runs.Flight, error) {
	w := o.w
	if o.dead.Load() {
		return runs.Flight{}, nil
	}
	if o.refused.Load() {
		w.wrong("%s sends %s after an entry of it was refused", o.at.Node, c.Key)
	}
	if c.Kind[0] == '_' {
		if x := w.alive(at.Life); x != nil {
			if err := x.table.LetGoOf(c.Input, time.Now()); err != nil {
				w.wrong("%v", err)
			}
		}
		w.push(func() { r.Report(wire.Report{Outcome: wire.OK, Over: true}) })
		return runs.Flight{}, nil
	}
	w.pass("send "+c.Key, o, nil)
	if o.dead.Load() {
		return runs.Flight{}, nil
	}
	if !begin.IsZero() {
		c.Start = begin.UnixMilli()
	}
	f := &flight{to: r, by: o, ctx: new(runner.Context)}
	cmd := *c
	w.push(func() { w.deliver(at, f, &cmd) })
	w.pass("sent "+c.Key, o, nil)
	return runs.Flight{Local: f.ctx}, nil
}

func (o *owner) cancel(_ place.Place, f runs.Flight) {
	if !o.dead.Load() && f.Local != nil {
		o.w.push(func() { f.Local.Cancel(context.Canceled) })
	}
}

// maxTime is how long a run may take after the last fault, in the bubble's time.
const maxTime = time.Hour

// play lets the run begin and returns when it has ended, is parked, or when until
// says so.
func (w *world) play(until func() bool) {
	w.push(w.lease)
	w.goOn(until)
}

func (w *world) goOn(until func() bool) {
	end := time.NewTimer(maxTime)
	defer end.Stop()
	for {
		synctest.Wait()
		w.alikeNow()
		w.mu.Lock()
		var f func()
		if len(w.queue) > 0 {
			f, w.queue = w.queue[0], w.queue[1:]
		}
		w.mu.Unlock()
		switch {
		case f != nil:
			f()
			continue
		case w.idle != nil && w.idle():
			continue
		case until != nil && until(), until == nil && w.gave != nil && w.gave.Why != journal.Suspended:
			return
		}
		select {
		case <-w.more:
		case <-end.C:
			w.wrong("I6: the run has not ended in %v", maxTime)
			return
		}
	}
}

// close lets all goroutines end, and fails the test if anything was wrong.
func (w *world) close(name string) {
	w.t.Helper()
	for _, o := range w.owners {
		o.dead.Store(true)
		w.bury(o)
	}
	for _, x := range w.lives {
		for f := range x.flights {
			f.ctx.Cancel(context.Canceled)
		}
	}
	synctest.Wait()
	if w.ended() {
		w.alike()
	}
	if len(w.faults) > 0 {
		w.t.Fatalf("%s:\n%s\n\n%s", name, strings.Join(w.faults, "\n"), strings.Join(w.trace, "\n"))
	}
}
