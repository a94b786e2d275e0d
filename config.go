package distgear

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"

	"github.com/distgear/distgear/cluster"
	"github.com/distgear/distgear/internal/place"
)

// Config says where a node stands. The zero value is a node alone: nothing
// listens, nothing is written.
//
// Zero fields are filled from the environment (DISTGEAR_CLUSTER, DISTGEAR_NAME,
// DISTGEAR_HUB, DISTGEAR_SERVE, DISTGEAR_DIR, DISTGEAR_TOKEN,
// DISTGEAR_LABELS="zone=a,ssd=yes", DISTGEAR_TTL=3s), then from distgear.yaml in
// the working directory, so that a compiled program moves between placements.
type Config struct {
	Cluster string            // empty means "default"
	Name    cluster.NodeName  // empty means the host's name and a random suffix
	Hub     string            // NATS addresses, comma separated; empty means alone, or the hub that Serve starts
	Serve   string            // host:port on which this process also hosts the hub, or the nats:// addresses of a NATS that runs already; empty means it hosts none
	Dir     string            // where a hosted hub keeps its data; nothing is kept on disk in this version
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

// fileConfig is Config as distgear.yaml and the environment say it.
type fileConfig struct {
	Cluster, Name, Hub, Serve, Dir, Token string
	Labels                                map[string]string
	TTL                                   string
}

// fill fills the zero fields from the environment, then from the file.
func (c *Config) fill() error {
	env := fileConfig{
		Cluster: os.Getenv("DISTGEAR_CLUSTER"), Name: os.Getenv("DISTGEAR_NAME"), Hub: os.Getenv("DISTGEAR_HUB"),
		Serve: os.Getenv("DISTGEAR_SERVE"), Dir: os.Getenv("DISTGEAR_DIR"), Token: os.Getenv("DISTGEAR_TOKEN"), TTL: os.Getenv("DISTGEAR_TTL"),
	}
	if s := os.Getenv("DISTGEAR_LABELS"); s != "" {
		labels, err := place.ParseLabels(strings.Split(s, ","))
		if err != nil {
			return fmt.Errorf("%w: DISTGEAR_LABELS: %w", ErrInvalid, err)
		}
		env.Labels = labels
	}
	if err := c.merge(env, "environment"); err != nil {
		return err
	}
	data, err := os.ReadFile(ConfigFile)
	if errors.Is(err, os.ErrNotExist) {
		return c.check()
	}
	if err != nil {
		return fmt.Errorf("%w: %s: %w", ErrInvalid, ConfigFile, err)
	}
	var file fileConfig
	if err := yaml.Load(data, &file, yaml.WithKnownFields()); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrInvalid, ConfigFile, err)
	}
	if err := c.merge(file, ConfigFile); err != nil {
		return err
	}
	return c.check()
}

func (c *Config) merge(f fileConfig, from string) error {
	for _, s := range []struct {
		to *string
		v  string
	}{{&c.Cluster, f.Cluster}, {(*string)(&c.Name), f.Name}, {&c.Dir, f.Dir}, {&c.Token, f.Token}} {
		if *s.to == "" {
			*s.to = s.v
		}
	}
	if c.Hub == "" && c.Serve == "" { // one place decides where the node stands
		c.Hub, c.Serve = f.Hub, f.Serve
	}
	if c.Labels == nil {
		c.Labels = maps.Clone(f.Labels)
	}
	if c.TTL == 0 && f.TTL != "" {
		d, err := time.ParseDuration(f.TTL)
		if err != nil {
			return fmt.Errorf("%w: ttl in %s: %w", ErrInvalid, from, err)
		}
		c.TTL = d
	}
	return nil
}

func (c *Config) check() error {
	if c.Cluster == "" {
		c.Cluster = "default"
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if strings.ContainsAny(c.Cluster, " \t\r\n.*>/") || len(c.Cluster) > 64 {
		return fmt.Errorf("%w: cluster name %q: at most 64 bytes, without blanks and . * > /", ErrInvalid, c.Cluster)
	}
	if c.TTL < 0 {
		return fmt.Errorf("%w: TTL %v is negative", ErrInvalid, c.TTL)
	}
	return nil
}
