package durable

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

// inline is how large an encoded input or result may be that is kept with its
// task, in bytes. What is larger goes to the engine's object store, and the task has a
// reference to it; the hub deletes what no task refers to.
const inline = 64 << 10

// MaxValue is how large an encoded input or result may be, in bytes.
const MaxValue = engine.MaxObject

// storeTime is how long it may take to store or to fetch a large value.
const storeTime = 2 * time.Minute

// storeValue stores a value if it is large: then what it returns is a reference.
// what tells a task's values apart.
func storeValue(ctx context.Context, r *room.Room, executor, id, what string, val []byte) ([]byte, error) {
	if len(val) <= inline {
		return val, nil
	}
	if len(val) > MaxValue {
		return nil, fmt.Errorf("%w: task %q has %d bytes encoded, %d are allowed: keep large data elsewhere, and pass its name", fault.ErrInvalid, id, len(val), MaxValue)
	}
	ctx, cancel := context.WithTimeout(ctx, storeTime)
	defer cancel()
	ref := wire.Ref{Name: wire.TaskObject(executor, id, what+"-"+strconv.FormatUint(rand.Uint64(), 36)), Size: uint64(len(val))}
	if err := r.Ledger.Store().Put(ctx, ref.Name, val); err != nil {
		return nil, fmt.Errorf("storing %d bytes of task %q: %w", len(val), id, err)
	}
	return wire.AppendRef(nil, ref), nil
}

// fetch gets a large value, on a goroutine of the node.
type fetch struct {
	q   *queue
	ref wire.Ref
	got func(payload []byte, err error)
}

// Run implements runner.Task.
func (f *fetch) Run() {
	ctx, cancel := context.WithTimeout(f.q.ctx, storeTime)
	defer cancel()
	payload, err := f.q.room.Ledger.Store().Get(ctx, f.ref.Name)
	if err == nil && uint64(len(payload)) != f.ref.Size {
		err = fmt.Errorf("%w: %d bytes were stored, %d are there", fault.ErrInvalid, f.ref.Size, len(payload))
	}
	f.got(payload, err)
}

// store keeps a large result, on a goroutine of the node.
type store struct {
	q       *queue
	id      string
	epoch   uint32
	payload []byte
	put     func(val []byte, err error)
}

// Run implements runner.Task.
func (s *store) Run() {
	val, err := storeValue(s.q.ctx, s.q.room, s.q.name, s.id, "out-"+strconv.FormatUint(uint64(s.epoch), 10), s.payload)
	s.put(val, err)
}
