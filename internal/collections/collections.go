// Package collections is a node's side of what holds values of users' types: maps
// with their near caches and watchers, queues, and both of them in a process that is
// alone; and the feed of a topic's subscriber.
//
//	m := collections.NewMap[string, int](h, "ages")
//	a, err := m.Call(ctx, "store", collections.Op[string, int]{Verb: operation.VMapStore, Key: "ann", Value: 7, Has: true})
//
// Package shared is what users hold of it, and says what is promised.
package collections

import "github.com/distgear/distgear/internal/operation"

// Size is what an object of a process that is alone has to tell, which keeps its own
// state.
type Size struct {
	Kind            operation.Kind
	Name            string
	Length          int
	Takers, Putters int
}
