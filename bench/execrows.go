package main

import (
	"fmt"
	"strings"
	"time"
)

// execRows are the rows of issue 4.
//
// How long the tasks of a worker wait that was killed is not measured of the rivals: asynq needs about 90 s, River an hour, by their defaults.
func execRows() []row {
	alone := func(inFlight, count int) func(bool) spec {
		return func(quick bool) spec {
			if quick {
				return spec{Callers: min(inFlight, 300), Count: 900}
			}
			return spec{Callers: inFlight, Count: count}
		}
	}
	perTask := []line{
		{value: "ns", Unit: "ns", bar: bar{limit: 1, atMost: true, of: "pond"}},
		{value: "ns", What: "the same, to ants", Unit: "ns", bar: bar{limit: 1.5, atMost: true, of: "ants"}},
		{value: "allocs", What: "allocations"},
	}
	burn := []line{
		{value: "rate", Unit: "1/s", bar: bar{limit: 10, of: "asynq"}},
		{value: "rate", What: "the same, to Redis in memory", Unit: "1/s", bar: bar{limit: 2, of: "asynq-memory"}},
		{value: "rate", What: "the same, to River", Unit: "1/s", bar: bar{limit: 10, of: "river"}},
	}
	pools := []string{"distgear", "pond", "ants"}
	return []row{
		{Name: "exec-alone-1", What: "alone: submit and result of a task that does nothing, one in flight (ants: without result)", sides: pools, size: alone(1, 300_000), trial: pooled, lines: perTask},
		{Name: "exec-alone-many", What: "the same, 10 000 in flight, each submitted by itself with a future of its own", sides: pools, size: alone(10_000, 2_000_000), trial: pooled, lines: perTask},
		{Name: "exec-alone-group", What: "the same, 10 000 handed in together (DistGear: InvokeAll; pond: a group)", sides: pools[:2], size: alone(10_000, 2_000_000), trial: pooled, lines: []line{perTask[0], perTask[2]}},
		{Name: "exec-fast", What: "fast: tasks that do nothing, first submit to last result, two workers", sides: []string{"distgear"}, trial: executed,
			size: func(quick bool) spec {
				if quick {
					return spec{Count: 300}
				}
				return spec{Count: 1_000_000}
			}, lines: []line{{value: "rate", Unit: "1/s", bar: bar{limit: 300_000}}}},
		{Name: "exec-durable", What: "durable: 100 000 tasks that do nothing, first submit to last result (fsync, but for Redis in memory)",
			sides: []string{"distgear", "asynq", "asynq-memory", "river"}, trial: executed, lines: burn,
			size: func(quick bool) spec {
				if quick {
					return spec{Count: 300}
				}
				return spec{Count: 100_000}
			}},
		{Name: "exec-durable-latency", What: "durable: submit to result, one task at a time on an idle system (fsync)", sides: []string{"distgear", "asynq", "river"}, trial: executed,
			size: func(quick bool) spec {
				if quick {
					return spec{Count: 1}
				}
				return spec{Count: 500, Window: 30 * time.Second, Settle: 20 * time.Millisecond}
			}, lines: latency(bar{limit: 1, atMost: true}, bar{limit: 5, atMost: true})},
		{Name: "exec-durable-recovery", What: "durable: a worker with 64 leased tasks is killed: until the last has ended elsewhere (fsync)", sides: []string{"distgear"}, trial: recovered,
			size: func(bool) spec { return spec{Count: 128} }, lines: []line{{value: "gap", Unit: "ms", scale: 1e-6, bar: bar{limit: 3000, atMost: true}}}},
		{Name: "exec-durable-queued", What: "durable: 1 000 000 tasks of 16 B queued (fsync)", sides: []string{"distgear"}, trial: queued,
			size: func(quick bool) spec {
				if quick {
					return spec{Count: 1000}
				}
				return spec{Count: 1_000_000, Settle: 5 * time.Second}
			}, lines: []line{
				{value: "rss", What: "resident memory of the hub", Unit: "MiB", scale: 1.0 / (1 << 20), bar: bar{limit: 600, atMost: true}},
				{value: "ready", What: "the hub is killed and started: until all are there", Unit: "s", scale: 1e-9, bar: bar{limit: 10, atMost: true}}}},
		{Name: "exec-durable-cpu", What: "durable: tasks that compute for 1 ms, two workers (fsync)", sides: []string{"distgear"}, trial: computed,
			size: func(quick bool) spec {
				if quick {
					return spec{Count: 50}
				}
				return spec{Count: 10_000}
			}, lines: []line{
				{value: "share", What: "share of two processors, of what other programs left, that went into tasks", Unit: "%", bar: bar{limit: 95}},
				{value: "own", What: "processor time of all processes beyond the tasks' own", Unit: "%"}}},
	}
}

// durableRows are the rows about durable events.
func durableRows() []row {
	all := []string{"distgear", "dbos", "goworkflows", "temporal"}
	against := func(value, unit string, scale float64, ours, temporal float64, atMost bool) []line {
		return []line{
			{value: value, What: value, Unit: unit, scale: scale, bar: bar{limit: ours, atMost: atMost, of: "dbos"}},
			{value: value, What: "the same, to go-workflows", Unit: unit, scale: scale, bar: bar{limit: ours, atMost: atMost, of: "goworkflows"}},
			{value: value, What: "the same, to Temporal", Unit: unit, scale: scale, bar: bar{limit: temporal, atMost: atMost, of: "temporal"}},
		}
	}
	return []row{
		{Name: "durable-steps", What: "durable: ten steps that do nothing, one after another", sides: all, trial: executed,
			size: func(quick bool) spec {
				if quick {
					return spec{Count: 1}
				}
				return spec{Count: 200, Window: 20 * time.Second}
			}, lines: append(against("p50", "ms", 1e-6, 1.0/5, 1.0/10, true),
				line{value: "p50", What: "the same, in ms", Unit: "ms", scale: 1e-6, bar: bar{limit: 6, atMost: true}},
				line{value: "p99", What: "p99", Unit: "ms", scale: 1e-6})},
		{Name: "durable-events", What: "durable: workflows (events) of one step, 256 in flight", sides: all, trial: executed,
			size: func(quick bool) spec {
				if quick {
					return spec{Callers: 16, Warm: 20 * time.Millisecond, Window: 100 * time.Millisecond}
				}
				return spec{Callers: 256, Warm: 3 * time.Second, Window: 10 * time.Second}
			}, lines: against("rate", "1/s", 1, 20, 20, false)},
		{Name: "durable-cost", What: "durable: how many times as many events of one step that are not durable end, 256 in flight", sides: []string{"distgear"}, trial: executed,
			size: func(quick bool) spec {
				if quick {
					return spec{Callers: 16, Warm: 20 * time.Millisecond, Window: 100 * time.Millisecond}
				}
				return spec{Callers: 256, Warm: time.Second, Window: 5 * time.Second}
			}, lines: []line{{value: "cost", Unit: "×", bar: bar{limit: 4, atMost: true}}, {value: "rate", What: "durable", Unit: "1/s"}}},
		{Name: "durable-waiting", What: "durable: 1 000 000 runs that wait for a signal, each", sides: []string{"distgear"}, trial: rested, once: true,
			size: func(quick bool) spec {
				if quick {
					return spec{Count: 20}
				}
				return spec{Count: 1_000_000, Settle: time.Second}
			}, lines: []line{
				{value: "hub", What: "heap of the hub", Unit: "B", bar: bar{limit: 1024, atMost: true}},
				{value: "worker", What: "heap of the node that owned it", Unit: "B"},
				{value: "caller", What: "heap of the process that raised it, and has its future", Unit: "B"},
				{value: "took", What: "time until the last rested", Unit: "s", scale: 1e-9}}},
		{Name: "durable-recovery", What: "durable: one of two masters of 64 runs is killed mid-plan: until the last run has ended (fsync)", sides: []string{"distgear"}, trial: recovered,
			size: func(bool) spec { return spec{Count: 1} }, lines: []line{{value: "gap", Unit: "ms", scale: 1e-6, bar: bar{limit: 3000, atMost: true}}}},
	}
}

// onDisk tells whether the disk's speed belongs to a row's figures.
func onDisk(row string) bool {
	return row != "exec-fast" && rivalsOf(row)[0] != "nats" && rivalsOf(row)[0] != "pond"
}

func latency(p50, p99 bar) []line {
	return []line{
		{value: "p50", What: "p50", Unit: "ms", scale: 1e-6, bar: p50},
		{value: "p99", What: "p99", Unit: "ms", scale: 1e-6, bar: p99},
	}
}

// pooled is a trial with tasks within one process.
func pooled(sp spec, o options) (map[string]float64, error) {
	sp.Role = "caller"
	c, err := o.small.child(sp)
	if err != nil {
		return nil, err
	}
	defer c.Stop()
	r, err := c.Ask("run")
	return r.Values, err
}

// executed is a trial with durable tasks or workflows: a rival's submitter and workers are one process, which is in its favour, and what it keeps is in another.
func executed(sp spec, o options) (map[string]float64, error) {
	roles := []string{"caller"}
	if sp.Side == "distgear" && strings.HasPrefix(sp.Row, "exec-") {
		roles = append(roles, "worker")
	}
	if sp.Row == "exec-fast" {
		roles = append(roles, "worker")
	}
	s, err := open(sp, o, sp.Side != "asynq-memory" && sp.Row != "exec-fast", roles...)
	if err != nil {
		return nil, err
	}
	defer s.end()
	r, err := s.callers[0].Ask("run")
	if err == nil && len(r.Values) == 0 {
		err = fmt.Errorf("no figure")
	}
	return r.Values, err
}
