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
		"primes": func(context.Context, []string) error { main(); return nil },
		"hub":    geartest.HubRole,
	})
}

// TestPlacements runs the program as one process, as one that hosts the hub, and as four: it prints the same.
func TestPlacements(t *testing.T) {
	got := geartest.Same(t, geartest.Program{
		Role: "primes", Processes: 4, Leads: 1,
		Args: func(i, _ int) []string {
			if i > 0 {
				return []string{"-work"}
			}
			return []string{"-n", "1000000", "-chunk", "30000"}
		},
		Keep: func(line string) bool { return !strings.HasPrefix(line, "works as ") },
	})
	if want := "30001 to 60000: 2812 primes, the last is 59999\n"; !strings.Contains(got, want) {
		t.Errorf("it printed %q, without %q", got, want)
	}
	if want := "\n78498 primes in all\n"; !strings.HasSuffix(got, want) {
		t.Errorf("it printed %q, and not %q at the end", got, want)
	}
}

// TestKill kills one of four processes in the middle of the work: what is printed is the same as by one process.
func TestKill(t *testing.T) {
	args := []string{"-n", "40000000", "-chunk", "800000"}
	hub := geartest.Start(t, geartest.Child{Role: "hub"})
	cluster := geartest.Child{Role: "primes", Args: []string{"-work"}, Ready: "works as", Dir: t.TempDir(), Env: []string{"DISTGEAR_HUB=" + hub.Ready()}}
	var workers []*geartest.Process
	for range 3 {
		workers = append(workers, geartest.Start(t, cluster))
	}
	cluster.Args, cluster.Ready = args, "1 to"
	killed := geartest.Start(t, cluster) // until the first result is there
	workers[1].Kill()
	if err := killed.Wait(); err != nil {
		t.Fatal(err)
	}
	alone := geartest.Start(t, geartest.Child{Role: "primes", Args: args, Dir: t.TempDir(), Ready: "1 to"})
	if err := alone.Wait(); err != nil {
		t.Fatal(err)
	}
	got, want := printed(killed), printed(alone)
	if !slices.Equal(got, want) {
		t.Errorf("with a worker killed it printed\n%s\nnot\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if len(want) != 51 || want[50] != "2433654 primes in all" {
		t.Errorf("it printed %d lines: %q", len(want), want)
	}
}

// printed is what a process printed on standard output.
func printed(p *geartest.Process) []string {
	return slices.DeleteFunc(strings.Split(p.Output(), "\n"), func(line string) bool { return strings.HasPrefix(line, "! ") })
}
