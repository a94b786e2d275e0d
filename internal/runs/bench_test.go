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

// BenchmarkPlan is a run with the plan of bench's row (a, b → c → d; d, e → f),
// whose reports come from another goroutine.
func BenchmarkPlan(b *testing.B) {
	sent := make(chan link.Receiver, 64) // more than a plan has steps
	go func() {
		for r := range sent {
			r.Report(wire.Report{Outcome: wire.OK, Over: true, Payload: []byte("1")})
		}
	}()
	defer close(sent)
	at := place.Place{Node: "worker", Life: 1}
	h := &Host{
		Here: at, Log: slog.New(slog.DiscardHandler), Stop: make(chan struct{}),
		Place: func(place.Target, string, cluster.NodeName, link.ID) (place.Place, error) { return at, nil },
		Start: func(_ place.Place, _ *wire.Command, _ time.Time, _ time.Duration, r link.Receiver) (Flight, error) {
			sent <- r
			return Flight{}, nil
		},
		Hold: func() bool { return true }, Free: func() {},
	}
	g := New(h)
	compute := func(b []byte) ([]byte, error) { return append(b, '2'), nil }
	after := [...][]int{nil, nil, {0, 1}, {2}, nil, {3, 4}}
	b.ReportAllocs()
	for b.Loop() {
		var r Run
		if _, err := g.Begin(&r, Beginning{Event: "plan"}); err != nil {
			b.Fatal(err)
		}
		var steps [6]Step
		p := Plan{Name: "1", Rollback: true, Steps: make([]*Step, 0, 6)}
		for i := range steps {
			steps[i] = Step{Kind: "step", On: place.Target{Name: "worker"}, After: after[i], Undo: true, Timeout: time.Second, Input: []byte("1")}
			if len(after[i]) > 0 {
				steps[i].Encode = compute
			}
			p.Steps = append(p.Steps, &steps[i])
		}
		NameSteps(string(r.ID()), p.Name, p.Steps)
		if f := r.Do(context.Background(), h, &p); f != nil {
			b.Fatal(f.Err)
		}
		if _, err := g.End(&r, nil, nil); err != nil {
			b.Fatal(err)
		}
	}
}
