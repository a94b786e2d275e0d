package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/distgear/distgear"
	"github.com/distgear/distgear/geartest"
	"github.com/distgear/distgear/record"
)

func TestMain(m *testing.M) {
	geartest.Main(m, geartest.Roles{
		"approval": func(context.Context, []string) error { main(); return nil },
	})
}

// bought checks that these purchases are written down, and no others.
func bought(t *testing.T, dir string, want ...string) {
	t.Helper()
	es, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	var got []string
	for _, e := range es {
		got = append(got, e.Name())
	}
	if !slices.Equal(got, want) {
		t.Errorf("bought are %q, want %q", got, want)
	}
}

// TestAlone runs the program as one process: a yes, a no, and one that nobody decides.
func TestAlone(t *testing.T) {
	dir := t.TempDir()
	in, say, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = in.Close() }() // it is read to its end
	if _, err := say.WriteString("lamps-8 no bob too dear\nwhat?\ndesks-7 yes ann\ncars-1 yes ann\n"); err != nil {
		t.Fatal(err)
	}
	if err := say.Close(); err != nil {
		t.Fatal(err)
	}
	t.Setenv("DISTGEAR_HUB", "")
	if err := run(t.Context(), &options{dir: dir, within: 1500 * time.Millisecond, purchases: []string{"desks-7", "lamps-8", "chairs-9"}}, in); err != nil {
		t.Error(err)
	}
	bought(t, dir, "desks-7")
}

// office is a process that hosts the hub, with its ledger on disk, and buys.
type office struct {
	t      *testing.T
	p      *geartest.Process
	dir    string
	ledger string
	addr   string
}

func (o *office) start() {
	o.t.Helper()
	o.p = geartest.Start(o.t, geartest.Child{Role: "approval", Args: []string{"-serve", "-dir", o.dir}, Ready: "serves at", Dir: o.t.TempDir(), Env: []string{
		"DISTGEAR_SERVE=" + o.addr, "DISTGEAR_DIR=" + o.ledger, "DISTGEAR_NAME=office", "DISTGEAR_TTL=1s",
	}})
	o.addr = strings.TrimPrefix(strings.Fields(o.p.Ready())[0], "nats://")
}

// other runs the program as another process of the cluster.
func (o *office) other(ready string, args ...string) *geartest.Process {
	o.t.Helper()
	return geartest.Start(o.t, geartest.Child{Role: "approval", Args: args, Ready: ready, Dir: o.t.TempDir(), Env: []string{"DISTGEAR_HUB=nats://" + o.addr}})
}

func join(t *testing.T, hub string) *distgear.Node {
	n, err := distgear.Join(t.Context(), distgear.Config{Hub: "nats://" + hub, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Leave(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	return n
}

func waits(t *testing.T, n *distgear.Node, id record.RunID) {
	t.Helper()
	geartest.Eventually(t, 0, string(id)+" waits", func() bool {
		r, err := n.FindRun(t.Context(), id)
		return err == nil && r.State == record.Waiting
	})
}

// TestOffice kills the only process of the cluster while a purchase waits, starts it again,
// and approves; another one is refused by its deadline.
func TestOffice(t *testing.T) {
	o := &office{t: t, dir: t.TempDir(), ledger: t.TempDir(), addr: "127.0.0.1:0"}
	o.start()
	n := join(t, o.addr)
	f, err := raised.Raise(t.Context(), n, purchase{"desks-7", time.Hour}, distgear.ID("desks-7"))
	if err != nil {
		t.Fatal(err)
	}
	g, err := raised.Raise(t.Context(), n, purchase{"chairs-9", 2 * time.Second}, distgear.ID("chairs-9"))
	if err != nil {
		t.Fatal(err)
	}
	waits(t, n, "desks-7")
	list := o.other("desks-7 waits until", "-list")
	if err := list.Wait(); err != nil {
		t.Error(err)
	}
	o.p.Kill()
	o.start()
	if out, err := g.Wait(t.Context()); err != nil || out != "refused by nobody in time" {
		t.Errorf("%q, %v", out, err)
	}
	d := o.other("decide:", "-decide")
	d.Say("desks-7 yes ann")
	if out, err := f.Wait(t.Context()); err != nil || out != "bought, approved by ann" {
		t.Errorf("%q, %v", out, err)
	}
	bought(t, o.dir, "desks-7")
	for _, p := range []*geartest.Process{d, o.p} {
		if err := p.Stop(); err != nil {
			t.Error(err)
		}
	}
}
