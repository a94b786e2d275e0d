package shared

import (
	"context"
	"fmt"
	"iter"
	"time"

	"github.com/distgear/distgear"
	"github.com/distgear/distgear/internal/collections"
	"github.com/distgear/distgear/internal/machine"
	"github.com/distgear/distgear/internal/machine/maps"
	"github.com/distgear/distgear/internal/objects"
	"github.com/distgear/distgear/internal/operation"
)

// Map is a map that all nodes see. Make it with NewMap; it is safe for
// concurrent use.
//
// A key is stored as package distgear encodes values, and must be found again in
// what it becomes: a key that decodes to another one (NaN, a struct with
// unexported fields that are set, text in a struct that is not UTF-8), and one with an
// interface or a pointer in its type, is refused with ErrInvalid. A key and its value
// have at most 700 KiB together; a larger pair is refused with ErrInvalid (a process
// that is alone does not measure values). Nothing is changed then.
//
// Each change of the map has a Revision. Of every method that changes something
// an error that is ErrSessionLost, or the cause of ctx, leaves open whether it was
// done; any other says that it was not.
//
// # What a read sees
//
// Load is answered from memory if this node has read the entry before and
// nobody has changed it since: the hub tells the nodes that keep an entry when
// it changes. What was written under a lock is seen by everybody who has the lock
// afterwards, on any node, and a node sees at once what it wrote itself. Without a lock
// Load may miss, for as long as a message takes, what another node has just stored; it
// never goes back to something older than it gave before. LoadLatest asks the hub and is
// linearizable, as are all changes and Len.
//
// A node keeps up to 65,536 entries and 32 MiB of each map. A key that is not in the map
// is not kept: each Load of it asks the hub.
//
// # Values
//
// What a method returns is the caller's own if the type of values has a slice,
// map, pointer or interface in it: it is decoded each time. Only in a process that
// is alone values are handed on as they are: do not change what was stored or loaded.
// In one process a name has one type of keys and of values for as long as the
// process lives; another one is ErrMismatch. Nodes that use different types under one
// name get errors when they decode.
type Map[K comparable, V any] struct {
	n *distgear.Node
	s *collections.Map[K, V]
}

// Revision numbers the changes of a map: later ones have higher numbers. Zero is
// no entry.
type Revision uint64

// StoreOption says how an entry is stored: TTL.
type StoreOption interface{ apply(*storeOptions) }

type storeOptions struct{ ttl time.Duration }

// TTL is how long an entry stays, if it is not stored again. A part of a
// millisecond counts as a whole one; less than a nanosecond is refused with
// ErrInvalid. The time is the ledger's: it goes on when the hub is another, and stands
// still when there is none.
type TTL time.Duration

func (t TTL) apply(o *storeOptions) { o.ttl = time.Duration(t) }

// ttl is in ms; false: it makes no sense.
func ttl(opts []StoreOption) (int64, bool) {
	if len(opts) == 0 {
		return 0, true
	}
	var o storeOptions
	for _, f := range opts {
		if f != nil {
			o.ttl = -1
			f.apply(&o)
			if o.ttl <= 0 {
				return 0, false
			}
		}
	}
	return int64((o.ttl-1)/time.Millisecond) + 1, true
}

// NewMap returns the map with that name. It does no I/O.
func NewMap[K comparable, V any](n *distgear.Node, name string) *Map[K, V] {
	return &Map[K, V]{n, collections.NewMap[K, V](host(n), name)}
}

// Load reads the value of a key; false: there is none. See Map for what it sees.
func (m *Map[K, V]) Load(ctx context.Context, key K) (V, bool, error) {
	if v, _, ok, err := m.s.Kept(key); ok || err != nil {
		return v, ok, err
	}
	a, err := m.s.Call(ctx, "load", collections.Op[K, V]{Verb: operation.VMapLoad, Key: key, Keep: true})
	return a.Value, err == nil && a.Code == machine.OK, err
}

// LoadLatest reads the value of a key and its revision at the hub; revision 0:
// there is none, and the value is the zero value.
func (m *Map[K, V]) LoadLatest(ctx context.Context, key K) (V, Revision, error) {
	a, err := m.s.Call(ctx, "load", collections.Op[K, V]{Verb: operation.VMapLoad, Key: key, Keep: true})
	if err != nil {
		return a.Value, 0, err
	}
	return a.Value, Revision(a.Num), nil
}

// Store sets the value of a key. Without a TTL the entry stays for ever, also if
// it had one before.
func (m *Map[K, V]) Store(ctx context.Context, key K, v V, opts ...StoreOption) error {
	ms, ok := ttl(opts)
	if !ok {
		return m.badTTL()
	}
	_, err := m.s.Call(ctx, "store", collections.Op[K, V]{Verb: operation.VMapStore, Key: key, Value: v, Has: true, TTL: ms})
	return err
}

// LoadOrStore returns the value that a key has, with true, or stores v and
// returns it, with false.
func (m *Map[K, V]) LoadOrStore(ctx context.Context, key K, v V, opts ...StoreOption) (actual V, loaded bool, err error) {
	ms, ok := ttl(opts)
	if !ok {
		return actual, false, m.badTTL()
	}
	a, err := m.s.Call(ctx, "load or store", collections.Op[K, V]{Verb: operation.VMapLoadOrStore, Key: key, Value: v, Has: true, TTL: ms})
	if err != nil {
		return a.Value, a.Aux == 1, err
	}
	if a.Aux == 1 {
		return a.Value, true, nil
	}
	return v, false, nil
}

// CompareAndSwap stores v if the entry's revision is rev (0: if there is none),
// and returns the new revision. If it is not, ok is false, nothing is changed, and now
// is the revision that there is.
func (m *Map[K, V]) CompareAndSwap(ctx context.Context, key K, rev Revision, v V, opts ...StoreOption) (now Revision, ok bool, err error) {
	ms, fine := ttl(opts)
	if !fine {
		return 0, false, m.badTTL()
	}
	a, err := m.s.Call(ctx, "compare and swap", collections.Op[K, V]{Verb: operation.VMapCompareAndSwap, Key: key, Value: v, Has: true, Rev: uint64(rev), TTL: ms, Blind: true})
	return Revision(a.Num), err == nil && a.Code == machine.OK, err
}

// Delete removes a key; false: it was not there.
func (m *Map[K, V]) Delete(ctx context.Context, key K) (bool, error) {
	a, err := m.s.Call(ctx, "delete", collections.Op[K, V]{Verb: operation.VMapDelete, Key: key})
	return err == nil && a.Code == machine.OK, err
}

// CompareAndDelete removes a key if its revision is rev, which is not 0
// (ErrInvalid); false: it was not there, or has another one.
func (m *Map[K, V]) CompareAndDelete(ctx context.Context, key K, rev Revision) (bool, error) {
	if rev == 0 {
		return false, fmt.Errorf("%w: revision 0 is no entry", ErrInvalid)
	}
	a, err := m.s.Call(ctx, "compare and delete", collections.Op[K, V]{Verb: operation.VMapDelete, Key: key, Rev: uint64(rev), Blind: true})
	return err == nil && a.Code == machine.OK, err
}

// Swap stores v and returns what was there before; false: nothing. It is a
// CompareAndSwap that is repeated while others change the entry.
func (m *Map[K, V]) Swap(ctx context.Context, key K, v V, opts ...StoreOption) (old V, had bool, err error) {
	_, _, err = m.Compute(ctx, key, func(was V, ok bool) (V, bool) {
		old, had = was, ok
		return v, true
	}, opts...)
	return old, had, err
}

// Compute sets the value of a key to what f makes of the old one, or removes
// the key if f says not to keep it. It returns the value and whether there is one now.
// ok of f tells whether there was one. f is called in the caller's goroutine, again
// with a newer value each time that somebody else changed the entry meanwhile: it
// must have no other effect, and must not change what it is given. Of the changes
// made with Compute none is lost.
func (m *Map[K, V]) Compute(ctx context.Context, key K, f func(old V, ok bool) (v V, keep bool), opts ...StoreOption) (V, bool, error) {
	var none V
	ms, fine := ttl(opts)
	if !fine {
		return none, false, m.badTTL()
	}
	old, rev, ok, err := m.s.Kept(key)
	if err != nil {
		return none, false, err
	}
	if !ok {
		a, err := m.s.Call(ctx, "compute", collections.Op[K, V]{Verb: operation.VMapLoad, Key: key, Keep: true})
		if err != nil {
			return none, false, err
		}
		old, rev = a.Value, a.Num
	}
	for {
		v, keep := f(old, rev != 0)
		op := collections.Op[K, V]{Verb: operation.VMapCompareAndSwap, Key: key, Value: v, Has: true, Rev: rev, TTL: ms}
		if !keep {
			op = collections.Op[K, V]{Verb: operation.VMapDelete, Key: key, Rev: rev}
			if rev == 0 { // it is still so: a key without an entry was just read at the hub
				return none, false, nil
			}
		}
		a, err := m.s.Call(ctx, "compute", op)
		if err != nil {
			return none, false, err
		}
		if a.Code == machine.OK {
			if !keep {
				v = none
			}
			return v, keep, nil
		}
		if err := context.Cause(ctx); err != nil {
			return none, false, err
		}
		old, rev = a.Value, a.Num
	}
}

// Clear removes all entries in one change, and returns how many there were.
func (m *Map[K, V]) Clear(ctx context.Context) (int, error) {
	a, err := m.s.Call(ctx, "clear", collections.Op[K, V]{Verb: operation.VMapClear})
	return int(a.Aux), err
}

// Len is how many entries there are.
func (m *Map[K, V]) Len(ctx context.Context) (int, error) {
	a, err := m.s.Call(ctx, "len", collections.Op[K, V]{Verb: operation.VMapLen})
	return int(a.Num), err
}

// Entry is one of All.
type Entry[K comparable, V any] struct {
	Key      K
	Value    V
	Revision Revision
}

// All walks the entries in no order, in pages, while the map may change: an entry that
// is there from the beginning to the end comes exactly once, one that was stored or
// deleted meanwhile may come or not. Each is as it was when its page was read. The
// loop may use the map, and may stop. After an error, which comes with a zero Entry,
// it is over, unless it is ErrInvalid: then one entry could not be decoded.
func (m *Map[K, V]) All(ctx context.Context) iter.Seq2[Entry[K, V], error] {
	return func(yield func(Entry[K, V], error) bool) {
		var cursor uint64
		for {
			p, err := m.s.Page(ctx, cursor)
			if err != nil {
				yield(Entry[K, V]{}, err)
				return
			}
			for i := range p.Len {
				k, v, rev, err := p.Entry(i)
				if !yield(Entry[K, V]{k, v, Revision(rev)}, err) {
					return
				}
			}
			if p.Next == 0 {
				return
			}
			cursor = p.Next
		}
	}
}

// ChangeKind says what happened to an entry.
type ChangeKind int

// The kinds of changes.
const (
	Stored  ChangeKind = machineStored
	Deleted ChangeKind = machineDeleted
	Expired ChangeKind = machineExpired // its TTL was over
	Cleared ChangeKind = machineCleared // all entries went; the key is the zero value
)

const (
	machineStored  = maps.Stored
	machineDeleted = maps.Deleted
	machineExpired = maps.Expired
	machineCleared = maps.Cleared
)

// String is the kind in a word.
func (k ChangeKind) String() string {
	switch k {
	case Stored:
		return "stored"
	case Deleted:
		return "deleted"
	case Expired:
		return "expired"
	case Cleared:
		return "cleared"
	}
	return fmt.Sprintf("change %d", int(k))
}

// Change is one that a watcher is told.
type Change[K comparable, V any] struct {
	Kind     ChangeKind
	Key      K
	Value    V // of Stored
	Revision Revision
}

// Watch tells every change of one key from now on, in order: those after Watch
// returned, on any node. It returns when the hub knows. The loop over what it returns can
// be run once; the watch ends with it, or with ctx, whichever is first. An error is
// the last thing that comes: the cause of ctx; ErrSessionLost or ErrDestroyed;
// distgear.ErrOverloaded when the loop is 8,192 changes or 8 MiB behind, or the node 32 MiB (nobody waits
// for a slow watcher: read again and watch anew); or what Watch itself failed with.
// A change that cannot be decoded comes as ErrInvalid, and others follow.
func (m *Map[K, V]) Watch(ctx context.Context, key K) iter.Seq2[Change[K, V], error] {
	return changes(m.s.Watch(ctx, key, false))
}

// WatchAll is Watch for all keys.
func (m *Map[K, V]) WatchAll(ctx context.Context) iter.Seq2[Change[K, V], error] {
	var none K
	return changes(m.s.Watch(ctx, none, true))
}

func changes[K comparable, V any](all iter.Seq2[collections.Change[K, V], error]) iter.Seq2[Change[K, V], error] {
	return func(yield func(Change[K, V], error) bool) {
		for c, err := range all {
			if !yield(Change[K, V]{ChangeKind(c.Kind), c.Key, c.Value, Revision(c.Revision)}, err) {
				return
			}
		}
	}
}

// Key returns the mutex of a key, whether there is an entry or not. It is a lock of its
// own, which no operation of the map asks for; its name is made of those of the map and
// the key.
func (m *Map[K, V]) Key(key K) *Mutex {
	name, err := m.s.LockName(key)
	if err != nil {
		return &Mutex{objects.NoLock(m.s.Host, m.s.Name, err)}
	}
	return NewMutex(m.n, name)
}

// Destroy ends the map for everybody: entries are gone, watchers get ErrDestroyed. The
// name may be used anew.
func (m *Map[K, V]) Destroy(ctx context.Context) error { return m.s.Destroy(ctx) }

func (m *Map[K, V]) badTTL() error {
	return fmt.Errorf("%w: a TTL of map %q must be positive", ErrInvalid, m.s.Name)
}
