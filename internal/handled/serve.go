package handled

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/distgear/distgear/cluster"
	"github.com/distgear/distgear/internal/fault"
	"github.com/distgear/distgear/internal/journal"
	"github.com/distgear/distgear/internal/plan"
	"github.com/distgear/distgear/internal/runs"
	"github.com/distgear/distgear/internal/wire"
	"github.com/distgear/distgear/record"
)

// The kinds that nodes ask each other for. The input of all but kindList is a
// query in JSON; kindRelease has a key instead.
const (
	kindList    = "_runs"    // the records without their plans, in JSON
	kindFind    = "_run"     // the record of one run, in JSON
	kindCancel  = "_cancel"  // to cancel a run
	kindResolve = "_resolve" // to decide about a stuck undo
	kindLetGo   = "_letgo"   // that durable runs have ended: the input is which
)

// pollTime is how long kindFind waits for a change, and a node for others.
const pollTime = 5 * time.Second

// maxListed bounds the runs that one node lists.
const maxListed = 1000

// query is a question about one run.
type query struct {
	ID     record.RunID
	Since  uint64 // kindFind: answer when the version is higher, or after pollTime
	Step   string
	How    record.Resolution
	Reason string
}

// Answer answers a question of another node, or of this one.
type Answer = func(ctx context.Context, from cluster.NodeName, c *wire.Command) ([]byte, error)

// Serve are the functions that answer the questions of nodes, by kind.
func (g *Registry) Serve() map[string]Answer {
	return map[string]Answer{
		kindList:         g.serveList,
		kindFind:         g.serveFind,
		kindCancel:       g.serveCancel,
		kindResolve:      g.serveResolve,
		runs.KindRelease: g.serveRelease,
		kindLetGo:        g.serveLetGo,
	}
}

func (g *Registry) serveList(context.Context, cluster.NodeName, *wire.Command) ([]byte, error) {
	recs := []record.Run{}
	for _, r := range g.all() {
		recs = append(recs, r.Record(false))
	}
	slices.SortFunc(recs, func(a, b record.Run) int { return b.Started.Compare(a.Started) })
	return json.Marshal(recs[:min(len(recs), maxListed)])
}

// asked finds the run that a command is about.
func (g *Registry) asked(c *wire.Command) (q query, r *runs.Run, err error) {
	if err := json.Unmarshal(c.Input, &q); err != nil {
		return q, nil, fmt.Errorf("%w: %w", fault.ErrInvalid, err)
	}
	g.mu.Lock()
	r = g.runs[q.ID]
	g.mu.Unlock()
	if r == nil {
		return q, nil, fmt.Errorf("%w: %s", fault.ErrNoRun, q.ID)
	}
	return q, r, nil
}

func (g *Registry) serveFind(ctx context.Context, _ cluster.NodeName, c *wire.Command) ([]byte, error) {
	q, r, err := g.asked(c)
	if err != nil {
		return nil, err
	}
	r.Await(ctx, q.Since, pollTime)
	return json.Marshal(r.Record(true))
}

func (g *Registry) serveCancel(_ context.Context, _ cluster.NodeName, c *wire.Command) ([]byte, error) {
	_, r, err := g.asked(c)
	if err == nil {
		r.Cancel()
	}
	return nil, err
}

var resolutions = map[record.Resolution]plan.Resolution{
	record.Retry: plan.RetryUndo, record.Skip: plan.SkipUndo, record.MarkDone: plan.MarkUndone,
}

func resolution(how record.Resolution, reason string) (plan.Resolution, error) {
	x, ok := resolutions[how]
	if !ok || how != record.Retry && reason == "" {
		return 0, fault.Clean(fmt.Errorf("%w: want retry, or skip or done with a reason", fault.ErrInvalid))
	}
	return x, nil
}

// Decision is the signal that tells a durable run which nobody owns how a stuck undo is
// resolved.
func Decision(step string, how record.Resolution, reason string) (journal.Signal, error) {
	x, err := resolution(how, reason)
	return journal.Decision{Step: step, How: uint8(x), Reason: reason}.Signal(), err
}

func (g *Registry) serveResolve(_ context.Context, _ cluster.NodeName, c *wire.Command) ([]byte, error) {
	q, r, err := g.asked(c)
	if err != nil {
		return nil, err
	}
	how, err := resolution(q.How, q.Reason)
	if err != nil {
		return nil, err
	}
	if err := r.Resolve(q.Step, how, q.Reason); err != nil {
		return nil, err
	}
	g.host.Log.Warn("an operator has resolved a stuck undo", "run", q.ID, "step", q.Step, "how", q.How, "reason", q.Reason)
	return nil, nil
}
