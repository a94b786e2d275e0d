package hub_test

import (
	"errors"
	"testing"
	"time"

	"github.com/distgear/distgear/geartest"
	"github.com/distgear/distgear/hub"
	"github.com/distgear/distgear/internal/client"
	"github.com/distgear/distgear/internal/engine"
	"github.com/distgear/distgear/internal/operation"
)

// counter is a node's handle for a counter of the hub's ledger.
func counter(t *testing.T, url, prefix string, ttl time.Duration) (*client.Client, func() (uint64, error)) {
	t.Helper()
	ready := make(chan struct{})
	var c *client.Client
	conn, err := engine.Dial(within(t), engine.ConnConfig{URLs: url, Logger: quiet(), OnUp: func() { <-ready; c.Reconnected() }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	c = client.New(client.Config{Conn: conn, Prefix: prefix, Name: "n", TTL: ttl, Logger: quiet()})
	close(ready)
	t.Cleanup(c.Close)
	o := c.Object(operation.KCounter, "n", 0, nil)
	return c, func() (uint64, error) {
		a, err := o.Do(within(t), operation.Op{Verb: operation.VCounterAdd, A: 1}, false)
		return a.Num, err
	}
}

func TestLedger_OnDiskSurvivesTheHub(t *testing.T) {
	dir, addr := t.TempDir(), geartest.FreeAddrs(t, 1)[0]
	h := startHub(t, hub.Config{Listen: addr, Dir: dir})
	c, add := counter(t, h.URL(), h.Prefix(), 20*time.Second)
	for want := range uint64(100) {
		if n, err := add(); err != nil || n != want+1 {
			t.Fatal(n, err)
		}
	}
	session, _ := c.Session()
	if _, err := hub.Start(within(t), hub.Config{Listen: "127.0.0.1:0", Dir: dir, TTL: time.Second, Logger: quiet()}); err == nil {
		t.Fatal("two hubs keep their ledgers in one directory")
	}
	h.Close()
	startHub(t, hub.Config{Listen: addr, Dir: dir})
	if n, err := add(); err != nil || n != 101 {
		t.Fatal(n, err)
	}
	if now, ok := c.Session(); !ok || now != session {
		t.Fatal("the session did not outlive the hub's restart")
	}
}

func TestLedger_InMemoryEndsWithTheHub(t *testing.T) {
	addr := geartest.FreeAddrs(t, 1)[0]
	h := startHub(t, hub.Config{Listen: addr})
	c, add := counter(t, h.URL(), h.Prefix(), 20*time.Second)
	if n, err := add(); err != nil || n != 1 {
		t.Fatal(n, err)
	}
	session, _ := c.Session()
	h.Close()
	startHub(t, hub.Config{Listen: addr})
	n, err := add()
	if errors.Is(err, client.ErrLost) { // unknown; the next one is in a new session
		n, err = add()
	}
	if err != nil || n != 1 {
		t.Fatal(n, err)
	}
	if now, ok := c.Session(); !ok || now == session {
		t.Fatal("the session outlived the ledger that it was in")
	}
}

func TestLedger_ASessionRenewsByItself(t *testing.T) {
	h := startHub(t, hub.Config{Listen: "127.0.0.1:0"})
	c, add := counter(t, h.URL(), h.Prefix(), 300*time.Millisecond)
	if _, err := add(); err != nil {
		t.Fatal(err)
	}
	before, _ := c.Session()
	for range 20 { // it renews by itself while nothing is done
		if !c.Valid(before) {
			t.Fatal("it lapsed while the hub was there")
		}
		<-time.After(50 * time.Millisecond)
	}
}
