package runs

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/distgear/distgear/internal/journal"
)

// said is a journal that acknowledges at once.
type said struct {
	mu    sync.Mutex
	units int
}

func (s *said) Append(e journal.Entry, then func(error)) {
	s.mu.Lock()
	s.units++
	s.mu.Unlock()
	go then(nil)
}

// What is kept back until another plan has computed an input is not in the journal: who
// waits for that goes on waiting.
func TestDurable_KeptBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := &said{}
		r := &Run{host: &Host{Clock: time.Now}}
		l := &durable{Lease: journal.Lease{Journal: j}, r: r, past: &journal.Past{}}
		l.wake.L = &r.mu
		d := &drive{r: r, reads: true, calls: []int{0}}
		d.wake.L = &r.mu
		r.log, r.plans = l, []planned{{d: d}}
		done := make(chan int)
		go func() {
			r.mu.Lock()
			defer r.mu.Unlock()
			l.unit.Add(&journal.Record{Kind: journal.Stopped})
			l.flush(time.Now())
			if err := l.settled(); err != nil {
				t.Error(err)
			}
			j.mu.Lock()
			defer j.mu.Unlock()
			done <- j.units
		}()
		synctest.Wait()
		select {
		case n := <-done:
			t.Fatalf("it went on, with %d units in the journal", n)
		default:
		}
		r.mu.Lock()
		d.calls = nil
		l.flush(time.Now())
		r.mu.Unlock()
		if n := <-done; n != 1 {
			t.Errorf("%d units in the journal", n)
		}
	})
}
