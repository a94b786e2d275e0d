package replay_test

import (
	"context"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/distgear/distgear"
	"github.com/distgear/distgear/geartest"
	"github.com/distgear/distgear/geartest/replay"
	"github.com/distgear/distgear/record"
)

var rewrite = flag.Bool("rewrite", false, "record the golden journals of this version again")

var broken = &action{Name: "break", Retries: 2, Do: func(context.Context, int) (int, error) {
	return 0, distgear.RetryAfter(errors.New("no van"), time.Minute)
}}

// unlucky sleeps, is tried again, fails and is rolled back.
func unlucky(ctx context.Context, r *distgear.Run, in int) (int, error) {
	if err := r.Sleep(ctx, time.Hour); err != nil {
		return 0, err
	}
	_, _ = r.Now(), r.Rand()
	return in, plan(ctx, r, "go", in, pay, pack, broken)
}

// TestGolden: the runs that each released version has begun go on in this one.
func TestGolden(t *testing.T) {
	handlers := map[string]handler{"waits": first, "ended": first, "rolledback": unlucky}
	if *rewrite {
		js := map[string]*replay.Journal{}
		js["waits"], js["ended"] = recorded(t)
		synctest.Test(t, func(t *testing.T) { js["rolledback"] = rolledBack(t) })
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		for name, j := range js {
			if err := j.Write(filepath.Join("testdata", distgear.Version+"-"+name+".json")); err != nil {
				t.Fatal(err)
			}
		}
	}
	files, err := filepath.Glob("testdata/*.json")
	if err != nil {
		t.Fatal(err)
	}
	for name := range handlers {
		if !slices.Contains(files, filepath.Join("testdata", distgear.Version+"-"+name+".json")) {
			t.Errorf("version %s has no golden journal of a run that %s: record them with -rewrite, and keep those of the versions before", distgear.Version, name)
		}
	}
	for _, file := range files {
		bubble(t, filepath.Base(file), func(t *testing.T) {
			j, err := replay.Read(file)
			if err != nil {
				t.Fatal(err)
			}
			_, name, _ := strings.Cut(strings.TrimSuffix(file, ".json"), "-")
			if handlers[name] == nil || len(j.Units) < 3 {
				t.Fatalf("no handler of %q, or only %d units", name, len(j.Units))
			}
			if err := j.Check(t.Context(), event(handlers[name])); err != nil {
				t.Error(err)
			}
			other := event(func(context.Context, *distgear.Run, int) (int, error) { return 0, nil })
			if _, ok := errors.AsType[*replay.Difference](j.Check(t.Context(), other)); !ok {
				t.Error("a handler without plans may go on with it")
			}
		})
	}
}

func rolledBack(t *testing.T) *replay.Journal {
	e := event(unlucky)
	n := geartest.Alone(t, geartest.Nodes{Handlers: func(*distgear.Node) []distgear.Handler { return []distgear.Handler{pay, pack, broken, e} }}).Here()
	f, err := e.Raise(t.Context(), n, 7, distgear.ID("o-2"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Wait(t.Context()); err == nil {
		t.Fatal("it is ok")
	}
	if rec, err := n.FindRun(t.Context(), "o-2"); err != nil || rec.State != record.RolledBack {
		t.Fatalf("%+v, %v", rec, err)
	}
	j, err := replay.Record(t.Context(), n, "o-2")
	if err != nil {
		t.Fatal(err)
	}
	return j
}
