package collections

import (
	"bytes"
	"context"
	"fmt"
	"reflect"
	"sync"

	"github.com/distgear/distgear/internal/codec"
	"github.com/distgear/distgear/internal/machine"
	"github.com/distgear/distgear/internal/machine/maps"
	"github.com/distgear/distgear/internal/objects"
	"github.com/distgear/distgear/internal/operation"
)

// Map is a map as one node knows it: one for a name.
type Map[K comparable, V any] struct {
	*objects.Base

	keys   keyCodec[K]
	vals   codec.Of[V]
	copies bool // decoded values can be handed out

	near  near[K, V]
	alone *aloneMap[K, V] // instead of a session with a hub
	calls sync.Pool       // of *mapCall
}

// NewMap returns the node's map with that name.
func NewMap[K comparable, V any](h objects.Host, name string) *Map[K, V] {
	id := objects.ID{Kind: operation.KMap, Name: name}
	v := h.Room.Value(id, func() any {
		s := &Map[K, V]{keys: newKeyCodec[K](), vals: codec.For[V](), copies: codec.Copies[V]()}
		s.calls.New = func() any { return &mapCall[K, V]{s: s} }
		s.Base = objects.New(h, id, s)
		if s.Err == nil {
			s.Err = s.keys.err
		}
		if h.Room.Ledger.Alone() {
			s.alone = newAloneMap(s)
		}
		return s
	})
	if s, ok := v.(*Map[K, V]); ok {
		return s
	}
	s := &Map[K, V]{Base: objects.New(h, id, nil)}
	s.Err = fmt.Errorf("%w: map %q has other types of keys and values in this process: %s, not %v", objects.ErrMismatch, name, v, s)
	return s
}

// Op is an operation on a map.
type Op[K comparable, V any] struct {
	Verb  operation.Verb
	Key   K
	Value V
	Has   bool // a Value
	Keep  bool // what is read
	Blind bool // the value of the answer is not wanted
	Rev   uint64
	TTL   int64 // ms
}

// keyed tells that the operation has a key.
func (o *Op[K, V]) keyed() bool { return o.Verb != operation.VMapClear && o.Verb != operation.VMapLen }

// Answer is its answer; package maps says what it means.
type Answer[V any] struct {
	Code     machine.Code
	Num, Aux uint64
	Value    V
}

// mapCall is an operation under way to the hub.
type mapCall[K comparable, V any] struct {
	s        *Map[K, V]
	k        K
	verb     operation.Verb
	key, val []byte // as sent
	cell     *cell[V]
	code     machine.Code
	num, aux uint64
	got      []byte // the value of the answer, not to be changed
}

// Take implements client.Taker.
func (c *mapCall[K, V]) Take(of machine.Session, o *operation.Output) bool {
	c.code, c.num, c.aux = o.Code, o.Num, o.Aux
	c.got = nil
	if len(o.Val) > 0 {
		c.got = bytes.Clone(o.Val)
	}
	c.s.near.answered(c, of, o.Req)
	return true
}

// Call carries out an operation: at the hub, or here.
func (s *Map[K, V]) Call(ctx context.Context, what string, op Op[K, V]) (a Answer[V], err error) {
	if s.Err != nil {
		return a, s.Err
	}
	if s.alone != nil {
		return s.alone.do(ctx, what, &op)
	}
	c := s.calls.Get().(*mapCall[K, V])
	c.k, c.verb = op.Key, op.Verb
	if op.keyed() {
		if c.key, err = s.keys.append(c.key[:0], op.Key); err != nil {
			return a, err
		}
	} else {
		c.key = c.key[:0]
	}
	c.val = c.val[:0]
	if op.Has {
		if c.val, err = s.vals.Append(c.val, op.Value); err != nil {
			return a, fmt.Errorf("%w: value: %w", objects.ErrInvalid, err)
		}
	}
	var keep uint64
	if op.Keep {
		keep = 1
	}
	o := operation.Op{Verb: op.Verb, Key: c.key, Val: c.val, A: op.Rev | keep, B: uint64(op.TTL)}
	err = s.Object().Ask(ctx, o, c, op.Verb == operation.VMapLoad || op.Verb == operation.VMapLen)
	if err != nil { // c may still be used by others
		if op.Verb != operation.VMapLoad && op.Verb != operation.VMapLen {
			s.near.doubt(c)
		}
		return a, s.Fault(what, err)
	}
	a.Code, a.Num, a.Aux = c.code, c.num, c.aux
	got, cell := c.got, c.cell
	c.got, c.cell = nil, nil
	s.calls.Put(c)
	switch {
	case a.Code == machine.Invalid:
		return a, fmt.Errorf("%w: %s of %s %q", objects.ErrInvalid, what, s.Kind, s.Name)
	case op.Blind:
	case cell != nil && op.Verb == operation.VMapLoad:
		a.Value, err = s.value(cell)
	default:
		a.Value, err = s.decode(got)
	}
	return a, err
}

func (s *Map[K, V]) decode(b []byte) (V, error) {
	v, err := s.vals.New(b)
	if err != nil {
		err = fmt.Errorf("%w: a value in map %q: %w", objects.ErrInvalid, s.Name, err)
	}
	return v, err
}

// Kept reads what this node keeps of an entry; ok tells that it does. An error is
// one that the hub could not help with.
func (s *Map[K, V]) Kept(k K) (v V, rev uint64, ok bool, err error) {
	if s.Err != nil { // such a key may not even be one of a Go map
		return v, 0, false, s.Err
	}
	if s.alone != nil {
		v, rev, ok = s.alone.load(k)
		return v, rev, ok, nil
	}
	c := s.near.load(k)
	if c == nil || !s.Room.Ledger.Valid(c.of) {
		return v, 0, false, nil
	}
	v, err = s.value(c)
	return v, c.rev, err == nil, err
}

// value is that of a cell, decoded in the goroutine of who wants it.
func (s *Map[K, V]) value(c *cell[V]) (V, error) {
	if p := c.v.Load(); p != nil {
		return *p, nil
	}
	v, err := s.decode(c.raw)
	if err == nil && s.copies {
		c.v.Store(&v)
	}
	return v, err
}

// String is the type of its keys and values.
func (s *Map[K, V]) String() string { return reflect.TypeFor[map[K]V]().String() }

// Event implements client.Sink.
func (s *Map[K, V]) Event(o *operation.Output) {
	if s.alone != nil {
		return
	}
	switch {
	case o.Code == machine.Gone, o.Code == machine.Changed && o.Aux == maps.Cleared:
		s.near.clear()
	case o.Code == machine.Changed:
		s.near.remove(o.Key)
	}
}

// Lost implements client.Sink.
func (s *Map[K, V]) Lost() {
	if s.alone != nil {
		s.alone.close()
		return
	}
	s.near.lost()
}

// Destroy destroys the map for everybody.
func (s *Map[K, V]) Destroy(ctx context.Context) error {
	if s.Err != nil {
		return s.Err
	}
	err := s.Base.Destroy(ctx)
	if s.alone != nil && err == nil {
		s.alone.destroy()
	}
	return err
}

// KeepAtMost makes the node keep so many entries, before the map is used: for
// tests.
func (s *Map[K, V]) KeepAtMost(entries int) { s.near.most = entries }

// Keeps is how many entries the node keeps.
func (s *Map[K, V]) Keeps() int {
	s.near.mu.Lock()
	defer s.near.mu.Unlock()
	return len(s.near.ring)
}

// Size is what the map of a process that is alone has to tell.
func (s *Map[K, V]) Size() Size {
	z := Size{Kind: s.Kind, Name: s.Name}
	if a := s.alone; a != nil {
		a.mu.Lock()
		z.Length = a.m.Entries()
		a.mu.Unlock()
	}
	return z
}
