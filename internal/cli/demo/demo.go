// Package demo is `distgear demo`: a hub in this process, three worker
// processes, and four phases that show what becomes of plans: all goes well, a
// step fails, a process is killed, the node is back. Each phase checks itself
// against the rules, by the records, by the workers' own journal and by the
// files on disk.
//
// With Durable it is about a durable event instead: two master processes handle it,
// the one that owns the run is killed in the middle of the plan, and once more during
// the rollback, and the other one goes on.
//
//	err := demo.Run(ctx, demo.Options{Out: os.Stdout, Mode: demo.Live})
//
// # Guarantees
//
// Run returns nil only if every check held. When it returns, the worker
// processes and their files are gone.
//
// # Failures
//
// ErrChecks: a rule was broken, as was shown. Any other error: the demo could
// not go on.
package demo

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/distgear/distgear"
	"github.com/distgear/distgear/cluster"
	"github.com/distgear/distgear/record"
)

// Mode is how the demo shows itself.
type Mode string

// The modes.
const (
	Live  Mode = "live"  // trees that change, for a terminal
	Plain Mode = "plain" // a line per change
	JSON  Mode = "json"  // a JSON object per change
)

// Options of a demo.
type Options struct {
	Out  io.Writer
	In   io.Reader // Live: the terminal's keys; nil means none
	Mode Mode      // empty means Plain
	Exe  string    // the program that has the demo-worker command; empty means this one

	Durable bool // of a durable event, whose masters are killed
}

// ErrChecks says that a rule was broken.
var ErrChecks = errors.New("the demo did not end as the rules say")

const (
	clusterName = "demo"
	ttl         = time.Second // short, so that a death is seen soon
	limit       = time.Minute // of the whole demo
)

var workers = [...]cluster.NodeName{"w1", "w2", "w3"}

func fetches() []string {
	var names []string
	for _, w := range workers {
		names = append(names, "fetch-"+string(w))
	}
	return names
}

// demo is one run of it.
type demo struct {
	screen screen
	root   string
	node   *distgear.Node
	fleet  *fleet
	kit    *kit
	roster *roster

	deploy  *distgear.Event[deployment, string]
	migrate *distgear.Event[migration, string]
	index   *distgear.Event[string, string]

	checks, failed int
}

// Run runs the demo until it is over or ctx ends.
func Run(ctx context.Context, o Options) (err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("not over after %v", limit))
	defer cancel()
	if o.Exe == "" {
		if o.Exe, err = os.Executable(); err != nil {
			return err
		}
	}
	d := &demo{}
	if d.root, err = os.MkdirTemp("", "distgear-demo-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(d.root)) }()
	began := time.Now()
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	d.screen = newScreen(o, func() { stop(context.Canceled) })
	err = d.run(ctx, o)
	if ctx.Err() != nil && err != nil {
		err = context.Cause(ctx)
	}
	if err == nil && d.failed > 0 {
		err = ErrChecks
	}
	if err != nil && !errors.Is(err, context.Canceled) && d.fleet != nil {
		if said := d.fleet.complaints(); said != "" {
			d.screen.note("what the workers said:\n" + said)
		}
	}
	d.screen.close(Summary{OK: err == nil, Checks: d.checks, Failed: d.failed, Millis: time.Since(began).Milliseconds(), Error: text(err)})
	return err
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// Summary is the last thing that a demo says.
type Summary struct {
	OK     bool   `json:"ok"`
	Checks int    `json:"checks"`
	Failed int    `json:"failed"`
	Millis int64  `json:"ms"`
	Error  string `json:"error,omitempty"`
}

func (d *demo) run(ctx context.Context, o Options) error {
	for _, w := range append(workers[:len(workers):len(workers)], "shared") {
		if err := os.MkdirAll(filepath.Join(d.root, "nodes", string(w)), 0o700); err != nil {
			return err
		}
	}
	token := rand.Text()
	var err error
	d.node, err = distgear.Join(ctx, distgear.Config{
		Cluster: clusterName, Name: "hub", Serve: "127.0.0.1:0", Token: token, TTL: ttl, Labels: map[string]string{}, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return fmt.Errorf("starting a hub: %w", err)
	}
	defer func() {
		lctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if ctx.Err() != nil {
			cancel() // broken off: there is nothing to wait for
		}
		_ = d.node.Leave(lctx) // what is left of a demo that was broken off ends with the process
	}()
	d.kit = newKit(d.root, "hub")
	phases := []func(context.Context) error{d.starts, d.works, d.fails, d.dies, d.again}
	if d.events(); o.Durable {
		phases = []func(context.Context) error{d.startsMasters, d.kills, d.killsRollback}
	} else if err := d.node.Handle(d.deploy, d.migrate, d.index); err != nil {
		return err
	}
	d.roster = newRoster(d.screen)
	rctx, cancel := context.WithCancel(ctx)
	defer func() { cancel(); <-d.roster.over }()
	go d.roster.follow(rctx, d.node)
	d.fleet = &fleet{exe: o.Exe, hub: d.node.HubURL(), root: d.root, token: token, procs: map[cluster.NodeName]*process{}}
	defer func() { d.fleet.close(ctx.Err() == nil) }() // before the hub, which they leave

	for _, phase := range phases {
		if err := phase(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (d *demo) starts(ctx context.Context) error {
	d.screen.heading(0, "A hub and three workers", "The hub is in this process; w1, w2 and w3 are processes of their own.")
	return d.start(ctx, workers[:]...)
}

// start starts processes, and returns when the hub's view has them.
func (d *demo) start(ctx context.Context, names ...cluster.NodeName) error {
	for _, name := range names {
		if err := d.fleet.start(ctx, name); err != nil {
			return err
		}
	}
	for _, name := range names {
		if _, err := d.roster.wait(ctx, name, ready); err != nil {
			return err
		}
	}
	return nil
}

// ready: the hub's view has the node and what it handles.
func ready(m cluster.Member) bool { return m.State == cluster.Alive && len(m.Kinds) > 0 }

func (d *demo) check(cs []Check) {
	for _, c := range cs {
		d.checks++
		if c.Wrong != "" {
			d.failed++
		}
		d.screen.check(c)
	}
}

// facts reads what the run left.
func (d *demo) facts(release string, rec record.Run) (*facts, error) {
	f := &facts{release: release, rec: rec}
	var err, e error
	f.journal, err = readJournal(d.root)
	f.files, e = readFiles(d.root)
	return f, errors.Join(err, e)
}

// show shows the run as it goes, calls each with its records, and returns the
// last.
func (d *demo) show(ctx context.Context, id record.RunID, each func(record.Run)) (record.Run, error) {
	var last record.Run
	for began := time.Now(); time.Since(began) < time.Second; {
		if _, err := d.node.FindRun(ctx, id); !errors.Is(err, distgear.ErrNoRun) {
			break
		}
		if err := wait(ctx, 5*time.Millisecond); err != nil { // it was raised, but has not begun yet
			return last, err
		}
	}
	for rec, err := range d.node.WatchRun(ctx, id) {
		if err != nil {
			return last, err
		}
		last = rec
		d.screen.update(rec)
		if each != nil {
			each(rec)
		}
	}
	if !last.State.Final() {
		return last, fmt.Errorf("the watch of run %s ended early: %w", id, context.Cause(ctx))
	}
	return last, nil
}

// raised is show for an event that has just been raised.
func raised[T any](ctx context.Context, d *demo, f *distgear.Future[T], err error) (record.Run, T, error) {
	var zero T
	if err != nil {
		return record.Run{}, zero, err
	}
	rec, err := d.show(ctx, f.ID(), nil)
	if err != nil {
		return rec, zero, err
	}
	out, _ := f.Wait(ctx) // the record says how it ended
	return rec, out, nil
}

func (d *demo) works(ctx context.Context) error {
	d.screen.heading(1, "A deploy over three nodes", "Three fetches at once, a join that waits for them, a start on any node.")
	f, err := d.deploy.Raise(ctx, d.node, deployment{Release: "v1"})
	rec, out, err := raised(ctx, d, f, err)
	if err != nil {
		return err
	}
	left, err := d.facts("v1", rec)
	if err != nil {
		return err
	}
	d.check(checkDeploy(left, out))
	return nil
}

func (d *demo) fails(ctx context.Context) error {
	before, err := readFiles(d.root)
	if err != nil {
		return err
	}
	d.screen.heading(2, "The last step fails", "The same plan, but start finds its port taken. What was done is undone, last first.")
	f, err := d.deploy.Raise(ctx, d.node, deployment{Release: "v2", Broken: true})
	rec, _, err := raised(ctx, d, f, err)
	if err != nil {
		return err
	}
	left, err := d.facts("v2", rec)
	if err != nil {
		return err
	}
	d.screen.note("undone in this order: " + left.undoOrder())
	d.check(checkRollback(left, before))
	return nil
}

// dies is the phase in which a worker is killed under two runs.
func (d *demo) dies(ctx context.Context) error {
	d.screen.heading(3, "kill -9 of a worker under two runs", "index may run again, anywhere: it moves. migrate may not: it is undone, once its node is back.")
	index, err := d.index.Raise(ctx, d.node, "v3")
	if err != nil {
		return err
	}
	type end struct {
		rec record.Run
		err error
	}
	on := make(chan cluster.NodeName, 1)
	indexed, migrated := make(chan end, 1), make(chan end, 1)
	go func() {
		rec, err := d.show(ctx, index.ID(), func(rec record.Run) {
			f := facts{rec: rec}
			if s := f.step("index"); s.State == "running" && s.Node != "" {
				select {
				case on <- s.Node:
				default:
				}
			}
		})
		indexed <- end{rec, err}
	}()
	var victim cluster.NodeName
	select {
	case victim = <-on:
	case e := <-indexed:
		return fmt.Errorf("index ended before its node was killed: %w", errors.Join(e.err, errors.New(string(e.rec.State)+" "+e.rec.Error)))
	}
	other := workers[0]
	if other == victim {
		other = workers[1]
	}
	before, err := d.roster.wait(ctx, victim, ready)
	if err != nil {
		return err
	}
	migrate, err := d.migrate.Raise(ctx, d.node, migration{Release: "v4", Reserve: other, Migrate: victim})
	if err != nil {
		return err
	}
	go func() {
		rec, err := d.show(ctx, migrate.ID(), nil)
		migrated <- end{rec, err}
	}()
	if err := d.begun(ctx, "v4.migrate"); err != nil {
		return err
	}
	if err := d.fleet.kill(victim); err != nil {
		return err
	}
	d.screen.note(fmt.Sprintf("kill -9 %s: both runs have a step on it", victim))
	atDeath, err := readFiles(d.root)
	if err != nil {
		return err
	}
	lost, err := d.roster.wait(ctx, victim, func(m cluster.Member) bool { return m.State == cluster.Lost || m.Incarnation > before.Incarnation })
	if err != nil {
		return err
	}
	in := <-indexed
	if in.err != nil {
		return in.err
	}
	d.screen.note("starting " + string(victim) + " again")
	if err := d.fleet.start(ctx, victim); err != nil {
		return err
	}
	after, err := d.roster.wait(ctx, victim, func(m cluster.Member) bool { return ready(m) && m.Incarnation > before.Incarnation })
	if err != nil {
		return err
	}
	mi := <-migrated
	if mi.err != nil {
		return mi.err
	}
	left, err := d.facts("v3", in.rec)
	if err != nil {
		return err
	}
	d.check(checkMoved(left, victim))
	if left, err = d.facts("v4", mi.rec); err != nil {
		return err
	}
	d.check(checkUnknown(left, victim, atDeath))
	d.check(checkReturn(before, lost, after))
	return nil
}

// begun waits until the journal says that a step began, and then as long as it
// takes to see it.
func (d *demo) begun(ctx context.Context, step string) error {
	for {
		es, err := readJournal(d.root)
		if err != nil {
			return err
		}
		for _, e := range es {
			if e.Step == step {
				return wait(ctx, 300*time.Millisecond)
			}
		}
		if err := wait(ctx, 10*time.Millisecond); err != nil {
			return fmt.Errorf("%s does not begin: %w", step, err)
		}
	}
}

func (d *demo) again(ctx context.Context) error {
	d.screen.heading(4, "The node is back", "The first plan again: the new process takes its part.")
	f, err := d.deploy.Raise(ctx, d.node, deployment{Release: "v5"})
	rec, out, err := raised(ctx, d, f, err)
	if err != nil {
		return err
	}
	left, err := d.facts("v5", rec)
	if err != nil {
		return err
	}
	d.check(checkDeploy(left, out))
	return nil
}

// roster is what the hub's view says of the workers.
type roster struct {
	over chan struct{} // closed when follow has returned
	say  screen

	mu      sync.Mutex
	members map[cluster.NodeName]cluster.Member
	changed chan struct{} // closed and replaced at every change
}

func newRoster(s screen) *roster {
	return &roster{say: s, over: make(chan struct{}), members: map[cluster.NodeName]cluster.Member{}, changed: make(chan struct{})}
}

func (r *roster) follow(ctx context.Context, n *distgear.Node) {
	defer close(r.over)
	for m, err := range n.Watch(ctx) {
		if err != nil {
			return // waiters end with ctx
		}
		r.mu.Lock()
		old := r.members[m.Name]
		r.members[m.Name] = m
		close(r.changed)
		r.changed = make(chan struct{})
		r.mu.Unlock()
		if m.Name != n.Name() && (old.State != m.State || old.Incarnation != m.Incarnation) {
			r.say.member(m)
		}
	}
}

// wait waits until a member is as it should be.
func (r *roster) wait(ctx context.Context, name cluster.NodeName, is func(cluster.Member) bool) (cluster.Member, error) {
	for {
		r.mu.Lock()
		m, changed := r.members[name], r.changed
		r.mu.Unlock()
		if is(m) {
			return m, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			was, _ := json.Marshal(m) // to be read by people
			return m, fmt.Errorf("waiting for %s, which is %s: %w", name, was, context.Cause(ctx))
		}
	}
}
