package geartest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/distgear/distgear"
	"github.com/distgear/distgear/cluster"
)

// whereami answers with the name of the node it runs on; relay asks the nodes it is given, in a plan.
var (
	whereami = &distgear.Action[string, string]{Name: "whereami"}
	relay    = &distgear.Event[[]cluster.NodeName, []string]{Name: "relay"}
)

// handlers are what each node of these tests handles.
func handlers(n *distgear.Node) []distgear.Handler {
	where := &distgear.Action[string, string]{Name: whereami.Name}
	where.Do = func(_ context.Context, say string) (string, error) {
		return fmt.Sprintf("%s at %s", say, n.Name()), nil
	}
	over := &distgear.Event[[]cluster.NodeName, []string]{Name: relay.Name}
	over.On = func(ctx context.Context, r *distgear.Run, to []cluster.NodeName) ([]string, error) {
		var p distgear.Plan
		var steps []*distgear.Step[string]
		for _, name := range to {
			steps = append(steps, whereami.Step(&p, distgear.On(name), "hello"))
		}
		if err := r.Do(ctx, &p); err != nil {
			return nil, err
		}
		var answers []string
		for _, s := range steps {
			a, err := s.Result()
			if err != nil {
				return nil, err
			}
			answers = append(answers, a)
		}
		return answers, nil
	}
	return []distgear.Handler{where, over}
}

func TestPlacements(t *testing.T) {
	Leaks(t)
	bodies := map[string]bool{}
	Placements(t, Nodes{Handlers: handlers, Role: "node"}, func(t *testing.T, c *Cluster) {
		bodies[t.Name()] = true
		f, err := relay.Raise(t.Context(), c.Here(), []cluster.NodeName{c.Name(0), c.Name(1), c.Name(2)})
		if err != nil {
			t.Fatal(err)
		}
		got, err := f.Wait(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		want := fmt.Sprintf("[hello at %s hello at %s hello at %s]", c.Name(0), c.Name(1), c.Name(2))
		if fmt.Sprint(got) != want {
			t.Errorf("got %v, want %v", got, want)
		}
	})
	for _, name := range []string{"alone", "nodes", "processes"} {
		if !bodies[t.Name()+"/"+name] {
			t.Errorf("the body has not run %s", name)
		}
	}
}

func TestClusterCut(t *testing.T) {
	Leaks(t)
	c := StartCluster(t, Nodes{Count: 2, Handlers: handlers, Proxied: true})
	c.Cut("node-1")
	c.Await("node-1", cluster.Lost)
	if got, err := whereami.Call(t.Context(), c.Here(), distgear.On("node-2"), "hello"); got != "hello at node-2" || err != nil {
		t.Errorf("the node that is not cut off answers %q, %v", got, err)
	}
	c.Heal("node-1")
	c.Await("node-1", cluster.Alive)
	c.Settle()
	// Its lease counts from when it asked for it, which may have been before the cut ended: until the next beat it may refuse, and say that nothing ran.
	Eventually(t, 0, "the node that came back answers", func() bool {
		got, err := whereami.Call(t.Context(), c.Here(), distgear.On("node-1"), "hello")
		if err == nil && got != "hello at node-1" || err != nil && distgear.OutcomeOf(err) != distgear.NeverRan {
			t.Fatalf("the node that came back answers %q, %v", got, err)
		}
		return err == nil
	})
}

// TestClusterLeave: a node leaves, and another of its name comes.
func TestClusterLeave(t *testing.T) {
	Leaks(t)
	c := StartCluster(t, Nodes{Count: 2, Handlers: handlers, Configure: func(cfg *distgear.Config) {
		if cfg.Name != "hub" {
			cfg.Labels = map[string]string{"zone": string(cfg.Name)}
		}
	}})
	if err := c.Node("node-1").Leave(t.Context()); err != nil {
		t.Fatal(err)
	}
	c.Await("node-1", cluster.Left)
	c.Start("node-1")
	c.Settle()
	if got, err := whereami.Call(t.Context(), c.Here(), distgear.Any("zone=node-1"), "hello"); got != "hello at node-1" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestClusterKill(t *testing.T) {
	Leaks(t)
	c := StartCluster(t, Nodes{Count: 2, Handlers: handlers, Role: "node", Proxied: true, Configure: func(cfg *distgear.Config) {
		cfg.Token, cfg.Cluster, cfg.Labels = "a secret", "test", map[string]string{"zone": string(cfg.Name), "ssd": "yes"}
	}})
	c.Process("node-1").Kill()
	c.Await("node-1", cluster.Lost, cluster.Left)
	c.Start("node-1")
	c.Settle()
	if got, err := whereami.Call(t.Context(), c.Here(), distgear.Any("zone=node-1", "ssd=yes"), "hello"); got != "hello at node-1" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
	c.Process("node-2").Pause()
	c.Await("node-2", cluster.Lost)
	c.Process("node-2").Resume()
	c.Await("node-2", cluster.Alive)
	c.Cut("node-2") // and whoever forgets to heal it has a cluster that leaves nevertheless
}

func TestClusterFailures(t *testing.T) {
	for _, c := range []struct {
		name string
		do   func(c *Cluster)
		want string
	}{
		{"no proxy", func(c *Cluster) { c.Cut("node-1") }, "node-1 has no proxy"},
		{"no process", func(c *Cluster) { c.Process("node-1") }, "node-1 is not a process"},
		{"no node", func(c *Cluster) { c.Node("node-9") }, "node-9 is not in this process"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := failing(t, func(t testing.TB) { c.do(Alone(t, Nodes{})) }); !strings.Contains(got, c.want) {
				t.Errorf("the test says %q, which lacks %q", got, c.want)
			}
		})
	}
}

// TestSettle: who does not know all is not settled, and says whom it lacks.
func TestSettle(t *testing.T) {
	n := StartCluster(t, Nodes{Count: 1, Handlers: handlers}).Here()
	ctx, cancel := context.WithTimeoutCause(t.Context(), 10*time.Millisecond, errors.New("enough"))
	defer cancel()
	err := settle(ctx, n, roster{"node-1": {Kinds: []string{"whereami", "nothing"}}})
	if err == nil || !strings.Contains(err.Error(), "node-1") || !strings.Contains(err.Error(), "enough") {
		t.Errorf("settle = %v", err)
	}
	if err := settle(t.Context(), n, roster{"node-1": {Kinds: []string{"whereami"}}}); err != nil {
		t.Errorf("settle = %v", err)
	}
}
