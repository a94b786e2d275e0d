package distgear_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/distgear/distgear"
	"github.com/distgear/distgear/cluster"
	"github.com/distgear/distgear/geartest"
	"github.com/distgear/distgear/record"
)

func TestOutcomeOf(t *testing.T) {
	for _, c := range []struct {
		err  error
		want distgear.Outcome
	}{
		{nil, distgear.OK},
		{errBoom, distgear.Unknown},
		{distgear.ErrUnknown, distgear.Unknown},
		{distgear.Clean(errBoom), distgear.FailedClean},
		{distgear.RetryAfter(errBoom, time.Second), distgear.FailedClean},
		{distgear.Permanent(errBoom), distgear.Unknown},
		{fmt.Errorf("%w: %w", distgear.ErrTimeout, distgear.Clean(errBoom)), distgear.FailedClean},
		{distgear.ErrNoNode, distgear.NeverRan},
		{distgear.ErrLeft, distgear.NeverRan},
		{distgear.ErrOverloaded, distgear.NeverRan},
		{distgear.ErrInvalid, distgear.NeverRan},
		{distgear.ErrQueueTimeout, distgear.NeverRan},
		{distgear.ErrRefused, distgear.NeverRan},
		{fmt.Errorf("so: %w", &distgear.RemoteError{Outcome: distgear.FailedDirty}), distgear.FailedDirty},
	} {
		if got := distgear.OutcomeOf(c.err); got != c.want {
			t.Errorf("OutcomeOf(%v) = %v, want %v", c.err, got, c.want)
		}
	}
	if distgear.Clean(nil) != nil || distgear.Permanent(nil) != nil || distgear.RetryAfter(nil, 1) != nil {
		t.Error("a mark on nil is an error")
	}
}

// Sentinels keep their identity on the way.
func TestErrorsCrossTheWire(t *testing.T) {
	both(t, func(t *testing.T, w *world) {
		w.fails("a", fmt.Errorf("outer: %w", errors.Join(errBoom, distgear.Clean(os.ErrNotExist))))
		_, err := w.op.Call(t.Context(), w.Here(), w.on(1), "a")
		if !errors.Is(err, errBoom) || !errors.Is(err, os.ErrNotExist) || errors.Is(err, os.ErrExist) {
			t.Errorf("got %v", err)
		}
		re, ok := errors.AsType[*distgear.RemoteError](err)
		if !ok || re.Outcome != distgear.FailedClean || re.Kind != "op" || re.Node != w.Name(1) {
			t.Errorf("got %+v", err)
		}
	})
}

func TestRaiseOptions(t *testing.T) {
	both(t, func(t *testing.T, w *world) {
		n := 0
		w.plan("id", func(context.Context, *distgear.Run) (string, error) { n++; return fmt.Sprint(n), nil })
		w.plan("other", nil)
		for range 2 {
			f, err := w.event.Raise(t.Context(), w.Here(), "id", distgear.ID("order-7"))
			if err != nil {
				t.Fatal(err)
			}
			if got, err := w.wait(f); got != "1" || err != nil || f.ID() != "order-7" {
				t.Errorf("run %s: %q, %v", f.ID(), got, err)
			}
		}
		f, err := w.event.Raise(t.Context(), w.Here(), "other", distgear.ID("order-7"))
		if err == nil {
			_, err = w.wait(f)
		}
		if !errors.Is(err, distgear.ErrConflict) {
			t.Errorf("the same ID with another input: %v", err)
		}
		for _, o := range []distgear.RaiseOption{distgear.ID("a/b"), distgear.ID(strings.Repeat("x", 201)), distgear.Delay(-1)} {
			if _, err := w.event.Raise(t.Context(), w.Here(), "id", o); !errors.Is(err, distgear.ErrInvalid) {
				t.Errorf("%v: %v", o, err)
			}
		}
		start := time.Now()
		f = w.raise(func(context.Context, *distgear.Run) (string, error) { return "late", nil }, distgear.Delay(100*time.Millisecond))
		if got, err := w.wait(f); got != "late" || err != nil || time.Since(start) < 100*time.Millisecond {
			t.Errorf("%q, %v after %v", got, err, time.Since(start))
		}
	})
}

// Wait obeys its context, and the run goes on.
func TestFutureWait(t *testing.T) {
	both(t, func(t *testing.T, w *world) {
		release := make(chan struct{})
		f := w.raise(func(context.Context, *distgear.Run) (string, error) { <-release; return "fine", nil })
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(errBoom)
		if _, err := f.Wait(ctx); !errors.Is(err, errBoom) {
			t.Errorf("got %v", err)
		}
		if _, err := w.op.Call(ctx, w.Here(), w.on(1), "never"); !errors.Is(err, errBoom) || distgear.OutcomeOf(err) != distgear.NeverRan {
			t.Errorf("Call with an ended context: %v", err)
		}
		if _, err := w.event.Raise(ctx, w.Here(), "never"); !errors.Is(err, errBoom) {
			t.Errorf("Raise with an ended context: %v", err)
		}
		close(release)
		if got, err := w.wait(f); got != "fine" || err != nil {
			t.Errorf("got %q, %v", got, err)
		}
		if got, err := f.Wait(ctx); got != "fine" || err != nil {
			t.Errorf("what is known is told whatever ctx says: %q, %v", got, err)
		}
		w.never("do never")
	})
}

// A caller that gives up cancels the command.
func TestCallGivesUp(t *testing.T) {
	both(t, func(t *testing.T, w *world) {
		w.do("a", func(ctx context.Context, _ cluster.NodeName) (string, error) { <-ctx.Done(); return "", ctx.Err() })
		ctx, cancel := context.WithCancel(t.Context())
		go func() { w.saw("do a"); cancel() }()
		if _, err := w.op.Call(ctx, w.Here(), w.on(1), "a"); !errors.Is(err, distgear.ErrUnknown) || !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		w.saw("end a")
	})
}

func TestLeave(t *testing.T) {
	both(t, func(t *testing.T, w *world) {
		n := w.Node(w.Name(1))
		release := make(chan struct{})
		w.do("a", func(context.Context, cluster.NodeName) (string, error) { <-release; return "fine", nil })
		answer := make(chan error, 1)
		go func() {
			_, err := w.op.Call(t.Context(), w.Here(), w.on(1), "a")
			answer <- err
		}()
		w.saw("do a")
		left := make(chan error, 2)
		for range 2 { // twice at once
			go func() { left <- n.Leave(t.Context()) }()
		}
		select {
		case <-n.Done():
			t.Error("it left before what was in flight had ended")
		case <-time.After(50 * time.Millisecond):
		}
		close(release)
		for range 2 {
			if err := <-left; err != nil {
				t.Errorf("Leave: %v", err)
			}
		}
		if err := <-answer; err != nil {
			t.Errorf("what was in flight: %v", err)
		}
		<-n.Done()
		if err := n.Leave(t.Context()); err != nil || !errors.Is(n.Err(), distgear.ErrLeft) {
			t.Errorf("afterwards: %v, %v", err, n.Err())
		}
		if err := n.Handle(&action{Name: "new", Do: func(context.Context, string) (string, error) { return "", nil }}); !errors.Is(err, distgear.ErrLeft) {
			t.Errorf("Handle: %v", err)
		}
	})
}

// Without a hub there is nobody to tell: Leave does not wait for one.
func TestLeave_HubGone(t *testing.T) {
	hub, err := distgear.Join(t.Context(), distgear.Config{Name: "hub", Serve: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	n, err := distgear.Join(t.Context(), distgear.Config{Name: "n", Hub: hub.HubURL()})
	if err != nil {
		t.Fatal(err)
	}
	if err := hub.Leave(t.Context()); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if err := n.Leave(t.Context()); err != nil {
		t.Fatal(err)
	}
	if d := time.Since(began); d > 1500*time.Millisecond { // 0.4 s, on a machine that is not busy
		t.Errorf("it took %v", d)
	}
}

// When its context ends Leave cancels what runs, and says so.
func TestLeaveHard(t *testing.T) {
	n, err := distgear.Join(t.Context(), distgear.Config{})
	if err != nil {
		t.Fatal(err)
	}
	began, ended := make(chan struct{}), make(chan struct{})
	ev := &event{Name: "e", On: func(ctx context.Context, _ *distgear.Run, _ string) (string, error) {
		close(began)
		<-ctx.Done()
		close(ended)
		return "", ctx.Err()
	}}
	if err := n.Handle(ev); err != nil {
		t.Fatal(err)
	}
	f, err := ev.Raise(t.Context(), n, "")
	if err != nil {
		t.Fatal(err)
	}
	expect(t, "the handler runs", began)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := n.Leave(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Leave: %v", err)
	}
	expect(t, "the handler ended", ended)
	if _, err := f.Wait(t.Context()); !errors.Is(err, distgear.ErrCancelled) {
		t.Errorf("the run: %v", err)
	}
}

// All faults at once, and then nothing is added.
func TestHandleFaults(t *testing.T) {
	w := alone(t)
	fine := &action{Name: "fine", Do: func(context.Context, string) (string, error) { return "", nil }}
	err := w.Here().Handle(fine, &action{Name: "no-do"}, w.action("op", nil), &event{Name: "no-on"}, &action{Name: "a b"}, &event{Name: "_x"},
		&event{Name: "durable", Durable: true})
	if !errors.Is(err, distgear.ErrInvalid) {
		t.Errorf("got %v", err)
	}
	for _, want := range []string{"no-do", `"op"`, "no-on", `"a b"`, `"_x"`, "durable"} {
		if !strings.Contains(fmt.Sprint(err), want) {
			t.Errorf("the error lacks %s: %v", want, err)
		}
	}
	if _, err := fine.Call(t.Context(), w.Here(), distgear.Any(), ""); !errors.Is(err, distgear.ErrNoNode) {
		t.Errorf("it was added: %v", err)
	}
}

// Zero fields come from the environment, then from distgear.yaml.
func TestConfigSources(t *testing.T) {
	t.Chdir(t.TempDir())
	if err := os.WriteFile(distgear.ConfigFile, []byte("cluster: c\nname: from-file\nlabels: {zone: file}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	name := func(c distgear.Config) (cluster.Member, error) {
		n, err := distgear.Join(t.Context(), c)
		if err != nil {
			return cluster.Member{}, err
		}
		defer func() { _ = n.Leave(t.Context()) }()
		for m, err := range n.Members(t.Context()) {
			return m, err
		}
		return cluster.Member{}, errors.New("no member")
	}
	m, err := name(distgear.Config{})
	if err != nil || m.Name != "from-file" || m.Labels["zone"] != "file" {
		t.Errorf("%+v, %v", m, err)
	}
	t.Setenv("DISTGEAR_NAME", "from-env")
	t.Setenv("DISTGEAR_LABELS", "zone=env,ssd=yes")
	m, err = name(distgear.Config{})
	if err != nil || m.Name != "from-env" || m.Labels["zone"] != "env" || m.Labels["ssd"] != "yes" {
		t.Errorf("%+v, %v", m, err)
	}
	m, err = name(distgear.Config{Name: "from-code"})
	if err != nil || m.Name != "from-code" {
		t.Errorf("%+v, %v", m, err)
	}
	t.Setenv("DISTGEAR_TTL", "soon")
	if _, err = name(distgear.Config{}); !errors.Is(err, distgear.ErrInvalid) || !strings.Contains(err.Error(), "ttl") {
		t.Errorf("got %v", err)
	}
	t.Setenv("DISTGEAR_TTL", "3s")
	if _, err = name(distgear.Config{Cluster: "a:b"}); !errors.Is(err, distgear.ErrInvalid) || !strings.Contains(err.Error(), `"a:b"`) {
		t.Errorf("got %v", err)
	}
	if err := os.WriteFile(distgear.ConfigFile, []byte("label: typo\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err = name(distgear.Config{}); !errors.Is(err, distgear.ErrInvalid) || !strings.Contains(err.Error(), "label") {
		t.Errorf("got %v", err)
	}
}

type wrapped struct {
	distgear.Handler
	seen chan<- string
}

func (w wrapped) Serve(ctx context.Context, c *distgear.Command) ([]byte, error) {
	w.seen <- c.Kind
	return w.Handler.Serve(ctx, c)
}

func TestWrap(t *testing.T) {
	w := newWorld(t)
	seen := make(chan string, 10)
	w.Cluster = geartest.Alone(t, geartest.Nodes{Handlers: w.handlers, Configure: func(c *distgear.Config) {
		c.Wrap = func(h distgear.Handler) distgear.Handler { return wrapped{h, seen} }
	}})
	if _, err := w.op.Call(t.Context(), w.Here(), distgear.Any(), "a"); err != nil {
		t.Error(err)
	}
	if _, err := w.run(func(p *plan) { w.bare.Step(p, distgear.Any(), "b") }); err != nil {
		t.Error(err)
	}
	close(seen)
	var kinds []string
	for k := range seen {
		kinds = append(kinds, k)
	}
	if !slices.Equal(kinds, []string{"op", "run", "bare"}) {
		t.Errorf("the wrapper saw %q", kinds)
	}
}

func TestRuns(t *testing.T) {
	both(t, func(t *testing.T, w *world) {
		var ids []record.RunID
		for range 3 {
			f := w.raise(func(context.Context, *distgear.Run) (string, error) { return "", nil })
			if _, err := w.wait(f); err != nil {
				t.Fatal(err)
			}
			ids = append(ids, f.ID())
		}
		var got []record.RunID
		for r, err := range w.Here().Runs(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, r.ID)
		}
		slices.Reverse(got)
		if !slices.Equal(got, ids) {
			t.Errorf("runs %q, want %q", got, ids)
		}
		for _, err := range []error{
			func() error { _, err := w.Here().FindRun(t.Context(), "nobody's"); return err }(),
			w.Here().CancelRun(t.Context(), "nobody's"),
			w.Here().ResolveUndo(t.Context(), "nobody's", "a", record.Retry, ""),
		} {
			if !errors.Is(err, distgear.ErrNoRun) {
				t.Errorf("got %v", err)
			}
		}
	})
}

// A handler of NodeJoin runs a plan on the node that joins, and may refuse it.
func TestNodeJoin(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	hub, err := distgear.Join(ctx, distgear.Config{Name: "hub", Serve: "127.0.0.1:0", TTL: slow})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = hub.Leave(ctx) }()
	seen := make(chan cluster.Member, 1)
	err = hub.Handle(&distgear.Event[cluster.Member, string]{Name: distgear.NodeJoin, On: func(ctx context.Context, r *distgear.Run, m cluster.Member) (string, error) {
		if m.Name == "bad" {
			return "", errors.New("not you")
		}
		seen <- m
		return "", nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	if n, err := distgear.Join(ctx, distgear.Config{Name: "bad", Hub: hub.HubURL()}); !errors.Is(err, distgear.ErrRefused) || !strings.Contains(err.Error(), "not you") {
		if n != nil {
			_ = n.Leave(ctx)
		}
		t.Errorf("got %v", err)
	}
	n, err := distgear.Join(ctx, distgear.Config{Name: "good", Hub: hub.HubURL()})
	if err != nil {
		t.Fatal(err)
	}
	if m := <-seen; m.Name != "good" || m.State != cluster.Joining {
		t.Errorf("asked about %+v", m)
	}
	if err := n.Leave(ctx); err != nil {
		t.Error(err)
	}
}

// Before a node counts as a member a plan may run on it, and nobody else
// reaches it until then.
func TestNodeJoin_RunsAPlanThere(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	hub, err := distgear.Join(ctx, distgear.Config{Name: "hub", Serve: "127.0.0.1:0", TTL: slow})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = hub.Leave(ctx) }()
	prepare := func(did *atomic.Int32) *distgear.Action[string, string] {
		return &distgear.Action[string, string]{Name: "prepare", Do: func(_ context.Context, in string) (string, error) {
			did.Add(1)
			return "prepared " + in, nil
		}}
	}
	var elsewhere, there atomic.Int32
	op := prepare(&elsewhere)
	err = hub.Handle(op, &distgear.Event[cluster.Member, string]{Name: distgear.NodeJoin,
		On: func(ctx context.Context, r *distgear.Run, m cluster.Member) (string, error) {
			if _, err := op.Call(ctx, r.Node(), distgear.On(m.Name), "early"); !errors.Is(err, distgear.ErrNoNode) {
				t.Errorf("a call outside of the init plan reached the node: %v", err)
			}
			var p distgear.Plan
			s := op.Step(&p, distgear.On(m.Name), string(m.Name))
			if err := r.Do(ctx, &p); err != nil {
				return "", err
			}
			return s.Result()
		}})
	if err != nil {
		t.Fatal(err)
	}
	n, err := distgear.Join(ctx, distgear.Config{Name: "new", Hub: hub.HubURL(), Handlers: []distgear.Handler{prepare(&there)}})
	if err != nil {
		t.Fatal(err)
	}
	if there.Load() != 1 || elsewhere.Load() != 0 {
		t.Errorf("prepared %d times there, %d elsewhere", there.Load(), elsewhere.Load())
	}
	if err := n.Leave(ctx); err != nil {
		t.Error(err)
	}
}

// The hub goes and comes back on the same port: the nodes find each other again.
func TestHubComesBack(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	join := func(c distgear.Config) *distgear.Node {
		n, err := distgear.Join(ctx, c)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	_ = l.Close()
	echo := func(n *distgear.Node) *action {
		return &action{Name: "echo", Timeout: time.Second, Queue: time.Second, Do: func(_ context.Context, in string) (string, error) { return in, nil }}
	}
	hub := join(distgear.Config{Name: "hub", Serve: addr, TTL: time.Second})
	a, b := join(distgear.Config{Name: "a", Hub: "nats://" + addr}), join(distgear.Config{Name: "b", Hub: "nats://" + addr})
	if err := b.Handle(echo(b)); err != nil {
		t.Fatal(err)
	}
	if err := hub.Leave(ctx); err != nil {
		t.Fatal(err)
	}
	hub = join(distgear.Config{Name: "hub", Serve: addr, TTL: time.Second})
	missing := map[cluster.NodeName]bool{"a": true, "b": true}
	for m := range hub.Watch(ctx) { // they rejoin by themselves
		if m.State == cluster.Alive {
			delete(missing, m.Name)
		}
		if len(missing) == 0 {
			break
		}
	}
	call := echo(nil)
	geartest.Eventually(t, patience, "a reaches b", func() bool {
		got, err := call.Call(ctx, a, distgear.On("b"), "hi")
		return got == "hi" && err == nil
	})
	if err := hub.Leave(ctx); err != nil {
		t.Error(err)
	}
	start := time.Now()
	for _, n := range []*distgear.Node{a, b} { // without a hub that could be told
		if err := n.Leave(ctx); err != nil {
			t.Error(err)
		}
	}
	if d := time.Since(start); d > patience {
		t.Errorf("leaving without a hub took %v", d)
	}
}

// A node that must leave while an undo is stuck leaves nothing behind in the
// process; who waits for the run is told.
func TestLeaveHard_StuckUndo(t *testing.T) {
	t.Parallel()
	n, err := distgear.Join(t.Context(), distgear.Config{})
	if err != nil {
		t.Fatal(err)
	}
	good := &distgear.Action[string, string]{Name: "good",
		Do: func(context.Context, string) (string, error) { return "", nil },
		Undo: func(context.Context, distgear.Did[string, string]) error {
			return distgear.Permanent(errors.New("never"))
		}}
	bad := &distgear.Action[string, string]{Name: "bad", Do: func(context.Context, string) (string, error) { return "", errors.New("boom") }}
	ev := &distgear.Event[string, string]{Name: "ev", On: func(ctx context.Context, r *distgear.Run, in string) (string, error) {
		p := distgear.Plan{Rollback: true}
		a := good.Step(&p, distgear.Any(), in)
		bad.Step(&p, distgear.Any(), in, a)
		return "", r.Do(ctx, &p)
	}}
	if err := n.Handle(good, bad, ev); err != nil {
		t.Fatal(err)
	}
	f, err := ev.Raise(t.Context(), n, "x")
	if err != nil {
		t.Fatal(err)
	}
	for rec, err := range n.WatchRun(t.Context(), f.ID()) {
		if err != nil {
			t.Fatal(err)
		}
		if rec.State == record.Stuck {
			break
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := n.Leave(ctx); err == nil {
		t.Error("left a stuck run without a word")
	}
	if _, err := f.Wait(t.Context()); !errors.Is(err, distgear.ErrLeft) {
		t.Errorf("the run ended with %v", err)
	}
}

// around is a handler that somebody built around an event.
type around struct {
	e    *distgear.Event[string, string]
	seen chan string
}

func (a around) Kind() string { return a.e.Kind() }

func (a around) Serve(ctx context.Context, c *distgear.Command) ([]byte, error) {
	out, err := a.e.Serve(ctx, c)
	a.seen <- c.Kind // the command is the handler's until it returns
	return out, err
}

func TestHandlerAroundAnEvent(t *testing.T) {
	t.Parallel()
	n, err := distgear.Join(t.Context(), distgear.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = n.Leave(t.Context()) }()
	ev := &distgear.Event[string, string]{Name: "ev", On: func(_ context.Context, _ *distgear.Run, in string) (string, error) { return in, nil }}
	h := around{ev, make(chan string, 100)}
	if err := n.Handle(h); err != nil {
		t.Fatal(err)
	}
	for range cap(h.seen) {
		f, err := ev.Raise(t.Context(), n, "x")
		if err != nil {
			t.Fatal(err)
		}
		if out, err := f.Wait(t.Context()); err != nil || out != "x" {
			t.Fatal(out, err)
		}
		if k := <-h.seen; k != "ev" {
			t.Fatalf("the command was taken away: kind %q", k)
		}
	}
}
