// Package values keeps encoded inputs and results of tasks that are too large for
// messages in the engine's object store. What travels instead is a wire.Ref.
//
//	ref, err := values.Store(ctx, r, executor, task, "in", val)
//	if ref, ok := values.Ref(payload); ok {
//		payload, err = values.Fetch(ctx, r, ref)
//	}
//
// # Guarantees
//
// A value that was stored is there until Drop; the hub drops those whose task the
// ledger has not (any more): see hub's sweep.
//
// # Failures
//
// While the servers do not answer Store and Fetch try again, for two minutes at most.
package values

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/distgear/distgear/internal/engine"
	"github.com/distgear/distgear/internal/fault"
	"github.com/distgear/distgear/internal/room"
	"github.com/distgear/distgear/internal/wire"
)

// Max is how large an encoded input or result may be, in bytes.
const Max = engine.MaxObject

const (
	// storeTime is how long it may take to store or to fetch a value.
	storeTime = 2 * time.Minute
	// dropTime is how long it may take to drop one.
	dropTime = 30 * time.Second
)

// ErrGone is the error of Fetch when nothing is stored there (any more).
var ErrGone = engine.ErrNoObject

// TooLarge is the error of an input or result of a kind that has n bytes; nil if it may.
func TooLarge(what, kind string, n int) error {
	if n <= Max {
		return nil
	}
	return fmt.Errorf("%w: %s of %s has %d bytes encoded, %d are allowed: keep large data elsewhere, and pass its name", fault.ErrInvalid, what, kind, n, Max)
}

// Fast is what stands for an executor in the names of values of tasks that are not in
// the ledger: no executor there has such a name.
func Fast(executor string) string { return "fast:" + executor }

// Store stores a value, and returns a reference to it. what tells a task's values apart.
func Store(ctx context.Context, r *room.Room, executor, task, what string, val []byte) ([]byte, error) {
	if err := TooLarge("a value", "task "+task, len(val)); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, storeTime)
	defer cancel()
	ref := wire.Ref{Name: wire.TaskObject(executor, task, what+"-"+strconv.FormatUint(rand.Uint64(), 36)), Size: uint64(len(val))}
	if err := r.Ledger.Store().Put(ctx, ref.Name, val); err != nil {
		return nil, fmt.Errorf("storing %d bytes of task %s: %w", len(val), task, err)
	}
	return wire.AppendRef(nil, ref), nil
}

// Ref is what a payload refers to; false: it is a value itself.
func Ref(payload []byte) (wire.Ref, bool) {
	if !wire.IsRef(payload) {
		return wire.Ref{}, false
	}
	return wire.ParseRef(string(payload))
}

// Fetch is the value that a reference is for.
func Fetch(ctx context.Context, r *room.Room, ref wire.Ref) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, storeTime)
	defer cancel()
	b, err := r.Ledger.Store().Get(ctx, ref.Name)
	if err == nil && uint64(len(b)) != ref.Size {
		err = fmt.Errorf("%w: %d bytes were stored, %d are there", fault.ErrInvalid, ref.Size, len(b))
	}
	return b, err
}

// Drop drops a value that nobody needs any more, soon, on a goroutine of the node.
// If ctx ends, or the servers do not answer, it is left to the hub.
func Drop(ctx context.Context, r *room.Room, ref wire.Ref) { r.Pool.Go(&drop{ctx, r, ref.Name}) }

type drop struct {
	ctx  context.Context //nolint:containedctx // a call that is on its way to a goroutine
	r    *room.Room
	name string
}

// Run implements runner.Task.
func (d *drop) Run() {
	ctx, cancel := context.WithTimeout(d.ctx, dropTime)
	defer cancel()
	_ = d.r.Ledger.Store().Delete(ctx, d.name) // else the hub does
}
