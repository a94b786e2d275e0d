package hub

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/distgear/distgear/internal/client"
)

// Goroutines that wait for each other's locks are found from what nodes report:
// who waits for which lock, and holds which until it gets that one. A Wait holds
// what it says from its begin to its end. So those that form a cycle wait for
// ever (or until a context ends) if all of them waited at one moment: each was
// reported again in a report that was made after the last of them had been
// reported first. That is told by the numbers of the replies, and not by clocks:
// there is no false alarm.

const (
	forgetWaits = 5 * time.Second // after a node's last report; it reports every half second while it has any
	maxWaits    = 256             // of one node; those that began first
	maxLoops    = 16              // that are told
)

// waits is what nodes reported. It belongs to the authority's loop.
type waits struct {
	number uint64 // of the last report
	nodes  map[uint64]*nodeWaits
	warned map[string]time.Time // by what names a loop: when it was there last
}

type nodeWaits struct {
	name string
	at   time.Time
	seen uint64 // the report was made when this number was known
	all  map[uint64]*firstWait
}

// firstWait is a Wait and the number of the report that told it first.
type firstWait struct {
	client.Wait
	first uint64
}

// report takes up what a node reports.
func (h *authority) report(now time.Time, life uint64, r client.WaitsReport) client.WaitsReply {
	m, ok := h.machine.Member(life)
	if ok {
		if r.Hub != h.term.number {
			r.Seen = 0
		}
		h.waits.take(now, life, m.Name, r)
		h.warn(now)
	}
	return client.WaitsReply{Hub: h.term.number, Number: h.waits.number}
}

func (w *waits) take(now time.Time, life uint64, name string, r client.WaitsReport) {
	w.number++
	if w.nodes == nil {
		w.nodes = map[uint64]*nodeWaits{}
	}
	old := w.nodes[life]
	n := &nodeWaits{name: name, at: now, seen: r.Seen, all: map[uint64]*firstWait{}}
	if old != nil && r.Seen < old.seen {
		return // it was overtaken
	}
	for _, x := range r.Waits[:min(len(r.Waits), maxWaits)] {
		f := &firstWait{x, w.number}
		if old != nil && old.all[x.ID] != nil {
			f.first = old.all[x.ID].first
		}
		n.all[x.ID] = f
	}
	w.nodes[life] = n
}

// loops finds those that wait for each other.
func (w *waits) loops(now time.Time) (loops []client.Loop) {
	for life, n := range w.nodes {
		if len(n.all) == 0 || now.Sub(n.at) > forgetWaits {
			delete(w.nodes, life)
		}
	}
	type vertex struct {
		life  uint64
		first uint64
		client.LoopWait
	}
	var vs []vertex
	for life, n := range w.nodes {
		for _, x := range n.all {
			vs = append(vs, vertex{life, x.first, client.LoopWait{Node: n.name, Wait: x.Wait}})
		}
	}
	slices.SortFunc(vs, func(a, b vertex) int { return cmp.Or(cmp.Compare(a.life, b.life), cmp.Compare(a.ID, b.ID)) })
	all := make([]client.LoopWait, len(vs))
	for i := range vs {
		all[i] = vs[i].LoopWait
	}
	together := func(path []int) bool { // all of them waited at one moment
		var last uint64
		for _, i := range path {
			last = max(last, vs[i].first)
		}
		return !slices.ContainsFunc(path, func(i int) bool { return w.nodes[vs[i].life].seen < last })
	}
	for _, path := range client.FindLoops(all, maxLoops, together) {
		l := make(client.Loop, len(path))
		for i, j := range path {
			l[i] = all[j]
		}
		loops = append(loops, l)
	}
	return loops
}

// warn logs each loop when it is found.
func (h *authority) warn(now time.Time) {
	w := &h.waits
	if w.warned == nil {
		w.warned = map[string]time.Time{}
	}
	for _, l := range w.loops(now) {
		var key strings.Builder
		for _, x := range l {
			fmt.Fprintf(&key, "%s/%d ", x.Node, x.ID)
		}
		if _, known := w.warned[key.String()]; !known {
			h.log.Warn("goroutines wait for each other's locks, until a context ends", "cycle", l.String())
		}
		w.warned[key.String()] = now
	}
	for key, at := range w.warned {
		if now.Sub(at) > time.Minute {
			delete(w.warned, key)
		}
	}
}
