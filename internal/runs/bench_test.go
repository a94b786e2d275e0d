package runs

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/distgear/distgear/cluster"
	"github.com/distgear/distgear/internal/link"
	"github.com/distgear/distgear/internal/place"
	"github.com/distgear/distgear/internal/wire"
)

// fake returns a registry at a host whose commands are all OK: another goroutine
// reports. It also returns what tells of each command.
func fake(tb testing.TB, told func(wire.Command, link.Receiver)) *Registry {
	sent := make(chan link.Receiver, 64) // more than a plan has steps
	done := make(chan struct{})
	go func() {
		defer close(done)
		for r := range sent {
			r.Report(wire.Report{Outcome: wire.OK, Over: true, Payload: []byte("1")})
		}
	}()
	tb.Cleanup(func() { close(sent); <-done })
	at := place.Place{Node: "worker", Life: 1}
	return New(&Host{
		Here: at, Log: slog.New(slog.DiscardHandler), Stop: make(chan struct{}),
		Place: func(place.Target, string, cluster.NodeName, link.ID) (place.Place, error) { return at, nil },
		Start: func(_ place.Place, c *wire.Command, _ time.Time, _ time.Duration, r link.Receiver) (Flight, error) {
			told(*c, r)
			sent <- r
			return Flight{}, nil
		},
		Hold: func() bool { return true }, Free: func() {},
	})
}

// six runs the plan of bench's row (a, b → c → d; d, e → f).
func six(tb testing.TB, g *Registry, b Beginning) *Run {
	var r Run
	if _, err := g.Begin(&r, b); err != nil {
		tb.Fatal(err)
	}
	compute := func(b []byte) ([]byte, error) { return append(b, '2'), nil }
	var steps [6]Step
	p := Plan{Name: "1", Rollback: true, Steps: make([]*Step, 0, len(steps))}
	for i, after := range [len(steps)][]int{nil, nil, {0, 1}, {2}, nil, {3, 4}} {
		steps[i] = Step{Kind: "step", On: place.Target{Name: "worker"}, After: after, Undo: true, Timeout: time.Second, Input: []byte("1")}
		if len(after) > 0 {
			steps[i].Encode = compute
		}
		p.Steps = append(p.Steps, &steps[i])
	}
	NameSteps(string(r.ID()), p.Name, p.Steps)
	if f := r.Do(context.Background(), g.host, &p); f != nil {
		tb.Fatal(f.Err)
	}
	if _, err := g.End(&r, nil, nil); err != nil {
		tb.Fatal(err)
	}
	return &r
}

func BenchmarkPlan(b *testing.B) {
	g := fake(b, func(wire.Command, link.Receiver) {})
	b.ReportAllocs()
	for b.Loop() {
		six(b, g, Beginning{Event: "plan"})
	}
}
