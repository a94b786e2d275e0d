package tasks

import (
	"fmt"
	"runtime"
	"testing"

	"github.com/distgear/distgear/internal/machine"
)

type job struct{ Task[*job] }

// BenchmarkPlain is a task without options: submitted, leased, done.
func BenchmarkPlain(b *testing.B) {
	for _, ahead := range []int{1, 10_000} {
		b.Run(fmt.Sprint(ahead), func(b *testing.B) {
			b.ReportAllocs()
			m := New[*job](Limits{}, 0)
			var out Out[*job]
			m.Work(&out, 1, Offer{Slots: 8, Prefetch: 1000})
			items := make([]Item[*job], 1)
			reports := make([]Report[*job], 1)
			me := machine.Who{Session: 1}
			var leases []Effect[*job] // first is the first that is not done
			first, n := 0, 0
			submit := func() {
				j := &job{}
				items[0] = Item[*job]{Task: &j.Task, Spec: Spec{Kind: "noop", Idempotent: true}, Val: j}
				m.Submit(&out, me, How{Watch: true}, items)
			}
			sort := func() {
				for i := range out.Effects {
					switch e := &out.Effects[i]; e.Code {
					case Run:
						leases = append(leases, *e)
					case Finished:
						n++
					}
				}
				out.Reset()
			}
			for range ahead - 1 {
				submit()
				sort()
			}
			for b.Loop() {
				submit()
				sort()
				l := leases[first]
				if first++; first == 10_000 {
					leases, first = append(leases[:0], leases[first:]...), 0
				}
				reports[0] = Report[*job]{Lease: l.Lease, Outcome: OK, Val: l.Task.Val}
				m.Done(&out, 1, reports)
				sort()
			}
			if n != b.N {
				b.Fatal(n, b.N)
			}
		})
	}
}

// BenchmarkMillion is what a durable task that waits costs the hub.
func BenchmarkMillion(b *testing.B) {
	const count = 1_000_000
	for b.Loop() {
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		m := New[string](Limits{}, 0)
		var out Out[string]
		for i := range count {
			v := make([]byte, 16)
			m.Submit(&out, machine.Who{Session: 1}, How{Watch: true}, []Item[string]{{Task: &Task[string]{}, Spec: Spec{ID: fmt.Sprintf("%020d", i), Kind: "noop", Size: 16}, Val: string(v)}})
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/count, "B/task")
		if m.Len() != count {
			b.Fatal(m.Len())
		}
	}
}
