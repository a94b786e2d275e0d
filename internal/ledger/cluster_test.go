package ledger

import (
	"context"
	"errors"
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/distgear/distgear/internal/engine"
)

// freeAddrs are addresses of this host where nobody listens now.
func freeAddrs(t testing.TB, n int) (addrs []string) {
	t.Helper()
	lns := make([]net.Listener, n)
	for i := range lns {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		lns[i] = ln
		addrs = append(addrs, ln.Addr().String())
	}
	for _, ln := range lns {
		ln.Close()
	}
	return addrs
}

// cluster starts three servers that are one. Ports are drawn until the servers
// get them: another process may take one in between.
func cluster(t testing.TB, tier engine.Tier) []*engine.Server {
	t.Helper()
	for range 5 {
		routes := freeAddrs(t, 3)
		var servers []*engine.Server
		for i := range routes {
			s, err := engine.StartServer(engine.ServerConfig{
				Listen: "127.0.0.1:0", Token: "secret", Tier: tier, Dir: t.TempDir(), Logger: quiet(),
				Cluster: &engine.Cluster{Server: fmt.Sprint("hub", i), Listen: routes[i], Routes: routes},
			})
			if err != nil {
				t.Log(err)
				break
			}
			t.Cleanup(s.Close)
			servers = append(servers, s)
		}
		if len(servers) == len(routes) {
			return servers
		}
	}
	t.Fatal("no cluster")
	return nil
}

// A hub is lost with its server: another writes, and nothing acknowledged is lost.
func TestCluster_HubIsLost(t *testing.T) {
	servers := cluster(t, engine.Sync)
	nodes := make([]*node, 3)
	for i, s := range servers {
		nodes[i] = start(t, engine.ConnConfig{Server: s}, Config{Hub: fmt.Sprint("hub", i), Replicas: 3})
	}
	var w int
	eventually(t, "somebody is the writer", func() bool {
		for w = range nodes {
			if nodes[w].Writer() {
				return true
			}
		}
		return false
	})
	const before = 500
	for i := range before {
		if err := nodes[w].Submit(fmt.Append(nil, i)); err != nil {
			t.Fatal(err)
		}
	}
	for i := range before {
		nodes[w].wantTold(t, fmt.Sprint(i))
	}
	if st := nodes[w].Stats(); st.Replicas != 3 {
		t.Fatalf("%+v", st)
	}
	lost := make(chan struct{})
	began := time.Now()
	go func() { // the test waits for lost
		defer close(lost)
		nodes[w].conn.Close() // first: it says no word of it
		servers[w].Close()
		nodes[w].Close()
	}()
	var next int
	eventuallyIn(t, 30*time.Second, "another is the writer", func() bool {
		for next = range nodes {
			if next != w && nodes[next].Writer() {
				return true
			}
		}
		return false
	})
	nodes[next].put(t, "first of the next")
	t.Logf("first answer of another after %v", time.Since(began))
	<-lost
	other := nodes[3-w-next]
	equal(t, nodes[next], other)
	if got, _ := other.state.all(); len(got) != before+1 {
		t.Fatalf("%d entries", len(got))
	}
}

// A log that is full takes nothing, says so, and keeps what it has.
func TestFull(t *testing.T) {
	s := server(t, engine.ServerConfig{Tier: engine.Memory})
	n := start(t, engine.ConnConfig{Server: s}, Config{Memory: true, Eager: true, MaxBytes: 100 << 10})
	n.put(t, "kept")
	big := make([]byte, 30<<10)
	eventually(t, "the log is full", func() bool { return errors.Is(n.Submit(big), ErrStorage) })
	if st := n.Stats(); st.Trouble == "" {
		t.Fatalf("%+v", st)
	}
	b := start(t, engine.ConnConfig{Server: s}, Config{Memory: true, Hub: "b", MaxBytes: 100 << 10, Patience: time.Hour})
	if got, _ := b.state.all(); len(got) < 2 || got[0] != "kept" {
		t.Fatalf("%d entries", len(got))
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	n.Leave(ctx)
}
