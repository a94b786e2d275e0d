package sides

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/distgear/distgear"
	"github.com/distgear/distgear/cluster"
)

const (
	callerName = cluster.NodeName("caller")
	workerName = cluster.NodeName("worker")
)

// gear is what a process of the DistGear side knows: its actions and events, and what they counted.
type gear struct {
	sp    spec
	n     *distgear.Node
	runs  atomic.Uint64
	undos atomic.Uint64
	gate  *gate
	flow  flow

	text  *distgear.Action[string, string]
	order *distgear.Action[order, order]
	step  *distgear.Action[int64, int64]
	wait  *distgear.Action[int64, int64]
	tick  *distgear.Action[int64, struct{}]
	plan  *distgear.Event[int64, int64]
	hold  *distgear.Event[int64, int64]
}

func newGear(sp spec) *gear {
	g := &gear{sp: sp, gate: newGate()}
	g.text = &distgear.Action[string, string]{Name: "text", Do: func(_ context.Context, in string) (string, error) {
		g.runs.Add(1)
		return in, nil
	}}
	g.order = &distgear.Action[order, order]{Name: "order", Do: func(_ context.Context, in order) (order, error) {
		g.runs.Add(1)
		return in, nil
	}}
	g.step = &distgear.Action[int64, int64]{Name: "step",
		Do: func(_ context.Context, in int64) (int64, error) {
			g.runs.Add(1)
			return in + 1, nil
		},
		Undo: func(context.Context, distgear.Did[int64, int64]) error {
			g.undos.Add(1)
			return nil
		}}
	g.wait = &distgear.Action[int64, int64]{Name: "gate", Timeout: time.Hour, Do: func(ctx context.Context, in int64) (int64, error) {
		return in, g.gate.wait(ctx)
	}}
	g.tick = &distgear.Action[int64, struct{}]{Name: "tick", Do: func(_ context.Context, in int64) (struct{}, error) {
		g.flow.take(in)
		return struct{}{}, nil
	}}
	g.plan = &distgear.Event[int64, int64]{Name: "plan", On: g.onPlan}
	g.hold = &distgear.Event[int64, int64]{Name: "hold", On: func(ctx context.Context, r *distgear.Run, in int64) (int64, error) {
		g.runs.Add(1)
		return g.wait.Call(ctx, r.Node(), distgear.On(callerName), in)
	}}
	return g
}

// onPlan is the plan row's handler: a, b → c → d; d, e → f.
func (g *gear) onPlan(ctx context.Context, r *distgear.Run, x int64) (int64, error) {
	p := distgear.Plan{Rollback: true}
	on := distgear.On(workerName)
	a := g.step.Step(&p, on, x)
	b := g.step.Step(&p, on, x)
	c := g.step.StepFunc(&p, on, func() (int64, error) { return sum(a, b) }, a, b)
	d := g.step.StepFunc(&p, on, c.Result, c)
	e := g.step.Step(&p, on, x)
	f := g.step.StepFunc(&p, on, func() (int64, error) { return sum(d, e) }, d, e)
	if err := r.Do(ctx, &p); err != nil {
		return 0, err
	}
	return f.Result()
}

func sum(a, b *distgear.Step[int64]) (int64, error) {
	x, err := a.Result()
	if err != nil {
		return 0, err
	}
	y, err := b.Result()
	return x + y, err
}

func gearConfig(name cluster.NodeName) distgear.Config {
	return distgear.Config{Name: name, Logger: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))}
}

func gearRole(sp spec) (*role, error) {
	ctx := context.Background()
	rl := &role{Answers: map[string]func(string) (reply, error){}}
	g := newGear(sp)
	cfg := gearConfig(cluster.NodeName(sp.Role))
	cfg.Hub = sp.URL
	if sp.Role == "hub" || sp.Host || sp.Row == "one-way" {
		cfg.Hub, cfg.Serve = "", "127.0.0.1:0"
	}
	var err error
	if g.n, err = distgear.Join(ctx, cfg); err != nil {
		return nil, err
	}
	rl.Ready.URL = g.n.HubURL()
	rl.Stop = func() {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		g.n.Leave(ctx) // the parent has its figures; nothing hangs on this
	}
	switch {
	case sp.Role == "hub":
	case sp.Row == "one-way":
		return rl, g.oneWay(ctx, rl)
	case sp.Row == "same-node" || sp.Row == "same-node-struct":
		return rl, g.sameNode(ctx, rl)
	case sp.Role == "worker":
		rl.Answers["count"] = func(string) (reply, error) {
			if n := g.undos.Load(); n > 0 {
				return reply{}, fmt.Errorf("%d steps were undone", n)
			}
			return reply{Runs: g.runs.Load()}, nil
		}
		rl.Answers["rss"] = rssAnswer(sp)
		return rl, g.n.Handle(g.text, g.order, g.step, g.hold)
	case sp.Role == "caller":
		return rl, g.caller(ctx, rl)
	}
	return rl, nil
}

// contact waits until call succeeds: the caller's view of the members may be older than the worker.
func contact(call func() error) func(string) (reply, error) {
	return func(string) (reply, error) {
		var err error
		for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
			if err = call(); err == nil {
				break
			}
		}
		return reply{}, err
	}
}

func (g *gear) caller(ctx context.Context, rl *role) error {
	on := distgear.On(workerName)
	text := func(caller int) func(int) error {
		in := ringOf(caller)
		return func(k int) error {
			out, err := g.text.Call(ctx, g.n, on, in[k%ring])
			if err == nil && out != in[k%ring] {
				err = errMixed(caller, k)
			}
			return err
		}
	}
	orders := func(caller int) func(int) error {
		var in [ring]order
		for i := range in {
			in[i] = orderOf(caller, i)
		}
		return func(k int) error {
			out, err := g.order.Call(ctx, g.n, on, in[k%ring])
			if err == nil && out != in[k%ring] {
				err = errMixed(caller, k)
			}
			return err
		}
	}
	plans := func(caller int) func(int) error {
		return func(k int) error {
			x := int64(caller)<<32 | int64(k)
			f, err := g.plan.Raise(ctx, g.n, x)
			if err != nil {
				return err
			}
			v, err := f.Wait(ctx)
			if err == nil && v != planResult(x) {
				err = errMixed(caller, k)
			}
			return err
		}
	}
	rl.Answers["contact"] = contact(func() error {
		_, err := g.text.Call(ctx, g.n, on, "contact")
		return err
	})
	switch g.sp.Row {
	case "call":
		rl.Answers["run"] = func(string) (reply, error) { return latency(g.sp, text) }
	case "commands-string":
		rl.Answers["run"] = func(string) (reply, error) { return throughput(g.sp, text) }
	case "commands-struct":
		rl.Answers["run"] = func(string) (reply, error) { return throughput(g.sp, orders) }
	case "plan":
		rl.Answers["run"] = func(string) (reply, error) { return throughput(g.sp, plans) }
		return g.n.Handle(g.plan)
	case "memory":
		memoryAnswers(g.sp, rl, g.gate, func(x int64) func() (int64, error) {
			f, err := g.hold.Raise(ctx, g.n, x)
			return func() (int64, error) {
				if err != nil {
					return 0, err
				}
				return f.Wait(ctx)
			}
		})
		return g.n.Handle(g.wait)
	default:
		return fmt.Errorf("distgear has no row %q", g.sp.Row)
	}
	return nil
}

// oneWay has a second node in this process, joined to the first over loopback.
func (g *gear) oneWay(ctx context.Context, rl *role) error {
	cfg := gearConfig(workerName)
	cfg.Hub = g.n.HubURL()
	b, err := distgear.Join(ctx, cfg)
	if err != nil {
		return err
	}
	stop := rl.Stop
	rl.Stop = func() {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		b.Leave(ctx)
		stop()
	}
	if err := b.Handle(g.tick, g.text); err != nil {
		return err
	}
	on := distgear.On(workerName)
	if _, err := contact(func() error { _, err := g.text.Call(ctx, g.n, on, "contact"); return err })(""); err != nil {
		return err
	}
	rl.Answers["run"] = func(string) (reply, error) {
		full := 0
		r, err := oneWay(g.sp, &g.flow, func(v int64) error {
			for {
				err := g.tick.Send(ctx, g.n, on, v)
				if !errors.Is(err, distgear.ErrOverloaded) {
					return err
				}
				full++ // no credit: nothing was sent
				runtime.Gosched()
			}
		}, func() error { return nil })
		if err == nil {
			r.Values["full"] = float64(full)
		}
		return r, err
	}
	return nil
}

func (g *gear) sameNode(ctx context.Context, rl *role) error {
	if err := g.n.Handle(g.text, g.order); err != nil {
		return err
	}
	on := distgear.On(g.n.Name())
	rl.Answers["run"] = func(string) (reply, error) {
		in, o := ringOf(0)[0], orderOf(0, 0)
		if g.sp.Row == "same-node-struct" {
			return local(g.sp, func(k int) error {
				out, err := g.order.Call(ctx, g.n, on, o)
				if err == nil && out != o {
					err = errMixed(0, k)
				}
				return err
			})
		}
		return local(g.sp, func(k int) error {
			out, err := g.text.Call(ctx, g.n, on, in)
			if err == nil && out != in {
				err = errMixed(0, k)
			}
			return err
		})
	}
	return nil
}
