package main

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/distgear/distgear"
	"github.com/distgear/distgear/geartest"
	"github.com/distgear/distgear/record"
)

func TestMain(m *testing.M) {
	geartest.Main(m, geartest.Roles{"hierarchy": func(context.Context, []string) error { main(); return nil }})
}

// TestProgram runs the program as a user does: what it checks is on disk, and its exit code tells.
func TestProgram(t *testing.T) {
	p := geartest.Start(t, geartest.Child{Role: "hierarchy", Ready: "rollout of v1:"})
	if got, want := p.Ready(), `"v1 is out", failure: <nil>`; got != want {
		t.Errorf("v1: %s, want %s", got, want)
	}
	if got := p.Line("rollout of v2-rc:"); !strings.HasPrefix(got, `"", failure: `) || !strings.Contains(got, "v2-rc is no release (rolled back)") {
		t.Errorf("v2-rc: %s", got)
	}
	if err := p.Wait(); err != nil {
		t.Error(err)
	}
}

func start(t *testing.T, hold func(context.Context, file) error) *hierarchy {
	t.Helper()
	geartest.Leaks(t)
	h := newHierarchy(t.TempDir(), t.Output())
	h.hold = hold
	t.Cleanup(func() {
		if err := h.leave(); err != nil {
			t.Error(err)
		}
	})
	if err := h.join(t.Context()); err != nil {
		t.Fatal(err)
	}
	return h
}

func (h *hierarchy) raise(t *testing.T, version string) *distgear.Future[string] {
	t.Helper()
	f, err := h.rollout.Raise(t.Context(), h.main, version)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// wait waits for the end of a run and returns main's record of it.
func (h *hierarchy) wait(t *testing.T, f *distgear.Future[string]) (record.Run, error) {
	t.Helper()
	ctx, cancel := context.WithTimeoutCause(t.Context(), 30*time.Second, errors.New("the rollout does not end"))
	defer cancel()
	_, err := f.Wait(ctx)
	rec, e := h.main.FindRun(ctx, f.ID())
	if e != nil {
		t.Fatal(e)
	}
	return rec, err
}

func states(rec record.Run) string {
	var ss []string
	for _, s := range rec.Plans[0].Steps {
		ss = append(ss, s.Name+" "+string(s.State))
	}
	return strings.Join(ss, ", ")
}

func verify(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Error(err)
	}
}

// TestRollback: the last step fails when the sites' runs have ended; they are rolled back in reverse order, and the release before stays.
func TestRollback(t *testing.T) {
	h := start(t, nil)
	if rec, err := h.wait(t, h.raise(t, "v1")); err != nil || rec.State != record.OK {
		t.Fatalf("v1: %s %v", rec.State, err)
	}
	rec, err := h.wait(t, h.raise(t, "v2-rc"))
	var remote *distgear.RemoteError
	if !errors.As(err, &remote) || remote.Outcome != distgear.FailedClean || !strings.Contains(err.Error(), "v2-rc is no release (rolled back)") {
		t.Errorf("v2-rc: %v", err)
	}
	if got, want := states(rec), "site-a undone, site-b undone, announce failed"; rec.State != record.RolledBack || got != want {
		t.Errorf("%s: %s, want %s", rec.State, got, want)
	}
	verify(t, h.check("v1", true), h.check("v2-rc", false), h.ordered("v2-rc"))
	for _, site := range sites { // the nested run had ended before its undo began
		apps, active := files(site, "v2-rc")
		verify(t, h.sequence("do "+active.String(), "end "+string(site)+" v2-rc", "undo "+active.String(), "undo "+apps[0].String(), "end rollout v2-rc"))
	}
	if rec, err := h.wait(t, h.raise(t, "v3")); err != nil || rec.State != record.OK { // and the sites go on
		t.Fatalf("v3: %s %v", rec.State, err)
	}
	verify(t, h.check("v3", true))
}

// TestInnerFailure: a step at a worker fails; its site rolls back by itself, and the site that has finished is rolled back by the rollout.
func TestInnerFailure(t *testing.T) {
	finished := make(chan struct{})
	h := start(t, func(ctx context.Context, f file) error {
		if f.Name != "active" || f.Site != "site-a" {
			return nil
		}
		select {
		case <-finished:
			return errors.New("disk on fire")
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	})
	f := h.raise(t, "v1")
	h.siteOK(t, f, "site-b")
	close(finished)
	rec, err := h.wait(t, f)
	if err == nil || !strings.Contains(err.Error(), "disk on fire") {
		t.Errorf("%v", err)
	}
	if got, want := states(rec), "site-a failed, site-b undone, announce skipped"; rec.State != record.RolledBack || got != want {
		t.Errorf("%s: %s, want %s", rec.State, got, want)
	}
	verify(t, h.check("v1", false), h.ordered("v1"), h.reverse("v1"))
}

// siteOK waits until main knows that a site's part of the rollout is done.
func (h *hierarchy) siteOK(t *testing.T, f *distgear.Future[string], site string) {
	t.Helper()
	for rec, err := range h.main.WatchRun(t.Context(), f.ID()) {
		if err != nil {
			t.Fatal(err)
		}
		if len(rec.Plans) > 0 && strings.Contains(states(rec), site+" ok") {
			return
		}
	}
	t.Fatalf("the rollout ended before %s was ok", site)
}

// reverse checks the order when site-a did not get to its end, and site-b did: the leaves of site-a, its run, then the undo of site-b's.
func (h *hierarchy) reverse(version string) error {
	a, activeA := files("site-a", version)
	b, activeB := files("site-b", version)
	var errs []error
	for _, f := range a {
		errs = append(errs, h.sequence("do "+activeA.String(), "undo "+activeA.String(), "undo "+f.String(), "end site-a "+version,
			"undo "+activeB.String(), "undo "+b[0].String(), "end rollout "+version))
	}
	return errors.Join(errs...)
}

// TestCancel cancels the rollout while a worker of site-a is at work and site-b has finished: leaves first.
func TestCancel(t *testing.T) {
	var h *hierarchy
	holding, goOn := make(chan struct{}), make(chan struct{})
	h = start(t, func(ctx context.Context, f file) error {
		if f.Name != "active" || f.Site != "site-a" {
			return nil
		}
		close(holding)
		<-ctx.Done()
		h.say("cancelled %s", f)
		<-goOn // it is slow to stop: nothing may be undone before it has
		h.say("stopped %s", f)
		return context.Cause(ctx)
	})
	f := h.raise(t, "v1")
	h.siteOK(t, f, "site-b")
	<-holding
	if err := h.main.CancelRun(t.Context(), f.ID()); err != nil {
		t.Fatal(err)
	}
	geartest.Eventually(t, 0, "the leaf is told", func() bool { return h.said("cancelled site-a/worker-1/v1/active") })
	close(goOn)
	rec, err := h.wait(t, f)
	if !errors.Is(err, distgear.ErrCancelled) {
		t.Errorf("%v", err)
	}
	if rec.State != record.Cancelled || !strings.Contains(states(rec), "site-b undone, announce skipped") {
		t.Errorf("%s: %s", rec.State, states(rec))
	}
	_, active := files("site-a", "v1")
	verify(t, h.check("v1", false), h.ordered("v1"), h.reverse("v1"),
		h.sequence("cancelled "+active.String(), "stopped "+active.String(), "undo "+active.String(), "end site-a v1"))
}

func (h *hierarchy) said(line string) bool {
	return h.sequence(line) == nil
}
