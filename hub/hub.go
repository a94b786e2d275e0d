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
// alive. A hub without a token listens on loopback only. Two hubs of one cluster
// on one NATS do not stay: the later one ends, with an error.
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
	"github.com/distgear/distgear/internal/link"
	"github.com/distgear/distgear/internal/machine/members"
	"github.com/distgear/distgear/internal/runner"
	"github.com/distgear/distgear/internal/session"
	"github.com/distgear/distgear/internal/wire"
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
	Dir     string        // where the embedded NATS server keeps the ledger, synced before it is acknowledged; zero: in memory
	Logger  *slog.Logger  // nil means slog.Default()
}

// Hub is a running hub. It is safe for concurrent use.
type Hub struct {
	cfg    Config
	life   link.ID
	prefix string
	log    *slog.Logger

	server   *engine.Server // nil with Config.URLs
	conn     *engine.Conn
	pool     *runner.Pool
	requests *link.Endpoint // answers as link.Hub, in whatever life
	own      *link.Endpoint // raises, as this life
	unview   func()         // ends the subscription to the view
	desk     *desk          // nil when the NATS of others has no JetStream

	machine *members.Machine
	inbox   chan *link.Inbound
	touched map[uint64]bool          // lives that own has ever sent to
	logged  map[uint64]members.State // by life: what the log says

	pmu    sync.Mutex
	posts  []func()      // for the loop
	posted chan struct{} // 1: there are posts

	ctx       context.Context // of the hub's goroutines
	cancel    context.CancelCauseFunc
	wg        sync.WaitGroup // loop
	raises    sync.WaitGroup // started by loop only
	done      chan struct{}
	closeOnce sync.Once
	mu        sync.Mutex
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
	now := time.Now()
	h := &Hub{
		cfg: cfg, life: link.NewID(now), prefix: Prefix(cfg.Cluster), log: cfg.Logger.With("room", "hub"),
		pool:    runner.New(),
		machine: members.New(members.Config{TTL: cfg.TTL}, now),
		inbox:   make(chan *link.Inbound, 256), // a round of the loop
		posted:  make(chan struct{}, 1),
		touched: make(map[uint64]bool),
		logged:  make(map[uint64]members.State),
		done:    make(chan struct{}),
	}
	h.ctx, h.cancel = context.WithCancelCause(context.Background())
	if err := h.start(ctx); err != nil {
		h.release()
		return nil, fmt.Errorf("hub: %w", err)
	}
	return h, nil
}

func (h *Hub) start(ctx context.Context) (err error) {
	cfg := &h.cfg
	conn := engine.ConnConfig{URLs: cfg.URLs, Token: cfg.Token, Name: "distgear hub of " + cfg.Cluster, Logger: cfg.Logger}
	if cfg.URLs == "" {
		tier := engine.Memory
		if cfg.Dir != "" {
			tier = engine.Sync
		}
		h.server, err = engine.StartServer(engine.ServerConfig{Listen: cfg.Listen, Token: cfg.Token, Logger: cfg.Logger, Tier: tier, Dir: cfg.Dir})
		if err != nil {
			return err
		}
		conn.Server = h.server
	}
	conn.OnUp = func() { h.post(h.reconnected) }
	if h.conn, err = engine.Dial(ctx, conn); err != nil {
		return err
	}
	h.own, err = link.Open(link.Config{ID: h.life, Name: "hub", Prefix: h.prefix, Conn: h.conn, Runner: h.pool, Serve: refuse, Logger: cfg.Logger})
	if err != nil {
		return err
	}
	if cfg.URLs != "" {
		if err = h.probe(ctx); err != nil {
			return err
		}
	}
	h.requests, err = link.Open(link.Config{ID: link.Hub, Name: "hub", Prefix: h.prefix, Conn: h.conn, Runner: h.pool, Serve: h.serve, Logger: cfg.Logger})
	if err != nil {
		return err
	}
	h.unview, err = h.conn.Subscribe(session.ViewSubject(h.prefix), h.overhear)
	if err != nil {
		return err
	}
	h.wg.Go(h.loop)
	return h.openLedger(ctx)
}

// openLedger opens the ledger. On a NATS of others it does so in the background:
// it may be that there is no JetStream; then there are no shared objects, and
// everything else works.
func (h *Hub) openLedger(ctx context.Context) (err error) {
	cfg := ledger.Config{Name: "distgear-" + h.cfg.Cluster, Hub: h.life.String(), Logger: h.cfg.Logger}
	if h.server != nil {
		cfg.Memory, cfg.Eager = h.cfg.Dir == "", true
		h.desk, err = openDesk(ctx, h.conn, h.prefix, cfg)
		return err
	}
	h.wg.Go(func() {
		for told := false; h.ctx.Err() == nil; told = true {
			d, err := openDesk(h.ctx, h.conn, h.prefix, cfg)
			if err == nil {
				h.desk = d // read after wg.Wait
				return
			}
			if !told && h.ctx.Err() == nil {
				h.log.Warn("no ledger yet, and so no shared objects: does the NATS at these addresses have JetStream?", "urls", h.cfg.URLs, "err", err)
			}
		}
	})
	return nil
}

func (cfg *Config) check() error {
	var faults []error
	if cfg.TTL < 50*time.Millisecond {
		faults = append(faults, fmt.Errorf("TTL %v is shorter than 50ms", cfg.TTL))
	}
	if cfg.URLs != "" && cfg.Listen != "" {
		faults = append(faults, errors.New("either listen or use the NATS at URLs"))
	}
	return errors.Join(faults...)
}

// probe asks whether a hub is there already.
func (h *Hub) probe(ctx context.Context) error {
	if err := h.conn.Flush(ctx); err != nil {
		return fmt.Errorf("NATS at %s: %w", h.cfg.URLs, err)
	}
	wait, cancel := context.WithTimeout(ctx, probeTime)
	defer cancel()
	rep, err := h.own.Do(wait, link.Hub, &wire.Command{Kind: session.KindProbe}, 0)
	switch {
	case err == nil && rep.Outcome == wire.OK:
		return fmt.Errorf("cluster %q has a hub already on the NATS at %s: stop that one, or name another cluster", h.cfg.Cluster, h.cfg.URLs)
	case ctx.Err() != nil:
		return context.Cause(ctx)
	}
	return nil
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

// Close stops the hub and returns when its goroutines are gone. Nodes go on
// with what they know until their leases lapse.
func (h *Hub) Close() {
	h.closeOnce.Do(func() {
		h.cancel(errors.New("hub: closed"))
		h.wg.Wait() // first: it uses what is released
		h.release()
	})
}

// release gives back what Start took, in reverse order.
func (h *Hub) release() {
	h.cancel(nil)
	if h.desk != nil {
		h.desk.close()
	}
	if h.unview != nil {
		h.unview()
	}
	if h.requests != nil {
		h.requests.Close()
	}
	h.raises.Wait()
	if h.own != nil {
		h.own.Close()
	}
	h.pool.Close()
	if h.conn != nil {
		h.conn.Close()
	}
	if h.server != nil {
		h.server.Close()
	}
}

// refuse answers commands to the hub's own life: there are none.
func refuse(in *link.Inbound) { in.Reply(failure("a hub does not serve " + in.Kind)) }

func failure(why string) wire.Report {
	return wire.Report{Outcome: wire.NeverRan, Over: true, Error: &wire.Error{Message: why}}
}
