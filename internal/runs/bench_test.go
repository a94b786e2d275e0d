package runs

import (
	"context"
	"log/slog"
	"strconv"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/distgear/distgear/cluster"
	"github.com/distgear/distgear/internal/journal"
	"github.com/distgear/distgear/internal/link"
	"github.com/distgear/distgear/internal/place"
	"github.com/distgear/distgear/internal/wire"
	"github.com/distgear/distgear/record"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fake returns a host whose commands are all OK: another goroutine
// reports. It also returns what tells of each command.
func fake(tb testing.TB, told func(wire.Command, link.Receiver)) *Host {
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
	return &Host{
		Here: at, Log: slog.New(slog.DiscardHandler), Stop: make(chan struct{}),
		Place: func(place.Target, string, cluster.NodeName, link.ID) (place.Place, error) { return at, nil },
		Start: func(_ place.Place, c *wire.Command, _ time.Time, _ time.Duration, r link.Receiver) (Flight, error) {
			told(*c, r)
			sent <- r
			return Flight{}, nil
		},
		Hold: func() bool { return true }, Free: func() {}, Clock: time.Now,
		LetGo: func(place.Place, record.RunID, uint64) {},
	}
}

// keysOf are the keys of its steps.
func keysOf(id record.RunID) (keys [6]string) {
	for i := range keys {
		keys[i] = string(id) + "/1/step-" + strconv.Itoa(i+1) + DoEnd
	}
	return keys
}

// six runs the plan of bench's row (a, b → c → d; d, e → f).
func six(tb testing.TB, h *Host, id record.RunID, keys *[6]string, b Beginning) *Run {
	var r Run
	if err := r.Begin(h, id, &b); err != nil {
		tb.Fatal(err)
	}
	compute := func(b []byte) ([]byte, error) { return append(b, '2'), nil }
	names := [...]string{"step-1", "step-2", "step-3", "step-4", "step-5", "step-6"}
	var steps [6]Step
	p := Plan{Name: "1", Rollback: true, Steps: make([]*Step, 0, len(steps))}
	for i, after := range [len(steps)][]int{nil, nil, {0, 1}, {2}, nil, {3, 4}} {
		steps[i] = Step{Name: names[i], Key: keys[i], Kind: "step", On: place.Target{Name: "worker"}, After: after, Undo: true, Timeout: time.Second, Input: []byte("1")}
		if len(after) > 0 {
			steps[i].Encode = compute
		}
		p.Steps = append(p.Steps, &steps[i])
	}
	if f := r.Do(context.Background(), h, &p); f != nil {
		tb.Fatal(f.Err)
	}
	if e := r.End(nil, nil); e.Err != nil {
		tb.Fatal(e.Err)
	}
	return &r
}

func BenchmarkPlan(b *testing.B) {
	h := fake(b, func(wire.Command, link.Receiver) {})
	keys := keysOf("run-1")
	b.ReportAllocs()
	for b.Loop() {
		six(b, h, "run-1", &keys, Beginning{Event: "plan"})
	}
}

// always is a journal that keeps nothing and acknowledges at once.
type always chan func(error)

// Append implements journal.Journal.
func (a always) Append(_ journal.Entry, then func(error)) { a <- then }

func BenchmarkDurablePlan(b *testing.B) {
	h := fake(b, func(wire.Command, link.Receiver) {})
	a := make(always, 64) // more than a plan has appends under way
	done := make(chan struct{})
	go func() {
		defer close(done)
		for then := range a {
			then(nil)
		}
	}()
	keys := keysOf("run-1")
	b.ReportAllocs()
	for b.Loop() {
		six(b, h, "run-1", &keys, Beginning{Event: "plan", Lease: &journal.Lease{Journal: a, Epoch: 1}})
	}
	close(a)
	<-done
}
