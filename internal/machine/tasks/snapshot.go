package tasks

import (
	"encoding/binary"
	"fmt"
	"maps"
	"math"
	"slices"

	"github.com/distgear/distgear/internal/machine"
	"github.com/distgear/distgear/internal/machine/assign"
	"github.com/distgear/distgear/internal/machine/pack"
	"github.com/distgear/distgear/internal/machine/words"
)

const version = 1

// What a task has, in front of it.
const (
	hasWatch = 1 << iota
	hasRare
	hasRun // it was leased, or has ended
)

// writer appends a state.
type writer[V any] struct {
	b         []byte
	appendVal func([]byte, V) []byte
	scratch   []byte
	lanes     *assign.Lanes[Task[V]]
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

func (w *writer[V]) text(s string) { w.b = pack.AppendBytes(w.b, s) }

func (w *writer[V]) bit(on bool) { w.b = pack.AppendBool(w.b, on) }

func (w *writer[V]) val(v V) {
	w.scratch = w.appendVal(w.scratch[:0], v)
	w.b = pack.AppendBytes(w.b, w.scratch)
}

// AppendBinary appends the state to b. appendVal appends a value, and must
// append equal bytes for equal values if equal states are to give equal bytes.
func (m *Machine[V]) AppendBinary(b []byte, appendVal func([]byte, V) []byte) []byte {
	w := &writer[V]{b: append(b, version), appendVal: appendVal}
	w.b = pack.AppendBytes(w.b, words.AppendLimits(nil, &m.lim))
	w.bit(m.limits)
	w.text(m.paused)
	w.uint(m.last, m.total, uint64(m.now))
	w.b, w.lanes = m.turns.AppendBinary(w.b)
	w.uint(uint64(len(m.quiet)))
	for _, s := range slices.Sorted(maps.Keys(m.quiet)) {
		w.uint(uint64(s), uint64(len(m.quiet[s])))
		w.uint(m.quiet[s]...)
	}
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
	w.b = m.turns.AppendPlaces(w.b, w.lanes)
	w.b = m.retained.AppendBinary(w.b)
	w.b = m.kept.AppendBinary(w.b)
	m.appendLine(w)
	w.uint(uint64(len(m.schedules)))
	for _, s := range m.Schedules() {
		w.text(s.Name)
		w.scratch = w.appendVal(w.scratch[:0], s.Val)
		w.b = pack.AppendBytes(w.b, words.AppendSchedule(nil, &Schedule[[]byte]{Text: s.Text, Spec: s.Spec, Val: w.scratch, Next: s.Next, Last: s.Last, Skip: s.Skip, All: s.All, Paused: s.Paused}))
		w.uint(uint64(s.Spec.Size))
	}
	return w.b
}

func (m *Machine[V]) appendBatches(w *writer[V]) {
	w.uint(uint64(len(m.batches)))
	for _, name := range slices.Sorted(maps.Keys(m.batches)) {
		b := m.batches[name]
		w.text(name)
		w.uint(uint64(b.ok), uint64(b.failed), uint64(b.since))
		w.b = pack.AppendWhos(w.b, b.watchers)
	}
	w.uint(uint64(len(m.over)))
	for _, o := range m.over {
		w.text(o.name)
		w.uint(uint64(o.since))
	}
}

func (m *Machine[V]) appendLine(w *writer[V]) {
	n := uint64(0)
	for x := m.line.head; x != nil; x = x.next {
		n++
	}
	w.uint(n)
	for x := m.line.head; x != nil; x = x.next {
		w.b = pack.AppendWho(w.b, x.who)
		w.bit(x.how.Watch)
		w.uint(uint64(x.in), uint64(len(x.tasks)))
		for _, t := range x.tasks {
			w.task(t)
		}
	}
}

func (w *writer[V]) task(t *Task[V]) {
	has := byte(0)
	for i, on := range []bool{t.watch != 0, t.rare != nil, t.Epoch != 0 || t.State >= Parked} {
		if on {
			has |= 1 << i
		}
	}
	w.b = append(w.b, has, byte(t.State))
	w.b = w.lanes.AppendNode(w.b, &t.Node)
	w.text(t.ID)
	w.val(t.Val)
	w.uint(uint64(t.Retries), uint64(t.Timeout), uint64(t.Submitted), uint64(t.Since))
	if has&hasWatch != 0 {
		w.uint(uint64(t.watch))
	}
	if has&hasRun != 0 {
		w.uint(uint64(t.Attempts))
		w.b = append(w.b, byte(t.Outcome), byte(t.Cause), t.losses, byte(t.flags))
	}
	if t.rare != nil {
		w.rare(t.rare)
	}
}

func (w *writer[V]) rare(r *rare[V]) {
	w.text(r.batchName)
	w.bit(r.batch != nil)
	w.uint(uint64(r.deadline), uint64(r.retain))
	w.int(r.done, r.total)
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
		w.uint(uint64(a.Worker), uint64(a.Began), uint64(a.Ended))
		w.b = append(w.b, byte(a.Outcome))
		w.bit(a.Lost)
		w.text(a.Message)
	}
}

// Restore makes m the state that AppendBinary wrote as b. parse is given the
// bytes of a value, a part of b that it must not keep. With an error b is not
// such a state, or parse refused a value, and m is as before.
func (m *Machine[V]) Restore(b []byte, parse func([]byte) (V, error)) error {
	r := &restorer[V]{Reader: pack.Read(b), m: New[V](Limits{}, 0), parse: parse}
	r.all()
	if r.err != nil {
		return fmt.Errorf("tasks: value: %w", r.err)
	}
	if !r.End() {
		return ErrMalformed
	}
	*m = *r.m
	return nil
}

// restorer reads a state.
type restorer[V any] struct {
	pack.Reader
	m     *Machine[V]
	parse func([]byte) (V, error)
	err   error // of parse
	lanes *assign.Lanes[Task[V]]
	lists int // tasks that have to be in a list, and were not seen in one
}

func (r *restorer[V]) val() (v V) { return r.value(r.Bytes()) }

func (r *restorer[V]) value(b []byte) (v V) {
	if r.Bad() {
		return v
	}
	v, err := r.parse(b)
	if err != nil {
		r.err = err
		r.Fail()
	}
	return v
}

func (r *restorer[V]) text() string { return string(r.Bytes()) }

// time reads a time that can be.
func (r *restorer[V]) time() int64 { return int64(r.Uint(words.MaxTime)) }

func (r *restorer[V]) size() int { return int(r.Uint(math.MaxInt32)) }

func (r *restorer[V]) session() machine.Session { return machine.Session(r.Uvarint()) }

func (r *restorer[V]) check(ok bool) {
	if !ok {
		r.Fail()
	}
}

func (r *restorer[V]) all() {
	m := r.m
	r.check(r.Byte() == version)
	l, err := words.ParseLimits(r.Bytes())
	r.check(err == nil)
	m.lim = l.Sane()
	m.turns.Configure(m.lim)
	m.limits, m.paused = r.Bool(), r.text()
	m.last, m.total, m.now = r.Uvarint(), r.Uvarint(), r.time()
	r.lanes = m.turns.Restore(&r.Reader)
	for range r.Count(2) {
		s := r.session()
		_, twice := m.quiet[s]
		_, quiet := m.turns.Works(s)
		r.check(!twice && quiet)
		had := []uint64{}
		for range r.Count(1) {
			had = append(had, r.Uvarint())
		}
		m.quiet[s] = had
	}
	r.batches()
	before := uint64(0)
	for range r.Count(8) {
		n := r.Uvarint()
		r.check(n > before && n <= m.last)
		t := r.task()
		if r.Bad() {
			return
		}
		before, t.Number = n, n
		r.add(t)
	}
	r.places()
	r.line()
	for range r.Count(4) {
		r.schedule()
	}
	if !r.Bad() {
		m.soonest()
	}
}

func (r *restorer[V]) schedule() {
	name, body, size := r.text(), r.Bytes(), uint32(r.Uint(math.MaxUint32))
	s, err := words.ParseSchedule(name, body)
	if r.Bad() || err != nil || r.m.schedules[name] != nil || s.Spec.Fault() != nil || min(s.Next, s.Last) < 0 || max(s.Next, s.Last) > words.MaxTime {
		r.Fail()
		return
	}
	s.Spec.Size = size
	r.m.schedules[name] = &Schedule[V]{Name: name, Text: s.Text, Spec: s.Spec, Val: r.value(s.Val), Next: s.Next, Last: s.Last, Skip: s.Skip, All: s.All, Paused: s.Paused}
}

func (r *restorer[V]) batches() {
	m := r.m
	for range r.Count(5) {
		name := r.text()
		r.check(m.batches[name] == nil)
		b := m.batch(name)
		b.ok, b.failed, b.since = r.size(), r.size(), r.time()
		b.watchers = r.Whos()
	}
	for range r.Count(2) {
		m.over = append(m.over, batchOver{r.text(), r.time()})
	}
}

func (r *restorer[V]) task() *Task[V] {
	has := r.Flags(hasWatch | hasRare | hasRun)
	t := &Task[V]{State: State(r.Byte())}
	r.check(t.State <= Ended)
	r.lanes.ReadNode(&r.Reader, &t.Node, t)
	t.ID, t.Val = r.text(), r.val()
	t.Retries, t.Timeout = uint16(r.Uint(math.MaxUint16)), uint32(r.Uint(math.MaxUint32))
	t.Submitted, t.Since = r.time(), r.time()
	if has&hasWatch != 0 {
		t.watch = r.session()
	}
	if has&hasRun != 0 {
		t.Attempts = uint16(r.Uint(math.MaxUint16))
		t.Outcome, t.Cause, t.losses, t.flags = Outcome(r.Byte()), Cause(r.Byte()), r.Byte(), flags(r.Flags(byte(cancelled|parking)))
		r.check(t.Outcome <= NeverRan && t.Cause <= ByHand && (t.State == Leased || t.flags == 0))
	}
	if has&hasRare != 0 {
		t.rare = r.rare()
	}
	return t
}

func (r *restorer[V]) rare() *rare[V] {
	x := &rare[V]{batchName: r.text()}
	if r.Bool() {
		if x.batch = r.m.batches[x.batchName]; x.batch == nil {
			r.Fail()
			return x
		}
		x.batch.pending++
	}
	x.deadline, x.retain, x.done, x.total = r.time(), r.time(), r.Varint(), r.Varint()
	x.reason = r.text()
	if x.failed = r.Bool(); x.failed {
		x.failure = r.val()
	}
	for range r.Count(1) {
		x.watchers = append(x.watchers, r.session())
	}
	n := r.Count(6)
	r.check(n <= maxHistory)
	for range n {
		x.history = append(x.history, Attempt{Worker: r.session(), Began: r.time(), Ended: r.time(), Outcome: Outcome(r.Uint(uint64(NeverRan))), Lost: r.Bool(), Message: r.text()})
	}
	return x
}

// add adds a task that has a number. Its list comes later.
func (r *restorer[V]) add(t *Task[V]) {
	m := r.m
	if t.ID != "" {
		r.check(m.ids[t.ID] == nil)
		m.ids[t.ID] = t
	}
	m.numbers.add(t)
	m.arm(t)
	r.check(t.State != 0 && (t.State != Ended || t.ID != ""))
	m.counts[t.State]++
	if t.State != Delayed && t.State != Parked {
		r.lists++
	}
}

func (r *restorer[V]) places() {
	m := r.m
	find := func(n uint64) *assign.Node[Task[V]] {
		if t := m.Numbered(n); t != nil {
			return &t.Node
		}
		return nil
	}
	m.turns.RestorePlaces(&r.Reader, r.lanes, find, func(n *assign.Node[Task[V]], held bool) bool {
		r.lists--
		return n.Of.State == Ready && !held || n.Of.State == Leased && held
	})
	for _, x := range []*assign.List[Task[V]]{&m.retained, &m.kept} {
		assign.ReadList(&r.Reader, find, func(n *assign.Node[Task[V]]) bool {
			r.lists--
			if n.Of.State != Ended || m.list(n.Of) != x || n.Linked() || n == x.First() {
				return false
			}
			x.Push(n)
			return true
		})
	}
	r.check(r.lists == 0)
}

func (r *restorer[V]) line() {
	m := r.m
	for range r.Count(5) {
		w := &waiting[V]{who: r.Who(), how: How{Wait: true, Watch: r.Bool()}, in: r.size()}
		for range r.Count(7) {
			t := r.task()
			if r.Bad() || t.State != 0 && t.State != Delayed {
				r.Fail()
				return
			}
			w.tasks = append(w.tasks, t)
		}
		m.line.push(w)
	}
}
