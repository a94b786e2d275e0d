// Hierarchy rolls a release out over two sites. A site is a node of the cluster
// "main" and at the same time the master of a cluster of its own, whose workers
// nobody else sees: its part of the rollout is an event as a step of a plan.
//
//	cluster main:    main ── rollout ──► site-a, site-b ──► announce at main
//	cluster site-a:  site-a ── site.deploy ──► put at worker-1, worker-2 ──► put at worker-1
//	cluster site-b:  likewise
//
// Here all of it is one process, over three hubs on loopback; each node could be
// a process of its own, for nothing but addresses ties them.
//
// # Failures
//
// When the last step of the rollout fails, the sites' runs have ended long ago;
// undoing the steps rolls them back, in reverse order. A rollout that is
// cancelled stops at the leaves first: what runs at the workers, then the sites'
// plans, then the rollout's.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/distgear/distgear"
	"github.com/distgear/distgear/cluster"
)

var (
	sites   = []cluster.NodeName{"site-a", "site-b"}
	workers = []cluster.NodeName{"worker-1", "worker-2"}
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := demo(ctx, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// demo rolls out a release that goes well and one that does not, and checks what is on disk.
func demo(ctx context.Context, out io.Writer) (err error) {
	dir, err := os.MkdirTemp("", "hierarchy")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	h := newHierarchy(dir, out)
	defer func() { err = errors.Join(err, h.leave()) }()
	if err := h.join(ctx); err != nil {
		return err
	}
	for _, version := range []string{"v1", "v2-rc"} {
		f, err := h.rollout.Raise(ctx, h.main, version)
		if err != nil {
			return err
		}
		news, failure := f.Wait(ctx)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		_, _ = fmt.Fprintf(out, "rollout of %s: %q, failure: %v\n", version, news, failure)
		if good := version == "v1"; good != (failure == nil) {
			return fmt.Errorf("rollout of %s ended unexpectedly: %w", version, failure)
		}
	}
	if err := errors.Join(h.check("v1", true), h.check("v2-rc", false), h.ordered("v2-rc")); err != nil {
		return err
	}
	_, _ = fmt.Fprintln(out, "v1 is everywhere, nothing is left of v2-rc, and it went in reverse order")
	return nil
}

// file is what the action put writes: the name says what happened, the path where.
type file struct {
	Site, Worker  cluster.NodeName
	Version, Name string
}

func (f file) String() string { return fmt.Sprintf("%s/%s/%s/%s", f.Site, f.Worker, f.Version, f.Name) }

// files are a site's files of a release: the app at each worker, then at the first that it is active.
func files(site cluster.NodeName, version string) (apps []file, active file) {
	for _, w := range workers {
		apps = append(apps, file{site, w, version, "app"})
	}
	return apps, file{site, workers[0], version, "active"}
}

// hierarchy is the three clusters and what they can do.
type hierarchy struct {
	dir string
	out io.Writer

	main  *distgear.Node
	sites map[cluster.NodeName]*distgear.Node // by its name in main: the site's node in its own cluster
	nodes []*distgear.Node                    // all, in the order in which they joined

	put        *distgear.Action[file, string]    // at the workers
	siteDeploy *distgear.Event[string, int]      // at the sites
	announce   *distgear.Action[string, string]  // at main
	rollout    *distgear.Event[string, string]   // at main
	hold       func(context.Context, file) error // a test's: called when put has written; nil means nothing

	mu  sync.Mutex
	log []string // guarded by mu
}

func newHierarchy(dir string, out io.Writer) *hierarchy {
	h := &hierarchy{dir: dir, out: out, sites: map[cluster.NodeName]*distgear.Node{}}
	h.put = &distgear.Action[file, string]{Name: "put", Do: h.doPut, Undo: func(_ context.Context, d distgear.Did[file, string]) error {
		h.say("undo %s", d.In)
		if err := os.Remove(h.path(d.In)); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}}
	h.siteDeploy = &distgear.Event[string, int]{Name: "site.deploy", On: h.onSiteDeploy}
	h.announce = &distgear.Action[string, string]{Name: "announce", Do: func(_ context.Context, version string) (string, error) {
		if strings.HasSuffix(version, "-rc") {
			return "", distgear.Clean(distgear.Permanent(fmt.Errorf("%s is no release", version)))
		}
		return version + " is out", nil
	}}
	h.rollout = &distgear.Event[string, string]{Name: "rollout", On: h.onRollout}
	return h
}

// onRollout runs at main: both sites at once, then the announcement.
func (h *hierarchy) onRollout(ctx context.Context, r *distgear.Run, version string) (string, error) {
	p := distgear.Plan{Name: "rollout", Rollback: true}
	var deployed []distgear.Dep
	for _, site := range sites {
		deployed = append(deployed, h.siteDeploy.Step(&p, distgear.On(site), version).Named(string(site)))
	}
	news := h.announce.Step(&p, distgear.On(r.Node().Name()), version, deployed...)
	err := r.Do(ctx, &p)
	h.say("end rollout %s", version)
	if err != nil {
		return "", err // by now the sites are as they were
	}
	return news.Result()
}

// onSiteDeploy runs at a site. The run is of the cluster main, its plan of the site's own: Via.
func (h *hierarchy) onSiteDeploy(ctx context.Context, r *distgear.Run, version string) (int, error) {
	site := r.Node().Name()
	p := distgear.Plan{Name: "deploy", Rollback: true, Via: h.sites[site]}
	apps, active := files(site, version)
	var put []distgear.Dep
	for _, f := range apps {
		put = append(put, h.put.Step(&p, distgear.On(f.Worker), f).Named(string(f.Worker)))
	}
	h.put.Step(&p, distgear.On(active.Worker), active, put...).Named("active")
	err := r.Do(ctx, &p)
	h.say("end %s %s", site, version)
	return len(apps) + 1, err
}

func (h *hierarchy) doPut(ctx context.Context, f file) (string, error) {
	path := h.path(f)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return "", distgear.Clean(err)
	}
	w, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return "", distgear.Clean(err) // it belongs to another rollout: not ours to undo
	}
	_, err = fmt.Fprintln(w, f.Version)
	if err = errors.Join(err, w.Close()); err != nil {
		return "", err
	}
	h.say("do %s", f)
	if h.hold != nil {
		err = h.hold(ctx, f)
	}
	return path, err
}

func (h *hierarchy) path(f file) string { return filepath.Join(h.dir, f.String()) }

// say tells what happens, and keeps it for the check of the order.
func (h *hierarchy) say(format string, args ...any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.log = append(h.log, fmt.Sprintf(format, args...))
	fmt.Fprintln(h.out, h.log[len(h.log)-1]) //nolint:errcheck // what counts is the log
}

// join makes the three clusters.
func (h *hierarchy) join(ctx context.Context) (err error) {
	if h.main, err = h.node(ctx, distgear.Config{Cluster: "main", Name: "main", Serve: "127.0.0.1:0"}, h.announce, h.rollout); err != nil {
		return err
	}
	for _, site := range sites {
		name := string(site)
		own, err := h.node(ctx, distgear.Config{Cluster: name, Name: site, Serve: "127.0.0.1:0"})
		if err != nil {
			return err
		}
		h.sites[site] = own
		for _, w := range workers {
			if _, err := h.node(ctx, distgear.Config{Cluster: name, Name: w, Hub: own.HubURL()}, h.put); err != nil {
				return err
			}
		}
		// The same process, a second time, as one of main's: only what it handles there is seen there.
		if _, err := h.node(ctx, distgear.Config{Cluster: "main", Name: site, Hub: h.main.HubURL()}, h.siteDeploy); err != nil {
			return err
		}
	}
	return nil
}

func (h *hierarchy) node(ctx context.Context, cfg distgear.Config, hs ...distgear.Handler) (*distgear.Node, error) {
	cfg.Logger = slog.New(slog.DiscardHandler)
	n, err := distgear.Join(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("%s joins %s: %w", cfg.Name, cfg.Cluster, err)
	}
	h.nodes = append(h.nodes, n)
	return n, n.Handle(hs...)
}

// leave ends all nodes, the last that joined first: a site goes from main before its own cluster ends.
func (h *hierarchy) leave() error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	var errs []error
	for _, n := range slices.Backward(h.nodes) {
		errs = append(errs, n.Leave(ctx))
	}
	return errors.Join(errs...)
}

// check tells whether a release's files are all there, or all gone.
func (h *hierarchy) check(version string, want bool) error {
	var errs []error
	for _, site := range sites {
		apps, active := files(site, version)
		for _, f := range append(apps, active) {
			if _, err := os.Stat(h.path(f)); (err == nil) != want {
				errs = append(errs, fmt.Errorf("%s: present: %t, want %t", f, err == nil, want))
			}
		}
	}
	return errors.Join(errs...)
}

// ordered checks that each site put and undid a release in the order of its plan and the reverse.
func (h *hierarchy) ordered(version string) error {
	var errs []error
	for _, site := range sites {
		apps, active := files(site, version)
		for _, f := range apps {
			errs = append(errs, h.sequence("do "+f.String(), "do "+active.String(), "undo "+active.String(), "undo "+f.String()))
		}
	}
	return errors.Join(errs...)
}

// sequence checks that lines are in the log, each once, in this order.
func (h *hierarchy) sequence(lines ...string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	last := -1
	for _, l := range lines {
		i := slices.Index(h.log, l)
		if i <= last || slices.Contains(h.log[i+1:], l) {
			return fmt.Errorf("%q is not where it belongs, once:\n%s", l, strings.Join(h.log, "\n"))
		}
		last = i
	}
	return nil
}
