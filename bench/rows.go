package main

import (
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/distgear/distgear/bench/proc"
)

// The words of package proc.
type (
	spec  = proc.Spec
	reply = proc.Reply
)

// row is one line of the table, or two where one trial gives two figures.
type row struct {
	Name  string
	What  string
	sides []string
	once  bool // a trial is a median by itself: one round is enough
	lines []line
	size  func(quick bool) spec
	trial func(sp spec, o options) (map[string]float64, error)
}

// line is a figure of a row.
type line struct {
	value string  // its key in a trial's values
	What  string  // what it is, after the row's What
	Unit  string  //
	scale float64 // from what the trial says to Unit; zero means 1
	bar   bar
}

// bar is what a figure must reach. The zero value asks nothing.
type bar struct {
	limit  float64
	atMost bool   // else at least
	of     string // the rival that limit multiplies; empty means limit is in the line's unit
}

func (b bar) String() string {
	if b.limit == 0 {
		return "–"
	}
	sign := "≥"
	if b.atMost {
		sign = "≤"
	}
	if b.of != "" {
		return fmt.Sprintf("%s %g × %s", sign, b.limit, b.of)
	}
	return fmt.Sprintf("%s %s", sign, number(b.limit))
}

// met compares medians; known is false where the bar's side has no figure.
func (b bar) met(medians map[string]float64) (ok, known bool) {
	v, have := medians["distgear"]
	limit := b.limit
	if b.of != "" {
		r, haveRival := medians[b.of]
		limit, have = limit*r, have && haveRival
	}
	if b.limit == 0 || !have {
		return false, false
	}
	if b.atMost {
		return v <= limit, true
	}
	return v >= limit, true
}

func rows() []row {
	all, two := []string{"distgear", "nats", "grpc"}, []string{"distgear", "nats"}
	timed := func(callers int) func(bool) spec {
		return func(quick bool) spec {
			if quick {
				return spec{Callers: callers, Warm: 20 * time.Millisecond, Window: 100 * time.Millisecond}
			}
			return spec{Callers: callers, Warm: 500 * time.Millisecond, Window: 2 * time.Second}
		}
	}
	counted := func(full, small int) func(bool) spec {
		return func(quick bool) spec {
			if quick {
				return spec{Count: small, Settle: 20 * time.Millisecond}
			}
			return spec{Count: full, Settle: 2 * time.Second}
		}
	}
	used := []line{
		{value: "cpu", What: "processor time of all processes", Unit: "µs", scale: 1e6},
		{value: "allocs", What: "allocations of all processes"},
	}
	rate := func(b bar) []line { return []line{{value: "rate", Unit: "1/s", bar: b}} }
	rateUsed := func(b bar) []line { return append(rate(b), used...) }
	started := func(limit float64) []line {
		return []line{
			{value: "main", What: "from main", Unit: "ms", scale: 1e-6},
			{value: "exec", What: "from exec", Unit: "ms", scale: 1e-6, bar: bar{limit: limit, atMost: true}},
		}
	}
	return append([]row{
		{Name: "call", What: "sequential Call, 100 B string echo", sides: all, size: counted(20000, 200), trial: pair, lines: append([]line{
			{value: "p50", What: "p50", Unit: "µs", bar: bar{limit: 1.25, atMost: true, of: "nats"}},
			{value: "p99", What: "p99", Unit: "µs"}}, used...)},
		{Name: "commands-string", What: "acknowledged commands, 1024 in flight, 100 B string echo", sides: all, size: timed(1024), trial: pair,
			lines: rateUsed(bar{limit: 4, of: "nats"})},
		{Name: "commands-struct", What: "the same, a struct of four fields, 100 B as JSON (rivals: the same bytes, raw)", sides: all, size: timed(1024), trial: pair,
			lines: rateUsed(bar{limit: 2, of: "nats"})},
		{Name: "one-way", What: "one-way commands, one sender, int64, both nodes in one process (NATS: Publish)", sides: two, size: counted(3e6, 50e3), trial: solo,
			lines: rate(bar{limit: 2e6})},
		{Name: "plan", What: "plan of six steps, 64 at a time (rivals: by hand, no rollback)", sides: all, size: timed(64), trial: pair,
			lines: rateUsed(bar{limit: 60e3})},
		{Name: "memory", What: "memory per event in flight, 100 000 in flight", sides: all, size: counted(100e3, 1000), trial: memory, lines: []line{
			{value: "rss", Unit: "B", bar: bar{limit: 6 * 1024, atMost: true}},
			{value: "stacks", What: "of it stacks", Unit: "B"},
			{value: "heap", What: "of it heap", Unit: "B"}}},
		{Name: "same-node", What: "Call on the same node, 100 B string (NATS: in-process connections)", sides: two, size: counted(500e3, 2000), trial: solo, lines: []line{
			{value: "ns", Unit: "ns", bar: bar{limit: 1000, atMost: true}},
			{value: "allocs", What: "allocations", Unit: "", bar: bar{limit: 2, atMost: true}},
			{value: "bytes", What: "allocated", Unit: "B"}}},
		{Name: "same-node-struct", What: "Call on the same node, a struct of four fields", sides: []string{"distgear"}, size: counted(500e3, 2000), trial: solo, lines: []line{
			{value: "ns", Unit: "ns"},
			{value: "allocs", What: "allocations", Unit: ""},
			{value: "bytes", What: "allocated", Unit: "B"}}},
		{Name: "idle-worker", What: "resident memory, idle worker", sides: all, size: counted(0, 0), trial: idle, lines: []line{
			{value: "rss", Unit: "MiB", scale: 1.0 / (1 << 20), bar: bar{limit: 20, atMost: true}}}},
		{Name: "idle-hub", What: "resident memory, idle hub (NATS: nats-server embedded)", sides: two, size: counted(0, 0), trial: idle, lines: []line{
			{value: "rss", Unit: "MiB", scale: 1.0 / (1 << 20), bar: bar{limit: 45, atMost: true}}}},
		{Name: "start-alone", What: "start to first answered event, alone (gRPC: a server calls itself)", sides: []string{"distgear", "grpc"}, size: counted(10, 1), trial: starts, lines: started(20)},
		{Name: "start-hub", What: "start to first answered event, with embedded hub (NATS: embedded server)", sides: two, size: counted(10, 1), trial: starts, lines: started(150)},
	}, slices.Concat(sharedRows(), execRows(), durableRows())...)
}

// rowResult is what the rounds of a row gave.
type rowResult struct {
	Name, What string
	Lines      []lineResult
	Errors     []string `json:",omitempty"`
}

type lineResult struct {
	What, Unit string
	Trials     map[string][]float64 // by side, in order of rounds
	Medians    map[string]float64
	Bar        string
	Verdict    string // pass, fail, or – where nothing is asked or known
}

func (r row) measure(o options, log io.Writer) rowResult {
	res := rowResult{Name: r.Name, What: r.What}
	trials := map[string][]map[string]float64{}
	broken := map[string]bool{}
	rounds := o.N
	if r.once {
		rounds = 1
	}
	for i := range rounds {
		for _, side := range r.sides {
			if !slices.Contains(o.Sides, side) || broken[side] {
				continue
			}
			sp := r.size(o.Quick)
			sp.Row, sp.Side, sp.Profile = r.Name, side, o.Profile
			v, err := r.trial(sp, o)
			if err != nil {
				broken[side] = true // the next rounds would say the same
				delete(trials, side)
				res.Errors = append(res.Errors, fmt.Sprintf("%s: round %d: %v", side, i+1, err))
				fmt.Fprintf(log, "%-16s %-9s round %d: %v\n", r.Name, side, i+1, err)
				continue
			}
			trials[side] = append(trials[side], v)
			fmt.Fprintf(log, "%-16s %-9s round %d: %s\n", r.Name, side, i+1, r.short(v))
		}
	}
	for _, l := range r.lines {
		lr := lineResult{What: l.What, Unit: l.Unit, Bar: l.bar.String(), Verdict: "–", Trials: map[string][]float64{}, Medians: map[string]float64{}}
		for side, vs := range trials {
			for _, v := range vs {
				lr.Trials[side] = append(lr.Trials[side], v[l.value]*l.factor())
			}
			lr.Medians[side] = median(lr.Trials[side])
		}
		if ok, known := l.bar.met(lr.Medians); known {
			lr.Verdict = "fail"
			if ok {
				lr.Verdict = "pass"
			}
		}
		res.Lines = append(res.Lines, lr)
	}
	return res
}

func (l line) factor() float64 {
	if l.scale == 0 {
		return 1
	}
	return l.scale
}

func (r row) short(v map[string]float64) (s string) {
	for i, l := range r.lines {
		if slices.ContainsFunc(r.lines[:i], func(other line) bool { return other.value == l.value }) {
			continue // the figure is there to meet another bar
		}
		if i > 0 {
			s += ", "
		}
		s += number(v[l.value] * l.factor())
		for _, word := range []string{l.Unit, l.What} {
			if word != "" {
				s += " " + word
			}
		}
	}
	return s
}

// cast is the processes of a trial, hub first where the side has one.
type cast struct {
	all            []*proc.Child
	caller, worker *proc.Child
}

func (c *cast) end() {
	for _, p := range slices.Backward(c.all) {
		p.Stop()
	}
}

// usage is what all processes have used so far.
func (c *cast) usage() (map[string]float64, error) {
	sum := map[string]float64{}
	for _, p := range c.all {
		r, err := p.Ask("usage")
		if err != nil {
			return nil, err
		}
		for name, v := range r.Values {
			sum[name] += v
		}
	}
	return sum, nil
}

// begin starts the processes and lets the caller find the worker.
func begin(sp spec, o options) (c *cast, err error) {
	begun := new(cast) // c is nil where an error is returned
	c = begun
	defer func() {
		if err != nil {
			begun.end()
		}
	}()
	start := func(sp spec) (*proc.Child, error) {
		p, err := proc.StartSelf(sp)
		if err == nil {
			c.all = append(c.all, p)
		}
		return p, err
	}
	hosted := sp.Side != "grpc" && o.Hub == "caller"
	if sp.Side != "grpc" && !hosted {
		h := sp
		h.Role = "hub"
		if sp.Side == "nats" && o.Server == "hub" {
			h.Side = "distgear"
		}
		p, err := start(h)
		if err != nil {
			return nil, err
		}
		sp.URL = p.Ready.URL
	}
	sp.Role, sp.Host = "caller", hosted
	if c.caller, err = start(sp); err != nil {
		return nil, err
	}
	switch {
	case hosted:
		sp.URL = c.caller.Ready.URL
	case sp.Side == "grpc":
		sp.URL = c.caller.Ready.Addr
	}
	sp.Role, sp.Host = "worker", false
	if c.worker, err = start(sp); err != nil {
		return nil, err
	}
	_, err = c.caller.Ask("contact " + c.worker.Ready.Addr)
	return c, err
}

// pair is a trial with a caller and a worker, whose counts must agree.
func pair(sp spec, o options) (map[string]float64, error) {
	c, err := begin(sp, o)
	if err != nil {
		return nil, err
	}
	defer c.end()
	before, err := c.worker.Ask("count")
	if err != nil {
		return nil, err
	}
	used0, err := c.usage()
	if err != nil {
		return nil, err
	}
	r, err := c.caller.Ask("run")
	if err != nil {
		return nil, err
	}
	used, err := c.usage()
	if err != nil {
		return nil, err
	}
	after, err := c.worker.Ask("count")
	if err != nil {
		return nil, err
	}
	want := r.Calls
	if sp.Row == "plan" {
		want *= 6
	}
	if got := after.Runs - before.Runs; got != want {
		return nil, fmt.Errorf("%d commands were answered, and %d were run", want, got)
	}
	for name := range used {
		r.Values[name] = (used[name] - used0[name]) / float64(r.Calls)
	}
	return r.Values, nil
}

// solo is a trial within one process.
func solo(sp spec, o options) (map[string]float64, error) {
	sp.Role = "caller"
	c, err := proc.StartSelf(sp)
	if err != nil {
		return nil, err
	}
	defer c.Stop()
	r, err := c.Ask("run")
	return r.Values, err
}

// memory is a trial in which the worker handles sp.Count events, each waiting for a command that the caller runs; the worker's growth is divided by them.
func memory(sp spec, o options) (map[string]float64, error) {
	c, err := begin(sp, o)
	if err != nil {
		return nil, err
	}
	defer c.end()
	var answers [5]reply
	for i, q := range []struct {
		who      *proc.Child
		question string
	}{
		{c.worker, "count"}, // finding the worker took commands
		{c.worker, "rss"},
		{c.caller, "raise"},
		{c.worker, "rss gc"},
		{c.caller, "release"},
	} {
		if answers[i], err = q.who.Ask(q.question); err != nil {
			return nil, err
		}
	}
	last, err := c.worker.Ask("count")
	if err != nil {
		return nil, err
	}
	first, before, full, calls := answers[0], answers[1], answers[3], answers[4].Calls
	if got := last.Runs - first.Runs; got != calls {
		return nil, fmt.Errorf("%d events were answered, and %d were run", calls, got)
	}
	v := map[string]float64{}
	for name := range full.Values {
		v[name] = (full.Values[name] - before.Values[name]) / float64(sp.Count)
	}
	return v, nil
}

// idle is the resident memory of a minimal program, once it has settled.
func idle(sp spec, o options) (map[string]float64, error) {
	hub := sp.Row == "idle-hub"
	mode, url := "hub", ""
	if !hub {
		mode = "worker"
		if sp.Side != "grpc" {
			h, err := o.small.start(sp.Side, "hub", "")
			if err != nil {
				return nil, err
			}
			defer h.Stop()
			url = h.Ready.URL
		}
	}
	c, err := o.small.start(sp.Side, mode, url)
	if err != nil {
		return nil, err
	}
	defer c.Stop()
	time.Sleep(sp.Settle)
	v, err := proc.Resident(fmt.Sprint(c.Cmd.Process.Pid))
	return map[string]float64{"rss": v}, err
}

// starts is the median time from a minimal program's start to its first answer, over sp.Count starts.
func starts(sp spec, o options) (map[string]float64, error) {
	mode := "alone"
	if sp.Row == "start-hub" {
		mode = "hub"
	}
	var fromMain, fromExec []float64
	for range sp.Count {
		t := time.Now()
		c, err := o.small.start(sp.Side, mode, "")
		took := time.Since(t)
		if err != nil {
			return nil, err
		}
		c.Stop()
		fromMain = append(fromMain, c.Ready.Values["main"])
		fromExec = append(fromExec, float64(took))
	}
	return map[string]float64{"main": median(fromMain), "exec": median(fromExec)}, nil
}
