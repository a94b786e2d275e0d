package durable

import (
	"context"
	"strconv"

	"github.com/distgear/distgear/internal/room"
	"github.com/distgear/distgear/internal/wire"
	"github.com/distgear/distgear/internal/work/values"
)

// inline is how large an encoded input or result may be that is kept with its
// task, in bytes. What is larger goes to the engine's object store, and the task has a
// reference to it; the hub deletes what no task refers to.
const inline = 64 << 10

// storeValue stores a value if it is large: then what it returns is a reference.
// what tells a task's values apart.
func storeValue(ctx context.Context, r *room.Room, executor, id, what string, val []byte) ([]byte, error) {
	if len(val) <= inline {
		return val, nil
	}
	return values.Store(ctx, r, executor, id, what, val)
}

// fetch gets a large value, on a goroutine of the node.
type fetch struct {
	q   *queue
	ref wire.Ref
	got func(payload []byte, err error)
}

// Run implements runner.Task.
func (f *fetch) Run() {
	payload, err := values.Fetch(f.q.ctx, f.q.room, f.ref)
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
