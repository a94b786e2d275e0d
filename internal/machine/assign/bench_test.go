package assign

import (
	"fmt"
	"testing"

	"github.com/distgear/distgear/internal/machine"
	"github.com/distgear/distgear/internal/machine/words"
)

type item struct{ Node[item] }

// BenchmarkCrowd is one more task, its lease and its end, where many keys wait that
// are at their limit, or many workers.
func BenchmarkCrowd(b *testing.B) {
	for _, c := range []struct{ keys, workers int }{{0, 1}, {100_000, 1}, {0, 1000}} {
		b.Run(fmt.Sprintf("%d keys, %d workers", c.keys, c.workers), func(b *testing.B) {
			m := New[item]()
			m.Configure(words.Limits{KeyRunning: 1})
			enter := func(key string) *item {
				t := &item{}
				t.Number = m.stamp + 1
				m.Enter(&t.Node, t, Class{Kind: "k", Idempotent: true}, key, 0)
				m.Ready(&t.Node, false)
				return t
			}
			for i := range c.workers {
				m.Work(machine.Session(i+1), words.Offer{Slots: c.keys + 8})
			}
			for range 2 { // one runs, the other waits for it
				for i := range c.keys {
					enter(fmt.Sprint("key", i))
				}
			}
			for n, _ := m.Next(); n != nil; {
				n, _ = m.Next() // all that can be leased
			}
			for b.Loop() {
				t := enter("mine")
				if n, _ := m.Next(); n != &t.Node {
					b.Fatal("another")
				}
				m.Free(&t.Node)
				m.Leave(&t.Node)
			}
		})
	}
}
