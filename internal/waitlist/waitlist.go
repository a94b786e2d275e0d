// Package waitlist is the runs that a gateway has accepted and whose results are to come.
//
//	l.Add(future, "deploy")
//	a := l.Get("deploy-7")
//
// # Guarantees
//
// What is not over is kept, and so are the latest 1,000 that failed: they may never have begun.
//
// # Failures
//
// None.
package waitlist

import (
	"context"
	"encoding/json"
	"slices"
	"sync"
	"time"

	"github.com/distgear/distgear/record"
)

// Pending is a raised event whose result is to come; a Future.
type Pending interface {
	ID() record.RunID
	Done() <-chan struct{}
	Wait(ctx context.Context) (json.RawMessage, error) // returns at once after Done
}

// List holds the accepted runs whose ids clients know: those answered with
// 202, and those that came with an id. A run is known to the node that handles
// it from when it begins there; before that (its command is on its way, or it is
// delayed), and for one that never began, only the gateway that accepted it can
// tell. The zero value is empty.
type List struct {
	mu    sync.Mutex // guards what follows
	byID  map[record.RunID]*Accepted
	order []*Accepted // oldest first
	due   int         // entries at which the next sweep is due
}

// Accepted is a run that was accepted.
type Accepted struct {
	F     Pending
	Event string
	Since time.Time
}

// maxFailed is how many of the runs that failed are kept, in case they never began.
const maxFailed = 1000

// Add adds a run that was accepted. A run that is not over is not replaced.
func (l *List) Add(f Pending, event string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if old := l.byID[f.ID()]; old != nil && !old.Over() {
		return // raised again under its id
	}
	if l.byID == nil {
		l.byID = map[record.RunID]*Accepted{}
	}
	a := &Accepted{F: f, Event: event, Since: time.Now()}
	l.byID[f.ID()] = a
	if l.order = append(l.order, a); len(l.order) >= l.due {
		l.sweep()
		l.due = max(64, 2*len(l.order))
	}
}

// sweep forgets those that ended well, and all but the latest of those that did not.
func (l *List) sweep() {
	failed := 0
	slices.Reverse(l.order)
	l.order = slices.DeleteFunc(l.order, func(a *Accepted) bool {
		if !a.Over() {
			return false
		}
		_, err := a.Outcome()
		if err != nil {
			failed++
		}
		if err != nil && failed <= maxFailed {
			return false
		}
		if l.byID[a.F.ID()] == a {
			delete(l.byID, a.F.ID())
		}
		return true
	})
	slices.Reverse(l.order)
}

// Get is the run with an ID; nil: it is not known.
func (l *List) Get(id record.RunID) *Accepted {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.byID[id]
}

// Over tells whether its result is there.
func (a *Accepted) Over() bool {
	select {
	case <-a.F.Done():
		return true
	default:
		return false
	}
}

// Outcome is its result, once it is over.
func (a *Accepted) Outcome() (json.RawMessage, error) { return a.F.Wait(context.Background()) }
