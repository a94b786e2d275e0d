package geartest

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
)

// A lan is a switch in a network namespace of its own, and the namespaces plugged into it. Nothing in it has a route to the outside, so its addresses are seen
// by nobody else.
type lan struct {
	t      testing.TB
	prefix string // of the namespaces' names
}

// String returns how the names of its namespaces begin.
func (l *lan) String() string { return l.prefix }

// A place is a host's namespace, its cable's end at the switch, and its address.
type place struct{ namespace, port, addr string }

// lans numbers the networks of this process.
var lans atomic.Int64

// namespaces is where `ip netns` keeps them.
const namespaces = "/run/netns"

func newLAN(t testing.TB) (*lan, error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("not root")
	}
	if _, err := exec.LookPath("ip"); err != nil {
		return nil, err
	}
	sweep()
	l := &lan{t: t, prefix: fmt.Sprintf("geartest-%d-%d-", os.Getpid(), lans.Add(1))}
	sw := l.prefix + "switch"
	t.Cleanup(func() { l.remove(sw) })
	return l, l.ip([]string{"netns", "add", sw},
		[]string{"-n", sw, "link", "add", "bridge", "type", "bridge"},
		[]string{"-n", sw, "link", "set", "bridge", "up"})
}

// plug makes the n-th host of the lan.
func (l *lan) plug(n int) (place, error) {
	if n > 250 {
		return place{}, errors.New("more hosts than addresses")
	}
	p := place{namespace: l.prefix + strconv.Itoa(n), port: "port" + strconv.Itoa(n), addr: fmt.Sprintf("10.93.0.%d", n+1)}
	sw := l.prefix + "switch"
	l.t.Cleanup(func() { l.remove(p.namespace) })
	return p, l.ip([]string{"netns", "add", p.namespace},
		[]string{"-n", sw, "link", "add", p.port, "type", "veth", "peer", "name", "eth0", "netns", p.namespace},
		[]string{"-n", sw, "link", "set", p.port, "master", "bridge", "up"},
		[]string{"-n", p.namespace, "link", "set", "lo", "up"},
		[]string{"-n", p.namespace, "addr", "add", p.addr + "/24", "dev", "eth0"},
		[]string{"-n", p.namespace, "link", "set", "eth0", "up"})
}

// cable takes a host off the switch or puts it back. The port leaves the bridge rather than going down, so that the host's own interface stays up, as with a
// cable cut further away: with its carrier gone the kernel would tell programs that the network is unreachable.
func (l *lan) cable(p place, in bool) error {
	how := []string{"nomaster"}
	if in {
		how = []string{"master", "bridge"}
	}
	return l.ip(append([]string{"-n", l.prefix + "switch", "link", "set", p.port}, how...))
}

func (l *lan) ip(commands ...[]string) error {
	for _, args := range commands {
		if out, err := exec.CommandContext(l.t.Context(), "ip", args...).CombinedOutput(); err != nil {
			return fmt.Errorf("ip %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(string(out)))
		}
	}
	return nil
}

func (l *lan) remove(namespace string) {
	if _, err := os.Stat(filepath.Join(namespaces, namespace)); errors.Is(err, fs.ErrNotExist) {
		return // it could not be made
	}
	if out, err := exec.Command("ip", "netns", "del", namespace).CombinedOutput(); err != nil { //nolint:noctx // the test's context is over
		l.t.Errorf("removing network namespace %s: %v: %s", namespace, err, out)
	}
}

// sweep removes the namespaces of test processes that died before they could: they carry the process's id in their names.
func sweep() {
	names, err := filepath.Glob(filepath.Join(namespaces, "geartest-*"))
	if err != nil {
		return // only a bad pattern
	}
	for _, name := range names {
		pid, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(name), "geartest-"), "-")
		if _, err := os.Stat("/proc/" + pid); errors.Is(err, fs.ErrNotExist) {
			_ = exec.Command("ip", "netns", "del", filepath.Base(name)).Run() //nolint:noctx // another process may be sweeping, too
		}
	}
}
