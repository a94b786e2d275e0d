package geartest

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/distgear/distgear"
	"github.com/distgear/distgear/cluster"
)

// hubChild is the role of the scenarios' hubs, which Main knows by itself.
const hubChild = "geartest hub"

// world is one placement and mode: hubs, links and nodes, and what happens to them.
type world struct {
	t         testing.TB
	m         *Matrix
	placement Placement
	mode      Mode
	rand      *rand.Rand // of the test's goroutine
	log       *testLog

	here  *distgear.Node // the hub in this process
	leave []func()       // of all nodes
	hubs  *HubProcesses
	size  int // how many hubs
	links []*Proxy
	nodes []*distgear.Node // of the parts
}

func newWorld(t testing.TB, m *Matrix, placement Placement, mode Mode) *world {
	t.Helper()
	w := &world{t: t, m: m, placement: placement, mode: mode, log: &testLog{to: t.Output()}}
	t.Cleanup(w.log.end)
	w.rand = rand.New(rand.NewPCG(m.Seed, 1<<63))
	if placement == OnOneNode {
		n := w.start(distgear.Config{Name: "alone"})
		for range m.Count {
			w.nodes = append(w.nodes, n)
		}
		return w
	}
	switch mode {
	case Restarts, Absences:
		w.size = 1
	case Failovers:
		w.size = 3
	default:
		w.here = w.start(distgear.Config{Name: "hub", Serve: "127.0.0.1:0"})
	}
	if w.size > 0 { // one has its ledger on disk, three have each other
		w.hubs = StartHubs(t, Hubs{Role: hubChild, Count: w.size, Disk: w.size == 1, TTL: w.ttl()})
	}
	if placement == OnNodes {
		for i := range m.Count {
			w.nodes = append(w.nodes, w.join(cluster.NodeName(fmt.Sprint("part-", i))))
		}
	}
	return w
}

// ttl is the time-to-live of nodes' sessions: with the ledger they have three times as long.
func (w *world) ttl() time.Duration {
	if w.mode == Absences || w.mode == Isolations {
		return 300 * time.Millisecond
	}
	return fastTTL
}

func (w *world) url() string {
	if w.here != nil {
		return w.here.HubURL()
	}
	return w.hubs.URLs()
}

// start starts a node in this process.
func (w *world) start(cfg distgear.Config) *distgear.Node {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	defer cancel()
	cfg.TTL = w.ttl()
	cfg.Logger = slog.New(slog.NewTextHandler(w.log, nil)).With("at", cfg.Name)
	n, err := distgear.Join(ctx, cfg)
	if err != nil {
		w.t.Fatalf("node %s: %v", cfg.Name, err)
	}
	leave := func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := n.Leave(ctx); err != nil {
			w.t.Errorf("node %s: leaving: %v", cfg.Name, err)
		}
	}
	w.leave = append(w.leave, leave)
	w.t.Cleanup(leave)
	return n
}

// join starts a node that reaches the hub through a link of its own, where links are cut.
func (w *world) join(name cluster.NodeName) *distgear.Node {
	w.t.Helper()
	hub := w.url()
	if w.mode == Cuts || w.mode == Isolations {
		link := NewProxy(w.t, hostPort(w.t, hub))
		w.links = append(w.links, link)
		hub = "nats://" + link.Addr()
	}
	return w.start(distgear.Config{Name: name, Hub: hub})
}

// leaveAll lets all nodes leave while there are hubs: the clean-up of a hub that was started again comes before that of the nodes.
func (w *world) leaveAll() {
	for _, leave := range slices.Backward(w.leave) {
		leave()
	}
}

// quiet lets time pass.
func (w *world) quiet(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-w.t.Context().Done():
	}
}

// badDay is what happens while scenarios run; it returns when it is over.
func (w *world) badDay() {
	w.t.Helper()
	end := time.Now().Add(w.m.Least)
	if w.placement != OnOneNode && (w.hubs != nil || len(w.links) > 0) {
		for range w.m.Faults {
			w.quiet(w.m.Every)
			w.fault()
		}
		w.quiet(w.m.Every)
	}
	w.quiet(time.Until(end))
}

// cutTime is how long a link is cut.
const cutTime = 100 * time.Millisecond

// fault is one bad thing, until it is over.
func (w *world) fault() {
	w.t.Helper()
	if w.mode == Cuts {
		var cut []*Proxy
		for _, l := range w.links {
			if len(cut) == 0 || w.rand.IntN(2) == 0 {
				cut = append(cut, l)
				l.Cut()
			}
		}
		w.quiet(cutTime)
		for _, l := range cut {
			if w.rand.IntN(2) == 0 {
				l.Reset()
			}
			l.Heal()
		}
		return
	}
	if w.mode == Isolations {
		l := w.links[w.rand.IntN(len(w.links))]
		l.Cut()
		w.quiet(5 * w.ttl()) // the ledger's sessions have 3
		l.Heal()
		return
	}
	i := 0
	if w.size > 1 {
		if i = w.rand.IntN(w.size); w.rand.IntN(2) == 0 {
			i = w.hubs.Writer()
		}
	}
	if w.mode == Failovers && w.rand.IntN(2) == 0 {
		w.hubs.Freeze(i)
		w.quiet(w.m.Every + 3*time.Second)
		w.hubs.Thaw(i)
		return
	}
	w.hubs.Kill(i)
	switch w.mode {
	case Absences:
		w.quiet(5 * w.ttl()) // the ledger's sessions have 3
	case Failovers:
		w.quiet(w.m.Every + 3*time.Second) // the others work on meanwhile
	default:
	}
	w.again(i)
}

// again starts a hub that was killed.
func (w *world) again(i int) {
	w.t.Helper()
	began := time.Now()
	w.hubs.Start(i)
	w.t.Logf("hub %d took %v to serve again", i, time.Since(began).Round(time.Millisecond))
}

// lastFault is for what Verify must find all the same: the hub that writes is killed. One of three does not come back.
func (w *world) lastFault() {
	w.t.Helper()
	if w.hubs == nil {
		return
	}
	i := w.hubs.Writer()
	w.hubs.Kill(i)
	if w.size == 1 {
		w.again(i)
	}
}
