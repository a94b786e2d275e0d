package runs_test

import (
	"fmt"
	"strings"
	"time"

	"github.com/distgear/distgear/cluster"
	"github.com/distgear/distgear/internal/fault"
	"github.com/distgear/distgear/internal/journal"
	"github.com/distgear/distgear/internal/place"
	"github.com/distgear/distgear/internal/wire"
)

// deliver serves a command at a worker.
func (w *world) deliver(at place.Place, f *flight, c *wire.Command) {
	x := w.alive(at.Life)
	if x == nil || x.dead.Load() {
		w.push(func() {
			if !f.by.dead.Load() {
				f.to.Report(wire.Report{Over: true})
			}
		})
		return
	}
	w.mu.Lock()
	f.number = len(w.trace)
	x.flights[f] = true
	w.mu.Unlock()
	go func() {
		what := c.Key
		if c.Owner.Attach {
			what += " (attach)"
		}
		r := x.table.Serve(f.ctx, c, time.Now(), func() wire.Report { return w.serve(x, f, c) })
		w.say("%s: %s: %d", x.at.Node, what, r.Outcome)
		w.pass("stored "+what, nil, x)
		if !x.dead.Load() {
			w.report(x, f, r)
			w.pass("reported "+what, nil, x)
		}
	}()
}

// serve does what an action does, to the world outside.
func (w *world) serve(x *worker, f *flight, c *wire.Command) wire.Report {
	key := wire.KeyOf(c)
	base, end := key[:strings.LastIndexByte(key, '/')], key[strings.LastIndexByte(key, '/')+1:]
	step := base[strings.LastIndexByte(base, '/')+1:]
	undo := end == "undo"
	w.pass("before "+c.Key, nil, x)
	if x.dead.Load() {
		return wire.Report{}
	}
	if f.ctx.Cancelled() != nil {
		return fault.NeverRan(fault.ErrCancelled, fault.Cancelled)
	}
	w.begins(base, step, undo)
	r := wire.Report{Outcome: wire.OK, Over: true, Payload: []byte("did " + step)}
	if undo {
		r.Payload = nil
		if w.undo != nil {
			r = w.undo(w, step)
		}
		if r.Outcome == wire.OK {
			w.mu.Lock()
			w.effects[base] = max(0, w.effects[base]-1)
			if strings.HasPrefix(c.Kind, "idem") {
				w.effects[base] = 0
			}
			w.mu.Unlock()
		}
	} else {
		if w.do != nil {
			r = w.do(w, c.Kind, step, base, c.Input, c.Attempt)
		}
		if r.Outcome == wire.OK || r.Outcome == wire.Dirty {
			w.mu.Lock()
			w.effects[base]++
			w.ran[base]++
			if strings.HasPrefix(c.Kind, "idem") {
				w.effects[base] = 1
			}
			w.mu.Unlock()
		}
	}
	w.say("%s: effect of %s: %d", x.at.Node, c.Key, r.Outcome)
	w.pass("after "+c.Key, nil, x)
	w.mu.Lock()
	delete(w.doing, base)
	delete(w.undoing, base)
	w.mu.Unlock()
	if x.dead.Load() {
		return wire.Report{}
	}
	return r
}

// begins checks what must hold when an action, or an undo, begins.
func (w *world) begins(base, step string, undo bool) {
	w.mu.Lock()
	ok, doing, undoing := w.ok[base], w.doing[base], w.undoing[base]
	var open []string
	for _, d := range w.below[step] {
		k := strings.TrimSuffix(base, step) + d
		if w.effects[k] != 0 || w.doing[k] || w.undoing[k] {
			open = append(open, d)
		}
	}
	if undo {
		w.undoing[base] = true
	} else {
		w.doing[base] = true
	}
	w.mu.Unlock()
	switch {
	case !undo && ok:
		w.wrong("I2: %s runs again although its OK is in the journal", base)
	case undo && len(open) > 0:
		w.wrong("I3: undo of %s begins before %v are undone", base, open)
	case doing || undoing:
		w.wrong("I4: %s begins (undo: %v) beside another", base, undo)
	}
}

// asError is Host.Error.
func asError(r wire.Report, node cluster.NodeName, kind string) error {
	if r.Outcome == wire.OK {
		return nil
	}
	if r.Error == nil {
		return fmt.Errorf("%w: %s at %s", fault.ErrUnknown, kind, node)
	}
	return fmt.Errorf("%s at %s: %s (%w)", kind, node, r.Error.Message, fault.TraceOf(r.Error))
}

// shown is an entry in the trace.
func (w *world) shown(e journal.Entry) string {
	var b strings.Builder
	if e.Unit != nil {
		_, recs, _ := journal.Parse(e.Unit)
		for _, r := range recs {
			fmt.Fprintf(&b, "%s %d", r.Kind, r.Step)
			if r.Undo {
				b.WriteString(" undo")
			}
			if r.Kind == journal.Reported || r.Kind == journal.Ended {
				fmt.Fprintf(&b, " %d", r.Report.Outcome)
			}
			b.WriteString("; ")
		}
	}
	if e.Give != nil {
		fmt.Fprintf(&b, "give %d %s %s", e.Give.Why, e.Give.State, e.Give.Text)
	}
	return b.String()
}

// clock is the hub's.
func (w *world) clock() time.Time { return time.Now().Add(w.ahead) }
