// Package find finds runs wherever they are: at the nodes that handle them, or in
// the ledger, which has the durable ones whether somebody owns them or not.
//
//	f := find.Finder{Nodes: registry, Desk: desk}
//	rec, err := f.Find(ctx, "deploy-7")
//
// # Guarantees
//
// What the ledger tells of a durable run is what its journal says: what was told to
// nobody yet is not in it.
//
// # Failures
//
// A run that neither knows is fault.ErrNoRun. When the ledger does not answer
// within a second, what the nodes say is the answer.
package find

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"reflect"
	"slices"
	"time"

	"github.com/distgear/distgear/audit"
	"github.com/distgear/distgear/cluster"
	"github.com/distgear/distgear/internal/codec"
	"github.com/distgear/distgear/internal/events"
	"github.com/distgear/distgear/internal/fault"
	"github.com/distgear/distgear/internal/handled"
	"github.com/distgear/distgear/internal/look"
	machine "github.com/distgear/distgear/internal/machine/runs"
	"github.com/distgear/distgear/internal/machine/tasks"
	"github.com/distgear/distgear/internal/machine/words"
	"github.com/distgear/distgear/record"
)

const (
	// ledgerTime is how long the ledger is waited for that may not be there.
	ledgerTime = time.Second
	// lookTime is how often a durable run is looked at that is watched, and lookMost how
	// seldom, when nothing happens: each look is an operation on the ledger.
	lookTime = 100 * time.Millisecond
	lookMost = time.Second
	// apart is by how much the clocks of nodes and the hub may differ in a list of several
	// pages: what began within it may be in another order.
	apart = time.Second
	// maxShown bounds an input as it is shown, in bytes.
	maxShown = 16 << 10
)

// Finder looks at both.
type Finder struct {
	Nodes *handled.Registry
	Desk  *events.Desk
}

// Find is the record of a run.
func (f Finder) Find(ctx context.Context, id record.RunID) (record.Run, error) {
	rec, _, err := f.find(ctx, id)
	return rec, err
}

// find also tells whether it is durable.
func (f Finder) find(ctx context.Context, id record.RunID) (rec record.Run, durable bool, err error) {
	type answer struct {
		rec record.Run
		err error
	}
	bounded, cancel := context.WithTimeout(ctx, ledgerTime)
	defer cancel()
	ledger := make(chan answer, 1)
	go func() { // ends with bounded
		var a answer
		a.rec, a.err = f.look(bounded, id)
		ledger <- a
	}()
	nodes := make(chan answer, 1)
	asking, enough := context.WithCancel(ctx)
	defer enough()
	go func() { // likewise with asking
		var a answer
		a.rec, a.err = f.Nodes.Find(asking, id)
		nodes <- a
	}()
	a := <-ledger
	if a.err == nil {
		return a.rec, true, nil
	}
	if b := <-nodes; b.err == nil || errors.Is(a.err, fault.ErrNoRun) || !errors.Is(b.err, fault.ErrNoRun) {
		return b.rec, false, b.err
	}
	return rec, false, a.err
}

// look is the record of a durable run.
func (f Finder) look(ctx context.Context, id record.RunID) (rec record.Run, err error) {
	v, err := f.Desk.Look(ctx, string(id))
	if err != nil {
		return rec, err
	}
	at := clock(time.Duration(time.Now().UnixMilli()-v.Now) * time.Millisecond)
	rec = record.Run{ID: id, Event: v.Kind, Node: cluster.NodeName(v.Node), Started: at.time(v.Started)}
	if v.State == tasks.Ended && len(v.Summary) > 0 {
		err = json.Unmarshal(v.Summary, &rec)
		rec.Durable, rec.Journal = true, noted(ended(&rec, &v, at), v.Notes, at)
		return rec, err
	}
	units, err := machine.Units(v.Journal)
	if err == nil && len(units) > 0 {
		rec, err = shown(rec, v.Input, units)
	}
	if err == nil {
		rec.Journal, err = entries(&v, at, units)
	}
	rec.Durable, rec.Waits = true, v.Waits
	if err != nil { // of a version that is newer than ours, say: who owns it can read it
		rec.Error = err.Error()
	}
	if rec.Input == nil && len(v.Input) > 0 {
		rec.Input = codec.Show(v.Input, maxShown)
	}
	rec.Version = rec.Version<<3 | uint64(v.State)
	if s := state(v.State, v.Outcome, rec.State); s != "" && (v.State != tasks.Ended || !rec.State.Final()) {
		rec.State = s
	}
	switch {
	case v.State == tasks.Ended && rec.Ended.IsZero():
		rec.Ended = at.time(v.Since)
	case v.State == tasks.Delayed && v.Since < words.MaxTime:
		rec.Until = at.time(v.Since)
	}
	if v.Reason != "" {
		rec.Error = v.Reason
	} else if v.State == tasks.Ended && len(rec.Journal) > 0 {
		rec.Journal[len(rec.Journal)-1] = finished(&rec, &v)
	}
	rec.Journal = noted(rec.Journal, v.Notes, at)
	return rec, nil
}

// state is that of a run that nobody owns; empty: its journal says it.
func state(s tasks.State, o tasks.Outcome, is record.RunState) record.RunState {
	switch s {
	case tasks.Delayed, tasks.Ready:
		if is == record.RollingBack || is == record.Cancelling || is == record.Stuck {
			return is
		}
		return record.Waiting
	case tasks.Parked:
		return record.Parked
	case tasks.Ended:
		switch o {
		case tasks.OK:
			return record.OK
		case tasks.NeverRan:
			return record.Cancelled
		}
		return record.Failed
	}
	if is == "" {
		return record.Running
	}
	return ""
}

// All yields the runs that there are, newest first, without their plans.
func (f Finder) All(ctx context.Context) iter.Seq2[record.Run, error] {
	return func(yield func(record.Run, error) bool) {
		nodes := map[record.RunID]record.Run{} // those that are not told yet
		for rec, err := range f.Nodes.All(ctx) {
			if err != nil {
				yield(rec, err)
				return
			}
			nodes[rec.ID] = rec
		}
		told := map[record.RunID]bool{} // of those
		for after := ""; ; {
			page, next, err := f.list(ctx, after)
			if err != nil && after != "" { // of the first page: those that the nodes do not tell of are missing, then
				yield(record.Run{}, err)
				return
			}
			var all []record.Run
			var since time.Time // up to which the page tells of all
			for i := range page {
				rec := summary(&page[i])
				since = rec.Started
				if is, ok := nodes[rec.ID]; ok {
					delete(nodes, rec.ID)
					if rec.State.Final() == is.State.Final() && rec.State != record.Waiting && rec.State != record.Parked {
						rec, rec.Durable = is, true // it knows more
					}
				}
				if !told[rec.ID] {
					all = append(all, rec)
				}
			}
			for id, rec := range nodes {
				if next == "" || rec.Started.After(since.Add(apart)) { // it may be on the next page, too
					all = append(all, rec)
					delete(nodes, id)
					told[id] = true
				}
			}
			slices.SortFunc(all, func(a, b record.Run) int {
				return cmp.Or(b.Started.Compare(a.Started), cmp.Compare(a.ID, b.ID))
			})
			for _, r := range all {
				if !yield(r, nil) {
					return
				}
			}
			if after = next; after == "" {
				return
			}
		}
	}
}

// list is a page of what the ledger has.
func (f Finder) list(ctx context.Context, after string) ([]look.TaskState, string, error) {
	ctx, cancel := context.WithTimeout(ctx, ledgerTime)
	defer cancel()
	return f.Desk.List(ctx, after)
}

func summary(t *look.TaskState) record.Run {
	rec := record.Run{Durable: true, ID: record.RunID(t.ID), Event: t.Kind, Node: cluster.NodeName(t.Node), Started: time.UnixMilli(t.Submitted), Error: t.Reason}
	states := map[string]tasks.State{"delayed": tasks.Delayed, "waiting": tasks.Delayed, "ready": tasks.Ready, "parked": tasks.Parked, "leased": tasks.Leased, "running": tasks.Leased}
	s, ok := states[t.State]
	if !ok {
		s, rec.Ended = tasks.Ended, time.UnixMilli(t.Since)
		if rec.Error == "" {
			rec.Error = t.Message
		}
	}
	rec.State = state(s, t.Outcome, "")
	if is := record.RunState(t.Message); s == tasks.Ended && rec.Error == t.Message && (is == record.RolledBack || is == record.Cancelled) { // its owner said so
		rec.State, rec.Error = is, ""
	}
	return rec
}

// Watch yields the record of a run now and after changes, the last time when it
// has ended.
func (f Finder) Watch(ctx context.Context, id record.RunID) iter.Seq2[record.Run, error] {
	return func(yield func(record.Run, error) bool) {
		rec, durable, err := f.find(ctx, id)
		if err != nil || !durable {
			for rec, err := range f.Nodes.Watch(ctx, id) {
				if !yield(rec, err) {
					return
				}
			}
			return
		}
		pause := lookTime
		timer := time.NewTimer(pause)
		defer timer.Stop()
		var last record.Run
		var seen uint64
		for {
			if !reflect.DeepEqual(rec, last) {
				last, pause = rec, lookTime
				seen = max(seen+1, rec.Version)
				rec.Version = seen
				if !yield(rec, nil) || rec.State.Final() {
					return
				}
			}
			timer.Reset(pause)
			pause = min(pause+pause/8, lookMost)
			select {
			case <-timer.C:
			case <-ctx.Done():
				return
			}
			if rec, err = f.look(ctx, id); err != nil {
				if ctx.Err() == nil {
					yield(rec, err)
				}
				return
			}
		}
	}
}

// Cancel cancels a run, wherever it is.
func (f Finder) Cancel(ctx context.Context, id record.RunID) error {
	bounded, cancel := context.WithTimeout(ctx, ledgerTime)
	defer cancel()
	ledger := f.Desk.Do(bounded, string(id), events.Cancel, "")
	if ledger == nil || errors.Is(ledger, fault.ErrInvalid) { // it has ended
		return nil
	}
	err := f.Nodes.Cancel(ctx, id)
	if errors.Is(err, fault.ErrNoRun) && !errors.Is(ledger, fault.ErrNoRun) {
		return ledger
	}
	return err
}

// Resolve decides about the stuck undo of a step, wherever the run is. A durable one
// that nobody owns keeps the decision until somebody does.
func (f Finder) Resolve(ctx context.Context, id record.RunID, step string, how record.Resolution, reason string) error {
	err := f.Nodes.Resolve(ctx, id, step, how, reason)
	if err == nil {
		f.resolved(ctx, id, step, how, reason)
	}
	if !errors.Is(err, fault.ErrNoRun) && !errors.Is(err, fault.ErrLeft) {
		return err
	}
	rec, durable, e := f.find(ctx, id)
	if e != nil || !durable {
		return err
	}
	for _, p := range rec.Plans {
		if slices.ContainsFunc(p.Steps, func(s record.Step) bool { return s.Name == step && s.State == "stuck" }) {
			s, err := handled.Decision(step, how, reason)
			if err != nil {
				return err
			}
			if err = f.Desk.Signal(audit.By(ctx, ""), string(id), s); err == nil {
				f.resolved(ctx, id, step, how, reason)
			}
			return err
		}
	}
	return fmt.Errorf("%w: no undo of a step %q of run %s is stuck: it is %s", fault.ErrInvalid, step, id, rec.State)
}
