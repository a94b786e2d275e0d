package distgear_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/distgear/distgear"
	"github.com/distgear/distgear/cluster"
	"github.com/distgear/distgear/geartest"
	"github.com/distgear/distgear/record"
)

// A job's input: the directory where its effects are counted, and what is to go
// wrong.
type job struct {
	Dir  string
	What string
}

// note appends a line to the journal of a directory, which processes share.
func note(dir, line string) {
	f, err := os.OpenFile(filepath.Join(dir, "lines"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err == nil {
		_, err = f.WriteString(line + "\n")
		_ = f.Close()
	}
	if err != nil {
		panic(err)
	}
}

// noted are the lines that begin with a word, without it.
func noted(dir, word string) (lines []string) {
	b, _ := os.ReadFile(filepath.Join(dir, "lines"))
	for l := range strings.Lines(string(b)) {
		if w, rest, _ := strings.Cut(strings.TrimSpace(l), " "); w == word {
			lines = append(lines, rest)
		}
	}
	return lines
}

// gate waits until a test opens it.
func gate(ctx context.Context, dir, name string) error {
	for {
		if _, err := os.Stat(filepath.Join(dir, "open-"+name)); err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func openGate(t *testing.T, dir, name string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, "open-"+name), nil, 0o600); err != nil {
		t.Fatal(err)
	}
}

// jobHandlers are those of a process: node-3 only does steps, the others own runs.
func jobHandlers(n *distgear.Node) []distgear.Handler {
	type stepIn struct {
		Job  job
		Name string
	}
	mark := &distgear.Action[stepIn, string]{
		Name: "mark", Timeout: patience,
		Do: func(ctx context.Context, in stepIn) (string, error) {
			note(in.Job.Dir, "do "+in.Name)
			if strings.Contains(in.Job.What, "hold "+in.Name+";") {
				if err := gate(ctx, in.Job.Dir, in.Name); err != nil {
					return "", err
				}
			}
			if strings.Contains(in.Job.What, "fail "+in.Name+";") {
				return "", distgear.Permanent(errors.New("as it was told"))
			}
			return in.Name, nil
		},
		Undo: func(ctx context.Context, d distgear.Did[stepIn, string]) error {
			note(d.In.Job.Dir, "undo "+d.In.Name)
			if strings.Contains(d.In.Job.What, "holdundo "+d.In.Name+";") {
				if err := gate(ctx, d.In.Job.Dir, "undo-"+d.In.Name); err != nil {
					return err
				}
			}
			note(d.In.Job.Dir, "undone "+d.In.Name)
			return nil
		},
	}
	if n.Name() == "node-3" {
		return []distgear.Handler{mark}
	}
	return []distgear.Handler{mark, &distgear.Event[job, string]{
		Name: "job", Durable: true,
		On: func(ctx context.Context, r *distgear.Run, in job) (string, error) {
			note(in.Dir, "owner "+string(n.Name()))
			if strings.Contains(in.What, "signal;") {
				var word string
				if err := r.Signal(ctx, "go", &word); err != nil {
					return "", err
				}
				note(in.Dir, "signal "+word)
			}
			p := distgear.Plan{Name: "diamond", Rollback: true}
			step := func(name string, after ...distgear.Dep) *distgear.Step[string] {
				return mark.Step(&p, distgear.On("node-3"), stepIn{in, name}, after...)
			}
			a := step("a")
			b, c := step("b", a), step("c", a)
			d := step("d", b, c)
			e := step("e", d)
			if err := r.Do(ctx, &p); err != nil {
				return "", err
			}
			out, err := e.Result()
			return out + " by " + string(n.Name()), err
		},
	}}
}

type jobs struct {
	*geartest.Cluster
	t   *testing.T
	dir string
	ctx context.Context
}

func startJobs(t *testing.T) *jobs {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return &jobs{geartest.StartCluster(t, geartest.Nodes{Role: "jobs", Handlers: jobHandlers, Configure: func(c *distgear.Config) { c.TTL = 3 * time.Second }}), t, t.TempDir(), ctx}
}

func (j *jobs) raise(what string, opts ...distgear.RaiseOption) *distgear.Future[string] {
	j.t.Helper()
	e := &distgear.Event[job, string]{Name: "job", Durable: true}
	f, err := e.Raise(j.ctx, j.Here(), job{j.dir, what}, opts...)
	if err != nil {
		j.t.Fatal(err)
	}
	return f
}

// until waits for a line.
func (j *jobs) until(word, rest string) {
	j.t.Helper()
	geartest.Eventually(j.t, patience, word+" "+rest, func() bool { return slices.Contains(noted(j.dir, word), rest) })
}

// owner is the node that owned the run last.
func (j *jobs) owner() cluster.NodeName {
	j.t.Helper()
	os := noted(j.dir, "owner")
	if len(os) == 0 {
		j.t.Fatal("nobody owns the run")
	}
	return cluster.NodeName(os[len(os)-1])
}

// once checks that each of these lines is there once, in any order, and no other with
// that word.
func (j *jobs) once(word string, rests ...string) {
	j.t.Helper()
	got := noted(j.dir, word)
	slices.Sort(got)
	if !slices.Equal(got, rests) {
		j.t.Errorf("%s: %q, want %q", word, got, rests)
	}
}

func TestDurable_D4_AnotherFinishesWhoseOwnerIsKilled(t *testing.T) {
	j := startJobs(t)
	f := j.raise("hold c;")
	j.until("do", "c")
	j.until("do", "b")
	first := j.owner()
	killed := time.Now()
	j.Process(first).Kill()
	openGate(t, j.dir, "c")
	out, err := f.Wait(j.ctx)
	took := time.Since(killed)
	if err != nil || out == "e by "+string(first) || !strings.HasPrefix(out, "e by ") {
		t.Fatalf("%q, %v", out, err)
	}
	j.once("do", "a", "b", "c", "d", "e")
	t.Logf("resumed and ended %v after the kill", took)
	if took > 6*time.Second {
		t.Errorf("it took %v", took)
	}
}

func TestDurable_D6_ARollbackSurvivesItsOwner(t *testing.T) {
	j := startJobs(t)
	f := j.raise("fail e;holdundo d;")
	j.until("undo", "d")
	first := j.owner()
	j.Process(first).Kill()
	openGate(t, j.dir, "undo-d")
	_, err := f.Wait(j.ctx)
	remote, ok := errors.AsType[*distgear.RemoteError](err)
	if !ok || !strings.Contains(err.Error(), "as it was told") || remote.Node == first {
		t.Fatalf("%v", err)
	}
	j.once("do", "a", "b", "c", "d", "e")
	j.once("undone", "a", "b", "c", "d", "e")
	if u := noted(j.dir, "undone"); u[len(u)-1] != "a" {
		t.Errorf("undone in the order %v", u)
	}
}

// An owner that is frozen is replaced. When it goes on it cannot append, and what it
// sent late is refused.
func TestDurable_D3_AFrozenOwnerIsReplaced(t *testing.T) {
	j := startJobs(t)
	f := j.raise("hold c;")
	j.until("do", "c")
	j.until("do", "b")
	first := j.owner()
	j.Process(first).Pause()
	geartest.Eventually(t, patience, "another owner", func() bool { return len(noted(j.dir, "owner")) == 2 })
	openGate(t, j.dir, "c")
	out, err := f.Wait(j.ctx)
	if err != nil || out == "e by "+string(first) {
		t.Fatalf("%q, %v", out, err)
	}
	j.Process(first).Resume()
	j.Await(first, cluster.Alive)
	if out, err := j.raise("", distgear.ID("after")).Wait(j.ctx); err != nil {
		t.Fatal(out, err)
	}
	for _, s := range []string{"a", "b", "c", "d", "e"} {
		if n := len(slices.DeleteFunc(noted(j.dir, "do"), func(x string) bool { return x != s })); n != 2 { // of both runs
			t.Errorf("step %s ran %d times for two runs", s, n)
		}
	}
}

// Runs outlive their hub: one that waits for a signal, and one whose step runs.
func TestDurable_TheHubIsKilled(t *testing.T) {
	for _, count := range []int{1, 3} {
		t.Run(fmt.Sprint(count, " hubs"), func(t *testing.T) {
			hubs := geartest.StartHubs(t, geartest.Hubs{Role: "hubs", Count: count, Disk: true, TTL: 3 * time.Second})
			j := &jobs{t: t, dir: t.TempDir()}
			var cancel context.CancelFunc
			j.ctx, cancel = context.WithTimeout(t.Context(), time.Minute)
			t.Cleanup(cancel)
			var ns []*distgear.Node
			for _, name := range []cluster.NodeName{"raiser", "node-1", "node-2", "node-3"} {
				n, err := distgear.Join(j.ctx, distgear.Config{Hub: hubs.URLs(), Name: name, Logger: slog.New(slog.DiscardHandler)})
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() {
					ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
					defer cancel()
					_ = n.Leave(ctx)
				})
				if name != "raiser" {
					if err := n.Handle(jobHandlers(n)...); err != nil {
						t.Fatal(err)
					}
				}
				ns = append(ns, n)
			}
			e := &distgear.Event[job, string]{Name: "job", Durable: true}
			waits, err := e.Raise(j.ctx, ns[0], job{t.TempDir(), "signal;"}, distgear.ID("waits"))
			if err != nil {
				t.Fatal(err)
			}
			runs, err := e.Raise(j.ctx, ns[0], job{j.dir, "hold c;"}, distgear.ID("runs"))
			if err != nil {
				t.Fatal(err)
			}
			j.until("do", "c")
			geartest.Eventually(t, patience, "it waits", func() bool {
				rec, err := ns[0].FindRun(j.ctx, waits.ID())
				return err == nil && rec.State == record.Waiting
			})
			writer := hubs.Writer()
			hubs.Kill(writer)
			openGate(t, j.dir, "c")
			if count == 1 {
				hubs.Start(0)
			}
			if out, err := runs.Wait(j.ctx); err != nil {
				t.Fatal(out, err)
			}
			j.once("do", "a", "b", "c", "d", "e")
			for err = errors.New("not yet"); err != nil && j.ctx.Err() == nil; {
				err = ns[1].SignalRun(j.ctx, waits.ID(), "go", "on")
			}
			if out, err := waits.Wait(j.ctx); err != nil {
				t.Fatal(out, err)
			}
			if f, err := e.Find(j.ctx, ns[2], "runs"); err != nil {
				t.Error(err)
			} else if out, err := f.Wait(j.ctx); err != nil || !strings.HasPrefix(out, "e by") {
				t.Error(out, err)
			}
		})
	}
}
