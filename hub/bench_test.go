package hub_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/distgear/distgear/hub"
	"github.com/distgear/distgear/internal/client"
	"github.com/distgear/distgear/internal/engine"
	"github.com/distgear/distgear/internal/operation"
)

// BenchmarkStore stores 100 B in a map of the hub's ledger, 256 at a time.
func BenchmarkStore(b *testing.B) {
	for _, tier := range []string{"memory", "disk"} {
		b.Run(tier, func(b *testing.B) {
			cfg := hub.Config{Listen: "127.0.0.1:0", TTL: time.Second, Logger: quiet()}
			if tier == "disk" {
				cfg.Dir = b.TempDir()
			}
			h, err := hub.Start(b.Context(), cfg)
			if err != nil {
				b.Fatal(err)
			}
			defer h.Close()
			conn, err := engine.Dial(b.Context(), engine.ConnConfig{URLs: h.URL(), Logger: quiet()})
			if err != nil {
				b.Fatal(err)
			}
			defer conn.Close()
			c := client.New(client.Config{Conn: conn, Prefix: h.Prefix(), Name: "b", TTL: time.Minute, Logger: quiet()})
			defer c.Close()
			o := c.Object(operation.KMap, "m", 0, nil)
			keys := make([][]byte, 10_000)
			for i := range keys {
				keys[i] = fmt.Append(nil, "key-", i)
			}
			val := make([]byte, 100)
			b.ReportAllocs()
			b.SetParallelism(128)
			b.RunParallel(func(pb *testing.PB) {
				for i := 0; pb.Next(); i++ {
					if _, err := o.Do(b.Context(), operation.Op{Verb: operation.VMapStore, Key: keys[i%len(keys)], Val: val}, false); err != nil {
						b.Error(err)
						return
					}
				}
			})
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "stores/s")
		})
	}
}
