package demo

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/distgear/distgear"
	"github.com/distgear/distgear/cluster"
	"github.com/distgear/distgear/internal/cli/show"
	"github.com/distgear/distgear/record"
)

// masters are the nodes that handle the durable event, and nothing else.
var masters = [...]cluster.NodeName{"m1", "m2"}

func isMaster(name cluster.NodeName) bool { return slices.Contains(masters[:], name) }

// tradeSteps are the steps of an order, each after the one before it.
func tradeSteps() []string { return []string{"reserve", "pay", "pack", "label", "ship", "notify"} }

const (
	tradeTakes = 150 * time.Millisecond // a step
	// underKill is how long the step lasts during which the master is killed: what is
	// seen of it comes a tenth of a second late.
	underKill = 1200 * time.Millisecond
	killed    = 3 // the number of that step, from 0
)

// order is the durable event.
func (k *kit) order() *distgear.Event[deployment, string] {
	return &distgear.Event[deployment, string]{Name: "order", Durable: true, On: k.onOrder}
}

func (k *kit) onOrder(ctx context.Context, r *distgear.Run, in deployment) (string, error) {
	p := distgear.Plan{Name: "order", Rollback: true}
	var deps []distgear.Dep
	for i, name := range tradeSteps() {
		w := Work{Release: in.Release, Step: name, Takes: tradeTakes, Undo: tradeTakes}
		switch {
		case in.Broken && i == killed:
			w.Undo = underKill
		case i == killed:
			w.Takes = underKill
		case in.Broken && i == len(k.Trade)-1:
			w.Broken = true
		}
		deps = []distgear.Dep{k.Trade[i].Step(&p, distgear.Any(), w, deps...).Named(name)}
	}
	if err := r.Do(ctx, &p); err != nil {
		return "", err
	}
	return in.Release + " is on its way", nil
}

func (d *demo) startsMasters(ctx context.Context) error {
	d.screen.heading(0, "A hub, two workers, two masters", "m1 and m2 handle the durable event order; w1 and w2 do its six steps. All are processes of their own; the hub keeps the journal.")
	return d.start(ctx, workers[0], workers[1], masters[0], masters[1])
}

func (d *demo) kills(ctx context.Context) error {
	d.screen.heading(1, "kill -9 of the master, in the middle of the plan", "Three steps are done and the fourth runs. The other master calls the handler again: what is in the journal is not done twice.")
	t, err := d.underKill(ctx, deployment{Release: "o1"}, "running")
	if err != nil {
		return err
	}
	d.screen.note(fmt.Sprintf("%s goes on: %d steps kept, %d run", t.heir, t.kept, t.ran))
	d.screen.note("what `distgear runs show` would tell:\n" + show.Timeline(t.rec.Journal, show.Plain))
	d.check(checkKept(t))
	d.screen.note("starting " + string(t.victim) + " again")
	return d.start(ctx, t.victim)
}

func (d *demo) killsRollback(ctx context.Context) error {
	d.screen.heading(2, "The last step fails, and the master is killed during the rollback", "Two steps are undone and the third is being undone. The other master undoes the rest, in the same order.")
	t, err := d.underKill(ctx, deployment{Release: "o2", Broken: true}, "undoing")
	if err != nil {
		return err
	}
	d.screen.note(fmt.Sprintf("%s goes on: %d undos kept, %d run, in this order: %s", t.heir, t.kept, t.ran, t.undoOrder()))
	d.check(checkUndoneOnce(t))
	return nil
}

// taken is what a run leaves that was taken over.
type taken struct {
	*facts

	victim, heir cluster.NodeName
	kept, ran    int // steps that were done, or undone, when the owner was killed; and those after that
	took         time.Duration
}

// underKill raises an order, kills its owner while the step killed is in that state,
// and shows the run until it has ended.
func (d *demo) underKill(ctx context.Context, in deployment, state record.StepState) (*taken, error) {
	f, err := d.kit.order().Raise(ctx, d.node, in)
	if err != nil {
		return nil, err
	}
	t := &taken{}
	var at time.Time
	over := record.StepState("ok")
	if state == "undoing" {
		over = "undone"
	}
	var failed error
	rec, err := d.show(ctx, f.ID(), func(rec record.Run) {
		switch {
		case failed != nil || t.heir != "":
		case t.victim != "" && rec.Node != "" && rec.Node != t.victim:
			t.heir, t.took = rec.Node, time.Since(at)
			d.screen.note(fmt.Sprintf("%s owns the run, %.1f s after", t.heir, t.took.Seconds()))
		case t.victim == "" && rec.Node != "":
			now := facts{rec: rec}
			if now.step(tradeSteps()[killed]).State != state {
				return
			}
			t.victim = rec.Node
			if failed = d.fleet.kill(t.victim); failed != nil {
				return
			}
			at = time.Now()
			d.screen.note(fmt.Sprintf("kill -9 %s, which owns the run: %s is %s", t.victim, tradeSteps()[killed], state))
			if rec, failed = d.node.FindRun(ctx, rec.ID); failed == nil {
				t.kept = count(rec, over)
			}
		}
	})
	if err == nil {
		err = failed
	}
	if err != nil {
		return nil, err
	}
	t.ran = count(rec, over) - t.kept
	t.facts, err = d.facts(in.Release, rec)
	return t, err
}

// count is how many steps are in a state.
func count(rec record.Run, state record.StepState) (n int) {
	for _, s := range (&facts{rec: rec}).steps() {
		if s.State == state {
			n++
		}
	}
	return n
}

// times: by the workers' own journal each of these steps did that so often, and
// nothing else of it is there.
func (t *taken) times(what string, n int, steps ...string) string {
	var bad []string
	for _, s := range steps {
		was := 0
		for _, e := range t.journal {
			if e.Step == t.release+"."+s && e.What == what {
				was++
			}
		}
		if was != n {
			bad = append(bad, fmt.Sprintf("%s: %q %d times, not %d", s, what, was, n))
		}
	}
	return strings.Join(bad, "; ")
}

// made: so many files of the release are on disk.
func (t *taken) made(n int) string {
	was := 0
	for name := range t.files {
		if strings.Contains(name, "/"+t.release+".") {
			was++
		}
	}
	return want(was == n, "there are %d files, not %d", was, n)
}

// lasted: by the record each step took so long at least.
func (t *taken) lasted(d time.Duration) string {
	var bad []string
	for _, s := range t.steps() {
		if took := s.Ended.Sub(s.Started); took < d {
			bad = append(bad, fmt.Sprintf("%s took %v", s.Name, took))
		}
	}
	return strings.Join(bad, "; ")
}

// takenOver: another master went on with it.
func (t *taken) takenOver() Check {
	return check("the other master owned the run within three seconds",
		want(isMaster(t.victim) && isMaster(t.heir) && t.heir != t.victim, "%q was killed, and %q went on", t.victim, t.heir), want(t.took > 0 && t.took < 3*time.Second, "after %v", t.took))
}

// checkKept is what must be true of an order whose master was killed in the middle
// of the plan.
func checkKept(t *taken) []Check {
	return []Check{
		t.takenOver(),
		check("the run and its six steps are ok, and three of them were kept", t.runState(record.OK), t.stepStates("ok", tradeSteps()...),
			want(t.kept == killed && t.ran == len(tradeSteps())-killed, "%d kept, %d run", t.kept, t.ran)),
		check("by the workers' journal each step was done once, and nothing was undone",
			t.times("do", 1, tradeSteps()...), t.times("done", 1, tradeSteps()...), t.times("undo", 0, tradeSteps()...)),
		check("each waited for the one before it, over the change of masters, and the record tells how long it took", t.forward(), t.lasted(tradeTakes)),
		check("there is one file of each step", t.made(len(tradeSteps()))),
	}
}

// checkUndoneOnce is what must be true of one that was killed during the rollback.
func checkUndoneOnce(t *taken) []Check {
	all := tradeSteps()
	last := len(all) - 1
	return []Check{
		t.takenOver(),
		check("the run is rolled back, and says why", t.runState(record.RolledBack), t.stepStates("undone", all...),
			want(strings.Contains(t.rec.Error, "port 8080 is taken"), "its error is %q", t.rec.Error), want(t.kept == last-killed, "%d undone before the kill", t.kept)),
		check("by the workers' journal each step was done once and undone once",
			t.times("do", 1, all...), t.times("done", 1, all[:last]...), t.times("undo", 1, all...), t.times("undone", 1, all...)),
		check("undone in reverse order, over the change of masters", t.backward(), t.backwardReally()),
		check("none of its files is left", t.noFiles()),
	}
}
