package main

import (
	"context"
	"strconv"
	"strings"
	"testing"

	"github.com/distgear/distgear/geartest"
)

func TestMain(m *testing.M) {
	geartest.Main(m, geartest.Roles{"inventory": func(context.Context, []string) error { main(); return nil }})
}

// TestPlacements runs the program as one process and as three: what is printed in all is the same.
func TestPlacements(t *testing.T) {
	got := geartest.Same(t, geartest.Program{
		Role: "inventory",
		Args: func(_, of int) []string { return []string{"-processes", strconv.Itoa(of)} },
		Keep: func(line string) bool { return strings.HasPrefix(line, "sold ") },
	})
	if want := "sold 600 of 600, 0 left\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
