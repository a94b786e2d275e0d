package sides

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/distgear/distgear/bench/proc"
)

// gate is what 100 000 handlers wait at.
type gate struct {
	in   atomic.Int64
	open chan struct{}
}

func newGate() *gate { return &gate{open: make(chan struct{})} }

func (g *gate) wait(ctx context.Context) error {
	g.in.Add(1)
	select {
	case <-g.open:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// inBackground runs f in a goroutine and returns how to wait for it.
func inBackground(f func() (int64, error)) func() (int64, error) {
	var v int64
	var err error
	var wg sync.WaitGroup
	wg.Go(func() { v, err = f() })
	return func() (int64, error) { wg.Wait(); return v, err }
}

// memoryAnswers gives a caller the two halves of the memory row: "raise" returns when sp.Count events wait at the gate, "release" when all have ended rightly.
func memoryAnswers(sp spec, rl *role, g *gate, raise func(int64) func() (int64, error)) {
	waits := make([]func() (int64, error), sp.Count)
	rl.Answers["raise"] = func(string) (reply, error) {
		const atOnce = 500 // raised and not yet at the gate: a burst is not what is measured
		last, since := int64(0), time.Now()
		for i := range waits {
			waits[i] = raise(int64(i))
			for g.in.Load() < int64(i-atOnce) || i == len(waits)-1 && g.in.Load() < int64(len(waits)) {
				if n := g.in.Load(); n != last {
					last, since = n, time.Now()
				} else if time.Since(since) > 10*time.Second {
					return reply{}, fmt.Errorf("%d of %d events are in flight, and no more come", n, i+1)
				}
				time.Sleep(100 * time.Microsecond)
			}
		}
		return reply{}, nil
	}
	rl.Answers["release"] = func(string) (reply, error) {
		close(g.open)
		for i, wait := range waits {
			v, err := wait()
			if err != nil {
				return reply{}, fmt.Errorf("event %d: %w", i, err)
			}
			if v != int64(i) {
				return reply{}, errMixed(i, 0)
			}
		}
		if n := g.in.Load(); n != int64(len(waits)) {
			return reply{}, fmt.Errorf("%d events made %d commands", len(waits), n)
		}
		return reply{Calls: uint64(len(waits))}, nil
	}
}

// rssAnswer answers how much memory is resident in this process once it has settled, and how much of it the runtime uses for stacks and heap. The argument
// "gc" asks for one garbage collection first; nothing else is done to make it smaller.
func rssAnswer(sp spec) func(string) (reply, error) {
	return func(arg string) (reply, error) {
		if arg == "gc" {
			runtime.GC()
		}
		time.Sleep(sp.Settle)
		v, err := proc.Resident("self")
		if err != nil {
			return reply{}, err
		}
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		if sp.Profile != "" && arg == "gc" {
			if err := proc.WriteProfile(sp, "heap", ""); err != nil {
				return reply{}, err
			}
		}
		return reply{Values: map[string]float64{"rss": v, "stacks": float64(m.StackInuse), "heap": float64(m.HeapInuse)}}, nil
	}
}

// heap answers what lives in this process's heap.
func heap(sp spec) func(string) (reply, error) {
	return func(arg string) (reply, error) {
		time.Sleep(sp.Settle)
		runtime.GC()
		runtime.GC() // what finalizers and pools let go of
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		if sp.Profile != "" {
			if err := proc.WriteProfile(sp, "heap", arg); err != nil {
				return reply{}, err
			}
		}
		return reply{Values: map[string]float64{"heap": float64(m.HeapAlloc)}}, nil
	}
}
