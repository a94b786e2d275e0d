package distgear_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/distgear/distgear"
	"github.com/distgear/distgear/cluster"
	"github.com/distgear/distgear/geartest"
)

// hubGone is how long the hub is away; make soak says longer.
var hubGone = flag.Duration("hubgone", 2500*time.Millisecond, "how long the hub is away in TestHubGone")

const hubGoneTTL = 500 * time.Millisecond

// hubRole is a process that is a hub, and nothing else: its argument is where it listens.
func hubRole(ctx context.Context, args []string) error {
	n, err := distgear.Join(ctx, distgear.Config{Name: "hub", Serve: args[0], TTL: hubGoneTTL})
	if err != nil {
		return err
	}
	geartest.Ready(n.HubURL())
	<-ctx.Done()
	return n.Leave(context.WithoutCancel(ctx))
}

// freeAddr is a loopback address that nobody listens on.
func freeAddr(t *testing.T) string {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// book is what ran, and what callers were told, by the input of each command.
type book struct {
	mu   sync.Mutex
	ran  map[string]int
	told map[string]distgear.Outcome
	late []string // calls that ended long after their context
}

func (b *book) run(in string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ran[in]++
}

func (b *book) tell(in string, err error, over time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.told[in] = distgear.OutcomeOf(err)
	if over > 2*time.Second { // of a machine that is busy
		b.late = append(b.late, fmt.Sprintf("%s: %v after its context ended (%v)", in, over, err))
	}
}

// count is how many were told this.
func (b *book) count(o distgear.Outcome) (n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, t := range b.told {
		if t == o {
			n++
		}
	}
	return n
}

// audit checks that what callers were told is what happened.
func (b *book) audit(t *testing.T) {
	t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	for in, o := range b.told {
		switch n := b.ran[in]; {
		case o == distgear.OK && n != 1, o == distgear.NeverRan && n != 0, n > 1:
			t.Errorf("%s ran %d times, the caller was told: %v", in, n, o)
		}
	}
	for _, l := range b.late {
		t.Error(l)
	}
}

// The hub's process is killed under load, stays away until all leases have lapsed, and comes back: every call ended by its context, with an outcome that is
// true; new ones work, and no run is left behind.
func TestHubGone(t *testing.T) {
	t.Parallel()
	addr := freeAddr(t)
	start := func() *geartest.Process {
		return geartest.Start(t, geartest.Child{Role: "hub", Args: []string{addr}})
	}
	hub := start()
	b := &book{ran: map[string]int{}, told: map[string]distgear.Outcome{}}
	echo := &action{Name: "echo", Timeout: time.Second, Queue: time.Second, Do: func(_ context.Context, in string) (string, error) {
		b.run(in)
		return in, nil
	}, Undo: func(context.Context, did) error { return nil }}
	names := []cluster.NodeName{"a", "b", "c"}
	nodes := map[cluster.NodeName]*distgear.Node{}
	pair := &event{Name: "pair", Timeout: 2 * time.Second, On: func(ctx context.Context, r *distgear.Run, in string) (string, error) {
		p := plan{Rollback: true}
		first := echo.Step(&p, distgear.On("b"), in+" first")
		echo.Step(&p, distgear.On("c"), in+" second", first)
		return in, r.Do(ctx, &p)
	}}
	for _, name := range names {
		n, err := distgear.Join(t.Context(), distgear.Config{Name: name, Hub: hub.Ready(), Handlers: []distgear.Handler{echo, pair}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := n.Leave(context.Background()); err != nil {
				t.Errorf("leaving: %v", err)
			}
		})
		nodes[name] = n
	}
	knows := func(n *distgear.Node) bool {
		alive := 0
		for m := range n.Members(t.Context()) {
			if m.State == cluster.Alive && m.Name != "hub" {
				alive++
			}
		}
		return alive == len(names)
	}
	for _, name := range names {
		geartest.Eventually(t, patience, "all know each other", func() bool { return knows(nodes[name]) })
	}

	// The load: from each node calls to each other, and events, one after the other.
	stop := make(chan struct{})
	var load sync.WaitGroup
	var numbers atomic.Int64
	repeat := func(f func(ctx context.Context, in string) error) {
		load.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				in := fmt.Sprint("call ", numbers.Add(1))
				ctx, cancel := context.WithTimeout(context.Background(), 700*time.Millisecond)
				end, _ := ctx.Deadline()
				err := f(ctx, in)
				b.tell(in, err, time.Since(end))
				if err != nil { // not a busy loop
					<-ctx.Done()
				}
				cancel()
			}
		})
	}
	for _, from := range names {
		for _, to := range names {
			if from != to {
				repeat(func(ctx context.Context, in string) error {
					_, err := echo.Call(ctx, nodes[from], distgear.On(to), in)
					return err
				})
			}
		}
		repeat(func(ctx context.Context, in string) error {
			f, err := pair.Raise(ctx, nodes[from], in)
			if err == nil {
				_, err = f.Wait(ctx)
				b.run(in) // it is a run, counted elsewhere
			}
			if errors.Is(err, context.DeadlineExceeded) {
				return fmt.Errorf("%w: %w", distgear.ErrUnknown, err)
			}
			return nil
		})
	}
	geartest.Eventually(t, patience, "calls work", func() bool { return b.count(distgear.OK) > 300 })

	hub.Kill()
	away := time.NewTimer(*hubGone)
	defer away.Stop()
	<-away.C
	if n := b.count(distgear.Unknown) + b.count(distgear.NeverRan); n == 0 {
		t.Error("nobody missed the hub")
	}
	start()
	for _, name := range names {
		geartest.Eventually(t, patience, "all know each other again", func() bool { return knows(nodes[name]) })
	}
	before := b.count(distgear.OK)
	geartest.Eventually(t, patience, "calls work again", func() bool { return b.count(distgear.OK) > before+300 })
	for _, from := range names { // each pair
		for _, to := range names {
			in := fmt.Sprintf("afterwards %s %s", from, to)
			_, err := echo.Call(t.Context(), nodes[from], distgear.On(to), in)
			b.tell(in, err, 0)
			if err != nil {
				t.Errorf("%s: %v", in, err)
			}
		}
	}
	close(stop)
	load.Wait()
	t.Logf("ok %d, unknown %d, never ran %d", b.count(distgear.OK), b.count(distgear.Unknown), b.count(distgear.NeverRan))
	b.audit(t)
	geartest.Eventually(t, patience, "no run is left", func() bool {
		left := 0
		for r, err := range nodes["a"].Runs(t.Context()) {
			if err != nil || !r.State.Final() {
				left++
			}
		}
		return left == 0
	})
	for _, n := range nodes { // while there is a hub to be told
		if err := n.Leave(t.Context()); err != nil {
			t.Errorf("leaving: %v", err)
		}
	}
}
