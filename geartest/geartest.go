// Package geartest makes clusters, and bad days for them, in tests of programs that use DistGear: nodes in the test's process or in processes of their own, to
// kill and pause; connections to cut and delay; hosts to cut off; a check that no goroutine was left.
//
//	func TestMain(m *testing.M) { geartest.Main(m, geartest.Roles{"shop": geartest.NodeRole(handlers)}) }
//
//	func TestLostWorker(t *testing.T) {
//		c := geartest.StartCluster(t, geartest.Nodes{Count: 3, Handlers: handlers, Role: "shop"})
//		f, err := Order.Raise(t.Context(), c.Here(), order)
//		c.Process("node-2").Kill()
//		c.Await("node-2", cluster.Lost)
//		receipt, err := f.Wait(t.Context())
//	}
//
// A Scenario is a program that several nodes run at once and that checks itself; RunScenarios runs it alone, on nodes and in processes, on good days and on bad
// ones. Same runs a whole program as one process and as several, and compares what it prints. Package history, below, checks what clients were answered against a model; crash and replay try durable events (docs/testing.md).
//
// # Guarantees
//
// A child does not outlive its test: it is killed by the test's clean-up, and on Linux by the kernel if the test process dies first. Kill, Pause and Cut return
// when it has happened. What a test made (processes, listeners, network namespaces) is gone when the test is over.
//
// # Failures
//
// What goes wrong in the instruments fails the test, with the output of its children. Pause needs a Unix; Network needs Linux, root and the `ip` command for
// real network namespaces and uses proxies anywhere else, so that the same test runs everywhere.
package geartest

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

var leftByNATS = goleak.IgnoreTopFunction("github.com/nats-io/nats.go/jetstream.(*jetStream).resetPendingAcksOnReconnect") // now and then, by its client, after large values

// Roles are what a child process of a test can run, by name. A role ends when ctx does (Process.Stop); its error ends the process with exit code 1.
type Roles map[string]func(ctx context.Context, args []string) error

// roleEnv names the role in the environment of a child that is the test binary.
const roleEnv = "GEARTEST_ROLE"

// Main belongs into TestMain. In a child it runs the role the child was started for; otherwise it runs the tests, and fails if goroutines are left at the end.
// It does not return.
func Main(m *testing.M, roles Roles) {
	name, child := os.LookupEnv(roleEnv)
	if !child {
		goleak.VerifyTestMain(m, leftByNATS, goleak.Cleanup(func(code int) {
			http.DefaultClient.CloseIdleConnections()
			os.Exit(code)
		}))
		return
	}
	if err := runRole(roles, name, os.Args[1:]); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func runRole(roles Roles, name string, args []string) error {
	run := roles[name]
	if name == hubChild {
		run = HubsRole
	}
	if run == nil {
		return errors.New("no such role: is it in the Roles that TestMain gives to geartest.Main?")
	}
	if err := os.Unsetenv(roleEnv); err != nil { // or a program that starts itself again would be this role again
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	return run(ctx, args)
}

// Ready tells the test that this child serves now, and what the test must know to use it: an address, a name. Start waits for it. A role calls it once.
func Ready(words ...any) {
	fmt.Println(strings.TrimSuffix("ready "+fmt.Sprintln(words...), "\n"))
}

// Eventually waits until cond holds. The test fails, naming what it waited for, if that takes longer than within; cond is called by one goroutine at a time,
// the test's own. A zero within means 30 s.
func Eventually(t testing.TB, within time.Duration, what string, cond func() bool) {
	t.Helper()
	if within == 0 {
		within = patience
	}
	if !poll(within, cond) {
		t.Fatalf("after %v still not: %s", within, what)
	}
}

// patience is how long the instruments wait for something that should happen at once, on a machine that is busy with the other tests.
const patience = 30 * time.Second

// poll reports whether cond came to hold in time, and asks it a last time at the end.
func poll(within time.Duration, cond func() bool) bool {
	if cond() {
		return true
	}
	end := time.NewTimer(within)
	defer end.Stop()
	nap := time.Millisecond
	again := time.NewTimer(nap)
	defer again.Stop()
	for {
		select {
		case <-end.C:
			return cond()
		case <-again.C:
			if cond() {
				return true
			}
			nap = min(nap*2, 50*time.Millisecond)
			again.Reset(nap)
		}
	}
}

// Leaks fails the test if goroutines that it started are left when it is over, its clean-ups included: call it first. Not for tests that run in parallel with
// others, whose goroutines it would see.
func Leaks(t testing.TB) {
	t.Helper()
	before := goleak.IgnoreCurrent()
	t.Cleanup(func() {
		http.DefaultClient.CloseIdleConnections()
		if err := goleak.Find(before, leftByNATS); err != nil {
			t.Errorf("goroutines left: %v", err)
		}
	})
}
