package sides

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/distgear/distgear"
	"github.com/distgear/distgear/bench/proc"
	"github.com/distgear/distgear/cluster"
)

// chain is the input of an event of so many steps: the number of the first.
type chain struct{ First, Steps int }

// durables is what a process of the DistGear side of a row about durable events knows.
type durables struct {
	sp      spec
	n       *distgear.Node
	tally   proc.Tally
	step    *distgear.Action[int, int]
	hold    *distgear.Action[int, int] // waits until the rest may go on
	durable *distgear.Event[chain, int]
	plain   *distgear.Event[chain, int]
	holding atomic.Int64
	open    chan struct{}
	held    []*distgear.Future[int]
}

// parallel is how many runs are under way when one of two masters is killed.
const parallel = 64

// durableRole is a process of the DistGear side of a row about durable events. As with its rivals one process raises, owns the runs and does the steps; the
// ledger is in another. Of the row durable-recovery two workers own the runs, and the caller does the steps.
func durableRole(sp spec) (*role, error) {
	if sp.Role == "hub" {
		return sharedHub(sp)
	}
	cfg := gearConfig(cluster.NodeName(fmt.Sprint(sp.Role, sp.Node)))
	cfg.Hub = sp.URL
	x := &durables{sp: sp, open: make(chan struct{})}
	x.step = &distgear.Action[int, int]{Name: "step", Do: func(_ context.Context, i int) (int, error) {
		if x.tally != nil {
			x.tally.Ran(i)
		}
		return i + 1, nil
	}}
	x.hold = &distgear.Action[int, int]{Name: "hold", Timeout: time.Minute, Do: func(ctx context.Context, i int) (int, error) {
		x.holding.Add(1)
		select {
		case <-x.open:
		case <-ctx.Done():
		}
		return i + 1, nil
	}}
	x.durable = &distgear.Event[chain, int]{Name: "durable", Durable: true, On: x.on}
	x.plain = &distgear.Event[chain, int]{Name: "plain", On: x.on}
	n, err := distgear.Join(context.Background(), cfg)
	if err != nil {
		return nil, err
	}
	x.n = n
	answers := map[string]func(string) (reply, error){}
	rl := &role{Answers: answers, Stop: func() {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		n.Leave(ctx) // the parent has its figures; nothing hangs on this
	}}
	if sp.Row == "durable-waiting" {
		return rl, waitingRole(sp, n, rl)
	}
	if sp.Row == "durable-recovery" {
		if sp.Role == "worker" {
			return rl, n.Handle(x.durable)
		}
		answers["stick"] = func(string) (reply, error) { return reply{}, x.stick() }
		answers["ended"] = func(string) (reply, error) { return reply{}, x.ended() }
		return rl, n.Handle(x.step, x.hold)
	}
	keep := func(t proc.Tally) { x.tally = t }
	one := func(e *distgear.Event[chain, int], first, steps int) error {
		f, err := e.Raise(context.Background(), n, chain{first, steps})
		if err != nil {
			return err
		}
		return ended(f, first+steps)
	}
	answers["run"] = func(string) (reply, error) {
		switch sp.Row {
		case "durable-steps":
			return proc.Sequence(sp, 10, keep, func(task int) error { return one(x.durable, task*10, 10) })
		case "durable-cost":
			return x.cost(keep, one)
		}
		return proc.InFlight(sp, keep, func(task int) error { return one(x.durable, task, 1) })
	}
	return rl, n.Handle(x.step, x.hold, x.durable, x.plain)
}

func ended(f *distgear.Future[int], want int) error {
	last, err := f.Wait(context.Background())
	if err == nil && last != want {
		err = fmt.Errorf("the event ended with %d, not %d", last, want)
	}
	return err
}

// on runs steps one after another; of the row durable-recovery the second of three is held.
func (x *durables) on(ctx context.Context, r *distgear.Run, in chain) (int, error) {
	p := distgear.Plan{Name: "flow"}
	s := x.step.Step(&p, distgear.Any(), in.First)
	for i := 1; i < in.Steps; i++ {
		before, a := s, x.step
		if x.sp.Row == "durable-recovery" && i == 1 {
			a = x.hold
		}
		s = a.StepFunc(&p, distgear.Any(), before.Result, before)
	}
	if err := r.Do(ctx, &p); err != nil {
		return 0, err
	}
	return s.Result()
}

// cost compares durable events of one step with the same that are not.
func (x *durables) cost(keep func(proc.Tally), one func(e *distgear.Event[chain, int], first, steps int) error) (reply, error) {
	plain, err := proc.InFlight(x.sp, keep, func(task int) error { return one(x.plain, task, 1) })
	if err != nil {
		return reply{}, err
	}
	r, err := proc.InFlight(x.sp, keep, func(task int) error { return one(x.durable, task, 1) })
	if err == nil {
		r.Values["cost"] = plain.Values["rate"] / r.Values["rate"]
	}
	return r, err
}

// stick raises runs and waits until all are in their second step.
func (x *durables) stick() error {
	for i := range parallel {
		f, err := x.durable.Raise(context.Background(), x.n, chain{i, 3})
		if err != nil {
			return err
		}
		x.held = append(x.held, f)
	}
	for end := time.Now().Add(20 * time.Second); x.holding.Load() < parallel; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			return fmt.Errorf("%d of %d runs are under way", x.holding.Load(), parallel)
		}
	}
	return nil
}

// ended lets them go on, and waits until all have ended. Nothing may have run twice.
func (x *durables) ended() error {
	close(x.open)
	for i, f := range x.held {
		if err := ended(f, i+3); err != nil {
			return err
		}
	}
	if n := x.holding.Load(); n != parallel {
		return fmt.Errorf("%d steps ran for %d runs", n, parallel)
	}
	return nil
}
