package audit_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/distgear/distgear"
	"github.com/distgear/distgear/audit"
	"github.com/distgear/distgear/geartest"
	"github.com/distgear/distgear/record"
)

func TestMain(m *testing.M) { geartest.Main(m, nil) }

const patience = 30 * time.Second

// What is done to a durable run from outside is in its journal: by whom, and why.
func TestAudit(t *testing.T) {
	keep := &distgear.Action[int, int]{Name: "keep", Do: func(_ context.Context, in int) (int, error) { return in, nil },
		Undo: func(context.Context, distgear.Did[int, int]) error {
			return distgear.Permanent(errors.New("it cannot be undone"))
		}}
	bad := &distgear.Action[int, int]{Name: "bad", Do: func(context.Context, int) (int, error) { return 0, errors.New("as it was told") }}
	event := &distgear.Event[string, int]{Name: "order", Durable: true, On: func(ctx context.Context, r *distgear.Run, how string) (int, error) {
		switch how {
		case "waits":
			if err := r.Signal(ctx, "go", nil); err != nil {
				return 0, err
			}
			_, err := r.Approve(ctx, "ship")
			return 1, err
		case "undo":
			p := distgear.Plan{Name: "p", Rollback: true}
			bad.Step(&p, distgear.Any(), 0, keep.Step(&p, distgear.Any(), 1))
			return 0, r.Do(ctx, &p)
		}
		panic("out of paper")
	}}
	hs := geartest.Nodes{Count: 1, Handlers: func(*distgear.Node) []distgear.Handler { return []distgear.Handler{keep, bad, event} }}
	body := func(t *testing.T, n *distgear.Node) {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		anna := audit.By(ctx, "anna")
		ok := func(err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		raise := func(how string, opts ...distgear.RaiseOption) record.RunID {
			t.Helper()
			f, err := event.Raise(ctx, n, how, opts...)
			ok(err)
			return f.ID()
		}
		becomes := func(id record.RunID, s record.RunState) {
			t.Helper()
			geartest.Eventually(t, patience, fmt.Sprintf("%s is %s", id, s), func() bool {
				rec, err := n.FindRun(ctx, id)
				return err == nil && rec.State == s
			})
		}
		check := func(id record.RunID, want ...string) {
			t.Helper()
			rec, err := n.FindRun(ctx, id)
			ok(err)
			var got []string
			for i, e := range rec.Journal {
				if e.What != record.Operated && e.What != record.BeginStuck {
					continue
				}
				got = append(got, strings.TrimSpace(strings.Join([]string{strings.TrimPrefix(string(e.What), "operator"), e.Name, e.Step, e.By, e.Text}, " ")))
				if i == 0 || time.Since(e.At).Abs() > time.Minute || n.Room().Ledger.Alone() != (e.Node == "") {
					t.Errorf("%d: %+v", i, e)
				}
			}
			if strings.Join(got, "\n") != strings.Join(want, "\n") {
				t.Errorf("%q, want %q", got, want)
			}
		}

		id := raise("waits")
		ok(n.SignalRun(ctx, id, "other", nil)) // of a program, which does not say who
		ok(n.SignalRun(anna, id, "go", nil))
		ok(n.ApproveRun(anna, id, "ship", record.Approval{Approved: true}))
		becomes(id, record.OK)
		check(id, "signal  anna go", "approve  anna ship")

		id = raise("waits", distgear.Delay(time.Hour))
		ok(n.CancelRun(audit.By(ctx, strings.Repeat("é", 99)), id))
		becomes(id, record.Cancelled)
		check(id, "cancel  "+strings.Repeat("é", 50))

		id = raise("panics")
		becomes(id, record.Parked)
		ok(n.AdoptRun(ctx, id))
		geartest.Eventually(t, patience, "it goes on", func() bool { rec, err := n.FindRun(ctx, id); return err == nil && rec.State != record.Parked })
		ok(n.TerminateRun(anna, id, "no use"))
		check(id, "adopt", "terminate  anna no use")

		id = raise("undo")
		becomes(id, record.Stuck)
		ok(n.ResolveUndo(anna, id, "keep", record.MarkDone, "by hand"))
		geartest.Eventually(t, patience, "it has ended", func() bool { rec, err := n.FindRun(ctx, id); return err == nil && rec.State.Final() })
		fork, err := n.ForkRun(anna, id, "keep", nil, distgear.ID("fork"))
		ok(err)
		check(id, "stuck  keep", "undo  anna keep: done, by hand", "fork  anna as fork, from keep")
		becomes(fork, record.Stuck)
		ok(n.TerminateRun(anna, fork, "seen"))
		check(fork, "fork  anna of "+string(id)+", from keep", "stuck  keep", "terminate  anna seen")
	}
	t.Run("alone", func(t *testing.T) { body(t, geartest.Alone(t, hs).Here()) })
	t.Run("nodes", func(t *testing.T) { body(t, geartest.StartCluster(t, hs).Here()) })
}
