package hub_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/distgear/distgear/geartest"
	"github.com/distgear/distgear/hub"
	"github.com/distgear/distgear/internal/client"
	"github.com/distgear/distgear/internal/engine"
	"github.com/distgear/distgear/internal/operation"
)

// threeHubs starts three hubs that are one.
func threeHubs(t *testing.T) []*hub.Hub {
	t.Helper()
	return hubsAt(t, geartest.FreeAddrs(t, 3))
}

// hubsAt starts three hubs that are one at these routes.
func hubsAt(t *testing.T, routes []string) []*hub.Hub {
	t.Helper()
	hubs := make([]*hub.Hub, 3)
	errs := make([]error, 3)
	var wg sync.WaitGroup
	for i := range hubs {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			hubs[i], errs[i] = hub.Start(ctx, hub.Config{
				Listen: "127.0.0.1:0", Name: fmt.Sprint("h", i), Route: routes[i], Peers: routes, TTL: time.Second, Logger: quiet(),
			})
		})
	}
	wg.Wait()
	for i, err := range errs {
		if err != nil {
			t.Fatal(i, err)
		}
		t.Cleanup(hubs[i].Close)
	}
	return hubs
}

func TestPeers_AnotherHubTakesOver(t *testing.T) {
	hubs := threeHubs(t)
	urls := hubs[0].URL() + "," + hubs[1].URL() + "," + hubs[2].URL()
	conn, err := engine.Dial(t.Context(), engine.ConnConfig{URLs: urls, Logger: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	c := client.New(client.Config{Conn: conn, Prefix: hubs[0].Prefix(), Name: "n", TTL: 10 * time.Second, Logger: quiet()})
	t.Cleanup(c.Close)
	o := c.Object(operation.KCounter, "n", 0, nil)
	add := func() uint64 {
		a, err := o.Do(t.Context(), operation.Op{Verb: operation.VCounterAdd, A: 1}, false)
		if err != nil {
			t.Fatal(err)
		}
		return a.Num
	}
	if got := add(); got != 1 {
		t.Fatal(got)
	}
	session, _ := c.Session()
	writers := func() (all []*hub.Hub) {
		for _, h := range hubs {
			if h.Writer() {
				all = append(all, h)
			}
		}
		return all
	}
	first := writers()
	if len(first) != 1 {
		t.Fatalf("%d writers", len(first))
	}
	first[0].Close()
	if got := add(); got != 2 { // what was acknowledged is there, and no session was lost
		t.Fatal(got)
	}
	if now, ok := c.Session(); !ok || now != session {
		t.Fatal("the session was lost")
	}
	if second := writers(); len(second) != 1 || second[0] == first[0] {
		t.Fatal("no other writer")
	}
}

func TestForeignNATS_ASecondHubStandsBy(t *testing.T) {
	s, err := engine.StartServer(engine.ServerConfig{Listen: "127.0.0.1:0", Tier: engine.Memory, Logger: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	first := startHub(t, hub.Config{URLs: s.URL()})
	c, add := counter(t, s.URL(), first.Prefix(), 20*time.Second)
	if n, err := add(); err != nil || n != 1 {
		t.Fatal(n, err)
	}
	session, _ := c.Session()
	second := startHub(t, hub.Config{URLs: s.URL()})
	if second.Writer() {
		t.Fatal("the second hub took over from one that is there")
	}
	first.Close()
	if n, err := add(); err != nil || n != 2 {
		t.Fatal(n, err)
	}
	if now, ok := c.Session(); !ok || now != session || !second.Writer() {
		t.Fatal("the session did not go over to the second hub")
	}
}

// A hub whose Route is none of the Peers would be a fourth one, which votes for ever.
func TestPeers_AFourthIsRefused(t *testing.T) {
	peers := []string{"127.0.0.1:1", "h2.example:2", " h3.example:3"}
	for _, bad := range []hub.Config{
		{Name: "h4", Route: "127.0.0.1:4", Peers: peers},
		{Name: "h1", Route: "127.0.0.1:1", Peers: peers[:2]},
		{Name: "h1", Route: "127.0.0.1:1", Peers: []string{"127.0.0.1:1", "127.0.0.1:1", "127.0.0.1:2"}},
		{Route: "127.0.0.1:1", Peers: peers},
	} {
		h, err := hub.Start(t.Context(), bad)
		if err == nil {
			h.Close()
			t.Errorf("%v was started", bad)
		}
	}
}

// Two hubs of one name: the later one says so, and does not start.
func TestPeers_ANameIsOneHubs(t *testing.T) {
	peers := geartest.FreeAddrs(t, 4)
	hubs := hubsAt(t, peers[1:])
	h, err := hub.Start(t.Context(), hub.Config{Listen: "127.0.0.1:0", Name: "h0", Route: peers[0], Peers: []string{peers[0], peers[2], peers[3]}, Logger: quiet()})
	if err == nil {
		h.Close()
	}
	if err == nil || !strings.Contains(err.Error(), `has the name "h0"`) {
		t.Fatalf("a second h0: %v", err)
	}
	_, add := counter(t, hubs[1].URL(), hubs[0].Prefix(), 10*time.Second)
	if n, err := add(); err != nil || n != 1 {
		t.Fatal("the three do not go on:", n, err)
	}
}
