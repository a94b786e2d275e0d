package handled

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/distgear/distgear/internal/fault"
	"github.com/distgear/distgear/internal/place"
	"github.com/distgear/distgear/internal/wire"
	"github.com/distgear/distgear/record"
)

// beginTime is how long a run that was raised here may take to begin, for who
// asks for it.
const beginTime = time.Second

// askAll asks every live node, this one first, and yields the answers.
func (g *Registry) askAll(ctx context.Context, kind string, in []byte) iter.Seq2[place.Place, wire.Report] {
	type answer struct {
		at  place.Place
		rep wire.Report
	}
	return func(yield func(place.Place, wire.Report) bool) {
		ctx, cancel := context.WithTimeout(ctx, pollTime)
		defer cancel()
		places := g.host.Places()
		answers := make(chan answer, len(places)) // a late one finds room
		for _, at := range places {
			go func() { // ends with ctx
				r, err := g.host.Request(ctx, at, kind, in, 0)
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

// All yields the runs that the live nodes remember, newest first, without their
// plans. A node that does not answer is passed over.
func (g *Registry) All(ctx context.Context) iter.Seq2[record.Run, error] {
	return func(yield func(record.Run, error) bool) {
		var all []record.Run
		for _, rep := range g.askAll(ctx, kindList, nil) {
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

// ask puts a question about a run to the node that remembers it.
func (g *Registry) ask(ctx context.Context, kind string, q query) (at place.Place, out []byte, err error) {
	// A run that was raised here a moment ago may not have begun yet.
	for until := time.Now().Add(beginTime); ; {
		at, out, err = g.askOnce(ctx, kind, q)
		if !errors.Is(err, fault.ErrNoRun) || !strings.HasPrefix(string(q.ID), g.prefix) || time.Now().After(until) {
			return at, out, err
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			return at, nil, context.Cause(ctx)
		}
	}
}

func (g *Registry) askOnce(ctx context.Context, kind string, q query) (at place.Place, out []byte, err error) {
	in, err := json.Marshal(q)
	if err != nil {
		return at, nil, err
	}
	silent := false
	err = fmt.Errorf("%w: %s", fault.ErrNoRun, q.ID)
	for at, rep := range g.askAll(ctx, kind, in) {
		if rep.Outcome == wire.OK {
			return at, rep.Payload, nil
		}
		if e := g.host.Error(rep, at.Node, kind); !errors.Is(e, fault.ErrNoRun) {
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

// Find is the record of a run, or fault.ErrNoRun when no live node remembers it.
func (g *Registry) Find(ctx context.Context, id record.RunID) (record.Run, error) {
	var rec record.Run
	_, out, err := g.ask(ctx, kindFind, query{ID: id})
	if err == nil {
		err = json.Unmarshal(out, &rec)
	}
	return rec, err
}

// Watch yields the record of a run now and after changes, the last time when it
// has ended.
func (g *Registry) Watch(ctx context.Context, id record.RunID) iter.Seq2[record.Run, error] {
	return func(yield func(record.Run, error) bool) {
		at, out, err := g.ask(ctx, kindFind, query{ID: id})
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
			if in, err = json.Marshal(query{ID: id, Since: seen}); err == nil {
				var rep wire.Report
				rep, err = g.host.Request(ctx, at, kindFind, in, 2*pollTime)
				if err == nil {
					out, err = rep.Payload, g.host.Error(rep, at.Node, "watching "+string(id))
				}
				if errors.Is(err, fault.ErrLeft) { // this node, maybe: what it ran ends with it
					if own, e := g.serveFind(ctx, "", &wire.Command{Input: in}); e == nil {
						out, err = own, nil
					}
				}
			}
		}
	}
}

// Cancel cancels a run, wherever it is.
func (g *Registry) Cancel(ctx context.Context, id record.RunID) error {
	_, _, err := g.ask(ctx, kindCancel, query{ID: id})
	return err
}

// Resolve decides about the stuck undo of a step, wherever the run is.
func (g *Registry) Resolve(ctx context.Context, id record.RunID, step string, how record.Resolution, reason string) error {
	_, _, err := g.ask(ctx, kindResolve, query{ID: id, Step: step, How: how, Reason: reason})
	return err
}
