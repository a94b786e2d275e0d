package collections

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"sync"

	"github.com/distgear/distgear"
	"github.com/distgear/distgear/internal/client"
	"github.com/distgear/distgear/internal/machine"
	"github.com/distgear/distgear/internal/machine/maps"
	"github.com/distgear/distgear/internal/objects"
	"github.com/distgear/distgear/internal/operation"
)

// Change is one that a watcher is told.
type Change[K comparable, V any] struct {
	Kind     uint64 // of package maps
	Key      K
	Value    V
	Revision uint64
}

// Page is a part of a map's entries, not decoded.
type Page[K comparable, V any] struct {
	Len   int
	Next  uint64 // cursor of the page behind it; 0: there is none
	s     *Map[K, V]
	items []item[V]
}

// Entry decodes one.
func (p *Page[K, V]) Entry(i int) (k K, v V, rev uint64, err error) {
	e := &p.items[i]
	k, v, err = p.s.decodeItem(e)
	return k, v, e.num, err
}

// Page reads entries at a cursor; the first is 0.
func (s *Map[K, V]) Page(ctx context.Context, cursor uint64) (Page[K, V], error) {
	items, next, err := s.page(ctx, cursor)
	return Page[K, V]{len(items), next, s, items}, err
}

// item is an entry of a page, or a change, not decoded.
type item[V any] struct {
	kind uint64 // of package maps
	key  string
	raw  []byte
	v    V // instead of raw, in a process that is alone
	num  uint64
}

func (s *Map[K, V]) decodeItem(e *item[V]) (k K, v V, err error) {
	if k, err = s.keys.codec.New([]byte(e.key)); err != nil {
		return k, v, fmt.Errorf("%w: a key in map %q: %w", objects.ErrInvalid, s.Name, err)
	}
	if s.alone != nil || e.kind > maps.Stored {
		return k, e.v, nil
	}
	v, err = s.decode(e.raw)
	return k, v, err
}

// pageEntries is how many entries a page of All has at most.
const pageEntries = 1024

// pageTaker collects a page.
type pageTaker[V any] struct {
	of      machine.Session
	entries []item[V]
	next    uint64
	code    machine.Code
}

// Take implements client.Taker.
func (t *pageTaker[V]) Take(of machine.Session, o *operation.Output) bool {
	if of != t.of { // what an earlier session began to tell
		t.of, t.entries = of, nil
	}
	t.code = o.Code
	if o.Code != machine.OK || o.Aux == 0 {
		t.next = o.Num
		return true
	}
	t.entries = append(t.entries, item[V]{key: string(o.Key), raw: append([]byte(nil), o.Val...), num: o.Num})
	return false
}

func (s *Map[K, V]) page(ctx context.Context, cursor uint64) ([]item[V], uint64, error) {
	if s.Err != nil {
		return nil, 0, s.Err
	}
	if s.alone != nil {
		return s.alone.page(ctx, cursor)
	}
	t := &pageTaker[V]{}
	err := s.Object().Ask(ctx, operation.Op{Verb: operation.VMapRange, A: cursor, B: pageEntries}, t, true)
	if err != nil {
		return nil, 0, s.Fault("range", err)
	}
	if t.code != machine.OK {
		return nil, 0, fmt.Errorf("%w: range of map %q", objects.ErrInvalid, s.Name)
	}
	return t.entries, t.next, nil
}

func (e *item[V]) bytes() int { return len(e.key) + len(e.raw) + 64 }

// How far a watcher may be behind.
const (
	watchItems = 8192
	watchBytes = 8 << 20
)

// watcher is told changes, and keeps them until its loop comes for them. In a
// cluster it is a client.Receiver.
type watcher[K comparable, V any] struct {
	s   *Map[K, V]
	all bool
	key string

	of  machine.Session
	obj *client.Object

	told chan struct{} // 1: there is something new
	on   chan struct{} // closed when the hub has answered, or never will

	mu    sync.Mutex
	req   uint64 // 0: not known yet
	began bool   // on is closed
	items []item[V]
	bytes int
	err   error // after items; nothing comes any more
	ended bool  // End was sent
}

func (w *watcher[K, V]) wake() {
	select {
	case w.told <- struct{}{}:
	default:
	}
}

// push adds a change; false: no more are wanted.
func (w *watcher[K, V]) push(e item[V]) bool {
	w.mu.Lock()
	switch {
	case w.err != nil:
	case len(w.items) >= watchItems || w.bytes+e.bytes() > watchBytes && len(w.items) > 0:
		w.err = fmt.Errorf("%w: a watcher of map %q is %d changes behind; read again and watch anew", distgear.ErrOverloaded, w.s.Name, len(w.items))
	default:
		w.items = append(w.items, e)
		w.bytes += e.bytes()
	}
	more := w.err == nil
	w.mu.Unlock()
	w.wake()
	return more
}

// finish says the last thing; only the first counts.
func (w *watcher[K, V]) finish(err error) {
	w.mu.Lock()
	if w.err == nil {
		w.err = err
	}
	w.mu.Unlock()
	w.wake()
}

func (w *watcher[K, V]) answered() {
	w.mu.Lock()
	if !w.began {
		w.began = true
		close(w.on)
	}
	w.mu.Unlock()
}

// Output implements client.Receiver.
func (w *watcher[K, V]) Output(o *operation.Output) bool {
	switch o.Code {
	case machine.OK:
		w.answered()
		return false
	case machine.Changed:
		e := item[V]{kind: o.Aux, key: string(o.Key), num: o.Num}
		if o.Aux == maps.Stored {
			e.raw = append([]byte(nil), o.Val...)
		}
		if !w.push(e) {
			w.end()
		}
		return false
	case machine.Refused: // the hub has told this node much that it has not heard
		w.finish(fmt.Errorf("%w: the node of a watcher of map %q is too far behind; read again and watch anew", distgear.ErrOverloaded, w.s.Name))
	case machine.Gone:
		w.finish(w.s.Fault("watch", client.ErrGone))
	default:
		w.finish(fmt.Errorf("%w: watch of map %q", objects.ErrInvalid, w.s.Name))
	}
	w.answered()
	return true
}

// Lost implements client.Receiver.
func (w *watcher[K, V]) Lost() {
	w.finish(fmt.Errorf("%w while watching map %q: changes may be missing", objects.ErrSessionLost, w.s.Name))
	w.answered()
}

// begin makes the hub tell.
func (w *watcher[K, V]) begin(ctx context.Context) error {
	s := w.s
	if s.alone != nil {
		return s.alone.begin(ctx, w)
	}
	for {
		obj := s.Object()
		of, err := obj.Open(ctx)
		if err != nil {
			return s.Fault("watch", err)
		}
		var all uint64
		if w.all {
			all = 1
		}
		w.obj, w.of = obj, of
		req, err := obj.Start(of, w, operation.Op{Verb: operation.VMapWatch, Key: []byte(w.key), A: all})
		switch {
		case err == nil:
		case errors.Is(err, client.ErrLost):
			continue
		default:
			return s.Fault("watch", err)
		}
		w.mu.Lock()
		w.req = req
		over := w.err != nil
		w.mu.Unlock()
		if over { // before its number was known
			w.end()
		}
		select {
		case <-w.on:
			return nil
		case <-ctx.Done():
			w.end()
			return context.Cause(ctx)
		}
	}
}

// end makes the hub tell no more.
func (w *watcher[K, V]) end() {
	w.finish(context.Canceled)
	if w.s.alone != nil {
		w.s.alone.end(w)
		return
	}
	w.mu.Lock()
	req := w.req
	if w.ended {
		req = 0
	}
	w.ended = w.ended || req != 0
	w.mu.Unlock()
	if req != 0 {
		w.obj.End(w.of, req, operation.Op{Verb: operation.VMapUnwatch, A: req})
	}
}

// Watch tells every change of a key, or of all, from now on; what it returns is
// run once.
func (s *Map[K, V]) Watch(ctx context.Context, k K, all bool) iter.Seq2[Change[K, V], error] {
	fail := func(err error) iter.Seq2[Change[K, V], error] {
		return func(yield func(Change[K, V], error) bool) { yield(Change[K, V]{}, err) }
	}
	if s.Err != nil {
		return fail(s.Err)
	}
	w := &watcher[K, V]{s: s, all: all, told: make(chan struct{}, 1), on: make(chan struct{})}
	if !all {
		b, err := s.keys.append(nil, k)
		if err != nil {
			return fail(err)
		}
		w.key = string(b)
	}
	if err := w.begin(ctx); err != nil {
		return fail(err)
	}
	unhook := context.AfterFunc(ctx, func() {
		w.finish(context.Cause(ctx))
		w.end()
	})
	return func(yield func(Change[K, V], error) bool) {
		defer w.end()
		defer unhook()
		for {
			w.mu.Lock()
			items, err := w.items, w.err
			w.items, w.bytes = nil, 0
			w.mu.Unlock()
			if err := context.Cause(ctx); err != nil {
				yield(Change[K, V]{}, err)
				return
			}
			for i := range items {
				if !yield(s.change(&items[i])) {
					return
				}
			}
			if len(items) > 0 {
				continue
			}
			if err != nil {
				yield(Change[K, V]{}, err)
				return
			}
			select {
			case <-w.told:
			case <-ctx.Done():
			}
		}
	}
}

func (s *Map[K, V]) change(e *item[V]) (c Change[K, V], err error) {
	c.Kind, c.Revision = e.kind, e.num
	if e.kind != maps.Cleared {
		c.Key, c.Value, err = s.decodeItem(e)
	}
	return c, err
}
