package shared_test

import (
	"context"
	"errors"
	"net"
	"testing"
	"time"

	"github.com/distgear/distgear"
	"github.com/distgear/distgear/geartest"
	"github.com/distgear/distgear/shared"
)

// later runs f in a goroutine that has begun, and gives its error.
func later(f func() error) <-chan error {
	c, began := make(chan error, 1), make(chan struct{})
	go func() { close(began); c <- f() }()
	<-began
	return c
}

// roundTrips are answered by the hub one after the other: what was about to be sent before is with it then.
func roundTrips(t *testing.T, n *distgear.Node) {
	t.Helper()
	for range 50 {
		_, err := shared.NewCounter(n, "sync").Add(t.Context(), 1)
		must(t, err)
	}
}

// openAll makes waits for these objects one message.
func openAll(t *testing.T, n *distgear.Node) {
	t.Helper()
	_, err := shared.NewBarrier(n, "met", 3).Reset(t.Context())
	must(t, err)
	_, err = shared.NewLatch(n, "ready", 3).Missing(t.Context())
	must(t, err)
	must(t, shared.NewWaitGroup(n, "jobs").Add(t.Context(), 1))
}

// useAll uses each object once, from one node.
func useAll(t *testing.T, n *distgear.Node) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for what, use := range map[string]func() error{
		"counter":   func() error { _, err := shared.NewCounter(n, "counter").Add(ctx, 1); return err },
		"semaphore": func() error { return shared.NewSemaphore(n, "semaphore", 3).Do(ctx, 3, nothing) },
		"latch":     func() error { _, err := shared.NewLatch(n, "latch", 2).CountDown(ctx, "a"); return err },
		"wait group": func() error {
			return shared.NewWaitGroup(n, "group").Do(ctx, func(context.Context) error { return nil })
		},
		"election": func() error { return shared.NewElection(n, "election").Do(ctx, string(n.Name()), nothing) },
		"once":     func() error { return shared.NewOnce(n, "once").Do(ctx, func(context.Context) error { return nil }) },
		"barrier": func() error {
			b := shared.NewBarrier(n, "barrier", 2)
			if _, err := b.Reset(ctx); err != nil {
				return err
			}
			other := later(func() error { _, _, err := b.Await(ctx); return err })
			_, _, err := b.Await(ctx)
			return errors.Join(err, <-other)
		},
		"topic": func() error {
			topic := shared.NewTopic[string](n, "topic")
			s, err := topic.Subscribe(ctx, 0)
			if err != nil {
				return err
			}
			defer s.Close()
			if _, err := topic.Publish(ctx, "x"); err != nil {
				return err
			}
			_, err = s.Next(ctx)
			return err
		},
	} {
		if err := use(); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func nothing(context.Context, shared.Token) error { return nil }

// Each object, when a node is cut off from the hub until its session is lost: what it held is free, its waits end, and after that it works again.
func TestObjects_C27_L10_SessionLost(t *testing.T) {
	const ttl = 400 * time.Millisecond // of the membership; the ledger's is three times that
	c := geartest.StartCluster(t, geartest.Nodes{Count: 1, Proxied: true, Configure: func(cfg *distgear.Config) { cfg.TTL = ttl }})
	ctx, here, there := t.Context(), c.Here(), c.Node(c.Name(0))
	useAll(t, there)

	// What there holds, and waits for.
	semaphore := shared.NewSemaphore(there, "held", 3)
	permits, err := semaphore.Acquire(ctx, 2)
	must(t, err)
	election := shared.NewElection(there, "led")
	lead, err := election.Campaign(ctx, "there")
	must(t, err)
	sub, err := shared.NewTopic[string](there, "news").Subscribe(ctx, 0)
	must(t, err)
	_, err = shared.NewTopic[string](here, "news").Publish(ctx, "before")
	must(t, err)
	openAll(t, there)
	seen := make(chan shared.Leader, 100) // more than there are
	watching, stop := context.WithCancel(ctx)
	defer stop()
	observed := later(func() error {
		for l, err := range election.Observe(watching) {
			if err != nil {
				return err
			}
			seen <- l
		}
		return nil
	})
	if l := <-seen; l.Token != lead.Token() {
		t.Error(l)
	}
	inside := make(chan struct{})
	waits := map[string]<-chan error{
		"acquire":    later(func() error { _, err := semaphore.Acquire(ctx, 2); return err }),
		"campaign":   later(func() error { _, err := election.Campaign(ctx, "second"); return err }),
		"barrier":    later(func() error { _, _, err := shared.NewBarrier(there, "met", 3).Await(ctx); return err }),
		"latch":      later(func() error { return shared.NewLatch(there, "ready", 3).Wait(ctx) }),
		"wait group": later(func() error { return shared.NewWaitGroup(there, "jobs").Wait(ctx) }),
		"once": later(func() error {
			return shared.NewOnce(there, "made").Do(ctx, func(ctx context.Context) error {
				close(inside)
				<-ctx.Done()
				return context.Cause(ctx)
			})
		}),
		"do": later(func() error {
			return semaphore.Do(ctx, 1, func(ctx context.Context, _ shared.Token) error {
				<-ctx.Done()
				return context.Cause(ctx)
			})
		}),
	}
	<-inside
	met := later(func() error { _, _, err := shared.NewBarrier(here, "met", 3).Await(ctx); return err })
	roundTrips(t, there)
	roundTrips(t, here)

	c.Cut(c.Name(0))
	pending := later(func() error { _, err := shared.NewCounter(there, "sync").Add(ctx, 1); return err })
	<-permits.Lost()
	<-lead.Lost()
	is(t, "release", permits.Release(), shared.ErrSessionLost)
	is(t, "resign", lead.Resign(), shared.ErrSessionLost)
	is(t, "add", <-pending, shared.ErrSessionLost, distgear.ErrUnknown)
	for what, w := range waits {
		is(t, what, <-w, shared.ErrSessionLost)
	}
	if m, err := sub.Next(ctx); m.Value != "before" || err != nil {
		t.Error(m, err)
	}
	_, err = sub.Next(ctx)
	is(t, "subscription", err, shared.ErrSessionLost)

	// What the others see.
	err = <-met
	if e, ok := errors.AsType[*shared.BrokenError](err); !ok || e.Reason != shared.BrokenLost {
		t.Error("barrier:", err)
	}
	all, err := shared.NewSemaphore(here, "held", 3).Acquire(ctx, 3)
	must(t, err)
	must(t, all.Release())
	next, err := shared.NewElection(here, "led").Campaign(ctx, "here")
	must(t, err)
	if all.Token() <= permits.Token() || next.Token() <= lead.Token() {
		t.Error("tokens went back:", permits.Token(), all.Token(), lead.Token(), next.Token())
	}
	must(t, shared.NewOnce(here, "made").Do(ctx, func(context.Context) error { return nil }))

	c.Heal(c.Name(0))
	useAll(t, there)
	useAll(t, here)
	for l := range seen {
		if l == (shared.Leader{Value: "here", Token: next.Token()}) {
			break
		}
	}
	if done, err := shared.NewOnce(there, "made").Done(ctx); !done || err != nil {
		t.Error(done, err)
	}
	if p, err := semaphore.Acquire(ctx, 3); err != nil || p.Token() <= all.Token() {
		t.Error(p.Token(), err)
	}
	stop()
	is(t, "observe", <-observed, context.Canceled)
}

// The hub goes, with all it knew, and another comes on its address.
func TestObjects_C27_AnotherHub(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	addr := l.Addr().String()
	l.Close()
	const ttl = 400 * time.Millisecond
	hub, err := distgear.Join(t.Context(), distgear.Config{Name: "hub", Serve: addr, TTL: ttl})
	must(t, err)
	n := join(t, distgear.Config{Name: "n", Hub: hub.HubURL(), TTL: ttl})
	ctx := t.Context()
	useAll(t, n)
	p, err := shared.NewSemaphore(n, "held", 3).Acquire(ctx, 2)
	must(t, err)
	openAll(t, n)
	latch := later(func() error { return shared.NewLatch(n, "ready", 3).Wait(ctx) })
	barrier := later(func() error { _, _, err := shared.NewBarrier(n, "met", 3).Await(ctx); return err })
	roundTrips(t, n)
	must(t, hub.Leave(ctx))
	is(t, "while the hub is away", func() error { _, err := shared.NewCounter(n, "c").Add(brief(t, 20), 1); return err }(), context.DeadlineExceeded)
	join(t, distgear.Config{Name: "hub", Serve: addr, TTL: ttl})
	<-p.Lost()
	is(t, "latch", <-latch, shared.ErrSessionLost)
	is(t, "barrier", <-barrier, shared.ErrSessionLost)
	useAll(t, n)
	q, err := shared.NewSemaphore(n, "held", 3).Acquire(ctx, 3)
	must(t, err)
	if q.Token() <= p.Token() {
		t.Errorf("token %d after %d", q.Token(), p.Token())
	}
	must(t, q.Release())
}
