package main

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"syscall"
	"time"
)

// sharedRows are the rows of issue 3.
func sharedRows() []row {
	sized := func(callers, count int, window time.Duration) func(bool) spec {
		return func(quick bool) spec {
			if quick {
				return spec{Callers: callers, Count: min(count, 500), Warm: 20 * time.Millisecond, Window: 50 * time.Millisecond}
			}
			return spec{Callers: callers, Count: count, Warm: window / 4, Window: window, Settle: 12 * time.Second} // a file store forgets its blocks after 10 s
		}
	}
	takeover := func(quick bool) spec {
		if quick {
			return spec{Callers: 4, Count: 1}
		}
		return spec{Callers: 4, Count: 10}
	}
	perCall := func(b bar) []line {
		return []line{
			{value: "ns", Unit: "ns", bar: b},
			{value: "allocs", What: "allocations"},
		}
	}
	contended := func(lines ...line) []line {
		return append(lines,
			line{value: "unfair", What: "p99 wait ÷ fair share (callers × mean time from grant to grant)", bar: bar{limit: 3, atMost: true}},
			line{value: "p50", What: "p50 wait", Unit: "µs"},
			line{value: "p99", What: "p99 wait", Unit: "µs"})
	}
	over := []line{
		{value: "all", What: "worst of three nodes, one at each hub; median", Unit: "ms", bar: bar{limit: 2000, atMost: true}},
		{value: "others", What: "worst of the nodes at the other hubs; median", Unit: "ms", bar: bar{limit: 2000, atMost: true}},
		{value: "max", What: "worst of all", Unit: "ms"},
		{value: "unknown", What: "operations of unknown outcome"},
	}
	whole := []line{over[0], over[1], over[2], over[3]}
	whole[0].bar.limit, whole[1].bar.limit = 3000, 3000
	own := []string{"distgear"}
	rows := []row{
		{Name: "shared-lock", What: "lock and unlock, no other node wants it, one goroutine, the server in another process", sides: []string{"distgear", "etcd", "redsync"},
			size: sized(1, 0, time.Second), trial: remote, lines: perCall(bar{limit: 150, atMost: true})},
		{Name: "shared-alone-mutex", What: "alone: lock and unlock (Go: sync.Mutex)", sides: []string{"distgear", "go"}, size: sized(1, 0, time.Second), trial: solo, lines: append(
			perCall(bar{limit: 10, atMost: true, of: "go"}),
			line{value: "contended", What: "eight goroutines want it all the time", Unit: "ns", bar: bar{limit: 10, atMost: true, of: "go"}})},
		{Name: "shared-handoff-memory", What: "one lock, 16 callers in each of two processes, server in memory", sides: []string{"distgear", "redsync"}, size: sized(16, 0, 5*time.Second), trial: handoff,
			lines: contended(
				line{value: "handoffs", What: "hand-offs between processes", Unit: "1/s", bar: bar{limit: 1, of: "redsync"}},
				line{value: "grants", What: "grants", Unit: "1/s", bar: bar{limit: 1, of: "redsync"}})},
		{Name: "shared-handoff-fsync", What: "the same, server syncs to disk", sides: []string{"distgear", "etcd"}, size: sized(16, 0, 5*time.Second), trial: handoff,
			lines: contended(
				line{value: "handoffs", What: "hand-offs between processes", Unit: "1/s", bar: bar{limit: 4000}},
				line{value: "grants", What: "grants", Unit: "1/s"})},
		{Name: "shared-memory-lock", What: "heap for an idle lock, used once", sides: own, size: sized(0, 500_000, time.Second), trial: bytesEach, lines: []line{
			{value: "hub", What: "at the hub", Unit: "B", bar: bar{limit: 300, atMost: true}},
			{value: "caller", What: "at the node that keeps it", Unit: "B"}}},
		{Name: "shared-takeover-frozen", What: "last answer to first answer, three hubs: SIGSTOP of the writer, whose stream has its leader at another hub", sides: own, once: true, size: takeover, trial: takeOver, lines: over},
		{Name: "shared-takeover-killed", What: "the same, SIGKILL", sides: own, once: true, size: takeover, trial: takeOver, lines: over},
		{Name: "shared-takeover-hub", What: "the same, SIGKILL of the hub that is the writer and has the stream's leader", sides: own, once: true, size: takeover, trial: takeOver, lines: whole},
		{Name: "shared-takeover-foreign", What: "last answer to first answer, two hubs on three nats-servers with the defaults of NATS: SIGKILL of the hub that is the writer", sides: own, once: true,
			size: foreignSize, trial: takeOverForeign, lines: []line{
				{value: "hub", What: "worst of three nodes; median", Unit: "ms", bar: bar{limit: 10_000, atMost: true}},
				{value: "hubmax", What: "worst of all", Unit: "ms"},
				{value: "server", What: "SIGKILL of the server that leads the stream; median", Unit: "ms", bar: bar{limit: 10_000, atMost: true}},
				{value: "servermax", What: "of it the worst", Unit: "ms"},
				{value: "unknown", What: "operations of unknown outcome"}}},
	}
	return append(rows, valueRows(sized, perCall)...)
}

func foreignSize(quick bool) spec {
	if quick {
		return spec{Callers: 4, Count: 1}
	}
	return spec{Callers: 4, Count: 5}
}

// valueRows are the rows of issue 3 about maps and queues.
func valueRows(sized func(callers, count int, window time.Duration) func(bool) spec, perCall func(bar) []line) []row {
	own, alone := []string{"distgear"}, []string{"distgear", "go"}
	five := bar{limit: 5, atMost: true, of: "go"}
	rate := func(limit float64) []line { return []line{{value: "rate", Unit: "1/s", bar: bar{limit: limit}}} }
	return []row{
		{Name: "shared-alone-map-load", What: "alone: load one of 10 000 entries, string → string of 100 B (Go: sync.Map)", sides: alone, size: sized(1, 10_000, time.Second), trial: solo, lines: perCall(five)},
		{Name: "shared-alone-map-store", What: "alone: store one of 10 000 entries", sides: alone, size: sized(1, 10_000, time.Second), trial: solo, lines: perCall(five)},
		{Name: "shared-alone-queue", What: "alone: put and take an int64, one goroutine (Go: channel)", sides: alone, size: sized(1, 1024, time.Second), trial: solo, lines: append(
			perCall(five),
			line{value: "between", What: "from one goroutine to another", Unit: "ns", bar: five})},
		{Name: "shared-map", What: "durable map: stores, 256 in flight, 100 B; each key read again by another node", sides: own, size: sized(256, 0, 4*time.Second), trial: stores, lines: rate(150e3)},
		{Name: "shared-queue", What: "durable queue: put and take through two processes, 256 in flight each; each item checked", sides: own, size: sized(256, 0, 4*time.Second), trial: passed, lines: rate(100e3)},
		{Name: "shared-queue-many", What: "the same with PutAll and TakeN, 64 at a time, 16 in flight each", sides: own, size: sized(16, 0, 4*time.Second), trial: passed, lines: rate(100e3)},
		{Name: "shared-memory-entry", What: "heap for an idle map entry of 100 B", sides: own, size: sized(0, 500_000, time.Second), trial: bytesEach, lines: []line{
			{value: "hub", What: "at the hub", Unit: "B", bar: bar{limit: 400, atMost: true}},
			{value: "caller", What: "at the node that stored it", Unit: "B"}}},
	}
}

// inMemory tells whether a folder is on a tmpfs.
func inMemory(dir string) bool {
	var s syscall.Statfs_t
	const tmpfs = 0x01021994
	return syscall.Statfs(dir, &s) == nil && runtime.GOOS == "linux" && s.Type == tmpfs
}

// fsyncOf says how long a small write and its sync take in a folder: durable figures hang on it.
func fsyncOf(dir string) string {
	f, err := os.CreateTemp(dir, "distgear-bench-")
	if err != nil {
		return err.Error()
	}
	defer os.Remove(f.Name())
	defer f.Close()
	took := make([]time.Duration, 300)
	for i := range took {
		t := time.Now()
		if _, err := f.Write(make([]byte, 400)); err != nil {
			return err.Error()
		}
		if err := f.Sync(); err != nil {
			return err.Error()
		}
		took[i] = time.Since(t)
	}
	slices.Sort(took)
	us := func(i int) string { return number(float64(took[i].Nanoseconds()) / 1e3) }
	return fmt.Sprintf("p50 %s µs, p90 %s µs, p99 %s µs", us(len(took)/2), us(len(took)*9/10), us(len(took)*99/100))
}
