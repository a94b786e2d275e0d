package distgear

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/distgear/distgear/cluster"
	"github.com/distgear/distgear/internal/runner"
	"github.com/distgear/distgear/internal/wire"
	"github.com/distgear/distgear/record"
)

// Run is one execution of an event, as its handler sees it. It is safe for
// concurrent use.
type Run struct {
	id      record.RunID
	n       *Node
	event   string
	ctx     *runner.Context
	joining *cluster.NodeName // a node that may be addressed before it is a member

	mu      sync.Mutex
	drives  []*drive
	started int64 // ns since 1970
	version uint32
	input   []byte
	end     *ending       // nil while it goes on
	changed chan struct{} // closed at the next change; nil: nobody waits
	nested  bool
	stopped bool // cancelled by somebody
}

// ending is how a run ended.
type ending struct {
	at      time.Time
	out     []byte
	err     error
	outcome wire.Outcome
}

// key is the key of the command that began the run.
func (r *Run) key() string {
	key, _, _ := strings.Cut(string(r.id), "#") // a further attempt's id
	return key
}

// reach is a node that the run may address before it is a member.
func (r *Run) reach() cluster.NodeName {
	if r.joining == nil {
		return ""
	}
	return *r.joining
}

// ID is the run's id.
func (r *Run) ID() record.RunID { return r.id }

// Node is the node that handles the event.
func (r *Run) Node() *Node { return r.n }

// Do runs a plan and returns when nothing of it runs any more: all steps are
// OK, or it returns a *PlanError that says which step failed, why, and whether
// all was rolled back. A faulty plan is ErrInvalid and nothing was sent.
//
// When ctx ends (the run was cancelled or its timeout is over), no further
// step starts, what runs is cancelled, and with Rollback all is undone before
// Do returns: a rollback does not heed ctx. While an undo is stuck Do waits
// for an operator (Node.ResolveUndo).
func (r *Run) Do(ctx context.Context, p *Plan) error {
	n := r.n
	if p.Via != nil {
		n = p.Via
	}
	r.mu.Lock()
	number := len(r.drives) + 1
	r.mu.Unlock()
	name := p.Name
	if name == "" {
		name = strconv.Itoa(number)
		p.Name = name
	}
	if err := p.validate(n); err != nil {
		return err
	}
	d := newDrive(r, n, p, name)
	r.mu.Lock()
	r.drives = append(r.drives, d)
	r.touchLocked()
	r.mu.Unlock()
	d.run(ctx)
	r.mu.Lock()
	defer r.mu.Unlock()
	return d.err(ctx)
}

// touchLocked counts a change and tells who watches.
func (r *Run) touchLocked() {
	r.version++
	if r.changed != nil {
		close(r.changed)
		r.changed = nil
	}
}

// watch returns a channel that is closed at the next change.
func (r *Run) watch() <-chan struct{} {
	if r.changed == nil {
		r.changed = make(chan struct{})
	}
	return r.changed
}

// wait waits for the end of the run.
func (r *Run) wait(ctx context.Context) ([]byte, error) {
	for {
		r.mu.Lock()
		if end := r.end; end != nil {
			r.mu.Unlock()
			return end.out, end.err
		}
		c := r.watch()
		r.mu.Unlock()
		select {
		case <-c:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// size is about how many bytes a finished run holds on to.
func (r *Run) size() int {
	n := 512 + len(r.input) + len(r.end.out)
	for _, d := range r.drives {
		for _, s := range d.p.steps {
			n += 512 + len(s.input) + len(s.result)
		}
	}
	return n
}

// clean tells whether nothing of a failed run's plans is left.
func (r *Run) clean() bool {
	for _, d := range r.drives {
		if !d.p.Rollback || !d.m.RolledBack() {
			return false
		}
	}
	return len(r.drives) > 0
}

// later runs f on a goroutine that Leave waits for; false when the node has
// left.
func (n *Node) later(f func()) bool {
	select {
	case <-n.stop:
		return false
	default:
	}
	n.active.Add(1)
	n.wg.Go(func() {
		defer n.finished()
		f()
	})
	return true
}

// unwind rolls a finished run back: its plans in reverse order (S16).
func (g *registry) unwind(ctx context.Context, key string) error {
	key = undoKey(key)
	g.mu.Lock()
	r := g.nested[key]
	g.mu.Unlock()
	if r == nil {
		g.mu.Lock()
		gone := g.forgot
		g.mu.Unlock()
		if gone {
			return fmt.Errorf("%w: run %s is not remembered any more", ErrNoRun, key)
		}
		return nil // it never began here, or failed and was rolled back: nothing to undo
	}
	if _, err := r.wait(ctx); err != nil && ctx.Err() != nil {
		return err
	}
	r.mu.Lock()
	drives := r.drives
	r.mu.Unlock()
	for i := len(drives) - 1; i >= 0; i-- {
		d := drives[i]
		if !d.p.Rollback {
			continue
		}
		done := make(chan struct{})
		d.post(mail{what: mUnwind, done: done})
		select {
		case <-done:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		r.mu.Lock()
		ok := d.m.RolledBack()
		r.mu.Unlock()
		if !ok {
			return fmt.Errorf("plan %s of run %s is not all undone", d.name, r.id)
		}
	}
	g.mu.Lock()
	delete(g.nested, key)
	g.mu.Unlock()
	return nil
}

// begin makes the run of a command. A run of the same ID that is known
// already is the twin; with another input that is a conflict.
func (g *registry) begin(event string, c *Command) (r, twin *Run, err error) {
	id := record.RunID(c.Key)
	if id == "" {
		id = g.newID()
	}
	if c.nested && c.Attempt > 1 {
		id += record.RunID("#" + strconv.Itoa(c.Attempt))
	}
	r = &Run{id: id, n: g.n, event: event, ctx: c.ctx, nested: c.nested, input: c.Input, started: time.Now().UnixNano(), version: 1}
	g.mu.Lock()
	defer g.mu.Unlock()
	if old := g.runs[id]; old != nil {
		if old.event != event || !bytes.Equal(old.input, c.Input) {
			return nil, nil, Permanent(Clean(fmt.Errorf("%w: %s", ErrConflict, id)))
		}
		return nil, old, nil
	}
	g.runs[id] = r
	if r.nested {
		g.nested[c.Key] = r
	}
	return r, nil, nil
}

// end ends a run and passes its outcome on.
func (g *registry) end(r *Run, out []byte, err error) ([]byte, error) {
	r.mu.Lock()
	if err != nil && r.clean() {
		err = Clean(err) // S16: nothing of it is left
	}
	end := &ending{at: time.Now(), out: out, err: err, outcome: wire.OK}
	if err != nil {
		end.outcome = failure(err).Outcome
	}
	r.end = end
	r.stopped = r.stopped || err != nil && r.ctx != nil && errors.Is(r.ctx.Cancelled(), context.Canceled)
	r.input = bytes.Clone(r.input) // it points into a message
	r.ctx = nil
	r.touchLocked()
	size := r.size()
	r.mu.Unlock()
	if !r.nested {
		g.release(r)
	}
	g.mu.Lock()
	if r.nested && end.outcome == wire.Clean {
		delete(g.nested, r.key())
	}
	g.keep(r, size)
	g.mu.Unlock()
	return out, err
}

// release lets the runs of nested events go that can no longer be undone.
func (g *registry) release(r *Run) {
	r.mu.Lock()
	type nested struct {
		n   *Node
		at  place
		key string
	}
	var ns []nested
	for _, d := range r.drives {
		for i, s := range d.p.steps {
			if s.event && d.tracks[i].at.life != 0 {
				ns = append(ns, nested{d.n, d.tracks[i].at, d.key(s, "/do")})
			}
		}
	}
	r.mu.Unlock()
	for _, x := range ns {
		c := wire.Command{Kind: kindRelease, Key: x.key}
		if x.at.life == x.n.id {
			_, _ = x.n.start(x.at, &c, 0, nobody{})
		} else { // bounded at the other end if it is lost
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			_ = x.n.end.Send(ctx, x.at.life, &c)
			cancel()
		}
	}
}

// released forgets a nested run, and releases what is nested in it.
func (g *registry) released(_ context.Context, c *Command) ([]byte, error) {
	g.mu.Lock()
	r := g.nested[c.Key]
	delete(g.nested, c.Key)
	g.mu.Unlock()
	if r != nil {
		g.release(r)
	}
	return nil, nil
}
