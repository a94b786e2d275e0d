package distgear

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/distgear/distgear/cluster"
	"github.com/distgear/distgear/internal/link"
	"github.com/distgear/distgear/internal/machine/members"
	"github.com/distgear/distgear/internal/plan"
	"github.com/distgear/distgear/internal/wire"
	"github.com/distgear/distgear/record"
)

const (
	maxFinished      = 1000     // finished runs a node remembers
	maxFinishedBytes = 32 << 20 // and about how many bytes of them
	maxNested        = 10_000   // finished nested runs that can still be undone
	pollTime         = 5 * time.Second
	beginTime        = time.Second // how long a run that was raised here may take to begin, for who asks for it
)

// The kinds that nodes ask each other for.
const (
	kindRuns    = "_runs"
	kindRun     = "_run"
	kindCancel  = "_cancel"
	kindResolve = "_resolve"
	kindRelease = "_release"
)

// registry is the runs that a node handles or has handled.
type registry struct {
	n      *Node
	prefix string
	last   atomic.Uint64

	mu       sync.Mutex
	runs     map[record.RunID]*Run
	finished []*Run // oldest first, from head on
	sizes    []int
	head     int
	bytes    int
	nested   map[string]*Run // by the parent command's key
	order    []string        // of nested, oldest first
	forgot   bool            // a nested run was forgotten without being released
}

func newRegistry(n *Node) *registry {
	return &registry{n: n, prefix: strconv.FormatUint(uint64(n.id), 36) + "-", runs: map[record.RunID]*Run{}, nested: map[string]*Run{}}
}

// newID makes an id of the node's life and a number (S19).
func (g *registry) newID() record.RunID {
	var b [40]byte
	return record.RunID(strconv.AppendUint(append(b[:0], g.prefix...), g.last.Add(1), 36))
}

// keep remembers a finished run, and forgets the oldest.
func (g *registry) keep(r *Run, size int) {
	g.finished, g.sizes = append(g.finished, r), append(g.sizes, size)
	g.bytes += size
	for len(g.finished)-g.head > maxFinished || g.bytes > maxFinishedBytes && len(g.finished)-g.head > 1 {
		old := g.finished[g.head]
		delete(g.runs, old.id)
		g.bytes -= g.sizes[g.head]
		g.finished[g.head] = nil
		if g.head++; g.head >= maxFinished {
			g.finished = append([]*Run(nil), g.finished[g.head:]...)
			g.sizes = append([]int(nil), g.sizes[g.head:]...)
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

// cancelAll cancels the runs that have not ended.
func (g *registry) cancelAll() {
	for _, r := range g.all() {
		r.cancel()
	}
}

func (g *registry) all() []*Run {
	g.mu.Lock()
	defer g.mu.Unlock()
	rs := make([]*Run, 0, len(g.runs))
	for _, r := range g.runs {
		rs = append(rs, r)
	}
	return rs
}

func (g *registry) find(id record.RunID) *Run {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.runs[id]
}

// cancel cancels the run unless it has ended.
func (r *Run) cancel() {
	r.mu.Lock()
	ctx := r.ctx
	if ctx != nil {
		r.stopped = true
		r.touchLocked()
	}
	r.mu.Unlock()
	if ctx != nil {
		ctx.Cancel(context.Canceled)
	}
}

// runQuery is the input of the kinds about one run.
type runQuery struct {
	ID     record.RunID
	Since  uint64 // kindRun: answer when the version is higher, or after pollTime
	Step   string
	How    record.Resolution
	Reason string
}

func (g *registry) builtin() map[string]func(context.Context, *Command) ([]byte, error) {
	return map[string]func(context.Context, *Command) ([]byte, error){
		kindRuns:    g.serveRuns,
		kindRun:     g.serveRun,
		kindCancel:  g.serveCancel,
		kindResolve: g.serveResolve,
		kindRelease: g.released,
	}
}

// maxListed bounds the runs that one node lists.
const maxListed = 1000

func (g *registry) serveRuns(context.Context, *Command) ([]byte, error) {
	recs := []record.Run{}
	for _, r := range g.all() {
		recs = append(recs, r.record(false))
	}
	slices.SortFunc(recs, func(a, b record.Run) int { return b.Started.Compare(a.Started) })
	return json.Marshal(recs[:min(len(recs), maxListed)])
}

// query finds the run that a command is about.
func (g *registry) query(c *Command) (q runQuery, r *Run, err error) {
	if err := json.Unmarshal(c.Input, &q); err != nil {
		return q, nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	if r = g.find(q.ID); r == nil {
		return q, nil, fmt.Errorf("%w: %s", ErrNoRun, q.ID)
	}
	return q, r, nil
}

func (g *registry) serveRun(ctx context.Context, c *Command) ([]byte, error) {
	q, r, err := g.query(c)
	if err != nil {
		return nil, err
	}
	t := time.NewTimer(pollTime)
	defer t.Stop()
	for {
		r.mu.Lock()
		newer := uint64(r.version) > q.Since
		w := r.watch()
		r.mu.Unlock()
		if newer {
			break
		}
		select {
		case <-w:
			continue
		case <-t.C:
		case <-ctx.Done():
		case <-g.n.stop:
		}
		break
	}
	return json.Marshal(r.record(true))
}

func (g *registry) serveCancel(_ context.Context, c *Command) ([]byte, error) {
	_, r, err := g.query(c)
	if err == nil {
		r.cancel()
	}
	return nil, err
}

var resolutions = map[record.Resolution]plan.Resolution{record.Retry: plan.RetryUndo, record.Skip: plan.SkipUndo, record.MarkDone: plan.MarkUndone}

func (g *registry) serveResolve(ctx context.Context, c *Command) ([]byte, error) {
	q, r, err := g.query(c)
	if err != nil {
		return nil, err
	}
	how, ok := resolutions[q.How]
	if !ok || q.How != record.Retry && q.Reason == "" {
		return nil, Clean(fmt.Errorf("%w: want retry, or skip or done with a reason", ErrInvalid))
	}
	r.mu.Lock()
	var d *drive
	step := -1
	for _, x := range r.drives {
		for i, s := range x.p.steps {
			if s.name == q.Step && x.m.State(i) == plan.Stuck {
				d, step = x, i
			}
		}
	}
	r.mu.Unlock()
	if d == nil {
		return nil, Clean(fmt.Errorf("%w: no undo of a step %q of run %s is stuck", ErrInvalid, q.Step, q.ID))
	}
	g.n.cfg.Logger.Warn("operator resolves a stuck undo", "run", q.ID, "step", q.Step, "how", q.How, "reason", q.Reason)
	errs := make(chan error, 1)
	d.post(mail{what: mResolve, step: step, how: how, errs: errs})
	select {
	case err := <-errs:
		return nil, err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// askAll asks every live node, this one first, and yields the answers.
func (n *Node) askAll(ctx context.Context, kind string, in []byte) iter.Seq2[place, wire.Report] {
	type answer struct {
		at  place
		rep wire.Report
	}
	return func(yield func(place, wire.Report) bool) {
		ctx, cancel := context.WithTimeout(ctx, pollTime)
		defer cancel()
		places := []place{{n.name, n.id}}
		for _, m := range n.view() {
			if id := link.ID(m.Life); id != n.id && (m.State == members.Alive || m.State == members.Suspect) {
				places = append(places, place{cluster.NodeName(m.Name), id})
			}
		}
		answers := make(chan answer, len(places)) // a late one finds room
		for _, at := range places {
			go func() { // ends with ctx
				r, err := n.request(ctx, at, kind, in, 0)
				if err != nil {
					r = wire.Report{}
				}
				answers <- answer{at, r}
			}()
		}
		for range places {
			if a := <-answers; !yield(a.at, a.rep) {
				return
			}
		}
	}
}

// Runs yields the runs that the live nodes remember, newest first, without
// their plans. A node that does not answer within 5 s is passed over.
func (n *Node) Runs(ctx context.Context) iter.Seq2[record.Run, error] {
	return func(yield func(record.Run, error) bool) {
		var all []record.Run
		for _, rep := range n.askAll(ctx, kindRuns, nil) {
			var recs []record.Run
			if rep.Outcome == wire.OK && json.Unmarshal(rep.Payload, &recs) == nil {
				all = append(all, recs...)
			}
		}
		if ctx.Err() != nil {
			yield(record.Run{}, context.Cause(ctx))
			return
		}
		slices.SortFunc(all, func(a, b record.Run) int {
			return cmp.Or(b.Started.Compare(a.Started), cmp.Compare(a.ID, b.ID))
		})
		for _, r := range all {
			if !yield(r, nil) {
				return
			}
		}
	}
}

// askRun puts a question about a run to the node that remembers it.
func (n *Node) askRun(ctx context.Context, kind string, q runQuery) (at place, out []byte, err error) {
	// A run that was raised here a moment ago may not have begun yet.
	for until := time.Now().Add(beginTime); ; {
		at, out, err = n.askRunOnce(ctx, kind, q)
		if !errors.Is(err, ErrNoRun) || !strings.HasPrefix(string(q.ID), n.runs.prefix) || time.Now().After(until) {
			return at, out, err
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			return at, nil, context.Cause(ctx)
		}
	}
}

func (n *Node) askRunOnce(ctx context.Context, kind string, q runQuery) (at place, out []byte, err error) {
	in, err := json.Marshal(q)
	if err != nil {
		return at, nil, err
	}
	silent := false
	err = fmt.Errorf("%w: %s", ErrNoRun, q.ID)
	for at, rep := range n.askAll(ctx, kind, in) {
		if rep.Outcome == wire.OK {
			return at, rep.Payload, nil
		}
		if e := reportError(rep, at.node, kind); !errors.Is(e, ErrNoRun) {
			if rep.Outcome != wire.Unknown && rep.Outcome != wire.NeverRan {
				return at, nil, e
			}
			silent = silent || rep.Outcome == wire.Unknown
		}
	}
	if silent {
		err = fmt.Errorf("%w (not all nodes answered)", err)
	}
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return place{}, nil, err
}

// FindRun is the record of a run, or ErrNoRun when no live node remembers it:
// nodes remember the last 1000, and those of up to 32 MiB.
func (n *Node) FindRun(ctx context.Context, id record.RunID) (record.Run, error) {
	var rec record.Run
	_, out, err := n.askRun(ctx, kindRun, runQuery{ID: id})
	if err == nil {
		err = json.Unmarshal(out, &rec)
	}
	return rec, err
}

// WatchRun yields the record of a run now and after changes, the last time
// when it has ended. Changes in quick succession are yielded as one.
func (n *Node) WatchRun(ctx context.Context, id record.RunID) iter.Seq2[record.Run, error] {
	return func(yield func(record.Run, error) bool) {
		at, out, err := n.askRun(ctx, kindRun, runQuery{ID: id})
		var seen uint64
		for {
			var rec record.Run
			if err == nil {
				err = json.Unmarshal(out, &rec)
			}
			if err != nil {
				if ctx.Err() == nil {
					yield(rec, err)
				}
				return
			}
			if rec.Version > seen {
				seen = rec.Version
				if !yield(rec, nil) || rec.State.Final() {
					return
				}
			}
			var in []byte
			if in, err = json.Marshal(runQuery{ID: id, Since: seen}); err == nil {
				var rep wire.Report
				rep, err = n.request(ctx, at, kindRun, in, 2*pollTime)
				if err == nil {
					out, err = rep.Payload, reportError(rep, at.node, "watching "+string(id))
				}
			}
		}
	}
}

// CancelRun cancels a run: nothing more of it starts, what runs is cancelled,
// and plans with Rollback are undone. It returns when the run was told, not
// when it has ended. To cancel a run that has ended, or rolls back, does nothing.
func (n *Node) CancelRun(ctx context.Context, id record.RunID) error {
	_, _, err := n.askRun(ctx, kindCancel, runQuery{ID: id})
	return err
}

// ResolveUndo decides about the stuck undo of a step. Skip and MarkDone need a
// reason; it is logged where the run is.
func (n *Node) ResolveUndo(ctx context.Context, id record.RunID, step string, how record.Resolution, reason string) error {
	_, _, err := n.askRun(ctx, kindResolve, runQuery{ID: id, Step: step, How: how, Reason: reason})
	return err
}
