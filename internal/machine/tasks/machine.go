package tasks

import (
	"math"
	"slices"

	"github.com/distgear/distgear/internal/machine"
	"github.com/distgear/distgear/internal/machine/assign"
	"github.com/distgear/distgear/internal/machine/heap"
	"github.com/distgear/distgear/internal/machine/words"
)

// Machine is the queue of one executor. Use New. It is not safe for concurrent use.
type Machine[V any] struct {
	lim    Limits
	now    int64
	last   uint64 // number of the last task
	total  uint64 // tasks that ended
	paused string // why; empty: it is not
	limits bool   // somebody has set lim

	turns   *assign.Machine[Task[V]]
	quiet   map[machine.Session][]uint64 // workers that are: what they had
	ids     map[string]*Task[V]
	numbers numbers[V]
	counts  [Ended + 1]int
	line    line[V]

	timers   heap.Heap[timer]
	retained assign.List[Task[V]] // ended, for as long as the executor keeps them
	kept     assign.List[Task[V]] // ended, for as long as their Retain says

	batches   map[string]*batch[V]
	over      []batchOver // in that order
	schedules map[string]*Schedule[V]
	nextFire  int64 // of schedules; 0: none has a time

	observed bool // see Observe
}

// New returns an empty machine. floor is the number of the last task of a machine
// that was here before; 0: none.
func New[V any](l Limits, floor uint64) *Machine[V] {
	m := &Machine[V]{
		lim: l.Sane(), last: floor, turns: assign.New[Task[V]](), quiet: map[machine.Session][]uint64{},
		ids: map[string]*Task[V]{}, batches: map[string]*batch[V]{}, schedules: map[string]*Schedule[V]{},
	}
	m.turns.Configure(m.lim)
	return m
}

// Configure sets other limits. Leases and what is queued stay.
func (m *Machine[V]) Configure(out *Out[V], l Limits) {
	m.lim, m.limits = l.Sane(), true
	m.turns.Configure(m.lim)
	m.evict()
	m.settle(out)
}

// Limits are those in force.
func (m *Machine[V]) Limits() Limits { return m.lim }

// Advance sets the time of the operations that follow, in ms. It never goes back.
func (m *Machine[V]) Advance(now int64) {
	if now = min(now, words.MaxTime); now > m.now {
		m.now = now
		m.turns.Advance(now)
	}
}

// Submit takes tasks up, in their order, and tells how many; items is not kept. Of those one
// that is known by its ID already is dropped: its Task stays zero (Number 0), and
// the older one is watched instead. A task that cannot be taken up for its
// own reasons (ErrConflict, ErrInvalid) is told as Refused to who, at once or later,
// and counts as taken up. waits: the others are in line, and Accepted to who
// follows when all are in. Otherwise, with n < len(items), the executor is full.
func (m *Machine[V]) Submit(out *Out[V], who machine.Who, how How, items []Item[V]) (n int, waits bool) {
	for n < len(items) && m.line.head == nil {
		it := &items[n]
		switch why := it.Spec.Fault(); {
		case why != nil:
			out.more(Refused, who, More[V]{Text: it.Spec.ID, Why: why})
		case it.Spec.ID != "" && m.known(out, who, how, it.Spec.ID, it.Spec.Kind):
		case !m.room():
			if !how.Wait {
				m.pump(out)
				return n, false
			}
			m.wait(out, who, how, items[n:], n)
			m.pump(out)
			return n, true
		default:
			m.fill(it)
			m.take(out, it.Task, who, how)
		}
		n++
	}
	if n < len(items) && how.Wait {
		m.wait(out, who, how, items[n:], n)
		waits = true
	}
	m.settle(out)
	return n, waits
}

func (m *Machine[V]) room() bool { return m.lim.Capacity == 0 || m.Len() < m.lim.Capacity }

// known tells whether there is a task with an ID, and watches it, or says that it is another.
func (m *Machine[V]) known(out *Out[V], who machine.Who, how How, id, kind string) bool {
	t := m.ids[id]
	if t == nil {
		return false
	}
	if t.Kind() != kind {
		out.more(Refused, who, More[V]{Text: id, Why: ErrConflict})
	} else if how.Watch {
		m.Watch(out, who.Session, t)
	}
	return true
}

// fill makes an item's task what its spec says.
func (m *Machine[V]) fill(it *Item[V]) {
	t, s := it.Task, &it.Spec
	t.ID, t.Val, t.Timeout, t.Size, t.Retries = s.ID, it.Val, s.Timeout, s.Size, s.Retries
	m.turns.Enter(&t.Node, t, assign.Class{Kind: s.Kind, Labels: s.Labels, Idempotent: s.Idempotent}, s.Key, s.Priority)
	if s.Batch != "" || s.Deadline != 0 || s.Retain != 0 {
		t.rare = &rare[V]{deadline: s.Deadline, retain: s.Retain}
		if s.Batch != "" {
			t.rare.batch, t.rare.batchName = m.batch(s.Batch), s.Batch
			t.rare.batch.pending++
		}
	}
	if s.NotBefore > m.now {
		t.State, t.Since = Delayed, s.NotBefore
	}
}

// Passed tells of n tasks that have ended without the machine; last is the highest
// number that was given to such a task, or to one that will be submitted with its number.
func (m *Machine[V]) Passed(last, n uint64) {
	m.last = max(m.last, last)
	m.total += n
}

// take takes a filled task up.
func (m *Machine[V]) take(out *Out[V], t *Task[V], who machine.Who, how How) {
	if t.Number == 0 {
		t.Number, t.Submitted = m.last+1, m.now
	}
	m.last = max(m.last, t.Number)
	m.numbers.add(t)
	if t.ID != "" {
		m.ids[t.ID] = t
	}
	if how.Watch {
		t.watch = who.Session
	}
	m.moved(out, t, 0, TookUp)
	if r := t.rare; r != nil && r.deadline != 0 && r.deadline <= m.now {
		m.end(out, t, NeverRan, Late)
		return
	}
	if t.State == Delayed && t.Since > m.now {
		m.counts[Delayed]++
	} else {
		m.ready(t, false)
	}
	m.arm(t)
}

// line is who waits to submit, first come first served.
type line[V any] struct {
	head, tail *waiting[V]
	tasks      int
}

// waiting is what is left of a submission. Its tasks are filled.
type waiting[V any] struct {
	who        machine.Who
	how        How
	tasks      []*Task[V]
	in         int // tasks of it that were taken up
	prev, next *waiting[V]
}

func (m *Machine[V]) wait(out *Out[V], who machine.Who, how How, items []Item[V], in int) {
	w := &waiting[V]{who: who, how: how, in: in}
	for i := range items {
		if why := items[i].Spec.Fault(); why != nil {
			out.more(Refused, who, More[V]{Text: items[i].Spec.ID, Why: why})
			w.in++
			continue
		}
		m.fill(&items[i])
		w.tasks = append(w.tasks, items[i].Task)
	}
	m.line.push(w)
}

func (l *line[V]) push(w *waiting[V]) {
	if w.prev = l.tail; l.tail != nil {
		l.tail.next = w
	} else {
		l.head = w
	}
	l.tail = w
	l.tasks += len(w.tasks)
}

func (l *line[V]) remove(w *waiting[V]) {
	if w.prev != nil {
		w.prev.next = w.next
	} else {
		l.head = w.next
	}
	if w.next != nil {
		w.next.prev = w.prev
	} else {
		l.tail = w.prev
	}
	l.tasks -= len(w.tasks)
}

// admit takes in who waits in line, as far as there is room.
func (m *Machine[V]) admit(out *Out[V]) {
	for w := m.line.head; w != nil; w = m.line.head {
		for len(w.tasks) > 0 {
			t := w.tasks[0]
			known := t.ID != "" && m.known(out, w.who, w.how, t.ID, t.Kind())
			if !known && !m.room() {
				return
			}
			w.tasks[0] = nil
			w.tasks = w.tasks[1:]
			m.line.tasks--
			w.in++
			if known {
				m.discard(out, t)
			} else {
				m.take(out, t, w.who, w.how)
			}
		}
		m.line.remove(w)
		out.Effects = append(out.Effects, Effect[V]{Code: Accepted, To: w.who})
	}
}

// discard drops a filled task that was not taken up.
func (m *Machine[V]) discard(out *Out[V], t *Task[V]) {
	m.turns.Leave(&t.Node)
	if t.rare != nil && t.rare.batch != nil {
		m.leaveBatch(out, t.rare.batch)
	}
	*t = Task[V]{}
}

// Abandon takes a submission out of the line; in is how many of its tasks had been
// taken up. ok is false if who does not wait.
func (m *Machine[V]) Abandon(out *Out[V], who machine.Who) (in int, ok bool) {
	for w := m.line.head; w != nil; w = w.next {
		if w.who == who {
			m.drop(out, w)
			m.settle(out)
			return w.in, true
		}
	}
	return 0, false
}

func (m *Machine[V]) drop(out *Out[V], w *waiting[V]) {
	m.line.remove(w)
	for _, t := range w.tasks {
		m.discard(out, t)
	}
}

// settle lets in who waits, and leases what can be leased. It ends what makes
// room or credit.
func (m *Machine[V]) settle(out *Out[V]) {
	m.admit(out)
	m.pump(out)
}

// pump leases what can be leased, and asks back what another could run now.
func (m *Machine[V]) pump(out *Out[V]) {
	if m.paused != "" {
		m.turns.Pause()
		return
	}
	for n, s := m.turns.Next(); n != nil; n, s = m.turns.Next() {
		t := n.Of
		t.State, t.Since = Leased, m.now
		m.counts[Ready]--
		m.counts[Leased]++
		out.tell(Run, s, t)
		m.moved(out, t, s, Began)
	}
	for n := m.turns.Recall(); n != nil; n = m.turns.Recall() {
		out.tell(Recall, n.Worker(), n.Of)
	}
}

// ready makes a task ready, behind others of its kind or in front.
func (m *Machine[V]) ready(t *Task[V], front bool) {
	t.State, t.Since = Ready, m.now
	m.counts[Ready]++
	m.turns.Ready(&t.Node, front)
}

// unlease takes a leased task from its worker. What becomes of it is the caller's to say.
func (m *Machine[V]) unlease(t *Task[V]) {
	m.counts[Leased]--
	t.flags = 0
	m.turns.Free(&t.Node)
}

// Expire ends a session: what it was leased is lost (idempotent tasks are ready
// again, others parked), what it has in line is dropped. Nobody is told what it watched.
// node is for the history.
func (m *Machine[V]) Expire(out *Out[V], s machine.Session, node string) {
	for w := m.line.head; w != nil; {
		next := w.next
		if w.who.Session == s {
			m.drop(out, w)
		}
		w = next
	}
	for _, b := range m.batches {
		b.watchers = slices.DeleteFunc(b.watchers, func(w machine.Who) bool { return w.Session == s })
	}
	if works, _ := m.turns.Works(s); works {
		m.gone(out, s, true, node)
		return
	}
	m.settle(out)
}

// Pause keeps tasks from being leased. What is leased goes on. reason is for people; not empty.
func (m *Machine[V]) Pause(reason string) {
	if m.paused = reason; reason == "" {
		m.paused = "no reason given"
	}
}

// Resume ends a Pause.
func (m *Machine[V]) Resume(out *Out[V]) {
	m.paused = ""
	m.pump(out)
}

// Watch tells s of the end of a task, and of its progress: Finished at once if it
// has ended or is parked. Of one that is parked it is told again, when it has ended.
func (m *Machine[V]) Watch(out *Out[V], s machine.Session, t *Task[V]) {
	if t.State >= Parked {
		out.tell(Finished, s, t)
	}
	switch {
	case t.State == Ended:
	case t.watch == s || t.rare != nil && slices.Contains(t.rare.watchers, s):
	case t.watch == 0:
		t.watch = s
	default:
		t.more().watchers = append(t.more().watchers, s)
	}
}

// Unwatch takes a Watch back.
func (m *Machine[V]) Unwatch(s machine.Session, t *Task[V]) {
	if t.watch == s {
		t.watch = 0
	} else if t.rare != nil {
		t.rare.watchers = slices.DeleteFunc(t.rare.watchers, func(o machine.Session) bool { return o == s })
	}
}

// tell tells all who watch a task.
func (m *Machine[V]) tell(out *Out[V], t *Task[V], code Code) {
	if t.watch != 0 {
		out.tell(code, t.watch, t)
	}
	if t.rare != nil {
		for _, s := range t.rare.watchers {
			out.tell(code, s, t)
		}
	}
}

// Find is the task with an ID; nil: there is none, or not any more.
func (m *Machine[V]) Find(id string) *Task[V] { return m.ids[id] }

// Numbered is the task with a number; nil: there is none, or not any more.
func (m *Machine[V]) Numbered(n uint64) *Task[V] { return m.numbers.find(n) }

// numbers finds tasks by number. Those in a row share a chunk.
type numbers[V any] struct {
	chunks map[uint64]*chunk[V]
	last   used[V]   // by add
	found  used[V]   // by others
	spare  *chunk[V] // an empty one
}

const chunkSize = 64

type chunk[V any] struct {
	tasks [chunkSize]*Task[V]
	n     int
}

// used is a chunk that was used last, and its number; the zero value is none.
type used[V any] struct {
	chunk *chunk[V]
	at    uint64
}

func (x *numbers[V]) chunk(n uint64) *chunk[V] {
	at := n / chunkSize
	if x.found.chunk != nil && x.found.at == at {
		return x.found.chunk
	}
	c := x.chunks[at]
	if c != nil {
		x.found = used[V]{c, at}
	}
	return c
}

// add adds a task whose number is larger than all others.
func (x *numbers[V]) add(t *Task[V]) {
	at := t.Number / chunkSize
	c := x.last.chunk
	if c == nil || x.last.at != at {
		if c = x.chunks[at]; c == nil {
			if c = x.spare; c == nil {
				c = &chunk[V]{}
			}
			x.spare = nil
			if x.chunks == nil {
				x.chunks = map[uint64]*chunk[V]{}
			}
			x.chunks[at] = c
		}
		if l := x.last; l.chunk != nil && l.chunk.n == 0 {
			delete(x.chunks, l.at)
			x.found, x.spare = used[V]{}, l.chunk
		}
		x.last = used[V]{c, at}
	}
	c.tasks[t.Number%chunkSize] = t
	c.n++
}

func (x *numbers[V]) find(n uint64) *Task[V] {
	if c := x.chunk(n); c != nil {
		return c.tasks[n%chunkSize]
	}
	return nil
}

func (x *numbers[V]) remove(n uint64) {
	c := x.chunk(n)
	c.tasks[n%chunkSize] = nil
	if c.n--; c.n == 0 && c != x.last.chunk { // that one is used again at once
		delete(x.chunks, n/chunkSize)
		x.found, x.spare = used[V]{}, c
	}
}

// from is the numbers of the chunks from that of n on, sorted.
func (x *numbers[V]) from(n uint64) []uint64 {
	all := make([]uint64, 0, len(x.chunks))
	for at := range x.chunks {
		if at >= n/chunkSize {
			all = append(all, at)
		}
	}
	slices.Sort(all)
	return all
}

// clip adds, and stops at words.MaxTime.
func clip(a, b int64) int64 {
	if b > math.MaxInt64-a {
		return words.MaxTime
	}
	return min(a+b, words.MaxTime)
}
