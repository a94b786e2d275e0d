package distgear

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/distgear/distgear/cluster"
	"github.com/distgear/distgear/hub"
	"github.com/distgear/distgear/internal/client"
	"github.com/distgear/distgear/internal/engine"
	"github.com/distgear/distgear/internal/events"
	"github.com/distgear/distgear/internal/handled"
	"github.com/distgear/distgear/internal/link"
	"github.com/distgear/distgear/internal/machine/members"
	"github.com/distgear/distgear/internal/meter"
	"github.com/distgear/distgear/internal/place"
	"github.com/distgear/distgear/internal/room"
	"github.com/distgear/distgear/internal/runner"
	"github.com/distgear/distgear/internal/runs"
	"github.com/distgear/distgear/internal/session"
	"github.com/distgear/distgear/internal/wire"
)

const (
	// Version is the version of this library.
	Version = "0.1.0"
	// MaxPayload is the largest encoded input or result, in bytes.
	MaxPayload = 1_000_000
	// ConfigFile is the file in the working directory whose settings fill the
	// zero fields of Config. Its keys are the field names in lower case.
	ConfigFile = "distgear.yaml"
	// NodeJoin is an event that the hub raises; its input is a cluster.Member. A node
	// that handles it is asked about every other node before that counts as a
	// member: it may run a plan on it, and its error refuses it.
	NodeJoin = "node.join"
	// NodeLost is an event that the hub raises, at least once and at one node
	// that handles it, after a node was lost. Its input is a cluster.Member.
	NodeLost = "node.lost"
)

// ledgerTTLs is how many of the node's times-to-live its session with the
// ledger has: what it holds there outlives the change from one hub to another.
const ledgerTTLs = 3

// How long a node that leaves waits for the hub to take that up, and for a hub
// that did not answer before, or to which there is no connection.
const (
	hubPatience  = time.Second
	gonePatience = 200 * time.Millisecond
)

// Handler serves the commands of one kind. Actions and Events are Handlers.
type Handler interface {
	// Kind is the name it is addressed by.
	Kind() string
	// Serve runs one command and returns its encoded result. ctx ends at the
	// command's timeout and when it is cancelled.
	Serve(ctx context.Context, c *Command) ([]byte, error)
}

// Node is one process that has joined a cluster, or stands alone. It is safe
// for concurrent use.
type Node struct {
	cfg   Config
	name  cluster.NodeName
	id    link.ID
	since time.Time

	pool    *runner.Pool
	where   *place.Map // where commands go
	room    room.Room
	hub     *hub.Hub                        // nil unless this process hosts it
	conn    *engine.Conn                    // nil when alone
	end     *link.Endpoint                  // nil when alone
	session atomic.Pointer[session.Session] // nil when alone, and while joining
	asker   session.Asker                   // unused when alone
	meter   meter.Meter
	runs    *handled.Registry
	events  *events.Desk
	host    *runs.Host // this node as runs see it
	bye     session.Farewell

	offers   atomic.Pointer[offers]
	builtin  map[string]handled.Answer
	replies  sync.Pool    // of chan struct{}: in a bubble of testing/synctest those of another are of no use
	active   runner.Gauge // commands being served, and runs' late work
	draining atomic.Bool

	wg   sync.WaitGroup // raises that are held back
	done chan struct{}
	stop chan struct{} // closed when leaving begins to be hard

	watchers session.Watchers

	mu      sync.Mutex
	leaving bool
	err     error
}

// offers is what a node handles; it is replaced, never changed.
type offers struct{ m map[string]*offer }

type offer struct {
	h        Handler // wrapped
	plain    Handler // as the user gave it; nil when Wrap may look at what passes
	event    bool    // it is an Event, or built around one
	durable  bool    // and Durable
	direct   bool    // it is an Event and nothing is around it
	inFlight atomic.Int64
}

// Join makes this process a node: alone, hosting the hub (Serve), or of the
// cluster whose hub is at Hub. It returns once the node counts as a member, or
// with ErrRefused when the hub or a handler of NodeJoin will not have it.
// It waits for a hub that is not there yet until ctx ends.
func Join(ctx context.Context, cfg Config) (*Node, error) {
	if err := cfg.fill(); err != nil {
		return nil, err
	}
	n := &Node{
		cfg: cfg, name: cfg.Name, since: time.Now(), pool: runner.New(),
		done: make(chan struct{}), stop: make(chan struct{}),
	}
	n.id = link.NewID(n.since)
	if n.name == "" {
		host, _ := os.Hostname() // an empty one will do
		host, _, _ = strings.Cut(host, ".")
		n.name = cluster.NodeName(fmt.Sprintf("%s-%04x", max(host, "node"), uint64(n.id)&0xffff))
	}
	if err := members.CheckName(string(n.name)); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	n.where = n.mapped()
	n.host = n.hosting()
	n.runs = handled.New(n.host)
	n.offers.Store(&offers{map[string]*offer{}})
	n.builtin = n.runs.Serve()
	n.builtin[kindHeard] = n.heard
	if err := n.Handle(cfg.Handlers...); err != nil {
		return nil, err
	}
	n.room.Node, n.room.Logger, n.room.Works = string(n.name), cfg.Logger, n.works()
	if cfg.Serve == "" && cfg.Hub == "" {
		n.room.Ledger = client.Alone()
		n.desk()
		n.offerRuns()
		return n, nil
	}
	if err := n.connect(ctx); err != nil {
		n.close()
		n.rest()
		return nil, err
	}
	return n, nil
}

func (n *Node) connect(ctx context.Context) (err error) {
	conn := engine.ConnConfig{
		URLs: n.cfg.Hub, Token: n.cfg.Token, Name: n.cfg.Cluster + "/" + string(n.name), Logger: n.cfg.Logger,
		OnUp: func() { n.end.Reconnected(); n.room.Ledger.Reconnected() },
	}
	if n.cfg.Serve != "" {
		h := hub.Config{Cluster: n.cfg.Cluster, Listen: n.cfg.Serve, Token: n.cfg.Token, TTL: n.cfg.TTL, Logger: n.cfg.Logger,
			Name: string(n.name), Route: n.cfg.Route, Dir: n.cfg.Dir, Version: Version}
		if n.cfg.Peers != "" {
			h.Peers = strings.Split(n.cfg.Peers, ",")
		}
		if strings.Contains(h.Listen, "://") { // a NATS cluster that exists already
			h.URLs, h.Listen, conn.URLs = h.Listen, "", h.Listen
		}
		if n.hub, err = hub.Start(ctx, h); err != nil {
			return err
		}
		conn.Server = n.hub.Server()
	}
	// The endpoint must stand before the connection may call it.
	ready := make(chan struct{})
	up := conn.OnUp
	conn.OnUp = func() { <-ready; up() }
	n.conn, err = engine.Dial(ctx, conn)
	if err != nil {
		close(ready)
		return err
	}
	prefix := hub.Prefix(n.cfg.Cluster)
	n.room.Ledger = client.New(client.Config{
		Conn: n.conn, Prefix: prefix, Name: string(n.name), TTL: ledgerTTLs * cmp.Or(n.cfg.TTL, 3*time.Second), Logger: n.cfg.Logger,
	})
	n.desk()
	n.end, err = link.Open(link.Config{
		ID: n.id, Name: string(n.name), Prefix: prefix, Conn: n.conn, Runner: n.pool, Serve: n.serveLink, Logger: n.cfg.Logger,
	})
	n.room.Links = n.end
	close(ready)
	if err != nil {
		return err
	}
	n.asker.Endpoint, n.asker.Done, n.room.Ask = n.end, n.done, n.asker.Ask
	s, err := session.Open(ctx, session.Config{
		Name: string(n.name), Version: Version, Labels: n.cfg.Labels, Endpoint: n.end, Conn: n.conn, Prefix: prefix,
		Kinds: n.kinds, Load: n.load, OnChange: n.changed, OnLapse: n.lapsed, Logger: n.cfg.Logger,
	})
	if refused, ok := errors.AsType[*session.RefusedError](err); ok {
		return fmt.Errorf("%w: %w", ErrRefused, refused)
	}
	if err == nil {
		n.session.Store(s)
		n.offerRuns()
	}
	return err
}

// Room is what the packages of this module that stand on a node need of it. It
// is of no use to others.
func (n *Node) Room() *room.Room { return &n.room }

// Name is the node's name.
func (n *Node) Name() cluster.NodeName { return n.name }

// HubURL is what other processes set as Config.Hub; empty when alone.
func (n *Node) HubURL() string {
	if n.hub != nil && n.hub.Server() != nil {
		return n.hub.URL()
	}
	if n.hub != nil {
		return n.cfg.Serve
	}
	return n.cfg.Hub
}

// Done is closed when the node has left.
func (n *Node) Done() <-chan struct{} { return n.done }

// Err is why the node is done: nil before, ErrLeft after Leave.
func (n *Node) Err() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.err
}

// Handle adds handlers. When it returns, the hub knows of them, unless it
// cannot be reached: then it is told later. All faults are in one error, and
// then none is added. It panics on a nil handler.
func (n *Node) Handle(hs ...Handler) error {
	n.mu.Lock()
	old := n.offers.Load().m
	m := make(map[string]*offer, len(old)+len(hs))
	for k, o := range old {
		m[k] = o
	}
	var faults []error
	for _, h := range hs {
		k := h.Kind()
		if err := check(h); err != nil {
			faults = append(faults, err)
			continue
		}
		if m[k] != nil {
			faults = append(faults, fmt.Errorf("kind %q is handled here already", k))
			continue
		}
		o := &offer{h: h, plain: h}
		if e, ok := h.(interface{ event() Handler }); ok {
			o.event, o.direct = true, e.event() == h && n.cfg.Wrap == nil
			if e, ok := e.event().(interface{ durable() bool }); ok {
				o.durable = e.durable()
			}
		}
		if n.cfg.Wrap != nil {
			o.h, o.plain = n.cfg.Wrap(h), nil
		}
		m[k] = o
	}
	if n.leaving {
		faults = append(faults, ErrLeft)
	}
	if len(faults) > 0 {
		n.mu.Unlock()
		return fmt.Errorf("%w: %w", ErrInvalid, errors.Join(faults...))
	}
	n.offers.Store(&offers{m})
	n.mu.Unlock()
	n.tellKinds()
	if n.session.Load() != nil || n.room.Ledger != nil && n.end == nil {
		n.offerRuns()
	}
	return nil
}

// tellKinds tells the hub what this node handles now.
func (n *Node) tellKinds() {
	s := n.session.Load()
	if s == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := s.SetKinds(ctx); err != nil {
		n.cfg.Logger.Warn("the hub does not know of new handlers yet", "err", err)
	}
}

// check finds what is wrong with a handler.
func check(h Handler) error {
	k := h.Kind()
	if k == "" || len(k) > 128 || strings.HasPrefix(k, "_") || strings.ContainsAny(k, "/ \t\r\n") {
		return fmt.Errorf("kind %q: at most 128 bytes, without blanks or /, not starting with _", k)
	}
	if v, ok := h.(interface{ valid() error }); ok {
		if err := v.valid(); err != nil {
			return fmt.Errorf("%s: %w", k, err)
		}
	}
	return nil
}

// kinds is what the hub is told that this node handles.
func (n *Node) kinds() []string {
	if n.draining.Load() {
		return nil
	}
	m := n.offers.Load().m
	ks := make([]string, 0, len(m))
	for k, o := range m {
		ks = append(ks, k)
		if o.durable {
			ks = append(ks, lasts+k)
		}
	}
	ks = append(ks, n.room.Kinds()...)
	slices.Sort(ks)
	return ks
}

// changed takes a change of membership in: links learn whose session is over.
// The session calls it in order.
func (n *Node) changed(m members.Member) {
	id := link.ID(m.Life)
	if id != n.id {
		switch m.State {
		case members.Left:
			n.saidGoodbye(id)
		case members.Lost:
			n.end.Over(id)
		case members.Alive, members.Joining:
			n.end.Back(id)
		}
	}
	n.watchers.Put(&m)
	n.bye.Heard("")
	n.room.Changed()
}

// lapsed stops what this node does for others: the hub may count it as lost
// from now on, and what it did be done or undone elsewhere (S9). Runs go on:
// they belong to this node.
func (n *Node) lapsed() {
	offers := n.offers.Load().m
	n.end.CancelRunning(func(in *link.Inbound) bool {
		o := offers[in.Kind]
		return o != nil && !o.event || isBuiltin(in.Kind) && n.room.Raw(in.Kind) != nil
	})
}

// Leave finishes what is in flight without taking new work, then leaves. When
// ctx ends first, what runs is cancelled and left behind: the error says how
// much. Later calls wait for the first and return its answer's absence: nil.
func (n *Node) Leave(ctx context.Context) error {
	n.mu.Lock()
	if n.leaving {
		n.mu.Unlock()
		select {
		case <-n.done:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	n.leaving = true
	n.mu.Unlock()
	n.draining.Store(true)
	n.room.Leaving()
	s, patience := n.session.Load(), hubPatience
	if s != nil {
		if !n.conn.Up() {
			patience = gonePatience
		}
		sctx, cancel := context.WithTimeout(ctx, patience)
		if s.SetKinds(sctx) != nil { // a hub that cannot be told finds out by itself
			patience = gonePatience
		}
		cancel()
	}
	var err error
	if !n.active.Drained(ctx) {
		err = fmt.Errorf("left with %d commands unfinished: %w", n.active.Count(), context.Cause(ctx))
	}
	close(n.stop)
	n.active.Close()
	if s != nil {
		sctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
		if s.Leave(sctx) == nil { // else the hub sees it as lost
			n.bye.Wait(context.WithoutCancel(ctx), n.others)
			n.active.Drained(ctx) // an undo may have come meanwhile (S13)
		}
		cancel()
	}
	n.runs.CancelAll()
	n.room.Left()
	if n.end != nil {
		n.end.CancelRunning(func(*link.Inbound) bool { return true })
	}
	n.close()
	n.mu.Lock()
	n.err = ErrLeft
	n.mu.Unlock()
	close(n.done)
	if err != nil {
		go n.rest() // until what is left behind heeds that it was cancelled
		return err
	}
	n.rest()
	return nil
}

// rest waits for the goroutines that run commands, and ends them.
func (n *Node) rest() {
	n.pool.Close()
	n.wg.Wait()
}

// close releases what connect took, in reverse.
func (n *Node) close() {
	if s := n.session.Load(); s != nil {
		s.Close()
	}
	if n.room.Ledger != nil {
		n.room.Ledger.Close()
	}
	if n.end != nil {
		n.end.Close()
	}
	if n.conn != nil {
		n.conn.Close()
	}
	if n.hub != nil {
		n.hub.Close()
	}
}

// hosting is this node as runs see it.
func (n *Node) hosting() *runs.Host {
	return &runs.Host{
		Here: n.where.Here, Log: n.cfg.Logger, Stop: n.stop,
		Place: n.where.Find, Cancel: n.cancel, Error: reportError, Places: n.where.Places, Request: n.request, Hold: n.active.Hold, Free: n.active.Done,
		Clock: func() time.Time { return n.hubTime(time.Now()) },
		Start: func(at place.Place, c *wire.Command, begin time.Time, lost time.Duration, r link.Receiver) (runs.Flight, error) {
			if !begin.IsZero() {
				c.Start = n.hubTime(begin).UnixMilli()
			}
			return n.start(at, c, lost, r)
		},
	}
}

// hubTime is the hub's time at a time here, as far as it is known.
func (n *Node) hubTime(now time.Time) time.Time {
	if s := n.session.Load(); s != nil {
		return s.HubTime(now)
	}
	return now
}
