package executor_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/distgear/distgear"
	"github.com/distgear/distgear/executor"
	"github.com/distgear/distgear/geartest"
)

// stored is how many values of tasks that are not durable are in the object store.
func stored(t *testing.T, n *distgear.Node) (count int) {
	t.Helper()
	s := n.Room().Ledger.Store()
	if s == nil {
		return 0
	}
	all, err := s.List(t.Context())
	if err != nil {
		t.Error(err)
	}
	for _, o := range all {
		if strings.HasPrefix(o.Name, `task/"fast:`) {
			count++
		}
	}
	return count
}

// TestLarge: inputs and results above MaxPayload travel by the object store, and are
// gone from there when their tasks have ended.
func TestLarge(t *testing.T) {
	placements(t, executor.Config{}, func(t *testing.T, p *pool) {
		ctx := t.Context()
		sizes := []int{distgear.MaxPayload - 100, distgear.MaxPayload, distgear.MaxPayload + 1, 2 << 20}
		var fs []*executor.Future[[]byte]
		for i := range 2 * len(sizes) {
			in := bytes.Repeat([]byte{byte(i)}, sizes[i%len(sizes)])
			in[0] = 100
			f, err := executor.Submit(ctx, p.Executor, turned, in, executor.Batch("large"))
			if err != nil {
				t.Fatal(err)
			}
			fs = append(fs, f)
		}
		if end, err := p.AwaitBatch(ctx, "large"); err != nil || end.OK != len(fs) {
			t.Error(end, err)
		}
		for i, f := range fs {
			select {
			case <-f.Done():
			default:
				t.Error("the batch has ended before a task of it")
			}
			n := sizes[i%len(sizes)]
			if out, err := f.Wait(ctx); err != nil || len(out) != n || out[n-1] != 100 || out[0] != byte(i) {
				t.Errorf("%d bytes: %d back, %v", n, len(out), err)
			}
		}
		// One that waits, and one that runs, are cancelled.
		var waits []*executor.Future[[]byte]
		for range p.workers*slots + 2 {
			f, err := executor.Submit(ctx, p.Executor, turned, bytes.Repeat([]byte("w"), 1<<20))
			if err != nil {
				t.Fatal(err)
			}
			waits = append(waits, f)
		}
		geartest.Eventually(t, 0, "all slots run one", func() bool {
			begun := 0
			for _, f := range waits { // in whatever order their inputs are there
				if n, _ := f.Progress(); n == 1 {
					begun++
				}
			}
			return begun == p.workers*slots
		})
		for _, f := range waits {
			f.Cancel()
		}
		for _, f := range waits {
			if _, err := f.Wait(ctx); !errors.Is(err, distgear.ErrCancelled) {
				t.Error(err)
			}
		}
		geartest.Eventually(t, 0, "nothing is stored any more", func() bool { return stored(t, p.n) == 0 })
		if !strings.HasSuffix(t.Name(), "nodes") { // alone it stays where it is, and processes are no other than nodes
			return
		}
		const tooLarge = 64<<20 + 1
		_, err := executor.Submit(ctx, p.Executor, turned, make([]byte, tooLarge))
		_, err2 := wait2(executor.Submit(ctx, p.Executor, blob, tooLarge))(t)
		for what, err := range map[string]error{"input": err, "result": err2} {
			if !errors.Is(err, distgear.ErrInvalid) || !strings.Contains(fmt.Sprint(err), "67108864 are allowed") {
				t.Errorf("%s: %v", what, err)
			}
		}
	})
}
