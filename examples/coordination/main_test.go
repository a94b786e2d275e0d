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
		"coordination": func(context.Context, []string) error { main(); return nil },
		"hub":          geartest.HubRole,
	})
}

// TestPlacements runs the program as one process and as four: what is printed in all is the same.
func TestPlacements(t *testing.T) {
	start := func(env []string, args ...string) *geartest.Process {
		return geartest.Start(t, geartest.Child{Role: "coordination", Args: args, Env: env, Dir: t.TempDir(), Ready: "joined"})
	}
	finish := func(ps ...*geartest.Process) (lines []string) {
		for _, p := range ps {
			if err := p.Wait(); err != nil {
				t.Error(err)
			}
			for line := range strings.Lines(p.Output()) {
				if strings.HasPrefix(line, "phase ") {
					lines = append(lines, strings.TrimSpace(line))
				}
			}
		}
		slices.Sort(lines)
		return lines
	}
	want := finish(start(nil, "-here", "4", "-all", "4"))
	if len(want) != phases || want[0] != "phase 1: 2262 primes up to 20000" {
		t.Fatalf("alone: %q", want)
	}
	hub := geartest.Start(t, geartest.Child{Role: "hub", Dir: t.TempDir()})
	var ps []*geartest.Process
	for _, name := range []string{"p0", "p1", "p2", "p3"} {
		ps = append(ps, start([]string{"DISTGEAR_HUB=" + hub.Ready(), "DISTGEAR_NAME=" + name}, "-here", "1", "-all", "4"))
	}
	if got := finish(ps...); !slices.Equal(got, want) {
		t.Errorf("four processes: %q, want %q", got, want)
	}
}
