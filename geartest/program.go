package geartest

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A Program is one that must print the same as one process, which may host the hub, and as several. What its processes print on standard output is compared byte for byte, one process's
// behind the other's: lines that any of them may print want AnyOrder.
type Program struct {
	Role      string                   // of Main's Roles; it runs the program, as by func(context.Context, []string) error { main(); return nil }
	Processes int                      // as how many it runs the second time; zero means 3
	Args      func(i, of int) []string // of process i, counted from 0, of so many: of 1 when it is alone; nil means none
	Keep      func(line string) bool   // which lines count: not those that name a process; nil means all
	AnyOrder  bool                     // lines are compared, and returned, in alphabetical order
	Leads     int                      // how many of the processes, the first ones, end by themselves; the others print a line when they work, and are stopped then. Zero means all
}

// Same runs a program as one process, as one that hosts the hub, then as several with a hub beside them, and returns what it printed as one. The test fails if it
// printed something else in the other two, or a process ended with an error or not in time. Each process has an empty working directory of its own.
func Same(t testing.TB, p Program) string {
	t.Helper()
	n := cmp.Or(p.Processes, 3)
	want := p.run(t, 1, "", "")
	hosting := p.run(t, 1, "", "127.0.0.1:0")
	got := p.run(t, n, StartHubs(t, Hubs{Role: hubChild, Count: 1, TTL: 3 * time.Second}).URLs(), "")
	if hosting != want {
		t.Errorf("as one process that hosts the hub it printed something else than alone: %s", difference(hosting, want))
	}
	if got != want {
		t.Errorf("as %d processes it printed something else than as one: %s", n, difference(got, want))
	}
	return want
}

// run runs the program as so many processes and returns what counts of what they printed.
func (p *Program) run(t testing.TB, of int, hub, serve string) string {
	t.Helper()
	all := make([]*Process, of)
	for i := range all {
		c := Child{Role: p.Role, Dir: t.TempDir(), Env: []string{"DISTGEAR_HUB=" + hub, "DISTGEAR_SERVE=" + serve}, whole: true}
		if of > 1 {
			c.Env = append(c.Env, fmt.Sprint("DISTGEAR_NAME=p", i))
		}
		if p.Args != nil {
			c.Args = p.Args(i, of)
		}
		var err error
		if all[i], err = start(t, c); err != nil {
			t.Fatalf("starting %s: %v", p.Role, err)
		}
		all[i].name = fmt.Sprintf("%s, process %d of %d", p.Role, i+1, of)
	}
	var lines []string
	for i, one := range all {
		if p.Leads > 0 && i >= p.Leads {
			_ = one.Line("") // it works
			one.signal(syscall.SIGTERM)
		}
		if err := one.Wait(); err != nil {
			t.Fatalf("%s: %v", one.name, err)
		}
		for line := range strings.Lines(one.out.whole.String()) {
			if p.Keep == nil || p.Keep(strings.TrimRight(line, "\r\n")) {
				lines = append(lines, line)
			}
		}
	}
	if p.AnyOrder {
		slices.Sort(lines)
	}
	return strings.Join(lines, "")
}

// difference says where two texts begin to differ.
func difference(got, want string) string {
	a, b := strings.SplitAfter(got, "\n"), strings.SplitAfter(want, "\n")
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return fmt.Sprintf("line %d is %q, not %q", i+1, a[i], b[i])
		}
	}
	return fmt.Sprintf("it has %d lines, not %d", strings.Count(got, "\n"), strings.Count(want, "\n"))
}
