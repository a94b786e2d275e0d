package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/distgear/distgear"
	"github.com/distgear/distgear/cluster"
	"github.com/distgear/distgear/geartest"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == workerRole { // the test binary is also the worker process
		if err := runWorker(context.Background(), os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	geartest.Main(m, geartest.Roles{"node": child1})
}

// child1 is a node in a process of its own; WORKSPACES_KILL names the point at which it dies.
func child1(ctx context.Context, args []string) error {
	n, err := distgear.Join(ctx, distgear.Config{Name: cluster.NodeName(args[0]), Labels: map[string]string{args[1]: "yes"}, Logger: quiet()})
	if err != nil {
		return err
	}
	f := &Faults{}
	if at := os.Getenv("WORKSPACES_KILL"); at != "" {
		f.Set(at, func() error { return syscall.Kill(os.Getpid(), syscall.SIGKILL) })
	}
	a, err := newActor(n, labels{args[1]: "yes"}, args[2], f)
	if err != nil {
		return err
	}
	geartest.Ready(n.HubURL())
	<-ctx.Done()
	_ = n.Leave(context.Background())
	a.close()
	return nil
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// place is where a test runs: who raises, where the files are, and what goes wrong.
type place struct {
	t      *testing.T
	n      *distgear.Node // raises; the storage node
	dir    string
	name   string // of the workspace, unique on this machine: processes are found by it
	faults *Faults
}

func join(t *testing.T, cfg distgear.Config, dir string, f *Faults, ls ...string) *distgear.Node {
	t.Helper()
	l := labels{}
	for _, x := range ls {
		l[x] = "yes"
	}
	cfg.Labels, cfg.Logger, cfg.TTL = l, quiet(), time.Second
	n, err := distgear.Join(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	a, err := newActor(n, l, dir, f)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := n.Leave(ctx); err != nil {
			t.Error(err)
		}
		a.close()
	})
	return n
}

func newPlace(t *testing.T) *place {
	return &place{t: t, dir: t.TempDir(), faults: &Faults{}, name: fmt.Sprintf("t%d-%d", os.Getpid(), time.Now().UnixNano()%1e9)}
}

func alone(t *testing.T) *place {
	w := newPlace(t)
	w.n = join(t, distgear.Config{}, w.dir, w.faults, "storage", "worker", "proxy")
	return w
}

// clustered is a hub with the storage and, over loopback, two worker nodes and a proxy node.
func clustered(t *testing.T) *place {
	w := newPlace(t)
	w.n = join(t, distgear.Config{Serve: "127.0.0.1:0", Name: "storage"}, w.dir, w.faults, "storage")
	for name, label := range map[cluster.NodeName]string{"worker-1": "worker", "worker-2": "worker", "proxy": "proxy"} {
		join(t, distgear.Config{Hub: w.n.HubURL(), Name: name}, "", w.faults, label)
	}
	w.settle("worker", "worker.stop", "route")
	return w
}

// settle waits until the storage node knows of who handles the kinds.
func (w *place) settle(kinds ...string) {
	w.t.Helper()
	geartest.Eventually(w.t, 0, "handlers are known", func() bool {
		seen := map[string]bool{}
		for m := range w.n.Members(w.t.Context()) {
			for _, k := range m.Kinds {
				seen[k] = true
			}
		}
		for _, k := range kinds {
			if !seen[k] {
				return false
			}
		}
		return true
	})
}

func raise[In, Out any](w *place, event string, in In, _ Out) (Out, error) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), 60*time.Second)
	defer cancel()
	f, err := (&distgear.Event[In, Out]{Name: "workspace." + event}).Raise(ctx, w.n, in)
	if err != nil {
		w.t.Fatal(err)
	}
	return f.Wait(ctx)
}

// must raises an event about the workspace that works.
func (w *place) must(event string, workers int) Workspace {
	w.t.Helper()
	out, err := raise(w, event, CreateIn{w.name, workers}, Workspace{})
	if err != nil {
		w.t.Fatalf("%s: %v", event, err)
	}
	return out
}

// processes are the worker processes of the workspace that the kernel knows.
func (w *place) processes() int {
	w.t.Helper()
	ps, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		w.t.Fatal(err)
	}
	n := 0
	for _, p := range ps {
		b, err := os.ReadFile(p)
		if err == nil && strings.Contains(string(b), "\x00"+workerRole+"\x00"+w.name+"/") {
			n++
		}
	}
	return n
}

// refused checks that nobody listens on the ports.
func (w *place) refused(addrs ...string) {
	w.t.Helper()
	for _, a := range addrs {
		if c, err := net.Dial("tcp", a); err == nil {
			c.Close()
			w.t.Errorf("%s still listens", a)
		}
	}
}

// nothing checks that the operating system has nothing of the workspace.
func (w *place) nothing(addrs ...string) {
	w.t.Helper()
	if n := w.processes(); n != 0 {
		w.t.Errorf("%d processes left", n)
	}
	w.refused(addrs...)
	if _, err := os.Lstat(filepath.Join(w.dir, w.name)); !errors.Is(err, fs.ErrNotExist) {
		w.t.Errorf("the directory is left: %v", err)
	}
	if n := listening(w.t); n != w.ports() {
		w.t.Errorf("%d sockets listen", n)
	}
}

// ports is how many sockets of this process listen when there is no workspace: the hub's.
func (w *place) ports() int {
	if w.n.HubURL() == "" {
		return 0
	}
	return 1
}

// listening counts the sockets of this process that listen, as the kernel tells it.
func listening(t *testing.T) int {
	t.Helper()
	own := map[string]bool{}
	fds, err := filepath.Glob("/proc/self/fd/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		if l, err := os.Readlink(fd); err == nil {
			own[strings.TrimSuffix(strings.TrimPrefix(l, "socket:["), "]")] = true
		}
	}
	n := 0
	for _, f := range []string{"/proc/self/net/tcp", "/proc/self/net/tcp6"} {
		b, err := os.ReadFile(f)
		if err != nil {
			continue // no IPv6 here
		}
		for line := range strings.Lines(string(b)) {
			if x := strings.Fields(line); len(x) > 9 && x[3] == "0A" && own[x[9]] {
				n++
			}
		}
	}
	return n
}

func (w *place) get(ws Workspace, secret string) (int, string) {
	w.t.Helper()
	q, err := http.NewRequestWithContext(w.t.Context(), http.MethodGet, "http://"+ws.Proxy+"/x", nil)
	if err != nil {
		w.t.Fatal(err)
	}
	q.Header.Set("Authorization", "Bearer "+secret)
	r, err := http.DefaultClient.Do(q)
	if err != nil {
		w.t.Fatal(err)
	}
	defer r.Body.Close()
	var b [256]byte
	n, _ := r.Body.Read(b[:])
	return r.StatusCode, string(b[:n])
}

// serves checks that a proxy routes to exactly n workers in turn, and to nobody without the secret.
func (w *place) serves(ws Workspace, n int) {
	w.t.Helper()
	b, err := os.ReadFile(filepath.Join(w.dir, w.name, "secret"))
	if err != nil {
		w.t.Fatal(err)
	}
	if st, err := os.Stat(filepath.Join(w.dir, w.name, "secret")); err != nil || st.Mode().Perm() != 0o600 {
		w.t.Errorf("the secret: %v %v", st.Mode(), err)
	}
	if code, _ := w.get(ws, "guess"); code != http.StatusUnauthorized {
		w.t.Errorf("without the secret: %d", code)
	}
	seen := map[string]bool{}
	for range 2 * n {
		code, body := w.get(ws, string(b))
		if code != http.StatusOK {
			w.t.Fatalf("%d %s", code, body)
		}
		seen[body] = true
	}
	if len(seen) != n || w.processes() != n || len(ws.Workers) != n {
		w.t.Errorf("%d workers answer, %d processes, %d in the record; want %d: %v", len(seen), w.processes(), len(ws.Workers), n, seen)
	}
}
