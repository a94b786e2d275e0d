package cli

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/distgear/distgear"
	"github.com/distgear/distgear/executor"
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
	work(ctx, t, n)
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

// work makes an executor with tasks of all kinds: of a durable one, and of one in
// this process.
func work(ctx context.Context, t *testing.T, n *distgear.Node) {
	t.Helper()
	flip := &distgear.Action[string, string]{Name: "flip", Do: func(ctx context.Context, s string) (string, error) {
		switch s {
		case "bad":
			return "", distgear.Permanent(errors.New("cannot be flipped"))
		case "slow":
			executor.Progress(ctx, 1, 4)
			<-ctx.Done() // until it is cancelled
			return "", context.Cause(ctx)
		}
		return s + "!", nil
	}}
	slow := executor.Config{Durable: true, Retain: time.Hour, Grace: 10 * time.Millisecond}.New(n, "render")
	prints := executor.Config{Durable: true}.New(n, "prints")
	quick := executor.New(n, "thumbs")
	ctx, cancel := context.WithCancel(ctx)
	var ended sync.WaitGroup
	ended.Go(func() { _ = slow.Work(ctx, 2, flip) })
	ended.Go(func() { _ = prints.Work(ctx, 1, flip) })
	ended.Go(func() { _ = quick.Work(ctx, 1, flip) })
	t.Cleanup(func() {
		cancel()
		ended.Wait()
	})
	for name, when := range map[executor.ScheduleID]string{"nightly": "@daily", "hourly": "@hourly"} {
		if err := executor.Every(ctx, prints, name, when, flip, "news"); err != nil {
			t.Fatal(err)
		}
	}
	submit := func(ex *executor.Executor, in, id string, opts ...executor.TaskOption) *executor.Future[string] {
		f, err := executor.Submit(ctx, ex, flip, in, append(opts, executor.ID(id))...)
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	submit(slow, "slow", "frame-1")
	_, _ = submit(slow, "up", "frame-2", executor.Key("anna")).Wait(ctx)
	_, _ = submit(slow, "bad", "frame-3").Wait(ctx)
	submit(slow, "later", "frame-4", executor.Delay(time.Hour))
	_, _ = submit(quick, "up", "thumb-1", executor.Retain(time.Hour)).Wait(ctx)
	geartest.Eventually(t, 30*time.Second, "progress is told", func() bool {
		task, err := executor.Operate(n).Task(ctx, "render", "frame-1")
		return err == nil && task.Done == 1
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

// TestWatchRuns: each run is told, and again when its state has changed.
func TestWatchRuns(t *testing.T) {
	url := serve(t)
	cmd := func(args ...string) {
		var out bytes.Buffer
		if code := Run(t.Context(), append(args, "--gateway", url), strings.NewReader(""), &out, &out); code != OK {
			t.Errorf("%q: exit code %d\n%s", args, code, &out)
		}
	}
	cmd("raise", "build", `"x"`, "--id", "old")
	cmd("raise", "sign", `"letter"`, "--async", "--id", "w1")
	for i, want := range [][]string{
		{"ok           old  build  on hub\n", "waiting      w1  sign\n", "cancelled    w1  sign"},
		{`{"id":"old"`, `{"id":"w2","event":"sign","node":"","state":"waiting"`, `{"id":"w2","event":"sign","node":"hub","state":"cancelled"`},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		args := []string{"runs", "list", "--watch", "--gateway", url}
		if i == 1 {
			cmd("raise", "sign", `"letter"`, "--async", "--id", "w2")
			args = append(args, "--json", "--limit", "4")
		}
		ended := &until{text: want[2], stop: cancel}
		waits := &until{text: want[1], stop: sync.OnceFunc(func() { cmd("runs", "cancel", []string{"w1", "w2"}[i]) })}
		var errs bytes.Buffer
		code := Run(ctx, args, strings.NewReader(""), io.MultiWriter(ended, waits), &errs)
		cancel()
		for _, w := range want {
			if strings.Count(ended.b.String(), w) != 1 {
				t.Errorf("not once %q", w)
			}
		}
		if code != OK {
			t.Errorf("exit code %d\n%s%s", code, &ended.b, &errs)
		}
	}
}

func TestWatchTasks(t *testing.T) {
	url := serve(t)
	for _, args := range [][]string{{"executors", "-w"}, {"tasks", "render", "-w"}, {"tasks", "show", "render", "frame-1", "-w"}, {"tasks", "list", "render", "-w", "--json"}} {
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		out := &until{text: "render", stop: cancel}
		if args[0] == "tasks" {
			out.text = "frame-1"
		}
		var errs bytes.Buffer
		if code := Run(ctx, append(args, "--gateway", url), strings.NewReader(""), out, &errs); code != OK {
			t.Errorf("%q: exit code %d\n%s%s", args, code, &out.b, &errs)
		}
		cancel()
	}
	// Of a task that ends it ends as that does.
	out := &until{text: "leased", stop: func() {
		var errs bytes.Buffer
		if code := Run(t.Context(), []string{"tasks", "cancel", "render", "frame-1", "--gateway", url}, strings.NewReader(""), &errs, &errs); code != OK {
			t.Errorf("exit code %d\n%s", code, &errs)
		}
	}}
	out.stop = sync.OnceFunc(out.stop)
	var errs bytes.Buffer
	if code := Run(t.Context(), []string{"tasks", "show", "render", "frame-1", "-w", "--gateway", url}, strings.NewReader(""), out, &errs); code != Failed || !strings.Contains(errs.String(), "cancelled") {
		t.Errorf("exit code %d\n%s%s", code, &out.b, &errs)
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
