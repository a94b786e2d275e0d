package ledger

import (
	"encoding/binary"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/distgear/distgear/internal/engine"
)

// callers is a State that wakes the caller whose number an entry begins with.
type callers struct {
	wake  []chan struct{} // 1: a caller has one entry on its way
	fresh []uint32
	leads atomic.Bool
}

type woken struct {
	s   *callers
	who []uint32
}

func (w *woken) Release() {
	for _, i := range w.who {
		w.s.wake[i] <- struct{}{}
	}
}

func (s *callers) Apply(_ int64, e []byte) {
	if s.leads.Load() {
		s.fresh = append(s.fresh, binary.LittleEndian.Uint32(e))
	}
}

func (s *callers) Cut() Release {
	if len(s.fresh) == 0 {
		return nil
	}
	w := &woken{s, s.fresh}
	s.fresh = make([]uint32, 0, cap(s.fresh))
	return w
}

func (s *callers) Due() int64           { return 0 }
func (s *callers) Snapshot() []byte     { return []byte("x") }
func (s *callers) Restore([]byte) error { return nil }
func (s *callers) Lead(uint64, int64)   { s.leads.Store(true) }
func (s *callers) Follow()              { s.leads.Store(false) }

// BenchmarkEntries has callers that submit 64 bytes, wait until they are
// released and submit again. One operation is one entry.
func BenchmarkEntries(b *testing.B) {
	for _, tier := range []engine.Tier{engine.Memory, engine.File, engine.Sync} {
		for _, n := range []int{1, 16, 256, 4096} {
			b.Run(fmt.Sprintf("%v/%d", tier, n), func(b *testing.B) {
				s := server(b, engine.ServerConfig{Tier: tier, Dir: b.TempDir()})
				benchEntries(b, s, Config{Memory: tier == engine.Memory, Eager: true}, n)
			})
		}
	}
}

// BenchmarkClusterEntries is BenchmarkEntries on three servers in one process.
func BenchmarkClusterEntries(b *testing.B) {
	s := cluster(b, engine.Sync)[0]
	for _, n := range []int{1, 16, 256, 4096} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			benchEntries(b, s, Config{Replicas: 3}, n)
		})
	}
}

func benchEntries(b *testing.B, s *engine.Server, cfg Config, n int) {
	c, err := engine.Dial(b.Context(), engine.ConnConfig{Server: s, Logger: quiet()})
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	st := &callers{wake: make([]chan struct{}, n)}
	for i := range st.wake {
		st.wake[i] = make(chan struct{}, 1)
	}
	cfg.Conn, cfg.Name, cfg.Hub, cfg.State, cfg.Logger = c, "bench", "a", st, quiet()
	l, err := Open(b.Context(), cfg)
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	eventually(b, "it leads", l.Writer)
	was := l.Stats().Rounds
	b.ReportAllocs()
	b.ResetTimer()
	var left atomic.Int64
	left.Store(int64(b.N))
	done := make(chan struct{}, n) // one of each caller
	for i := range n {
		go func() { // the benchmark waits for done
			defer func() { done <- struct{}{} }()
			e := make([]byte, 64)
			binary.LittleEndian.PutUint32(e, uint32(i))
			for left.Add(-1) >= 0 {
				if err := l.Submit(e); err != nil {
					b.Error(err)
					return
				}
				<-st.wake[i]
			}
		}()
	}
	for range n {
		<-done
	}
	b.StopTimer()
	sec := b.Elapsed().Seconds()
	b.ReportMetric(float64(b.N)/sec, "entries/s")
	b.ReportMetric(float64(l.Stats().Rounds-was)/sec, "rounds/s")
}
