package link

import (
	"context"
	"sync/atomic"

	"github.com/distgear/distgear/internal/wire"
)

// Waiter is a Receiver that one goroutine waits for. Only the first report
// counts.
type Waiter struct {
	told atomic.Bool
	rep  wire.Report
	done chan struct{} // 1: whoever waits may be gone
}

// NewWaiter returns a Waiter.
func NewWaiter() *Waiter { return &Waiter{done: make(chan struct{}, 1)} }

// Report implements Receiver.
func (w *Waiter) Report(r wire.Report) {
	if !w.told.Swap(true) {
		w.rep = r
		w.done <- struct{}{}
	}
}

// Wait puts the report into r. False means that ctx ended first.
func (w *Waiter) Wait(ctx context.Context, r *wire.Report) bool {
	if done := ctx.Done(); done == nil {
		<-w.done
	} else {
		select {
		case <-w.done:
		case <-done:
			return false
		}
	}
	*r = w.rep
	return true
}
