package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"

	"github.com/distgear/distgear"
	"github.com/distgear/distgear/cluster"
)

// Worker is a worker process of a workspace.
type Worker struct {
	Index int              `json:"index"`
	Node  cluster.NodeName `json:"node"`
	Addr  string           `json:"addr"`
	PID   int              `json:"pid"`
}

// Workspace is what the storage node knows of a workspace.
type Workspace struct {
	Name    string           `json:"name"`
	Want    int              `json:"want"` // workers when started
	Dir     string           `json:"dir"`
	Running bool             `json:"running"`
	Proxy   string           `json:"proxy,omitempty"` // its address
	ProxyOn cluster.NodeName `json:"proxy_on,omitempty"`
	Workers []Worker         `json:"workers,omitempty"`
}

func (w Workspace) addrs() []string {
	var as []string
	for _, x := range w.Workers {
		as = append(as, x.Addr)
	}
	return as
}

// Inputs of the actions. Owner is the storage node.
type (
	startIn struct {
		Owner  cluster.NodeName
		Name   string
		Index  int
		Secret string
	}
	stopIn struct {
		Name  string
		Index int
	}
	routeIn struct {
		Owner        cluster.NodeName
		Name, Secret string
		To           []string
	}
	rerouteIn struct {
		Name     string
		To, From []string // From is what Undo goes back to
	}
	recordIn struct{ Now, Before Workspace }
)

// actor is what a node holds: the storage node files, the others processes and listeners.
type actor struct {
	n      *distgear.Node
	dir    string
	faults *Faults
	guard  context.CancelFunc
	gone   chan struct{}

	// The actions; each is handled where the labels say, and a handle everywhere.
	makedirs *distgear.Action[string, string]
	secret   *distgear.Action[string, string]
	start    *distgear.Action[startIn, Worker]
	halt     *distgear.Action[stopIn, bool]
	route    *distgear.Action[routeIn, string]
	unroute  *distgear.Action[string, bool]
	reroute  *distgear.Action[rerouteIn, bool]
	record   *distgear.Action[recordIn, bool]
	remove   *distgear.Action[string, bool]

	mu       sync.Mutex
	children map[string]*child
	proxies  map[string]*proxy
	owner    cluster.NodeName // for whom it holds them
	busy     map[string]chan struct{}
}

func newActor(n *distgear.Node, l labels, dir string, f *Faults) (*actor, error) {
	a := &actor{n: n, dir: dir, faults: f, gone: make(chan struct{}), children: map[string]*child{}, proxies: map[string]*proxy{}, busy: map[string]chan struct{}{}}
	a.makedirs = &distgear.Action[string, string]{Name: "makedirs", Do: a.doMakedirs, Undo: func(_ context.Context, d distgear.Did[string, string]) error {
		return errors.Join(a.faults.hit("makedirs:undo"), os.RemoveAll(a.path(d.In)))
	}}
	a.secret = &distgear.Action[string, string]{Name: "secret", Do: a.doSecret, Undo: func(_ context.Context, d distgear.Did[string, string]) error {
		return errors.Join(a.faults.hit("secret:undo"), remove(filepath.Join(a.path(d.In), "secret")))
	}}
	a.start = &distgear.Action[startIn, Worker]{Name: "worker", Do: a.doStart, Undo: func(_ context.Context, d distgear.Did[startIn, Worker]) error {
		a.stopChild(key(d.In.Name, d.In.Index))
		return a.faults.hit("worker-" + strconv.Itoa(d.In.Index) + ":undo")
	}}
	a.halt = &distgear.Action[stopIn, bool]{Name: "worker.stop", Idempotent: true, Retries: 3, Do: func(_ context.Context, in stopIn) (bool, error) {
		return do(a, "worker.stop-"+strconv.Itoa(in.Index), func() (bool, error) {
			a.stopChild(key(in.Name, in.Index))
			return true, nil
		})
	}}
	a.route = &distgear.Action[routeIn, string]{Name: "route", Do: a.doRoute, Undo: func(_ context.Context, d distgear.Did[routeIn, string]) error {
		a.stopProxy(d.In.Name)
		return a.faults.hit("route:undo")
	}}
	a.unroute = &distgear.Action[string, bool]{Name: "route.stop", Idempotent: true, Retries: 3, Do: func(_ context.Context, name string) (bool, error) {
		return do(a, "route.stop", func() (bool, error) {
			a.stopProxy(name)
			return true, nil
		})
	}}
	a.reroute = &distgear.Action[rerouteIn, bool]{Name: "reroute", Do: a.doReroute, Undo: func(_ context.Context, d distgear.Did[rerouteIn, bool]) error {
		a.setRoutes(d.In.Name, d.In.From)
		return a.faults.hit("reroute:undo")
	}}
	a.record = &distgear.Action[recordIn, bool]{Name: "record", Do: a.doRecord, Undo: func(_ context.Context, d distgear.Did[recordIn, bool]) error {
		if d.In.Before.Name == "" {
			return errors.Join(a.faults.hit("record:undo"), remove(a.state(d.In.Now.Name)))
		}
		return errors.Join(a.faults.hit("record:undo"), a.write(d.In.Before))
	}}
	a.remove = &distgear.Action[string, bool]{Name: "remove", Idempotent: true, Retries: 3, Do: func(_ context.Context, name string) (bool, error) {
		return do(a, "remove", func() (bool, error) { return true, os.RemoveAll(a.path(name)) })
	}}
	var hs []distgear.Handler
	if l["worker"] != "" {
		hs = append(hs, a.start, a.halt)
	}
	if l["proxy"] != "" {
		hs = append(hs, a.route, a.unroute, a.reroute)
	}
	if l["storage"] != "" {
		if err := a.sweep(); err != nil {
			return nil, err
		}
		hs = append(hs, a.makedirs, a.secret, a.record, a.remove)
		hs = append(hs, a.events()...)
	}
	if err := n.Handle(hs...); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	a.guard = cancel
	go a.watch(ctx)
	return a, nil
}

// watch stops what the node holds for an owner that is gone, or when the
// cluster has given this node up: what it held is being undone elsewhere.
func (a *actor) watch(ctx context.Context) {
	defer close(a.gone)
	if a.n.HubURL() == "" {
		return // alone: nobody to watch
	}
	for m, err := range a.n.Watch(ctx) {
		if err != nil {
			return // the node has left: close follows
		}
		a.mu.Lock()
		mine := m.Name == a.owner || m.Name == a.n.Name()
		a.mu.Unlock()
		if mine && (m.State == cluster.Lost || m.State == cluster.Left) {
			a.stopAll()
		}
	}
}

func (a *actor) close() {
	a.guard()
	<-a.gone
	a.stopAll()
}

func (a *actor) stopAll() {
	a.mu.Lock()
	cs, ps := a.children, a.proxies
	a.children, a.proxies = map[string]*child{}, map[string]*proxy{}
	a.mu.Unlock()
	for _, c := range cs {
		c.stop()
	}
	for _, p := range ps {
		p.stop()
	}
}

func key(name string, index int) string { return name + "/" + strconv.Itoa(index) }

func (a *actor) path(name string) string  { return filepath.Join(a.dir, name) }
func (a *actor) state(name string) string { return filepath.Join(a.dir, name, "workspace.json") }

// sweep removes the directories that have no record: their making was cut off.
// What a record says to run is gone with the processes; start starts it again.
func (a *actor) sweep() error {
	if err := os.MkdirAll(a.dir, 0o700); err != nil {
		return err
	}
	ds, err := os.ReadDir(a.dir)
	if err != nil {
		return err
	}
	for _, d := range ds {
		w, err := a.read(d.Name())
		if errors.Is(err, os.ErrNotExist) {
			err = os.RemoveAll(a.path(d.Name()))
		} else if err == nil && w.Running {
			w.Running, w.Workers, w.Proxy, w.ProxyOn = false, nil, "", ""
			err = a.write(w)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (a *actor) read(name string) (Workspace, error) {
	var w Workspace
	b, err := os.ReadFile(a.state(name))
	if err != nil {
		return w, err
	}
	return w, json.Unmarshal(b, &w)
}

func (a *actor) write(w Workspace) error {
	b, err := json.MarshalIndent(w, "", "  ")
	if err != nil {
		return err
	}
	next := a.state(w.Name) + ".next"
	if err := os.WriteFile(next, b, 0o600); err != nil {
		return err
	}
	return os.Rename(next, a.state(w.Name))
}

// remove is os.Remove of what may not be there.
func remove(path string) error {
	if err := os.Remove(path); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// do runs an effect between its two faults.
func do[T any](a *actor, op string, f func() (T, error)) (out T, err error) {
	if err := a.faults.hit(op + ":before"); err != nil {
		return out, distgear.Clean(err)
	}
	if out, err = f(); err != nil {
		return out, err
	}
	return out, a.faults.hit(op + ":after")
}

func (a *actor) doMakedirs(_ context.Context, name string) (string, error) {
	return do(a, "makedirs", func() (string, error) {
		if err := os.Mkdir(a.path(name), 0o700); err != nil {
			return "", distgear.Clean(err)
		}
		for _, d := range []string{"data", "logs"} {
			if err := os.Mkdir(filepath.Join(a.path(name), d), 0o700); err != nil {
				return "", err
			}
		}
		return a.path(name), nil
	})
}

func (a *actor) doSecret(_ context.Context, name string) (string, error) {
	return do(a, "secret", func() (string, error) {
		s := rand.Text()
		return s, os.WriteFile(filepath.Join(a.path(name), "secret"), []byte(s), 0o600)
	})
}

func (a *actor) doStart(ctx context.Context, in startIn) (Worker, error) {
	return do(a, "worker-"+strconv.Itoa(in.Index), func() (Worker, error) {
		whose := key(in.Name, in.Index)
		c, err := startChild(ctx, whose, in.Secret)
		if err != nil {
			return Worker{}, distgear.Clean(fmt.Errorf("worker %s: %w", whose, err))
		}
		a.mu.Lock()
		a.children[whose], a.owner = c, in.Owner
		a.mu.Unlock()
		return Worker{Index: in.Index, Node: a.n.Name(), Addr: c.addr, PID: c.cmd.Process.Pid}, nil
	})
}

func (a *actor) stopChild(whose string) {
	a.mu.Lock()
	c := a.children[whose]
	delete(a.children, whose)
	a.mu.Unlock()
	if c != nil {
		c.stop()
	}
}

func (a *actor) doRoute(ctx context.Context, in routeIn) (string, error) {
	return do(a, "route", func() (string, error) {
		p, err := startProxy(ctx, in.Secret, in.To)
		if err != nil {
			return "", distgear.Clean(err)
		}
		a.mu.Lock()
		a.proxies[in.Name], a.owner = p, in.Owner
		a.mu.Unlock()
		return p.addr, nil
	})
}

func (a *actor) stopProxy(name string) {
	a.mu.Lock()
	p := a.proxies[name]
	delete(a.proxies, name)
	a.mu.Unlock()
	if p != nil {
		p.stop()
	}
}

func (a *actor) doReroute(_ context.Context, in rerouteIn) (bool, error) {
	return do(a, "reroute", func() (bool, error) { return a.setRoutes(in.Name, in.To), nil })
}

func (a *actor) setRoutes(name string, to []string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	p := a.proxies[name]
	if p != nil {
		p.backends.Store(&to)
	}
	return p != nil
}

func (a *actor) doRecord(_ context.Context, in recordIn) (bool, error) {
	return do(a, "record", func() (bool, error) { return true, a.write(in.Now) })
}
