package shared_test

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/distgear/distgear"
	"github.com/distgear/distgear/geartest"
	"github.com/distgear/distgear/internal/objects"
	"github.com/distgear/distgear/shared"
)

// locksOf is how many locks a node keeps.
func locksOf(n *distgear.Node) (all int) {
	for _, v := range n.Room().Values() {
		if _, ok := v.(*objects.Lock); ok {
			all++
		}
	}
	return all
}

// TestMutex_IdleIsForgotten: by the hub, and by the node when nobody has a handle; who has one goes on.
func TestMutex_IdleIsForgotten(t *testing.T) {
	placements(t, func(t *testing.T, nodes []*distgear.Node) {
		ctx, n := t.Context(), nodes[1]
		open := func() (all int) {
			for _, s := range collect(t, shared.Sessions(ctx, nodes[0])) {
				all += s.Open
			}
			return all
		}
		kept := shared.NewMutex(n, "kept")
		var last shared.Token
		use := func() {
			t.Helper()
			must(t, kept.Do(ctx, func(_ context.Context, now shared.Token) error {
				if now <= last {
					t.Errorf("token %d after %d", now, last)
				}
				last = now
				return nil
			}))
		}
		use()
		held, err := shared.NewMutex(n, "held").Lock(ctx)
		must(t, err)
		byKey := shared.NewMap[int, int](n, "map")
		for i := range 100 {
			must(t, byKey.Key(i).Do(ctx, nothing))
		}
		objects.Tidy(n.Room())
		if all := open(); all != 102 {
			t.Fatalf("%d are open", all)
		}
		use()
		objects.Tidy(n.Room())
		geartest.Eventually(t, 10*time.Second, "what was used since, or is held, is open", func() bool { return open() == 2 })
		geartest.Eventually(t, 10*time.Second, "the others are forgotten", func() bool { runtime.GC(); return locksOf(n) == 2 })
		objects.Tidy(n.Room())
		objects.Tidy(n.Room())
		geartest.Eventually(t, 10*time.Second, "what is held is open", func() bool { return open() == 1 })
		use()
		must(t, held.Unlock())
	})
}

// TestMutex_TidyWhileInUse: whatever is closed under a lock that is wanted.
func TestMutex_TidyWhileInUse(t *testing.T) {
	placements(t, func(t *testing.T, nodes []*distgear.Node) {
		stop := make(chan struct{})
		var tidying, users sync.WaitGroup
		for _, n := range nodes {
			tidying.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
						objects.Tidy(n.Room())
					}
				}
			})
		}
		var inside sync.Mutex
		for i := range 6 {
			users.Go(func() {
				for k := range 25 {
					m := shared.NewMutex(nodes[i%3], fmt.Sprint("m", k%2))
					err := m.Do(t.Context(), func(context.Context, shared.Token) error {
						if k%2 == 0 {
							if !inside.TryLock() {
								t.Error("two inside")
								return nil
							}
							inside.Unlock()
						}
						return nil
					})
					if err != nil {
						t.Error(err)
					}
				}
			})
		}
		users.Wait()
		close(stop)
		tidying.Wait()
	})
}
