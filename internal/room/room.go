// Package room is what a node gives the packages that stand on it (shared,
// executor, …): its session with the ledger, and a place for what they keep for
// each node.
//
//	r := n.Room()
//	reg := r.Value(key{}, func() any { return newRegistry(r) }).(*registry)
//
// # Guarantees
//
// A Room lives as long as its node: what is kept in it is not closed, but the
// ledger's session ends when the node leaves.
package room

import (
	"context"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"
	"weak"

	"github.com/distgear/distgear/internal/client"
)

// Room is a node's. It is safe for concurrent use.
type Room struct {
	Node   string         // its name
	Ledger *client.Client // opens its session when it is first used
	Logger *slog.Logger
	// Ask asks the hub and waits for its answer; kind is one of package client's.
	// Nil: the node is alone.
	Ask func(ctx context.Context, kind string, in []byte) ([]byte, error)
	Works
	// Waiters are those of locks, for use again. A node has its own: in a bubble of
	// testing/synctest the channels of another are of no use.
	Waiters sync.Pool

	mu     sync.Mutex
	values map[any]*value
	guests guests
}

type value struct {
	once sync.Once
	v    any
	made atomic.Bool // v is there
	live func() any  // instead of v: what it is, or nil when nobody holds it any more
}

// Value is what is kept under a key; it is made, once, when there is nothing
// yet. What makes it may ask for other keys.
func (r *Room) Value(key any, fresh func() any) any {
	r.mu.Lock()
	v := r.values[key]
	if v == nil {
		if r.values == nil {
			r.values = map[any]*value{}
		}
		v = &value{}
		r.values[key] = v
	}
	r.mu.Unlock()
	v.once.Do(func() {
		v.v = fresh()
		v.made.Store(true)
	})
	return v.v
}

// Shared is what those who hold it have in common under a key: when nobody holds
// it any more it is forgotten, and made again for the next one. What makes it must not
// ask for other keys; a key has one type, and is not one of Value's.
func Shared[T any](r *Room, key any, fresh func() *T) *T {
	r.mu.Lock()
	defer r.mu.Unlock()
	if v := r.values[key]; v != nil {
		if p := v.live(); p != nil {
			return p.(*T)
		}
	}
	if r.values == nil {
		r.values = map[any]*value{}
	}
	p := fresh()
	w := weak.Make(p)
	v := &value{live: func() any {
		if p := w.Value(); p != nil {
			return p
		}
		return nil
	}}
	r.values[key] = v
	runtime.AddCleanup(p, func(v *value) { r.forget(key, v) }, v)
	return p
}

func (r *Room) forget(key any, v *value) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.values[key] == v { // otherwise: it was made again meanwhile
		delete(r.values, key)
	}
}

// Values are all values that are kept.
func (r *Room) Values() []any {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := make([]any, 0, len(r.values))
	for _, v := range r.values {
		if v.live != nil {
			if p := v.live(); p != nil {
				all = append(all, p)
			}
		} else if v.made.Load() {
			all = append(all, v.v)
		}
	}
	return all
}
