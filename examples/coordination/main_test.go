package main

import (
	"context"
	"strconv"
	"strings"
	"testing"

	"github.com/distgear/distgear/geartest"
)

func TestMain(m *testing.M) {
	geartest.Main(m, geartest.Roles{"coordination": func(context.Context, []string) error { main(); return nil }})
}

// TestPlacements runs the program as one process and as four: what is printed in all is the same.
func TestPlacements(t *testing.T) {
	got := geartest.Same(t, geartest.Program{
		Role:      "coordination",
		Processes: 4,
		Args:      func(_, of int) []string { return []string{"-here", strconv.Itoa(4 / of), "-all", "4"} },
		Keep:      func(line string) bool { return strings.HasPrefix(line, "phase ") },
		AnyOrder:  true, // the last to arrive says it, whoever that is
	})
	if strings.Count(got, "\n") != phases || !strings.HasPrefix(got, "phase 1: 2262 primes up to 20000\n") {
		t.Errorf("%q", got)
	}
}
