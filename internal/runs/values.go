package runs

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/distgear/distgear/internal/fault"
	"github.com/distgear/distgear/internal/journal"
)

// waitTime is how long a durable run waits at its node for an instant or a
// signal, with nothing else to do, before it is suspended.
const waitTime = time.Second

// valueSignal begins the name of a signal's value in the journal.
const valueSignal = "signal "

// wait is a call that waits for an instant, or for a signal.
type wait struct {
	until time.Time
	name  string
	ready chan struct{} // closed when value is there, or this node's part is over
	value []byte
}

// Value is what the journal has under that name for the next call; else what
// found answers, which is recorded unless the run is not durable. Nothing is waited for: whatever the handler
// does with it through its run is appended later.
func (r *Run) Value(name string, found func() []byte) []byte {
	l := r.log
	if l == nil {
		return found()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if l.past != nil {
		if v, ok := l.past.Value(name); ok {
			return v
		}
	}
	v := found()
	l.unit.Add(&journal.Record{Kind: journal.Value, Name: name, Input: v})
	l.flush(time.Now())
	return v
}

// Sleep waits for a while, counted from when the run came here first. It returns
// fault.ErrSuspended when the run goes on later, maybe elsewhere, and ctx's cause
// when that ends.
func (r *Run) Sleep(ctx context.Context, d time.Duration) error {
	w := &wait{ready: make(chan struct{}), until: r.host.Clock().Add(d)}
	l, nap := r.log, journal.Nap{}
	if l != nil {
		r.mu.Lock()
		if l.over != nil {
			r.mu.Unlock()
			return l.gone()
		}
		nap = l.past.Nap()
		switch {
		case nap.Broke != nil, nap.Over(r.host.Clock()):
			r.mu.Unlock()
			return brokenOff[string(nap.Broke)]
		case nap.Until.IsZero():
			l.unit.Add(&journal.Record{Kind: journal.Slept, Until: w.until.UnixNano()})
			l.flush(time.Now())
		default:
			w.until = nap.Until
		}
		l.wait(w)
		r.mu.Unlock()
	}
	t := time.NewTimer(w.until.Sub(r.host.Clock()))
	defer t.Stop()
	select {
	case <-t.C:
	case <-w.ready:
	case <-ctx.Done():
	}
	err := l.waited(ctx, w)
	if err != nil && !errors.Is(err, fault.ErrSuspended) {
		r.Value(nap.Name, func() []byte { return []byte(ctx.Err().Error()) })
	}
	return err
}

// brokenOff is as what a sleep ended, by the value that tells that it was broken off.
var brokenOff = map[string]error{context.Canceled.Error(): context.Canceled, context.DeadlineExceeded.Error(): context.DeadlineExceeded}

// Signal waits for a signal of that name and takes it; each is taken once. It
// returns fault.ErrSuspended as Sleep does.
func (r *Run) Signal(ctx context.Context, name string) ([]byte, error) {
	l := r.log
	if l == nil {
		return nil, fmt.Errorf("%w: run %s is not durable: only those have signals and approvals", fault.ErrInvalid, r.id)
	}
	r.mu.Lock()
	if l.over != nil {
		r.mu.Unlock()
		return nil, l.gone()
	}
	if v, ok := l.past.Value(valueSignal + name); ok {
		r.mu.Unlock()
		return v, nil
	}
	if i := slices.IndexFunc(l.Signals, func(s journal.Signal) bool { return s.Name == name }); i >= 0 {
		s := l.Signals[i]
		l.Signals = slices.Delete(l.Signals, i, i+1)
		l.takeSignal(&s)
		r.mu.Unlock()
		return s.Value, nil
	}
	w := &wait{ready: make(chan struct{}), name: name}
	l.wait(w)
	r.mu.Unlock()
	select {
	case <-w.ready:
	case <-ctx.Done():
	}
	err := l.waited(ctx, w)
	return w.value, err
}

// Signalled takes a signal in that came while this node owns the run; one that
// is known already changes nothing.
func (r *Run) Signalled(s journal.Signal) {
	if r.log == nil {
		return
	}
	l := r.log
	r.mu.Lock()
	defer r.mu.Unlock()
	if l.over != nil || l.given || s.Number <= l.heard {
		return
	}
	l.heard = s.Number
	i := slices.IndexFunc(l.waits, func(w *wait) bool { return w.name == s.Name && w.until.IsZero() })
	if i < 0 {
		l.Signals = append(l.Signals, s)
		l.flush(time.Now())
		return
	}
	w := l.waits[i]
	l.waits = slices.Delete(l.waits, i, i+1)
	w.value = s.Value
	l.takeSignal(&s)
	close(w.ready)
}

// takeSignal records that a signal was taken: the hub drops it with that.
func (l *durable) takeSignal(s *journal.Signal) {
	l.unit.Add(&journal.Record{Kind: journal.Value, Name: valueSignal + s.Name, Input: s.Value})
	l.took = append(l.took, s.Number)
	l.flush(time.Now())
}

// wait notes that a call waits. The run is locked.
func (l *durable) wait(w *wait) {
	l.waits = append(l.waits, w)
	l.rest()
}

// waited takes that back, and tells why the waiting ended.
func (l *durable) waited(ctx context.Context, w *wait) error {
	if l != nil {
		l.r.mu.Lock()
		if l.over != nil {
			l.r.mu.Unlock()
			return l.gone()
		}
		defer l.r.mu.Unlock()
		if i := slices.Index(l.waits, w); i >= 0 {
			l.waits = slices.Delete(l.waits, i, i+1)
		} else if w.until.IsZero() {
			return nil // it has the signal
		}
		l.rest()
	}
	return context.Cause(ctx)
}

// rest sees to it that a run which does nothing but wait is suspended soon. The
// run is locked.
func (l *durable) rest() {
	if l.over != nil || l.busy > 0 || len(l.waits) == 0 {
		if l.pause != nil {
			l.pause.Stop()
			l.pause = nil
		}
		return
	}
	if l.pause == nil {
		l.pause = time.AfterFunc(waitTime, l.suspend)
	}
}

// suspend gives the run back until something comes that it waits for.
func (l *durable) suspend() {
	l.r.mu.Lock()
	if l.over != nil || l.given || l.busy > 0 || len(l.waits) == 0 {
		l.r.mu.Unlock()
		return
	}
	g := &journal.Give{Why: journal.Suspended}
	if _, limited := l.r.ctx.Deadline(); limited && l.Started.IsZero() { // it counts from the first entry: let there be one
		l.unit.Add(&journal.Record{Kind: journal.Value, Name: "began"})
	}
	for _, w := range l.waits {
		switch {
		case w.until.IsZero():
			g.Signals = append(g.Signals, w.name)
		case g.Until.IsZero() || w.until.Before(g.Until):
			g.Until = w.until
		}
	}
	_ = l.give(g)
	l.r.mu.Unlock()
	_ = l.gone()
}
