package shared_test

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/distgear/distgear"
	"github.com/distgear/distgear/cluster"
	"github.com/distgear/distgear/geartest"
	"github.com/distgear/distgear/shared"
)

func codes(h shared.Health) string {
	var cs []string
	for _, f := range h.Findings {
		cs = append(cs, f.Code)
	}
	return strings.Join(cs, " ")
}

func doctor(t *testing.T, n *distgear.Node) shared.Health {
	t.Helper()
	h, err := shared.Doctor(t.Context(), n)
	if err != nil || h.Well != (len(h.Findings) == 0) || h.Node != n.Name() {
		t.Fatalf("%+v, %v", h, err)
	}
	return h
}

func TestDoctor_OneHub(t *testing.T) {
	if h := doctor(t, join(t, distgear.Config{Name: "alone"})); codes(h) != "alone" || !h.Alone {
		t.Errorf("%+v", h)
	}
	hub := join(t, distgear.Config{Name: "n0", Serve: "127.0.0.1:0"})
	n := join(t, distgear.Config{Name: "n1", Hub: hub.HubURL()})
	var h shared.Health
	geartest.Eventually(t, 10*time.Second, "the clocks are known", func() bool {
		h = doctor(t, n)
		return len(h.Nodes) == 2 && h.Nodes[0].Skew != nil && h.Nodes[1].Skew != nil
	})
	if codes(h) != "one-hub memory" || h.Hub.Name != "n0" || h.Hub.Version != distgear.Version || h.Hub.NATS == "" || h.Ledger.Writer != "n0" {
		t.Errorf("%+v", h)
	}
	if twin, err := distgear.Join(t.Context(), distgear.Config{Name: "n1", Hub: hub.HubURL()}); err == nil {
		t.Error("a second n1 was let in: ", twin.Leave(t.Context()))
	}
	if h = doctor(t, n); len(h.Nodes) != 2 {
		t.Errorf("one that was refused counts as a node: %+v", h.Nodes)
	}
	dir := t.TempDir()
	if h := doctor(t, join(t, distgear.Config{Name: "n0", Cluster: "kept", Serve: "127.0.0.1:0", Dir: dir})); codes(h) != "one-hub" || h.Ledger.Tier != "file, synced always" || h.Ledger.Dir != dir {
		t.Errorf("%+v", h)
	}
}

// TestDoctor_ThreeHubs: all is well, and not when one is away.
func TestDoctor_ThreeHubs(t *testing.T) {
	var routes []string
	for range 3 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		routes = append(routes, l.Addr().String())
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	hubs := make([]*distgear.Node, 3)
	var wg sync.WaitGroup
	for i := range hubs {
		wg.Go(func() {
			n, err := distgear.Join(t.Context(), distgear.Config{
				Name: cluster.NodeName(fmt.Sprint("h", i)), Serve: "127.0.0.1:0", Route: routes[i], Peers: strings.Join(routes, ","), Dir: t.TempDir(),
			})
			if err != nil {
				t.Error(err)
				return
			}
			hubs[i] = n
		})
	}
	wg.Wait()
	leave := func(n *distgear.Node) {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = n.Leave(ctx) // the last ones leave without a hub
	}
	if t.Failed() {
		return
	}
	defer func() {
		for _, n := range hubs {
			leave(n)
		}
	}()
	var h shared.Health
	geartest.Eventually(t, 30*time.Second, "all is well", func() bool {
		h = doctor(t, hubs[0])
		return h.Well
	})
	if h.Hub.Hubs != 3 || h.Ledger.Replicas != 3 || h.Ledger.Standbys != 2 || len(h.Nodes) != 3 {
		t.Errorf("%+v", h)
	}
	i := slices.IndexFunc(hubs, func(n *distgear.Node) bool { return string(n.Name()) != h.Ledger.Writer })
	leave(hubs[i])
	geartest.Eventually(t, 30*time.Second, "one is missed", func() bool {
		return codes(doctor(t, hubs[(i+1)%3])) == "no-standby"
	})
	leave(hubs[(i+2)%3])
	geartest.Eventually(t, 60*time.Second, "nothing goes on", func() bool {
		c := codes(doctor(t, hubs[(i+1)%3]))
		return strings.HasPrefix(c, "trouble") || strings.HasPrefix(c, "no-hub")
	})
}
