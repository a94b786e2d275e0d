package executor_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/distgear/distgear"
	"github.com/distgear/distgear/executor"
	"github.com/distgear/distgear/geartest"
)

func TestMain(m *testing.M) {
	role := func(cfg executor.Config) func(context.Context, []string) error {
		return geartest.NodeRole(func(n *distgear.Node) []distgear.Handler { return workAt(n, cfg) })
	}
	geartest.Main(m, geartest.Roles{"worker": role(executor.Config{}), "durable": role(executor.Config{Durable: true}), "submitter": geartest.NodeRole(submitAt)})
}

func workAt(n *distgear.Node, cfg executor.Config) []distgear.Handler {
	go func() { // until the node has left
		if err := cfg.New(n, poolName).Work(context.Background(), slots, works...); err != nil && !errors.Is(err, distgear.ErrLeft) {
			fmt.Fprintln(os.Stderr, "work:", err)
			os.Exit(1)
		}
	}()
	return nil
}

// submitAt submits more long tasks than a worker has slots.
func submitAt(n *distgear.Node) []distgear.Handler {
	ex := executor.New(n, poolName)
	for range 2 * slots {
		if _, err := executor.Submit(context.Background(), ex, slow, 60_000); err != nil {
			fmt.Fprintln(os.Stderr, "submit:", err)
			os.Exit(1)
		}
	}
	return nil
}

const (
	poolName = "pool"
	slots    = 2 // of each worker
)

// pool is an executor and those who work for it.
type pool struct {
	*executor.Executor
	c       *geartest.Cluster
	n       *distgear.Node // where tasks are submitted
	workers int
	durable bool // the queue is in the ledger
}

// placements runs body alone, with two nodes of this process that work, and with
// two that are processes.
func placements(t *testing.T, cfg executor.Config, body func(t *testing.T, p *pool)) {
	t.Helper()
	var wg sync.WaitGroup
	t.Cleanup(wg.Wait) // when all nodes have left
	here := geartest.Nodes{Count: 2, Handlers: func(n *distgear.Node) []distgear.Handler {
		wg.Go(func() {
			if err := cfg.New(n, poolName).Work(context.Background(), slots, works...); !errors.Is(err, distgear.ErrLeft) {
				t.Errorf("work: %v", err)
			}
		})
		return nil
	}, Role: "worker"}
	if cfg.Durable {
		here.Role = "durable"
	}
	geartest.Placements(t, here, func(t *testing.T, c *geartest.Cluster) {
		p := &pool{Executor: cfg.New(c.Here(), poolName), c: c, n: c.Here(), workers: 2, durable: cfg.Durable}
		if strings.HasSuffix(t.Name(), "alone") {
			p.workers, p.durable = 1, false
		}
		geartest.Eventually(t, 0, "the workers are there", func() bool {
			s, err := p.Stats(t.Context())
			return err == nil && s.Slots == p.workers*slots
		})
		body(t, p)
	})
}

// The actions. State that they keep is that of the worker.
var (
	errOdd  = errors.New("odd")
	errTold = errors.New("told so")

	works = []distgear.Handler{double, fails, flaky, slow, keyed, grow, count, blob, mark, slowOnce, turned}

	double = &distgear.Action[int, int]{Name: "double", Idempotent: true, Do: func(_ context.Context, n int) (int, error) {
		if n < 0 {
			return 0, errOdd
		}
		return 2 * n, nil
	}}
	// fails fails in many ways.
	fails = &distgear.Action[string, string]{Name: "fails", Retries: 3, Do: func(ctx context.Context, how string) (string, error) {
		n := tried(ctx)
		switch how {
		case "clean":
			return "", distgear.Clean(fmt.Errorf("try %d: %w", n, errTold))
		case "dirty":
			return "", fmt.Errorf("try %d: %w", n, errTold)
		case "permanent":
			return "", distgear.Permanent(distgear.Clean(fmt.Errorf("try %d: %w", n, errTold)))
		case "panic":
			panic(fmt.Sprintf("try %d", n))
		case "timeout":
			<-ctx.Done()
			return "", ctx.Err()
		}
		return how, nil
	}}
	// flaky is OK the third time.
	flaky = &distgear.Action[string, int]{Name: "flaky", Retries: 5, Do: func(ctx context.Context, how string) (int, error) {
		n := tried(ctx)
		if n < 3 {
			if how == "after" {
				return n, distgear.RetryAfter(errTold, time.Millisecond)
			}
			return n, distgear.Clean(errTold)
		}
		return n, nil
	}}
	// slow runs until it is cancelled, or for so many ms.
	slow = &distgear.Action[int, string]{Name: "slow", Idempotent: true, Do: func(ctx context.Context, ms int) (string, error) {
		running.Add(1)
		defer running.Add(-1)
		executor.Progress(ctx, 1, int64(ms))
		t := time.NewTimer(time.Duration(ms) * time.Millisecond)
		defer t.Stop()
		select {
		case <-t.C:
			return "slept", nil
		case <-ctx.Done():
			return "", ctx.Err()
		}
	}}
	// slowOnce is slow, and not idempotent.
	slowOnce = &distgear.Action[int, string]{Name: "slow-once", Do: slow.Do}

	keyed = &distgear.Action[struct{}, string]{Name: "keyed", Idempotent: true, Do: func(ctx context.Context, _ struct{}) (string, error) {
		return distgear.KeyOf(ctx), nil
	}}
	// grow is an action whose values must not be shared.
	grow = &distgear.Action[[]int, []int]{Name: "grow", Idempotent: true, Do: func(_ context.Context, in []int) ([]int, error) {
		in[0]++
		return append(in, len(in)), nil
	}}
	// count counts in its node.
	count = &distgear.Action[int, int64]{Name: "count", Do: func(context.Context, int) (int64, error) { return counted.Add(1), nil }}
	blob  = &distgear.Action[int, []byte]{Name: "blob", Idempotent: true, Do: func(_ context.Context, n int) ([]byte, error) { return make([]byte, n), nil }}
	// turned turns bytes around; what begins with a w waits until it is cancelled.
	turned = &distgear.Action[[]byte, []byte]{Name: "turned", Idempotent: true, Do: func(ctx context.Context, b []byte) ([]byte, error) {
		if b[0] == 'w' {
			executor.Progress(ctx, 1, 1)
			<-ctx.Done()
			return nil, ctx.Err()
		}
		slices.Reverse(b)
		return b, nil
	}}
	// mark tells in which order it was run.
	mark = &distgear.Action[string, int64]{Name: "mark", Idempotent: true, Do: func(context.Context, string) (int64, error) { return counted.Add(1), nil }}

	running, counted atomic.Int64
	tries            sync.Map
)

// tried counts the attempts of a task at this worker.
func tried(ctx context.Context) int {
	v, _ := tries.LoadOrStore(distgear.KeyOf(ctx), new(atomic.Int64))
	return int(v.(*atomic.Int64).Add(1))
}
