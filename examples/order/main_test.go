package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/distgear/distgear"
	"github.com/distgear/distgear/cluster"
	"github.com/distgear/distgear/geartest"
	"github.com/distgear/distgear/record"
)

func TestMain(m *testing.M) {
	geartest.Main(m, geartest.Roles{
		"order": func(context.Context, []string) error { main(); return nil },
		"hub":   geartest.HubRole,
	})
}

// became is what becomes of some orders, as the program prints it.
var became = map[string]string{
	"desk-1": "desk-1 is on its way", "lamp-2@Oslo": "lamp-2 is on its way", "desk-3@Atlantis": "not sent", "palace-4": "not sent",
}

// TestAlone runs the program as one process.
func TestAlone(t *testing.T) {
	dir := t.TempDir()
	p := geartest.Start(t, geartest.Child{Role: "order", Args: []string{"-dir", dir, "desk-1", "lamp-2@Oslo", "desk-3@Atlantis", "palace-4"}, Ready: "desk-1:"})
	printed(t, p)
	check(t, dir, "desk-1", "lamp-2")
	if err := p.Wait(); err != nil {
		t.Error(err)
	}
}

func printed(t *testing.T, p *geartest.Process) {
	t.Helper()
	if got := p.Ready(); got != became["desk-1"] {
		t.Errorf("desk-1: %s", got)
	}
	for _, o := range []string{"lamp-2@Oslo", "desk-3@Atlantis", "palace-4"} {
		if got := p.Line(o + ":"); got != became[o] {
			t.Errorf("%s: %s", o, got)
		}
	}
}

// check compares what the bank and the directories have with the orders that were
// sent, and no others: each is charged once, has one thing and a label; of all others there is nothing left.
func check(t *testing.T, dir string, sent ...string) {
	t.Helper()
	want := map[string]bool{}
	taken := 0
	for _, id := range sent {
		want[id] = true
	}
	book, err := os.ReadFile(filepath.Join(dir, "bank", "book"))
	if err != nil {
		t.Fatal(err)
	}
	charged, ended := map[string]int{}, map[string]int{}
	for lines := bufio.NewScanner(bytes.NewReader(book)); lines.Scan(); {
		var x booking
		if err := json.Unmarshal(lines.Bytes(), &x); err != nil {
			t.Fatalf("%s: %v", lines.Bytes(), err)
		}
		id, _, _ := strings.Cut(x.Key, "/")
		if x.Amount > 0 {
			if charged[id]++; x.Amount != prices[strings.Split(id, "-")[0]] {
				t.Errorf("%s was charged with %d", id, x.Amount)
			}
		} else if ended[id]++; x.Amount < 0 && charged[id] != 1 {
			t.Errorf("%s is paid back, and was charged %d times", id, charged[id])
		}
	}
	for id, n := range charged {
		if n != 1 || want[id] == (ended[id] > 0) || ended[id] > 1 {
			t.Errorf("%s was charged %d times and paid back %d times", id, n, ended[id])
		}
	}
	rs, err := os.ReadDir(filepath.Join(dir, "reserved"))
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rs {
		things, _ := os.ReadDir(filepath.Join(dir, "reserved", r.Name())) // of a file: none
		taken += len(things)
		if want[r.Name()] != (len(things) == 1) {
			t.Errorf("%s has %d things", r.Name(), len(things))
		}
	}
	if left, err := filepath.Glob(filepath.Join(dir, "stock", "*", "*")); err != nil || len(left) != len(prices)*perItem-len(sent) || taken != len(sent) {
		t.Errorf("%d things are in the stock and %d are taken, for %d orders; %v", len(left), taken, len(sent), err)
	}
	ls, err := os.ReadDir(filepath.Join(dir, "labels"))
	if err != nil {
		t.Fatal(err)
	}
	labels := 0
	for _, l := range ls {
		b, err := os.ReadFile(filepath.Join(dir, "labels", l.Name()))
		if err != nil {
			t.Fatal(err)
		}
		if want[l.Name()] && strings.HasPrefix(string(b), strings.Split(l.Name(), "-")[0]+" for "+l.Name()) {
			labels++
		} else if string(b) != "void\n" {
			t.Errorf("there is a label %s: %q", l.Name(), b)
		}
	}
	for id := range want {
		if charged[id] != 1 {
			t.Errorf("%s was sent and charged %d times", id, charged[id])
		}
	}
	if labels != len(sent) {
		t.Errorf("%d labels for %d orders", labels, len(sent))
	}
}

// street is a cluster of processes: a hub, two masters, two workers, made by cluster/distgear.yaml. The bank
// is the test's own, which holds requests up.
type street struct {
	t    *testing.T // of the part that runs now
	long *testing.T // of them all
	dir  string
	bank *httptest.Server
	yaml string
	n    *distgear.Node
	all  map[string]*geartest.Process

	mu   sync.Mutex
	held map[string]chan struct{} // by path and order
	came map[string]int
}

func newStreet(t *testing.T) *street {
	s := &street{t: t, long: t, dir: t.TempDir(), all: map[string]*geartest.Process{}, held: map[string]chan struct{}{}, came: map[string]int{}}
	b, err := openBank(filepath.Join(s.dir, "bank"))
	if err != nil {
		t.Fatal(err)
	}
	answers := b.handler()
	s.bank = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		id, _, _ := strings.Cut(q.Header.Get("Idempotency-Key"), "/")
		s.mu.Lock()
		s.came[q.URL.Path+" "+id]++
		held := s.held[q.URL.Path+" "+id]
		s.mu.Unlock()
		if held != nil {
			<-held
		}
		answers.ServeHTTP(w, q)
	}))
	t.Cleanup(func() {
		s.bank.Close()
		if err := b.close(); err != nil {
			t.Error(err)
		}
	})
	hub := geartest.Start(t, geartest.Child{Role: "hub", Env: []string{"DISTGEAR_CLUSTER=order", "DISTGEAR_TOKEN=change-me", "DISTGEAR_DIR=" + t.TempDir(), "DISTGEAR_TTL=1s"}})
	file, err := os.ReadFile("cluster/distgear.yaml")
	if err != nil {
		t.Fatal(err)
	}
	s.yaml = strings.Replace(string(file), "nats://127.0.0.1:4222", hub.Ready(), 1)
	if s.yaml == string(file) {
		t.Fatalf("the file names another hub than this test expects: %s", file)
	}
	s.n, err = distgear.Join(t.Context(), distgear.Config{Cluster: "order", Token: "change-me", Hub: hub.Ready(), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.n.Leave(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	for _, name := range []string{"master-1", "master-2", "work-1", "work-2"} {
		s.start(name)
	}
	return s
}

func (s *street) child(args ...string) geartest.Child {
	dir := s.long.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "distgear.yaml"), []byte(s.yaml), 0o600); err != nil {
		s.t.Fatal(err)
	}
	return geartest.Child{Role: "order", Args: append([]string{"-dir", s.dir, "-at", s.bank.URL}, args...), Dir: dir}
}

// start starts a master or a worker, and returns when the test's own node knows of it.
func (s *street) start(name string) {
	s.t.Helper()
	role, _, _ := strings.Cut(name, "-")
	c := s.child("-" + role)
	c.Env, c.Ready = []string{"DISTGEAR_NAME=" + name}, "serves as"
	s.all[name] = geartest.Start(s.long, c)
	kind := map[string]string{"master": "ordered", "work": "ship"}[role]
	geartest.Eventually(s.t, 0, name+" is known", func() bool {
		for m, err := range s.n.Members(s.t.Context()) {
			if err == nil && m.Name == cluster.NodeName(name) && m.State == cluster.Alive {
				for _, k := range m.Kinds {
					if k == kind {
						return true
					}
				}
			}
		}
		return false
	})
}

// hold holds requests about an order up; open lets them go on.
func (s *street) hold(request string) (open func()) {
	c := make(chan struct{})
	s.mu.Lock()
	s.held[request] = c
	s.mu.Unlock()
	open = sync.OnceFunc(func() { close(c) })
	s.t.Cleanup(open)
	return open
}

// until waits until so many of these requests have come.
func (s *street) until(request string, times int) {
	s.t.Helper()
	geartest.Eventually(s.t, 0, request, func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.came[request] >= times
	})
}

func (s *street) raise(text string) *distgear.Future[string] {
	s.t.Helper()
	o, err := parse(text)
	if err != nil {
		s.t.Fatal(err)
	}
	f, err := (&shop{}).ordered().Raise(s.t.Context(), s.n, o, distgear.ID(o.ID))
	if err != nil {
		s.t.Fatal(err)
	}
	return f
}

func (s *street) wait(f *distgear.Future[string]) (string, error) {
	ctx, cancel := context.WithTimeout(s.t.Context(), 30*time.Second)
	defer cancel()
	return f.Wait(ctx)
}

// where is who owns a run, and who does its step.
func (s *street) where(f *distgear.Future[string], step string) (owner, worker string) {
	s.t.Helper()
	rec, err := s.n.FindRun(s.t.Context(), f.ID())
	if err != nil || len(rec.Plans) != 1 {
		s.t.Fatalf("%+v %v", rec, err)
	}
	for _, x := range rec.Plans[0].Steps {
		if x.Kind == step {
			worker = string(x.Node)
		}
	}
	return string(rec.Node), worker
}

// kill kills a process, and starts it again.
func (s *street) kill(name string) (again func()) {
	s.t.Helper()
	if s.all[name] == nil {
		s.t.Fatalf("no process %q", name)
	}
	s.all[name].Kill()
	return func() { s.start(name) }
}

// TestProcesses runs the program as a street of processes. It prints what it prints
// alone; masters and workers are killed in the midst of orders and of their rollback, and each order's effects are there once, or not at all.
func TestProcesses(t *testing.T) {
	s := newStreet(t)
	var sent []string
	part := func(name string, body func(s *street)) {
		t.Run(name, func(t *testing.T) {
			s.t = t
			body(s)
			check(t, s.dir, sent...)
		})
	}
	part("as alone", func(s *street) {
		c := s.child("desk-1", "lamp-2@Oslo", "desk-3@Atlantis", "palace-4")
		c.Ready = "desk-1:"
		p := geartest.Start(s.t, c)
		printed(s.t, p)
		if err := p.Wait(); err != nil {
			s.t.Error(err)
		}
		sent = append(sent, "desk-1", "lamp-2")
	})
	part("the master is killed while it is paid", func(s *street) {
		open := s.hold("/charges desk-5")
		f := s.raise("desk-5")
		s.until("/charges desk-5", 1)
		owner, _ := s.where(f, "pay")
		again := s.kill(owner)
		open()
		if out, err := s.wait(f); err != nil {
			s.t.Error(out, err)
		}
		if after, _ := s.where(f, "pay"); after == owner {
			s.t.Errorf("%s, which was killed, ended it", after)
		}
		sent = append(sent, "desk-5")
		again()
	})
	part("the master is killed in the rollback", func(s *street) {
		open := s.hold("/refunds lamp-6")
		f := s.raise("lamp-6@Atlantis")
		s.until("/refunds lamp-6", 1)
		owner, _ := s.where(f, "pay")
		again := s.kill(owner)
		open()
		if out, err := s.wait(f); !errors.Is(err, errAddress) {
			s.t.Error(out, err)
		}
		if rec, err := s.n.FindRun(s.t.Context(), f.ID()); err != nil || rec.State != record.RolledBack || string(rec.Node) == owner {
			s.t.Errorf("%s at %s, %v", rec.State, rec.Node, err)
		}
		again()
	})
	part("the worker is killed while it pays", func(s *street) {
		open := s.hold("/charges lamp-7")
		f := s.raise("lamp-7")
		s.until("/charges lamp-7", 1)
		_, worker := s.where(f, "pay")
		again := s.kill(worker)
		s.until("/charges lamp-7", 2) // under the same key, while the first is there
		open()
		if out, err := s.wait(f); err != nil {
			s.t.Error(out, err)
		}
		sent = append(sent, "lamp-7")
		again()
	})
}

// TestBank: an Idempotency-Key is charged once, and never after it was refunded, also by a bank that
// was started again.
func TestBank(t *testing.T) {
	dir := t.TempDir()
	for i, x := range []struct {
		path, key, body string
		want            int
	}{
		{"/charges", "a", `{"amount": 5}`, http.StatusCreated},
		{"/charges", "a", `{"amount": 5}`, http.StatusOK},
		{"/charges", "a", `{"amount": 6}`, http.StatusConflict},
		{"/refunds", "b", ``, http.StatusOK},
		{"/charges", "b", `{"amount": 5}`, http.StatusGone},
		{"/refunds", "a", ``, http.StatusOK},
		{"/refunds", "a", ``, http.StatusOK},
		{"/charges", "a", `{"amount": 5}`, http.StatusGone},
		{"/charges", "c", `{"amount": 100001}`, http.StatusPaymentRequired},
		{"/charges", "", `{"amount": 5}`, http.StatusBadRequest},
		{"/charges", "c", `{"amount": -5}`, http.StatusBadRequest},
		{"/refunds", "", ``, http.StatusBadRequest},
	} {
		b, err := openBank(dir) // again for each
		if err != nil {
			t.Fatal(err)
		}
		q := httptest.NewRequestWithContext(t.Context(), http.MethodPost, x.path, strings.NewReader(x.body))
		q.Header.Set("Idempotency-Key", x.key)
		w := httptest.NewRecorder()
		b.handler().ServeHTTP(w, q)
		if w.Code != x.want {
			t.Errorf("%d: %s %s: %d %s, want %d", i, x.path, x.key, w.Code, w.Body, x.want)
		}
		if err := b.close(); err != nil {
			t.Error(err)
		}
	}
	book, err := os.ReadFile(filepath.Join(dir, "book"))
	if want := `{"key":"a","amount":5}` + "\n" + `{"key":"b","amount":0}` + "\n" + `{"key":"a","amount":-5}` + "\n"; err != nil || string(book) != want {
		t.Errorf("the book is %s, want %s", book, want)
	}
}
