// Package runs drives the plans of runs, which are executions of events.
//
//	err := r.Begin(host, id, &runs.Beginning{Event: "deploy", Key: key, Input: in})
//	failure := r.Do(ctx, host, &runs.Plan{Name: "1", Rollback: true, Steps: steps})
//	end := r.End(out, err)
//
// internal/plan decides; here is what carries out and what comes in: reports,
// timers, operators. Whoever brings something in takes it in at once, under the
// run's lock; the handler's goroutine, in Do, is woken only for what needs it:
// the user's functions that compute inputs, and the end.
//
// A durable run has a lease. What its drives take in is appended to the journal
// first, and what follows from it is done when that is acknowledged; a lease
// brings what was appended before, and each plan goes on from there
// (docs/adr/0007-durable-events.md).
//
// # Guarantees
//
// Those of docs/guarantees.md about plans and rollback. A refused entry, and one
// that gives the run back, is the end of this node's part: nothing is sent after.
//
// # Failures
//
// Do answers with a Failure that says which step failed and what became of the
// rollback; what a durable run is asked for after its part here is over is
// fault.ErrSuspended.
package runs

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/distgear/distgear/cluster"
	"github.com/distgear/distgear/internal/fault"
	"github.com/distgear/distgear/internal/journal"
	"github.com/distgear/distgear/internal/link"
	"github.com/distgear/distgear/internal/place"
	"github.com/distgear/distgear/internal/runner"
	"github.com/distgear/distgear/internal/wire"
	"github.com/distgear/distgear/record"
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
	// Clock is the cluster's time.
	Clock func() time.Time
	// LetGo tells a node that a durable run has ended: it may forget what came of its attempts.
	LetGo func(at place.Place, id record.RunID, epoch uint64)
}

// Flight is a command that was sent.
type Flight struct {
	Local *runner.Context // of a command to this very node
	Ref   link.Ref        // of one to another
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
	Lease   *journal.Lease  // the run is durable, its ID is Key, and this node owns it
}

// Begin makes r the run of a command. An error says that its journal cannot be
// gone on with: it was parked.
func (r *Run) Begin(h *Host, id record.RunID, b *Beginning) error {
	r.id, r.host, r.event, r.ctx, r.nested, r.input = id, h, b.Event, b.Ctx, b.Nested, b.Input
	r.lent = b.Lent
	r.started, r.version = time.Now().UnixNano(), 1
	if b.Lease == nil {
		return nil
	}
	return r.lease(b.Lease)
}

// Same tells whether a command is the one that began the run.
func (r *Run) Same(b *Beginning) bool { return r.event == b.Event && bytes.Equal(r.input, b.Input) }

// Host is the node that the run is at.
func (r *Run) Host() *Host { return r.host }

// Nested tells whether the run is a step of another's plan.
func (r *Run) Nested() bool { return r.nested }

// End is how a run ended, for who remembers it.
type End struct {
	Err       error
	Outcome   wire.Outcome
	Size      int  // about how many bytes it holds on to
	Elsewhere bool // it has not ended: Err is fault.ErrSuspended
	Recorded  bool // the ledger has all that is worth remembering
}

// End ends the run. That of a durable run is in the journal then.
func (r *Run) End(out []byte, err error) End {
	r.mu.Lock()
	if err != nil && r.clean() {
		err = fault.Clean(err) // S16: nothing of it is left
	}
	e := &ending{at: time.Now().UnixNano(), out: out, err: err, outcome: wire.OK}
	if err != nil {
		e.outcome = fault.Report(err).Outcome
	}
	if r.log != nil {
		r.mu.Unlock()
		if err := r.endDurable(e); err != nil {
			return End{Err: err, Elsewhere: true}
		}
		r.mu.Lock()
	}
	r.end = e
	r.stopped = r.stopped || err != nil && r.ctx != nil && errors.Is(r.ctx.Cancelled(), context.Canceled)
	if r.lent {
		r.input = bytes.Clone(r.input) // the message goes
	}
	r.ctx = nil
	r.touch()
	size, recorded := r.size(), r.log != nil && e.outcome == wire.OK
	r.mu.Unlock()
	if !r.nested {
		r.Release()
		r.settle()
	}
	return End{Err: err, Outcome: e.outcome, Size: size, Recorded: recorded}
}

// KindRelease is the kind of commands that tell nodes which nested run can no longer be undone: Key is its.
const KindRelease = "_release"

type nobody struct{}

// Report implements link.Receiver.
func (nobody) Report(wire.Report) {}

// Release lets the runs of nested events go that can no longer be undone. One
// that does not hear of it is bounded there.
func (r *Run) Release() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, x := range r.plans {
		for i, s := range x.p.Steps {
			if !s.Event || x.d == nil {
				continue
			}
			if at := x.d.tracks[i].at; at.Life != 0 {
				c := wire.Command{Kind: KindRelease, Key: s.Key}
				_, _ = x.d.h.Start(at, &c, time.Time{}, time.Second, nobody{})
			}
		}
	}
}

// Quit takes the run from this node, which leaves: a durable one is given back,
// another is cancelled. After Host.Stop was closed it also ends every Do.
func (r *Run) Quit() {
	if r.log != nil {
		r.log.resign()
	} else {
		r.Cancel()
	}
	r.leave()
}
