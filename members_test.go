package distgear_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/distgear/distgear"
	"github.com/distgear/distgear/cluster"
	"github.com/distgear/distgear/geartest"
)

// history collects what a watcher of one node is told of another: states, and lives counted from 1, without what repeats (other handlers, say).
type history struct {
	mu     sync.Mutex
	lives  []uint64
	states []string
}

func (h *history) add(m cluster.Member) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !slices.Contains(h.lives, m.Incarnation) {
		h.lives = append(h.lives, m.Incarnation)
	}
	s := fmt.Sprint(m.State, " ", slices.Index(h.lives, m.Incarnation)+1)
	if n := len(h.states); n == 0 || h.states[n-1] != s {
		h.states = append(h.states, s)
	}
}

func (h *history) String() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return fmt.Sprint(h.states, slices.IsSorted(h.lives))
}

// Every watcher on every node is told the same states of a node in the same order, whatever other watchers do: one that never comes back from its body, and
// one that panics. A loss is told to one of those who handle NodeLost.
func TestWatch_Sequence(t *testing.T) {
	t.Parallel()
	handlers := func(*distgear.Node) []distgear.Handler { return []distgear.Handler{workerAction()} }
	c := geartest.StartCluster(t, geartest.Nodes{Count: 1, Role: "worker", Handlers: handlers, Configure: func(c *distgear.Config) { c.TTL = 4 * time.Second }})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	other, err := distgear.Join(ctx, distgear.Config{Name: "other", Hub: c.Here().HubURL()})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = other.Leave(context.Background()) }()
	losses := make(chan cluster.Member, 8)
	for _, n := range []*distgear.Node{c.Here(), other} {
		if err := n.Handle(&distgear.Event[cluster.Member, string]{Name: distgear.NodeLost, On: func(_ context.Context, _ *distgear.Run, m cluster.Member) (string, error) {
			losses <- m
			return "", nil
		}}); err != nil {
			t.Fatal(err)
		}
	}

	name := c.Name(0)
	var all sync.WaitGroup
	defer func() { cancel(); all.Wait() }()
	release := make(chan struct{})
	unblock := sync.OnceFunc(func() { close(release) })
	defer unblock()
	watch := func(n *distgear.Node, body func(cluster.Member)) *history {
		h := &history{}
		all.Go(func() {
			defer func() { _ = recover() }() // of the body
			for m, err := range n.Watch(ctx) {
				if err == nil && m.Name == name {
					h.add(m)
					body(m)
				}
			}
		})
		return h
	}
	blocked := watch(c.Here(), func(cluster.Member) { <-release })
	panics := watch(c.Here(), func(cluster.Member) { panic("a watcher's own fault") })
	seen := []*history{watch(c.Here(), func(cluster.Member) {}), watch(other, func(cluster.Member) {})}
	await := func(want string) {
		t.Helper()
		for i, h := range seen {
			geartest.Eventually(t, patience, fmt.Sprintf("watcher %d of %v is told %s", i, h, want), func() bool { return h.String() == want })
		}
	}
	await("[alive 1] true")
	c.Process(name).Pause()
	c.Await(name, cluster.Suspect)
	c.Process(name).Resume()
	await("[alive 1 suspect 1 alive 1] true")
	c.Process(name).Kill()
	await("[alive 1 suspect 1 alive 1 suspect 1 lost 1] true")
	c.Start(name)
	await("[alive 1 suspect 1 alive 1 suspect 1 lost 1 joining 2 alive 2] true")
	if err := c.Process(name).Stop(); err != nil {
		t.Error(err)
	}
	whole := "[alive 1 suspect 1 alive 1 suspect 1 lost 1 joining 2 alive 2 left 2] true"
	await(whole)

	if got := panics.String(); got != "[alive 1] true" {
		t.Errorf("the watcher that panicked went on: %s", got)
	}
	if got := blocked.String(); got != "[alive 1] true" {
		t.Errorf("the watcher that blocks was called again: %s", got)
	}
	unblock() // and is told the rest
	seen = []*history{blocked}
	await(whole)
	for m, err := range c.Here().Members(ctx) {
		if m.Name == name && (m.State != cluster.Left || err != nil) {
			t.Errorf("Members says %+v, %v", m, err)
		}
	}
	if m := <-losses; m.Name != name || m.State != cluster.Lost || len(losses) > 0 {
		t.Errorf("a loss was told: %+v, then %d more", m, len(losses))
	}
}
