package settings

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// What the program says counts first, then the environment, then the file; hub and
// serve are taken from one of them together.
func TestFill_WhatCountsFirst(t *testing.T) {
	file := write(t, "hub: nats://file:4222\ncluster: file\ndir: /file\nttl: 5s\nlabels: {zone: a}\n")
	t.Setenv("DISTGEAR_SERVE", "127.0.0.1:0")
	t.Setenv("DISTGEAR_CLUSTER", "environment")
	t.Setenv("DISTGEAR_DIR", "/environment")
	s := Settings{Dir: "/program"}
	if err := s.Fill(file); err != nil {
		t.Fatal(err)
	}
	if s.Dir != "/program" || s.Cluster != "environment" || s.Serve != "127.0.0.1:0" || s.Hub != "" || s.TTL != 5*time.Second || s.Labels["zone"] != "a" {
		t.Fatalf("filled %+v", s)
	}
}

func TestFill_Bad(t *testing.T) {
	for _, c := range []struct{ env, value, file, want string }{
		{"DISTGEAR_TTL", "3", "", "ttl in environment"},
		{"DISTGEAR_LABELS", "a", "", `DISTGEAR_LABELS: label "a": want key=value`},
		{"", "", "hub: x\nhubb: y\n", "line 2: field hubb is none of cluster, name, hub, serve"},
		{"", "", "hub: [1,2\n", "distgear.yaml"},
		{"", "", "ttl: soon\n", "ttl in "},
	} {
		t.Run(c.want, func(t *testing.T) {
			if c.env != "" {
				t.Setenv(c.env, c.value)
			}
			var s Settings
			if err := s.Fill(write(t, c.file)); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one with %q", err, c.want)
			}
		})
	}
	if err := new(Settings).Fill(filepath.Join(t.TempDir(), "distgear.yaml")); err != nil {
		t.Errorf("a file that is not there: %v", err)
	}
}

func write(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "distgear.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}
