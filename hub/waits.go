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
		if r.Hub != uint64(h.life) {
			r.Seen = 0
		}
		h.waits.take(now, life, m.Name, r)
		h.warn(now)
	}
	return client.WaitsReply{Hub: uint64(h.life), Number: h.waits.number}
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
	for life, n := range w.nodes {
		if len(n.all) == 0 || now.Sub(n.at) > forgetWaits {
			delete(w.nodes, life)
		}
	}
}

// vertex is a Wait of a node.
type vertex struct {
	*firstWait
	life uint64
	node *nodeWaits
}

// loops finds cycles: for each wait the shortest through it, each told once.
func (w *waits) loops() (all []client.Loop) {
	var vs []vertex
	holders := map[string][]int{} // by lock
	for life, n := range w.nodes {
		for _, x := range n.all {
			vs = append(vs, vertex{x, life, n})
		}
	}
	slices.SortFunc(vs, func(a, b vertex) int { return cmp.Or(cmp.Compare(a.life, b.life), cmp.Compare(a.ID, b.ID)) })
	for i, v := range vs {
		for _, hold := range v.Holds {
			holders[hold.Lock] = append(holders[hold.Lock], i)
		}
	}
	told := make([]bool, len(vs))
	for i := range vs {
		if told[i] || len(all) == maxLoops {
			continue
		}
		if path := shortest(vs, holders, i); path != nil && together(vs, path) {
			var l client.Loop
			for _, j := range path {
				told[j] = true
				l = append(l, client.LoopWait{Node: vs[j].node.name, Wait: vs[j].Wait})
			}
			all = append(all, l)
		}
	}
	return all
}

// stands tells whether a wait is in the way of another: it holds what that one
// wants, and not both for reading.
func stands(wants, holds *client.Wait) bool {
	return slices.ContainsFunc(holds.Holds, func(h client.Hold) bool { return h.Lock == wants.Lock && (h.Write || wants.Write) })
}

// shortest is the shortest cycle from and to a vertex, or nil.
func shortest(vs []vertex, holders map[string][]int, from int) []int {
	came := map[int]int{}
	for line := []int{from}; len(line) > 0; line = line[1:] {
		at := line[0]
		for _, next := range holders[vs[at].Lock] {
			if !stands(&vs[at].Wait, &vs[next].Wait) {
				continue
			}
			if next == from {
				path := []int{at}
				for at != from {
					at = came[at]
					path = append(path, at)
				}
				slices.Reverse(path)
				return path
			}
			if _, been := came[next]; !been {
				came[next] = at
				line = append(line, next)
			}
		}
	}
	return nil
}

// together tells whether all of them waited at one moment.
func together(vs []vertex, path []int) bool {
	var last uint64
	for _, i := range path {
		last = max(last, vs[i].first)
	}
	return !slices.ContainsFunc(path, func(i int) bool { return vs[i].node.seen < last })
}

// warn logs each loop when it is found.
func (h *authority) warn(now time.Time) {
	w := &h.waits
	for _, l := range w.loops() {
		var key, text strings.Builder
		for i, x := range l {
			fmt.Fprintf(&key, "%s/%d ", x.Node, x.ID)
			if i > 0 {
				text.WriteString("; ")
			}
			text.WriteString(describe(x))
		}
		if _, known := w.warned[key.String()]; !known {
			h.log.Warn("goroutines wait for each other's locks, and will until a context ends", "cycle", text.String())
		}
		if w.warned == nil {
			w.warned = map[string]time.Time{}
		}
		w.warned[key.String()] = now
	}
	for key, at := range w.warned {
		if now.Sub(at) > time.Minute {
			delete(w.warned, key)
		}
	}
}

func describe(x client.LoopWait) string {
	held := make([]string, 0, len(x.Holds))
	for _, h := range x.Holds {
		held = append(held, h.Lock)
	}
	return fmt.Sprintf("%s on %s holds %s and waits for %s", x.Func, x.Node, strings.Join(held, ", "), x.Lock)
}
