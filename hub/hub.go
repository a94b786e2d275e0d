// Package hub is the process that others join: an embedded NATS server and
// the authority over who is a member.
//
//	h, err := hub.Start(ctx, hub.Config{Cluster: "default", Listen: "127.0.0.1:4222"})
//	fmt.Println(h.URL()) // what nodes are given as Config.Hub
//	h.Close()
//
// A hub runs no user code. The init event of a node that joins, and the loss
// of one, are commands of the kinds node.join and node.lost to a member that
// handles them; their input is the member as JSON (package codec's 'j').
//
// # Guarantees
//
// One goroutine owns the membership; what it decides is internal/machine/members.
// A decision is told when the ledger has it, and a change of the view before the answer
// that tells of it. So all nodes see the same changes in the same order, whichever hub
// decides, and nodes go on with another hub as with the one before. The init
// event is raised at least once for a node that joins, and its error refuses the
// node; a loss is told at least once to one member that handles it, if one was
// alive. A hub without a token listens on loopback only. Of several
// hubs of one cluster, with Peers or on a NATS of others that has JetStream, one
// decides and writes the ledger, and the others stand by; without JetStream the
// later one ends, with an error.
//
// # Failures
//
// While no hub is there the nodes work on what they know until their leases lapse. A
// hub in memory that is started again begins anew: they join it, and bring what they
// knew of each other; a loss that was not told yet is not told. While the ledger takes
// nothing, its disk is full say, members stay what they are: those who beat keep their
// leases, and nobody joins, leaves or is lost before it goes on.
package hub

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/distgear/distgear/internal/engine"
	"github.com/distgear/distgear/internal/ledger"
)

// probeTime is how long a hub that starts on a NATS of others waits for a word
// of another hub.
const probeTime = 250 * time.Millisecond

// maxRevive is how many seconds lie between two attempts to open a store that
// cannot be written, at most.
const maxRevive = 10

// Config says how to run a hub. Its zero value serves this process only.
type Config struct {
	Cluster string        // zero: "default"
	Listen  string        // host:port of the embedded NATS server, port 0 chooses; zero: in this process only
	Token   string        // what nodes must present; needed to listen beyond loopback
	TTL     time.Duration // of a node's session; zero: 3 s; at least 50 ms
	URLs    string        // use the NATS there instead of an embedded one; excludes Listen
	Name    string        // of this hub among several, the same after a restart; needed with Peers
	Route   string        // host:port where the other hubs connect; needed with Peers
	Peers   []string      // the Routes of all hubs of the cluster, three of them, this one's too, in any order; zero: this is the only one
	Dir     string        // where the embedded NATS server keeps the ledger, synced before it is acknowledged; zero: in memory
	Version string        // of the program, for people
	Logger  *slog.Logger  // nil means slog.Default()
}

// Hub is a running hub. It is safe for concurrent use.
type Hub struct {
	cfg    Config
	prefix string
	log    *slog.Logger

	server *engine.Server // nil with Config.URLs
	conn   *engine.Conn

	ctx       context.Context // of the hub's goroutines
	cancel    context.CancelCauseFunc
	wg        sync.WaitGroup
	done      chan struct{}
	doneOnce  sync.Once
	closeOnce sync.Once
	leadOnce  sync.Once
	looking   chan struct{} // 1: holds who looks into the ledger
	led       chan struct{} // closed when this hub decides, for the first time

	mu        sync.Mutex
	desk      *desk      // nil while there is no ledger
	authority *authority // nil while another hub is the one
	err       error
}

// Prefix is what the subjects of a cluster begin with.
func Prefix(cluster string) string { return "dg." + cluster }

// CheckCluster says what is wrong with a cluster's name, or nil.
func CheckCluster(cluster string) error {
	for i, c := range []byte(cluster) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', i > 0 && (c == '-' || c == '_'):
		default:
			return fmt.Errorf("the cluster's name %q is not letters, digits, '-' and '_'", cluster)
		}
	}
	if cluster == "" || len(cluster) > 64 {
		return fmt.Errorf("the cluster's name has %d bytes, not 1 to 64", len(cluster))
	}
	return nil
}

// Start starts a hub and returns when nodes can connect to it. With Peers, or on a
// NATS of others, it first waits until most of the servers are there and it has
// read the ledger, and with Peers until it has a copy of its own (20 s at most): so
// hubs can be restarted one after the other; a node's Join waits until one of the hubs is the writer.
func Start(ctx context.Context, cfg Config) (*Hub, error) {
	cfg.Cluster = cmp.Or(cfg.Cluster, "default")
	cfg.TTL = cmp.Or(cfg.TTL, 3*time.Second)
	cfg.Logger = cmp.Or(cfg.Logger, slog.Default())
	cfg.Peers = slices.Clone(cfg.Peers)
	for i, p := range cfg.Peers {
		cfg.Peers[i] = strings.TrimSpace(p)
	}
	if err := errors.Join(CheckCluster(cfg.Cluster), cfg.check()); err != nil {
		return nil, fmt.Errorf("hub: %w", err)
	}
	h := &Hub{cfg: cfg, prefix: Prefix(cfg.Cluster), log: cfg.Logger.With("room", "hub"), done: make(chan struct{}), looking: make(chan struct{}, 1), led: make(chan struct{})}
	h.ctx, h.cancel = context.WithCancelCause(context.Background())
	if err := h.start(ctx); err != nil {
		h.release()
		return nil, fmt.Errorf("hub: %w", err)
	}
	return h, nil
}

func (h *Hub) start(ctx context.Context) (err error) {
	cfg := &h.cfg
	conn := engine.ConnConfig{URLs: cfg.URLs, Token: cfg.Token, Name: "distgear hub of " + cfg.Cluster, Logger: cfg.Logger, OnUp: h.reconnected}
	if cfg.URLs == "" {
		sc := engine.ServerConfig{Listen: cfg.Listen, Token: cfg.Token, Logger: cfg.Logger, Tier: engine.Memory, Dir: cfg.Dir}
		if cfg.Dir != "" {
			sc.Tier = engine.Sync
		}
		if len(cfg.Peers) > 0 {
			sc.Cluster = &engine.Cluster{Name: cfg.Cluster, Server: cfg.Name, Listen: cfg.Route, Routes: cfg.Peers}
			starting, cancel := context.WithCancelCause(ctx)
			defer cancel(nil)
			sc.OnTwin = func() {
				cancel(fmt.Errorf("another hub of the cluster has the name %q: give this one a Name of its own, or stop that one", cfg.Name))
			}
			ctx = starting
		}
		if h.server, err = engine.StartServer(sc); err != nil {
			return err
		}
		conn.Server = h.server
	}
	if h.conn, err = engine.Dial(ctx, conn); err != nil {
		return err
	}
	lc := ledger.Config{Name: "distgear-" + cfg.Cluster, Hub: cmp.Or(cfg.Name, "hub"), Logger: cfg.Logger}
	switch {
	case len(cfg.Peers) > 0:
		lc.Memory, lc.Replicas = cfg.Dir == "", len(cfg.Peers)
		if err = h.standBy(ctx, lc); err != nil {
			return err
		}
		if cfg.Dir != "" {
			h.wg.Go(h.revive)
		}
		return h.fill(ctx, lc.Name)
	case h.server != nil: // nobody else can be the hub
		lc.Memory, lc.Eager = cfg.Dir == "", true
		if cfg.Dir != "" {
			h.wg.Go(h.revive)
		}
		if err = h.standBy(ctx, lc); err == nil {
			h.begun(ctx)
		}
		return err
	}
	if lc.Replicas = h.conn.Logs(ctx); lc.Replicas > 0 {
		return h.standBy(ctx, lc)
	}
	h.log.Warn("the NATS at these addresses has no JetStream: there are no shared objects, and no second hub can stand by", "urls", cfg.URLs)
	if h.authority, err = h.startAuthority(ctx, only(time.Now())); err != nil {
		return err
	}
	h.wg.Go(h.watch)
	return nil
}

// standBy opens the ledger: whichever hub is its writer is the authority.
func (h *Hub) standBy(ctx context.Context, cfg ledger.Config) error {
	d, err := openDesk(ctx, h.conn, h.prefix, cfg, h.lead)
	if err == nil {
		h.mu.Lock()
		h.desk = d
		h.mu.Unlock()
		h.wg.Go(func() { h.sweep(d) })
	}
	return err
}

// fillTime is how long Start waits for this hub's own copy of the ledger.
const fillTime = 20 * time.Second

// fill waits until this hub has its own copy of the ledger: who restarts hubs one
// after the other may end the next one then. Not for ever, since two of three that
// are full can do without it.
func (h *Hub) fill(ctx context.Context, log string) error {
	late := time.NewTimer(fillTime)
	defer late.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !h.server.Full(log) {
		select {
		case <-tick.C:
		case <-late.C:
			h.log.Warn("this hub's copy of the ledger is being filled still: until it is, end no other hub (distgear doctor says which are behind)")
			return nil
		case <-ctx.Done():
			return fmt.Errorf("waiting for a copy of the ledger: %w", context.Cause(ctx))
		}
	}
	return nil
}

// begun waits until nodes can join; not for long, since the log may not take
// anything now.
func (h *Hub) begun(ctx context.Context) {
	t := time.NewTimer(time.Second)
	defer t.Stop()
	select {
	case <-h.led:
	case <-t.C:
		h.log.Warn("the ledger does not take anything yet: nodes wait until it does")
	case <-ctx.Done():
	}
}

// revive opens the server's store again when it could not be written. The servers of
// the other hubs, if there are some, go on meanwhile.
func (h *Hub) revive() {
	t := time.NewTicker(time.Second)
	defer t.Stop()
	for skip, tries := 0, 0; ; {
		select {
		case <-t.C:
		case <-h.ctx.Done():
			return
		}
		if skip--; skip > 0 {
			continue
		}
		if !h.server.StoreFailed() {
			tries = 0
			continue
		}
		tries++
		skip = min(tries, maxRevive)
		h.log.Error("the ledger cannot be stored here (is the disk full?): it is tried again until there is room", "dir", h.cfg.Dir)
		if err := h.server.Revive(); err != nil {
			h.log.Error("the ledger's store cannot be opened yet", "err", err)
		}
	}
}

// watch ends the hub when its only authority ends by itself.
func (h *Hub) watch() {
	a := h.authority
	select {
	case <-a.done:
	case <-h.ctx.Done():
		return
	}
	h.mu.Lock()
	h.err = a.failed()
	h.mu.Unlock()
	h.cancel(h.err)
	h.doneOnce.Do(func() { close(h.done) })
}

// lead makes this hub the authority in a term, or with nil makes it stop. The desk
// calls it when the ledger has another writer, one call after the other.
func (h *Hub) lead(t *term) error {
	h.mu.Lock()
	old := h.authority
	h.authority = nil
	h.mu.Unlock()
	if old != nil {
		old.close()
	}
	if t == nil {
		return nil
	}
	a, err := h.startAuthority(h.ctx, t)
	if err != nil {
		return err
	}
	h.leadOnce.Do(func() { close(h.led) })
	h.mu.Lock()
	h.authority = a
	h.mu.Unlock()
	return nil
}

// reconnected makes up for what may have been missed while the connection was
// down.
func (h *Hub) reconnected() {
	h.mu.Lock()
	a := h.authority
	h.mu.Unlock()
	if a != nil {
		a.post(a.reconnected)
	}
}

func (cfg *Config) check() error {
	var faults []error
	if cfg.TTL < 50*time.Millisecond {
		faults = append(faults, fmt.Errorf("TTL %v is shorter than 50ms", cfg.TTL))
	}
	if cfg.URLs != "" && cfg.Listen != "" {
		faults = append(faults, errors.New("either listen or use the NATS at URLs"))
	}
	if n := len(cfg.Peers); n > 0 {
		switch {
		case n != 3, cfg.Peers[0] == cfg.Peers[1], cfg.Peers[0] == cfg.Peers[2], cfg.Peers[1] == cfg.Peers[2]:
			faults = append(faults, fmt.Errorf("the Peers %s are not three: one hub, or three of which two decide", strings.Join(cfg.Peers, ",")))
		case cfg.URLs != "":
			faults = append(faults, errors.New("either name the Peers of this hub or use the NATS at URLs"))
		case cfg.Route == "" || cfg.Name == "":
			faults = append(faults, errors.New("a hub among several needs a Name and a Route"))
		case !cfg.among():
			faults = append(faults, fmt.Errorf("the Route %s is none of the Peers %s: a fourth hub would take part in their votes; one that replaces another has its Name, and the same Peers as all", cfg.Route, strings.Join(cfg.Peers, ",")))
		}
	}
	return errors.Join(faults...)
}

// among tells whether the Route may be one of the Peers, whatever the host is
// called there.
func (cfg *Config) among() bool {
	_, own, err := net.SplitHostPort(cfg.Route)
	return err != nil || slices.ContainsFunc(cfg.Peers, func(p string) bool { // the server tells what is wrong with an address
		_, port, err := net.SplitHostPort(p)
		return err != nil || port == own
	})
}

// URL is where nodes connect; empty when the hub serves this process only.
func (h *Hub) URL() string {
	if h.server == nil {
		return h.cfg.URLs
	}
	return h.server.URL()
}

// Server is the embedded NATS server, for nodes in this process; nil when
// Config.URLs was given.
func (h *Hub) Server() *engine.Server { return h.server }

// Prefix is what the subjects of the hub's cluster begin with.
func (h *Hub) Prefix() string { return h.prefix }

// Done is closed when the hub has ended: by Close, or because an earlier hub
// of its cluster was found.
func (h *Hub) Done() <-chan struct{} { return h.done }

// Err says why the hub ended by itself; nil before that and after Close.
func (h *Hub) Err() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.err
}

// Close stops the hub and returns when its goroutines are gone. Another hub, if
// there is one, takes over at once; otherwise nodes go on with what they know
// until their leases lapse.
func (h *Hub) Close() {
	h.closeOnce.Do(func() {
		h.cancel(errors.New("hub: closed"))
		h.release()
		h.doneOnce.Do(func() { close(h.done) })
	})
}

// release gives back what start took, in reverse order.
func (h *Hub) release() {
	h.cancel(nil)
	h.wg.Wait()
	if h.desk != nil {
		h.desk.close()
	}
	if h.authority != nil {
		h.authority.close()
	}
	if h.conn != nil {
		h.conn.Close()
	}
	if h.server != nil {
		h.server.Close()
	}
}

// Writer tells whether this hub writes the ledger now, as far as it knows.
func (h *Hub) Writer() bool {
	h.mu.Lock()
	d := h.desk
	h.mu.Unlock()
	return d != nil && d.ledger.Writer()
}
