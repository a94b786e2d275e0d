package shared_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/distgear/distgear"
	"github.com/distgear/distgear/cluster"
	"github.com/distgear/distgear/geartest"
	"github.com/distgear/distgear/shared"
)

// hubsAndNodes are hubs in processes, one on disk or three, and a node for each name.
func hubsAndNodes(t *testing.T, hubs int, names ...cluster.NodeName) (*geartest.HubProcesses, []*distgear.Node) {
	t.Helper()
	h := geartest.StartHubs(t, geartest.Hubs{Role: "hubs", Count: hubs, Disk: hubs == 1, TTL: 3 * time.Second})
	var nodes []*distgear.Node
	for _, name := range names {
		nodes = append(nodes, join(t, distgear.Config{Name: name, Hub: h.URLs()}))
	}
	return h, nodes
}

// killWriter kills the hub that writes; the only one is started again.
func killWriter(h *geartest.HubProcesses, hubs int) {
	i := h.Writer()
	h.Kill(i)
	if hubs == 1 {
		h.Start(i)
	}
}

// leaveAll lets nodes leave while there is a hub: the clean-up of a hub that was started again comes first.
func leaveAll(t *testing.T, nodes []*distgear.Node) {
	t.Helper()
	for _, n := range nodes {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		if err := n.Leave(ctx); err != nil {
			t.Error(err)
		}
		cancel()
	}
}

// C05: nodes change objects of each kind, the active hub is killed, and fresh nodes find all that was acknowledged, and no more.
func TestObjects_C05_MutateKillValidate(t *testing.T) {
	t.Parallel()
	for what, hubs := range map[string]int{"one hub on disk": 1, "three hubs": 3} {
		t.Run(what, func(t *testing.T) {
			t.Parallel() // mostly it waits for elections
			const each = 120
			h, nodes := hubsAndNodes(t, hubs, "m0", "m1", "m2")
			ctx := t.Context()
			var wg sync.WaitGroup
			for i, n := range nodes {
				wg.Go(func() {
					entries, set := shared.NewMap[string, int](n, "entries"), shared.NewMap[int, struct{}](n, "set")
					queue, sum := shared.NewQueue[int](n, "queue", 0), shared.NewCounter(n, "sum")
					for k := range each {
						err := errors.Join(entries.Store(ctx, fmt.Sprint(i, "/", k), k), set.Store(ctx, 1000*i+k, struct{}{}))
						if k%2 == 1 {
							_, err2 := set.Delete(ctx, 1000*i+k)
							err = errors.Join(err, err2)
						}
						_, err2 := sum.Add(ctx, int64(k))
						if err = errors.Join(err, err2); err != nil {
							t.Error(err)
							return
						}
					}
					items := make([]int, each)
					for k := range items {
						items[k] = 1000*i + k
					}
					_, err := queue.PutAll(ctx, items...)
					_, err2 := shared.NewLatch(n, "latch", 4).CountDown(ctx, fmt.Sprint(i))
					err3 := shared.NewWaitGroup(n, "group").Add(ctx, 2)
					err4 := shared.NewOnce(n, "once").Do(ctx, func(context.Context) error { return nil })
					if err := errors.Join(err, err2, err3, err4); err != nil {
						t.Error(err)
					}
				})
			}
			wg.Wait()
			lead, err := shared.NewElection(nodes[0], "lead").Campaign(ctx, "m0")
			must(t, err)
			lock, err := shared.NewMutex(nodes[1], "held").Lock(ctx)
			must(t, err)
			permits, err := shared.NewSemaphore(nodes[2], "permits", 3).Acquire(ctx, 2)
			must(t, err)

			killWriter(h, hubs)

			validators := []*distgear.Node{
				join(t, distgear.Config{Name: "v0", Hub: h.URLs()}), join(t, distgear.Config{Name: "v1", Hub: h.URLs()}),
			}
			for _, v := range validators {
				seen := 0
				for e, err := range shared.NewMap[string, int](v, "entries").All(ctx) {
					must(t, err)
					var i, k int
					if n, err := fmt.Sscanf(e.Key, "%d/%d", &i, &k); n != 2 || err != nil || k != e.Value {
						t.Errorf("%+v", e)
					}
					seen++
				}
				inSet, err := shared.NewMap[int, struct{}](v, "set").Len(ctx)
				must(t, err)
				sum, err := shared.NewCounter(v, "sum").Load(ctx)
				must(t, err)
				missing, err := shared.NewLatch(v, "latch", 4).Missing(ctx)
				must(t, err)
				done, err := shared.NewOnce(v, "once").Done(ctx)
				must(t, err)
				leader, err := shared.NewElection(v, "lead").Leader(ctx)
				must(t, err)
				if seen != 3*each || inSet != 3*each/2 || sum != 3*each*(each-1)/2 || missing != 1 || !done || leader.Token != lead.Token() {
					t.Errorf("%d entries, %d in the set, sum %d, latch %d, once %v, leader %+v", seen, inSet, sum, missing, done, leader)
				}
				if _, ok, err := shared.NewMutex(v, "held").TryLock(ctx); ok || err != nil { // it is still held
					t.Error(ok, err)
				}
				if _, ok, err := shared.NewSemaphore(v, "permits", 3).TryAcquire(ctx, 2); ok || err != nil {
					t.Error(ok, err)
				}
			}
			items, err := shared.NewQueue[int](validators[0], "queue", 0).Drain(ctx)
			must(t, err)
			last := map[int]int{}
			for _, id := range items { // those of each node in its order
				if id%1000 != last[id/1000] {
					t.Errorf("item %d where %d should be", id, id/1000*1000+last[id/1000])
				}
				last[id/1000] = id%1000 + 1
			}
			if len(items) != 3*each {
				t.Errorf("%d items", len(items))
			}
			must(t, errors.Join(lock.Unlock(), permits.Release(), lead.Resign())) // the holders have noticed nothing
			must(t, shared.NewMutex(validators[1], "held").Do(ctx, nothing))
			leaveAll(t, append(nodes, validators...))
		})
	}
}

// L13, L14: one waits on a condition, another was notified and waits for the lock, when the hub is killed. Both go on as if nothing had been.
func TestCond_L14_WaitingAndNotifiedOverAKilledHub(t *testing.T) {
	t.Parallel()
	for what, hubs := range map[string]int{"one hub on disk": 1, "three hubs": 3} {
		t.Run(what, func(t *testing.T) {
			t.Parallel() // mostly it waits for elections
			h, nodes := hubsAndNodes(t, hubs, "a", "b", "c")
			ctx := t.Context()
			woken := make(chan int, 2) // both
			var ws []waiting
			for i := range 2 {
				m := shared.NewMutex(nodes[i], "m")
				ws = append(ws, waitOn(ctx, t, m, shared.NewCond(m, "go"), i, woken))
			}
			m := shared.NewMutex(nodes[2], "m")
			c := shared.NewCond(m, "go")
			s, err := m.Lock(ctx)
			must(t, err)
			must(t, c.Signal(s)) // 0 is notified, and waits for the lock
			roundTrips(t, nodes[2])
			killWriter(h, hubs)
			roundTrips(t, nodes[2]) // it serves again
			if len(woken) > 0 {
				t.Error("woken while the lock is held")
			}
			must(t, s.Unlock())
			if got := <-woken; got != 0 {
				t.Errorf("%d was woken", got)
			}
			must(t, <-ws[0].err)
			if hubs == 1 { // of three no majority would be left
				killWriter(h, hubs)
			}
			must(t, m.Do(ctx, func(ctx context.Context, _ shared.Token) error { return nil }))
			s, err = m.Lock(ctx)
			must(t, err)
			must(t, errors.Join(c.Signal(s), s.Unlock()))
			if got := <-woken; got != 1 {
				t.Errorf("%d was woken", got)
			}
			must(t, <-ws[1].err)
			leaveAll(t, nodes)
		})
	}
}

// C27: blocked in each wait of locks and queues, a node loses its session, comes back and is blocked again; twice.
func TestLocksAndQueues_C27_RejoinWhileBlocked(t *testing.T) {
	const ttl = 300 * time.Millisecond // of the membership; the ledger's is three times that
	c := geartest.StartCluster(t, geartest.Nodes{Count: 1, Proxied: true, Configure: func(cfg *distgear.Config) { cfg.TTL = ttl }})
	ctx, here, there := t.Context(), c.Here(), c.Node(c.Name(0))
	held, err := shared.NewMutex(here, "lock").Lock(ctx)
	must(t, err)
	writing, err := shared.NewRWMutex(here, "rw").Lock(ctx)
	must(t, err)
	empty, full := shared.NewQueue[int](there, "empty", 1), shared.NewQueue[int](there, "full", 1)
	must(t, full.Put(ctx, 7))
	cm := shared.NewMutex(there, "c")
	for round := range 2 {
		woken := make(chan int, 1)
		waits := map[string]<-chan error{
			"lock":       later(func() error { _, err := shared.NewMutex(there, "lock").Lock(ctx); return err }),
			"write lock": later(func() error { _, err := shared.NewRWMutex(there, "rw").Lock(ctx); return err }),
			"read lock":  later(func() error { _, err := shared.NewRWMutex(there, "rw").RLock(ctx); return err }),
			"take":       later(func() error { _, err := empty.Take(ctx); return err }),
			"put":        later(func() error { return full.Put(ctx, 8) }),
			"transfer":   later(func() error { _, err := empty.Transfer(ctx, full); return err }),
			"condition":  waitOn(ctx, t, cm, shared.NewCond(cm, "never"), 0, woken).err,
		}
		mine, err := shared.NewMutex(there, "mine").Lock(ctx)
		must(t, err)
		roundTrips(t, there)
		c.Cut(c.Name(0))
		<-mine.Lost()
		is(t, "unlock", mine.Unlock(), shared.ErrSessionLost)
		for what, w := range waits {
			is(t, fmt.Sprint(what, " in round ", round), <-w, shared.ErrSessionLost)
		}
		must(t, shared.NewMutex(here, "mine").Do(ctx, nothing)) // free, when the hub has seen the loss
		must(t, shared.NewMutex(here, "c").Do(ctx, nothing))
		c.Heal(c.Name(0))
		must(t, shared.NewMutex(there, "mine").Do(ctx, nothing)) // in the new session
	}
	must(t, errors.Join(held.Unlock(), writing.Unlock()))
	must(t, shared.NewMutex(there, "lock").Do(ctx, nothing))
	must(t, shared.NewRWMutex(there, "rw").Do(ctx, nothing))
	// What was put by a session that was lost may be in or not; nobody took.
	items, err := full.Drain(ctx)
	if err != nil || len(items) < 1 || items[0] != 7 {
		t.Error(items, err)
	}
	must(t, empty.Put(ctx, 9))
	if v, err := empty.Take(ctx); v != 9 || err != nil {
		t.Error(v, err)
	}
}
