package hub_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/distgear/distgear/hub"
	"github.com/distgear/distgear/internal/engine"
	"github.com/distgear/distgear/internal/link"
	"github.com/distgear/distgear/internal/machine/members"
	"github.com/distgear/distgear/internal/session"
	"github.com/distgear/distgear/internal/wire"
)

// S18: a node whose hub was restarted rejoins by itself, with a new
// incarnation; others that do not are lost.
func TestHubRestart_S18(t *testing.T) {
	s := startNATS(t)
	// The leases must outlive the time the test takes to restart the hub.
	const long = 3 * time.Second
	h := startHub(t, hub.Config{URLs: s.URL(), TTL: long})
	a, b, c := join(t, s.URL(), "a"), join(t, s.URL(), "b"), join(t, s.URL(), "c")
	for _, n := range []*node{a, b} {
		for _, name := range []string{"a", "b", "c"} {
			n.sees(name, members.Alive)
		}
	}
	before := a.s.Incarnation()
	h.Close()
	c.crash()
	startHub(t, hub.Config{URLs: s.URL(), TTL: long})
	for _, n := range []*node{a, b} {
		n.until("new incarnations", func() bool {
			v := n.s.View()
			return v.Members["a"].Incarnation > before && v.Members["a"].State == members.Alive &&
				v.Members["b"].Incarnation > before && v.Members["b"].State == members.Alive
		})
		n.sees("c", members.Lost)
		// On a machine so slow that a lease lapsed meanwhile, less is promised.
		if got := fmt.Sprint(n.history("b")); a.lapses.Load()+b.lapses.Load() == 0 && (strings.Contains(got, "lost") || strings.Contains(got, "left")) {
			t.Errorf("%s saw b %s, which went on all the time", n.name, got)
		}
	}
}

// A hub that stays away longer than the leases: they lapse once, and are
// renewed once it is back.
func TestHubRestart_LateLapsesAndRenews(t *testing.T) {
	s := startNATS(t)
	h := startHub(t, hub.Config{URLs: s.URL()})
	a, b := join(t, s.URL(), "a"), join(t, s.URL(), "b")
	a.sees("b", members.Alive)
	lapses := a.lapses.Load()
	h.Close()
	a.until("lapse", func() bool { return a.lapses.Load() == lapses+1 })
	if a.s.Valid(time.Now()) {
		t.Error("lapsed, and valid")
	}
	before := a.s.Incarnation()
	startHub(t, hub.Config{URLs: s.URL()})
	a.until("renewal", func() bool { return a.renews.Load() == a.lapses.Load() })
	poll(t, "new incarnation", func() bool { return a.s.Incarnation() > before })
	b.sees("a", members.Alive)
	a.sees("b", members.Alive)
}

// The hub is in the NATS server's process, as it is by default: both go and
// come back on the same port.
func TestHubRestart_WithItsServer(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	h := startHub(t, hub.Config{Listen: addr})
	a, b := join(t, h.URL(), "a"), join(t, h.URL(), "b")
	a.sees("b", members.Alive)
	before := a.s.View().Members["b"].Incarnation
	h.Close()
	startHub(t, hub.Config{Listen: addr})
	for _, n := range []*node{a, b} {
		n.until("the other again", func() bool {
			m := n.s.View().Members["b"]
			return m.Incarnation > before && m.State == members.Alive
		})
	}
}

// Fault 10: a node that was cut off longer than a time-to-live is lost, knows
// it, and comes back by itself.
func TestCutOff_Fault10(t *testing.T) {
	s := startNATS(t)
	startHub(t, hub.Config{URLs: s.URL()})
	a := join(t, s.URL(), "a")
	proxy := newProxy(t, strings.TrimPrefix(s.URL(), "nats://"))
	b := join(t, "nats://"+proxy.addr(), "b")
	before := a.sees("b", members.Alive).Incarnation
	proxy.cut()
	b.until("lapse", func() bool { return b.lapses.Load() > 0 })
	a.sees("b", members.Lost)
	proxy.heal()
	a.until("b again", func() bool {
		m := a.s.View().Members["b"]
		return m.State == members.Alive && m.Incarnation > before
	})
	b.until("renewal", func() bool { return b.renews.Load() == b.lapses.Load() })
	b.until("own new incarnation", func() bool { return b.s.View().Members["b"].Incarnation > before })
}

// A new node that takes the name of one that has not come back yet to a new
// hub does not get it.
func TestHubRestart_NamesStayTaken(t *testing.T) {
	s := startNATS(t)
	const long = 3 * time.Second
	h := startHub(t, hub.Config{URLs: s.URL(), TTL: long})
	a, b := join(t, s.URL(), "a"), join(t, s.URL(), "b")
	a.sees("b", members.Alive)
	h.Close()
	old := a.s.View().Hub
	startHub(t, hub.Config{URLs: s.URL(), TTL: long})
	a.until("view of the new hub", func() bool { return a.s.View().Hub != old })
	n := newNode(t, s.URL(), "b")
	err := n.open(within(t))
	// On a machine so slow that b's lease lapsed meanwhile, the name is free.
	if _, ok := errors.AsType[*session.RefusedError](err); !ok && b.lapses.Load() == 0 {
		t.Fatal(err)
	}
	if err == nil {
		return
	}
	a.sees("b", members.Alive)
}

// Fault 12: beyond loopback nobody serves without a token, and a wrong one is
// told.
func TestToken_Fault12(t *testing.T) {
	_, err := hub.Start(within(t), hub.Config{Listen: "0.0.0.0:0", Logger: quiet()})
	if err == nil || !strings.Contains(err.Error(), "token") {
		t.Fatal(err)
	}
	h := startHub(t, hub.Config{Listen: "127.0.0.1:0", Token: "secret"})
	for _, token := range []string{"", "wrong"} {
		_, err = engine.Dial(within(t), engine.ConnConfig{URLs: h.URL(), Token: token, Logger: quiet()})
		if err == nil || !strings.Contains(err.Error(), "token") {
			t.Fatal(err)
		}
	}
	c, err := engine.Dial(within(t), engine.ConnConfig{URLs: h.URL(), Token: "secret", Logger: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
}

func TestConfig_AllFaultsAtOnce(t *testing.T) {
	_, err := hub.Start(within(t), hub.Config{Cluster: "a.b", TTL: 1, URLs: "x", Listen: "y", Logger: quiet()})
	for _, want := range []string{"a.b", "50ms", "listen"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not tell of %s", err, want)
		}
	}
}

func TestSecondHub_IsRefused(t *testing.T) {
	s := startNATS(t)
	startHub(t, hub.Config{URLs: s.URL()})
	_, err := hub.Start(within(t), hub.Config{URLs: s.URL(), Logger: quiet()})
	if err == nil || !strings.Contains(err.Error(), "has a hub already") {
		t.Fatal(err)
	}
	h := startHub(t, hub.Config{URLs: s.URL(), Cluster: "other"})
	h.Close()
	if h.Err() != nil {
		t.Error(h.Err())
	}
}

// Two hubs that start at once do not see each other; the later one ends.
func TestSecondHub_StartedAtOnceEnds(t *testing.T) {
	s := startNATS(t)
	type result struct {
		h   *hub.Hub
		err error
	}
	results := make(chan result, 2)
	for range 2 {
		go func() {
			h, err := hub.Start(within(t), hub.Config{URLs: s.URL(), TTL: ttl, Logger: quiet()})
			results <- result{h, err}
		}()
	}
	var hubs []*hub.Hub
	for range 2 {
		if r := <-results; r.err == nil {
			hubs = append(hubs, r.h)
			t.Cleanup(r.h.Close)
		}
	}
	if len(hubs) == 2 {
		select {
		case <-hubs[0].Done():
			hubs = hubs[1:]
		case <-hubs[1].Done():
			hubs = hubs[:1]
		case <-time.After(patience):
			t.Fatal("both serve")
		}
	}
	if len(hubs) != 1 || hubs[0].Err() != nil {
		t.Fatalf("%d hubs serve", len(hubs))
	}
	a, b := join(t, s.URL(), "a"), join(t, s.URL(), "b")
	a.sees("b", members.Alive)
	b.sees("a", members.Alive)
}

// S17: what is no request is answered as such, and harms nobody.
func TestMalformed_S17(t *testing.T) {
	h := startHub(t, hub.Config{Listen: "127.0.0.1:0"})
	n := newNode(t, h.URL(), "a")
	for _, kind := range []string{session.KindJoin, session.KindBeat, session.KindKinds, session.KindLeave, "hub.nonsense"} {
		for _, input := range []string{"", "null", "[]", `{"life":"x"}`, "\x00\xff"} {
			rep, err := n.end.Do(within(t), link.Hub, &wire.Command{Kind: kind, Input: []byte(input)}, 0)
			if err != nil || rep.Outcome == wire.Unknown {
				t.Errorf("%s %q: %+v, %v", kind, input, rep, err)
			}
		}
	}
	if err := n.conn.Publish(hub.Prefix("default")+".view", []byte("{not a view")); err != nil {
		t.Fatal(err)
	}
	if err := n.conn.Publish(hub.Prefix("default")+".hub", []byte("\x01junk")); err != nil {
		t.Fatal(err)
	}
	if err := n.open(within(t)); err != nil {
		t.Fatal(err)
	}
}

// A protocol of another number is refused and told how to help.
func TestJoin_OtherProtocol(t *testing.T) {
	h := startHub(t, hub.Config{Listen: "127.0.0.1:0"})
	n := newNode(t, h.URL(), "a")
	rep, err := n.end.Do(within(t), link.Hub, &wire.Command{Kind: session.KindJoin, Input: []byte(`{"name":"a","life":1,"protocol":99}`)}, 0)
	if err != nil || !strings.Contains(string(rep.Payload), "protocol 99") {
		t.Fatalf("%s, %v", rep.Payload, err)
	}
}

// Broadcasts that a node missed are found by its beats.
func TestView_GapIsClosed(t *testing.T) {
	h := startHub(t, hub.Config{Listen: "127.0.0.1:0"})
	a := join(t, h.URL(), "a")
	v := a.s.View()
	// A change from far in the future, as if all between had been lost.
	data := fmt.Sprintf(`{"hub":%d,"changes":[{"version":%d,"member":{"name":"ghost","life":5,"state":"alive"}}]}`, v.Hub, v.Version+1000)
	if err := a.conn.Publish(hub.Prefix("default")+".view", []byte(data)); err != nil {
		t.Fatal(err)
	}
	join(t, h.URL(), "b")
	a.sees("b", members.Alive)
	if m := a.s.View().Members["ghost"]; m != nil {
		t.Errorf("took up %+v without what came before it", m)
	}
}

// Closing at any moment leaves nothing behind; goleak looks.
func TestClose_AtAnyMoment(t *testing.T) {
	h := startHub(t, hub.Config{Listen: "127.0.0.1:0"})
	for i := range 20 {
		n := newNode(t, h.URL(), fmt.Sprintf("n%d", i))
		ctx, cancel := context.WithTimeout(context.Background(), time.Duration(i)*time.Millisecond)
		if err := n.open(ctx); err == nil && i%2 == 0 {
			_ = n.s.Leave(ctx)
		}
		cancel()
		n.crash()
	}
	h.Close()
	h.Close()
	<-h.Done()
}

// Many nodes at once, each seeing all.
func TestMany(t *testing.T) {
	h := startHub(t, hub.Config{Listen: "127.0.0.1:0", TTL: 3 * time.Second})
	const count = 40
	nodes := make([]*node, count)
	errs := make(chan error, count)
	for i := range nodes {
		nodes[i] = newNode(t, h.URL(), fmt.Sprintf("n%d", i), "work")
		go func() { errs <- nodes[i].open(within(t)) }()
	}
	for range nodes {
		if err := <-errs; err != nil {
			t.Fatal(err)
		}
	}
	for _, n := range nodes {
		n.until("all", func() bool { return len(n.s.View().Handling("work")) == count })
		if n.s.View().Version < nodes[0].s.View().Version-count {
			t.Errorf("%s is far behind", n.name)
		}
	}
}
