// Package runs is the runs of events at a node: it drives their plans, and
// remembers what became of them.
//
//	g := runs.New(host)
//	twin, err := g.Begin(&r, runs.Beginning{Event: "deploy", Key: key, Input: in})
//	failure := r.Do(ctx, host, &runs.Plan{Name: "1", Rollback: true, Steps: steps})
//	out, err = g.End(&r, out, err)
//
// internal/plan decides; here is what carries out and what comes in: reports,
// timers, operators. Whoever brings something in takes it in at once, under the
// run's lock; the handler's goroutine, in Do, is woken only for what needs it:
// the user's functions that compute inputs, and the end.
//
// # Guarantees
//
// Those of docs/guarantees.md about plans and rollback. The last 1000 finished
// runs are remembered, and of those up to about 32 MiB.
//
// # Failures
//
// Do answers with a Failure that says which step failed and what became of the
// rollback; queries are answered with fault.ErrNoRun and fault.ErrInvalid.
package runs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/distgear/distgear/cluster"
	"github.com/distgear/distgear/internal/fault"
	"github.com/distgear/distgear/internal/link"
	"github.com/distgear/distgear/internal/outcome"
	"github.com/distgear/distgear/internal/place"
	"github.com/distgear/distgear/internal/runner"
	"github.com/distgear/distgear/internal/wire"
	"github.com/distgear/distgear/record"
)

const (
	maxFinished      = 1000     // finished runs a node remembers
	maxFinishedBytes = 32 << 20 // and about how many bytes of them
	maxNested        = 10_000   // finished nested runs that can still be undone
)

// Host is what runs need of the node that they are at, or of the one whose
// cluster a plan's steps run in.
type Host struct {
	Here place.Place
	Log  *slog.Logger
	Stop <-chan struct{} // closed when the node leaves without waiting any longer

	// Place chooses where a command goes. joining is a node that may be
	// addressed before it is a member; avoid a life that was just tried.
	Place func(t place.Target, kind string, joining cluster.NodeName, avoid link.ID) (place.Place, error)
	// Start sends a command that must start before begin (zero: no bound); its
	// outcome goes to r, unknown after lost (zero: never). An error means that it
	// was not sent. The command is the caller's again when Start returns.
	Start func(at place.Place, c *wire.Command, begin time.Time, lost time.Duration, r link.Receiver) (Flight, error)
	// Cancel asks a command to stop; its outcome still comes.
	Cancel func(at place.Place, f Flight)
	// Error is the error that a report stands for; nil when OK.
	Error func(r wire.Report, node cluster.NodeName, kind string) error
	// Places are the live nodes, this one first; Request asks one of them. The
	// answer is unknown after lost (zero: never).
	Places  func() []place.Place
	Request func(ctx context.Context, at place.Place, kind string, in []byte, lost time.Duration) (wire.Report, error)
	// Hold makes Leave wait for work that no handler waits for, until Free; false
	// means that the node leaves already.
	Hold func() bool
	Free func()
	// Clock is the cluster's time; nil means time.Now.
	Clock func() time.Time
}

func (h *Host) now() time.Time {
	if h.Clock == nil {
		return time.Now()
	}
	return h.Clock()
}

// Flight is a command that was sent.
type Flight struct {
	Local *runner.Context // of a command to this very node
	Ref   link.Ref        // of one to another
}

// Registry is the runs that a node handles or has handled.
type Registry struct {
	// Outcomes is what this node remembers of commands of durable runs.
	Outcomes outcome.Table

	host   *Host
	prefix string
	last   atomic.Uint64

	mu       sync.Mutex
	runs     map[record.RunID]*Run
	finished []kept // oldest first, from head on
	head     int
	bytes    int
	nested   map[string]*Run // by the parent command's key
	order    []string        // of nested, oldest first
	forgot   bool            // a nested run was forgotten without being released
}

// kept is a finished run, and about how many bytes it holds on to.
type kept struct {
	r    *Run
	size int
}

// New returns a registry without runs.
func New(h *Host) *Registry {
	return &Registry{
		host: h, prefix: strconv.FormatUint(uint64(h.Here.Life), 36) + "-",
		runs: map[record.RunID]*Run{}, nested: map[string]*Run{},
	}
}

// NewID makes an id of the node's life and a number (S19).
func (g *Registry) NewID() record.RunID {
	var b [40]byte
	return record.RunID(strconv.AppendUint(append(b[:0], g.prefix...), g.last.Add(1), 36))
}

// Beginning is the command that begins a run.
type Beginning struct {
	Event   string
	Key     string
	Attempt int
	Nested  bool // it is a step of a plan: Key names the parent
	Input   []byte
	Lent    bool            // the input is part of a message
	Ctx     *runner.Context // of the handler
	Lease   *Lease          // the run is durable, its ID is Key, and this node owns it
}

// Begin makes r the run of a command. A run of the same ID that is known
// already is the twin; with another input that is a conflict.
func (g *Registry) Begin(r *Run, b Beginning) (twin *Run, err error) {
	id := record.RunID(b.Key)
	if id == "" {
		id = g.NewID()
	}
	if b.Nested && b.Attempt > 1 && b.Lease == nil {
		id += record.RunID("#" + strconv.Itoa(b.Attempt))
	}
	r.id, r.host, r.event, r.ctx, r.nested, r.input = id, g.host, b.Event, b.Ctx, b.Nested, b.Input
	r.lent = b.Lent
	r.started, r.version = time.Now().UnixNano(), 1
	if b.Lease != nil {
		return nil, g.beginDurable(r, &b)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if old := g.runs[id]; old != nil {
		if old.event != b.Event || !bytes.Equal(old.input, b.Input) {
			return nil, fault.Useless(fmt.Errorf("%w: %s", fault.ErrConflict, id))
		}
		return old, nil
	}
	g.runs[id] = r
	if r.nested {
		g.nested[b.Key] = r
	}
	return nil, nil
}

// End ends a run and passes its outcome on. That of a durable run is in the
// journal then, or the error is fault.ErrSuspended: it goes on elsewhere.
func (g *Registry) End(r *Run, out []byte, err error) ([]byte, error) {
	r.mu.Lock()
	if err != nil && r.clean() {
		err = fault.Clean(err) // S16: nothing of it is left
	}
	outcome := wire.OK
	if err != nil {
		outcome = fault.Report(err).Outcome
	}
	e := &ending{at: time.Now().UnixNano(), out: out, err: err, outcome: outcome}
	if r.log != nil {
		r.mu.Unlock()
		if err := g.endDurable(r, e); err != nil {
			return nil, err
		}
		r.mu.Lock()
		out, err = e.out, e.err
	}
	r.end = e
	r.stopped = r.stopped || err != nil && r.ctx != nil && errors.Is(r.ctx.Cancelled(), context.Canceled)
	if r.lent {
		r.input = bytes.Clone(r.input) // the message goes
	}
	r.ctx = nil
	r.touch()
	size := r.size()
	r.mu.Unlock()
	if !r.nested {
		g.release(r)
		r.settle()
	}
	g.mu.Lock()
	if r.nested && outcome == wire.Clean {
		delete(g.nested, r.key())
	}
	g.keep(r, size)
	g.mu.Unlock()
	return out, err
}

// keep remembers a finished run, and forgets the oldest.
func (g *Registry) keep(r *Run, size int) {
	g.finished = append(g.finished, kept{r, size})
	g.bytes += size
	for len(g.finished)-g.head > maxFinished || g.bytes > maxFinishedBytes && len(g.finished)-g.head > 1 {
		old := &g.finished[g.head]
		delete(g.runs, old.r.id)
		g.bytes -= old.size
		old.r = nil
		if g.head++; g.head >= maxFinished {
			g.finished = g.finished[:copy(g.finished, g.finished[g.head:])]
			clear(g.finished[len(g.finished):cap(g.finished)])
			g.head = 0
		}
	}
	if !r.nested {
		return
	}
	for g.order = append(g.order, r.key()); len(g.order) > maxNested; g.order = g.order[1:] {
		if _, ok := g.nested[g.order[0]]; ok {
			delete(g.nested, g.order[0])
			g.forgot = true
		}
	}
}

// Unwind rolls a finished run back: its plans in reverse order (S16). key is
// that of the undo.
func (g *Registry) Unwind(ctx context.Context, key string) error {
	key = strings.TrimSuffix(key, undoEnd) + doEnd
	g.mu.Lock()
	r, gone := g.nested[key], g.forgot
	g.mu.Unlock()
	if r == nil {
		if gone {
			return fmt.Errorf("%w: run %s is not remembered any more", fault.ErrNoRun, key)
		}
		return nil // it never began here, or failed and was rolled back: nothing to undo
	}
	if err := r.unwind(ctx); err != nil {
		return err
	}
	g.mu.Lock()
	delete(g.nested, key)
	g.mu.Unlock()
	return nil
}

type nobody struct{}

// Report implements link.Receiver.
func (nobody) Report(wire.Report) {}

// release lets the runs of nested events go that can no longer be undone. One
// that does not hear of it is bounded by maxNested there.
func (g *Registry) release(r *Run) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, x := range r.plans {
		for i, s := range x.p.Steps {
			if !s.Event || x.d == nil {
				continue
			}
			if at := x.d.tracks[i].at; at.Life != 0 {
				c := wire.Command{Kind: kindRelease, Key: s.key}
				_, _ = x.d.h.Start(at, &c, time.Time{}, time.Second, nobody{})
			}
		}
	}
}

// serveLetGo forgets the outcomes of a durable run's attempts.
func (g *Registry) serveLetGo(_ context.Context, _ cluster.NodeName, c *wire.Command) ([]byte, error) {
	g.Outcomes.LetGo(c.Key, c.Owner.Epoch, g.host.now())
	return nil, nil
}

// serveRelease forgets a nested run, and releases what is nested in it.
func (g *Registry) serveRelease(_ context.Context, _ cluster.NodeName, c *wire.Command) ([]byte, error) {
	g.mu.Lock()
	r := g.nested[c.Key]
	delete(g.nested, c.Key)
	g.mu.Unlock()
	if r != nil {
		g.release(r)
	}
	return nil, nil
}

// CancelAll cancels the runs that have not ended. After Host.Stop was closed it
// also ends every Do.
func (g *Registry) CancelAll() {
	for _, r := range g.all() {
		if r.log != nil {
			r.log.resign()
		} else {
			r.cancel()
		}
		r.leave()
	}
}

func (g *Registry) all() []*Run {
	g.mu.Lock()
	defer g.mu.Unlock()
	rs := make([]*Run, 0, len(g.runs))
	for _, r := range g.runs {
		rs = append(rs, r)
	}
	return rs
}
