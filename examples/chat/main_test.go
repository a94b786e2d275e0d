package main

import (
	"context"
	"testing"

	"github.com/distgear/distgear/geartest"
)

func TestMain(m *testing.M) {
	geartest.Main(m, geartest.Roles{
		"chat": func(context.Context, []string) error { main(); return nil },
		"hub":  geartest.HubRole,
	})
}

// TestChat lets two processes talk: each hears both, in the same order.
func TestChat(t *testing.T) {
	hub := geartest.Start(t, geartest.Child{Role: "hub", Dir: t.TempDir()})
	join := func(name string) *geartest.Process {
		return geartest.Start(t, geartest.Child{Role: "chat", Env: []string{"DISTGEAR_HUB=" + hub.Ready(), "DISTGEAR_NAME=" + name}, Dir: t.TempDir(), Ready: "joined"})
	}
	ann, bob := join("ann"), join("bob")
	for _, said := range []struct {
		by         *geartest.Process
		name, text string
	}{{ann, "ann", "hello"}, {bob, "bob", "hello yourself"}, {ann, "ann", "bye"}} {
		said.by.Say(said.text)
		for _, p := range []*geartest.Process{ann, bob} {
			if got := p.Line(said.name + ":"); got != said.text {
				t.Errorf("%s said %q, heard as %q", said.name, said.text, got)
			}
		}
	}
	for _, p := range []*geartest.Process{ann, bob} {
		if err := p.Stop(); err != nil {
			t.Error(err)
		}
	}
}
