package cli

import (
	"bytes"
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/distgear/distgear"
	"github.com/distgear/distgear/geartest"
	"github.com/distgear/distgear/shared"
)

// share makes what the scripts look at: a lock that is held, a queue with an
// item, and two goroutines that wait for each other until the test ends.
func share(ctx context.Context, t *testing.T, n *distgear.Node) {
	t.Helper()
	ctx, cancel := context.WithCancel(ctx)
	if _, err := shared.NewMutex(n, "accounts").Lock(ctx); err != nil {
		cancel()
		t.Fatal(err)
	}
	if err := shared.NewQueue[string](n, "jobs", 5).Put(ctx, "first"); err != nil {
		cancel()
		t.Fatal(err)
	}
	var both, ended sync.WaitGroup
	both.Add(2)
	cross := func(first, second string) {
		_ = shared.NewMutex(n, first).Do(ctx, func(ctx context.Context, _ shared.Token) error { // ends with ctx
			both.Done()
			both.Wait()
			_, err := shared.NewMutex(n, second).Lock(ctx)
			return err
		})
	}
	ended.Go(func() { cross("left", "right") })
	ended.Go(func() { cross("right", "left") })
	t.Cleanup(func() {
		cancel()
		ended.Wait()
	})
	geartest.Eventually(t, 30*time.Second, "the cycle is found", func() bool {
		cs, err := shared.Cycles(ctx, n)
		return err == nil && len(cs) == 1
	})
}

// until is a writer that calls stop when it has seen text.
type until struct {
	mu   sync.Mutex
	b    bytes.Buffer
	text string
	stop func()
}

func (u *until) Write(b []byte) (int, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	n, err := u.b.Write(b)
	if strings.Contains(u.b.String(), u.text) {
		u.stop()
	}
	return n, err
}

func TestWatchLocks(t *testing.T) {
	url := serve(t)
	for _, flag := range []string{"--watch", "--json"} {
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		out := &until{text: "accounts", stop: cancel}
		var errs bytes.Buffer
		if code := Run(ctx, []string{"locks", "--gateway", url, "-w", flag}, strings.NewReader(""), out, &errs); code != OK {
			t.Errorf("exit code %d\n%s%s", code, &out.b, &errs)
		}
		cancel()
	}
}

// TestHub_SaysWhereTheLedgerIs: in memory, or in a directory.
func TestHub_SaysWhereTheLedgerIs(t *testing.T) {
	dir := t.TempDir()
	for want, args := range map[string][]string{
		"ledger   memory (lost when the hub ends)":   nil,
		"ledger   file, synced always: " + dir:       {"--dir", dir},
		`"ledger":"memory (lost when the hub ends)"`: {"--json"},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
		out := &until{text: want, stop: cancel}
		var errs bytes.Buffer
		code := Run(ctx, append([]string{"hub", "--cluster", "tiers", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0"}, args...), strings.NewReader(""), out, &errs)
		if code != OK || !strings.Contains(out.b.String(), want) {
			t.Errorf("exit code %d\n%s%s", code, &out.b, &errs)
		}
		cancel()
	}
	var out, errs bytes.Buffer
	if code := Run(t.Context(), []string{"hub", "--listen", "127.0.0.1:0", "--peers", "127.0.0.1:1"}, strings.NewReader(""), &out, &errs); code != NeverRan || !strings.Contains(errs.String(), "three") {
		t.Errorf("exit code %d\n%s%s", code, &out, &errs)
	}
}
