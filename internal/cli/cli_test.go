package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/distgear/distgear"
	"github.com/distgear/distgear/gateway"
	"github.com/distgear/distgear/record"
	"github.com/distgear/distgear/schedule"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "demo-worker" { // a demo of this process starts it again
		os.Exit(int(Main(os.Args[1:])))
	}
	testscript.Main(m, map[string]func(){"distgear": func() { os.Exit(int(Main(os.Args[1:]))) }})
}

// serve starts a hub whose node handles the events of the scripts, and its
// gateway.
func serve(t *testing.T) (url string) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	n, err := distgear.Join(ctx, distgear.Config{
		Cluster: "test", Name: "hub", Serve: "127.0.0.1:0", Labels: map[string]string{"zone": "a"}, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	var undos atomic.Int64 // of "once"
	mk := &distgear.Action[string, string]{Name: "make",
		Do: func(ctx context.Context, s string) (string, error) {
			switch s {
			case "bad":
				return "", errors.New("no space left")
			case "slow":
				<-ctx.Done() // until it is cancelled
				return "", context.Cause(ctx)
			}
			return s + "!", nil
		},
		Undo: func(_ context.Context, d distgear.Did[string, string]) error {
			if d.In == "always" || d.In == "once" && undos.Add(1) == 1 {
				return distgear.Permanent(errors.New("the disk is read-only"))
			}
			return nil
		},
	}
	stick := &distgear.Event[string, string]{Name: "stick", On: func(ctx context.Context, r *distgear.Run, in string) (string, error) {
		p := distgear.Plan{Rollback: true}
		held := mk.Step(&p, distgear.Any(), in).Named("held")
		mk.Step(&p, distgear.Any(), "bad", held).Named("last")
		return "", r.Do(ctx, &p)
	}}
	build := &distgear.Event[string, string]{Name: "build", On: func(ctx context.Context, r *distgear.Run, in string) (string, error) {
		p := distgear.Plan{Rollback: true}
		first := mk.Step(&p, distgear.Any(), "base").Named("base")
		last := mk.Step(&p, distgear.Any(), in, first).Named("last")
		if err := r.Do(ctx, &p); err != nil {
			return "", err
		}
		return last.Result()
	}}
	sign := &distgear.Event[string, string]{Name: "sign", Durable: true, On: func(ctx context.Context, r *distgear.Run, in string) (string, error) {
		p := distgear.Plan{Name: "first", Rollback: true}
		mk.Step(&p, distgear.Any(), in).Named("draft")
		if err := r.Do(ctx, &p); err != nil {
			return "", err
		}
		var words string
		if err := r.Signal(ctx, "words", &words); err != nil {
			return "", err
		}
		a, err := r.Approve(ctx, "print")
		if err != nil {
			return "", err
		}
		if !a.Approved {
			return "", errors.New("refused by " + a.By)
		}
		q := distgear.Plan{Name: "second", Rollback: true}
		mk.Step(&q, distgear.Any(), words).Named("print")
		return words, r.Do(ctx, &q)
	}}
	var panics atomic.Int64
	fragile := &distgear.Event[string, string]{Name: "fragile", Durable: true, On: func(context.Context, *distgear.Run, string) (string, error) {
		if panics.Add(1) <= 3 {
			panic("out of paper")
		}
		return "fine", nil
	}}
	if err := n.Handle(mk, build, stick, sign, fragile); err != nil {
		t.Fatal(err)
	}
	for name, s := range map[string]struct {
		when   string
		missed schedule.Missed
	}{"nightly": {"TZ=Europe/Vienna 0 3 * * *", schedule.CatchUpAll}, "weekly": {"@weekly", schedule.LeaveOut}} {
		if err := schedule.Every(ctx, n, name, s.when, sign, "draft", s.missed); err != nil {
			t.Fatal(err)
		}
	}
	s, err := gateway.Listen(n, "127.0.0.1:0", gateway.Config{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		lctx, stop := context.WithTimeout(context.Background(), 100*time.Millisecond)
		defer stop()
		_ = n.Leave(lctx) // slow runs are left behind
	})
	share(ctx, t, n)
	return s.URL()
}

func TestScripts(t *testing.T) {
	url := serve(t)
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(e *testscript.Env) error {
			e.Setenv("DISTGEAR_GATEWAY", url)
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"exits": exits, "becomes": becomes},
	})
}

// exits CODES ARGS…: the command distgear with these arguments ends with one of
// these codes, a digit each, and leaves its output in the files out and err.
func exits(ts *testscript.TestScript, _ bool, args []string) {
	ts.Check(os.Setenv("DISTGEAR_GATEWAY", ts.Getenv("DISTGEAR_GATEWAY")))
	var out, errs bytes.Buffer
	code := Run(context.Background(), args[1:], strings.NewReader(ts.Getenv("STDIN")), &out, &errs)
	_, _ = ts.Stdout().Write(out.Bytes())
	_, _ = ts.Stderr().Write(errs.Bytes())
	ts.Check(os.WriteFile(ts.MkAbs("out"), out.Bytes(), 0o600))
	ts.Check(os.WriteFile(ts.MkAbs("err"), errs.Bytes(), 0o600))
	if want := args[0]; !strings.ContainsRune(want, rune('0'+code)) {
		ts.Fatalf("exit code %d, not %s\n%s%s", code, want, out.String(), errs.String())
	}
}

// becomes ID STATE: waits until the run is in that state.
func becomes(ts *testscript.TestScript, _ bool, args []string) {
	ts.Check(os.Setenv("DISTGEAR_GATEWAY", ts.Getenv("DISTGEAR_GATEWAY")))
	late := time.After(30 * time.Second)
	for {
		var out, errs bytes.Buffer
		code := Run(context.Background(), []string{"runs", "show", args[0], "--json"}, strings.NewReader(""), &out, &errs)
		var rec record.Run
		if code == OK && json.Unmarshal(out.Bytes(), &rec) == nil && string(rec.State) == args[1] {
			return
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-late:
			ts.Fatalf("run %s is %q, not %s\n%s%s", args[0], rec.State, args[1], &out, &errs)
		}
	}
}

func TestDemoPlain(t *testing.T) {
	var out, errs bytes.Buffer
	if code := Run(t.Context(), []string{"demo", "--plain"}, strings.NewReader(""), &out, &errs); code != OK {
		t.Fatalf("exit code %d\n%s%s", code, &out, &errs)
	}
	for _, want := range []string{
		"1. A deploy over three nodes", "2. The last step fails", "3. kill -9", "4. The node is back",
		"✓ undone in reverse order", "attempt 2 is ok", "came back as a new incarnation", "✓ all 18 checks held",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, &out)
		}
	}
}

func TestDemoJSON(t *testing.T) {
	var out, errs bytes.Buffer
	if code := Run(t.Context(), []string{"demo", "--json"}, strings.NewReader(""), &out, &errs); code != OK {
		t.Fatalf("exit code %d\n%s%s", code, &out, &errs)
	}
	types := map[string]int{}
	var last struct {
		Type    string
		OK      bool
		Summary struct{ Checks, Failed int }
	}
	for line := range bytes.Lines(out.Bytes()) {
		if err := json.Unmarshal(line, &last); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		types[last.Type]++
	}
	if last.Type != "summary" || !last.OK || last.Summary.Checks != 18 || types["phase"] != 5 || types["check"] != 18 || types["change"] < 30 {
		t.Errorf("ended with %+v, after %v", last, types)
	}
}

func TestDemoDurable(t *testing.T) {
	var out, errs bytes.Buffer
	if code := Run(t.Context(), []string{"demo", "--durable", "--plain"}, strings.NewReader(""), &out, &errs); code != OK {
		t.Fatalf("exit code %d\n%s%s", code, &out, &errs)
	}
	for _, want := range []string{
		"kill -9 m", "goes on: 3 steps kept, 3 run", "goes on: 2 undos kept, 4 run, in this order: notify, ship, label, pack, pay, reserve",
		"✓ by the workers' journal each step was done once and undone once", "✓ all 10 checks held",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, &out)
		}
	}
}
