package sides

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/distgear/distgear"
	"github.com/distgear/distgear/shared"
)

// adder is a node that adds to one counter all the time, and watches how long it gets no answer.
type adder struct {
	stop atomic.Bool

	mu      sync.Mutex
	last    time.Time     // of an answer
	gap     time.Duration // longest time without one
	acked   uint64        // answered
	unknown uint64        // whose outcome nobody told
	err     error
}

func (a *adder) run(ctx context.Context, c *shared.Counter) {
	for !a.stop.Load() {
		_, err := c.Add(ctx, 1)
		now := time.Now()
		a.mu.Lock()
		switch {
		case err == nil:
			a.acked++
			a.gap = max(a.gap, now.Sub(a.last))
			a.last = now
		case errors.Is(err, shared.ErrSessionLost), ctx.Err() != nil:
			a.unknown++
		case a.err == nil:
			a.err = err
		}
		a.mu.Unlock()
		time.Sleep(time.Millisecond)
	}
}

// adderAnswers: "go" begins; "reset" forgets the longest silence; "gap" tells it; "halt" ends the adding; "value" reads the counter.
func adderAnswers(n *distgear.Node, answers map[string]func(string) (reply, error)) {
	a := &adder{}
	c := shared.NewCounter(n, "takeover")
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	state := func(string) (reply, error) {
		a.mu.Lock()
		defer a.mu.Unlock()
		return reply{Calls: a.acked, Values: map[string]float64{
			"gap": float64(a.gap.Microseconds()) / 1e3, "silent": float64(time.Since(a.last).Microseconds()) / 1e3, "unknown": float64(a.unknown),
		}}, a.err
	}
	answers["go"] = func(string) (reply, error) {
		_, err := c.Add(ctx, 1) // there is a session
		a.acked, a.last = 1, time.Now()
		for range 4 {
			wg.Go(func() { a.run(ctx, c) })
		}
		return reply{}, err
	}
	answers["reset"] = func(string) (reply, error) {
		a.mu.Lock()
		a.gap = 0
		a.mu.Unlock()
		return state("")
	}
	answers["gap"] = state
	answers["halt"] = func(string) (reply, error) {
		a.stop.Store(true)
		late := time.AfterFunc(20*time.Second, cancel)
		defer late.Stop()
		wg.Wait()
		return state("")
	}
	answers["value"] = func(string) (reply, error) {
		v, err := c.Load(context.Background())
		return reply{Calls: uint64(v)}, err
	}
}
