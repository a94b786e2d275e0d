package main

import (
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"github.com/distgear/distgear"
	"github.com/distgear/distgear/cluster"
	"github.com/distgear/distgear/geartest"
)

// process starts a node as a process that dies at a point, if one is given.
func (w *place) process(name, label, die string) *geartest.Process {
	w.t.Helper()
	return geartest.Start(w.t, geartest.Child{Role: "node", Args: []string{name, label, w.dir}, Dir: w.t.TempDir(),
		Env: []string{"DISTGEAR_HUB=" + w.n.HubURL(), "WORKSPACES_KILL=" + die}})
}

// lost waits until the hub has given a node up.
func (w *place) lost(name cluster.NodeName) {
	w.t.Helper()
	geartest.Eventually(w.t, 0, string(name)+" is lost", func() bool {
		for m := range w.n.Members(w.t.Context()) {
			if m.Name == name && m.State == cluster.Lost {
				return true
			}
		}
		return false
	})
}

// gone waits until no worker process of the workspace is left: the kernel kills them, a moment after their node.
func (w *place) gone() {
	w.t.Helper()
	geartest.Eventually(w.t, 0, "the worker processes are gone", func() bool { return w.processes() == 0 })
}

// TestKillWorkerNode kills -9 the process of the node that holds all workers of a workspace.
func TestKillWorkerNode(t *testing.T) {
	w := newPlace(t)
	w.n = join(t, distgear.Config{Serve: "127.0.0.1:0", Name: "storage"}, w.dir, w.faults, "storage")
	join(t, distgear.Config{Hub: w.n.HubURL(), Name: "proxy"}, "", w.faults, "proxy")
	p := w.process("worker-1", "worker", "")
	w.settle("worker", "worker.stop", "route")
	ws := w.must("create", 3)
	w.serves(ws, 3)
	p.Kill()
	w.gone()
	w.refused(ws.addrs()...)
	w.lost("worker-1")
	w.must("stop", 0) // passes over the node that is gone
	w.process("worker-2", "worker", "")
	w.eventuallyHandles("worker-2", "worker")
	ws = w.must("start", 0) // the workspace goes on at another node
	w.serves(ws, 3)
	w.must("destroy", 0)
	http.DefaultClient.CloseIdleConnections()
	w.nothing(append(ws.addrs(), ws.Proxy)...)
}

// eventuallyHandles waits until the storage node knows that a node is alive and handles a kind.
func (w *place) eventuallyHandles(name cluster.NodeName, kind string) {
	w.t.Helper()
	geartest.Eventually(w.t, 0, string(name)+" handles "+kind, func() bool {
		for m := range w.n.Members(w.t.Context()) {
			for _, k := range m.Kinds {
				if m.Name == name && m.State == cluster.Alive && k == kind {
					return true
				}
			}
		}
		return false
	})
}

// TestKillInCreate kills -9 a worker node's process in the midst of workspace.create, before and after its worker process started: all is rolled back.
func TestKillInCreate(t *testing.T) {
	for _, die := range []string{"worker-0:before", "worker-0:after"} {
		t.Run(die, func(t *testing.T) {
			w := newPlace(t)
			w.n = join(t, distgear.Config{Serve: "127.0.0.1:0", Name: "storage"}, w.dir, w.faults, "storage")
			join(t, distgear.Config{Hub: w.n.HubURL(), Name: "proxy"}, "", w.faults, "proxy")
			for _, name := range []string{"worker-1", "worker-2"} { // whichever gets the first worker dies
				w.process(name, "worker", die)
				w.eventuallyHandles(cluster.NodeName(name), "worker.stop")
			}
			w.settle("route")
			if _, err := raise(w, "create", CreateIn{w.name, 2}, Workspace{}); !errors.Is(err, distgear.ErrUnknown) {
				t.Errorf("create: %v", err)
			}
			w.gone()
			w.nothing()
		})
	}
}

// TestKillStorageNode kills -9 the storage node's process at points of workspace.create: the others stop what they hold for it, and when it is back
// there is either nothing, or a workspace that is stopped.
func TestKillStorageNode(t *testing.T) {
	for die, made := range map[string]bool{"makedirs:after": false, "secret:after": false, "record:before": false, "record:after": true} {
		t.Run(die, func(t *testing.T) {
			w := newPlace(t)
			w.n = join(t, distgear.Config{Serve: "127.0.0.1:0", Name: "hub"}, w.dir, w.faults)
			join(t, distgear.Config{Hub: w.n.HubURL(), Name: "worker-1"}, "", w.faults, "worker")
			join(t, distgear.Config{Hub: w.n.HubURL(), Name: "proxy"}, "", w.faults, "proxy")
			p := w.process("storage", "storage", die)
			w.eventuallyHandles("storage", "workspace.create")
			w.settle("worker", "route")
			if _, err := raise(w, "create", CreateIn{w.name, 2}, Workspace{}); !errors.Is(err, distgear.ErrUnknown) {
				t.Errorf("create: %v", err)
			}
			<-p.Done()
			if _, err := os.Stat(filepath.Join(w.dir, w.name)); err != nil {
				t.Errorf("it died too early: %v", err)
			}
			w.gone()
			geartest.Eventually(t, 0, "the proxy is gone", func() bool { return listening(t) == w.ports() })
			w.lost("storage")
			w.process("storage", "storage", "")
			w.eventuallyHandles("storage", "workspace.create")
			if made {
				if ws := w.must("status", 0); ws.Running || ws.Workers != nil || ws.Proxy != "" {
					t.Errorf("%+v", ws)
				}
				ws := w.must("start", 0)
				w.serves(ws, 2)
				w.must("destroy", 0)
				http.DefaultClient.CloseIdleConnections()
			}
			w.nothing()
		})
	}
}
