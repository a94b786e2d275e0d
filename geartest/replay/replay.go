// Package replay tells before a new version is rolled out whether it can go on with
// the durable runs that the version before has begun: it calls a handler with a journal that was
// recorded, without a cluster.
//
//	j, err := replay.Record(ctx, node, "order-7")       // of a run in production
//	err = j.Write("testdata/order-7.json")
//
//	j, err := replay.Read("testdata/order-7.json")      // in a test, for ever after
//	err = j.Check(t.Context(), orders.Handler)          // nil, or a *Difference to read
//
// The journal of a run that has ended shows all that the version before did: who can go on
// with that could have done so at each of its points. It is kept for a day, if it has at most 32 KiB.
//
// # Guarantees
//
// Check sends nothing: no step is done. The handler gets what the journal has (plans that
// are complete, time, random numbers, signals), and is stopped when it comes to what the journal has not. What it
// does beside its plans it does. It waits up to a second for what is not in the journal; in a bubble of testing/synctest that costs nothing.
//
// # Failures
//
// What parks a run in production, or ends it, is a *Difference: a plan of another shape, one that the
// handler does not come to, a panic, an input that it cannot read. A file that cannot be read, or is of a newer version, and a handler
// of another event are other errors. A handler that does not heed its context is waited for.
package replay

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/distgear/distgear"
	"github.com/distgear/distgear/internal/events"
	"github.com/distgear/distgear/internal/journal"
	"github.com/distgear/distgear/internal/machine/runs"
	"github.com/distgear/distgear/internal/machine/tasks"
	"github.com/distgear/distgear/internal/runner"
	"github.com/distgear/distgear/record"
)

// Journal is what the ledger had of a run when it was recorded.
type Journal struct {
	Event string       `json:"event"`
	Run   record.RunID `json:"run"`
	Input []byte       `json:"input"` // encoded
	Tells []string     `json:"tells"` // what Units say, for people; Check does not look at it
	Units [][]byte     `json:"units"`
}

// Difference is why a run would be parked, or end at once.
type Difference struct {
	Run  record.RunID
	Text string // lines
}

// Error tells it.
func (d *Difference) Error() string { return fmt.Sprintf("run %s cannot go on: %s", d.Run, d.Text) }

// Record asks the ledger for the journal of a durable run. ErrInvalid: the run has ended,
// and its journal is not kept any more. ErrNoRun: the ledger does not know the run.
func Record(ctx context.Context, n *distgear.Node, id record.RunID) (*Journal, error) {
	v, err := events.Of(n.Room()).Look(ctx, string(id))
	if err != nil {
		return nil, err
	}
	if v.State == tasks.Ended && len(v.Journal) == 0 {
		return nil, fmt.Errorf("%w: run %s has ended, and its journal was large, or never begun, so that none is kept: record one that waits, or while it goes on", distgear.ErrInvalid, id)
	}
	j := &Journal{Event: v.Kind, Run: id, Input: v.Input}
	if j.Units, err = runs.Units(v.Journal); err != nil {
		return nil, err
	}
	var t journal.Teller
	for _, u := range j.Units {
		at, lines, err := t.Tell(u)
		if err != nil {
			return nil, err
		}
		for _, l := range lines {
			j.Tells = append(j.Tells, at.UTC().Format(time.RFC3339)+" "+l)
		}
	}
	return j, nil
}

// Write writes a journal to a file, for Read.
func (j *Journal) Write(file string) error {
	b, err := json.MarshalIndent(j, "", "\t")
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(b, '\n'), 0o600)
}

// Read reads what Write wrote.
func Read(file string) (*Journal, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	j := &Journal{}
	if err := json.Unmarshal(b, j); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	if j.Event == "" || j.Run == "" {
		return nil, fmt.Errorf("%s has no event or no run: it is not a recorded journal", file)
	}
	return j, nil
}

// Check calls the handler of the journal's event, which is among hs, from the top. Nil
// means that it can go on where the journal ends. The actions of its plans need not be there. It
// returns when the handler has, at the latest soon after ctx has ended.
func (j *Journal) Check(ctx context.Context, hs ...distgear.Handler) error {
	if !slices.ContainsFunc(hs, func(h distgear.Handler) bool { return h.Kind() == j.Event }) {
		return fmt.Errorf("%w: run %s is of the event %q, and no handler is", distgear.ErrInvalid, j.Run, j.Event)
	}
	units, past, ran, err := j.units()
	if err != nil {
		return fmt.Errorf("%w: the journal of run %s: %w", distgear.ErrInvalid, j.Run, err)
	}
	n, err := distgear.Join(ctx, distgear.Config{Hub: "", Logger: slog.New(slog.DiscardHandler), Handlers: withSteps(hs, past)})
	if err != nil {
		return err
	}
	if n.HubURL() != "" {
		return errors.Join(fmt.Errorf("%w: a journal is replayed alone: unset DISTGEAR_HUB and DISTGEAR_SERVE", distgear.ErrInvalid), n.Leave(context.WithoutCancel(ctx)))
	}
	f := &frontier{n: n, id: j.Run, wake: make(chan struct{}, 1), verdict: make(chan error, 1)}
	f.lease = &events.Lease{ID: string(j.Run), Kind: j.Event, Input: j.Input, Lease: journal.Lease{Journal: f, Epoch: 1, Units: units, Started: time.Now().Add(-ran)}}
	run := &runner.Context{CommandKey: string(j.Run)}
	stop := context.AfterFunc(ctx, func() { run.Cancel(context.Canceled) })
	defer stop()
	var owner sync.WaitGroup
	owner.Go(func() { f.answer(ctx) })
	owner.Go(func() {
		err := events.Of(n.Room()).Serve(run, f.lease)
		f.put(appended{over: &Difference{j.Run, fmt.Sprintf("its handler has returned and not ended the run: %v", err)}}) // the verdict if there was none
	})
	owner.Wait()
	if err = <-f.verdict; ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return errors.Join(err, n.Leave(context.WithoutCancel(ctx)))
}

// units are those of the journal, what they tell, and how long the run had gone on. Sleeps that were over when it was recorded
// are over whatever the clock says: in a bubble it is the year 2000.
func (j *Journal) units() (units [][]byte, past *journal.Past, ran time.Duration, err error) {
	if past, err = journal.Read(j.Units); err != nil || len(j.Units) == 0 {
		return nil, past, 0, err
	}
	last, _, _ := journal.Parse(j.Units[len(j.Units)-1]) // Read has parsed all of them
	for _, b := range j.Units {
		at, recs, _ := journal.Parse(b)
		var u journal.Unit
		for i := range recs {
			if r := &recs[i]; r.Kind == journal.Slept && r.Until <= last {
				r.Until = 0
			}
			u.Add(&recs[i])
		}
		units = append(units, u.Bytes(at))
	}
	return units, past, time.Unix(0, last).Sub(journal.Began(j.Units)), nil
}

// withSteps adds handlers, which are never called, for the steps of the journal's
// plans: a plan of what nobody handles is refused.
func withSteps(hs []distgear.Handler, past *journal.Past) []distgear.Handler {
	hs = slices.Clone(hs)
	for _, x := range past.Plans {
		for i := range x.Shape.Steps {
			kind := step(x.Shape.Steps[i].Kind)
			if !slices.ContainsFunc(hs, func(h distgear.Handler) bool { return h.Kind() == string(kind) }) {
				hs = append(hs, kind)
			}
		}
	}
	return hs
}

// step stands for the handler of a step.
type step string

func (s step) Kind() string { return string(s) }

func (s step) Serve(context.Context, *distgear.Command) ([]byte, error) {
	return nil, distgear.Clean(fmt.Errorf("%w: %s: nothing is done in a replay", distgear.ErrInvalid, s))
}

// frontier is the journal that a replay appends to: whatever the handler appends is
// beyond what was recorded.
type frontier struct {
	n       *distgear.Node
	id      record.RunID
	lease   *events.Lease
	verdict chan error // one
	wake    chan struct{}

	mu   sync.Mutex
	todo []appended
}

type appended struct {
	journal.Entry
	then func(error)
	left []string // plans of the journal that the handler had not come to
	over error    // instead of an entry: the handler has returned
}

// Append implements journal.Journal.
func (f *frontier) Append(e journal.Entry, then func(error)) {
	a := appended{Entry: e, then: then}
	for _, x := range f.lease.Past.Plans {
		if !x.Taken {
			a.left = append(a.left, x.Shape.Name)
		}
	}
	f.put(a)
}

func (f *frontier) put(a appended) {
	f.mu.Lock()
	f.todo = append(f.todo, a)
	f.mu.Unlock()
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// errEnd refuses what comes after the verdict: it ends the handler's part.
var errEnd = errors.New("the replay has ended")

// answer answers appends until the handler has returned. Those that come after the
// verdict, or when ctx has ended, are refused: that ends the handler's part.
func (f *frontier) answer(ctx context.Context) {
	said := false
	for range f.wake {
		f.mu.Lock()
		todo := f.todo
		f.todo = nil
		f.mu.Unlock()
		for _, a := range todo {
			if !said {
				var err error
				if said, err = f.judge(ctx, &a); said {
					f.verdict <- err
				}
			}
			switch {
			case a.over != nil:
				return
			case said || ctx.Err() != nil:
				a.then(errEnd)
			default:
				a.then(nil)
			}
		}
	}
}

// judge tells whether an entry decides, and how. Values are what a handler may take at
// any time: they change nothing.
func (f *frontier) judge(ctx context.Context, a *appended) (said bool, err error) {
	if a.over != nil {
		return true, a.over
	}
	if g := a.Give; g != nil {
		switch g.Why {
		case journal.Parked:
			return true, &Difference{f.id, g.Text}
		case journal.Panicked:
			return true, &Difference{f.id, "its handler panicked: " + g.Text}
		case journal.Finished:
			if distgear.Outcome(g.Report.Outcome) == distgear.NeverRan {
				return true, &Difference{f.id, "its handler does not begin: " + g.Report.Error.Message}
			}
			return true, nil // it came to all plans, or it would have been parked
		}
		return true, f.early("it waits", a.left)
	}
	_, recs, err := journal.Parse(a.Unit)
	if err != nil {
		return true, err
	}
	for i := range recs {
		switch r := &recs[i]; r.Kind {
		case journal.Value, journal.Slept, journal.Stopped:
		case journal.Planned:
			return true, f.early(fmt.Sprintf("it makes a plan %q", r.Shape.Name), f.missing(ctx, a.left))
		default: // of a plan that the journal has
			return true, f.early(fmt.Sprintf("it goes on with plan %q", f.lease.Past.Plans[r.Plan].Shape.Name), f.missing(ctx, a.left))
		}
	}
	return false, nil
}

// early is the difference of a handler that goes on beyond the journal and has not
// come to these plans of it.
func (f *frontier) early(what string, left []string) error {
	if len(left) == 0 {
		return nil
	}
	return &Difference{f.id, fmt.Sprintf("%s before it has come to what the journal has: plan %s", what, strings.Join(left, ", "))}
}

// comeTime is how long a handler that makes a plan may take to come to those that it
// makes at the same time.
const comeTime = time.Second

// missing waits until the handler has come to the plans that were left.
func (f *frontier) missing(ctx context.Context, left []string) []string {
	for end := time.Now().Add(comeTime); len(left) > 0 && time.Now().Before(end) && ctx.Err() == nil; {
		again := time.NewTimer(10 * time.Millisecond)
		select {
		case <-again.C:
		case <-ctx.Done():
			again.Stop()
		}
		rec, err := f.n.FindRun(ctx, f.id)
		if err != nil {
			return left
		}
		for i := range rec.Plans {
			left = slices.DeleteFunc(left, func(name string) bool { return name == rec.Plans[i].Name })
		}
	}
	return left
}
