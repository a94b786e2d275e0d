package shared_test

import (
	"bytes"
	"context"
	"errors"
	"iter"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/distgear/distgear"
	"github.com/distgear/distgear/geartest"
	"github.com/distgear/distgear/shared"
)

func collect[T any](t *testing.T, seq iter.Seq2[T, error]) (all []T) {
	t.Helper()
	for v, err := range seq {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, v)
	}
	return all
}

// TestLocks_TellsWhoHoldsAndWaits: alone and in a cluster.
func TestLocks_TellsWhoHoldsAndWaits(t *testing.T) {
	placements(t, func(t *testing.T, nodes []*distgear.Node) {
		s, err := shared.NewMutex(nodes[1], "inspected").Lock(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		r, err := shared.NewRWMutex(nodes[1], "other").RLock(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		got := make(chan error)
		go func() {
			s, err := shared.NewMutex(nodes[2], "inspected").Lock(t.Context())
			got <- errors.Join(err, s.Unlock())
		}()
		var ls []shared.LockInfo
		geartest.Eventually(t, 10*time.Second, "one waits", func() bool {
			ls = collect(t, shared.Locks(t.Context(), nodes[0], "insp"))
			return len(ls) == 1 && ls[0].Queued == 1
		})
		l := ls[0]
		if l.Name != "inspected" || l.Kind != "mutex" || len(l.Holders) != 1 || len(l.Queue) != 1 {
			t.Fatalf("%+v", l)
		}
		h, q := l.Holders[0], l.Queue[0]
		if h.Node != nodes[1].Name() || h.Mode != "write" || h.Session == "" || h.Grant != uint64(s.Token())>>20 || q.Node != nodes[2].Name() {
			t.Errorf("%+v", l)
		}
		if nodes[0] != nodes[1] {
			if d := time.Since(h.Since); d < -time.Second || d > time.Minute || !h.Recalled || l.Contentions != 1 {
				t.Errorf("%v ago: %+v", d, l)
			}
		}
		if all := collect(t, shared.Locks(t.Context(), nodes[0], "")); len(all) != 2 || all[1].Kind != "rwmutex" || all[1].Holders[0].Mode != "read" {
			t.Errorf("%+v", all)
		}
		if err := errors.Join(s.Unlock(), <-got, r.Unlock()); err != nil {
			t.Fatal(err)
		}
	})
}

func TestQueues_TellsLengthsAndWhoWaits(t *testing.T) {
	placements(t, func(t *testing.T, nodes []*distgear.Node) {
		q := shared.NewQueue[string](nodes[0], "jobs", 2)
		for _, s := range []string{"a", "b"} {
			if err := q.Put(t.Context(), s); err != nil {
				t.Fatal(err)
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		put := make(chan error)
		go func() { put <- q.Put(ctx, "c") }()
		want := shared.QueueInfo{Name: "jobs", Length: 2, Capacity: 2, Putters: 1}
		geartest.Eventually(t, 10*time.Second, "one waits to put", func() bool {
			all := collect(t, shared.Queues(t.Context(), nodes[1], ""))
			return len(all) == 1 && all[0] == want
		})
		if _, err := shared.NewCounter(nodes[1], "hits").Add(t.Context(), 7); err != nil {
			t.Fatal(err)
		}
		os := collect(t, shared.Objects(t.Context(), nodes[1], ""))
		if len(os) != 2 || os[0].Kind != "counter" || os[0].Value != 7 || os[1].Name != "jobs" || os[1].Entries != 2 || os[1].Waiting != 1 || os[1].Size != 2 {
			t.Errorf("%+v", os)
		}
		if len(os[0].Nodes) != 1 || os[0].Nodes[0] != nodes[1].Name() {
			t.Errorf("%+v", os[0])
		}
		if ss := collect(t, shared.Sessions(t.Context(), nodes[1])); len(ss) == 0 || ss[len(ss)-1].Open == 0 {
			t.Errorf("%+v", ss)
		}
		cancel()
		if err := <-put; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
}

// logs is what a logger wrote.
type logs struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logs) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *logs) has(text string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Contains(l.b.String(), text)
}

// transfer locks one and then the other, and tells between.
func transfer(ctx context.Context, n *distgear.Node, first, second string, has chan<- struct{}, goOn <-chan struct{}) error {
	return shared.NewMutex(n, first).Do(ctx, func(ctx context.Context, _ shared.Token) error {
		has <- struct{}{}
		<-goOn
		s, err := shared.NewMutex(n, second).Lock(ctx)
		if err != nil {
			return err
		}
		return s.Unlock()
	})
}

// TestCycles_TwoLocksInTwoOrders: they are found, named, and logged where the hub is.
func TestCycles_TwoLocksInTwoOrders(t *testing.T) {
	var log logs
	logger := slog.New(slog.NewTextHandler(&log, nil))
	alone := join(t, distgear.Config{Name: "alone", Logger: logger})
	hub := join(t, distgear.Config{Name: "n0", Serve: "127.0.0.1:0", Logger: logger})
	other := join(t, distgear.Config{Name: "n1", Hub: hub.HubURL()})
	for _, nodes := range [][2]*distgear.Node{{alone, alone}, {hub, other}} {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel() //nolint:revive // two rounds
		has, goOn, ended := make(chan struct{}), make(chan struct{}), make(chan error)
		go func() { ended <- transfer(ctx, nodes[0], "left", "right", has, goOn) }()
		go func() { ended <- transfer(ctx, nodes[1], "right", "left", has, goOn) }()
		<-has
		<-has
		close(goOn)
		var cs []shared.Cycle
		geartest.Eventually(t, 20*time.Second, "the cycle is found", func() bool {
			var err error
			if cs, err = shared.Cycles(t.Context(), nodes[1]); err != nil {
				t.Fatal(err)
			}
			return len(cs) == 1
		})
		locks := map[string]string{}
		for _, w := range cs[0].Waits {
			if !strings.HasSuffix(w.Func, "shared_test.transfer.func1") || len(w.Holds) != 1 || w.Since.IsZero() || w.Node == "" {
				t.Errorf("%+v", w)
			}
			locks[w.Holds[0]] = w.Lock
		}
		if len(cs[0].Waits) != 2 || locks["left"] != "right" || locks["right"] != "left" {
			t.Errorf("%+v", cs)
		}
		name := string(nodes[1].Name())
		geartest.Eventually(t, 20*time.Second, "it is logged", func() bool {
			return log.has("transfer.func1 on " + name + " holds right and waits for left")
		})
		cancel()
		if a, b := <-ended, <-ended; !errors.Is(a, context.Canceled) || b != nil && !errors.Is(b, context.Canceled) {
			t.Error(a, b)
		}
		geartest.Eventually(t, 20*time.Second, "it is over", func() bool {
			cs, err := shared.Cycles(t.Context(), nodes[1])
			return err == nil && len(cs) == 0
		})
	}
}

// TestCycles_NoFalseAlarm: a goroutine that a function under a lock started does
// not hold it: the function may return.
func TestCycles_NoFalseAlarm(t *testing.T) {
	n := join(t, distgear.Config{Name: "alone"})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	has, goOn, ended := make(chan struct{}), make(chan struct{}), make(chan error)
	waits := func(name string) {
		geartest.Eventually(t, 10*time.Second, "one waits", func() bool {
			ls := collect(t, shared.Locks(t.Context(), n, name))
			return len(ls) == 1 && ls[0].Queued == 1
		})
	}
	// This one holds left, and a goroutine of its waits for right.
	go func() {
		ended <- shared.NewMutex(n, "left").Do(ctx, func(ctx context.Context, _ shared.Token) error {
			has <- struct{}{}
			<-goOn
			go func() {
				s, err := shared.NewMutex(n, "right").Lock(ctx)
				ended <- errors.Join(err, s.Unlock())
			}()
			waits("right")
			has <- struct{}{}
			<-goOn
			return nil
		})
	}()
	<-has
	next := make(chan struct{})
	go func() { ended <- transfer(ctx, n, "right", "left", has, next) }()
	<-has
	goOn <- struct{}{}
	<-has
	close(next)
	waits("left")
	if cs, err := shared.Cycles(t.Context(), n); err != nil || len(cs) > 0 {
		t.Errorf("%+v, %v", cs, err)
	}
	goOn <- struct{}{}
	for range 3 {
		if err := <-ended; err != nil && !errors.Is(err, context.Canceled) && !errors.Is(err, shared.ErrNotHeld) {
			t.Error(err)
		}
	}
}

// TestSessions_DestroyedObjectsAreClosed: a node keeps no handle of what was destroyed, by itself or by another.
func TestSessions_DestroyedObjectsAreClosed(t *testing.T) {
	placements(t, func(t *testing.T, nodes []*distgear.Node) {
		ctx := t.Context()
		open := func() (all int) {
			for _, s := range collect(t, shared.Sessions(ctx, nodes[0])) {
				all += s.Open
			}
			return all
		}
		for range 3 {
			for _, n := range nodes[:2] {
				_, err := shared.NewCounter(n, "counter").Add(ctx, 1)
				must(t, err)
				must(t, shared.NewMap[string, int](n, "map").Store(ctx, "k", 1))
				must(t, shared.NewSemaphore(n, "semaphore", 3).Do(ctx, 3, nothing))
				must(t, shared.NewElection(n, "election").Do(ctx, "a", nothing))
				must(t, shared.NewMutex(n, "mutex").Do(ctx, nothing))
			}
			if open() == 0 {
				t.Fatal("nothing is open")
			}
			n := nodes[0]
			must(t, errors.Join(shared.NewCounter(n, "counter").Destroy(ctx), shared.NewMap[string, int](n, "map").Destroy(ctx), shared.NewSemaphore(n, "semaphore", 3).Destroy(ctx),
				shared.NewElection(n, "election").Destroy(ctx), shared.NewMutex(n, "mutex").Destroy(ctx)))
			if nodes[0] != nodes[1] { // this one finds out when it uses them
				n := nodes[1]
				_, err := shared.NewCounter(n, "counter").Load(ctx)
				_, err2 := shared.NewMap[string, int](n, "map").Len(ctx)
				_, err3 := shared.NewElection(n, "election").Leader(ctx)
				err4 := shared.NewSemaphore(n, "semaphore", 3).Do(ctx, 3, nothing)
				_, err5 := shared.NewMutex(n, "mutex").Lock(ctx)
				for _, err := range []error{err, err2, err3, err4, err5} {
					if !errors.Is(err, shared.ErrDestroyed) {
						t.Error(err)
					}
				}
			}
			geartest.Eventually(t, 10*time.Second, "nothing is open", func() bool { return open() == 0 })
		}
	})
}

// TestLatch_WaitOutlivesItsHandle: a wait is answered although nobody has a handle of the object meanwhile.
func TestLatch_WaitOutlivesItsHandle(t *testing.T) {
	placements(t, func(t *testing.T, nodes []*distgear.Node) {
		ctx := t.Context()
		done := make(chan error, 1) // one answer
		go func() { done <- shared.NewLatch(nodes[1], "latch", 1).Wait(ctx) }()
		for range 20 {
			runtime.GC()
			<-time.After(time.Millisecond)
		}
		_, err := shared.NewLatch(nodes[2], "latch", 1).CountDown(ctx, "a")
		must(t, errors.Join(err, <-done))
	})
}
