package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/distgear/distgear/geartest"
)

func TestMain(m *testing.M) {
	geartest.Main(m, geartest.Roles{
		"masterworker": func(context.Context, []string) error { main(); return nil },
		"hub":          geartest.HubRole,
	})
}

const found = "up to 100000: the longest sequence begins with 77031 and has 351 numbers\n"

// TestPlacements runs the program as one process, as one that hosts the hub, and as four: it prints the same.
func TestPlacements(t *testing.T) {
	got := geartest.Same(t, geartest.Program{
		Role: "masterworker", Processes: 4, Leads: 1,
		Args: func(i, _ int) []string {
			if i > 0 {
				return []string{"-work"}
			}
			return []string{"-n", "100000"}
		},
		Keep: func(line string) bool { return !strings.HasPrefix(line, "works as ") },
	})
	if got != found {
		t.Errorf("it printed %q, want %q", got, found)
	}
}

// TestFile makes a cluster by distgear.yaml alone, twice, and a worker is asked to end while there is work.
func TestFile(t *testing.T) {
	hub := geartest.Start(t, geartest.Child{Role: "hub", Env: []string{"DISTGEAR_CLUSTER=masterworker", "DISTGEAR_TOKEN=change-me"}})
	file, err := os.ReadFile("cluster/distgear.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if lines := strings.Count(string(file), "\n"); lines != 3 {
		t.Errorf("the file has %d lines, and the article says three", lines)
	}
	there := strings.Replace(string(file), "nats://127.0.0.1:4222", hub.Ready(), 1)
	if there == string(file) {
		t.Fatalf("the file names another hub than this test expects: %s", file)
	}
	start := func(ready string, args ...string) *geartest.Process {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "distgear.yaml"), []byte(there), 0o600); err != nil {
			t.Fatal(err)
		}
		return geartest.Start(t, geartest.Child{Role: "masterworker", Args: args, Dir: dir, Ready: ready})
	}
	a, b := start("works as", "-work"), start("works as", "-work")
	for _, last := range []*geartest.Process{a, b} {
		ended := make(chan error, 1) // one answer
		go func() { ended <- last.Stop() }()
		master := start("up to", "-n", "100000")
		if got := "up to " + master.Ready() + "\n"; got != found {
			t.Errorf("it printed %q, want %q", got, found)
		}
		if err := master.Wait(); err != nil {
			t.Error(err)
		}
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}
