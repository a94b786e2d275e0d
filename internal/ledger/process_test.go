//go:build unix

package ledger

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/distgear/distgear/internal/engine"
	"go.uber.org/goleak"
)

// childEnv tells the test's own program to be a hub: url, or the hub's number
// and its directory and all hubs' routes and client ports.
const childEnv = "LEDGER_TEST_HUB"

func TestMain(m *testing.M) {
	if what := os.Getenv(childEnv); what != "" {
		if err := child(what); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// child is a hub in a process of its own: what comes on the subject put is
// submitted, what is released goes to told.
func child(what string) error {
	f := strings.Fields(what)
	ctx, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer cancel()
	conn := engine.ConnConfig{URLs: f[0], Logger: quiet()}
	cfg := Config{Name: "test", Hub: "hub" + strconv.Itoa(os.Getpid()), Logger: quiet()}
	if len(f) > 1 {
		i, _ := strconv.Atoi(f[0])
		s, err := engine.StartServer(engine.ServerConfig{
			Listen: strings.Split(f[3], ",")[i], Token: "secret", Tier: engine.Sync, Dir: f[1], Logger: quiet(),
			Cluster: &engine.Cluster{Server: "hub" + f[0], Listen: strings.Split(f[2], ",")[i], Routes: strings.Split(f[2], ",")},
		})
		if err != nil {
			return err
		}
		defer s.Close()
		conn = engine.ConnConfig{Server: s, Logger: quiet()}
		cfg.Replicas = 3
	}
	c, err := engine.Dial(ctx, conn)
	if err != nil {
		return err
	}
	defer c.Close()
	cfg.Conn = c
	cfg.State = &list{told: func(e string) { _ = c.Publish("told", []byte(e)) }}
	l, err := Open(ctx, cfg)
	if err != nil {
		return err
	}
	defer l.Close()
	stop, err := c.Subscribe("put", func(b []byte) { _ = l.Submit(b) })
	if err != nil {
		return err
	}
	defer stop()
	was := false
	t := time.NewTicker(time.Millisecond)
	defer t.Stop()
	fmt.Println("up")
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
			if is := l.Writer(); is != was {
				was = is
				fmt.Println("writer", is)
			}
		}
	}
}

// proc is a child.
type proc struct {
	cmd *exec.Cmd
	wg  sync.WaitGroup

	mu     sync.Mutex
	up     bool
	writer bool
}

func spawn(t testing.TB, what string) *proc {
	t.Helper()
	p := &proc{cmd: exec.CommandContext(t.Context(), os.Args[0])}
	p.cmd.Env = append(os.Environ(), childEnv+"="+what)
	p.cmd.Stderr = os.Stderr
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p.wg.Go(func() { p.listen(out) })
	t.Cleanup(func() {
		p.cmd.Process.Kill()
		p.wg.Wait()
		_ = p.cmd.Wait() // it was killed
	})
	return p
}

func (p *proc) listen(out io.Reader) {
	for sc := bufio.NewScanner(out); sc.Scan(); {
		p.mu.Lock()
		switch sc.Text() {
		case "up":
			p.up = true
		case "writer true":
			p.writer = true
		case "writer false":
			p.writer = false
		}
		p.mu.Unlock()
	}
}

func (p *proc) is() (up, writer bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.up, p.writer
}

// fleet is several children and a client that puts entries all the time.
type fleet struct {
	procs []*proc

	mu   sync.Mutex
	told map[string]int
	last time.Time // of an answer
	gap  time.Duration
}

// hear is called by one connection, which has heard what is in seen. One that
// is put through one hub is told through all.
func (f *fleet) hear(seen map[string]int, b []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := time.Now()
	e := string(b)
	seen[e]++
	f.told[e] = max(f.told[e], seen[e])
	if !f.last.IsZero() {
		f.gap = max(f.gap, now.Sub(f.last))
	}
	f.last = now
}

// reset forgets the longest silence, and count tells how many were told.
func (f *fleet) reset() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.gap, f.last = 0, time.Now()
}

func (f *fleet) count() (n int, gap time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.told), f.gap
}

// drive puts entries through each of the servers.
func (f *fleet) drive(t testing.TB, urls ...string) {
	t.Helper()
	for i, url := range urls {
		c, err := engine.Dial(t.Context(), engine.ConnConfig{URLs: url, Token: "secret", Logger: quiet()})
		if err != nil {
			t.Fatal(err)
		}
		seen := map[string]int{}
		if _, err := c.Subscribe("told", func(b []byte) { f.hear(seen, b) }); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		var wg sync.WaitGroup
		wg.Go(func() {
			tick := time.NewTicker(2 * time.Millisecond)
			defer tick.Stop()
			for n := 0; ctx.Err() == nil; n++ {
				<-tick.C
				_ = c.Publish("put", fmt.Append(nil, i, "/", n)) // not while the connection is down
			}
		})
		t.Cleanup(func() { cancel(); wg.Wait(); c.Close() })
	}
}

// more waits until n more entries are told.
func (f *fleet) more(t testing.TB, n int) {
	t.Helper()
	was, _ := f.count()
	eventuallyIn(t, 40*time.Second, "entries are told", func() bool { now, _ := f.count(); return now >= was+n })
}

func (f *fleet) writer(t testing.TB) (w *proc) {
	t.Helper()
	eventually(t, "one writer", func() bool {
		w = nil
		n := 0
		for _, p := range f.procs {
			if _, is := p.is(); is {
				w = p
				n++
			}
		}
		return n == 1
	})
	return w
}

// check tells what was told twice. That nothing told is lost the log itself is asked by who calls.
func (f *fleet) check(t testing.TB) {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	for e, n := range f.told {
		if n != 1 {
			t.Errorf("%s was told %d times", e, n)
		}
	}
}

// in checks that each entry that was told is in the log once.
func (f *fleet) in(t testing.TB, n *node) {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	eventually(t, "what was told is in the log", func() bool {
		entries, _ := n.state.all()
		have := map[string]int{}
		for _, e := range entries {
			if have[e]++; have[e] > 1 {
				t.Fatalf("%s is in the log twice", e)
			}
		}
		for e := range f.told {
			if have[e] == 0 {
				return false
			}
		}
		return true
	})
}

// Writers in processes of their own, on a stream that keeps its leader, are
// frozen, thawed under load, and killed.
func TestProcess_FrozenThawedKilled(t *testing.T) {
	s := server(t, engine.ServerConfig{Listen: "127.0.0.1:0", Token: "secret", Tier: engine.Sync, Dir: t.TempDir()})
	url := strings.Replace(s.URL(), "nats://", "nats://secret@", 1)
	f := &fleet{told: map[string]int{}}
	for range 3 {
		f.procs = append(f.procs, spawn(t, url))
	}
	f.drive(t, s.URL())
	f.more(t, 100)
	var took []time.Duration
	for _, sig := range []syscall.Signal{syscall.SIGSTOP, syscall.SIGSTOP, syscall.SIGKILL} {
		w := f.writer(t)
		f.reset()
		if err := w.cmd.Process.Signal(sig); err != nil {
			t.Fatal(err)
		}
		f.more(t, 100)
		_, gap := f.count()
		took = append(took, gap)
		if gap > 2*time.Second {
			t.Errorf("%v: silent for %v", sig, gap)
		}
		if sig == syscall.SIGKILL {
			break
		}
		if err := w.cmd.Process.Signal(syscall.SIGCONT); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the thawed writer stepped down", func() bool { _, is := w.is(); return !is })
		f.more(t, 100)
	}
	f.check(t)
	f.in(t, start(t, engine.ConnConfig{Server: s}, Config{Hub: "reader", Patience: time.Hour}))
	t.Logf("frozen, frozen, killed: silent for %v", took)
}

// A hub is killed, or frozen and thawed, with its server, which is one of three.
func TestProcess_Hub(t *testing.T) {
	addrs := freeAddrs(t, 6)
	routes, clients := addrs[:3], addrs[3:]
	f := &fleet{told: map[string]int{}}
	dirs := []string{t.TempDir(), t.TempDir(), t.TempDir()}
	run := func(i int) *proc {
		return spawn(t, fmt.Sprint(i, " ", dirs[i], " ", strings.Join(routes, ","), " ", strings.Join(clients, ",")))
	}
	for i := range 3 {
		f.procs = append(f.procs, run(i))
	}
	urls := "nats://" + strings.Join(clients, ",nats://")
	f.drive(t, strings.Split(urls, ",")...)
	f.more(t, 100)
	var took []time.Duration
	for _, sig := range []syscall.Signal{syscall.SIGKILL, syscall.SIGKILL, syscall.SIGSTOP} {
		w := f.writer(t)
		f.reset()
		if err := w.cmd.Process.Signal(sig); err != nil {
			t.Fatal(err)
		}
		f.more(t, 100)
		_, gap := f.count()
		took = append(took, gap)
		if sig == syscall.SIGSTOP {
			if err := w.cmd.Process.Signal(syscall.SIGCONT); err != nil {
				t.Fatal(err)
			}
			eventually(t, "the thawed writer stepped down", func() bool { _, is := w.is(); return !is })
			continue
		}
		for i, p := range f.procs {
			if p == w {
				f.procs[i] = run(i)
				eventuallyIn(t, 40*time.Second, "the hub is back", func() bool { up, _ := f.procs[i].is(); return up })
			}
		}
		f.more(t, 100)
	}
	f.more(t, 100)
	t.Logf("hub killed with its server, killed, frozen: silent for %v", took)
	f.check(t)
	f.in(t, start(t, engine.ConnConfig{URLs: urls, Token: "secret"}, Config{Hub: "reader", Replicas: 3, Patience: time.Hour}))
}
