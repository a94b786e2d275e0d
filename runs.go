package distgear

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/distgear/distgear/internal/link"
	"github.com/distgear/distgear/internal/machine/members"
	"github.com/distgear/distgear/internal/place"
	"github.com/distgear/distgear/internal/runs"
	"github.com/distgear/distgear/internal/wire"
	"github.com/distgear/distgear/record"
)

// beginTime is how long a run that was raised here may take to begin, for who
// asks for it.
const beginTime = time.Second

// askAll asks every live node, this one first, and yields the answers.
func (n *Node) askAll(ctx context.Context, kind string, in []byte) iter.Seq2[place.Place, wire.Report] {
	type answer struct {
		at  place.Place
		rep wire.Report
	}
	return func(yield func(place.Place, wire.Report) bool) {
		ctx, cancel := context.WithTimeout(ctx, runs.PollTime)
		defer cancel()
		places := []place.Place{n.here()}
		for _, m := range n.view() {
			if id := link.ID(m.Life); id != n.id && (m.State == members.Alive || m.State == members.Suspect) {
				places = append(places, place.Of(m))
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
		for _, rep := range n.askAll(ctx, runs.KindList, nil) {
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
func (n *Node) askRun(ctx context.Context, kind string, q runs.Query) (at place.Place, out []byte, err error) {
	// A run that was raised here a moment ago may not have begun yet.
	for until := time.Now().Add(beginTime); ; {
		at, out, err = n.askRunOnce(ctx, kind, q)
		if !errors.Is(err, ErrNoRun) || !n.runs.Made(q.ID) || time.Now().After(until) {
			return at, out, err
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			return at, nil, context.Cause(ctx)
		}
	}
}

func (n *Node) askRunOnce(ctx context.Context, kind string, q runs.Query) (at place.Place, out []byte, err error) {
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
		if e := reportError(rep, at.Node, kind); !errors.Is(e, ErrNoRun) {
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
	return place.Place{}, nil, err
}

// FindRun is the record of a run, or ErrNoRun when no live node remembers it:
// nodes remember the last 1000, and those of up to 32 MiB.
func (n *Node) FindRun(ctx context.Context, id record.RunID) (record.Run, error) {
	var rec record.Run
	_, out, err := n.askRun(ctx, runs.KindFind, runs.Query{ID: id})
	if err == nil {
		err = json.Unmarshal(out, &rec)
	}
	return rec, err
}

// WatchRun yields the record of a run now and after changes, the last time
// when it has ended. Changes in quick succession are yielded as one.
func (n *Node) WatchRun(ctx context.Context, id record.RunID) iter.Seq2[record.Run, error] {
	return func(yield func(record.Run, error) bool) {
		at, out, err := n.askRun(ctx, runs.KindFind, runs.Query{ID: id})
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
			if in, err = json.Marshal(runs.Query{ID: id, Since: seen}); err == nil {
				var rep wire.Report
				rep, err = n.request(ctx, at, runs.KindFind, in, 2*runs.PollTime)
				if err == nil {
					out, err = rep.Payload, reportError(rep, at.Node, "watching "+string(id))
				}
			}
		}
	}
}

// CancelRun cancels a run: nothing more of it starts, what runs is cancelled,
// and plans with Rollback are undone. It returns when the run was told, not
// when it has ended. To cancel a run that has ended, or rolls back, does nothing.
func (n *Node) CancelRun(ctx context.Context, id record.RunID) error {
	_, _, err := n.askRun(ctx, runs.KindCancel, runs.Query{ID: id})
	return err
}

// ResolveUndo decides about the stuck undo of a step. Skip and MarkDone need a
// reason; it is logged where the run is.
func (n *Node) ResolveUndo(ctx context.Context, id record.RunID, step string, how record.Resolution, reason string) error {
	_, _, err := n.askRun(ctx, runs.KindResolve, runs.Query{ID: id, Step: step, How: how, Reason: reason})
	return err
}
