package geartest

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/distgear/distgear"
	"github.com/distgear/distgear/cluster"
)

// Handlers makes what one node handles. A handler that must know its node, to raise events or to keep its own state, gets it here.
type Handlers func(n *distgear.Node) []distgear.Handler

// Nodes says what a cluster is made of: a hub in this process, whose node handles nothing, and nodes that do.
type Nodes struct {
	Count     int                      // zero means 3
	Handlers  Handlers                 // of each node; nil means none
	Role      string                   // of Main's Roles, made by NodeRole with the same Handlers: nodes are processes; empty: they are in this process
	Proxied   bool                     // each node reaches the hub through a Proxy of its own, for Cut
	Configure func(c *distgear.Config) // changes each node's configuration, the hub's included (Name "hub"); nil means nothing. To a process go Cluster, Token and Labels
}

// A Cluster is a hub and nodes for a test, over real NATS on loopback, or one node alone. Nodes are named node-1, node-2, …
type Cluster struct {
	t       testing.TB
	nodes   Nodes
	log     *testLog
	here    *distgear.Node
	names   []cluster.NodeName
	proxies map[cluster.NodeName]*Proxy

	mu        sync.Mutex
	local     map[cluster.NodeName]*distgear.Node
	processes map[cluster.NodeName]*Process
	kinds     map[cluster.NodeName][]string // what each handles
}

// fastTTL is the time-to-live of a test's sessions: short enough to wait for, long enough for a machine that is busy with other tests.
const fastTTL = time.Second

// StartCluster starts a hub and nodes, and returns when each of them knows what all the others handle. Everything leaves when the test is over.
func StartCluster(t testing.TB, nodes Nodes) *Cluster {
	t.Helper()
	nodes.Count = cmp.Or(nodes.Count, 3)
	c := newCluster(t, nodes)
	c.here = c.join(distgear.Config{Name: "hub", Serve: "127.0.0.1:0"}, nil)
	for i := range nodes.Count {
		name := cluster.NodeName(fmt.Sprintf("node-%d", i+1))
		c.names = append(c.names, name)
		if nodes.Proxied {
			c.proxies[name] = NewProxy(t, hostPort(t, c.here.HubURL()))
		}
	}
	for _, name := range c.names { // one after the other: what goes wrong is easier to read
		c.Start(name)
	}
	c.Settle()
	return c
}

// Alone makes a cluster of one node that is also the test's own, with the handlers, and nothing listening.
func Alone(t testing.TB, nodes Nodes) *Cluster {
	t.Helper()
	c := newCluster(t, nodes)
	c.here = c.join(distgear.Config{Name: "node-1"}, nodes.Handlers)
	c.names = []cluster.NodeName{c.here.Name()}
	return c
}

// Placements runs body three times, as sub-tests: on a node alone, on nodes in this process, and on nodes that are processes (nodes.Role). The body gets its
// node names from Name, so that it need not know which it is in.
func Placements(t *testing.T, nodes Nodes, body func(t *testing.T, c *Cluster)) {
	t.Helper()
	inside := nodes
	inside.Role = ""
	t.Run("alone", func(t *testing.T) { body(t, Alone(t, inside)) })
	t.Run("nodes", func(t *testing.T) { body(t, StartCluster(t, inside)) })
	t.Run("processes", func(t *testing.T) {
		if nodes.Role == "" {
			t.Fatal("Nodes.Role names no role of geartest.Main to run the processes")
		}
		body(t, StartCluster(t, nodes))
	})
}

func newCluster(t testing.TB, nodes Nodes) *Cluster {
	c := &Cluster{
		t: t, nodes: nodes, log: &testLog{to: t.Output()}, proxies: map[cluster.NodeName]*Proxy{},
		local: map[cluster.NodeName]*distgear.Node{}, processes: map[cluster.NodeName]*Process{}, kinds: map[cluster.NodeName][]string{},
	}
	t.Cleanup(c.log.end) // after the nodes' own clean-ups, which come later and so run earlier
	return c
}

func hostPort(t testing.TB, hub string) string {
	t.Helper()
	first, _, _ := strings.Cut(hub, ",")
	u, err := url.Parse(first)
	if err != nil {
		t.Fatalf("the hub's address: %v", err)
	}
	if _, _, err := net.SplitHostPort(u.Host); err != nil {
		t.Fatalf("the hub's address %q: %v", hub, err)
	}
	return u.Host
}

// config is what a node is started with.
func (c *Cluster) config(cfg distgear.Config) distgear.Config {
	cfg.TTL = fastTTL
	cfg.Logger = slog.New(slog.NewTextHandler(c.log, &slog.HandlerOptions{Level: slog.LevelDebug})).With("at", cfg.Name)
	if c.nodes.Configure != nil {
		c.nodes.Configure(&cfg)
	}
	return cfg
}

// join starts a node in this process, which leaves when the test is over.
func (c *Cluster) join(cfg distgear.Config, handlers Handlers) *distgear.Node {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), patience)
	defer cancel()
	n, err := distgear.Join(ctx, c.config(cfg))
	if err != nil {
		c.t.Fatalf("node %s: %v", cfg.Name, err)
	}
	c.t.Cleanup(func() {
		if p := c.proxies[cfg.Name]; p != nil {
			p.Heal()
		}
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := n.Leave(ctx); err != nil {
			c.t.Errorf("node %s: leaving: %v", cfg.Name, err)
		}
	})
	kinds, err := handle(n, handlers)
	if err != nil {
		c.t.Fatalf("node %s: %v", cfg.Name, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.local[cfg.Name], c.kinds[cfg.Name] = n, kinds
	return n
}

// handle adds handlers to a node and returns their kinds.
func handle(n *distgear.Node, handlers Handlers) ([]string, error) {
	if handlers == nil {
		return nil, nil
	}
	hs := handlers(n)
	kinds := []string{}
	for _, h := range hs {
		kinds = append(kinds, h.Kind())
	}
	return kinds, n.Handle(hs...)
}

// Start starts a node of that name, in this process or as one, and returns when it has joined. StartCluster has done it for all; it is for one that was killed
// or left, and comes back.
func (c *Cluster) Start(name cluster.NodeName) {
	c.t.Helper()
	hub := c.here.HubURL()
	if p := c.proxies[name]; p != nil {
		hub = "nats://" + p.Addr()
	}
	cfg := distgear.Config{Name: name, Hub: hub}
	if c.nodes.Role == "" {
		c.join(cfg, c.nodes.Handlers)
		return
	}
	cfg = c.config(cfg)
	var labels []string
	for _, k := range slices.Sorted(maps.Keys(cfg.Labels)) {
		labels = append(labels, k+"="+cfg.Labels[k])
	}
	p := Start(c.t, Child{Role: c.nodes.Role, Args: []string{string(name)}, Env: []string{
		"DISTGEAR_NAME=" + string(cfg.Name), "DISTGEAR_HUB=" + cfg.Hub, "DISTGEAR_CLUSTER=" + cfg.Cluster, "DISTGEAR_TOKEN=" + cfg.Token,
		"DISTGEAR_LABELS=" + strings.Join(labels, ","),
	}})
	c.t.Cleanup(func() { c.end(name, p) })
	var kinds []string
	if err := json.Unmarshal([]byte(p.Ready()), &kinds); err != nil {
		c.t.Fatalf("node %s: what it handles is %q: %v", name, p.Ready(), err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.processes[name], c.kinds[name] = p, kinds
}

// end asks a process to leave, unless the test has ended it already: killed, it could not say that it had a fault.
func (c *Cluster) end(name cluster.NodeName, p *Process) {
	if c.proxies[name] != nil {
		c.proxies[name].Heal()
	}
	select {
	case <-p.Done():
		return
	default:
	}
	if c.t.Failed() {
		return // it is in who knows what state, and killed next
	}
	p.Resume()
	if err := p.Stop(); err != nil {
		c.t.Errorf("node %s: leaving: %v", name, err)
	}
}

// Here returns the test's own node, which it raises events from: the hub's, or the node alone.
func (c *Cluster) Here() *distgear.Node { return c.here }

// Name returns the name of the i-th node that has the handlers, counted from 0; after the last comes the first, so that a body for three nodes also runs on one.
func (c *Cluster) Name(i int) cluster.NodeName { return c.names[i%len(c.names)] }

// Node returns a node that is in this process. The test fails if it is not.
func (c *Cluster) Node(name cluster.NodeName) *distgear.Node {
	c.t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.local[name] == nil {
		c.t.Fatalf("node %s is not in this process", name)
	}
	return c.local[name]
}

// Process returns a node that is a process, to kill or pause it. The test fails if it is not.
func (c *Cluster) Process(name cluster.NodeName) *Process {
	c.t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.processes[name] == nil {
		c.t.Fatalf("node %s is not a process", name)
	}
	return c.processes[name]
}

// Cut separates a node from the hub, and so from all other nodes. The cluster must be Proxied.
func (c *Cluster) Cut(name cluster.NodeName) {
	c.t.Helper()
	c.Proxy(name).Cut()
}

// Heal ends Cut.
func (c *Cluster) Heal(name cluster.NodeName) {
	c.t.Helper()
	c.Proxy(name).Heal()
}

// Proxy returns what stands between a node and the hub. The test fails if nothing does.
func (c *Cluster) Proxy(name cluster.NodeName) *Proxy {
	c.t.Helper()
	if c.proxies[name] == nil {
		c.t.Fatalf("node %s has no proxy: Nodes.Proxied", name)
	}
	return c.proxies[name]
}

// Await waits until the test's own node sees a node in one of these states. The test fails after 30 s.
func (c *Cluster) Await(name cluster.NodeName, states ...cluster.State) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), patience)
	defer cancel()
	var last cluster.State
	for m, err := range c.here.Watch(ctx) {
		if err != nil {
			c.t.Fatalf("watching for %s: %v", name, err)
		}
		if m.Name != name {
			continue
		}
		if last = m.State; slices.Contains(states, last) {
			return
		}
	}
	c.t.Fatalf("node %s is %v, after %v not yet %v", name, last, patience, states)
}

// Settle waits until every node of the cluster knows all others as alive, in their present incarnation, with what they handle. StartCluster has done it; it is
// for nodes that came back. The test fails after 30 s.
func (c *Cluster) Settle() {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), patience)
	defer cancel()
	want := roster{}
	c.mu.Lock()
	for name, kinds := range c.kinds {
		want[name] = entry{Kinds: kinds}
	}
	c.mu.Unlock()
	// The test's own node is next to the hub. What it has seen, a node that came back must have seen too, itself included: before that it takes no commands.
	if err := settle(ctx, c.here, want); err != nil {
		c.t.Fatalf("node %s: %v", c.here.Name(), err)
	}
	for m, err := range c.here.Members(ctx) {
		if err != nil {
			c.t.Fatal(err)
		}
		if e, ok := want[m.Name]; ok {
			want[m.Name] = entry{e.Kinds, m.Incarnation}
		}
	}
	text, err := json.Marshal(want)
	if err != nil {
		c.t.Fatal(err)
	}
	for _, name := range c.names {
		c.mu.Lock()
		n, p := c.local[name], c.processes[name]
		c.mu.Unlock()
		if n != nil {
			err = settle(ctx, n, want)
		} else {
			p.Say(settlePrefix + string(text))
			if answer := p.Line(settlePrefix); answer != "ok" {
				err = errors.New(answer)
			}
		}
		if err != nil {
			c.t.Fatalf("node %s: %v", name, err)
		}
	}
}

// settlePrefix begins the line that asks a process to settle, and its answer.
const settlePrefix = "settle "

// A roster is who must be known, and as what.
type roster map[cluster.NodeName]entry

type entry struct {
	Kinds       []string
	Incarnation uint64 // this one or a later one
}

// settle waits until n knows all of these members as alive.
func settle(ctx context.Context, n *distgear.Node, want roster) error {
	missing := maps.Clone(want)
	for m, err := range n.Watch(ctx) {
		if err != nil {
			return err
		}
		w, asked := want[m.Name]
		if !asked {
			continue
		}
		missing[m.Name] = w
		if m.State == cluster.Alive && m.Incarnation >= w.Incarnation &&
			!slices.ContainsFunc(w.Kinds, func(k string) bool { return !slices.Contains(m.Kinds, k) }) {
			delete(missing, m.Name)
		}
		if len(missing) == 0 {
			return nil
		}
	}
	return fmt.Errorf("it does not know %v yet: %w", missing, context.Cause(ctx))
}

// NodeRole makes a role for Main whose process is a node of a Cluster with these handlers. It leaves when it is stopped, and ends when it has left.
func NodeRole(handlers Handlers) func(ctx context.Context, args []string) error {
	return func(ctx context.Context, _ []string) error {
		n, err := distgear.Join(ctx, distgear.Config{Logger: slog.New(slog.NewTextHandler(os.Stderr, nil))}) // the rest is in the environment
		if err != nil {
			return err
		}
		leave := func() error {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
			defer cancel()
			return n.Leave(ctx)
		}
		kinds, err := handle(n, handlers)
		if err != nil {
			return errors.Join(err, leave())
		}
		said, err := json.Marshal(kinds)
		if err != nil {
			return errors.Join(err, leave())
		}
		Ready(string(said))
		go func() { // until the process ends: reading standard input cannot be interrupted
			in := bufio.NewScanner(os.Stdin)
			in.Buffer(nil, 1<<20)
			for in.Scan() {
				text, ok := strings.CutPrefix(in.Text(), settlePrefix)
				if !ok {
					continue
				}
				var want roster
				answer, err := "ok", json.Unmarshal([]byte(text), &want)
				if err == nil {
					err = settle(ctx, n, want)
				}
				if err != nil {
					answer = err.Error()
				}
				fmt.Println(settlePrefix + answer)
			}
		}()
		select {
		case <-ctx.Done():
			return leave()
		case <-n.Done():
			return nil
		}
	}
}

// testLog writes to a test's log until the test is over: what a node says after that has no place to go.
type testLog struct {
	mu sync.Mutex
	to io.Writer // nil when the test is over
}

func (l *testLog) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.to == nil {
		return len(b), nil
	}
	return l.to.Write(b)
}

func (l *testLog) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.to = nil
}
