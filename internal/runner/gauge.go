package runner

import (
	"context"
	"sync/atomic"
)

// Gauge counts what is under way, and tells when that is nothing. The zero value
// counts none; it is safe for concurrent use.
type Gauge struct {
	count  atomic.Int64
	closed atomic.Bool
	idle   atomic.Pointer[chan struct{}] // 1: count came to zero while somebody waits for that
}

// Begin counts one more.
func (g *Gauge) Begin() { g.count.Add(1) }

// Hold counts one more; false after Close: then it does not.
func (g *Gauge) Hold() bool {
	if g.closed.Load() {
		return false
	}
	g.count.Add(1)
	return true
}

// Close ends Hold.
func (g *Gauge) Close() { g.closed.Store(true) }

// Done counts one less.
func (g *Gauge) Done() {
	if g.count.Add(-1) == 0 {
		if idle := g.idle.Load(); idle != nil {
			select {
			case *idle <- struct{}{}:
			default:
			}
		}
	}
}

// Count is how many there are.
func (g *Gauge) Count() int { return int(g.count.Load()) }

// Drained waits until there are none; false when ctx ends first. One waits at a
// time.
func (g *Gauge) Drained(ctx context.Context) bool {
	idle := make(chan struct{}, 1)
	g.idle.Store(&idle)
	for g.count.Load() > 0 {
		select {
		case <-idle:
		case <-ctx.Done():
			return false
		}
	}
	return true
}
