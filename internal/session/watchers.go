package session

import (
	"slices"
	"sync"

	"github.com/distgear/distgear/internal/machine/members"
)

// maxPending is how many changes a slow watcher may be behind before older
// states of a member give way to newer ones.
const maxPending = 1024

// Watchers are told of each change of the view, in order. The zero value has none;
// it is safe for concurrent use.
type Watchers struct {
	mu  sync.Mutex
	all map[*Watcher]bool
}

// Watcher holds the changes that were not taken yet.
type Watcher struct {
	More chan struct{} // 1: there is something to take

	of      *Watchers
	pending []*members.Member
}

// Add returns a watcher that begins with what now returns, and misses nothing
// after that.
func (x *Watchers) Add(now func() []*members.Member) *Watcher {
	w := &Watcher{More: make(chan struct{}, 1), of: x}
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.all == nil {
		x.all = map[*Watcher]bool{}
	}
	x.all[w] = true
	for _, m := range now() {
		w.put(m)
	}
	return w
}

// Remove ends a watcher.
func (x *Watchers) Remove(w *Watcher) {
	x.mu.Lock()
	defer x.mu.Unlock()
	delete(x.all, w)
}

// Put tells all of a change.
func (x *Watchers) Put(m *members.Member) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for w := range x.all {
		w.put(m)
	}
}

func (w *Watcher) put(m *members.Member) {
	if len(w.pending) >= maxPending {
		w.pending = slices.DeleteFunc(w.pending, func(o *members.Member) bool { return o.Name == m.Name })
	}
	w.pending = append(w.pending, m)
	signal(w.More)
}

// Take takes what there is, the oldest first.
func (w *Watcher) Take() []*members.Member {
	w.of.mu.Lock()
	defer w.of.mu.Unlock()
	ms := w.pending
	w.pending = nil
	return ms
}
