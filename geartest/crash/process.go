package crash

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/distgear/distgear"
	"github.com/distgear/distgear/internal/journal"
	"github.com/distgear/distgear/internal/runner"
)

// owner is one that the run has. It implements journal.Journal.
type owner struct {
	w       *world
	p       *process
	ctx     *runner.Context
	over    chan struct{} // closed when the handler has returned
	gave    bool          // the last entry was appended, with
	summary []byte
	dead    atomic.Bool
}

func (o *owner) isDead() bool { return o.dead.Load() }

// die has nobody hear of the owner any more, and nothing told to it.
func (o *owner) die() {
	o.dead.Store(true)
	o.ctx.Cancel(context.Canceled)
}

// Append implements journal.Journal.
func (o *owner) Append(e journal.Entry, then func(error)) {
	var summary []byte
	if e.Give != nil && e.Give.Summary != nil {
		summary = e.Give.Summary()
	}
	o.w.push("", func() {
		o.gave, o.summary = o.gave || e.Give != nil, summary
		o.w.appended(o, e, then)
	})
}

// process is one that a node is in, with the steps that it does.
type process struct {
	w      *world
	n      *distgear.Node
	ctx    context.Context // of the steps
	cancel context.CancelFunc
	gone   chan struct{} // closed when it has died
	busy   sync.WaitGroup

	mu   sync.Mutex
	dead bool
}

// start starts a process.
func (w *world) start() *process {
	p := &process{w: w, gone: make(chan struct{})}
	p.ctx, p.cancel = context.WithCancel(context.WithoutCancel(w.t.Context()))
	n, err := distgear.Join(p.ctx, distgear.Config{
		Name: cmp.Or(w.s.name, "node-1"), Labels: w.s.labels, Logger: slog.New(slog.NewTextHandler(w.t.Output(), nil)), Wrap: p.wrap,
		Handlers: append([]distgear.Handler{w.s.event}, w.s.steps...),
	})
	if err != nil {
		w.t.Fatalf("crash: %v", err)
	}
	if n.HubURL() != "" {
		_ = n.Leave(p.ctx)
		w.t.Fatal("crash: the node must be alone: unset DISTGEAR_HUB and DISTGEAR_SERVE")
	}
	p.n = n
	return p
}

// die ends a process: nothing begins in it any more. world.bury does the rest.
func (p *process) die() {
	p.mu.Lock()
	p.dead = true
	p.mu.Unlock()
}

func (p *process) isDead() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.dead
}

// enter counts a step, unless the process has died.
func (p *process) enter() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.dead {
		p.busy.Add(1)
	}
	return !p.dead
}

// wrap makes points of where steps begin and end.
func (p *process) wrap(h distgear.Handler) distgear.Handler {
	if h == p.w.s.event {
		return h
	}
	return &step{h, p}
}

type step struct {
	distgear.Handler

	p *process
}

var errDead = errors.New("crash: the process has died")

// Serve implements distgear.Handler.
func (s *step) Serve(ctx context.Context, c *distgear.Command) ([]byte, error) {
	p := s.p
	if !p.enter() {
		return nil, errDead
	}
	defer p.busy.Done()
	what := fmt.Sprintf("%s, attempt %d", strings.TrimPrefix(c.Key, runID+"/"), c.Attempt)
	if !p.turn("before " + what) {
		return nil, errDead
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(p.ctx, cancel)()
	out, err := s.Handler.Serve(ctx, c)
	if !p.turn("after " + what) {
		return nil, errDead
	}
	return out, err
}

// turn waits for a point; false: the process died there, or before.
func (p *process) turn(name string) bool {
	on := make(chan struct{})
	p.w.push(name, func() {
		if p.isDead() {
			return
		}
		if p.w.pass(name); !p.isDead() {
			close(on)
		}
	})
	select {
	case <-on:
		return true
	case <-p.gone:
		return false
	}
}
