package shared_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/distgear/distgear"
	"github.com/distgear/distgear/cluster"
	"github.com/distgear/distgear/geartest"
	"github.com/distgear/distgear/shared"
)

// TestMap_GivenUpUnderALock: who gives up a change under a lock, and unlocks, has made it or not; whoever of the same
// node has the lock next sees which, and it stays so while it has the lock.
func TestMap_GivenUpUnderALock(t *testing.T) {
	c := geartest.StartCluster(t, geartest.Nodes{Count: 1, Proxied: true})
	there, here := c.Node(c.Name(0)), c.Here()
	m, lock := shared.NewMap[string, int](there, "m"), shared.NewMutex(there, "l")
	for name, change := range map[string]func(ctx context.Context, k string) error{
		"store":  func(ctx context.Context, k string) error { return m.Store(ctx, k, 2) },
		"delete": func(ctx context.Context, k string) error { _, err := m.Delete(ctx, k); return err },
		"clear":  func(ctx context.Context, _ string) error { _, err := m.Clear(ctx); return err },
		"compute": func(ctx context.Context, k string) error {
			_, _, err := m.Compute(ctx, k, func(v int, _ bool) (int, bool) { return v + 1, true })
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			noError(t, m.Store(t.Context(), name, 1))
			wantLoad(t, m, name, 1, true) // it is kept
			held, err := lock.Lock(t.Context())
			noError(t, err)
			c.Proxy(c.Name(0)).Delay(50 * time.Millisecond)
			if err := change(brief(t, 10), name); !errors.Is(err, context.DeadlineExceeded) {
				t.Fatal(err)
			}
			noError(t, held.Unlock())
			held, err = lock.Lock(t.Context())
			noError(t, err)
			first, had, err := m.Load(t.Context(), name)
			noError(t, err)
			c.Proxy(c.Name(0)).Delay(0)
			roundTrips(t, there) // the change is with the hub now, if it was made
			v, _, err := shared.NewMap[string, int](here, "m").LoadLatest(t.Context(), name)
			noError(t, err)
			if v != first || had != (v != 0) {
				t.Errorf("%d, %t is read, and then it is %d, under one lock", first, had, v)
			}
			wantLoad(t, m, name, v, v != 0)
			noError(t, held.Unlock())
		})
	}
}

// TestMap_NearCacheStorm has nodes that keep fewer entries than there are: they put out
// and read again all the time, many goroutines at once, while under each key's lock what
// is read is what was written last.
func TestMap_NearCacheStorm(t *testing.T) {
	hub := join(t, distgear.Config{Name: "n0", Serve: "127.0.0.1:0"})
	nodes := []*distgear.Node{hub}
	for i := range 2 {
		nodes = append(nodes, join(t, distgear.Config{Name: cluster.NodeName(fmt.Sprint("n", i+1)), Hub: hub.HubURL()}))
	}
	const keys, most, each = 24, 8, 120
	seed := rand.Uint64()
	t.Log("seed", seed)
	var model [keys]struct {
		sync.Mutex // for the race detector; the key's lock is what counts
		v          int
	}
	var wg sync.WaitGroup
	for i := range 12 {
		n := nodes[i%3]
		m := shared.NewMap[int, int](n, "m")
		m.KeepAtMost(most)
		r := rand.New(rand.NewPCG(seed, uint64(i)))
		wg.Go(func() {
			for range each {
				k := r.IntN(keys)
				if i%4 == 3 { // reads without a lock: it may get anything, but keeps it
					if _, _, err := m.Load(t.Context(), k); err != nil {
						t.Error(err)
					}
					continue
				}
				s, err := m.Key(k).Lock(t.Context())
				if err != nil {
					t.Error(err)
					return
				}
				v, _, err := m.Load(t.Context(), k)
				entry := &model[k]
				entry.Lock()
				want := entry.v
				entry.Unlock()
				if err != nil || v != want {
					t.Errorf("node %d: key %d: %d instead of %d, %v", i%3, k, v, want, err)
				}
				if r.IntN(2) == 0 {
					if err := m.Store(t.Context(), k, want+1); err != nil {
						t.Error(err)
					}
					entry.Lock()
					entry.v = want + 1
					entry.Unlock()
				}
				if err := s.Unlock(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	for _, n := range nodes {
		if kept := shared.NewMap[int, int](n, "m").Kept(); kept > most {
			t.Fatal("kept:", kept)
		}
	}
}
