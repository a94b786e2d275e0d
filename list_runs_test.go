package distgear_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/distgear/distgear"
	"github.com/distgear/distgear/geartest"
	"github.com/distgear/distgear/record"
)

// All durable runs are listed, once each and the newest first, however many pages of the ledger that takes.
func TestRuns_Pages(t *testing.T) {
	const many = 1200 // a page has about 500
	event := &distgear.Event[int, int]{Name: "later", Durable: true, On: func(_ context.Context, _ *distgear.Run, in int) (int, error) { return in, nil }}
	hs := geartest.Nodes{Count: 1, Handlers: func(*distgear.Node) []distgear.Handler { return []distgear.Handler{event} }}
	body := func(t *testing.T, n *distgear.Node) {
		raise := func(id string, opts ...distgear.RaiseOption) {
			f, err := event.Raise(t.Context(), n, 7, append(opts, distgear.ID(id))...)
			if err == nil && len(opts) == 0 {
				_, err = f.Wait(t.Context())
			}
			if err != nil {
				t.Error(err)
			}
		}
		raise("first")
		var wg sync.WaitGroup
		for part := range 40 {
			wg.Go(func() {
				for i := part; i < many; i += 40 {
					raise(fmt.Sprint("run-", i), distgear.Delay(time.Hour))
				}
			})
		}
		wg.Wait()
		raise("last")
		seen := map[record.RunID]bool{}
		var before record.Run
		for r, err := range n.Runs(t.Context()) {
			switch {
			case err != nil:
				t.Fatal(err)
			case seen[r.ID]:
				t.Errorf("%s twice", r.ID)
			case before.ID != "" && r.Started.After(before.Started.Add(time.Second)):
				t.Errorf("%s began at %v, after %s at %v", r.ID, r.Started, before.ID, before.Started)
			case r.State != record.Waiting && r.ID != "first" && r.ID != "last":
				t.Errorf("%s is %s", r.ID, r.State)
			case !r.Durable:
				t.Errorf("%s is not durable", r.ID)
			}
			seen[r.ID], before = true, r
		}
		if len(seen) != many+2 || !seen["first"] || !seen["last"] {
			t.Errorf("%d runs", len(seen))
		}
	}
	t.Run("alone", func(t *testing.T) { body(t, geartest.Alone(t, hs).Here()) })
	t.Run("nodes", func(t *testing.T) { body(t, geartest.StartCluster(t, hs).Here()) })
}
