package link

import (
	"context"
	"sync/atomic"

	"github.com/distgear/distgear/internal/runner"
	"github.com/distgear/distgear/internal/wire"
)

// Waiter is a Receiver that one goroutine waits for. Only the first report
// counts.
type Waiter struct {
	state atomic.Uint32
	rep   wire.Report
	done  chan struct{} // 1: whoever waits may be gone
	hook  runner.Hook   // the waiter itself

	hooked bool // a Cancel may still hold the hook: not to be used again
}

// The states of a Waiter.
const (
	open    uint32 = iota
	claimed        // by a report that is being written
	told
	cancelled
)

// NewWaiter returns a Waiter.
func NewWaiter() *Waiter {
	w := &Waiter{done: make(chan struct{}, 1)}
	w.hook = (*cancelHook)(w)
	return w
}

// Report implements Receiver.
func (w *Waiter) Report(r wire.Report) {
	if w.state.CompareAndSwap(open, claimed) {
		w.rep = r
		w.state.Store(told)
		w.done <- struct{}{}
	}
}

type cancelHook Waiter

// Cancelled implements runner.Hook.
func (h *cancelHook) Cancelled() {
	if h.state.CompareAndSwap(open, cancelled) {
		h.done <- struct{}{}
	}
}

// Wait puts the report into r. False means that ctx ended first.
func (w *Waiter) Wait(ctx context.Context, r *wire.Report) bool {
	// The context of a command that waits for another is ours: it needs no
	// channel, and waiting for one channel takes half the memory of two.
	if c, ok := ctx.(*runner.Context); ok && c.SetHook(&w.hook) {
		<-w.done
		w.hooked = !c.ClearHook(&w.hook)
		if w.state.Load() == cancelled {
			return false
		}
	} else if !w.wait(ctx) {
		return false
	}
	*r = w.rep
	return true
}

func (w *Waiter) wait(ctx context.Context) bool {
	done := ctx.Done()
	if done == nil {
		<-w.done
		return true
	}
	select {
	case <-w.done:
		return true
	case <-done:
		return false
	}
}

// reset makes w as new, once nobody else holds it.
func (w *Waiter) reset() {
	w.rep = wire.Report{}
	w.state.Store(open)
}
