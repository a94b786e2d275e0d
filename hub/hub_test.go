package hub_test

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/distgear/distgear/geartest"
	"github.com/distgear/distgear/hub"
	"github.com/distgear/distgear/internal/engine"
	"github.com/distgear/distgear/internal/link"
	"github.com/distgear/distgear/internal/machine/members"
	"github.com/distgear/distgear/internal/runner"
	"github.com/distgear/distgear/internal/session"
	"github.com/distgear/distgear/internal/wire"
)

func TestMain(m *testing.M) {
	if err := flag.Set("test.parallel", "4"); err != nil { // those that run in parallel wait more than they compute
		panic(err)
	}
	geartest.Main(m, roles)
}

// patience bounds every wait of a test. It is not how long anything takes.
const patience = 30 * time.Second

const ttl = 400 * time.Millisecond

func quiet() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

func within(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

func startHub(t testing.TB, cfg hub.Config) *hub.Hub {
	t.Helper()
	if cfg.Logger == nil {
		cfg.Logger = quiet()
	}
	if cfg.TTL == 0 {
		cfg.TTL = ttl
	}
	h, err := hub.Start(within(t), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.Close)
	return h
}

// startNATS is a server that outlives hubs.
func startNATS(t testing.TB) *engine.Server {
	t.Helper()
	s, err := engine.StartServer(engine.ServerConfig{Listen: "127.0.0.1:0", Logger: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// node is what the root package will be: an endpoint that serves, with a
// session.
type node struct {
	t     testing.TB
	name  string
	conn  *engine.Conn
	pool  *runner.Pool
	end   *link.Endpoint
	s     *session.Session
	serve func(*link.Inbound)
	down  sync.Once

	lapses, renews atomic.Int32
	mu             sync.Mutex
	seen           []members.Member
	moved          chan struct{} // closed and replaced with each change
	kinds          []string
}

func newNode(t testing.TB, url, name string, kinds ...string) *node {
	t.Helper()
	n := &node{t: t, name: name, kinds: kinds, moved: make(chan struct{}), pool: runner.New()}
	var err error
	n.conn, err = engine.Dial(within(t), engine.ConnConfig{URLs: url, Name: name, Logger: quiet(), OnUp: func() {
		n.mu.Lock()
		e := n.end
		n.mu.Unlock()
		if e != nil {
			e.Reconnected()
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	e, err := link.Open(link.Config{
		ID: link.NewID(time.Now()), Name: name, Prefix: hub.Prefix("default"), Conn: n.conn, Runner: n.pool, Logger: quiet(),
		Serve: func(in *link.Inbound) {
			if n.serve == nil {
				in.Reply(wire.Report{Outcome: wire.NeverRan})
				return
			}
			n.serve(in)
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	n.mu.Lock()
	n.end = e
	n.mu.Unlock()
	t.Cleanup(n.crash)
	return n
}

func (n *node) config() session.Config {
	return session.Config{
		Name: n.name, Version: "v1", Labels: map[string]string{"zone": "a"},
		Endpoint: n.end, Conn: n.conn, Prefix: hub.Prefix("default"), Logger: quiet(),
		Kinds:    func() []string { n.mu.Lock(); defer n.mu.Unlock(); return n.kinds },
		Load:     func() members.Load { return members.Load{InFlight: len(n.name)} },
		OnChange: n.change,
		OnLapse:  func() { n.lapses.Add(1); n.change(members.Member{}) },
		OnRenew:  func() { n.renews.Add(1); n.change(members.Member{}) },
	}
}

func (n *node) change(m members.Member) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if m.Life != 0 {
		n.seen = append(n.seen, m)
	}
	close(n.moved)
	n.moved = make(chan struct{})
}

func (n *node) open(ctx context.Context) error {
	s, err := session.Open(ctx, n.config())
	if err == nil {
		n.s = s
	}
	return err
}

// crash ends the node without a word.
func (n *node) crash() {
	n.down.Do(func() {
		if n.s != nil {
			n.s.Close()
		}
		n.end.Close()
		n.pool.Close()
		n.conn.Close()
	})
}

func join(t testing.TB, url, name string, kinds ...string) *node {
	t.Helper()
	n := newNode(t, url, name, kinds...)
	if err := n.open(within(t)); err != nil {
		t.Fatal(err)
	}
	return n
}

// until waits for a condition that changes with what the node is told.
func (n *node) until(what string, ok func() bool) {
	n.t.Helper()
	deadline := time.After(patience)
	for {
		n.mu.Lock()
		moved := n.moved
		n.mu.Unlock()
		if ok() {
			return
		}
		select {
		case <-moved:
		case <-deadline:
			n.t.Fatalf("%s: no %s; view %v, seen %v", n.name, what, n.s.View().Members, n.seen)
		}
	}
}

// sees waits until the node sees a member in a state.
func (n *node) sees(name string, state members.State) *members.Member {
	n.t.Helper()
	var m *members.Member
	n.until(fmt.Sprintf("%s %v", name, state), func() bool {
		m = n.s.View().Members[name]
		return m != nil && m.State == state
	})
	return m
}

// poll waits for what nobody signals.
func poll(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); {
		if time.Now().After(end) {
			t.Fatalf("no %s", what)
		}
		<-time.After(time.Millisecond)
	}
}

func (n *node) history(name string) (states []members.State) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, m := range n.seen {
		if m.Name == name && (states == nil || states[len(states)-1] != m.State) {
			states = append(states, m.State)
		}
	}
	return states
}

func TestJoinSeeLeave(t *testing.T) {
	h := startHub(t, hub.Config{Listen: "127.0.0.1:0"})
	a := join(t, h.URL(), "a", "deploy")
	b := join(t, h.URL(), "b", "deploy", "build")
	m := a.sees("b", members.Alive)
	if m.Labels["zone"] != "a" || m.Version != "v1" || m.Incarnation == 0 || m.Life != uint64(b.end.ID()) {
		t.Errorf("b is %+v", m)
	}
	if got := a.s.View().Handling("deploy"); len(got) != 2 || got[0].Name != "a" || got[1].Name != "b" {
		t.Errorf("deploy is handled by %v", got)
	}
	if !a.s.Valid(time.Now()) || a.s.Valid(time.Now().Add(ttl)) {
		t.Error("a fresh lease is valid for less than a time-to-live")
	}
	if d := time.Since(a.s.HubTime(time.Now())).Abs(); d > 50*time.Millisecond {
		t.Errorf("the hub's time is off by %v on one machine", d)
	}
	b.mu.Lock()
	b.kinds = []string{"test"}
	b.mu.Unlock()
	if err := b.s.SetKinds(within(t)); err != nil {
		t.Fatal(err)
	}
	a.until("test on b", func() bool { return len(a.s.View().Handling("test")) == 1 })
	poll(t, "load of b at a", func() bool { return a.s.View().Members["b"].Load.InFlight == 1 })
	if err := b.s.Leave(within(t)); err != nil {
		t.Fatal(err)
	}
	if b.s.Valid(time.Now()) {
		t.Error("a lease that was given back is valid")
	}
	a.sees("b", members.Left)
	if got := a.s.LifeState(uint64(b.end.ID())); got != session.LifeOver {
		t.Errorf("the life of b is %v", got)
	}
	if a.s.LifeState(12345) != session.LifeUnknown || a.s.LifeState(uint64(a.end.ID())) != session.LifeAlive {
		t.Error("states of other lives")
	}
	if err := b.s.Leave(within(t)); err != nil {
		t.Error(err)
	}
	if err := b.s.SetKinds(within(t)); !errors.Is(err, session.ErrClosed) {
		t.Error(err)
	}
	if n := b.lapses.Load(); n != 0 {
		t.Errorf("leaving is no lapse, but there were %d", n)
	}
}

func TestCrash_IsLost(t *testing.T) {
	h := startHub(t, hub.Config{Listen: "127.0.0.1:0"})
	a := join(t, h.URL(), "a")
	b := join(t, h.URL(), "b")
	a.sees("b", members.Alive)
	b.crash()
	a.sees("b", members.Lost)
	a.until("b suspect before it was lost", func() bool { return strings.HasSuffix(fmt.Sprint(a.history("b")), "suspect lost]") })
	// The next process of that name is another life.
	c := join(t, h.URL(), "b")
	if m := a.sees("b", members.Alive); m.Life != uint64(c.end.ID()) {
		t.Errorf("b is %+v", m)
	}
	if a.s.LifeState(uint64(b.end.ID())) != session.LifeOver {
		t.Error("the old life of b is not over")
	}
}

func TestCrash_RestartAtOnceWaitsForTheName(t *testing.T) {
	h := startHub(t, hub.Config{Listen: "127.0.0.1:0"})
	a := join(t, h.URL(), "a")
	b := join(t, h.URL(), "b")
	a.sees("b", members.Alive)
	b.crash()
	c := join(t, h.URL(), "b") // while the old one still counts as alive
	a.until("lost before the new one is alive", func() bool {
		return a.s.LifeState(uint64(b.end.ID())) == session.LifeOver && a.s.LifeState(uint64(c.end.ID())) == session.LifeAlive
	})
}

func TestName_TakenIsRefused(t *testing.T) {
	h := startHub(t, hub.Config{Listen: "127.0.0.1:0"})
	join(t, h.URL(), "a")
	n := newNode(t, h.URL(), "a")
	err := n.open(within(t))
	refused, ok := errors.AsType[*session.RefusedError](err)
	if !ok || !strings.Contains(refused.Reason, "another name") {
		t.Fatal(err)
	}
	n = newNode(t, h.URL(), "not a name")
	if err := n.open(within(t)); !errors.As(err, &refused) {
		t.Fatal(err)
	}
}

func TestOpen_ObeysItsContext(t *testing.T) {
	s := startNATS(t)
	n := newNode(t, s.URL(), "a")
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if err := n.open(ctx); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "no hub") {
		t.Fatal(err)
	}
}

func TestOpen_BeforeTheHub(t *testing.T) {
	s := startNATS(t)
	n := newNode(t, s.URL(), "a")
	opened := make(chan error, 1)
	go func() { opened <- n.open(within(t)) }()
	startHub(t, hub.Config{URLs: s.URL()})
	if err := <-opened; err != nil {
		t.Fatal(err)
	}
}

func TestInit_RunsOnAHandlerAndMayRefuse(t *testing.T) {
	h := startHub(t, hub.Config{Listen: "127.0.0.1:0"})
	a := newNode(t, h.URL(), "a", members.KindJoin)
	var b *node
	a.serve = func(in *link.Inbound) {
		var m members.Member
		if in.Input[0] != 'j' || json.Unmarshal(in.Input[1:], &m) != nil {
			t.Errorf("input %q", in.Input)
		}
		if m.Name == "bad" {
			in.Reply(wire.Report{Outcome: wire.Dirty, Error: &wire.Error{Message: "no disk"}})
			return
		}
		if m.State != members.Joining || in.Kind != members.KindJoin {
			t.Errorf("%s of %+v", in.Kind, m)
		}
		// The init event commands the joining node: it serves already.
		rep, err := a.end.Do(in, link.ID(m.Life), &wire.Command{Kind: "prepare"}, 0)
		if err != nil {
			rep = wire.Report{}
		}
		in.Reply(rep)
	}
	if err := a.open(within(t)); err != nil {
		t.Fatal(err)
	}
	var prepared atomic.Bool
	b = newNode(t, h.URL(), "b")
	b.serve = func(in *link.Inbound) {
		prepared.Store(true)
		in.Reply(wire.Report{Outcome: wire.OK, Over: true})
	}
	if err := b.open(within(t)); err != nil {
		t.Fatal(err)
	}
	if !prepared.Load() {
		t.Error("b was admitted before its init event")
	}
	a.until("b joining and then alive", func() bool { return fmt.Sprint(a.history("b")) == "[joining alive]" })
	bad := newNode(t, h.URL(), "bad")
	err := bad.open(within(t))
	refused, ok := errors.AsType[*session.RefusedError](err)
	if !ok || refused.Reason != "no disk" {
		t.Fatal(err)
	}
}

func TestInit_NextHandlerWhenOneIsLost(t *testing.T) {
	h := startHub(t, hub.Config{Listen: "127.0.0.1:0"})
	began := make(chan *node, 4)
	var handlers []*node
	for _, name := range []string{"h", "hh"} { // the second carries more load
		n := newNode(t, h.URL(), name, members.KindJoin)
		n.serve = func(in *link.Inbound) {
			if m := string(in.Input); !strings.Contains(m, `"name":"x"`) {
				in.Reply(wire.Report{Outcome: wire.OK, Over: true})
				return
			}
			began <- n
			if n.name == "h" {
				<-in.Done() // it never ends by itself
			}
			in.Reply(wire.Report{Outcome: wire.OK, Over: true})
		}
		if err := n.open(within(t)); err != nil {
			t.Fatal(err)
		}
		handlers = append(handlers, n)
	}
	opened := make(chan error, 1)
	x := newNode(t, h.URL(), "x")
	go func() { opened <- x.open(within(t)) }()
	first := <-began
	if first != handlers[0] {
		t.Fatalf("the first handler is %s", first.name)
	}
	first.s.Close() // it beats no more
	if err := <-opened; err != nil {
		t.Fatal(err)
	}
	if second := <-began; second != handlers[1] {
		t.Fatalf("the second handler is %s", second.name)
	}
	first.end.CancelRunning(func(*link.Inbound) bool { return true })
}

func TestLoss_IsToldToAHandler(t *testing.T) {
	h := startHub(t, hub.Config{Listen: "127.0.0.1:0"})
	told := make(chan string, 8)
	var failed atomic.Bool
	for _, name := range []string{"a", "aa"} {
		n := newNode(t, h.URL(), name, members.KindLost)
		n.serve = func(in *link.Inbound) {
			if failed.CompareAndSwap(false, true) { // the first one asked is too busy
				in.Reply(wire.Report{Outcome: wire.NeverRan})
				return
			}
			told <- in.Kind + string(in.Input)
			in.Reply(wire.Report{Outcome: wire.OK, Over: true})
		}
		if err := n.open(within(t)); err != nil {
			t.Fatal(err)
		}
	}
	b := join(t, h.URL(), "b")
	b.crash()
	select {
	case s := <-told:
		if !strings.HasPrefix(s, "node.lostj{") || !strings.Contains(s, `"state":"lost"`) {
			t.Error(s)
		}
	case <-time.After(patience):
		t.Fatal("nobody was told")
	}
}
