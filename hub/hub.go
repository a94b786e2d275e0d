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
// A change of the view is published before the answer that tells of it. The init
// event is raised at least once for a node that joins, and its error refuses the
// node; a loss is told at least once to one member that handles it, if one was
// alive. A hub without a token listens on loopback only. Of several
// hubs of one cluster, with Peers or on a NATS of others that has JetStream, one
// decides and writes the ledger, and the others stand by; without JetStream the
// later one ends, with an error.
//
// # Failures
//
// Membership is not kept on disk. While it is away the nodes work on what they
// know until their leases lapse; when it is started again they join it, and
// bring what they knew of each other. A loss that was noticed but not told when
// the hub died is not told.
package hub

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/distgear/distgear/internal/engine"
	"github.com/distgear/distgear/internal/ledger"
)

// probeTime is how long a hub that starts on a NATS of others waits for a word
// of another hub.
const probeTime = 250 * time.Millisecond

// Config says how to run a hub. Its zero value serves this process only.
type Config struct {
	Cluster string        // zero: "default"
	Listen  string        // host:port of the embedded NATS server, port 0 chooses; zero: in this process only
	Token   string        // what nodes must present; needed to listen beyond loopback
	TTL     time.Duration // of a node's session; zero: 3 s; at least 50 ms
	URLs    string        // use the NATS there instead of an embedded one; excludes Listen
	Name    string        // of this hub among several, the same after a restart; needed with Peers
	Route   string        // host:port where the other hubs connect; needed with Peers
	Peers   []string      // the Routes of all hubs of the cluster, three of them, in any order; zero: this is the only one
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
	looking   chan struct{} // 1: holds who looks into the ledger

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

// Start starts a hub and returns when nodes can join it.
func Start(ctx context.Context, cfg Config) (*Hub, error) {
	cfg.Cluster = cmp.Or(cfg.Cluster, "default")
	cfg.TTL = cmp.Or(cfg.TTL, 3*time.Second)
	cfg.Logger = cmp.Or(cfg.Logger, slog.Default())
	if err := errors.Join(CheckCluster(cfg.Cluster), cfg.check()); err != nil {
		return nil, fmt.Errorf("hub: %w", err)
	}
	h := &Hub{cfg: cfg, prefix: Prefix(cfg.Cluster), log: cfg.Logger.With("room", "hub"), done: make(chan struct{}), looking: make(chan struct{}, 1)}
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
		return h.standBy(ctx, lc)
	case h.server != nil: // nobody else can be the hub
		lc.Memory, lc.Eager = cfg.Dir == "", true
		if h.authority, err = h.startAuthority(ctx, 0); err != nil {
			return err
		}
		h.wg.Go(h.watch)
		if cfg.Dir != "" {
			h.wg.Go(h.revive)
		}
		return h.open(ctx, lc, nil)
	}
	if lc.Replicas = h.conn.Logs(ctx); lc.Replicas > 0 {
		return h.standBy(ctx, lc)
	}
	h.log.Warn("the NATS at these addresses has no JetStream: there are no shared objects, and no second hub can stand by", "urls", cfg.URLs)
	if h.authority, err = h.startAuthority(ctx, 0); err != nil {
		return err
	}
	h.wg.Go(h.watch)
	return nil
}

// standBy makes this one of several hubs: whoever is the ledger's writer is the
// authority.
func (h *Hub) standBy(ctx context.Context, cfg ledger.Config) error {
	return h.open(ctx, cfg, h.lead)
}

// open opens the ledger.
func (h *Hub) open(ctx context.Context, cfg ledger.Config, lead func(term uint64) error) error {
	d, err := openDesk(ctx, h.conn, h.prefix, cfg, lead)
	if err == nil {
		h.mu.Lock()
		h.desk = d
		h.mu.Unlock()
	}
	return err
}

// revive opens the store of the only server again when it could not be written.
// In a cluster the servers of the other hubs go on, and this one is started again by
// whoever has made room.
func (h *Hub) revive() {
	t := time.NewTicker(time.Second)
	defer t.Stop()
	for {
		select {
		case <-t.C:
		case <-h.ctx.Done():
			return
		}
		if !h.server.StoreFailed() {
			continue
		}
		h.log.Error("the ledger cannot be stored (is the disk full?): shared objects wait until it can", "dir", h.cfg.Dir)
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

// lead makes this hub the authority of a term, or with 0 makes it stop. The desk
// calls it when the ledger has another writer, one call after the other.
func (h *Hub) lead(term uint64) error {
	h.mu.Lock()
	old := h.authority
	h.authority = nil
	h.mu.Unlock()
	if old != nil {
		old.close()
	}
	if term == 0 {
		return nil
	}
	a, err := h.startAuthority(h.ctx, term)
	if err != nil {
		return err
	}
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
		case n != 3:
			faults = append(faults, fmt.Errorf("%d hubs: one, or three of which two decide", n))
		case cfg.URLs != "":
			faults = append(faults, errors.New("either name the Peers of this hub or use the NATS at URLs"))
		case cfg.Route == "" || cfg.Name == "":
			faults = append(faults, errors.New("a hub among several needs a Name and a Route"))
		}
	}
	return errors.Join(faults...)
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
