package main

import (
	"context"
	"testing"

	"github.com/distgear/distgear/geartest"
)

func TestMain(m *testing.M) {
	geartest.Main(m, geartest.Roles{"hello": func(context.Context, []string) error { main(); return nil }})
}

// TestHello runs the program alone, as a cluster's hub, and as a node of it: nothing but the environment differs, and what it prints is the same.
func TestHello(t *testing.T) {
	const addr = "127.0.0.1:24822"
	check := func(env ...string) *geartest.Process {
		t.Helper()
		p := geartest.Start(t, geartest.Child{Role: "hello", Env: env, Dir: t.TempDir(), Ready: "Oslo:"})
		if got, want := p.Ready(), `"hotel in Oslo booked", failed: false`; got != want {
			t.Errorf("%v: Oslo: %s, want %s", env, got, want)
		}
		if got, want := p.Line("Atlantis:"), `"", failed: true`; got != want {
			t.Errorf("%v: Atlantis: %s, want %s", env, got, want)
		}
		return p
	}
	if err := check().Wait(); err != nil {
		t.Error(err)
	}
	hub := check("DISTGEAR_SERVE="+addr, "DISTGEAR_NAME=one")
	node := check("DISTGEAR_HUB=nats://"+addr, "DISTGEAR_NAME=two")
	for _, p := range []*geartest.Process{node, hub} {
		if err := p.Stop(); err != nil {
			t.Error(err)
		}
	}
}
