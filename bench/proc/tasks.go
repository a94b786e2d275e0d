package proc

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Tally counts how often each task ran, by the task's number: what is lost or ran twice shows. Safe for concurrent use.
type Tally []atomic.Uint32

// Ran counts one run of a task.
func (t Tally) Ran(task int) { t[task].Add(1) }

// Total is how many runs there were.
func (t Tally) Total() (runs int) {
	for i := range t {
		runs += int(t[i].Load())
	}
	return runs
}

// Check says what is wrong, unless the first n tasks ran once each and no other did.
func (t Tally) Check(n int) error {
	var lost, twice, unknown int
	for i := range t {
		switch runs := t[i].Load(); {
		case i >= n && runs > 0:
			unknown++
		case i < n && runs == 0:
			lost++
		case i < n && runs > 1:
			twice++
		}
	}
	if lost+twice+unknown > 0 {
		return fmt.Errorf("of %d tasks %d were lost and %d ran more than once; %d ran that were not submitted", n, lost, twice, unknown)
	}
	return nil
}

// Tasks runs sp.Count tasks, sp.Callers at a time, and answers ns and allocations for each. run submits the tasks first … first+n-1, of which each calls Ran, and returns
// when it has all results. One batch before is not measured.
func Tasks(sp Spec, run func(t Tally, first, n int) error) (Reply, error) {
	t := make(Tally, sp.Callers+sp.Count)
	if err := run(t, 0, sp.Callers); err != nil {
		return Reply{}, err
	}
	runtime.GC()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	began := time.Now()
	for k := sp.Callers; k < len(t); k += sp.Callers {
		if err := run(t, k, min(sp.Callers, len(t)-k)); err != nil {
			return Reply{}, err
		}
	}
	took := time.Since(began)
	runtime.ReadMemStats(&after)
	n := float64(sp.Count)
	return Reply{Calls: uint64(sp.Count), Values: map[string]float64{
		"ns":     float64(took) / n,
		"allocs": math.Round(100*float64(after.Mallocs-before.Mallocs)/n) / 100, // what the runtime did meanwhile is not the task's
	}}, t.Check(len(t))
}

// BurnDown times sp.Count tasks from the first submit to the last result. submit hands them in, of which each calls Ran; await returns when the last result is known,
// or when its context ends, because submit failed.
func BurnDown(sp Spec, submit func(t Tally) error, await func(context.Context) error) (Reply, error) {
	t := make(Tally, sp.Count)
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	var wg sync.WaitGroup
	began := time.Now()
	wg.Go(func() {
		if err := submit(t); err != nil {
			cancel(err)
		}
	})
	err := await(ctx)
	took := time.Since(began)
	if err != nil {
		cancel(err)
	}
	wg.Wait()
	if ctx.Err() != nil {
		return Reply{}, context.Cause(ctx)
	}
	return Reply{Calls: uint64(sp.Count), Values: map[string]float64{"rate": float64(sp.Count) / took.Seconds()}}, t.Check(sp.Count)
}

// fewest is how many a trial measures even if its window is over.
const fewest = 3

// Sequence runs tasks of so many steps one after another, with sp.Settle before each, until there were sp.Count or sp.Window is over. It answers the median
// and the 99th percentile of their times in ns. keep is given the tally before all else; one runs a task, of which step s calls Ran with the number task*steps+s, and
// returns with its result.
func Sequence(sp Spec, steps int, keep func(Tally), one func(task int) error) (Reply, error) {
	t := make(Tally, (sp.Count+1)*steps)
	keep(t)
	if err := one(0); err != nil { // what comes up only with the first is not measured
		return Reply{}, err
	}
	var took []float64
	for began := time.Now(); len(took) < sp.Count && (len(took) < fewest || time.Since(began) < sp.Window); {
		time.Sleep(sp.Settle)
		t0 := time.Now()
		if err := one(len(took) + 1); err != nil {
			return Reply{}, err
		}
		took = append(took, float64(time.Since(t0)))
	}
	slices.Sort(took)
	at := func(q float64) float64 { return took[int(q*float64(len(took)-1)+0.5)] }
	return Reply{Calls: uint64(len(took)), Values: map[string]float64{"p50": at(0.5), "p99": at(0.99)}}, t.Check((len(took) + 1) * steps)
}

// mostInFlight is more tasks than any side ends in a window.
const mostInFlight = 1 << 23

// InFlight has sp.Callers callers that run tasks of one step all the time, for sp.Warm and then sp.Window, and answers how many ended in a second of the window.
// The window does not begin before as many have ended as are in flight: until then a slow side only starts tasks. On a machine so slow that none ends in it, it lasts until one does.
func InFlight(sp Spec, keep func(Tally), one func(task int) error) (Reply, error) {
	t := make(Tally, mostInFlight)
	keep(t)
	var (
		next, ended atomic.Int64
		stop        = make(chan struct{})
		halt        = sync.OnceFunc(func() { close(stop) })
		some        = make(chan struct{}, 1) // one: that there was an end is enough to know
		mu          sync.Mutex
		first       error
		wg          sync.WaitGroup
	)
	for range sp.Callers {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if err := one(int(next.Add(1)) - 1); err != nil {
					mu.Lock()
					first = errors.Join(first, err)
					mu.Unlock()
					halt()
					return
				}
				ended.Add(1)
				select {
				case some <- struct{}{}:
				default:
				}
			}
		})
	}
	wait := func(d time.Duration) {
		select {
		case <-time.After(d):
		case <-stop:
		}
	}
	wait(sp.Warm)
	for stopped := false; !stopped && ended.Load() < int64(sp.Callers); {
		select {
		case <-some:
		case <-stop:
			stopped = true
		}
	}
	before := ended.Load()
	select {
	case <-some:
	default:
	}
	began := time.Now()
	wait(sp.Window)
	if ended.Load() == before {
		select {
		case <-some:
		case <-stop:
		}
	}
	n, took := ended.Load()-before, time.Since(began)
	halt()
	wg.Wait()
	if first != nil {
		return Reply{}, first
	}
	return Reply{Calls: uint64(ended.Load()), Values: map[string]float64{"rate": float64(n) / took.Seconds()}}, t.Check(int(next.Load()))
}
