package main

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/distgear/distgear/bench/proc"
)

// queued is a trial with many durable tasks that nobody works for: what the hub needs for them, and how long it takes until they are all there again after it was
// killed and started anew. None may be lost.
func queued(sp spec, o options) (map[string]float64, error) {
	at, err := freeAddrs(1)
	if err != nil {
		return nil, err
	}
	sp.Listen = at[0]
	s, err := open(sp, o, true, "caller")
	if err != nil {
		return nil, err
	}
	defer s.end()
	if _, err := s.callers[0].Ask("fill"); err != nil {
		return nil, err
	}
	time.Sleep(sp.Settle)
	rss, err := proc.Resident(strconv.Itoa(s.hub.Cmd.Process.Pid))
	if err != nil {
		return nil, err
	}
	if err := s.hub.Cmd.Process.Kill(); err != nil {
		return nil, err
	}
	s.hub.Stop()
	h := sp
	h.Role, h.Dir = "hub", filepath.Join(s.dir, "hub")
	began := time.Now()
	again, err := o.small.child(h)
	if err != nil {
		return nil, err
	}
	s.all = append(s.all, again)
	if _, err := s.callers[0].Ask("all"); err != nil {
		return nil, err
	}
	return map[string]float64{"rss": rss, "ready": float64(time.Since(began))}, nil
}

// recovered is a trial in which a worker is killed that was leased tasks which never end there: how long until the last has ended at the other one.
func recovered(sp spec, o options) (map[string]float64, error) {
	s, err := open(sp, o, true, "caller", "worker", "worker")
	if err != nil {
		return nil, err
	}
	defer s.end()
	if _, err := s.callers[0].Ask("stick"); err != nil {
		return nil, err
	}
	if err := s.callers[1].Cmd.Process.Kill(); err != nil {
		return nil, err
	}
	began := time.Now()
	_, err = s.callers[0].Ask("ended")
	return map[string]float64{"gap": float64(time.Since(began))}, err
}

// rested is a trial with runs that wait: what the heaps of all processes grow by for each. Some are woken, and must end as they should.
func rested(sp spec, o options) (map[string]float64, error) {
	s, err := open(sp, o, true, "caller", "worker")
	if err != nil {
		return nil, err
	}
	defer s.end()
	began := time.Now()
	who := map[string]*proc.Child{"hub": s.hub, "caller": s.callers[0], "worker": s.callers[1]}
	v := map[string]float64{}
	measure := func(factor float64) error {
		for name, c := range who {
			r, err := c.Ask("heap 0")
			if err != nil {
				return err
			}
			v[name] += factor * r.Values["heap"] / float64(sp.Count)
		}
		return nil
	}
	if err := measure(-1); err != nil {
		return nil, err
	}
	for _, q := range []struct {
		who      *proc.Child
		question string
	}{{s.callers[0], "fill"}, {s.callers[1], "rest"}} {
		if _, err := q.who.Ask(q.question); err != nil {
			return nil, err
		}
	}
	v["took"] = float64(time.Since(began))
	if err := measure(1); err != nil {
		return nil, err
	}
	_, err = s.callers[0].Ask("wake")
	return v, err
}

// computed is a trial with tasks that use a processor for 1 ms each, at two workers with a slot each: the share of two processors that went into tasks, of what
// other programs left of them. It needs Linux: /proc/stat says what all programs used.
func computed(sp spec, o options) (map[string]float64, error) {
	s, err := open(sp, o, true, "caller", "worker", "worker")
	if err != nil {
		return nil, err
	}
	defer s.end()
	if _, err := s.callers[0].Ask("warm"); err != nil {
		return nil, err
	}
	ours, err := s.usage()
	if err != nil {
		return nil, err
	}
	all, err := busy()
	if err != nil {
		return nil, err
	}
	began := time.Now()
	if _, err := s.callers[0].Ask("run"); err != nil {
		return nil, err
	}
	took := time.Since(began).Seconds()
	allAfter, err := busy()
	if err != nil {
		return nil, err
	}
	oursAfter, err := s.usage()
	if err != nil {
		return nil, err
	}
	used := oursAfter["cpu"] - ours["cpu"]
	others := max(allAfter-all-used, 0)
	cores := float64(min(runtime.NumCPU(), 2))
	useful := float64(sp.Count) / 1000
	return map[string]float64{"share": 100 * useful / (cores*took - others*cores/float64(runtime.NumCPU())), "own": 100 * (used - useful) / useful}, nil
}

// busy is how long processors were in use since the machine began, in seconds, and what the machine below took.
func busy() (float64, error) {
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, err
	}
	line, _, _ := strings.Cut(string(b), "\n")
	f := strings.Fields(line) // cpu user nice system idle iowait irq softirq steal …
	if len(f) < 9 || f[0] != "cpu" {
		return 0, fmt.Errorf("/proc/stat: %q", line)
	}
	var ticks float64
	for _, i := range []int{1, 2, 3, 6, 7, 8} {
		v, err := strconv.ParseFloat(f[i], 64)
		if err != nil {
			return 0, err
		}
		ticks += v
	}
	return ticks / 100, nil
}
