package tasks

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/distgear/distgear/internal/machine"
)

// world is a machine and beside it what is obviously true of it: a list of tasks,
// and what each worker has. After each operation it checks that the machine's tasks are
// in the states that the rules give, that each lease is allowed, and that nothing waits
// that could run.
type world struct {
	m       *Machine[string]
	out     Out[string]
	now     int64
	tasks   []*task // by number
	line    []*sub
	workers map[machine.Session]*hand
	lim     Limits
	paused  bool
	front   int // order of what is in front; back of what comes at the end
	back    int
	leases  []int64 // when, for rates
	passed  map[passing]int
	ended   map[uint64]int  // Finished effects with State Ended, by number, less retries
	twice   map[string]bool // IDs that were submitted again: who did is told again, too
	req     uint64
	log     []string
}

type task struct {
	Spec
	number   uint64
	state    State
	epoch    uint32
	worker   machine.Session
	since    int64
	attempts int
	losses   int
	lost     bool // it is leased to free slots only
	ran      bool // an attempt failed or was lost
	cancel   bool
	park     bool
	asked    bool
	order    int
	watched  bool
	lease    int // place in world.leases
}

type sub struct {
	who   machine.Who
	specs []Spec
	watch bool
}

type hand struct {
	Offer
	quiet bool
	taken []uint64
}

func newTestWorld(l Limits) *world {
	return &world{m: New[string](l, 0), lim: l, workers: map[machine.Session]*hand{}, passed: map[passing]int{}, ended: map[uint64]int{}, twice: map[string]bool{}}
}

func (w *world) clone() *world {
	n := *w
	n.m = New[string](Limits{}, 0)
	if err := n.m.Restore(w.bytes(), parseText); err != nil {
		panic(fmt.Sprint(err, w.log))
	}
	n.out = Out[string]{}
	n.tasks = make([]*task, len(w.tasks))
	for i, t := range w.tasks {
		c := *t
		n.tasks[i] = &c
	}
	n.line = slices.Clone(w.line)
	n.workers = map[machine.Session]*hand{}
	for s, h := range w.workers {
		c := *h
		c.taken = slices.Clone(h.taken)
		n.workers[s] = &c
	}
	n.leases, n.log = slices.Clone(w.leases), slices.Clip(w.log)
	n.passed, n.ended, n.twice = maps.Clone(w.passed), maps.Clone(w.ended), maps.Clone(w.twice)
	return &n
}

func (w *world) bytes() []byte {
	return w.m.AppendBinary(nil, func(b []byte, v string) []byte { return append(b, v...) })
}

func parseText(b []byte) (string, error) { return string(b), nil }

// restore lets the state go through bytes.
func (w *world) restore() error {
	b := w.bytes()
	n := New[string](Limits{}, 0)
	if err := n.Restore(b, parseText); err != nil {
		return err
	}
	w.m = n
	if !bytes.Equal(w.bytes(), b) {
		return fmt.Errorf("the state does not survive")
	}
	return nil
}

func (w *world) find(n uint64) *task {
	if n == 0 || n > uint64(len(w.tasks)) {
		return nil
	}
	return w.tasks[n-1]
}

func (w *world) byID(id string) *task {
	for _, t := range w.tasks {
		if t.ID == id && t.state != 0 {
			return t
		}
	}
	return nil
}

func (w *world) open() (n int) {
	for _, t := range w.tasks {
		if t.state >= Delayed && t.state <= Parked {
			n++
		}
	}
	return n
}

// say notes what is done, for a failure.
func (w *world) say(format string, args ...any) {
	w.log = append(w.log, fmt.Sprintf("%d: ", w.now)+fmt.Sprintf(format, args...))
}

// The operations. Each says what becomes of the tasks; then check compares.

func (w *world) submit(s machine.Session, wait bool, specs ...Spec) error {
	w.req++
	who := machine.Who{Session: s, Req: w.req}
	w.say("submit %v %+v", who, specs)
	var items []Item[string]
	for _, sp := range specs {
		items = append(items, Item[string]{Task: &Task[string]{}, Spec: sp, Val: "in"})
	}
	n, waits := w.m.Submit(&w.out, who, How{Wait: wait, Watch: true}, items)
	want := 0
	for want < len(specs) && len(w.line) == 0 && w.takeUp(specs[want], true) {
		want++
	}
	if n != want || waits != (wait && want < len(specs)) {
		return fmt.Errorf("%d taken, waits %v; want %d", n, waits, want)
	}
	if waits {
		w.line = append(w.line, &sub{who, specs[want:], true})
	}
	return w.check()
}

func (w *world) takeUp(s Spec, watch bool) bool {
	if old := w.byID(s.ID); old != nil {
		w.twice[s.ID] = true
		if old.state < Parked {
			old.watched = true
		}
		return true
	}
	if w.lim.Capacity > 0 && w.open() >= w.lim.Capacity {
		return false
	}
	t := &task{Spec: s, number: uint64(len(w.tasks)) + 1, watched: watch}
	w.tasks = append(w.tasks, t)
	switch {
	case s.Deadline != 0 && s.Deadline <= w.now:
		w.end(t)
	case s.NotBefore > w.now:
		t.state, t.since = Delayed, s.NotBefore
	default:
		w.enqueue(t, false)
	}
	return true
}

func (w *world) enqueue(t *task, front bool) {
	t.state, t.worker = Ready, 0
	if w.back++; front {
		w.front--
		t.order = w.front
	} else {
		t.order = w.back
	}
}

func (w *world) end(t *task) {
	t.state, t.worker, t.since = Ended, 0, w.now
	if w.ended[t.number]++; t.ID == "" {
		t.state = 0
	}
}

func (w *world) work(s machine.Session, o Offer) error {
	w.say("work %d %+v", s, o)
	h := w.workers[s]
	if h == nil {
		h = &hand{}
		w.workers[s] = h
	}
	h.Offer = o
	w.heard(h)
	w.m.Work(&w.out, s, o)
	return w.check()
}

func (w *world) heard(h *hand) {
	if h.quiet {
		for _, n := range h.taken {
			if t := w.find(n); t.state > 0 && t.state < Parked && t.losses > 0 {
				t.losses--
			}
		}
	}
	h.quiet, h.taken = false, nil
}

// free takes a task's lease away.
func (t *task) free() { t.worker, t.asked = 0, false }

func (w *world) done(s machine.Session, l Lease, o Outcome, permanent bool) error {
	w.say("done %d %v %d %v", s, l, o, permanent)
	stale := w.m.Done(&w.out, s, []Report[string]{{Lease: l, Outcome: o, Permanent: permanent, Val: "out"}})
	t := w.find(l.Number)
	current := t != nil && t.state == Leased && t.epoch == l.Epoch && t.worker == s
	if (stale == 0) != current {
		return fmt.Errorf("stale %d, want %v", stale, !current)
	}
	if current {
		t.free()
		t.attempts++
		switch {
		case o == OK:
			w.end(t)
		case t.cancel:
			w.end(t)
		case t.park, o == Unknown && !t.Idempotent:
			t.state = Parked
		case permanent, t.attempts > int(t.Retries), o == Dirty && !t.Idempotent:
			w.end(t)
		default:
			t.state, t.since = Delayed, w.now+backoff(t.number, uint16(t.attempts), 0)
		}
		if o != OK {
			t.ran = o != NeverRan
		}
		t.cancel, t.park = false, false
	}
	if h := w.workers[s]; h != nil {
		w.heard(h)
	}
	return w.check()
}

func (w *world) giveBack(s machine.Session, l Lease) error {
	w.say("give back %d %v", s, l)
	w.m.GiveBack(&w.out, s, []Lease{l})
	if t := w.find(l.Number); t != nil && t.state == Leased && t.epoch == l.Epoch && t.worker == s {
		t.free()
		w.again(t)
	}
	if h := w.workers[s]; h != nil {
		w.heard(h)
	}
	return w.check()
}

// again is what becomes of a task whose lease is over and that did not run, or may run again.
func (w *world) again(t *task) {
	switch {
	case t.cancel:
		w.end(t)
	case t.park:
		t.state = Parked
	case t.Deadline != 0 && t.Deadline <= w.now:
		w.end(t)
	default:
		w.enqueue(t, true)
	}
	t.cancel, t.park = false, false
}

// lose ends a lease by the loss of its worker.
func (w *world) lose(t *task, died bool) {
	t.free()
	t.ran = true
	if died {
		t.losses++
	}
	most := w.lim.MaxLosses
	if most == 0 {
		most = 3
	}
	if !t.cancel && !t.park && (!t.Idempotent || t.losses >= most) {
		t.state = Parked
		return
	}
	if !t.cancel && !t.park && died {
		t.lost = true
	}
	w.again(t)
}

// strict tells that a task is leased to free slots only.
func (t *task) strict() bool { return !t.Idempotent || t.lost }

// held are the tasks of a worker, the one that was leased last first.
func (w *world) held(s machine.Session) (ts []*task) {
	for _, t := range w.tasks {
		if t.state == Leased && t.worker == s {
			ts = append(ts, t)
		}
	}
	slices.SortFunc(ts, func(a, b *task) int { return cmp.Compare(b.lease, a.lease) })
	return ts
}

func (w *world) expire(s machine.Session, unwork bool) error {
	w.say("expire %d %v", s, unwork)
	for _, t := range w.held(s) {
		w.lose(t, !unwork)
	}
	delete(w.workers, s)
	if unwork {
		w.m.Unwork(&w.out, s, "")
	} else {
		w.line = slices.DeleteFunc(w.line, func(x *sub) bool { return x.who.Session == s })
		w.m.Expire(&w.out, s, "")
	}
	return w.check()
}

func (w *world) quiet(s machine.Session) error {
	w.say("quiet %d", s)
	if h := w.workers[s]; h != nil && !h.quiet {
		h.quiet = true
		for _, t := range w.held(s) {
			if t.Idempotent {
				h.taken = append(h.taken, t.number)
				w.lose(t, true)
			}
		}
	}
	w.m.Quiet(&w.out, s, "")
	return w.check()
}

func (w *world) wake(s machine.Session) error {
	w.say("heard %d", s)
	if h := w.workers[s]; h != nil {
		w.heard(h)
	}
	w.m.Heard(&w.out, s)
	return w.check()
}

func (w *world) cancel(t *task) error {
	w.say("cancel %d", t.number)
	err := w.m.Cancel(&w.out, w.m.Numbered(t.number))
	switch t.state {
	case Ended:
		if !errors.Is(err, ErrEnded) {
			return fmt.Errorf("cancelled: %w", err)
		}
		return w.check()
	case Leased:
		t.cancel = true
	default:
		w.end(t)
	}
	if err != nil {
		return err
	}
	return w.check()
}

func (w *world) park(t *task) error {
	w.say("park %d", t.number)
	err := w.m.Park(&w.out, w.m.Numbered(t.number), "because")
	switch t.state {
	case Ended:
		if !errors.Is(err, ErrEnded) {
			return fmt.Errorf("parked: %w", err)
		}
		return w.check()
	case Leased:
		t.park = true
	default:
		t.state = Parked
	}
	if err != nil {
		return err
	}
	return w.check()
}

func (w *world) retry(t *task) error {
	w.say("retry %d", t.number)
	had := w.m.Numbered(t.number)
	failed := t.state == Ended && had.Outcome != OK
	err := w.m.Retry(&w.out, had)
	if t.state != Parked && !failed {
		if !errors.Is(err, ErrNotRetried) {
			return fmt.Errorf("retried: %w", err)
		}
		return w.check()
	}
	if err != nil {
		return err
	}
	if failed {
		w.ended[t.number]--
	}
	t.attempts, t.losses = 0, 0
	if t.Deadline <= w.now {
		t.Deadline = 0
	}
	w.enqueue(t, false)
	return w.check()
}

func (w *world) pause(on bool) error {
	w.say("pause %v", on)
	if w.paused = on; on {
		w.m.Pause("test")
	} else {
		w.m.Resume(&w.out)
	}
	return w.check()
}

func (w *world) configure(l Limits) error {
	w.say("configure %+v", l)
	if l.Rate != w.lim.Rate {
		w.leases = w.leases[:0] // the bucket is full again
		for _, t := range w.held0() {
			t.lease = len(w.leases)
			w.leases = append(w.leases, -1<<40)
		}
	}
	w.lim = l
	w.m.Configure(&w.out, l)
	return w.check()
}

// held0 are all leased tasks in the order of their leases.
func (w *world) held0() (ts []*task) {
	for _, t := range w.tasks {
		if t.state == Leased {
			ts = append(ts, t)
		}
	}
	slices.SortFunc(ts, func(a, b *task) int { return cmp.Compare(a.lease, b.lease) })
	return ts
}

func (w *world) tick(to int64) error {
	w.now = max(w.now, to)
	w.say("tick")
	for _, at := range w.times() { // one after the other, as the machine does
		for _, t := range w.tasks {
			if d := w.dueOf(t); d != 0 && d == at && at <= w.now {
				switch {
				case t.state == Ended:
					t.state = 0
				case t.Deadline != 0 && t.Deadline <= w.now:
					w.end(t)
				default:
					w.enqueue(t, t.epoch > 0)
				}
			}
		}
	}
	for d := int64(1); d != 0 && d <= w.now; d = w.m.Due() {
		w.m.Tick(&w.out, w.now)
	}
	return w.check()
}

func (w *world) dueOf(t *task) int64 {
	switch {
	case t.state == Delayed && t.Deadline != 0:
		return min(t.since, t.Deadline)
	case t.state == Delayed:
		return t.since
	case t.state == Ready:
		return t.Deadline
	case t.state == Ended:
		r := w.lim.Retain
		if r == 0 {
			r = 60_000
		}
		if t.Retain != 0 {
			r = t.Retain
		}
		return t.since + r
	}
	return 0
}

func (w *world) times() (at []int64) {
	for _, t := range w.tasks {
		if d := w.dueOf(t); d != 0 && d <= w.now {
			at = append(at, d)
		}
	}
	slices.Sort(at)
	return slices.Compact(at)
}
