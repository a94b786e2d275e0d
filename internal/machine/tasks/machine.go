package tasks

import (
	"math"
	"slices"
	"strings"

	"github.com/distgear/distgear/internal/machine"
)

// Machine is the queue of one executor. Use New. It is not safe for concurrent use.
type Machine[V any] struct {
	lim    Limits
	now    int64
	last   uint64 // number of the last task
	stamp  uint64 // of the last turn
	leases uint64
	total  uint64 // tasks that ended
	paused string // why; empty: it is not
	limits bool   // somebody has set lim

	ids     map[string]*Task[V]
	numbers numbers[V]
	counts  [Ended + 1]int
	line    line[V]

	classes map[classID]*class[V]
	latest  *class[V] // found last; nil: none
	serial  uint32
	sweep   int // so many classes there may be before some are dropped
	nokey   key[V]
	others  map[other[V]]*lane[V] // of nokey, with a priority
	keys    map[string]*key[V]
	idle    keyList[V] // keys that have no task
	active  []*class[V]
	strict  int // of active, those that are not idempotent

	workers  map[machine.Session]*worker[V]
	profiles map[string]*profile[V]
	eager    []*worker[V]
	slots    int
	free     int // slots
	recalls  int // that were not answered
	overs    int // workers in profile.over
	bucket   bucket
	rateDue  int64 // when bucket has enough for what is ready; 0: nothing waits for it

	timers   heap[timer]
	keyDues  heap[keyTimer]
	retained taskList[V] // ended, for as long as the executor keeps them
	kept     taskList[V] // ended, for as long as their Retain says

	batches   map[string]*batch[V]
	over      []batchOver // in that order
	schedules map[string]*Schedule[V]
	nextFire  int64 // of schedules; 0: none has a time
}

// New returns an empty machine. floor is the number of the last task of a machine
// that was here before; 0: none.
func New[V any](l Limits, floor uint64) *Machine[V] {
	m := &Machine[V]{
		lim: l.sane(), last: floor, sweep: minClasses,
		ids: map[string]*Task[V]{}, classes: map[classID]*class[V]{}, others: map[other[V]]*lane[V]{}, keys: map[string]*key[V]{},
		workers: map[machine.Session]*worker[V]{}, profiles: map[string]*profile[V]{},
		batches: map[string]*batch[V]{}, schedules: map[string]*Schedule[V]{},
	}
	m.nokey.free = true
	return m
}

func (l Limits) sane() Limits {
	for _, p := range []*int{&l.Capacity, &l.Burst, &l.Running, &l.KeyRunning, &l.MaxRetained, &l.MaxLosses} {
		*p = max(*p, 0)
	}
	for _, p := range []*int64{&l.Rate, &l.KeyRate} {
		*p = min(max(*p, 0), maxRate)
	}
	l.Retain = min(max(l.Retain, 0), maxTime)
	l.Burst = min(l.Burst, maxBurst)
	return l
}

// maxTime bounds all times, in ms: beyond the year 30000.
const maxTime = 1 << 50

// Configure sets other limits. Leases and what is queued stay.
func (m *Machine[V]) Configure(out *Out[V], l Limits) {
	sticky, rate, keyRate := m.lim.Sticky, m.lim.Rate, m.lim.KeyRate
	m.lim, m.limits = l.sane(), true
	if rate != m.lim.Rate {
		m.bucket = bucket{}
	}
	for _, k := range m.sortedKeys() {
		if keyRate != m.lim.KeyRate {
			k.bucket = bucket{}
		}
		m.recheck(k)
		if sticky && !m.lim.Sticky {
			k.worker = 0
			for _, f := range k.flows {
				stamp := m.turn()
				for _, l := range f.lanes {
					m.again(l, stamp)
				}
			}
			if k.idle {
				m.idle.remove(k)
			}
		}
		m.rest(k)
	}
	m.evict()
	m.settle(out)
}

// Limits are those in force.
func (m *Machine[V]) Limits() Limits { return m.lim }

// Advance sets the time of the operations that follow, in ms. It never goes back.
func (m *Machine[V]) Advance(now int64) { m.now = max(m.now, min(now, maxTime)) }

// Submit takes tasks up, in their order, and tells how many; items is not kept. Of those one
// that is known by its ID already is dropped: its Task stays zero (Number 0), and
// the older one is watched instead. A task that cannot be taken up for its
// own reasons (ErrConflict, ErrInvalid) is told as Refused to who, at once or later,
// and counts as taken up. waits: the others are in line, and Accepted to who
// follows when all are in. Otherwise, with n < len(items), the executor is full.
func (m *Machine[V]) Submit(out *Out[V], who machine.Who, how How, items []Item[V]) (n int, waits bool) {
	for n < len(items) && m.line.head == nil {
		it := &items[n]
		switch why := it.Spec.fault(); {
		case why != nil:
			out.add(Effect[V]{Code: Refused, To: who, Text: it.Spec.ID, Why: why})
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
		out.add(Effect[V]{Code: Refused, To: who, Text: id, Why: ErrConflict})
	} else if how.Watch {
		m.Watch(out, who.Session, t)
	}
	return true
}

// How long the texts of a Spec may be.
const (
	maxText   = 512
	maxLabels = 4096
)

func (s *Spec) fault() error {
	if s.Kind == "" || len(s.Kind) > maxText || len(s.ID) > maxText || len(s.Key) > maxText || len(s.Batch) > maxText || len(s.Labels) > maxLabels ||
		s.NotBefore < 0 || s.NotBefore > maxTime || s.Deadline < 0 || s.Deadline > maxTime || s.Retain < 0 || s.Retain > maxTime {
		return ErrInvalid
	}
	return nil
}

// fill makes an item's task what its spec says.
func (m *Machine[V]) fill(it *Item[V]) {
	t, s := it.Task, &it.Spec
	t.ID, t.Val, t.Timeout, t.Size, t.Retries = s.ID, it.Val, s.Timeout, s.Size, s.Retries
	t.lane = m.lane(m.class(s), m.key(s.Key), s.Priority)
	m.use(t.lane)
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

// take takes a filled task up.
func (m *Machine[V]) take(out *Out[V], t *Task[V], who machine.Who, how How) {
	m.last++
	t.Number, t.Submitted = m.last, m.now
	m.numbers.add(t)
	if t.ID != "" {
		m.ids[t.ID] = t
	}
	if how.Watch {
		t.watch = who.Session
	}
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
	w := &waiting[V]{who: who, how: how, in: in, prev: m.line.tail}
	for i := range items {
		if why := items[i].Spec.fault(); why != nil {
			out.add(Effect[V]{Code: Refused, To: who, Text: items[i].Spec.ID, Why: why})
			w.in++
			continue
		}
		m.fill(&items[i])
		w.tasks = append(w.tasks, items[i].Task)
	}
	m.line.tasks += len(w.tasks)
	if m.line.tail != nil {
		m.line.tail.next = w
	} else {
		m.line.head = w
	}
	m.line.tail = w
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
		out.add(Effect[V]{Code: Accepted, To: w.who})
	}
}

// discard drops a filled task that was not taken up.
func (m *Machine[V]) discard(out *Out[V], t *Task[V]) {
	m.release(t.lane)
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

// Expire ends a session: what it was leased is lost (idempotent tasks are ready
// again, others parked), what it has in line is dropped. Nobody is told what it watched.
func (m *Machine[V]) Expire(out *Out[V], s machine.Session) {
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
	if m.workers[s] != nil {
		m.gone(out, s, true)
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
// has ended or is parked.
func (m *Machine[V]) Watch(out *Out[V], s machine.Session, t *Task[V]) {
	switch {
	case t.State >= Parked:
		out.add(Effect[V]{Code: Finished, To: machine.Who{Session: s}, Task: t})
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
		out.add(Effect[V]{Code: code, To: machine.Who{Session: t.watch}, Task: t})
	}
	if t.rare != nil {
		for _, s := range t.rare.watchers {
			out.add(Effect[V]{Code: code, To: machine.Who{Session: s}, Task: t})
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
	last   *chunk[V] // that was used last; nil: none
	at     uint64    // its number
	spare  *chunk[V] // an empty one
}

const chunkSize = 64

type chunk[V any] struct {
	tasks [chunkSize]*Task[V]
	n     int
}

func (x *numbers[V]) chunk(n uint64) *chunk[V] {
	at := n / chunkSize
	if x.last != nil && x.at == at {
		return x.last
	}
	c := x.chunks[at]
	if c != nil {
		x.last, x.at = c, at
	}
	return c
}

func (x *numbers[V]) add(t *Task[V]) {
	c := x.chunk(t.Number)
	if c == nil {
		if c = x.spare; c == nil {
			c = &chunk[V]{}
		}
		x.spare = nil
		if x.chunks == nil {
			x.chunks = map[uint64]*chunk[V]{}
		}
		x.last, x.at = c, t.Number/chunkSize
		x.chunks[x.at] = c
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
	if c.n--; c.n == 0 {
		delete(x.chunks, n/chunkSize)
		x.last, x.spare = nil, c
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

func (m *Machine[V]) sortedKeys() []*key[V] {
	all := make([]*key[V], 0, len(m.keys))
	for _, k := range m.keys {
		all = append(all, k)
	}
	slices.SortFunc(all, func(a, b *key[V]) int { return strings.Compare(a.name, b.name) })
	return all
}

// clip adds, and stops at maxTime.
func clip(a, b int64) int64 {
	if b > math.MaxInt64-a {
		return maxTime
	}
	return min(a+b, maxTime)
}
