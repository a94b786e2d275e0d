// Package orders asks about executors wherever they are, in the ledger or in the
// memory of nodes, and has something done with those at nodes.
//
//	all, err := orders.Standings(ctx, room, "")
//	at, silent, err := orders.All(ctx, room, "", &orders.Order{…, Do: orders.DoPause})
//
// # Guarantees
//
// What is told of the ledger is one look a page; nodes answer one by one.
//
// # Failures
//
// A node that does not answer within two seconds is named; a hub that does not is
// an error.
package orders

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/distgear/distgear/internal/client"
	"github.com/distgear/distgear/internal/fault"
	"github.com/distgear/distgear/internal/link"
	"github.com/distgear/distgear/internal/look"
	"github.com/distgear/distgear/internal/room"
	"github.com/distgear/distgear/internal/wire"
)

// kindLook is by what nodes ask each other for the queues in their memory: JSON,
// Order → client.Inspection.
const kindLook = "_executors"

// Order is a question about the queues in a process, or something to be done with one.
type Order struct {
	client.Query // What: look.Executors or look.Tasks

	Do     string `json:"do,omitempty"`     // a word below; empty: look only
	Reason string `json:"reason,omitempty"` // of Pause
}

// What an Order may want done.
const (
	DoCancel = "cancel" // the task ID of Executor
	DoPause  = "pause"  // Executor
	DoResume = "resume"
)

// carrier carries orders out at this node.
type carrier struct {
	f atomic.Pointer[func(*Order) Inspection]
}

type carrierKey struct{}

func carrierOf(r *room.Room) *carrier {
	return r.Value(carrierKey{}, func() any {
		c := &carrier{}
		none := func(*Order) (in Inspection) { return in }
		c.f.Store(&none)
		return c
	}).(*carrier) //nolint:forcetypeassert // it is ours
}

// Serve has orders to this node carried out by f, which answers with times in ms
// since 1970.
func Serve(r *room.Room, f func(*Order) Inspection) {
	carrierOf(r).f.Store(&f)
	r.SetRaw(kindLook, func(in *link.Inbound) {
		var o Order
		if err := json.Unmarshal(in.Input, &o); err != nil {
			in.Reply(fault.NeverRan(fmt.Errorf("%w: %w", fault.ErrInvalid, err), 0))
			return
		}
		b, err := json.Marshal(f(&o))
		if err != nil {
			in.Reply(fault.Report(err))
			return
		}
		in.Reply(wire.Report{Outcome: wire.OK, Over: true, Payload: b})
	})
}

// At is what one process answered to an Order.
type At struct {
	Node string
	client.Inspection
}

// lookTime is how long nodes are waited for.
const lookTime = 2 * time.Second

// All carries an Order out in this process and in those of all live nodes,
// or of the one named. Those that have no such queues, or do not answer, are left
// out; silent names the latter. Answers are by node, this one first.
func All(ctx context.Context, r *room.Room, node string, o *Order) (all []At, silent []string, err error) {
	if carry := *carrierOf(r).f.Load(); node == "" || node == r.Node {
		if in := carry(o); len(in.Page.Executors) > 0 || in.Error != "" {
			all = append(all, At{r.Node, in})
		}
	}
	if r.Links == nil {
		return all, nil, nil
	}
	b, err := json.Marshal(o)
	if err != nil {
		return nil, nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, lookTime)
	defer cancel()
	var mu sync.Mutex
	var wg sync.WaitGroup
	var others []At
	for _, m := range r.Live() {
		if id := link.ID(m.Life); id != r.Links.ID() && (node == "" || node == m.Name) {
			wg.Go(func() {
				in, ok := askOne(ctx, r, id, b)
				mu.Lock()
				defer mu.Unlock()
				if !ok {
					silent = append(silent, m.Name)
				} else if len(in.Page.Executors) > 0 || in.Error != "" {
					others = append(others, At{m.Name, in})
				}
			})
		}
	}
	wg.Wait()
	slices.SortFunc(others, func(a, b At) int { return cmp.Compare(a.Node, b.Node) })
	slices.Sort(silent)
	return append(all, others...), silent, nil
}

func askOne(ctx context.Context, r *room.Room, id link.ID, b []byte) (in client.Inspection, ok bool) {
	rep, err := r.Links.Do(ctx, id, &wire.Command{Kind: kindLook, Input: b}, lookTime)
	switch {
	case err != nil || rep.Outcome == wire.Unknown:
		return in, false
	case rep.Outcome != wire.OK:
		return in, true // it has no executors
	}
	return in, json.Unmarshal(rep.Payload, &in) == nil
}

type (
	// Query is a question to hubs and nodes.
	Query = client.Query
	// Inspection is what they answer.
	Inspection = client.Inspection
	// ExecutorState is one executor in that.
	ExecutorState = look.ExecutorState
	// TaskState is one task in that.
	TaskState = look.TaskState
	// ScheduleState is one schedule in that.
	ScheduleState = look.ScheduleState
)

// What a Query may ask for.
const (
	Executors = look.Executors
	Tasks     = look.Tasks
	Schedules = look.Schedules
)

// Pages asks the hub, page by page. The node must not be alone.
func Pages(ctx context.Context, r *room.Room, q Query) iter.Seq2[Inspection, error] {
	return func(yield func(Inspection, error) bool) {
		for q := q; ; {
			var in Inspection
			b, err := json.Marshal(q)
			if err == nil {
				if b, err = r.Ask(ctx, client.KindInspect, b); err == nil {
					err = json.Unmarshal(b, &in)
				}
			}
			if err == nil && in.Error != "" {
				err = fmt.Errorf("%w: %s", fault.ErrNoNode, in.Error)
			}
			if err != nil {
				yield(in, err)
				return
			}
			if !yield(in, nil) || in.Page.Next == "" {
				return
			}
			q.After = in.Page.Next
		}
	}
}

// Standing is how one executor stands, in the ledger or in the memory of a node.
type Standing struct {
	ExecutorState

	Node string // empty: the ledger
	Zero int64  // ms since 1970 of its time 0
}

// Standings are the executors whose names begin with prefix: those in the ledger
// first, each by name.
func Standings(ctx context.Context, r *room.Room, prefix string) (all []Standing, err error) {
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	q := Query{What: Executors, Prefix: prefix}
	if !r.Ledger.Alone() {
		for p, err := range Pages(ctx, r, q) {
			if err != nil {
				return nil, err
			}
			for _, e := range p.Page.Executors {
				all = append(all, Standing{e, "", p.Zero})
			}
		}
	}
	nodes, _, err := All(ctx, r, "", &Order{Query: q})
	for _, at := range nodes {
		for _, e := range at.Page.Executors {
			all = append(all, Standing{e, at.Node, 0})
		}
	}
	return all, err
}
