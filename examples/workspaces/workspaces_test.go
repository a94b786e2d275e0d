package main

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
)

var placements = map[string]func(*testing.T) *place{"alone": alone, "cluster": clustered}

func TestLife(t *testing.T) {
	for name, at := range placements {
		t.Run(name, func(t *testing.T) {
			w := at(t)
			ws := w.must("create", 2)
			w.serves(ws, 2)
			first := append(ws.addrs(), ws.Proxy)
			if _, err := raise(w, "create", CreateIn{w.name, 1}, Workspace{}); err == nil || !strings.Contains(err.Error(), "exists") {
				t.Errorf("created twice: %v", err)
			}
			ws = w.must("scale", 4)
			w.serves(ws, 4)
			four := ws.addrs()
			ws = w.must("scale", 1)
			w.serves(ws, 1)
			w.refused(four[1:]...)
			w.must("stop", 0)
			if n := w.processes(); n != 0 {
				t.Errorf("%d processes after stop", n)
			}
			w.refused(first...)
			w.must("scale", 3)
			ws = w.must("start", 0)
			w.serves(ws, 3)
			if st := w.must("status", 0); !st.Running || st.Proxy != ws.Proxy {
				t.Errorf("status: %+v", st)
			}
			if l, err := raise(w, "list", struct{}{}, []string{}); err != nil || !slices.Equal(l, []string{w.name}) {
				t.Errorf("list: %v %v", l, err)
			}
			w.must("destroy", 0)
			http.DefaultClient.CloseIdleConnections()
			w.nothing(append(ws.addrs(), ws.Proxy)...)
			if _, err := raise(w, "status", NameIn{w.name}, Workspace{}); err == nil || !strings.Contains(err.Error(), "no workspace") {
				t.Errorf("status of nothing: %v", err)
			}
		})
	}
}

// TestFaults fails every step of workspace.create, before and after its effect, and checks that the operating system has nothing of it; the last of the
// undos fails once, too.
func TestFaults(t *testing.T) {
	fault := errors.New("injected")
	for name, at := range placements {
		t.Run(name, func(t *testing.T) {
			w := at(t)
			for _, op := range []string{"makedirs", "secret", "worker-0", "worker-1", "worker-2", "route", "record"} {
				for _, when := range []string{"before", "after"} {
					for _, undo := range []string{"", "makedirs", "secret", "worker-1"} {
						hits := 0
						w.faults.Set(op+":"+when, func() error { hits++; return fault })
						if undo != "" {
							w.faults.Set(undo+":undo", func() error { return fault })
						}
						_, err := raise(w, "create", CreateIn{w.name, 3}, Workspace{})
						what := fmt.Sprintf("%s %s, undo of %q failing once", op, when, undo)
						if err == nil || !strings.Contains(err.Error(), "injected") || !strings.Contains(err.Error(), "rolled back") || hits != 1 {
							t.Errorf("%s: hit %d times: %v", what, hits, err)
						}
						w.nothing()
						if t.Failed() {
							t.Fatal(what)
						}
					}
				}
			}
			ws := w.must("create", 1)
			for _, op := range []string{"worker-1", "worker-2", "reroute", "record"} {
				for _, when := range []string{"before", "after"} {
					w.faults.Set(op+":"+when, func() error { return fault })
					if _, err := raise(w, "scale", CreateIn{w.name, 3}, Workspace{}); err == nil {
						t.Errorf("scale with %s failing %s went well", op, when)
					}
					w.serves(w.must("status", 0), 1)
				}
			}
			w.must("destroy", 0)
			http.DefaultClient.CloseIdleConnections()
			w.nothing(append(ws.addrs(), ws.Proxy)...)
		})
	}
}
