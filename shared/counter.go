package shared

import (
	"context"

	"github.com/distgear/distgear"
	"github.com/distgear/distgear/internal/machine"
	"github.com/distgear/distgear/internal/objects"
	"github.com/distgear/distgear/internal/operation"
)

// Counter is a number of 64 bits with a sign, which begins at 0. Make it with
// NewCounter; it is safe for concurrent use.
//
//	hits := shared.NewCounter(n, "hits")
//	total, err := hits.Add(ctx, 1)
//
// Its operations are linearizable. Each is one message to the hub and its answer.
// LostError and the cause of ctx leave unknown whether a change was made: it is
// not repeated. What a node added stays when the node is lost.
type Counter struct{ b *objects.Base }

// NewCounter returns the counter with that name, at most 256 bytes. It does no
// I/O.
func NewCounter(n *distgear.Node, name string) *Counter {
	return &Counter{objects.Of(host(n), objects.ID{Kind: operation.KCounter, Name: name, Param: plainCounter}, nil)}
}

// The parameters of a counter: what the name is used for.
const (
	plainCounter = iota
	onceCounter
)

// Load is the value. It changes nothing, and outlives a loss of the session.
func (c *Counter) Load(ctx context.Context) (int64, error) {
	a, err := c.b.Do(ctx, "load", operation.Op{Verb: operation.VCounterLoad}, true)
	return int64(a.Num), err
}

// Add adds delta, which may be negative, and returns the sum. A sum beyond 64
// bits wraps, as in sync/atomic.
func (c *Counter) Add(ctx context.Context, delta int64) (int64, error) {
	a, err := c.b.Do(ctx, "add", operation.Op{Verb: operation.VCounterAdd, A: uint64(delta)}, false)
	return int64(a.Num), err
}

// Store sets the value.
func (c *Counter) Store(ctx context.Context, v int64) error {
	_, err := c.b.Do(ctx, "store", operation.Op{Verb: operation.VCounterStore, A: uint64(v)}, false)
	return err
}

// CompareAndSet sets the value if it is old; false: it is another, and nothing
// was changed.
func (c *Counter) CompareAndSet(ctx context.Context, old, v int64) (bool, error) {
	a, err := c.b.Do(ctx, "compare and set", operation.Op{Verb: operation.VCounterCompareAndSet, A: uint64(old), B: uint64(v)}, false)
	return err == nil && a.Code == machine.OK, err
}

// Destroy ends the counter for everybody: who uses it from before gets
// ErrDestroyed once. The name may be used anew, and begins at 0.
func (c *Counter) Destroy(ctx context.Context) error { return c.b.Destroy(ctx) }
