package geartest

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/distgear/distgear"
)

// A Scenario is a program that several nodes run at once, and that checks itself. RunScenarios runs it on good days and on bad ones.
type Scenario struct {
	Name string

	// Setup is called first, once; nil means nothing is to be set up.
	Setup func(ctx context.Context, n *distgear.Node) error

	// Run is called for each Part, all at once. What is not an answer to be expected on such a day is its error.
	Run func(ctx context.Context, p *Part) error

	// Verify is called when all have run, at a node that has seen nothing of it; where hubs are killed, after one more was. Nil means that Run has said all.
	Verify func(ctx context.Context, t testing.TB, n *distgear.Node)

	Modes []Mode // those that it is for; nil means all
}

// A Part is one node's part in a scenario.
type Part struct {
	Node  *distgear.Node
	Index int        // 0 … Count-1
	Count int        // how many parts there are; alone they share one node
	Mode  Mode       // what happens meanwhile; in Tiny a scenario makes what it uses as small as it may be
	Rand  *rand.Rand // of this part's own, by the seed; for one goroutine

	over *atomic.Bool
}

// Going reports whether the bad day goes on: Run does what it does again and again while it is, or for a fixed number of times.
func (p *Part) Going() bool { return !p.over.Load() }

// Mode is what happens while scenarios run.
type Mode string

// The modes. Of a node that is alone there are Calm and Tiny.
const (
	Calm       Mode = "calm"       // nothing happens
	Tiny       Mode = "tiny"       // nothing happens, and everything is small: see Part
	Cuts       Mode = "cuts"       // links between nodes and the hub are cut for 100 ms, and half the time reset
	Isolations Mode = "isolations" // one node is cut off until its session is lost; the others go on
	Restarts   Mode = "restarts"   // the hub, which has its ledger on disk, is killed and started again
	Absences   Mode = "absences"   // the same, but it stays away until all sessions are lost
	Failovers  Mode = "failovers"  // one of three hubs is killed, or frozen; some seconds later it comes back
)

// Placement is where the nodes of a scenario are.
type Placement string

// The placements.
const (
	OnOneNode   Placement = "alone"     // all parts are goroutines beside one node that is alone
	OnNodes     Placement = "nodes"     // each part has a node of its own, in the test's process
	InProcesses Placement = "processes" // each part is a process, of the Role made with ScenarioRole
)

// Matrix says in which placements and modes scenarios run, and for how long.
type Matrix struct {
	Placements []Placement   // nil means all; of InProcesses only if there is a Role
	Modes      []Mode        // nil means all; in processes Calm, Restarts and Failovers
	Role       string        // the name that the scenarios' role has in TestMain's Roles; empty: none run in processes
	Count      int           // of parts; zero means 3
	Seed       uint64        // of all choices; zero means another one each time. A failure prints it
	Least      time.Duration // for how long scenarios go on; zero means 300 ms
	Faults     int           // how many faults happen meanwhile, in modes with faults; zero means 3
	Every      time.Duration // how long it is quiet before a fault; zero means 500 ms
}

// scenarioTime is how long Run and Verify may take beyond what the Matrix says.
const scenarioTime = 2 * time.Minute

// RunScenarios runs scenarios, all at once, once for each placement and mode that applies: give their objects names of their own. Each call of a make makes the
// scenario anew; in processes there are several of each, so that what they share must be shared objects.
//
//	geartest.RunScenarios(t, geartest.Matrix{Role: "bank"}, transfers)
//
// A seed repeats the choices (Part.Rand, which link, which hub), not what the scheduler does.
func RunScenarios(t *testing.T, m Matrix, makes ...func() Scenario) {
	t.Helper()
	m.Count, m.Least = cmp.Or(m.Count, 3), cmp.Or(m.Least, 300*time.Millisecond)
	m.Faults, m.Every = cmp.Or(m.Faults, 3), cmp.Or(m.Every, 500*time.Millisecond)
	m.Seed = cmp.Or(m.Seed, rand.Uint64()>>1)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the seed was %d", m.Seed)
		}
	})
	modes := map[Placement][]Mode{
		OnOneNode: {Calm, Tiny}, OnNodes: {Calm, Tiny, Cuts, Isolations, Restarts, Absences, Failovers}, InProcesses: {Calm, Restarts, Failovers},
	}
	for _, p := range []Placement{OnOneNode, OnNodes, InProcesses} {
		if m.Placements != nil && !slices.Contains(m.Placements, p) || p == InProcesses && m.Role == "" {
			continue
		}
		for _, mode := range modes[p] {
			if m.Modes != nil && !slices.Contains(m.Modes, mode) {
				continue
			}
			var all []Scenario
			for _, make := range makes { //nolint:predeclared // it is the word
				if s := make(); s.Modes == nil || slices.Contains(s.Modes, mode) {
					all = append(all, s)
				}
			}
			if len(all) > 0 {
				t.Run(string(p)+"/"+string(mode), func(t *testing.T) { m.run(t, p, mode, all) })
			}
		}
	}
}

// run runs scenarios in one placement and mode.
func (m *Matrix) run(t *testing.T, placement Placement, mode Mode, all []Scenario) {
	w := newWorld(t, m, placement, mode)
	defer w.leaveAll()
	ctx, cancel := context.WithTimeout(t.Context(), scenarioTime+m.Least+time.Duration(m.Faults)*(m.Every+10*time.Second))
	defer cancel()
	failed := make([]error, len(all))
	first := w.nodes
	if placement == InProcesses {
		first = []*distgear.Node{w.join("setup")}
	}
	for i, s := range all {
		if s.Setup != nil {
			failed[i] = s.Setup(ctx, first[0])
		}
	}
	over := &atomic.Bool{}
	var ran func() // waits until all have run
	if placement == InProcesses {
		ran = w.runProcesses(all, failed)
	} else {
		var wg sync.WaitGroup
		var mu sync.Mutex
		for i := range m.Count {
			wg.Go(func() {
				for j, err := range runParts(ctx, all, Part{Node: w.nodes[i], Index: i, Count: m.Count, Mode: mode, over: over}, m.Seed) {
					mu.Lock()
					failed[j] = errors.Join(failed[j], err)
					mu.Unlock()
				}
			})
		}
		ran = wg.Wait
	}
	began := time.Now()
	w.badDay()
	over.Store(true)
	last := time.Now()
	ran()
	t.Logf("it was a bad day for %v, and %v until all was done", last.Sub(began).Round(time.Millisecond), time.Since(last).Round(time.Millisecond))
	w.lastFault()
	fresh := w.nodes
	if placement != OnOneNode {
		fresh = []*distgear.Node{w.join("verifier")}
	}
	for i, s := range all {
		t.Run(s.Name, func(t *testing.T) {
			if failed[i] != nil {
				t.Errorf("%v\nthe seed was %d", failed[i], m.Seed)
			}
			if s.Verify != nil {
				s.Verify(ctx, t, fresh[0])
			}
		})
	}
}

// runParts runs one node's part of all scenarios, and returns what went wrong with each.
func runParts(ctx context.Context, all []Scenario, p Part, seed uint64) []error {
	failed := make([]error, len(all))
	var wg sync.WaitGroup
	for j, s := range all {
		p := p
		p.Rand = rand.New(rand.NewPCG(seed, uint64(p.Index)<<32|uint64(j)))
		wg.Go(func() {
			defer func() {
				if r := recover(); r != nil {
					failed[j] = fmt.Errorf("part %d: panic: %v\n%s", p.Index, r, debug.Stack())
				}
			}()
			if err := s.Run(ctx, &p); err != nil {
				failed[j] = fmt.Errorf("part %d: %w", p.Index, err)
			}
		})
	}
	wg.Wait()
	return failed
}

// The words between the test and a process that runs parts.
const (
	overWord = "over"
	ranWord  = "ran "
)

// ScenarioRole makes a role for Main whose process runs one part of these scenarios.
func ScenarioRole(makes ...func() Scenario) func(ctx context.Context, args []string) error {
	return func(ctx context.Context, args []string) error {
		n, err := distgear.Join(ctx, distgear.Config{}) // all is in the environment
		if err != nil {
			return err
		}
		p := Part{Node: n, over: &atomic.Bool{}}
		var seed uint64
		if len(args) != 4 {
			return errors.New("the arguments are index, count, mode and seed")
		}
		p.Index, _ = strconv.Atoi(args[0])
		p.Count, _ = strconv.Atoi(args[1])
		p.Mode = Mode(args[2])
		seed, _ = strconv.ParseUint(args[3], 10, 64)
		var all []Scenario
		for _, make := range makes { //nolint:predeclared // it is the word
			if s := make(); s.Modes == nil || slices.Contains(s.Modes, p.Mode) {
				all = append(all, s)
			}
		}
		go func() { // until the process ends: reading standard input cannot be interrupted
			for in := bufio.NewScanner(os.Stdin); in.Scan(); {
				if in.Text() == overWord {
					p.over.Store(true)
				}
			}
		}()
		Ready()
		said := []string{}
		for j, err := range runParts(ctx, all, p, seed) {
			if err != nil {
				said = append(said, all[j].Name+": "+err.Error())
			}
		}
		text, err := json.Marshal(said)
		fmt.Println(ranWord + string(text))
		<-ctx.Done()
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
		defer cancel()
		return errors.Join(err, n.Leave(ctx))
	}
}

// runProcesses starts a process for each part; what it returns waits for them.
func (w *world) runProcesses(all []Scenario, failed []error) func() {
	var ps []*Process
	for i := range w.m.Count {
		ps = append(ps, Start(w.t, Child{Role: w.m.Role, Args: []string{
			strconv.Itoa(i), strconv.Itoa(w.m.Count), string(w.mode), strconv.FormatUint(w.m.Seed, 10),
		}, Env: []string{"DISTGEAR_NAME=part-" + strconv.Itoa(i), "DISTGEAR_HUB=" + w.url(), "DISTGEAR_TTL=" + w.ttl().String()}}))
	}
	return func() {
		w.t.Helper()
		for _, p := range ps {
			p.Say(overWord)
		}
		for i, p := range ps {
			var said []string
			if err := json.Unmarshal([]byte(p.Line(ranWord)), &said); err != nil {
				w.t.Errorf("part %d: %v", i, err)
			}
			for _, s := range said {
				j := slices.IndexFunc(all, func(sc Scenario) bool { return strings.HasPrefix(s, sc.Name+": ") })
				failed[max(j, 0)] = errors.Join(failed[max(j, 0)], errors.New(s))
			}
			if err := p.Stop(); err != nil {
				w.t.Errorf("part %d: %v", i, err)
			}
		}
	}
}
