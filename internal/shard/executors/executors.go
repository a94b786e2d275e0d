// Package executors is an executor as an object of the ledger: the machine of its
// tasks (internal/machine/tasks), the journals of those that are runs of durable
// events, and the bytes of its operations. It is pure, and knows of the ledger only
// what Ledger says.
//
//	x := executors.New(floor)
//	x.Apply(&executors.Call{Op: op, By: session, Now: ms, Ledger: ledger})
//
// # Guarantees
//
// Its state is a function of the calls, in their order. A list in an operation is applied
// as a whole or, when it is malformed, not at all.
//
// # Failures
//
// Malformed bytes are answered Invalid, and what the state refuses Refused with the
// number of an error; neither changes anything.
package executors

import (
	"slices"

	"github.com/distgear/distgear/internal/machine"
	"github.com/distgear/distgear/internal/machine/pack"
	"github.com/distgear/distgear/internal/machine/runs"
	"github.com/distgear/distgear/internal/machine/tasks"
	"github.com/distgear/distgear/internal/machine/words"
	"github.com/distgear/distgear/internal/operation"
)

// Executor is one executor. It is not safe for concurrent use.
type Executor struct {
	m     *tasks.Machine[string]
	out   tasks.Out[string]
	items []tasks.Item[string]
	dones []tasks.Report[string]
	buf   []byte
	said  operation.Output // scratch
	rate  rate
	runs  map[uint64]*runs.Run // by number; see run
	ended string               // what the entry that is applied says of how its run ended
}

// Ledger is what an executor tells, and asks of the ledger that it is in.
type Ledger interface {
	Publish(told *Told)                            // to who wants to know what becomes of tasks
	Tell(to machine.Who, o *operation.Output)      // the bytes are only lent
	Opener(except machine.Session) machine.Session // the first session that has the executor open, but for except; 0: there is none
	Node(of machine.Session) string                // empty: the session has ended before this
}

// Call is something that happens to an executor.
type Call struct {
	Op     operation.Op    // zero: no operation
	By     machine.Session // whose operation it is, or who comes and goes; 0: nobody
	Now    int64           // ms, of the executors' time
	Ledger Ledger
	Heard  bool // somebody wants to know what becomes of tasks: Ledger.Publish
}

func (c *Call) who() machine.Who { return machine.Who{Session: c.By, Req: c.Op.Req} }

// New returns an executor without tasks. floor is the highest number that a task of its
// name had before.
func New(floor uint64) *Executor {
	return &Executor{m: tasks.New[string](tasks.Limits{}, floor)}
}

// Apply applies an operation.
func (x *Executor) Apply(c *Call) {
	o, who := &c.Op, c.who()
	x.advance(c)
	switch o.Verb {
	case operation.VConfigure:
		l, err := words.ParseLimits(o.Val)
		if err == nil {
			x.m.Configure(&x.out, l)
		}
		x.answer(c, err)
	case operation.VSubmit:
		x.submit(c)
	case operation.VWork:
		offer, err := words.ParseOffer(o.Val)
		if err == nil {
			x.m.Work(&x.out, who.Session, offer)
		}
		x.answer(c, err)
	case operation.VUnwork:
		x.m.Unwork(&x.out, who.Session, c.Ledger.Node(c.By))
		x.answer(c, nil)
	case operation.VDone:
		x.done(c)
	case operation.VGiveBack:
		ls, err := words.ParseLeases(o.Val)
		if err == nil && o.A == 1 {
			x.m.Kept(&x.out, who.Session, ls)
		} else if err == nil {
			x.m.GiveBack(&x.out, who.Session, ls)
		}
		x.answer(c, err)
	case operation.VProgress:
		err := words.ParseProgress(o.Val, func(tasks.Lease, int64, int64) {})
		if err == nil {
			_ = words.ParseProgress(o.Val, func(l tasks.Lease, done, total int64) { x.m.Progress(&x.out, who.Session, l, done, total) })
		}
		x.answer(c, err)
	case operation.VTask, operation.VWatch:
		x.task(c)
	case operation.VBatch:
		x.m.WatchBatch(&x.out, who, string(o.Key))
	case operation.VPause:
		if len(o.Key) > 0 {
			x.m.Pause(string(o.Key))
		} else {
			x.m.Resume(&x.out)
		}
		x.answer(c, nil)
	case operation.VSchedule:
		s, err := words.ParseSchedule(string(o.Key), o.Val)
		if err != nil {
			x.invalid(c)
			return
		}
		x.answer(c, x.m.Schedule(&x.out, tasks.Schedule[string]{Name: s.Name, Text: s.Text, Spec: s.Spec, Val: string(s.Val), Next: s.Next, Last: s.Last, Skip: s.Skip, All: s.All, Paused: s.Paused}))
	case operation.VUnschedule:
		if o.A != 0 {
			x.answer(c, x.m.PauseSchedule(&x.out, string(o.Key), o.A == operation.SchedulePause))
			break
		}
		x.answer(c, x.m.Unschedule(string(o.Key)))
	case operation.VNextTime:
		x.m.NextTime(&x.out, string(o.Key), int64(o.A), int64(o.B))
		x.answer(c, nil)
	case operation.VAppend:
		x.append(c)
	case operation.VSignal:
		x.signal(c)
	default:
		x.invalid(c)
	}
	x.tell(c)
}

// advance begins a call.
func (x *Executor) advance(c *Call) {
	x.m.Advance(c.Now)
	x.m.Observe(c.Heard)
}

// say answers who asks.
func (x *Executor) say(c *Call, code machine.Code, num, aux uint64) {
	if c.Op.Req != 0 {
		x.said = operation.Output{Code: code, Num: num, Aux: aux}
		c.Ledger.Tell(c.who(), &x.said)
	}
}

func (x *Executor) invalid(c *Call) { x.say(c, machine.Invalid, 0, 0) }

// answer is OK, Refused with the number of an error, or Invalid.
func (x *Executor) answer(c *Call, err error) {
	switch n := words.Number(err); {
	case err == nil:
		x.say(c, machine.OK, 0, 0)
	case n > 0:
		x.say(c, machine.Refused, 0, n)
	default:
		x.invalid(c)
	}
}

func (x *Executor) submit(c *Call) {
	now, bad := c.Now, false
	err := words.ParseSpecs(c.Op.Val, func(s *tasks.Spec, val []byte) {
		x.items = append(x.items, tasks.Item[string]{Task: &tasks.Task[string]{}, Spec: *s, Val: string(val)})
		spec := &x.items[len(x.items)-1].Spec
		for _, at := range []*int64{&spec.NotBefore, &spec.Deadline} {
			if *at > 0 {
				*at = min(*at, MaxDelay) + now
			}
		}
		bad = bad || s.ID == ""
	})
	defer func() {
		clear(x.items)
		x.items = x.items[:0]
	}()
	if err != nil || bad {
		x.invalid(c)
		return
	}
	if c.Op.A&operation.SubmitForks != 0 && (len(x.items) != 1 || !runs.Whole(c.Op.Key)) {
		x.invalid(c)
		return
	}
	if c.Op.A&operation.SubmitRuns != 0 && !x.raised(c) {
		x.answer(c, tasks.ErrConflict)
		return
	}
	how := tasks.How{Wait: c.Op.A&operation.SubmitWaits != 0, Watch: c.Op.A&operation.SubmitWatches != 0}
	n, waits := x.m.Submit(&x.out, c.who(), how, x.items)
	if c.Op.A&operation.SubmitRuns == 0 {
		x.tell(c) // what is refused by itself is told before the answer
	}
	switch {
	case waits: // the answer comes later
	case n == len(x.items):
		x.begin(c)
		x.say(c, machine.OK, uint64(n), 0)
	default:
		x.say(c, machine.Refused, uint64(n), words.Number(tasks.ErrFull))
	}
}

// MaxDelay is how far away a task's times may be, in ms: 100 years.
const MaxDelay = 100 * 366 * 86_400_000

func (x *Executor) done(c *Call) {
	err := words.ParseReports(c.Op.Val, func(r *tasks.Report[[]byte]) {
		x.dones = append(x.dones, tasks.Report[string]{Lease: r.Lease, Outcome: r.Outcome, Permanent: r.Permanent, After: r.After, Message: r.Message, Val: string(r.Val)})
	})
	if err != nil {
		x.invalid(c)
	} else {
		x.say(c, machine.OK, uint64(x.m.Done(&x.out, c.By, x.dones)), 0)
	}
	clear(x.dones)
	x.dones = x.dones[:0]
}

// task does what is for one task.
func (x *Executor) task(c *Call) {
	o := &c.Op
	t := x.m.Find(string(o.Key))
	if o.Verb == operation.VTask && len(o.Key) == 0 {
		t = x.m.Numbered(o.B)
	}
	if t == nil {
		x.answer(c, tasks.ErrNoTask)
		return
	}
	if o.Verb == operation.VWatch {
		x.watch(c, t)
		return
	}
	switch o.A {
	case operation.TaskCancel:
		x.answer(c, x.m.Cancel(&x.out, t))
	case operation.TaskRetry:
		x.answer(c, x.m.Retry(&x.out, t))
	case operation.TaskPark:
		x.answer(c, x.m.Park(&x.out, t, string(o.Val)))
	default:
		x.operate(c, t)
	}
}

func (x *Executor) watch(c *Call, t *tasks.Task[string]) {
	x.said = operation.Output{Code: machine.OK, Num: t.Number, Aux: uint64(t.State)}
	switch c.Op.A {
	case operation.WatchOnce:
		if t.State >= tasks.Parked {
			x.buf = appendEnd(x.buf[:0], t)
			x.said.Val = x.buf
		}
	case operation.WatchOn:
		x.m.Watch(&x.out, c.By, t)
	case operation.WatchOff:
		x.m.Unwatch(c.By, t)
	case operation.WatchRun:
		x.buf = x.view(c, t, x.buf[:0])
		x.said.Val = x.buf
	default:
		x.invalid(c)
		return
	}
	if c.Op.Req != 0 {
		c.Ledger.Tell(c.who(), &x.said)
	}
}

func appendEnd(b []byte, t *tasks.Task[string]) []byte {
	e := words.End{ID: t.ID, State: t.State, Outcome: t.Outcome, Cause: t.Cause, Attempts: uint32(t.Attempts), Reason: t.Reason()}
	e.Val = reported(t)
	return words.AppendEnd(b, &e)
}

// reported is what was reported of a task that has ended; nil: nothing was.
func reported(t *tasks.Task[string]) []byte {
	if t.Outcome == tasks.OK {
		return []byte(t.Val)
	}
	if v, failed := t.Failure(); failed {
		return []byte(v)
	}
	return nil
}

// tell moves what the machine said into the outboxes.
func (x *Executor) tell(c *Call) {
	for i := range x.out.Effects {
		e := &x.out.Effects[i]
		if e.Code == tasks.Moved {
			x.publish(c, e)
			continue
		}
		to, b := machine.Who{Session: e.To.Session}, x.buf[:0]
		x.said = operation.Output{Code: machine.Message, Aux: uint64(e.Code)}
		if e.Task != nil {
			x.said.Num = e.Task.Number
		}
		switch e.Code {
		case tasks.Run:
			t := e.Task
			g := words.Grant{Lease: e.Lease, ID: t.ID, Kind: t.Kind(), Key: t.Key(), Attempt: uint32(t.Attempts) + 1, Timeout: t.Timeout, Input: []byte(t.Val)}
			if r := x.runs[t.Number]; r != nil {
				x.said.Key = r.AppendLease(nil)
				if in := r.Input(); in != nil {
					g.Input = in
				}
			}
			b = words.AppendGrant(b, &g)
		case tasks.Recall, tasks.Stop:
			b = words.AppendLease(b, e.Lease)
		case tasks.Finished:
			b = appendEnd(b, e.Task)
		case tasks.Advanced:
			done, total := e.Task.Progress()
			b = words.AppendAdvance(b, &words.Advance{ID: e.Task.ID, Done: done, Total: total})
		case tasks.Accepted:
			to, x.said = e.To, operation.Output{Code: machine.OK}
		case tasks.BatchEnd:
			to, x.said = e.To, operation.Output{Code: machine.OK, Num: uint64(e.OK), Aux: uint64(e.Failed)}
		case tasks.Refused:
			b = words.AppendRefusal(b, e.Text, e.Why)
		case tasks.Next:
			to.Session = c.Ledger.Opener(c.except())
			b = words.AppendAsk(b, &words.Ask{Name: e.Schedule.Name, Text: e.Schedule.Text, Last: e.Schedule.Last, After: e.Time})
		}
		x.buf, x.said.Val = b, b
		c.Ledger.Tell(to, &x.said)
	}
	x.out.Reset()
	x.ended = ""
	x.rate.note(c.Now, x.m.Total())
}

// except is who is not to be asked: who may be about to go.
func (c *Call) except() machine.Session {
	if c.Op.Handle != 0 {
		return 0
	}
	return c.By
}

// Abandon takes back what somebody waits for.
func (x *Executor) Abandon(c *Call, who machine.Who) {
	x.advance(c)
	in, ok := x.m.Abandon(&x.out, who)
	if ok || x.m.UnwatchBatch(who) {
		x.said = operation.Output{Code: machine.Refused, Num: uint64(in)}
		c.Ledger.Tell(who, &x.said)
	}
	x.tell(c)
}

// Expire is told that the session By is over, or has given the executor up.
func (x *Executor) Expire(c *Call) {
	x.advance(c)
	x.m.Expire(&x.out, c.By, c.Ledger.Node(c.By))
	x.out.Effects = slices.DeleteFunc(x.out.Effects, func(e tasks.Effect[string]) bool { return e.Code == tasks.Next })
	asked := *c // nobody asks who goes
	asked.Op = operation.Op{}
	x.m.AskNext(&x.out)
	x.tell(&asked)
}

// Destroy forgets everything but the last number. It tells who worked.
func (x *Executor) Destroy() (workers []machine.Session) {
	for _, w := range x.m.Workers() {
		workers = append(workers, w.Session)
	}
	x.m = tasks.New[string](tasks.Limits{}, x.m.Last())
	return workers
}

// Opened is told that the session By has opened the executor.
func (x *Executor) Opened(c *Call) {
	x.advance(c)
	x.m.AskNext(&x.out)
	x.tell(c)
}

// Quiet is told that the session By was not heard of for a while, or is again.
func (x *Executor) Quiet(c *Call, quiet bool) {
	x.advance(c)
	if quiet {
		x.m.Quiet(&x.out, c.By, c.Ledger.Node(c.By))
	} else {
		x.m.Heard(&x.out, c.By)
	}
	x.tell(c)
}

// Works tells whether a session works for the executor.
func (x *Executor) Works(s machine.Session) bool { return x.m.Works(s) }

// Last is the highest number of a task.
func (x *Executor) Last() uint64 { return x.m.Last() }

// Due is when a tick is wanted; 0: never.
func (x *Executor) Due() int64 { return x.m.Due() }

// Tick does what is due.
func (x *Executor) Tick(c *Call) {
	x.m.Observe(c.Heard)
	for {
		x.m.Tick(&x.out, c.Now)
		x.tell(c)
		if d := x.m.Due(); d == 0 || d > c.Now {
			return
		}
	}
}

// Idle tells that nobody could notice if it were not there.
func (x *Executor) Idle() bool { return x.m.Idle() }

// AppendBinary appends its state.
func (x *Executor) AppendBinary(b []byte) []byte {
	m := x.m.AppendBinary(nil, func(b []byte, v string) []byte { return append(b, v...) })
	return x.appendRuns(pack.AppendBytes(b, m))
}

// Restore takes up the state that AppendBinary appended.
func (x *Executor) Restore(b []byte) error {
	r := pack.Read(b)
	if err := x.m.Restore(r.Bytes(), func(b []byte) (string, error) { return string(b), nil }); err != nil {
		return err
	}
	if err := x.restoreRuns(&r); err != nil || !r.End() {
		return pack.ErrMalformed
	}
	return nil
}
