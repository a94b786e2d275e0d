package geartest

import (
	"net"
	"sync"
	"testing"
)

// A Network is a few hosts that can be cut off from one another. Where it can (Linux, root, the `ip` command) each host is a network namespace with a cable to a
// switch, and cutting pulls the cable; elsewhere all hosts are this machine, and proxies stand where one reaches another. What runs on a host is a child
// process (Child.Host). The test itself is on none: it talks to its children by Say and Line.
//
//	net := geartest.NewNetwork(t)
//	a, b := net.Host("a"), net.Host("b")
//	hub := geartest.Start(t, geartest.Child{Role: "hub", Host: a, Args: []string{a.Addr() + ":0"}})
//	geartest.Start(t, geartest.Child{Role: "worker", Host: b, Args: []string{b.Via(hub.Ready())}})
//	b.Cut()
type Network struct {
	t     testing.TB
	lan   *lan // nil: proxies
	mu    sync.Mutex
	hosts map[string]*Host
}

// A Host is one machine of a Network.
type Host struct {
	net  *Network
	name string
	at   place // its namespace; zero with proxies

	mu      sync.Mutex
	cut     bool
	proxies map[string]*Proxy // by target
}

// NewNetwork makes a network, of namespaces if it can and else of proxies; the test's log says which.
func NewNetwork(t testing.TB) *Network {
	t.Helper()
	lan, err := newLAN(t)
	if err != nil {
		t.Logf("network: proxies (%v)", err)
		return NewProxyNetwork(t)
	}
	t.Log("network: namespaces")
	return &Network{t: t, lan: lan, hosts: map[string]*Host{}}
}

// NewProxyNetwork makes a network of proxies everywhere.
func NewProxyNetwork(t testing.TB) *Network { return &Network{t: t, hosts: map[string]*Host{}} }

// Namespaces reports whether the hosts have network namespaces of their own.
func (n *Network) Namespaces() bool { return n.lan != nil }

// Host returns the host of that name, new if there was none.
func (n *Network) Host(name string) *Host {
	n.t.Helper()
	n.mu.Lock()
	defer n.mu.Unlock()
	h := n.hosts[name]
	if h != nil {
		return h
	}
	h = &Host{net: n, name: name, proxies: map[string]*Proxy{}}
	if n.lan != nil {
		at, err := n.lan.plug(len(n.hosts))
		if err != nil {
			n.t.Fatalf("host %s: %v", name, err)
		}
		h.at = at
	}
	n.hosts[name] = h
	return h
}

// Addr returns the host's address, without a port: what its processes listen on.
func (h *Host) Addr() string {
	if h.net.lan == nil {
		return "127.0.0.1"
	}
	return h.at.addr
}

// Via returns the address (host:port) at which this host reaches a process that listens on addr (host:port) on another: addr itself, or a proxy's.
func (h *Host) Via(addr string) string {
	h.net.t.Helper()
	if h.net.lan != nil {
		return addr
	}
	if _, _, err := net.SplitHostPort(addr); err != nil {
		h.net.t.Fatalf("host %s: %v", h.name, err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	p := h.proxies[addr]
	if p == nil {
		p = NewProxy(h.net.t, addr)
		h.proxies[addr] = p
		if h.cut {
			p.Cut()
		}
	}
	return p.Addr()
}

// Cut separates the host from all others: nothing arrives either way, and no connection breaks by it. With proxies that holds for the addresses that the host
// got from Via; what others dialled to reach it is theirs to cut.
func (h *Host) Cut() { h.set(true) }

// Heal ends Cut. What TCP kept is sent again: at once with proxies, after its retransmission timeout in namespaces.
func (h *Host) Heal() { h.set(false) }

func (h *Host) set(cut bool) {
	h.net.t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.cut = cut
	if h.net.lan != nil {
		if err := h.net.lan.cable(h.at, !cut); err != nil {
			h.net.t.Fatalf("host %s: %v", h.name, err)
		}
	}
	for _, p := range h.proxies {
		if cut {
			p.Cut()
		} else {
			p.Heal()
		}
	}
}

// prefix is what comes before a command to run it on the host. A nil Host is beside the test.
func (h *Host) prefix() []string {
	if h == nil || h.net.lan == nil {
		return nil
	}
	return []string{"ip", "netns", "exec", h.at.namespace}
}
