package durable

import (
	"context"
	"errors"
	"fmt"

	"github.com/distgear/distgear/internal/fault"
	"github.com/distgear/distgear/internal/machine"
	"github.com/distgear/distgear/internal/machine/words"
	"github.com/distgear/distgear/internal/operation"
	"github.com/distgear/distgear/internal/work"
)

// What travels as one operation at most, but for a task that is larger by
// itself.
const (
	maxTasks = 512
	maxBytes = 256 << 10
)

const (
	// submitting is how many operations with tasks may be unanswered: while one is
	// written to disk the next is on its way. More would make each smaller.
	submitting = 4
	// chunk is how many tasks of a submission are encoded before the ones before
	// them are in.
	chunk = 4096
)

// The states of an entry.
const (
	entryWaits    uint8 = iota // in line
	entrySent                  // not answered yet
	entryAccepted              // the end of the task will be told
	entryOver                  // nobody waits for it any more
)

// entry is a task that this node submits or watches.
type entry struct {
	id        string
	job       *work.Job
	more      []*work.Job // other handles of the same task
	val       []byte      // the input; nil once it is accepted
	state     uint8
	submitted bool          // by this node
	refuse    bool          // instead of waiting while the executor is full
	cancelled bool          // somebody wants that
	abandoned error         // why nobody wants it submitted any more
	sub       *submission   // whose part it is; nil: it was told
	also      []*submission // of more
}

func (e *entry) each(f func(*work.Job)) {
	f(e.job)
	for _, j := range e.more {
		f(j)
	}
}

// submission is one who waits for tasks to be accepted, or to be found.
type submission struct {
	finds  *entry        // what it looks for
	single bool          // its only task's refusal is its error
	left   int           // tasks that are not answered
	in     int           // tasks that are accepted: the first
	err    error         // why the others are not
	done   chan struct{} // closed when left is 0
}

// told counts a task of who waits for it.
func (s *submission) told(err error) {
	if err == nil {
		s.in++
	} else if s.err == nil || errors.Is(err, fault.ErrUnknown) {
		s.err = errors.Join(s.err, err)
	}
	if s.left--; s.left == 0 {
		close(s.done)
	}
}

// told tells who waits for an entry.
func (e *entry) told(err error) {
	if e.sub != nil {
		e.sub.told(err)
	}
	for _, s := range e.also {
		s.told(err)
	}
	e.sub, e.also = nil, nil
}

// line is a queue of entries.
type line struct {
	es   []*entry
	head int
}

func (l *line) len() int      { return len(l.es) - l.head }
func (l *line) push(e *entry) { l.es = append(l.es, e) }

// pop is the first entry that still waits, or nil.
func (l *line) pop() *entry {
	for l.head < len(l.es) {
		e := l.es[l.head]
		l.es[l.head] = nil
		l.head++
		if e.state == entryWaits {
			return e
		}
	}
	l.es, l.head = l.es[:0], 0
	if cap(l.es) > chunk {
		l.es = nil // a burst's memory is not kept
	}
	return nil
}

// unpop puts entries back in front.
func (l *line) unpop(es ...*entry) {
	if n := len(es); n <= l.head {
		l.head -= n
		copy(l.es[l.head:], es)
		return
	}
	l.es, l.head = append(append([]*entry(nil), es...), l.es[l.head:]...), 0
}

// batch is a submission of tasks that is not answered yet.
type batch struct {
	q         *queue
	req       uint64
	abandoned bool
	entries   []*entry
}

// Submit implements Class.
func (d *Queue) Submit(ctx context.Context, j *work.Job) error {
	_, err := d.submit(ctx, []*work.Job{j}, true)
	return err
}

// SubmitAll implements Class.
func (d *Queue) SubmitAll(ctx context.Context, js []*work.Job) (int, error) {
	return d.submit(ctx, js, false)
}

func (d *Queue) submit(ctx context.Context, js []*work.Job, single bool) (in int, err error) {
	q := d.q
	var before *submission
	for len(js) > 0 && err == nil {
		n := min(len(js), chunk)
		es := make([]*entry, 0, n)
		for _, j := range js[:n] {
			var e *entry
			if e, err = d.prepare(ctx, j); err != nil {
				break
			}
			es = append(es, e)
		}
		s := &submission{single: single, left: len(es), done: make(chan struct{})}
		if len(es) > 0 {
			if left := d.enter(s, es); left != nil {
				err = left
				break
			}
		}
		js = js[n:]
		if before != nil {
			more, not := q.accepted(ctx, before)
			in += more
			if not != nil && err == nil {
				err = not
			}
		}
		before = nil
		switch {
		case len(es) == 0:
		case err != nil:
			q.abandon(s, err)
			<-s.done
			in += s.in
		case d.refuse || len(js) == 0:
			more, not := q.accepted(ctx, s)
			in, err = in+more, not
		default:
			before = s
		}
	}
	return in, err
}

// prepare makes a job's entry. A large input is stored.
func (d *Queue) prepare(ctx context.Context, j *work.Job) (*entry, error) {
	if j.ID() == "" {
		j.SetID(d.q.fresh())
	}
	in, err := j.Input(nil)
	if err != nil {
		return nil, err
	}
	if in, err = storeValue(ctx, d.q.room, d.q.name, j.ID(), "in", in); err != nil {
		return nil, err
	}
	return &entry{id: j.ID(), job: j, val: in, submitted: true, refuse: d.refuse}, nil
}

// enter puts entries in line.
func (d *Queue) enter(s *submission, es []*entry) error {
	q := d.q
	q.mu.Lock()
	defer q.unlock()
	if err := q.left; err != nil {
		return err
	}
	if d.closed.Load() {
		return work.ErrShutdown
	}
	for _, e := range es {
		switch has := q.known[e.id]; {
		case has == nil:
			e.sub = s
			q.known[e.id] = e
			q.pending++
			q.line.push(e)
		case has.job.Kind() != "" && has.job.Kind() != e.job.Kind(): // one that was found has none
			q.conflict(s, e.job, fmt.Errorf("%w: a task with the ID %q is there, of another action", fault.ErrConflict, e.id))
		default:
			has.more = append(has.more, e.job)
			if has.state == entryAccepted && has.sub == nil {
				s.told(nil)
			} else {
				has.also = append(has.also, s)
			}
		}
	}
	q.pump()
	return nil
}

// conflict refuses one task of a submission for its own reasons: it counts as
// taken up, and has ended.
func (q *queue) conflict(s *submission, j *work.Job, err error) {
	if s.single {
		s.told(err)
		return
	}
	q.fail(j, err)
	s.told(nil)
}

// accepted waits until a submission is answered, or takes it back when ctx ends.
func (q *queue) accepted(ctx context.Context, s *submission) (in int, err error) {
	if cause := work.Await(ctx, s.done); cause != nil {
		q.abandon(s, cause)
		<-s.done
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	return s.in, s.err
}

// abandon takes back what is not accepted yet of a submission.
func (q *queue) abandon(s *submission, why error) {
	q.mu.Lock()
	defer q.unlock()
	own := func(e *entry) bool { return e.sub == s && len(e.also) == 0 }
	for i := q.line.head; i < len(q.line.es); i++ {
		if e := q.line.es[i]; e.state == entryWaits && own(e) {
			q.drop(e, fmt.Errorf("task %s was not submitted: %w", e.id, why))
		}
	}
	for i := len(q.flying) - 1; i >= 0; i-- { // from behind: what gets in meanwhile are the first
		b, mine := q.flying[i], false
		for _, e := range b.entries {
			if e.state == entrySent && own(e) {
				e.abandoned, mine = fmt.Errorf("task %s was not submitted: gave up waiting for room: %w", e.id, why), true
			}
		}
		if mine && !b.abandoned {
			b.abandoned = true
			q.say(nil, operation.Op{Verb: operation.VAbandon, A: b.req})
		}
	}
	if e := s.finds; e != nil && e.state == entryAccepted && own(e) {
		q.drop(e, why)
	}
}

// forget drops an entry.
func (q *queue) forget(e *entry) {
	if e.state == entryOver {
		return
	}
	e.state, e.val = entryOver, nil
	if q.known[e.id] == e {
		delete(q.known, e.id)
	}
	if e.submitted {
		q.pending--
	}
}

// drop tells that a task will not be heard of any more. If it was not accepted
// yet, its jobs have not ended.
func (q *queue) drop(e *entry, err error) {
	over := e.state == entryAccepted && e.sub == nil
	q.forget(e)
	if over {
		e.each(func(j *work.Job) { q.fail(j, err) })
	}
	e.told(err)
}

// accept takes up that a task is in the ledger.
func (q *queue) accept(e *entry) {
	e.state, e.val = entryAccepted, nil
	e.told(nil)
	if e.cancelled {
		q.sayCancel(e)
	}
}

// pumpLine submits what waits in line.
func (q *queue) pumpLine() {
	for len(q.flying) < submitting {
		b := &batch{q: q}
		var specs [2]work.Spec // the last one and the one before it
		buf, refuse := q.buf[:0], false
		for len(b.entries) < maxTasks && len(buf) < maxBytes {
			e := q.line.pop()
			if e == nil {
				break
			}
			if e.sub != nil && e.sub.err != nil { // one before it was refused
				q.drop(e, e.sub.err)
				continue
			}
			n := len(b.entries)
			if n > 0 && e.refuse != refuse || e.refuse && len(q.flying) > 0 { // one at a time, so that the first are in
				q.line.unpop(e)
				break
			}
			refuse = e.refuse
			s := &specs[n%2]
			*s = e.job.Spec()
			s.ID = e.id
			if s.NotBefore != 0 {
				s.NotBefore++ // the ledger's time is rounded down
			}
			before := &specs[(n+1)%2]
			if n == 0 {
				before = nil
			}
			buf = words.AppendSpec(buf, s, before, e.val)
			b.entries = append(b.entries, e)
		}
		q.buf = buf[:0]
		if cap(buf) > 2*maxBytes {
			q.buf = nil
		}
		if len(b.entries) == 0 {
			return
		}
		op := operation.Op{Verb: operation.VSubmit, Val: buf, A: operation.SubmitWatches}
		if !refuse {
			op.A |= operation.SubmitWaits
		}
		req, err := q.obj.Start(q.session, b, op)
		if err != nil {
			q.line.unpop(b.entries...)
			q.retry(err)
			return
		}
		b.req = req
		for _, e := range b.entries {
			e.state = entrySent
		}
		q.flying = append(q.flying, b)
	}
}

// Output implements client.Receiver.
func (b *batch) Output(o *operation.Output) bool {
	q := b.q
	q.mu.Lock()
	defer q.unlock()
	at := -1
	for i, x := range q.flying {
		if x == b {
			at = i
		}
	}
	if at < 0 {
		return true
	}
	q.flying = append(q.flying[:at], q.flying[at+1:]...)
	in := 0
	var why error
	switch o.Code {
	case machine.OK:
		in = len(b.entries)
	case machine.Refused:
		in, why = int(min(o.Num, uint64(len(b.entries)))), fmt.Errorf("%w: executor %q", work.ErrFull, q.name)
	default:
		why = fmt.Errorf("%w: submitting to executor %q: the hub does not understand it; has it another version?", fault.ErrInvalid, q.name)
	}
	var again []*entry
	for i, e := range b.entries {
		switch {
		case e.state != entrySent: // it has ended, or was refused by itself
		case i < in:
			q.accept(e)
		case o.Code == machine.Refused && e.abandoned != nil:
			q.drop(e, e.abandoned)
		case o.Code == machine.Refused && b.abandoned:
			e.state = entryWaits
			again = append(again, e)
		default:
			q.drop(e, why)
		}
	}
	q.line.unpop(again...)
	q.pump()
	return true
}

// Lost implements client.Receiver: the queue's own Lost looks after it.
func (b *batch) Lost() {}

// refusal takes up that a task was refused for its own reasons.
func (q *queue) refusal(b []byte) error {
	id, why, err := words.ParseRefusal(b)
	e := q.known[id]
	if err != nil || e == nil || e.state == entryOver {
		return err
	}
	why = fmt.Errorf("%w: task %q of executor %q", taskError(why), id, q.name)
	accepted := e.state == entryAccepted
	subs, jobs := append([]*submission{e.sub}, e.also...), append([]*work.Job{e.job}, e.more...)
	e.sub, e.also = nil, nil
	q.forget(e)
	if accepted {
		for _, j := range jobs {
			q.fail(j, why)
		}
		return nil
	}
	for i, s := range subs {
		if s != nil {
			q.conflict(s, jobs[i], why)
		}
	}
	return nil
}
