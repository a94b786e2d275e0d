//go:build unix

package geartest

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestNetwork(t *testing.T) { testNetwork(t, NewNetwork(t)) }

func TestProxyNetwork(t *testing.T) { testNetwork(t, NewProxyNetwork(t)) }

// testNetwork has a server on one host and clients on two others, one of which is cut off and comes back.
func testNetwork(t *testing.T, n *Network) {
	a, b, c := n.Host("a"), n.Host("b"), n.Host("c")
	if n.Host("a") != a {
		t.Error("the same name is another host")
	}
	server := Start(t, Child{Role: "dial", Host: a, Args: []string{"serve", net.JoinHostPort(a.Addr(), "0")}})
	client := func(h *Host) *Process {
		return Start(t, Child{Role: "dial", Host: h, Args: []string{h.Via(server.Ready())}})
	}
	onB, onC := client(b), client(c)
	round := func(p *Process, line string) {
		t.Helper()
		p.Say(line)
		if got := p.Line("back"); got != line {
			t.Errorf("%q came back as %q", line, got)
		}
	}
	round(onB, "one")
	round(onC, "two")

	b.Cut()
	onB.Say("three")
	onB.Line("sent three")
	round(onC, "four") // others are not concerned
	if strings.Contains(onB.Output(), "back three") {
		t.Error("a byte passed a link that is cut")
	}
	b.Heal()
	if got := onB.Line("back"); got != "three" {
		t.Errorf("after Heal %q came back", got)
	}
	round(onB, "five")

	b.Cut()
	b.Cut()
	b.Heal()
	round(onB, "six")
}

// TestNetworkIsGone: the namespaces go with their test, and those of a process that died go with the next.
func TestNetworkIsGone(t *testing.T) {
	var n *Network
	t.Run("test", func(t *testing.T) {
		n = NewNetwork(t)
		n.Host("a")
	})
	if left, err := filepath.Glob(filepath.Join("/run/netns", n.prefix()+"*")); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
	if !n.Namespaces() {
		return
	}
	// No process has an id above the kernel's 1<<22; ours added, so that test processes beside this one do not sweep it first.
	dead := fmt.Sprintf("geartest-%d-1-switch", 1<<22+os.Getpid())
	if out, err := exec.CommandContext(t.Context(), "ip", "netns", "add", dead).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	n = NewNetwork(t)
	if _, err := os.Stat(filepath.Join("/run/netns", dead)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s was not swept: %v", dead, err)
	}
}

// prefix is how the namespaces of the network are called.
func (n *Network) prefix() string {
	if n.lan == nil {
		return "geartest-none"
	}
	return n.lan.String()
}
