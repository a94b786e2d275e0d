// Package settings reads where a node stands from the environment and from a
// file, so that a compiled program moves between placements.
//
//	s := settings.Settings{Name: "a"} // what the program says counts first
//	err := s.Fill("distgear.yaml")
//
// # Guarantees
//
// Only zero fields are filled: from the environment, then from the file. Hub
// and Serve are filled together, from one place.
//
// # Failures
//
// An error names the variable, or the file with its line. A file that is not
// there is none.
package settings

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"

	"github.com/distgear/distgear/internal/place"
)

// Settings are the fields of distgear.Config that can be said outside of it.
type Settings struct {
	Cluster, Name, Hub, Serve, Route, Peers, Dir, Token string
	Labels                                              map[string]string
	TTL                                                 time.Duration
}

// said is Settings as the environment and a file say them.
type said struct {
	Cluster, Name, Hub, Serve, Route, Peers, Dir, Token string
	Labels                                              map[string]string
	TTL                                                 string
}

// fields are what a file can say.
const fields = "cluster, name, hub, serve, route, peers, dir, token, labels, ttl"

// Fill fills the zero fields.
func (s *Settings) Fill(file string) error {
	env := said{
		Cluster: os.Getenv("DISTGEAR_CLUSTER"), Name: os.Getenv("DISTGEAR_NAME"), Hub: os.Getenv("DISTGEAR_HUB"),
		Serve: os.Getenv("DISTGEAR_SERVE"), Route: os.Getenv("DISTGEAR_ROUTE"), Peers: os.Getenv("DISTGEAR_PEERS"), Dir: os.Getenv("DISTGEAR_DIR"), Token: os.Getenv("DISTGEAR_TOKEN"), TTL: os.Getenv("DISTGEAR_TTL"),
	}
	if l := os.Getenv("DISTGEAR_LABELS"); l != "" {
		labels, err := place.ParseLabels(strings.Split(l, ","))
		if err != nil {
			return fmt.Errorf("DISTGEAR_LABELS: %w", err)
		}
		env.Labels = labels
	}
	if err := s.merge(&env, "environment"); err != nil {
		return err
	}
	data, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	var f said
	if err == nil {
		err = yaml.Load(data, &f, yaml.WithKnownFields())
	}
	if err != nil {
		text := strings.TrimPrefix(err.Error(), "yaml: ") // it would name our type
		return fmt.Errorf("%s: %s", file, strings.ReplaceAll(text, "not found in type settings.said", "is none of "+fields))
	}
	return s.merge(&f, file)
}

func (s *Settings) merge(f *said, from string) error {
	for _, x := range []struct {
		to *string
		v  string
	}{{&s.Cluster, f.Cluster}, {&s.Name, f.Name}, {&s.Route, f.Route}, {&s.Peers, f.Peers}, {&s.Dir, f.Dir}, {&s.Token, f.Token}} {
		if *x.to == "" {
			*x.to = x.v
		}
	}
	if s.Hub == "" && s.Serve == "" { // one place decides where the node stands
		s.Hub, s.Serve = f.Hub, f.Serve
	}
	if s.Labels == nil {
		s.Labels = maps.Clone(f.Labels)
	}
	if s.TTL == 0 && f.TTL != "" {
		d, err := time.ParseDuration(f.TTL)
		if err != nil {
			return fmt.Errorf("ttl in %s: %w", from, err)
		}
		s.TTL = d
	}
	return nil
}
