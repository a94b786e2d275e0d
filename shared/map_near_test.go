package shared_test

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/distgear/distgear"
	"github.com/distgear/distgear/cluster"
	"github.com/distgear/distgear/shared"
)

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
