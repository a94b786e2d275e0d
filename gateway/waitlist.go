package gateway

import (
	"context"
	"errors"
	"iter"
	"slices"
	"sync"
	"time"

	"github.com/distgear/distgear"
	"github.com/distgear/distgear/record"
)

// waitlist holds the accepted runs whose ids clients know: those answered with
// 202, and those that came with an id. A run is known to the node that handles
// it from when it begins there; before that (its command is on its way, or it is
// delayed), and for one that never began, only the gateway that accepted it can
// tell. The zero value is empty.
type waitlist struct {
	mu    sync.Mutex // guards what follows
	byID  map[record.RunID]*accepted
	order []*accepted // oldest first
	due   int         // entries at which the next sweep is due
}

type accepted struct {
	f     pending
	event string
	since time.Time
}

// maxFailed is how many of the runs that failed are kept, in case they never began.
const maxFailed = 1000

func (l *waitlist) add(f pending, event string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if old := l.byID[f.ID()]; old != nil && !old.over() {
		return // raised again under its id
	}
	if l.byID == nil {
		l.byID = map[record.RunID]*accepted{}
	}
	a := &accepted{f: f, event: event, since: time.Now()}
	l.byID[f.ID()] = a
	if l.order = append(l.order, a); len(l.order) >= l.due {
		l.sweep()
		l.due = max(64, 2*len(l.order))
	}
}

// sweep forgets those that ended well, and all but the latest of those that did not.
func (l *waitlist) sweep() {
	failed := 0
	slices.Reverse(l.order)
	l.order = slices.DeleteFunc(l.order, func(a *accepted) bool {
		if !a.over() {
			return false
		}
		_, err := a.outcome()
		if err != nil {
			failed++
		}
		if err != nil && failed <= maxFailed {
			return false
		}
		if l.byID[a.f.ID()] == a {
			delete(l.byID, a.f.ID())
		}
		return true
	})
	slices.Reverse(l.order)
}

func (l *waitlist) get(id record.RunID) *accepted {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.byID[id]
}

func (a *accepted) over() bool {
	select {
	case <-a.f.Done():
		return true
	default:
		return false
	}
}

func (a *accepted) outcome() ([]byte, error) { return a.f.Wait(context.Background()) }

// record is what can be said of a run that no node remembers.
func (a *accepted) record() record.Run {
	rec := record.Run{ID: a.f.ID(), Event: a.event, State: record.Waiting, Started: a.since}
	if !a.over() {
		return rec
	}
	out, err := a.outcome()
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
	a := h.wait.get(id)
	over := a != nil && a.over()
	rec, err = h.b.find(ctx, id)
	switch {
	case a == nil, !errors.Is(err, distgear.ErrNoRun) && !errors.Is(err, distgear.ErrLeft): // a node that has left finds nothing
		return rec, false, err
	case !over && a.over(): // it may have begun and ended since it was asked for
		return h.look(ctx, id)
	}
	return a.record(), true, nil
}

// watch is the backend's watch, completed by the wait list.
func (h *handler) watch(ctx context.Context, id record.RunID) iter.Seq2[record.Run, error] {
	a := h.wait.get(id)
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
			case <-a.f.Done():
			case <-ctx.Done():
			}
			t.Stop()
			if ctx.Err() != nil {
				return
			}
		}
	}
}
