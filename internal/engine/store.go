package engine

import (
	"cmp"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// Tier is where a server keeps its logs, and so what an acknowledgement
// survives. The zero value keeps none.
type Tier int

// The tiers, from the cheapest to the safest.
const (
	None   Tier = iota // no logs: the server only passes messages on
	Memory             // logs end with the server, unless it is one of a cluster of which most go on
	File               // survives the end of the process; the system writes within 100 ms what survives a power loss
	Sync               // on disk before the acknowledgement
)

// String is the tier as it is told at start.
func (t Tier) String() string {
	switch t {
	case None:
		return "none"
	case Memory:
		return "memory"
	case File:
		return "file, synced every 100ms"
	case Sync:
		return "file, synced always"
	}
	return fmt.Sprintf("Tier(%d)", int(t))
}

// Cluster says how the embedded servers of several hubs are one: each names
// itself, listens, and knows where the others do.
type Cluster struct {
	Name   string   // the same for all; empty means "distgear"
	Server string   // this one's, different for each, the same after a restart; letters, digits, '-' and '_'
	Listen string   // host:port where the other servers connect
	Routes []string // host:port of all of them, itself too or not; three in all for R3
}

// routeReports is how many attempts to reach another server of the cluster, one
// each second, are one line in the log.
const routeReports = 60

// syncInterval is of Tier File; it costs nothing that can be measured.
const syncInterval = 100 * time.Millisecond

// errTaken is told by flock.
var errTaken = errors.New("taken")

const lockName = "distgear.lock"

// lockDir makes a store directory this process's alone: nothing in NATS keeps
// two servers out of one directory, and both acknowledge.
func lockDir(dir string) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("store directory: %w", err)
	}
	f, err := flock(filepath.Join(dir, lockName))
	switch {
	case errors.Is(err, errTaken):
		return nil, fmt.Errorf("store directory %s is used by another process: a hub runs on it already; stop that one or give this one a directory of its own", dir)
	case err != nil:
		return nil, fmt.Errorf("store directory %s: %w", dir, err)
	}
	return f, nil
}

// tempName begins the names of directories in the system's folder for what is temporary.
const tempName = "distgear-memory-"

// leftFor is how old what a process has left is before another drops it: it may not have
// locked it yet.
const leftFor = time.Minute

// dropLeft removes the directories like dir that processes have left which were killed:
// those that nobody has locked.
func dropLeft(dir string) {
	all, _ := filepath.Glob(filepath.Join(filepath.Dir(dir), tempName+"*")) // the pattern is ours
	for _, left := range all {
		if i, err := os.Stat(left); err != nil || left == dir || time.Since(i.ModTime()) < leftFor {
			continue
		}
		if f, err := flock(filepath.Join(left, lockName)); err == nil {
			_ = f.Close()
			_ = os.RemoveAll(left) // another may have done it
		}
	}
}

// withStore adds to the options what the tier and the cluster ask for. What it
// took is in s, for release.
func (s *Server) withStore(opts *server.Options, cfg *ServerConfig) (err error) {
	s.tier = cfg.Tier
	if cfg.Cluster != nil {
		if err := withCluster(opts, cfg); err != nil {
			return err
		}
	}
	if cfg.Tier == None {
		return nil
	}
	dir := cfg.Dir
	switch {
	case dir == "" && cfg.Tier != Memory:
		return fmt.Errorf("tier %q needs a directory", cfg.Tier)
	case dir == "": // of servers in a cluster that keep what they agreed on, not the logs
		if dir, err = os.MkdirTemp("", tempName+"*"); err != nil {
			return fmt.Errorf("store directory: %w", err)
		}
		s.temp = dir
		dropLeft(dir)
	}
	if s.lock, err = lockDir(dir); err != nil {
		return err
	}
	opts.JetStream = true
	opts.StoreDir = dir
	opts.DisableJetStreamBanner = true
	opts.SyncInterval = syncInterval
	opts.SyncAlways = cfg.Tier == Sync
	opts.JetStreamMaxStore = cfg.MaxStore
	opts.NoSystemAccount = cfg.Cluster == nil
	return nil
}

func withCluster(opts *server.Options, cfg *ServerConfig) error {
	c := cfg.Cluster
	host, port, err := splitAddr(c.Listen)
	if err != nil {
		return fmt.Errorf("cluster: %w", err)
	}
	if cfg.Token == "" && !Loopback(host) {
		return fmt.Errorf("refusing to cluster on %s without a token: set Token (DISTGEAR_TOKEN) here and on every hub and node, or cluster on 127.0.0.1", c.Listen)
	}
	if cfg.Listen == "" {
		return errors.New("cluster: say where nodes connect to this hub (Listen, Config.Serve): one among several is not for its own process only")
	}
	if c.Server == "" {
		return errors.New("cluster: a server without a name of its own")
	}
	opts.ServerName = c.Server
	opts.NoSystemAccount = false
	opts.ConnectErrorReports, opts.ReconnectErrorReports = routeReports, routeReports
	opts.Cluster = server.ClusterOpts{Name: cmp.Or(c.Name, "distgear"), Host: host, Port: port}
	if port == 0 {
		opts.Cluster.Port = server.RANDOM_PORT
	}
	var user *url.Userinfo
	if cfg.Token != "" {
		opts.Cluster.Username, opts.Cluster.Password = "distgear", cfg.Token
		user = url.UserPassword("distgear", cfg.Token)
	}
	for _, r := range c.Routes {
		opts.Routes = append(opts.Routes, &url.URL{Scheme: "nats-route", Host: r, User: user})
	}
	quickElections()
	return nil
}

// release gives back what withStore took, after the server has stopped.
func (s *Server) release() {
	if s.lock != nil {
		_ = s.lock.Close() // the lock goes with it; nothing was written
	}
	if s.temp != "" {
		_ = os.RemoveAll(s.temp) // in the system's own folder for such things
	}
}

// StoreFailed tells whether the store could not be written, of a disk that is
// full, say. NATS does not try again, also when there is room: see Revive.
func (s *Server) StoreFailed() bool { return s.said.store.Load() }

// Revive opens the store again, as a restart would, also where NATS has closed
// it by itself. Connections stay; what is asked of logs meanwhile fails with
// ErrUnavailable, or goes on at the other servers of the cluster.
func (s *Server) Revive() error {
	if s.again == nil {
		return errors.New("embedded NATS server: it keeps no logs")
	}
	if err := s.s.ShutdownJetStream(); err != nil {
		return fmt.Errorf("embedded NATS server: closing the store: %w", err)
	}
	s.said.store.Store(false)
	again := *s.again                             // it is changed
	again.StoreDir = filepath.Dir(again.StoreDir) // to which it adds a folder
	if err := s.s.EnableJetStream(&again); err != nil {
		s.said.store.Store(true)
		return fmt.Errorf("embedded NATS server: opening the store again: %w", err)
	}
	return nil
}

// Tier is where the server keeps its logs.
func (s *Server) Tier() Tier { return s.tier }

// Full tells whether this server's own copy of a log, and of the list of logs, has all
// that was acknowledged when a leader was last heard. Until then its voice counts
// little: one that came back empty cannot help to elect a leader. Without a cluster
// it is true.
func (s *Server) Full(log string) bool {
	return s.s.JetStreamIsCurrent() && s.s.JetStreamIsStreamCurrent(server.DEFAULT_GLOBAL_ACCOUNT, log)
}
