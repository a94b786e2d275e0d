package hub_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/distgear/distgear/geartest"
	"github.com/distgear/distgear/hub"
	"github.com/distgear/distgear/internal/client"
	"github.com/distgear/distgear/internal/machine/members"
	"github.com/distgear/distgear/internal/shard"
)

// sequence is what a node was told since the last forget, without what differs by when it is looked at.
func (n *node) sequence() (all []string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, m := range n.seen {
		all = append(all, fmt.Sprintf("%s/%d %v %v", m.Name, m.Incarnation, m.State, m.Kinds))
	}
	return all
}

func (n *node) forget() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.seen = nil
}

// handle has the node handle one kind, and returns when the hub knows.
func (n *node) handle(kind string) {
	n.t.Helper()
	n.mu.Lock()
	n.kinds = []string{kind}
	n.mu.Unlock()
	if err := n.s.SetKinds(within(n.t)); err != nil {
		n.t.Fatal(err)
	}
}

// mark has all nodes told that a handles a kind.
func mark(a *node, all []*node, kind string) {
	a.t.Helper()
	a.handle(kind)
	for _, n := range all {
		n.until(kind, func() bool {
			n.mu.Lock()
			defer n.mu.Unlock()
			return len(n.seen) > 0 && n.seen[len(n.seen)-1].Handles(kind)
		})
	}
}

// One sequence of views: the writer is killed, and frozen and thawed, while nodes join, leave and change. Every node sees every change, in the same order;
// the numbers go on; nobody is lost, and nobody joins again.
func TestMembership_OneSequence(t *testing.T) {
	t.Parallel()
	hubs := geartest.StartHubs(t, geartest.Hubs{Role: "hub", Disk: true, TTL: chaosTTL})
	nodes := make([]*node, 4)
	for i := range nodes {
		nodes[i] = join(t, hubs.URLs(), fmt.Sprint("n", i))
	}
	mark(nodes[0], nodes, "begin")
	ledger, version := nodes[0].s.View().Hub, nodes[0].s.View().Version
	incarnations := map[string]uint64{}
	for _, n := range nodes {
		n.forget()
		incarnations[n.name] = n.s.Incarnation()
	}
	changes := func(what string) {
		t.Helper()
		for i, n := range nodes {
			n.handle(fmt.Sprint(what, i))
		}
		guest := join(t, hubs.URLs(), "guest-"+what)
		if err := guest.s.Leave(within(t)); err != nil {
			t.Fatal(err)
		}
		guest.crash()
	}
	changes("before")
	w := hubs.Writer()
	hubs.Kill(w)
	changes("killed")
	hubs.Start(w)
	changes("started")
	w = hubs.Writer()
	hubs.Freeze(w)
	changes("frozen")
	hubs.Thaw(w)
	changes("thawed")
	mark(nodes[0], nodes, "end")
	first := nodes[0].sequence()
	for _, n := range nodes {
		v := n.s.View()
		if v.Hub != ledger || v.Version <= version {
			t.Errorf("%s: version %d of %x, after %d of %x", n.name, v.Version, v.Hub, version, ledger)
		}
		if n.s.Incarnation() != incarnations[n.name] {
			t.Errorf("%s joined again", n.name)
		}
		got := n.sequence()
		if strings.Join(got, "\n") != strings.Join(first, "\n") {
			t.Errorf("%s saw\n\t%s\nand %s\n\t%s", nodes[0].name, strings.Join(first, "\n\t"), n.name, strings.Join(got, "\n\t"))
		}
	}
	if strings.Contains(strings.Join(first, "\n"), "lost") {
		t.Errorf("somebody was lost:\n%s", strings.Join(first, "\n"))
	}
	t.Logf("%d changes", len(first))
}

// A node that dies with the writer is lost within two times-to-live after another has taken over, and not before one.
func TestMembership_DiesDuringATakeover(t *testing.T) {
	t.Parallel()
	hubs := geartest.StartHubs(t, geartest.Hubs{Role: "hub", TTL: chaosTTL})
	a, b := join(t, hubs.URLs(), "a"), join(t, hubs.URLs(), "b")
	a.sees("b", members.Alive)
	began := time.Now()
	w := hubs.Writer()
	b.crash()
	hubs.Kill(w)
	geartest.Eventually(t, 0, "another hub writes", func() bool { return hubs.Writer() != w })
	over := time.Now()
	a.sees("b", members.Lost)
	took := time.Since(over)
	t.Logf("another hub wrote after %v, and the node was lost %v later", over.Sub(began), took)
	if took > 2*chaosTTL+time.Second { // a busy machine
		t.Errorf("lost %v after the take-over", took)
	}
	if all := time.Since(began); all < chaosTTL {
		t.Errorf("lost after %v", all)
	}
	if fmt.Sprint(a.history("a")) != "[alive]" {
		t.Errorf("the other node was %v", a.history("a"))
	}
}

// A hub with a directory that is killed, and one that is closed, goes on with its members.
func TestMembership_RestartWithADirectory(t *testing.T) {
	t.Parallel()
	hubs := geartest.StartHubs(t, geartest.Hubs{Role: "hub", Count: 1, Disk: true, TTL: chaosTTL})
	a, b := join(t, hubs.URLs(), "a"), join(t, hubs.URLs(), "b")
	all := []*node{a, b}
	mark(a, all, "begin")
	was := *a.s.View()
	hubs.Kill(0)
	hubs.Start(0)
	mark(a, all, "end")
	for _, n := range all {
		v := n.s.View()
		if v.Hub != was.Hub || v.Version != was.Version+1 {
			t.Errorf("%s: version %d of %x goes on as %d of %x", n.name, was.Version, was.Hub, v.Version, v.Hub)
		}
		for name, m := range v.Members {
			if m.Incarnation != was.Members[name].Incarnation {
				t.Errorf("%s joined again", name)
			}
		}
	}
	b.crash()
	hubs.Kill(0)
	hubs.Start(0)
	a.sees("b", members.Lost)
}

// A writer that has no majority any more renews nobody's lease: another hub may have taken over, and may call the node lost.
func TestMembership_NoMajorityNoLease(t *testing.T) {
	t.Parallel()
	hubs := geartest.StartHubs(t, geartest.Hubs{Role: "hub", Disk: true, TTL: chaosTTL})
	w := hubs.Writer()
	a := join(t, hubs.URL(w), "a")
	before := a.s.Incarnation()
	for i := range 3 {
		if i != w {
			hubs.Kill(i)
		}
	}
	began := time.Now()
	a.until("end of the lease", func() bool { return a.lapses.Load() == 1 })
	t.Logf("the lease ended after %v", time.Since(began))
	for i := range 3 {
		if i != w {
			hubs.Start(i)
		}
	}
	a.until("renewal", func() bool { return a.renews.Load() == 1 })
	if a.s.Incarnation() != before {
		t.Error("it joined again")
	}
}

// What only the hub decides is not taken from a node.
func TestMembership_NobodyElseDecides(t *testing.T) {
	h := startHub(t, hub.Config{Listen: "127.0.0.1:0"})
	a := join(t, h.URL(), "a")
	v := a.s.View()
	m := *v.Members["a"]
	m.State = members.Lost
	entry, err := shard.AppendDecisions(nil, &members.Decisions{Changes: []members.Changed{{Version: v.Version + 1, Member: m}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := a.conn.Publish(client.EntrySubject(h.Prefix()), entry); err != nil {
		t.Fatal(err)
	}
	mark(a, []*node{a}, "still here") // behind it
	if now := a.s.View(); now.Version != v.Version+1 || now.Members["a"].State != members.Alive {
		t.Errorf("version %d after %d, %v", now.Version, v.Version, now.Members["a"].State)
	}
}

// Of what a node missed it is told all, and in order.
func TestMembership_WhatWasMissedIsTold(t *testing.T) {
	h := startHub(t, hub.Config{Listen: "127.0.0.1:0", TTL: chaosTTL})
	proxy := newProxy(t, strings.TrimPrefix(h.URL(), "nats://"))
	a, b, c := join(t, h.URL(), "a"), join(t, h.URL(), "b"), join(t, "nats://"+proxy.addr(), "c")
	all := []*node{a, b, c}
	mark(a, all, "begin")
	for _, n := range all {
		n.forget()
	}
	proxy.cut()
	for i := range 20 {
		b.handle(fmt.Sprint("k", i))
	}
	proxy.heal()
	mark(a, all, "end")
	if got, want := fmt.Sprint(c.sequence()), fmt.Sprint(a.sequence()); got != want || len(a.sequence()) != 21 {
		t.Errorf("it was told\n%s\nnot\n%s", got, want)
	}
}

// The first view of a node that joins a hub without a word of what was before is whole.
func TestMembership_Many(t *testing.T) {
	h := startHub(t, hub.Config{Listen: "127.0.0.1:0", TTL: chaosTTL})
	a := join(t, h.URL(), "a")
	for i := range 200 { // more changes than are kept
		a.handle(fmt.Sprint("k", i))
	}
	b := join(t, h.URL(), "b")
	if m := b.s.View().Members["a"]; m == nil || !m.Handles("k199") {
		t.Errorf("a is %+v", m)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := b.s.Leave(ctx); err != nil {
		t.Fatal(err)
	}
	a.sees("b", members.Left)
}
