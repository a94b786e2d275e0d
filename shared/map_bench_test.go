package shared_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/distgear/distgear"
	"github.com/distgear/distgear/shared"
)

func alone(b *testing.B) *distgear.Node {
	b.Helper()
	return join(b, distgear.Config{Name: "alone"})
}

// BenchmarkMapAlone is a Map of a process that is alone beside a sync.Map; both
// have 1,024 keys.
func BenchmarkMapAlone(b *testing.B) {
	m := shared.NewMap[int, int](alone(b), "m")
	var plain sync.Map
	for i := range 1024 {
		plain.Store(i, i)
		if err := m.Store(b.Context(), i, i); err != nil {
			b.Fatal(err)
		}
	}
	ctx := context.Background()
	load := func(i int) {
		if _, ok, err := m.Load(ctx, i&1023); !ok || err != nil {
			b.Fatal(ok, err)
		}
	}
	store := func(i int) {
		if err := m.Store(ctx, i&1023, i); err != nil {
			b.Fatal(err)
		}
	}
	plainLoad := func(i int) { plain.Load(i & 1023) }
	plainStore := func(i int) { plain.Store(i&1023, i) }
	mixed := func(load, store func(int)) func(int) {
		return func(i int) {
			if i%10 == 0 {
				store(i)
			} else {
				load(i)
			}
		}
	}
	for _, c := range []struct {
		name string
		do   func(int)
	}{
		{"load/shared", load}, {"load/sync", plainLoad}, {"store/shared", store}, {"store/sync", plainStore},
		{"mixed/shared", mixed(load, store)}, {"mixed/sync", mixed(plainLoad, plainStore)},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			var seed atomic.Int64
			b.RunParallel(func(p *testing.PB) {
				for i := int(seed.Add(7919)); p.Next(); i++ {
					c.do(i)
				}
			})
		})
	}
}

// BenchmarkQueueAlone is a Queue of a process that is alone beside a channel; one
// operation is a put and a take.
func BenchmarkQueueAlone(b *testing.B) {
	q := shared.NewQueue[int](alone(b), "q", 128)
	c := make(chan int, 128)
	ctx := context.Background()
	put := func(i int) {
		if err := q.Put(ctx, i); err != nil {
			b.Error(err)
		}
	}
	take := func() {
		if _, err := q.Take(ctx); err != nil {
			b.Error(err)
		}
	}
	for _, v := range []struct {
		name string
		put  func(int)
		take func()
	}{{"shared", put, take}, {"chan", func(i int) { c <- i }, func() { <-c }}} {
		b.Run("one/"+v.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				v.put(1)
				v.take()
			}
		})
		b.Run("two/"+v.name, func(b *testing.B) {
			b.ReportAllocs()
			go func() { // ends with the takes
				for i := range b.N {
					v.put(i)
				}
			}()
			for range b.N {
				v.take()
			}
		})
	}
}

// BenchmarkMapNear reads what the node keeps, at a hub's node.
func BenchmarkMapNear(b *testing.B) {
	n := join(b, distgear.Config{Name: "a", Serve: "127.0.0.1:0"})
	ints := shared.NewMap[int, int](n, "ints")
	slices := shared.NewMap[string, []int](n, "slices")
	if err := ints.Store(b.Context(), 1, 1); err != nil {
		b.Fatal(err)
	}
	if err := slices.Store(b.Context(), "a", []int{1, 2, 3}); err != nil {
		b.Fatal(err)
	}
	b.Run("int", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, ok, err := ints.Load(b.Context(), 1); !ok || err != nil {
				b.Fatal(ok, err)
			}
		}
	})
	b.Run("slice", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, ok, err := slices.Load(b.Context(), "a"); !ok || err != nil {
				b.Fatal(ok, err)
			}
		}
	})
}

// BenchmarkMapStore has callers in one process store through a socket to the hub
// in the same process.
func BenchmarkMapStore(b *testing.B) {
	for _, dir := range []string{"", b.TempDir()} {
		hub := join(b, distgear.Config{Name: "hub", Serve: "127.0.0.1:0", Dir: dir})
		n := join(b, distgear.Config{Name: "n", Hub: hub.HubURL()})
		m := shared.NewMap[int, string](n, "m")
		for _, callers := range []int{1, 256} {
			b.Run(fmt.Sprintf("disk=%t/%d", dir != "", callers), func(b *testing.B) {
				b.ReportAllocs()
				var left atomic.Int64
				left.Store(int64(b.N))
				var wg sync.WaitGroup
				for range callers {
					wg.Go(func() {
						for {
							i := left.Add(-1)
							if i < 0 {
								return
							}
							if err := m.Store(b.Context(), int(i&0xffff), "a value of some sixty-four bytes, which is what they are made of"); err != nil {
								b.Error(err)
								return
							}
						}
					})
				}
				wg.Wait()
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "stores/s")
			})
		}
	}
}

// BenchmarkQueueNodes moves items from one node to another: one goroutine at each
// that puts and takes many at once, or 256 that put and take one.
func BenchmarkQueueNodes(b *testing.B) {
	for _, dir := range []string{"", b.TempDir()} {
		hub := join(b, distgear.Config{Name: "hub", Serve: "127.0.0.1:0", Dir: dir})
		from := shared.NewQueue[string](join(b, distgear.Config{Name: "from", Hub: hub.HubURL()}), "q", 100_000)
		to := shared.NewQueue[string](join(b, distgear.Config{Name: "to", Hub: hub.HubURL()}), "q", 100_000)
		const item = "an item of some sixty-four bytes, which is what they are made of"
		many := make([]string, 2000)
		for i := range many {
			many[i] = item
		}
		b.Run(fmt.Sprintf("disk=%t/many", dir != ""), func(b *testing.B) {
			b.ReportAllocs()
			go func() { // ends with the takes
				for left := b.N; left > 0; left -= len(many) {
					if _, err := from.PutAll(b.Context(), many[:min(left, len(many))]...); err != nil {
						b.Error(err)
					}
				}
			}()
			for left := b.N; left > 0; {
				some, err := to.TakeN(b.Context(), min(left, len(many)))
				if err != nil {
					b.Fatal(err)
				}
				left -= len(some)
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "items/s")
		})
		b.Run(fmt.Sprintf("disk=%t/256", dir != ""), func(b *testing.B) {
			b.ReportAllocs()
			var puts, takes atomic.Int64
			puts.Store(int64(b.N))
			takes.Store(int64(b.N))
			var wg sync.WaitGroup
			for range 256 {
				wg.Go(func() {
					for puts.Add(-1) >= 0 {
						if err := from.Put(b.Context(), item); err != nil {
							b.Error(err)
						}
					}
				})
				wg.Go(func() {
					for takes.Add(-1) >= 0 {
						if _, err := to.Take(b.Context()); err != nil {
							b.Error(err)
						}
					}
				})
			}
			wg.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "items/s")
		})
	}
}
