package distgear_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/distgear/distgear"
	"github.com/distgear/distgear/geartest"
)

// What a frozen node is sent: more one-way commands than there is credit for, and as many goroutines that wait as the race detector can bear.
const (
	slowSends = 20_000
	slowCalls = 3000
)

// slowHandlers count what runs: "take" and the event "taken" by the number in front of their input, "ran" tells, a digit for each number.
func slowHandlers(*distgear.Node) []distgear.Handler {
	var mu sync.Mutex
	ran := map[string][]byte{}
	take := func(in string) (string, error) {
		what, rest, _ := strings.Cut(in, " ")
		number, _, _ := strings.Cut(rest, " ")
		i, err := strconv.Atoi(number)
		if err != nil || i >= slowSends {
			return "", fmt.Errorf("no number in %.20q", in)
		}
		mu.Lock()
		defer mu.Unlock()
		if ran[what] == nil {
			ran[what] = []byte(strings.Repeat("0", slowSends))
		}
		ran[what][i]++
		return number, nil
	}
	return []distgear.Handler{
		&action{Name: "take", Do: func(_ context.Context, in string) (string, error) { return take(in) }},
		&event{Name: "taken", On: func(_ context.Context, _ *distgear.Run, in string) (string, error) { return take(in) }},
		&action{Name: "ran", Do: func(_ context.Context, what string) (string, error) {
			mu.Lock()
			defer mu.Unlock()
			return string(ran[what]), nil
		}},
	}
}

// A node that is stopped while others send to it, and goes on later: every caller has an answer by its context, the memory of who sends is bounded, and what
// callers were told is what happened.
func TestSlowConsumer(t *testing.T) {
	for _, lost := range []bool{false, true} {
		t.Run(fmt.Sprintf("lost %v", lost), func(t *testing.T) {
			c := geartest.StartCluster(t, geartest.Nodes{Count: 1, Role: "slow", Handlers: slowHandlers, Configure: func(c *distgear.Config) {
				if !lost {
					c.TTL = slow
				}
			}})
			take, taken := slowHandlers(nil)[0].(*action), slowHandlers(nil)[1].(*event)
			to := distgear.On(c.Name(0))
			body := " " + strings.Repeat("x", 2000)
			c.Process(c.Name(0)).Pause()
			before := heap()

			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
			defer cancel()
			var mu sync.Mutex
			told := map[string][]distgear.Outcome{"call": make([]distgear.Outcome, slowCalls), "send": make([]distgear.Outcome, slowSends), "event": make([]distgear.Outcome, slowCalls)}
			var all sync.WaitGroup
			each := func(what string, workers int, f func(in string) error) {
				for w := range workers {
					all.Go(func() {
						for i := w; i < len(told[what]); i += workers {
							err := f(fmt.Sprintf("%s %d%s", what, i, body))
							mu.Lock()
							told[what][i] = distgear.OutcomeOf(err)
							mu.Unlock()
						}
					})
				}
			}
			each("call", slowCalls, func(in string) error { _, err := take.Call(ctx, c.Here(), to, in); return err })
			each("send", 8, func(in string) error { return take.Send(ctx, c.Here(), to, in) })
			each("event", slowCalls, func(in string) error {
				f, err := taken.Raise(ctx, c.Here(), in)
				if err != nil {
					return err
				}
				if _, err = f.Wait(ctx); errors.Is(err, context.DeadlineExceeded) {
					err = fmt.Errorf("%w: %w", distgear.ErrUnknown, err)
				}
				return err
			})
			done := make(chan struct{})
			go func() { all.Wait(); close(done) }()
			select {
			case <-done:
			case <-time.After(patience):
				t.Fatal("callers wait past their context")
			}
			if grown := int64(heap()) - int64(before); grown > 300<<20 {
				t.Errorf("the sender holds %d MiB more", grown>>20)
			}
			c.Process(c.Name(0)).Resume()
			c.Settle()
			if _, err := take.Call(t.Context(), c.Here(), to, "afterwards 1"); err != nil {
				t.Errorf("afterwards: %v", err)
			}
			for what, outcomes := range told {
				ran, err := slowHandlers(nil)[2].(*action).Call(t.Context(), c.Here(), to, what)
				if err != nil {
					t.Fatal(err)
				}
				count := map[string]int{}
				for i, o := range outcomes {
					times := 0
					if ran != "" {
						times = int(ran[i] - '0')
					}
					count[fmt.Sprintf("%v ran %d", o, times)]++
					if times > 1 || o == distgear.NeverRan && times > 0 || what != "send" && o == distgear.OK && times != 1 {
						t.Errorf("%s %d: told %v, ran %d times", what, i, o, times)
					}
				}
				t.Logf("%s: %v", what, count)
			}
		})
	}
}

// heap is how many bytes are in use.
func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
