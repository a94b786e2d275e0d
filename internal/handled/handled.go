// Package handled is the runs that a node handles, or has handled: it finds them by
// their IDs, remembers those that have ended, and answers for them.
//
//	g := handled.New(host)
//	twin, err := g.Begin(&r, runs.Beginning{Event: "deploy", Key: key, Input: in})
//	failure := r.Do(ctx, host, plan)
//	out, err = g.End(&r, out, err)
//
// # Guarantees
//
// The last 1000 finished runs are remembered, and of those up to about 32 MiB; durable ones
// that ended OK are not: the ledger has them.
//
// # Failures
//
// Queries are answered with fault.ErrNoRun and fault.ErrInvalid.
package handled

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/distgear/distgear/cluster"
	"github.com/distgear/distgear/internal/fault"
	"github.com/distgear/distgear/internal/journal"
	"github.com/distgear/distgear/internal/outcome"
	"github.com/distgear/distgear/internal/runs"
	"github.com/distgear/distgear/internal/wire"
	"github.com/distgear/distgear/record"
)

const (
	maxFinished      = 1000     // finished runs a node remembers
	maxFinishedBytes = 32 << 20 // and about how many bytes of them
	maxNested        = 10_000   // finished nested runs that can still be undone
)

// Registry is the runs that a node handles or has handled.
type Registry struct {
	// Outcomes is what this node remembers of commands of durable runs.
	Outcomes outcome.Table

	host   *runs.Host
	prefix string
	last   atomic.Uint64

	farewells farewells

	mu       sync.Mutex
	runs     map[record.RunID]*runs.Run
	finished []kept // oldest first, from head on
	head     int
	bytes    int
	nested   map[string]*runs.Run // by the parent command's key
	order    []string             // of nested, oldest first
	forgot   bool                 // a nested run was forgotten without being released
}

// kept is a finished run, and about how many bytes it holds on to.
type kept struct {
	r    *runs.Run
	size int
}

// New returns a registry without runs, and makes it the one whose LetGo the host has.
func New(h *runs.Host) *Registry {
	g := &Registry{
		host: h, prefix: strconv.FormatUint(uint64(h.Here.Life), 36) + "-",
		runs: map[record.RunID]*runs.Run{}, nested: map[string]*runs.Run{},
	}
	h.LetGo = g.LetGo
	return g
}

// NewID makes an id of the node's life and a number (S19).
func (g *Registry) NewID() record.RunID {
	var b [40]byte
	return record.RunID(strconv.AppendUint(append(b[:0], g.prefix...), g.last.Add(1), 36))
}

// Begin makes r the run of a command. A run of the same ID that is known
// already is the twin; with another input that is a conflict. A durable run that
// cannot go on here is fault.ErrSuspended.
func (g *Registry) Begin(r *runs.Run, b runs.Beginning) (twin *runs.Run, err error) {
	id := record.RunID(b.Key)
	if id == "" {
		id = g.NewID()
	}
	if b.Nested && b.Attempt > 1 && b.Lease == nil {
		id += record.RunID("#" + strconv.Itoa(b.Attempt))
	}
	if err := r.Begin(g.host, id, &b); err != nil {
		return nil, err
	}
	g.mu.Lock()
	old := g.runs[id]
	if old != nil && b.Lease == nil {
		defer g.mu.Unlock()
		if !old.Same(&b) {
			return nil, fault.Useless(fmt.Errorf("%w: %s", fault.ErrConflict, id))
		}
		return old, nil
	}
	g.runs[id] = r
	if b.Nested && b.Lease == nil {
		g.nested[b.Key] = r
	}
	g.mu.Unlock()
	if old != nil { // of a lease before
		old.Supersede()
	}
	return nil, nil
}

// End ends a run and passes its outcome on. That of a durable run is in the
// journal then, or the error is fault.ErrSuspended: it goes on elsewhere.
func (g *Registry) End(r *runs.Run, out []byte, err error) ([]byte, error) {
	e := r.End(out, err)
	if e.Elsewhere {
		g.drop(r)
		return nil, e.Err
	}
	if e.Recorded {
		g.drop(r)
		return out, e.Err
	}
	g.mu.Lock()
	if r.Nested() && e.Outcome == wire.Clean {
		delete(g.nested, r.Key())
	}
	g.keep(r, e.Size)
	g.mu.Unlock()
	return out, e.Err
}

// Panicked gives a durable run back whose handler panicked; text tells about it.
// End must not be called then. Other runs end.
func (g *Registry) Panicked(r *runs.Run, text string) {
	if r.Panicked(text) {
		g.drop(r)
		return
	}
	_, _ = g.End(r, nil, fmt.Errorf("panic: %s", text))
}

// drop forgets a run that goes on elsewhere, or that the ledger remembers.
func (g *Registry) drop(r *runs.Run) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.runs[r.ID()] == r {
		delete(g.runs, r.ID())
	}
}

// Signalled tells a run of a signal that came while this node owns it.
func (g *Registry) Signalled(id record.RunID, s journal.Signal) {
	g.mu.Lock()
	r := g.runs[id]
	g.mu.Unlock()
	if r != nil {
		r.Signalled(s)
	}
}

// keep remembers a finished run, and forgets the oldest.
func (g *Registry) keep(r *runs.Run, size int) {
	g.finished = append(g.finished, kept{r, size})
	g.bytes += size
	for len(g.finished)-g.head > maxFinished || g.bytes > maxFinishedBytes && len(g.finished)-g.head > 1 {
		old := &g.finished[g.head]
		delete(g.runs, old.r.ID())
		g.bytes -= old.size
		old.r = nil
		if g.head++; g.head >= maxFinished {
			g.finished = g.finished[:copy(g.finished, g.finished[g.head:])]
			clear(g.finished[len(g.finished):cap(g.finished)])
			g.head = 0
		}
	}
	if !r.Nested() {
		return
	}
	for g.order = append(g.order, r.Key()); len(g.order) > maxNested; g.order = g.order[1:] {
		if _, ok := g.nested[g.order[0]]; ok {
			delete(g.nested, g.order[0])
			g.forgot = true
		}
	}
}

// Unwind rolls a finished run back: its plans in reverse order (S16). key is
// that of the undo.
func (g *Registry) Unwind(ctx context.Context, key string) error {
	key = strings.TrimSuffix(key, runs.UndoEnd) + runs.DoEnd
	g.mu.Lock()
	r, gone := g.nested[key], g.forgot
	g.mu.Unlock()
	if r == nil {
		if gone {
			return fmt.Errorf("%w: run %s is not remembered any more", fault.ErrNoRun, key)
		}
		return nil // it never began here, or failed and was rolled back: nothing to undo
	}
	if err := r.Unwind(ctx); err != nil {
		return err
	}
	g.mu.Lock()
	delete(g.nested, key)
	g.mu.Unlock()
	return nil
}

// serveRelease forgets a nested run, and releases what is nested in it.
func (g *Registry) serveRelease(_ context.Context, _ cluster.NodeName, c *wire.Command) ([]byte, error) {
	g.mu.Lock()
	r := g.nested[c.Key]
	delete(g.nested, c.Key)
	g.mu.Unlock()
	if r != nil {
		r.Release()
	}
	return nil, nil
}

// CancelAll cancels the runs that have not ended. After Host.Stop was closed it
// also ends every Do.
func (g *Registry) CancelAll() {
	for _, r := range g.all() {
		r.Quit()
	}
}

func (g *Registry) all() []*runs.Run {
	g.mu.Lock()
	defer g.mu.Unlock()
	rs := make([]*runs.Run, 0, len(g.runs))
	for _, r := range g.runs {
		rs = append(rs, r)
	}
	return rs
}
