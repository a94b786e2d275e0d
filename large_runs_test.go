package distgear_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/distgear/distgear"
	"github.com/distgear/distgear/geartest"
	"github.com/distgear/distgear/record"
)

// Inputs, results and what the journal has of steps may be as large as commands may
// carry: the ledger has references to them, and another owner goes on with them.
func TestDurable_D10_LargeValues(t *testing.T) {
	const large = 600_000
	in := strings.Repeat("in", large/2)
	double := &distgear.Action[string, string]{Name: "double", Do: func(_ context.Context, s string) (string, error) {
		return strings.ToUpper(s), nil
	}}
	event := &distgear.Event[string, string]{Name: "large", Durable: true, On: func(ctx context.Context, r *distgear.Run, s string) (string, error) {
		p := distgear.Plan{Name: "p"}
		a := double.Step(&p, distgear.Any(), s)
		b := double.StepFunc(&p, distgear.Any(), func() (string, error) {
			out, err := a.Result()
			return out + "x", err
		}, a)
		if err := r.Do(ctx, &p); err != nil {
			return "", err
		}
		if err := r.Signal(ctx, "go", nil); err != nil { // it is given back, and leased with its journal
			return "", err
		}
		return b.Result()
	}}
	hs := geartest.Nodes{Handlers: func(*distgear.Node) []distgear.Handler { return []distgear.Handler{double, event} }}
	body := func(t *testing.T, n *distgear.Node) {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		f, err := event.Raise(ctx, n, in, distgear.ID("large-1"))
		if err != nil {
			t.Fatal(err)
		}
		geartest.Eventually(t, patience, "the run waits", func() bool {
			rec, err := n.FindRun(ctx, f.ID())
			return err == nil && rec.State == record.Waiting && len(rec.Plans) == 1 && len(rec.Plans[0].Steps) == 2
		})
		if _, err := event.Raise(ctx, n, in, distgear.ID("large-1")); err != nil {
			t.Errorf("raised again: %v", err)
		}
		if _, err := event.Raise(ctx, n, in+"!", distgear.ID("large-1")); !errors.Is(err, distgear.ErrConflict) {
			t.Errorf("another input: %v", err)
		}
		if err := n.SignalRun(ctx, f.ID(), "go", in); !errors.Is(err, distgear.ErrInvalid) {
			t.Errorf("a large signal: %v", err)
		}
		if err := n.SignalRun(ctx, f.ID(), "go", nil); err != nil {
			t.Fatal(err)
		}
		if out, err := f.Wait(ctx); err != nil || out != strings.ToUpper(in)+"X" {
			t.Fatalf("%d bytes, %v", len(out), err)
		}
		again, err := event.Find(ctx, n, f.ID())
		if err != nil {
			t.Fatal(err)
		}
		if out, err := again.Wait(ctx); err != nil || len(out) != large+1 {
			t.Errorf("found: %d bytes, %v", len(out), err)
		}
		if rec, err := n.FindRun(ctx, f.ID()); err != nil || rec.State != record.OK || len(rec.Result) == 0 {
			t.Errorf("%s %d bytes %v", rec.State, len(rec.Result), err)
		}
	}
	t.Run("alone", func(t *testing.T) { body(t, geartest.Alone(t, hs).Here()) })
	t.Run("nodes", func(t *testing.T) { body(t, geartest.StartCluster(t, hs).Here()) })
}
