package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/distgear/distgear"
	"github.com/distgear/distgear/cluster"
)

// Inputs of the events.
type (
	// CreateIn is the input of workspace.create, and of workspace.scale.
	CreateIn struct {
		Name    string `json:"name"`
		Workers int    `json:"workers"`
	}
	// NameIn is the input of workspace.start, stop, destroy and status.
	NameIn struct {
		Name string `json:"name"`
	}
)

const maxWorkers = 64

var validName = regexp.MustCompile(`^[a-z][a-z0-9-]{0,39}$`)

// events are the storage node's.
func (a *actor) events() []distgear.Handler {
	return []distgear.Handler{
		event("workspace.create", func(ctx context.Context, r *distgear.Run, in CreateIn) (Workspace, error) {
			return a.alone(ctx, in.Name, in.Workers, func() (Workspace, error) { return a.create(ctx, r, in) })
		}),
		event("workspace.scale", func(ctx context.Context, r *distgear.Run, in CreateIn) (Workspace, error) {
			return a.known(ctx, in.Name, in.Workers, func(w Workspace) (Workspace, error) { return a.scale(ctx, r, w, in.Workers) })
		}),
		event("workspace.stop", func(ctx context.Context, r *distgear.Run, in NameIn) (Workspace, error) {
			return a.known(ctx, in.Name, 1, func(w Workspace) (Workspace, error) { return a.stop(ctx, r, w) })
		}),
		event("workspace.start", func(ctx context.Context, r *distgear.Run, in NameIn) (Workspace, error) {
			return a.known(ctx, in.Name, 1, func(w Workspace) (Workspace, error) { return a.restart(ctx, r, w) })
		}),
		event("workspace.destroy", func(ctx context.Context, r *distgear.Run, in NameIn) (Workspace, error) {
			return a.known(ctx, in.Name, 1, func(w Workspace) (Workspace, error) { return a.destroy(ctx, r, w) })
		}),
		event("workspace.status", func(ctx context.Context, _ *distgear.Run, in NameIn) (Workspace, error) {
			return a.known(ctx, in.Name, 1, func(w Workspace) (Workspace, error) { return w, nil })
		}),
		event("workspace.list", func(context.Context, *distgear.Run, struct{}) ([]string, error) { return a.list() }),
	}
}

func event[In, Out any](name string, on func(context.Context, *distgear.Run, In) (Out, error)) distgear.Handler {
	return &distgear.Event[In, Out]{Name: name, On: on}
}

// alone checks the input and runs f when no other event of the workspace runs.
func (a *actor) alone(ctx context.Context, name string, workers int, f func() (Workspace, error)) (Workspace, error) {
	if !validName.MatchString(name) || workers < 1 || workers > maxWorkers {
		return Workspace{}, distgear.Clean(fmt.Errorf("want a name of a-z, 0-9 and -, and 1 to %d workers; got %q, %d", maxWorkers, name, workers))
	}
	a.mu.Lock()
	turn := a.busy[name]
	if turn == nil {
		turn = make(chan struct{}, 1) // 1: whose turn it is
		a.busy[name] = turn
	}
	a.mu.Unlock()
	select {
	case turn <- struct{}{}:
	case <-ctx.Done():
		return Workspace{}, distgear.Clean(context.Cause(ctx))
	}
	defer func() { <-turn }()
	return f()
}

// known is alone, for a workspace that must exist.
func (a *actor) known(ctx context.Context, name string, workers int, f func(Workspace) (Workspace, error)) (Workspace, error) {
	return a.alone(ctx, name, workers, func() (Workspace, error) {
		w, err := a.read(name)
		if errors.Is(err, os.ErrNotExist) {
			return w, distgear.Clean(fmt.Errorf("no workspace %q", name))
		}
		if err != nil {
			return w, err
		}
		return f(w)
	})
}

// here is the storage node: the one that handles the event.
func (a *actor) here() distgear.Target { return distgear.On(a.n.Name()) }

func (a *actor) create(ctx context.Context, r *distgear.Run, in CreateIn) (Workspace, error) {
	p := distgear.Plan{Name: "create", Rollback: true}
	dirs := a.makedirs.Step(&p, a.here(), in.Name)
	secret := a.secret.Step(&p, a.here(), in.Name, dirs)
	return a.up(ctx, r, &p, Workspace{Name: in.Name, Want: in.Workers}, Workspace{}, secret.Result, dirs.Result, secret)
}

func (a *actor) restart(ctx context.Context, r *distgear.Run, w Workspace) (Workspace, error) {
	if w.Running {
		return w, nil
	}
	p := distgear.Plan{Name: "start", Rollback: true}
	return a.up(ctx, r, &p, w, w, func() (string, error) { return a.readSecret(w.Name) }, func() (string, error) { return w.Dir, nil })
}

func (a *actor) readSecret(name string) (string, error) {
	b, err := os.ReadFile(filepath.Join(a.path(name), "secret"))
	return string(b), err
}

// up adds to a plan the workers, the proxy before them and the record, and runs it.
func (a *actor) up(ctx context.Context, r *distgear.Run, p *distgear.Plan, w, before Workspace, secret, dir func() (string, error), after ...distgear.Dep) (Workspace, error) {
	workers := a.workers(p, w.Name, 0, w.Want, secret, after...)
	route := a.route.StepFunc(p, distgear.Any("proxy=yes"), func() (routeIn, error) {
		s, err := secret()
		w.Workers = results(workers)
		return routeIn{a.n.Name(), w.Name, s, w.addrs()}, err
	}, deps(workers)...)
	a.record.StepFunc(p, a.here(), func() (in recordIn, err error) {
		w.Running, w.ProxyOn = true, route.Node()
		w.Proxy, err = route.Result()
		if w.Dir == "" && err == nil {
			w.Dir, err = dir()
		}
		return recordIn{w, before}, err
	}, route)
	if err := r.Do(ctx, p); err != nil {
		return Workspace{}, err
	}
	return w, nil
}

func (a *actor) workers(p *distgear.Plan, name string, from, to int, secret func() (string, error), after ...distgear.Dep) []*distgear.Step[Worker] {
	var steps []*distgear.Step[Worker]
	for i := from; i < to; i++ {
		steps = append(steps, a.start.StepFunc(p, distgear.Any("worker=yes"), func() (startIn, error) {
			s, err := secret()
			return startIn{a.n.Name(), name, i, s}, err
		}, after...).Named(fmt.Sprintf("worker-%d", i)))
	}
	return steps
}

func results(steps []*distgear.Step[Worker]) []Worker {
	var ws []Worker
	for _, s := range steps {
		if w, err := s.Result(); err == nil { // its dependents run only when all are OK
			ws = append(ws, w)
		}
	}
	return ws
}

func deps(steps []*distgear.Step[Worker]) []distgear.Dep {
	var ds []distgear.Dep
	for _, s := range steps {
		ds = append(ds, s)
	}
	return ds
}

// live tells which nodes can be asked to stop something: the processes of all others are gone with them.
func (a *actor) live(ctx context.Context) (map[cluster.NodeName]bool, error) {
	live := map[cluster.NodeName]bool{}
	for m, err := range a.n.Members(ctx) {
		if err != nil {
			return nil, err
		}
		live[m.Name] = m.State == cluster.Alive || m.State == cluster.Suspect
	}
	return live, nil
}

func (a *actor) scale(ctx context.Context, r *distgear.Run, w Workspace, want int) (Workspace, error) {
	live, err := a.live(ctx)
	if err != nil {
		return w, err
	}
	if w.Running && !live[w.ProxyOn] { // nothing routes to it any more: stop first, then start
		return w, distgear.Clean(fmt.Errorf("the proxy's node %s is gone: stop and start %s", w.ProxyOn, w.Name))
	}
	next, p := w, distgear.Plan{Name: "scale", Rollback: true}
	next.Want = want
	if !w.Running {
		a.record.Step(&p, a.here(), recordIn{next, w})
		return next, r.Do(ctx, &p)
	}
	next.Workers = nil
	var drop []Worker
	top := 0
	for _, x := range w.Workers {
		switch {
		case !live[x.Node]:
		case len(next.Workers) < want:
			next.Workers = append(next.Workers, x)
		default:
			drop = append(drop, x)
		}
		top = max(top, x.Index+1)
	}
	kept := slices.Clip(next.Workers)
	more := a.workers(&p, w.Name, top, top+want-len(kept), func() (string, error) { return a.readSecret(w.Name) })
	route := a.reroute.StepFunc(&p, distgear.On(w.ProxyOn), func() (rerouteIn, error) {
		next.Workers = append(kept, results(more)...)
		return rerouteIn{w.Name, next.addrs(), w.addrs()}, nil
	}, deps(more)...)
	record := a.record.StepFunc(&p, a.here(), func() (recordIn, error) { return recordIn{next, w}, nil }, route).Pivot()
	a.halts(&p, w.Name, drop, record) // only forward from here: a process that was stopped does not come back
	if err := r.Do(ctx, &p); err != nil {
		return w, err
	}
	return next, nil
}

func (a *actor) halts(p *distgear.Plan, name string, ws []Worker, after ...distgear.Dep) []distgear.Dep {
	var ds []distgear.Dep
	for _, x := range ws {
		s := a.halt.Step(p, distgear.On(x.Node), stopIn{name, x.Index}, after...).Named(fmt.Sprintf("stop-%d", x.Index))
		ds = append(ds, s)
	}
	return ds
}

// down adds to a plan that all processes of a workspace end. Each of its steps may be done again.
func (a *actor) down(ctx context.Context, p *distgear.Plan, w Workspace) ([]distgear.Dep, error) {
	live, err := a.live(ctx)
	if err != nil {
		return nil, err
	}
	var after []distgear.Dep
	if w.Running && live[w.ProxyOn] {
		after = append(after, a.unroute.Step(p, distgear.On(w.ProxyOn), w.Name))
	}
	var ws []Worker
	for _, x := range w.Workers {
		if live[x.Node] {
			ws = append(ws, x)
		}
	}
	return append(a.halts(p, w.Name, ws, after...), after...), nil
}

func (a *actor) stop(ctx context.Context, r *distgear.Run, w Workspace) (Workspace, error) {
	p := distgear.Plan{Name: "stop"} // no rollback: what failed is repeated by another stop
	after, err := a.down(ctx, &p, w)
	if err != nil {
		return w, err
	}
	next := w
	next.Running, next.Workers, next.Proxy, next.ProxyOn = false, nil, "", ""
	a.record.Step(&p, a.here(), recordIn{next, w}, after...)
	return next, r.Do(ctx, &p)
}

func (a *actor) destroy(ctx context.Context, r *distgear.Run, w Workspace) (Workspace, error) {
	p := distgear.Plan{Name: "destroy"}
	after, err := a.down(ctx, &p, w)
	if err != nil {
		return w, err
	}
	a.remove.Step(&p, a.here(), w.Name, after...)
	return w, r.Do(ctx, &p)
}

func (a *actor) list() ([]string, error) {
	ds, err := os.ReadDir(a.dir)
	names := []string{}
	for _, d := range ds {
		if _, err := os.Stat(a.state(d.Name())); err == nil && !strings.HasPrefix(d.Name(), ".") {
			names = append(names, d.Name())
		}
	}
	return names, err
}
