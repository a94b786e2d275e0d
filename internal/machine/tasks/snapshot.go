package tasks

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/distgear/distgear/internal/machine"
)

// The state as bytes: what is not said follows from it. Lanes have numbers, in
// the order in which they are written; lists of tasks are differences of their numbers.

const version = 1

// What a task has, in front of it.
const (
	hasWatch = 1 << iota
	hasLeases
	hasSize
	hasRare
	hasTimeout
)

// writer appends a state.
type writer[V any] struct {
	b         []byte
	appendVal func([]byte, V) []byte
	scratch   []byte
	lanes     map[*lane[V]]uint64
	order     []*lane[V]
}

func (w *writer[V]) uint(vs ...uint64) {
	for _, v := range vs {
		w.b = binary.AppendUvarint(w.b, v)
	}
}

func (w *writer[V]) int(vs ...int64) {
	for _, v := range vs {
		w.b = binary.AppendVarint(w.b, v)
	}
}

func (w *writer[V]) text(s string) { w.b = appendText(w.b, s) }

func (w *writer[V]) val(v V) {
	w.scratch = w.appendVal(w.scratch[:0], v)
	w.b = appendText(w.b, w.scratch)
}

func (w *writer[V]) bit(on bool) {
	if on {
		w.b = append(w.b, 1)
	} else {
		w.b = append(w.b, 0)
	}
}

// list writes tasks that follow each other.
func (w *writer[V]) list(t *Task[V]) {
	n := uint64(0)
	for o := t; o != nil; o = o.next {
		n++
	}
	w.uint(n)
	before := uint64(0)
	for ; t != nil; t = t.next {
		w.int(int64(t.Number - before))
		before = t.Number
	}
}

// AppendBinary appends the state to b. appendVal appends a value, and must
// append equal bytes for equal values if equal states are to give equal bytes.
func (m *Machine[V]) AppendBinary(b []byte, appendVal func([]byte, V) []byte) []byte {
	w := &writer[V]{b: b, appendVal: appendVal, lanes: map[*lane[V]]uint64{}}
	w.b = append(w.b, version)
	w.b = AppendLimits(w.b, &m.lim)
	w.bit(m.limits)
	w.text(m.paused)
	w.uint(m.last, m.stamp, m.leases, m.total)
	w.int(m.now, m.bucket.used, m.bucket.at, m.rateDue)
	m.appendLanes(w)
	m.appendWorkers(w)
	m.appendBatches(w)
	w.uint(uint64(m.counts[Ended] + m.Len()))
	for _, at := range m.numbers.from(0) {
		for _, t := range m.numbers.chunks[at].tasks {
			if t != nil {
				w.uint(t.Number)
				w.task(t)
			}
		}
	}
	for _, l := range w.order {
		w.uint(l.stamp)
		w.list(l.head)
	}
	for _, s := range slices.Sorted(maps.Keys(m.workers)) {
		w.list(m.workers[s].head)
	}
	w.list(m.retained.head)
	w.list(m.kept.head)
	n := uint64(0)
	for x := m.line.head; x != nil; x = x.next {
		n++
	}
	w.uint(n)
	for x := m.line.head; x != nil; x = x.next {
		w.uint(uint64(x.who.Session), x.who.Req, uint64(x.in))
		w.bit(x.how.Watch)
		w.uint(uint64(len(x.tasks)))
		for _, t := range x.tasks {
			w.task(t)
		}
	}
	w.uint(uint64(len(m.schedules)))
	for _, s := range m.Schedules() {
		w.text(s.Name)
		w.scratch = w.appendVal(w.scratch[:0], s.Val)
		w.b = appendText(w.b, AppendSchedule(nil, &Schedule[[]byte]{Text: s.Text, Spec: s.Spec, Val: w.scratch, Next: s.Next, Last: s.Last, Skip: s.Skip}))
		w.uint(uint64(s.Spec.Size))
	}
	return w.b
}

// lane names a lane by its number, from 0.
func (w *writer[V]) number(l *lane[V]) {
	w.lanes[l] = uint64(len(w.order))
	w.order = append(w.order, l)
}

// appendLanes writes classes, keys and lanes that are in use.
func (m *Machine[V]) appendLanes(w *writer[V]) {
	var classes []*class[V]
	for _, c := range m.classes {
		if c.refs > 0 {
			classes = append(classes, c)
		}
	}
	slices.SortFunc(classes, func(a, b *class[V]) int {
		return cmp.Or(strings.Compare(a.kind, b.kind), strings.Compare(a.classID.labels, b.classID.labels), a.rank()-b.rank())
	})
	index := map[*class[V]]uint64{}
	w.uint(uint64(len(classes)))
	for i, c := range classes {
		index[c] = uint64(i)
		w.text(c.kind)
		w.text(c.classID.labels)
		w.bit(c.idempotent)
	}
	keys := m.sortedKeys()
	w.uint(uint64(len(keys)))
	for _, k := range keys {
		w.text(k.name)
		w.int(k.bucket.used, k.bucket.at, k.due)
		w.uint(uint64(k.worker))
		w.bit(k.blocked)
	}
	rests := uint64(m.idle.n)
	w.uint(rests)
	for k := m.idle.head; k != nil; k = k.next {
		i, _ := slices.BinarySearchFunc(keys, k.name, func(o *key[V], name string) int { return strings.Compare(o.name, name) })
		w.uint(uint64(i))
	}
	var lanes []*lane[V]
	for _, c := range classes {
		if c.plain.refs > 0 {
			lanes = append(lanes, c.plain)
		}
	}
	for _, l := range m.others {
		lanes = append(lanes, l)
	}
	slices.SortFunc(lanes, func(a, b *lane[V]) int {
		return cmp.Or(cmp.Compare(index[a.class], index[b.class]), cmp.Compare(a.flow.priority, b.flow.priority))
	})
	w.uint(uint64(len(lanes)))
	for _, l := range lanes {
		w.uint(index[l.class])
		w.b = append(w.b, byte(l.flow.priority))
		w.number(l)
	}
	for _, k := range keys {
		w.uint(uint64(len(k.flows)))
		for _, f := range k.flows {
			w.b = append(w.b, byte(f.priority))
			w.uint(uint64(len(f.lanes)))
			for _, l := range f.lanes {
				w.uint(index[l.class])
				w.number(l)
			}
		}
	}
}

func (c *class[V]) rank() int {
	if c.idempotent {
		return 1
	}
	return 0
}

func (m *Machine[V]) appendWorkers(w *writer[V]) {
	w.uint(uint64(len(m.workers)))
	for _, s := range slices.Sorted(maps.Keys(m.workers)) {
		x := m.workers[s]
		w.uint(uint64(s), x.stamp)
		w.bit(x.quiet)
		w.b = appendText(w.b, AppendOffer(nil, &x.offer))
		w.uint(uint64(len(x.taken)))
		w.uint(x.taken...)
	}
}

func (m *Machine[V]) appendBatches(w *writer[V]) {
	w.uint(uint64(len(m.batches)))
	for _, name := range slices.Sorted(maps.Keys(m.batches)) {
		b := m.batches[name]
		w.text(name)
		w.uint(uint64(b.ok), uint64(b.failed))
		w.int(b.since)
		w.uint(uint64(len(b.watchers)))
		for _, who := range b.watchers {
			w.uint(uint64(who.Session), who.Req)
		}
	}
	w.uint(uint64(len(m.over)))
	for _, o := range m.over {
		w.text(o.name)
		w.int(o.since)
	}
}

func (w *writer[V]) task(t *Task[V]) {
	has := byte(0)
	for i, on := range []bool{t.watch != 0, t.Epoch != 0, t.Size != 0, t.rare != nil, t.Timeout != 0} {
		if on {
			has |= 1 << i
		}
	}
	w.b = append(w.b, has, byte(t.State))
	w.text(t.ID)
	w.val(t.Val)
	w.uint(w.lanes[t.lane], uint64(t.Retries))
	w.int(t.Submitted, t.Since-t.Submitted)
	if has&hasTimeout != 0 {
		w.uint(uint64(t.Timeout))
	}
	if has&hasSize != 0 {
		w.uint(uint64(t.Size))
	}
	if has&hasWatch != 0 {
		w.uint(uint64(t.watch))
	}
	if has&hasLeases != 0 || t.State >= Parked {
		w.uint(uint64(t.Epoch), uint64(t.Attempts))
		w.b = append(w.b, byte(t.Outcome), byte(t.Cause), t.losses, byte(t.flags))
	}
	if r := t.rare; r != nil {
		w.rare(r)
	}
}

func (w *writer[V]) rare(r *rare[V]) {
	w.text(r.batchName)
	w.bit(r.batch != nil)
	w.int(r.deadline, r.retain, r.done, r.total)
	w.text(r.reason)
	w.bit(r.failed)
	if r.failed {
		w.val(r.failure)
	}
	w.uint(uint64(len(r.watchers)))
	for _, s := range r.watchers {
		w.uint(uint64(s))
	}
	w.uint(uint64(len(r.history)))
	for _, a := range r.history {
		w.uint(uint64(a.Worker))
		w.int(a.Began, a.Ended)
		w.b = append(w.b, byte(a.Outcome))
		w.bit(a.Lost)
		w.text(a.Message)
	}
}

// Restore makes m the state that AppendBinary wrote as b. parse is given the
// bytes of a value, a part of b that it must not keep. With an error b is not
// such a state, or parse refused a value, and m is as before.
func (m *Machine[V]) Restore(b []byte, parse func([]byte) (V, error)) error {
	r := &restorer[V]{reader: reader{b: b}, m: New[V](Limits{}, 0), parse: parse}
	r.all()
	if r.err != nil {
		return fmt.Errorf("tasks: value: %w", r.err)
	}
	if r.bad || len(r.b) > 0 {
		return ErrMalformed
	}
	*m = *r.m
	m.moved()
	return nil
}

// moved corrects what points into the machine itself.
func (m *Machine[V]) moved() {
	for _, c := range m.classes {
		c.plain.flow.key = &m.nokey
	}
	for _, f := range m.nokey.flows {
		f.key = &m.nokey
	}
}

// restorer reads a state. After a fault it is bad.
type restorer[V any] struct {
	reader
	m     *Machine[V]
	parse func([]byte) (V, error)
	err   error
	lanes []*lane[V]
	tasks int // that have not ended
}

func (r *restorer[V]) val() (v V) {
	b := r.bytes()
	if r.bad {
		return v
	}
	v, err := r.parse(b)
	if err != nil && r.err == nil {
		r.err = err
		r.fail()
	}
	return v
}

func (r *restorer[V]) bit() bool { return r.byte() != 0 }

func (r *restorer[V]) num() uint64 { return r.uint(math.MaxUint64) }

// time reads a time that can be.
func (r *restorer[V]) time() int64 {
	t := r.int()
	r.check(t >= 0 && t <= maxTime)
	return t
}

func (r *restorer[V]) check(ok bool) {
	if !ok {
		r.fail()
	}
}

func (r *restorer[V]) all() {
	m := r.m
	r.check(r.byte() == version)
	m.lim = r.limits().sane()
	m.limits, m.paused = r.bit(), r.text()
	m.last, m.stamp, m.leases, m.total = r.num(), r.num(), r.num(), r.num()
	m.now, m.bucket.used, m.bucket.at, m.rateDue = r.time(), r.used(), r.time(), r.time()
	r.readLanes()
	r.readWorkers()
	r.readBatches()
	before := uint64(0)
	for i := r.count(); i > 0 && !r.bad; i-- {
		n := r.num()
		if n <= before || n > m.last {
			r.fail()
			return
		}
		before = n
		t := r.task()
		if r.bad {
			return
		}
		t.Number = n
		r.add(t)
	}
	r.orders()
	r.readLine()
	for i := r.count(); i > 0 && !r.bad; i-- {
		name, body, size := r.text(), r.bytes(), uint32(r.uint(math.MaxUint32))
		s, err := ParseSchedule(name, body)
		if err != nil || m.schedules[name] != nil {
			r.fail()
			return
		}
		s.Spec.Size = size
		v, err := r.parse(s.Val)
		if err != nil {
			r.err = err
			r.fail()
			return
		}
		m.schedules[name] = &Schedule[V]{Name: name, Text: s.Text, Spec: s.Spec, Val: v, Next: s.Next, Last: s.Last, Skip: s.Skip}
		r.check(s.Spec.fault() == nil && s.Next >= 0 && s.Next <= maxTime && s.Last >= 0 && s.Last <= maxTime)
	}
	if !r.bad {
		m.soonest()
	}
}

// used reads what a bucket lacks.
func (r *restorer[V]) used() int64 {
	u := r.int()
	r.check(u >= 0 && u <= (maxBurst+1)*perToken)
	return u
}

func (r *restorer[V]) readLanes() {
	m := r.m
	var classes []*class[V]
	for i := r.count(); i > 0 && !r.bad; i-- {
		s := Spec{Kind: r.text(), Labels: r.text(), Idempotent: r.bit()}
		_, twice := m.classes[classID{s.Kind, s.Labels, s.Idempotent}]
		if r.bad || twice || s.fault() != nil {
			r.fail()
			return
		}
		classes = append(classes, m.class(&s))
	}
	var keys []*key[V]
	for i := r.count(); i > 0 && !r.bad; i-- {
		k := &key[V]{name: r.text(), bucket: bucket{r.used(), r.time()}, due: r.time(), worker: machine.Session(r.num()), blocked: r.bit()}
		r.check(k.name != "" && m.keys[k.name] == nil)
		m.keys[k.name] = k
		keys = append(keys, k)
		if k.due != 0 {
			m.keyDues.push(keyTimer{k.due, k.name})
		}
	}
	for i := r.count(); i > 0 && !r.bad; i-- {
		n := r.num()
		if n >= uint64(len(keys)) || keys[n].idle {
			r.fail()
			return
		}
		keys[n].idle = true
		m.idle.push(keys[n])
	}
	lane := func(k *key[V], priority int8) {
		n := r.num()
		if n >= uint64(len(classes)) {
			r.fail()
			return
		}
		r.lanes = append(r.lanes, m.lane(classes[n], k, priority))
	}
	for i := r.count(); i > 0 && !r.bad; i-- {
		n := r.num()
		p := int8(r.byte())
		if n >= uint64(len(classes)) {
			r.fail()
			return
		}
		r.lanes = append(r.lanes, m.lane(classes[n], &m.nokey, p))
	}
	for _, k := range keys {
		for i := r.count(); i > 0 && !r.bad; i-- {
			p := int8(r.byte())
			for j := r.count(); j > 0 && !r.bad; j-- {
				lane(k, p)
			}
		}
	}
	seen := make(map[any]bool, len(r.lanes))
	for _, l := range r.lanes {
		r.check(!seen[l])
		seen[l] = true
	}
}

func (r *restorer[V]) readWorkers() {
	m := r.m
	last := machine.Session(0)
	for i := r.count(); i > 0 && !r.bad; i-- {
		s, stamp, quiet, body := machine.Session(r.num()), r.num(), r.bit(), r.bytes()
		o, err := ParseOffer(body)
		if r.bad || err != nil || s <= last {
			r.fail()
			return
		}
		last = s
		paused, due := m.paused, m.rateDue
		m.paused = "while it is read"
		m.Work(nil, s, o)
		m.paused, m.rateDue = paused, due
		w := m.workers[s]
		w.stamp, w.quiet = stamp, quiet
		for j := r.count(); j > 0 && !r.bad; j-- {
			w.taken = append(w.taken, r.num())
		}
		m.touch(w)
	}
}

func (r *restorer[V]) readBatches() {
	m := r.m
	for i := r.count(); i > 0 && !r.bad; i-- {
		name := r.text()
		if m.batches[name] != nil {
			r.fail()
			return
		}
		b := m.batch(name)
		b.ok, b.failed, b.since = r.size(), r.size(), r.time()
		for j := r.count(); j > 0 && !r.bad; j-- {
			b.watchers = append(b.watchers, machine.Who{Session: machine.Session(r.num()), Req: r.num()})
		}
	}
	for i := r.count(); i > 0 && !r.bad; i-- {
		m.over = append(m.over, batchOver{r.text(), r.time()})
	}
}

func (r *restorer[V]) task() *Task[V] {
	has := r.byte()
	t := &Task[V]{State: State(r.byte()), ID: r.text(), Val: r.val()}
	n := r.num()
	if r.bad || n >= uint64(len(r.lanes)) || t.State > Ended || has >= 2*hasTimeout {
		r.fail()
		return nil
	}
	t.lane = r.lanes[n]
	t.Retries = uint16(r.uint(math.MaxUint16))
	t.Submitted = r.time()
	t.Since = clip(t.Submitted, r.int())
	r.check(t.Since >= 0)
	if has&hasTimeout != 0 {
		t.Timeout = r.uint32()
	}
	if has&hasSize != 0 {
		t.Size = r.uint32()
	}
	if has&hasWatch != 0 {
		t.watch = machine.Session(r.num())
	}
	if has&hasLeases != 0 || t.State >= Parked {
		t.Epoch, t.Attempts = r.uint32(), uint16(r.uint(math.MaxUint16))
		t.Outcome, t.Cause, t.losses, t.flags = Outcome(r.byte()), Cause(r.byte()), r.byte(), flags(r.byte())
		r.check(t.Outcome <= NeverRan && t.Cause <= ByHand && t.flags < 2*parking && (t.State == Leased || t.flags == 0))
	}
	if has&hasRare != 0 {
		t.rare = r.rare()
	}
	if r.bad {
		return nil
	}
	t.lane.use()
	return t
}

func (r *restorer[V]) rare() *rare[V] {
	x := &rare[V]{batchName: r.text()}
	if r.bit() {
		b := r.m.batches[x.batchName]
		if b == nil {
			r.fail()
			return nil
		}
		b.pending++
		x.batch = b
	}
	x.deadline, x.retain, x.done, x.total = r.time(), r.time(), r.int(), r.int()
	x.reason = r.text()
	if x.failed = r.bit(); x.failed {
		x.failure = r.val()
	}
	for i := r.count(); i > 0 && !r.bad; i-- {
		x.watchers = append(x.watchers, machine.Session(r.num()))
	}
	n := r.count()
	r.check(n <= maxHistory)
	for ; n > 0 && !r.bad; n-- {
		x.history = append(x.history, Attempt{machine.Session(r.num()), r.int(), r.int(), Outcome(r.byte()), r.bit(), r.text()})
		r.check(x.history[len(x.history)-1].Outcome <= NeverRan)
	}
	return x
}

// add adds a task that has a number. Lists come later.
func (r *restorer[V]) add(t *Task[V]) {
	m := r.m
	if t.ID != "" {
		if m.ids[t.ID] != nil {
			r.fail()
			return
		}
		m.ids[t.ID] = t
	}
	m.numbers.add(t)
	m.arm(t)
	switch t.State {
	case Delayed, Parked:
		m.counts[t.State]++
	case Ended:
		r.check(t.ID != "")
		r.tasks++
	case Ready, Leased:
		r.tasks++
	default:
		r.fail()
	}
}

// list calls f with each task of a list; each task of a state that has a list is in one.
func (r *restorer[V]) list(s State, f func(t *Task[V])) {
	at := uint64(0)
	for i := r.count(); i > 0 && !r.bad; i-- {
		at += uint64(r.int())
		t := r.m.Numbered(at)
		if t == nil || t.State != s || t.prev != nil || t.next != nil {
			r.fail()
			return
		}
		r.tasks--
		f(t)
	}
}

func (r *restorer[V]) orders() {
	m := r.m
	var placed []*lane[V]
	for _, l := range r.lanes {
		l.stamp = r.num()
		blocked := l.flow.key.blocked
		l.flow.key.blocked = true // it is placed below
		r.list(Ready, func(t *Task[V]) {
			if t.lane != l || t == l.head {
				r.fail()
				return
			}
			since := t.Since
			m.ready(t, false)
			t.Since = since
		})
		if l.flow.key.blocked = blocked; !blocked && l.n > 0 {
			placed = append(placed, l)
		}
	}
	if r.bad {
		return
	}
	slices.SortStableFunc(placed, func(a, b *lane[V]) int { return cmp.Compare(a.stamp, b.stamp) })
	for _, l := range placed {
		m.place(l, l.stamp)
	}
	for _, s := range slices.Sorted(maps.Keys(m.workers)) {
		w := m.workers[s]
		r.list(Leased, func(t *Task[V]) {
			if t.worker != nil {
				r.fail()
				return
			}
			m.hold(w, t)
			if t.flags&recalled != 0 {
				w.asked++
			}
			if t.flags&awaited != 0 {
				m.recalls++
			}
		})
		m.touch(w)
	}
	for _, x := range []*taskList[V]{&m.retained, &m.kept} {
		r.list(Ended, func(t *Task[V]) {
			if m.list(t) != x || t == x.head {
				r.fail()
				return
			}
			x.push(t)
			m.counts[Ended]++
		})
	}
	r.check(r.tasks == 0)
}

func (r *restorer[V]) readLine() {
	m := r.m
	for i := r.count(); i > 0 && !r.bad; i-- {
		w := &waiting[V]{who: machine.Who{Session: machine.Session(r.num()), Req: r.num()}, in: r.size(), prev: m.line.tail}
		w.how = How{Wait: true, Watch: r.bit()}
		for j := r.count(); j > 0 && !r.bad; j-- {
			t := r.task()
			r.check(t != nil && (t.State == 0 || t.State == Delayed))
			w.tasks = append(w.tasks, t)
		}
		m.line.tasks += len(w.tasks)
		if m.line.tail != nil {
			m.line.tail.next = w
		} else {
			m.line.head = w
		}
		m.line.tail = w
	}
}
