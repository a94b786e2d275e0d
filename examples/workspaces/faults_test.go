package main

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var errInjected = errors.New("injected")

// fail makes a point go wrong: once, or until the function that it returns is called.
func (w *place) fail(point string, always bool) (stop func()) {
	var again func() error
	again = func() error {
		if always {
			w.faults.Set(point, again)
		}
		return errInjected
	}
	w.faults.Set(point, again)
	return func() { w.faults.Set(point, nil) }
}

// stopped checks that of a workspace there are only its files.
func (w *place) stopped(what string, ws Workspace) {
	w.t.Helper()
	http.DefaultClient.CloseIdleConnections()
	if n := w.processes(); n != 0 {
		w.t.Errorf("%s: %d processes left", what, n)
	}
	w.refused(append(ws.addrs(), ws.Proxy)...)
	if n := listening(w.t); n != w.ports() {
		w.t.Errorf("%s: %d sockets listen", what, n)
	}
	if _, err := os.Stat(filepath.Join(w.dir, w.name, "secret")); err != nil {
		w.t.Errorf("%s: its files: %v", what, err)
	}
	if w.t.Failed() {
		w.t.FailNow()
	}
}

// TestFaults_Start fails every step of workspace.start, before and after its effect, and then an undo once: what had started is gone, the files stay, and
// the next start works.
func TestFaults_Start(t *testing.T) {
	for name, at := range placements {
		t.Run(name, func(t *testing.T) {
			w := at(t)
			ws := w.must("create", 2)
			w.must("stop", 0)
			for _, op := range []string{"worker-0", "worker-1", "route", "record"} {
				for _, when := range []string{"before", "after"} {
					for _, undo := range []string{"", "worker-0", "route", "record"} {
						what := fmt.Sprintf("start, %s %s, undo of %q failing once", op, when, undo)
						ends := []func(){w.fail(op+":"+when, false)}
						if undo != "" {
							ends = append(ends, w.fail(undo+":undo", false))
						}
						_, err := raise(w, "start", NameIn{w.name}, Workspace{})
						if err == nil || !strings.Contains(err.Error(), "injected") || !strings.Contains(err.Error(), "rolled back") {
							t.Errorf("%s: %v", what, err)
						}
						for _, end := range ends { // where it was not reached
							end()
						}
						w.stopped(what, ws)
						if st := w.must("status", 0); st.Running || st.Workers != nil {
							t.Fatalf("%s: %+v", what, st)
						}
					}
				}
			}
			w.serves(w.must("start", 0), 2)
			w.must("destroy", 0)
			http.DefaultClient.CloseIdleConnections()
			w.nothing()
		})
	}
}

// TestFaults_Down fails every step of workspace.stop and workspace.destroy, before and after its effect, once and every time: once is made up for by
// another attempt; every time is an error, and the same event again finishes the work. Nothing is left.
func TestFaults_Down(t *testing.T) {
	for name, at := range placements {
		t.Run(name, func(t *testing.T) {
			w := at(t)
			for event, ops := range map[string][]string{
				"stop":    {"route.stop", "worker.stop-0", "worker.stop-1", "record"},
				"destroy": {"route.stop", "worker.stop-0", "worker.stop-1", "remove"},
			} {
				for _, op := range ops {
					for _, when := range []string{"before", "after"} {
						for _, always := range []bool{false, true} {
							w.down(event, op, when, always)
						}
					}
				}
			}
			w.nothing()
		})
	}
}

func (w *place) down(event, op, when string, always bool) {
	w.t.Helper()
	what := fmt.Sprintf("%s, %s %s, always %v", event, op, when, always)
	ws := w.must("create", 2)
	end := w.fail(op+":"+when, always)
	_, err := raise(w, event, NameIn{w.name}, Workspace{})
	end()
	fails := always || op == "record" // which has no further attempts
	if fails != (err != nil) || fails && !strings.Contains(err.Error(), "injected") {
		w.t.Fatalf("%s: %v", what, err)
	}
	removed := event == "destroy" && (!fails || op == "remove" && when == "after")
	if fails && !removed {
		w.must(event, 0)
	}
	if event == "stop" {
		w.stopped(what, ws)
		w.must("destroy", 0)
	}
	http.DefaultClient.CloseIdleConnections()
	w.nothing(append(ws.addrs(), ws.Proxy)...)
	if w.t.Failed() {
		w.t.Fatal(what)
	}
}
