package shared

import (
	"bytes"
	"context"
	"fmt"
	"sync"

	"github.com/distgear/distgear"
	"github.com/distgear/distgear/internal/codec"
	"github.com/distgear/distgear/internal/machine"
	"github.com/distgear/distgear/internal/machine/maps"
	"github.com/distgear/distgear/internal/shard"
)

const (
	machineStored  = maps.Stored
	machineDeleted = maps.Deleted
	machineExpired = maps.Expired
	machineCleared = maps.Cleared
)

// mapState is a map as one node knows it: one for a name.
type mapState[K comparable, V any] struct {
	*base

	keys   keyCodec[K]
	vals   codec.Of[V]
	copies bool // decoded values can be handed out

	near  near[K, V]
	alone *aloneMap[K, V] // instead of a session with a hub
	calls sync.Pool       // of *mapCall
}

func newMapState[K comparable, V any](n *distgear.Node, name string) *mapState[K, V] {
	r := n.Room()
	v := r.Value(key{shard.KMap, name, 0}, func() any {
		s := &mapState[K, V]{keys: newKeyCodec[K](), vals: codec.For[V](), copies: codec.Copies[V]()}
		s.calls.New = func() any { return &mapCall[K, V]{s: s} }
		s.base = makeBase(r, shard.KMap, name, 0, s)
		if s.err == nil {
			s.err = s.keys.err
		}
		if r.Ledger.Alone() {
			s.alone = newAloneMap(s)
		}
		return s
	})
	if s, ok := v.(*mapState[K, V]); ok {
		return s
	}
	s := &mapState[K, V]{base: makeBase(r, shard.KMap, name, 0, nil)}
	s.err = fmt.Errorf("%w: map %q has other types of keys and values in this process: %T", ErrMismatch, name, v)
	return s
}

// mapOp is an operation on a map.
type mapOp[K comparable, V any] struct {
	verb  shard.Verb
	k     K
	v     V
	hasV  bool
	keep  bool
	blind bool // the value of the answer is not wanted
	rev   uint64
	ttl   int64 // ms
}

// keyed tells that the operation has a key.
func (o *mapOp[K, V]) keyed() bool { return o.verb != shard.VMapClear && o.verb != shard.VMapLen }

// mapAnswer is its answer; package maps says what it means.
type mapAnswer[V any] struct {
	code     machine.Code
	num, aux uint64
	v        V
}

// mapCall is an operation under way to the hub.
type mapCall[K comparable, V any] struct {
	s        *mapState[K, V]
	k        K
	verb     shard.Verb
	key, val []byte // as sent
	cell     *cell[V]
	code     machine.Code
	num, aux uint64
	got      []byte // the value of the answer, not to be changed
}

// Take implements client.Taker.
func (c *mapCall[K, V]) Take(of machine.Session, o *shard.Output) bool {
	c.code, c.num, c.aux = o.Code, o.Num, o.Aux
	c.got = nil
	if len(o.Val) > 0 {
		c.got = bytes.Clone(o.Val)
	}
	c.s.near.answered(c, of, o.Req)
	return true
}

// do carries out an operation: at the hub, or here.
func (s *mapState[K, V]) do(ctx context.Context, what string, op mapOp[K, V]) (a mapAnswer[V], err error) {
	if s.err != nil {
		return a, s.err
	}
	if s.alone != nil {
		return s.alone.do(ctx, what, &op)
	}
	c := s.calls.Get().(*mapCall[K, V])
	c.k, c.verb = op.k, op.verb
	if op.keyed() {
		if c.key, err = s.keys.append(c.key[:0], op.k); err != nil {
			return a, err
		}
	} else {
		c.key = c.key[:0]
	}
	c.val = c.val[:0]
	if op.hasV {
		if c.val, err = s.vals.Append(c.val, op.v); err != nil {
			return a, fmt.Errorf("%w: value: %w", ErrInvalid, err)
		}
	}
	var keep uint64
	if op.keep {
		keep = 1
	}
	o := shard.Op{Verb: op.verb, Key: c.key, Val: c.val, A: op.rev | keep, B: uint64(op.ttl)}
	err = s.object().Ask(ctx, o, c, op.verb == shard.VMapLoad || op.verb == shard.VMapLen)
	if err != nil {
		return a, s.fault(what, err) // c may still be used by others
	}
	a.code, a.num, a.aux = c.code, c.num, c.aux
	got, cell := c.got, c.cell
	c.got, c.cell = nil, nil
	s.calls.Put(c)
	switch {
	case a.code == machine.Invalid:
		return a, fmt.Errorf("%w: %s of %s %q", ErrInvalid, what, s.kind, s.name)
	case op.blind:
	case cell != nil && op.verb == shard.VMapLoad:
		a.v, err = s.value(cell)
	default:
		a.v, err = s.decode(got)
	}
	return a, err
}

func (s *mapState[K, V]) decode(b []byte) (V, error) {
	v, err := s.vals.New(b)
	if err != nil {
		err = fmt.Errorf("%w: a value in map %q: %w", ErrInvalid, s.name, err)
	}
	return v, err
}

// kept reads what this node keeps of an entry; ok tells that it does. An error is
// one that the hub could not help with.
func (s *mapState[K, V]) kept(k K) (v V, rev uint64, ok bool, err error) {
	if s.err != nil { // such a key may not even be one of a Go map
		return v, 0, false, s.err
	}
	if s.alone != nil {
		v, rev, ok = s.alone.load(k)
		return v, rev, ok, nil
	}
	c := s.near.load(k)
	if c == nil || !s.room.Ledger.Valid(c.of) {
		return v, 0, false, nil
	}
	v, err = s.value(c)
	return v, c.rev, err == nil, err
}

// value is that of a cell, decoded in the goroutine of who wants it.
func (s *mapState[K, V]) value(c *cell[V]) (V, error) {
	if p := c.v.Load(); p != nil {
		return *p, nil
	}
	v, err := s.decode(c.raw)
	if err == nil && s.copies {
		c.v.Store(&v)
	}
	return v, err
}

// Event implements client.Sink.
func (s *mapState[K, V]) Event(o *shard.Output) {
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
func (s *mapState[K, V]) Lost() {
	if s.alone != nil {
		s.alone.close()
		return
	}
	s.near.lost()
}

func (s *mapState[K, V]) destroy(ctx context.Context) error {
	if s.err != nil {
		return s.err
	}
	err := s.base.destroy(ctx)
	if s.alone != nil && err == nil {
		s.alone.destroy()
	}
	return err
}
