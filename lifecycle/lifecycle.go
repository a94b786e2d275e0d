// Package lifecycle tells what becomes of durable runs, as it happens: a program subscribes,
// and hears of each run of the cluster when it is accepted, owned, suspended, parked, stuck, and
// when it has ended.
//
//	s, err := lifecycle.Subscribe(ctx, n, 0)
//	defer s.Close()
//	for e, err := range s.All(ctx) {
//		fmt.Println(e.At, e.ID, e.Event, e.What, e.Node, e.Outcome)
//	}
//
// # Guarantees
//
// From its Subscribe to its end a subscription hears of everything once, in the ledger's order,
// whichever node and hub it happens at. It is for watching, not for acting: nothing is kept for who
// does not listen, and what happened while nobody did is told by the runs themselves
// (distgear.Node's Runs, FindRun). As long as nobody subscribes it costs the cluster nothing.
//
// # Failures
//
// Who reads too slowly is cut off, and holds up nobody else: shared.ErrSlow.
// shared.ErrSessionLost: its node was cut off from the hub, and more may have happened. Subscribe
// again, and look at the runs meanwhile. Node.Leave ends all.
package lifecycle

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/distgear/distgear"
	"github.com/distgear/distgear/cluster"
	"github.com/distgear/distgear/internal/events"
	"github.com/distgear/distgear/internal/operation"
	"github.com/distgear/distgear/record"
	"github.com/distgear/distgear/shared"
)

// What may happen to a run. Programs should pass over what they do not know.
const (
	Accepted  = record.Accepted               // it is in the ledger
	Owned     = record.Owned                  // Node drives it from now on, under Epoch
	Suspended = record.Happening("suspended") // it waits for a signal or an instant, on no node
	OwnerGone = record.OwnerGone              // Node was lost: another one will own it
	Parked    = record.SetAside               // a person has to decide: Text says about what
	Stuck     = record.BeginStuck             // an undo of Step, or Step after the pivot, needs a person
	Finished  = record.Finished               // Outcome says how: a record.RunState
)

// Event is something that has happened to a run.
type Event struct {
	At      time.Time        `json:"at"` // by the clock of the hub
	ID      record.RunID     `json:"id"`
	Event   string           `json:"event"` // its kind
	What    record.Happening `json:"what"`  // one of the above
	Node    cluster.NodeName `json:"node,omitempty"`
	Epoch   uint64           `json:"epoch,omitempty"`
	Step    string           `json:"step,omitempty"`
	Outcome string           `json:"outcome,omitempty"`
	Text    string           `json:"text,omitempty"`
}

// Subscription hears of runs. Its methods are safe for concurrent use; each event is read
// once.
type Subscription struct {
	s     *shared.Subscription[json.RawMessage]
	alone cluster.NodeName // the only node; empty: there are others
}

// Subscribe begins to hear. At most buffer events wait to be read (0 means 1,024), and at most 16
// MiB; with more it is cut off. ctx bounds the Subscribe only; what happens after it has returned is
// heard. Close ends it.
func Subscribe(ctx context.Context, n *distgear.Node, buffer int) (*Subscription, error) {
	s, err := shared.NewTopic[json.RawMessage](n, events.Name+operation.Lifecycle).Subscribe(ctx, buffer)
	if err != nil {
		return nil, err
	}
	sub := &Subscription{s: s}
	if n.Room().Ledger.Alone() {
		sub.alone = n.Name()
	}
	return sub, nil
}

// Next waits for the next event. When all that was heard is read, the error says how it ended,
// and stays: shared.ErrSlow, shared.ErrSessionLost, shared.ErrClosed. The cause of ctx ends nothing.
func (s *Subscription) Next(ctx context.Context) (e Event, err error) {
	m, err := s.s.Next(ctx)
	if err != nil {
		return e, err
	}
	type bare Event
	told := struct {
		*bare

		At int64 `json:"at"` // ms since 1970
	}{bare: (*bare)(&e)}
	if err := json.Unmarshal(m.Value, &told); err != nil {
		return e, fmt.Errorf("%w: what the hub tells of runs: does it have another version? %w", shared.ErrMismatch, err)
	}
	e.At = time.UnixMilli(told.At)
	switch e.What { //nolint:exhaustive // the others are of no node
	case Owned, Suspended, OwnerGone, Stuck:
		e.Node = cmp.Or(e.Node, s.alone)
	}
	return e, nil
}

// All are the events as they come. It ends after the first error of Next, which it yields, but
// for shared.ErrClosed: after Close it just ends.
func (s *Subscription) All(ctx context.Context) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		for {
			e, err := s.Next(ctx)
			if errors.Is(err, shared.ErrClosed) || !yield(e, err) || err != nil {
				return
			}
		}
	}
}

// Close ends the subscription; what was not read is dropped. It does not block, and may be called
// more than once.
func (s *Subscription) Close() { s.s.Close() }
