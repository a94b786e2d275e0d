package tasks

import (
	"fmt"
	"slices"

	"github.com/distgear/distgear/internal/machine"
	"github.com/distgear/distgear/internal/machine/words"
)

// check compares the machine with what is obviously true, after an operation.
func (w *world) check() error {
	// Who waits comes in before anything is leased.
	for len(w.line) > 0 {
		x := w.line[0]
		for len(x.specs) > 0 && w.takeUp(x.specs[0], x.watch) {
			x = &sub{x.who, x.specs[1:], x.watch}
			w.line[0] = x
		}
		if len(x.specs) > 0 {
			break
		}
		w.line = w.line[1:]
	}
	finished := map[uint64]int{}
	type telling struct {
		number uint64
		to     machine.Session
	}
	told := map[telling]bool{}
	for i := range w.out.Effects {
		e := &w.out.Effects[i]
		var err error
		switch e.Code {
		case Run:
			err = w.run(e)
		case Recall:
			err = w.recalled(e)
		case Finished:
			finished[e.Task.Number]++
			if of := (telling{e.Task.Number, e.To.Session}); told[of] && !w.twice[e.Task.ID] {
				err = fmt.Errorf("task %d is finished twice", e.Task.Number)
			} else {
				told[of] = true
			}
		}
		if err != nil {
			return err
		}
	}
	w.out.Reset()
	for _, t := range w.tasks {
		has := w.m.Numbered(t.number)
		switch {
		case has == nil && t.state != 0:
			return fmt.Errorf("task %d is lost, want state %d", t.number, t.state)
		case has == nil:
			continue
		case has.State != t.state || has.Epoch != t.epoch || has.Worker() != t.worker || has.ID != t.ID:
			return fmt.Errorf("task %d: state %d, lease %d of %d, want %d, %d of %d", t.number, has.State, has.Epoch, has.Worker(), t.state, t.epoch, t.worker)
		case int(has.losses) != t.losses && t.state < Parked:
			return fmt.Errorf("task %d: %d losses, want %d", t.number, has.losses, t.losses)
		case t.state < Parked && t.ran != (has.before() != NeverRan):
			return fmt.Errorf("task %d: ran %v", t.number, t.ran)
		}
		if t.ID != "" && t.state == Ended && w.ended[t.number] != 1 {
			return fmt.Errorf("task %d has ended %d times", t.number, w.ended[t.number])
		}
		if t.state >= Parked {
			if t.watched && finished[t.number] == 0 {
				return fmt.Errorf("nobody is told of the end of task %d", t.number)
			}
			t.watched = false
		}
	}
	for p := range w.passed {
		if !slices.ContainsFunc(w.tasks, func(t *task) bool { return t.state == Ready && t.turn() == p.waits && !w.blocked(t) }) {
			delete(w.passed, p)
		}
	}
	return w.stuck()
}

func (h *hand) can(t *task) bool {
	return len(h.Kinds) == 0 || slices.Contains(h.Kinds, t.Kind)
}

// credit tells whether a worker may get a task.
func (w *world) credit(s machine.Session, t *task) bool {
	h, n := w.workers[s], len(w.held(s))
	if h == nil || h.quiet || h.Slots == 0 || !h.can(t) {
		return false
	}
	if n < h.Slots {
		return true
	}
	return !t.strict() && n < h.Slots+h.Prefetch
}

func (w *world) running(key string) (n int) {
	for _, t := range w.tasks {
		if t.state == Leased && (key == "" || t.Key == key) {
			n++
		}
	}
	return n
}

// run checks a lease.
func (w *world) run(e *Effect[string]) error {
	t := w.find(e.Task.Number)
	s := e.To.Session
	switch {
	case t == nil || t.state != Ready || e.Lease.Number != t.number || e.Lease.Epoch != t.epoch+1:
		return fmt.Errorf("a lease of a task that is not ready: %+v, %+v", e.Lease, t)
	case w.paused:
		return fmt.Errorf("a lease of task %d while paused", t.number)
	case !w.credit(s, t):
		return fmt.Errorf("task %d is leased to %d, which has no credit", t.number, s)
	case w.lim.Running > 0 && w.running("") >= w.lim.Running:
		return fmt.Errorf("task %d is leased beyond the limit", t.number)
	case t.Key != "" && w.lim.KeyRunning > 0 && w.running(t.Key) >= w.lim.KeyRunning:
		return fmt.Errorf("task %d is leased beyond the limit of its key", t.number)
	}
	for _, o := range w.tasks {
		if o.state != Ready || o == t {
			continue
		}
		if o.Key == t.Key && o.Priority == t.Priority && o.Kind == t.Kind && o.Idempotent == t.Idempotent && o.lost == t.lost && o.order < t.order {
			return fmt.Errorf("task %d is leased before %d", t.number, o.number)
		}
		if o.Priority > t.Priority && w.credit(s, o) && !w.lim.Sticky && !w.blocked(o) {
			return fmt.Errorf("task %d is leased before %d, which has a higher priority", t.number, o.number)
		}
	}
	if err := w.emptiest(s, t); err != nil {
		return err
	}
	if err := w.fair(t); err != nil {
		return err
	}
	t.state, t.epoch, t.worker, t.lease = Leased, t.epoch+1, s, len(w.leases)
	w.leases = append(w.leases, w.now)
	return w.rated()
}

// emptiest checks that a free slot goes before a place in a queue, and the emptiest worker first.
func (w *world) emptiest(s machine.Session, t *task) error {
	if w.lim.Sticky {
		return nil
	}
	mine := w.workers[s].Slots - len(w.held(s))
	for o, h := range w.workers {
		spare := h.Slots - len(w.held(o))
		if o != s && w.credit(o, t) && spare > mine && (spare > 0 || !w.strict()) {
			return fmt.Errorf("task %d is leased to %d, and %d is emptier", t.number, s, o)
		}
	}
	return nil
}

// blocked tells whether a task's key may have no more now.
func (w *world) blocked(t *task) bool {
	return t.Key != "" && (w.lim.KeyRunning > 0 && w.running(t.Key) >= w.lim.KeyRunning || w.lim.KeyRate > 0)
}

// turn names what takes turns: a key and priority; and in which class.
type turn struct {
	key      string
	priority int8
	kind     string
	strict   bool
	lost     bool
}

func (t *task) turn() turn { return turn{t.Key, t.Priority, t.Kind, !t.Idempotent, t.lost} }

// passing is that one had a turn while another waited for one.
type passing struct{ waits, served turn }

// fair checks that no key has two turns while another waits for one.
func (w *world) fair(t *task) error {
	if w.lim.Sticky || w.lim.KeyRate > 0 {
		return nil
	}
	mine := t.turn()
	waits := map[turn]bool{}
	for _, o := range w.tasks {
		other := o.turn()
		if o.state != Ready || o.Key == t.Key || o.Priority != t.Priority || other.kind != mine.kind || other.strict != mine.strict || other.lost != mine.lost || w.blocked(o) || waits[other] {
			continue
		}
		waits[other] = true
		w.passed[passing{other, mine}]++
		if w.passed[passing{other, mine}] > 2 {
			return fmt.Errorf("key %q had its turn three times while %q waits", t.Key, o.Key)
		}
	}
	for p := range w.passed {
		if p.waits.key == t.Key && p.waits.priority == t.Priority && (t.Key != "" || p.waits == mine) || p.served == mine && !waits[p.waits] {
			delete(w.passed, p)
		}
	}
	return nil
}

// rated checks the executor's rate: over no time are there more leases than it allows.
func (w *world) rated() error {
	if w.lim.Rate == 0 {
		return nil
	}
	most := int64(w.lim.Burst)
	if most == 0 {
		most = max(w.lim.Rate/10_000, 1)
	}
	for i := len(w.leases) - 1; i >= 0; i-- {
		n, took := int64(len(w.leases)-i), w.now-w.leases[i]
		if n*words.PerToken > most*words.PerToken+took*w.lim.Rate {
			return fmt.Errorf("%d leases in %d ms", n, took)
		}
	}
	return nil
}

func (w *world) recalled(e *Effect[string]) error {
	t := w.find(e.Task.Number)
	switch {
	case t == nil || t.state != Leased || t.epoch != e.Lease.Epoch || t.worker != e.To.Session:
		return fmt.Errorf("a recall of what is not leased: %+v", e.Lease)
	case t.strict() || t.asked || t.cancel || t.park:
		return fmt.Errorf("task %d must not be recalled", t.number)
	case len(w.held(t.worker)) < 2:
		return fmt.Errorf("task %d is recalled, and alone at its worker", t.number)
	}
	t.asked = true
	for o := range w.workers {
		if o != t.worker && w.credit(o, t) && len(w.held(o)) < w.workers[o].Slots {
			return nil
		}
	}
	return fmt.Errorf("task %d is recalled for nobody", t.number)
}

// strict tells that something waits that cannot be prefetched, for which slots are kept.
func (w *world) strict() bool {
	for _, t := range w.tasks {
		if t.state == Ready && t.strict() {
			return true
		}
	}
	return false
}

// stuck checks that nothing waits that could run.
func (w *world) stuck() error {
	if w.paused || w.lim.Running > 0 && w.running("") >= w.lim.Running {
		return nil
	}
	strict := w.strict()
	for _, t := range w.tasks {
		if t.state != Ready || w.blocked(t) {
			continue
		}
		for s, h := range w.workers {
			if !w.credit(s, t) || strict && len(w.held(s)) >= h.Slots || w.lim.Sticky && t.Key != "" || h.Bytes > 0 {
				continue
			}
			if w.lim.Rate > 0 && w.m.Due() != 0 {
				continue // it is waited for
			}
			return fmt.Errorf("task %d waits, and %d has credit", t.number, s)
		}
	}
	return nil
}
