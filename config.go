package distgear

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/distgear/distgear/cluster"
	"github.com/distgear/distgear/hub"
	"github.com/distgear/distgear/internal/settings"
)

// Config says where a node stands. The zero value is a node alone: nothing
// listens, nothing is written.
//
// Zero fields are filled from the environment (DISTGEAR_CLUSTER, DISTGEAR_NAME,
// DISTGEAR_HUB, DISTGEAR_SERVE, DISTGEAR_ROUTE, DISTGEAR_PEERS, DISTGEAR_DIR,
// DISTGEAR_TOKEN, DISTGEAR_LABELS="zone=a,ssd=yes", DISTGEAR_TTL=3s), then from distgear.yaml in
// the working directory, so that a compiled program moves between placements.
type Config struct {
	Cluster string            // letters, digits, - and _, at most 64; empty means "default"
	Name    cluster.NodeName  // empty means the host's name and a random suffix
	Hub     string            // NATS addresses, comma separated; empty means alone, or the hub that Serve starts
	Serve   string            // host:port on which this process also hosts the hub, or the nats:// addresses of a NATS that runs already; empty means it hosts none
	Route   string            // host:port on which a hosted hub meets the other two; needed with Peers
	Peers   string            // the Routes of all three hubs of the cluster, comma separated; empty means this is the only hub
	Dir     string            // where a hosted hub keeps the ledger of shared objects, on disk before it is acknowledged; empty means in memory
	Token   string            // the cluster's shared secret; needed where the hub listens beyond loopback
	Labels  map[string]string // nil means none
	TTL     time.Duration     // silence after which the hosted hub counts a node as lost; zero means 3s
	Logger  *slog.Logger      // nil means slog.Default()

	// Handlers are handled from the start, so that the plan of a NodeJoin handler
	// can use them on this node while it joins; nil means none. Node.Handle adds
	// more later.
	Handlers []Handler

	// Wrap wraps every handler: tracing, recovery, limits. Nil means none.
	Wrap func(Handler) Handler
}

// fill fills the zero fields and finds faults.
func (c *Config) fill() error {
	s := settings.Settings{Cluster: c.Cluster, Name: string(c.Name), Hub: c.Hub, Serve: c.Serve, Route: c.Route, Peers: c.Peers, Dir: c.Dir, Token: c.Token, Labels: c.Labels, TTL: c.TTL}
	if err := s.Fill(ConfigFile); err != nil {
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	c.Cluster, c.Name, c.Hub, c.Serve, c.Dir, c.Token, c.Labels, c.TTL = s.Cluster, cluster.NodeName(s.Name), s.Hub, s.Serve, s.Dir, s.Token, s.Labels, s.TTL
	c.Route, c.Peers = s.Route, s.Peers
	if c.Cluster == "" {
		c.Cluster = "default"
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if err := hub.CheckCluster(c.Cluster); err != nil {
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	if c.TTL < 0 {
		return fmt.Errorf("%w: TTL %v is negative", ErrInvalid, c.TTL)
	}
	return nil
}
