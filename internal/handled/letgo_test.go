package handled

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/distgear/distgear/internal/link"
	"github.com/distgear/distgear/internal/outcome"
	"github.com/distgear/distgear/internal/place"
	"github.com/distgear/distgear/internal/runner"
	"github.com/distgear/distgear/internal/runs"
	"github.com/distgear/distgear/internal/wire"
	"github.com/distgear/distgear/record"
)

// remembers tells whether a table has the outcome of a run's attempt.
func remembers(t *outcome.Table, id string) bool {
	c := &wire.Command{Kind: "op", Key: id + "/p/a/do", Owner: wire.Owner{Epoch: 1, Run: uint32(len(id)), Attach: true}}
	return t.Serve(new(runner.Context), c, time.Now(), nil).Outcome == wire.OK
}

// did makes a table that has an outcome of each run.
func did(t *outcome.Table, n int) (ids []string) {
	for i := range n {
		id := fmt.Sprint("run-", i)
		c := &wire.Command{Kind: "op", Key: id + "/p/a/do", Owner: wire.Owner{Epoch: 1, Run: uint32(len(id))}}
		t.Serve(new(runner.Context), c, time.Now(), func() wire.Report { return wire.Report{Outcome: wire.OK, Over: true} })
		ids = append(ids, id)
	}
	return ids
}

// TestLetGo: another node is told one command at a time; what ends meanwhile goes with the
// next, and all of it is forgotten there. Here it is forgotten at once.
func TestLetGo(t *testing.T) {
	type sent struct {
		in []byte
		to link.Receiver
	}
	var commands []sent
	var fail error
	here, there := place.Place{Node: "here", Life: 1}, place.Place{Node: "there", Life: 2}
	h := &runs.Host{Here: here, Clock: time.Now, Start: func(at place.Place, c *wire.Command, _ time.Time, _ time.Duration, r link.Receiver) (runs.Flight, error) {
		if at != there || c.Kind != kindLetGo {
			t.Errorf("%s is sent to %v", c.Kind, at)
		}
		if fail == nil {
			commands = append(commands, sent{c.Input, r})
		}
		return runs.Flight{}, fail
	}}
	g := New(h)
	for _, id := range did(&g.Outcomes, 2)[:1] {
		h.LetGo(here, record.RunID(id), 1)
	}
	if remembers(&g.Outcomes, "run-0") || !remembers(&g.Outcomes, "run-1") || len(commands) != 0 {
		t.Errorf("here it remembers run-0: %v, run-1: %v; %d commands", remembers(&g.Outcomes, "run-0"), remembers(&g.Outcomes, "run-1"), len(commands))
	}

	other := New(&runs.Host{Here: there, Clock: time.Now})
	ids := did(&other.Outcomes, 100)
	for _, id := range ids {
		h.LetGo(there, record.RunID(id), 1)
	}
	answered := 0
	for ; answered < len(commands); answered++ {
		c := commands[answered]
		if _, err := other.serveLetGo(t.Context(), "here", &wire.Command{Input: c.in}); err != nil {
			t.Fatal(err)
		}
		c.to.Report(wire.Report{Outcome: wire.OK, Over: true})
	}
	if answered != 2 {
		t.Errorf("%d commands, want one and then one", answered)
	}
	for _, id := range ids {
		if remembers(&other.Outcomes, id) {
			t.Errorf("%s is remembered", id)
		}
	}
	if len(g.farewells.to) != 0 {
		t.Errorf("%d nodes are still told something", len(g.farewells.to))
	}

	long := strings.Repeat("x", 200) // to a node that does not answer
	for range 10_000 {
		h.LetGo(there, record.RunID(long), 1)
	}
	if n := len(g.farewells.to[there].next); n > maxFarewells+len(long)+8 {
		t.Errorf("%d bytes wait", n)
	}
	fail = errors.New("it is gone")
	commands[len(commands)-1].to.Report(wire.Report{Over: true})
	if len(g.farewells.to) != 0 {
		t.Error("a node that is gone is still told something")
	}
	if _, err := other.serveLetGo(t.Context(), "here", &wire.Command{Input: []byte{1, 200, 1, 'x'}}); err == nil {
		t.Error("a malformed list is taken")
	}
}
