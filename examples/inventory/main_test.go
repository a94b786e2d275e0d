package main

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/distgear/distgear/geartest"
)

func TestMain(m *testing.M) {
	geartest.Main(m, geartest.Roles{
		"inventory": func(context.Context, []string) error { main(); return nil },
		"hub":       geartest.HubRole,
	})
}

// TestPlacements runs the program as one process and as three: what is printed in all is the same.
func TestPlacements(t *testing.T) {
	start := func(env []string, args ...string) *geartest.Process {
		return geartest.Start(t, geartest.Child{Role: "inventory", Args: args, Env: env, Dir: t.TempDir(), Ready: "joined"})
	}
	finish := func(ps ...*geartest.Process) (lines []string) {
		for _, p := range ps {
			if err := p.Wait(); err != nil {
				t.Error(err)
			}
			for line := range strings.Lines(p.Output()) {
				if strings.HasPrefix(line, "sold ") {
					lines = append(lines, strings.TrimSpace(line))
				}
			}
		}
		return lines
	}
	want := []string{"sold 600 of 600, 0 left"}
	if got := finish(start(nil)); !slices.Equal(got, want) {
		t.Fatalf("alone: %q", got)
	}
	hub := geartest.Start(t, geartest.Child{Role: "hub", Dir: t.TempDir()})
	var ps []*geartest.Process
	for _, name := range []string{"p0", "p1", "p2"} {
		ps = append(ps, start([]string{"DISTGEAR_HUB=" + hub.Ready(), "DISTGEAR_NAME=" + name}, "-processes", "3"))
	}
	if got := finish(ps...); !slices.Equal(got, want) {
		t.Errorf("three processes: %q, want %q", got, want)
	}
}
