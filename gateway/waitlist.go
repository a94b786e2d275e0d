package gateway

import (
	"context"
	"errors"
	"iter"
	"time"

	"github.com/distgear/distgear"
	"github.com/distgear/distgear/internal/waitlist"
	"github.com/distgear/distgear/record"
)

// recordOf is what can be said of a run that no node remembers.
func recordOf(a *waitlist.Accepted) record.Run {
	rec := record.Run{ID: a.F.ID(), Event: a.Event, State: record.Waiting, Started: a.Since}
	if !a.Over() {
		return rec
	}
	out, err := a.Outcome()
	rec.Version = 1
	if err != nil {
		rec.State, rec.Error, rec.Node = record.Failed, err.Error(), problemOf(err, rec.ID).Node
	} else {
		rec.State, rec.Result = record.OK, out
	}
	return rec
}

// find is the backend's find, completed by the wait list.
func (h *handler) find(ctx context.Context, id record.RunID) (record.Run, error) {
	rec, _, err := h.look(ctx, id)
	return rec, err
}

// look also tells whether the record is the wait list's.
func (h *handler) look(ctx context.Context, id record.RunID) (rec record.Run, listed bool, err error) {
	a := h.wait.Get(id)
	over := a != nil && a.Over()
	rec, err = h.b.find(ctx, id)
	switch {
	case a == nil, !errors.Is(err, distgear.ErrNoRun) && !errors.Is(err, distgear.ErrLeft): // a node that has left finds nothing
		return rec, false, err
	case !over && a.Over(): // it may have begun and ended since it was asked for
		return h.look(ctx, id)
	}
	return recordOf(a), true, nil
}

// watch is the backend's watch, completed by the wait list.
func (h *handler) watch(ctx context.Context, id record.RunID) iter.Seq2[record.Run, error] {
	a := h.wait.Get(id)
	if a == nil {
		return h.b.watch(ctx, id)
	}
	return func(yield func(record.Run, error) bool) {
		told := false
		for pause := 10 * time.Millisecond; ; pause = min(2*pause, time.Second) {
			rec, listed, err := h.look(ctx, id)
			switch {
			case err != nil, listed && rec.State.Final():
				yield(rec, err)
				return
			case !listed:
				h.b.watch(ctx, id)(yield)
				return
			case !told && !yield(rec, nil):
				return
			}
			told = true
			t := time.NewTimer(pause) // who will begin it is not known, so there is nobody to wait for
			select {
			case <-t.C:
			case <-a.F.Done():
			case <-ctx.Done():
			}
			t.Stop()
			if ctx.Err() != nil {
				return
			}
		}
	}
}
