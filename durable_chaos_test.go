package distgear_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/distgear/distgear"
	"github.com/distgear/distgear/cluster"
	"github.com/distgear/distgear/geartest"
	"github.com/distgear/distgear/record"
)

// make soak says longer.
var (
	chaosTime = flag.Duration("chaos", 15*time.Second, "for how long TestDurable_Chaos kills and freezes processes")
	chaosSeed = flag.Uint64("seed", 0, "of TestDurable_Chaos; 0: another one each time")
)

// storm is a run's input: what it does and what goes wrong, of itself.
type storm struct {
	Dir    string // where its effects are, and a line for whatever happens to them
	Fail   string // the step that fails; empty: none
	Clean  bool   // it says that it did nothing
	Signal bool   // the run waits for a signal first
	Nap    time.Duration
}

// stormStep is a step's input.
type stormStep struct {
	storm
	Name string
	Take time.Duration
}

// stormAfter is the diamond: what each step comes after.
var stormAfter = map[string][]string{"a": nil, "b": {"a"}, "c": {"a"}, "d": {"b", "c"}, "e": {"d"}}

func (s *stormStep) note(what string) { note(s.Dir, fmt.Sprint(what, " ", s.Name, " ", os.Getpid())) }

func (s *stormStep) path() string { return filepath.Join(s.Dir, s.Name) }

// do makes the step's effect: a file. What comes when it was undone finds that.
func (s stormStep) do(ctx context.Context) (string, error) {
	s.note("do")
	end := time.NewTimer(s.Take)
	defer end.Stop()
	select {
	case <-end.C:
	case <-ctx.Done():
		s.note("failed")
		return "", context.Cause(ctx)
	}
	if s.Fail == s.Name && s.Clean {
		s.note("failed")
		return "", distgear.Permanent(distgear.Clean(errors.New("as it was told")))
	}
	f, err := os.OpenFile(s.path(), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err == nil {
		err = f.Close()
	} else if b, e := os.ReadFile(s.path()); e == nil && len(b) == 0 {
		err = nil // it was there
	}
	if s.Fail == s.Name && err == nil {
		err = distgear.Permanent(errors.New("as it was told"))
	}
	if err != nil {
		s.note("failed")
		return "", err
	}
	s.note("did")
	return s.Name, nil
}

func (s stormStep) undo(ctx context.Context) error {
	s.note("undo")
	end := time.NewTimer(s.Take)
	defer end.Stop()
	select {
	case <-end.C:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	void := fmt.Sprint(s.path(), ".", os.Getpid())
	err := os.WriteFile(void, []byte("void"), 0o600)
	if err == nil {
		err = os.Rename(void, s.path())
	}
	if err == nil {
		s.note("undone")
	}
	return err
}

// stormHandlers are those of a process, by what its name begins with.
func stormHandlers(role string) []distgear.Handler {
	do := func(ctx context.Context, s stormStep) (string, error) { return s.do(ctx) }
	undo := func(ctx context.Context, d distgear.Did[stormStep, string]) error { return d.In.undo(ctx) }
	once := &distgear.Action[stormStep, string]{Name: "once", Timeout: 20 * time.Second, Do: do, Undo: undo}
	again := &distgear.Action[stormStep, string]{Name: "again", Timeout: 20 * time.Second, Idempotent: true, Retries: 5, Do: do, Undo: undo}
	if role == "worker" {
		return []distgear.Handler{once, again}
	}
	return []distgear.Handler{&distgear.Event[storm, string]{Name: "storm", Durable: true,
		On: func(ctx context.Context, r *distgear.Run, in storm) (string, error) {
			if in.Signal {
				if err := r.Signal(ctx, "go", nil); err != nil {
					return "", err
				}
			}
			if in.Nap > 0 {
				if err := r.Sleep(ctx, in.Nap); err != nil {
					return "", err
				}
			}
			rand, steps := r.Rand(), map[string]distgear.Dep{}
			p := distgear.Plan{Name: "diamond", Rollback: true}
			for _, name := range slices.Sorted(maps.Keys(stormAfter)) {
				a := once
				if name > "a" {
					a = again
				}
				var after []distgear.Dep
				for _, b := range stormAfter[name] {
					after = append(after, steps[b])
				}
				steps[name] = a.Step(&p, distgear.Any(), stormStep{in, name, time.Duration(rand.IntN(40)) * time.Millisecond}, after...).Named(name)
			}
			note(in.Dir, fmt.Sprint("owner x ", os.Getpid()))
			return string(r.ID()), r.Do(ctx, &p)
		}}}
}

// stormRole is a process of the storm: its arguments are the hubs and its name.
func stormRole(ctx context.Context, args []string) error {
	role, _, _ := strings.Cut(args[1], "-")
	n, err := stormJoin(ctx, args[0], cluster.NodeName(args[1]), stormHandlers(role)...)
	if err != nil {
		return err
	}
	geartest.Ready()
	<-ctx.Done()
	left, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	return n.Leave(left)
}

func stormJoin(ctx context.Context, hubs string, name cluster.NodeName, hs ...distgear.Handler) (*distgear.Node, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	return distgear.Join(ctx, distgear.Config{Hub: hubs, Name: name, Handlers: hs, Logger: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))})
}

// chaos is the test's side of it.
type chaos struct {
	t      *testing.T
	ctx    context.Context
	random *rand.Rand
	hubs   *geartest.HubProcesses
	n      *distgear.Node // raises
	dir    string

	all    map[string]*geartest.Process
	frozen map[string]bool // pids of processes that were frozen at some time
	heals  []heal
	faults map[string]int

	mu   sync.Mutex
	runs map[record.RunID]*stormy
}

// heal is what is to be done when a fault has lasted.
type heal struct {
	at   time.Time
	what string // whom the fault befell: hubs have one at a time
	do   func()
}

// stormy is a run, and how it ended as its caller saw it.
type stormy struct {
	in  storm
	out string
	err error
}

// TestDurable_Chaos kills and freezes three hubs, two masters and three workers at
// random, while runs are raised. What was accepted ends, once (I6, I7); its effects are all there, or none is (I1); what
// was OK does not run again (I2); undoing keeps its order and does not overlap doing (I3, I4).
func TestDurable_Chaos(t *testing.T) {
	seed := *chaosSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("-seed %d", seed)
	ctx, cancel := context.WithTimeout(t.Context(), *chaosTime+3*time.Minute)
	defer cancel()
	c := &chaos{
		t: t, ctx: ctx, random: rand.New(rand.NewPCG(seed, 1)), dir: t.TempDir(), all: map[string]*geartest.Process{},
		frozen: map[string]bool{}, faults: map[string]int{}, runs: map[record.RunID]*stormy{},
		hubs: geartest.StartHubs(t, geartest.Hubs{Role: "hubs", Count: 3, Disk: true, TTL: 3 * time.Second}),
	}
	for _, name := range []string{"master-1", "master-2", "worker-1", "worker-2", "worker-3"} {
		c.start(name)
	}
	var err error
	if c.n, err = stormJoin(ctx, c.hubs.URLs(), "raiser"); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.n.Leave(context.WithoutCancel(ctx)) }() // the test is over
	raising, stop := context.WithCancel(ctx)
	var raisers sync.WaitGroup
	for i := range 6 {
		raisers.Go(func() { c.raise(raising, rand.New(rand.NewPCG(seed, uint64(10+i))), i) })
	}
	for end := time.Now().Add(*chaosTime); time.Now().Before(end); {
		c.fault()
		c.quiet(time.Duration(100+c.random.IntN(900)) * time.Millisecond)
	}
	c.quiet(time.Hour) // until all is healed
	calm := time.Now()
	stop()
	ended := make(chan struct{})
	go func() { raisers.Wait(); close(ended) }()
	helped := c.help(ended)
	took := time.Since(calm)
	ok := 0
	for id, r := range c.runs {
		if c.judge(id, r) {
			ok++
		}
	}
	if len(c.runs) == 0 || ok == 0 || ok == len(c.runs) {
		t.Errorf("%d of %d runs ended OK", ok, len(c.runs))
	}
	t.Logf("%v; %d runs, %d OK, others rolled back; %d were helped; all had ended %v after the last fault", c.faults, len(c.runs), ok, helped, took.Round(time.Millisecond))
}

func (c *chaos) start(name string) {
	c.t.Helper()
	c.all[name] = geartest.Start(c.t, geartest.Child{Role: "storm", Args: []string{c.hubs.URLs(), name}, Wait: 90 * time.Second})
}

// fault begins one, of whom there is none yet.
func (c *chaos) fault() {
	what := []string{"hub", "master-1", "master-2", "worker-1", "worker-2", "worker-3"}[c.random.IntN(6)]
	kill, lasts := c.random.IntN(2) == 0, time.Duration(c.random.IntN(4000))*time.Millisecond
	hub := c.random.IntN(3)
	if slices.ContainsFunc(c.heals, func(h heal) bool { return h.what == what }) {
		return
	}
	p := c.all[what]
	var end func()
	switch {
	case what == "hub" && kill:
		c.hubs.Kill(hub)
		end = func() { c.hubs.Start(hub) }
	case what == "hub":
		c.hubs.Freeze(hub)
		end = func() { c.hubs.Thaw(hub) }
	case kill:
		p.Kill()
		end = func() { c.start(what) }
	default:
		c.frozen[fmt.Sprint(p.Pid())] = true
		p.Pause()
		end = p.Resume
	}
	role, _, _ := strings.Cut(what, "-")
	c.faults[map[bool]string{true: "kill ", false: "freeze "}[kill]+role]++
	c.heals = append(c.heals, heal{time.Now().Add(lasts), what, end})
}

// quiet waits, and heals what is due; no longer than there is something to heal if
// that is all.
func (c *chaos) quiet(d time.Duration) {
	for end := time.Now().Add(d); ; {
		slices.SortFunc(c.heals, func(a, b heal) int { return a.at.Compare(b.at) })
		until := end
		if len(c.heals) > 0 && c.heals[0].at.Before(end) {
			until = c.heals[0].at
		} else if d == time.Hour {
			return
		}
		wait := time.NewTimer(time.Until(until))
		<-wait.C
		if until.Equal(end) {
			return
		}
		do := c.heals[0].do
		c.heals = c.heals[1:]
		do()
	}
}

// raise raises one run after the other, and waits for each, until ctx ends. What is
// not known to be accepted is raised again under its ID.
func (c *chaos) raise(ctx context.Context, random *rand.Rand, raiser int) {
	e := &distgear.Event[storm, string]{Name: "storm", Durable: true}
	for i := 0; ctx.Err() == nil; i++ {
		id := fmt.Sprintf("s-%d-%d", raiser, i)
		s := &stormy{in: storm{Dir: filepath.Join(c.dir, id), Signal: random.IntN(8) == 0, Clean: random.IntN(2) == 0}}
		if random.IntN(3) == 0 {
			s.in.Fail = string("abcde"[random.IntN(5)])
		}
		if random.IntN(8) == 0 {
			s.in.Nap = time.Duration(random.IntN(2500)) * time.Millisecond
		}
		if err := os.Mkdir(s.in.Dir, 0o700); err != nil {
			c.t.Error(err)
			return
		}
		f, err := again(c.ctx, func(ctx context.Context) (*distgear.Future[string], error) {
			return e.Raise(ctx, c.n, s.in, distgear.ID(id))
		})
		if err != nil {
			c.t.Errorf("raising %s: %v", id, err)
			return
		}
		c.mu.Lock()
		c.runs[f.ID()] = s
		c.mu.Unlock()
		if s.in.Signal {
			_, err := again(c.ctx, func(ctx context.Context) (any, error) { return nil, c.n.SignalRun(ctx, f.ID(), "go", nil) })
			if err != nil && !errors.Is(err, distgear.ErrInvalid) { // one that was answered unknown was taken, and the run has ended
				c.t.Errorf("signalling %s: %v", id, err)
			}
		}
		s.out, s.err = f.Wait(c.ctx)
	}
}

// again tries for as long as nobody knows, or the hub is away.
func again[T any](ctx context.Context, try func(ctx context.Context) (T, error)) (T, error) {
	for {
		one, cancel := context.WithTimeout(ctx, 3*time.Second)
		v, err := try(one)
		cancel()
		if err == nil || ctx.Err() != nil || !errors.Is(err, distgear.ErrUnknown) && !errors.Is(err, distgear.ErrNoNode) && !errors.Is(err, distgear.ErrOverloaded) {
			return v, err
		}
	}
}

// help decides about runs that are stuck or parked, which masters that were killed
// three times in a row leave behind, until all have ended.
func (c *chaos) help(ended chan struct{}) (helped int) {
	c.t.Helper()
	for late := time.After(time.Minute); ; {
		next := time.NewTimer(500 * time.Millisecond)
		select {
		case <-ended:
			return helped
		case <-late:
			for r, err := range c.n.Runs(c.ctx) {
				if err != nil || !r.State.Final() {
					c.t.Errorf("run %s is %s at %q: %s %v", r.ID, r.State, r.Node, r.Error, err)
				}
			}
			c.t.Fatal("a minute after the last fault not all runs have ended")
		case <-next.C:
		}
		for r, err := range c.n.Runs(c.ctx) {
			if err != nil {
				continue // the hub is being taken over
			}
			switch r.State {
			case record.Parked:
				if rec, err := c.n.FindRun(c.ctx, r.ID); err == nil {
					c.t.Logf("%s was parked: %+v", r.ID, rec)
				}
				if err := c.n.AdoptRun(c.ctx, r.ID); err == nil {
					helped++
				}
			case record.Stuck:
				c.t.Errorf("%s is stuck: its undo never fails: %s", r.ID, r.Error)
			}
		}
	}
}

// judge compares what a run's caller saw, its record, and its effects; true: it was OK.
func (c *chaos) judge(id record.RunID, r *stormy) bool {
	c.t.Helper()
	rec, err := again(c.ctx, func(ctx context.Context) (record.Run, error) { return c.n.FindRun(ctx, id) })
	if err != nil {
		c.t.Errorf("%s: %v", id, err)
		return false
	}
	ok := r.err == nil
	wrong := func(format string, args ...any) {
		c.t.Helper()
		lines, _ := os.ReadFile(filepath.Join(r.in.Dir, "lines"))
		c.t.Errorf("%s %+v: %s\nits caller saw %q, %v\n%+v\n%s", id, r.in, fmt.Sprintf(format, args...), r.out, r.err, rec, lines)
	}
	switch want := map[bool]record.RunState{true: record.OK, false: record.RolledBack}[ok]; {
	case rec.State != want:
		wrong("it is %s", rec.State)
	case ok && (r.out != string(id) || string(rec.Result) != fmt.Sprintf("%q", id)):
		wrong("its result is %s", rec.Result)
	case ok && r.in.Fail != "":
		wrong("it is OK though %s failed", r.in.Fail)
	case len(rec.Plans) != 1 || len(rec.Plans[0].Steps) != len(stormAfter):
		wrong("it has another plan")
	default:
		c.effects(r, ok, wrong)
		c.attempts(r, &rec, wrong)
	}
	return ok
}

// effects checks I1, I3 and I4.
func (c *chaos) effects(r *stormy, ok bool, wrong func(string, ...any)) {
	c.t.Helper()
	first := map[string]int{} // when something happened to a step first: its line, from 1
	lines, err := os.ReadFile(filepath.Join(r.in.Dir, "lines"))
	if err != nil {
		wrong("%v", err)
	}
	i := 0
	for line := range strings.Lines(string(lines)) {
		i++
		w := strings.Fields(line)
		if at := w[0] + " " + w[1]; first[at] == 0 {
			first[at] = i
		}
		if (w[0] == "did" || w[0] == "failed") && first["undo "+w[1]] > 0 && !c.frozen[w[2]] {
			wrong("I4: line %d: %s was done by %s while it was undone", i, w[1], w[2])
		}
	}
	for name := range stormAfter {
		b, err := os.ReadFile(filepath.Join(r.in.Dir, name))
		if done := err == nil && len(b) == 0; done != ok {
			wrong("I1: the effect of %s is there: %v", name, done)
		}
		for dependent, after := range stormAfter {
			if undo := first["undo "+dependent]; slices.Contains(after, name) && undo > 0 && first["undo "+name] > 0 && (first["undone "+dependent] == 0 || first["undone "+dependent] > first["undo "+name]) {
				wrong("I3: %s was undone before %s", name, dependent)
			}
		}
	}
}

// attempts checks I2: after an OK none follows, and each runs once at most.
func (c *chaos) attempts(r *stormy, rec *record.Run, wrong func(string, ...any)) {
	c.t.Helper()
	for _, s := range rec.Plans[0].Steps {
		tries, done := 0, false
		for _, a := range s.Attempts {
			if a.Undo {
				continue
			}
			if tries++; done {
				wrong("I2: %s was tried again after it was OK", s.Name)
			}
			done = a.Outcome == "ok"
		}
		ran := 0
		for _, l := range noted(r.in.Dir, "do") {
			if strings.HasPrefix(l, s.Name+" ") {
				ran++
			}
		}
		if ran > tries {
			wrong("%s ran %d times, in %d attempts", s.Name, ran, tries)
		}
	}
}
