package session

import (
	"context"
	"sync"
	"time"
)

// farewellTime is how long a node that has left goes on refusing what comes
// from those that have not said that they heard of it.
const farewellTime = 500 * time.Millisecond

// Farewell is who has heard that this node left: nothing more comes from them.
// The zero value works.
type Farewell struct {
	mu    sync.Mutex
	heard map[string]bool
	wake  chan struct{} // closed at the next change; nil: nobody waits
}

// Heard takes up that a node has heard; empty: who is to hear may have changed.
func (f *Farewell) Heard(from string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if from != "" {
		if f.heard == nil {
			f.heard = map[string]bool{}
		}
		f.heard[from] = true
	}
	if f.wake != nil {
		close(f.wake)
		f.wake = nil
	}
}

// unaware returns what is closed at the next change, or nil when all have heard.
func (f *Farewell) unaware(others func() []string) chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, name := range others() {
		if !f.heard[name] {
			if f.wake == nil {
				f.wake = make(chan struct{})
			}
			return f.wake
		}
	}
	return nil
}

// Wait waits until all others have heard, for half a second at most.
func (f *Farewell) Wait(ctx context.Context, others func() []string) {
	t := time.NewTimer(farewellTime)
	defer t.Stop()
	for {
		c := f.unaware(others)
		if c == nil {
			return
		}
		select {
		case <-c:
		case <-t.C:
			return
		case <-ctx.Done():
			return
		}
	}
}
