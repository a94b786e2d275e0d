package shard

import (
	"maps"
	"slices"

	"github.com/distgear/distgear/internal/machine"
	"github.com/distgear/distgear/internal/machine/pack"
	"github.com/distgear/distgear/internal/machine/runs"
	"github.com/distgear/distgear/internal/machine/tasks"
	"github.com/distgear/distgear/internal/machine/words"
)

// The verbs of an executor. Bytes are those of package tasks. A list is applied
// as a whole or, when it is malformed, not at all: Invalid. Refused has in Aux the number of
// an error of package tasks (words.Error).
//
// Times of submitted tasks (NotBefore, Deadline) are ms from now. Those of
// schedules are ms since 1970, by the clock of the hub that writes; the Deadline of a
// schedule's task is ms after its time.
const (
	VConfigure  Verb = Verb(KExecutor)<<4 + iota // Val: limits. OK
	VSubmit                                      // Val: specs, each with an ID; A: SubmitWaits | SubmitWatches. OK, maybe later: all are in. Refused (full, or abandoned: Aux 0): Num of them are in
	VWork                                        // Val: an offer. OK
	VUnwork                                      // OK
	VDone                                        // Val: reports. OK: Num of them were stale
	VGiveBack                                    // Val: leases; A: 1 says that they were recalled and have started: they are kept. OK
	VProgress                                    // Val: progress. OK
	VTask                                        // Key: an ID, or B: a number; A: TaskCancel … or RunCancel …; Val: why. OK, Refused
	VWatch                                       // Key: an ID; A: WatchOnce, WatchOn, WatchOff. OK: Num is the task's number, Aux its State, Val with WatchOnce its End if there is one. Refused
	VBatch                                       // Key: its name. OK once all of it has ended: Num of them OK, Aux not; VAbandon takes it back
	VPause                                       // Key: why; empty: resume. OK
	VSchedule                                    // Key: its name; Val: a schedule. OK, Refused
	VUnschedule                                  // Key: its name. OK, Refused
	VNextTime                                    // Key: its name; A: its Last; B: its next time; 0: it ends. OK
	VAppend                                      // Val: runs.Entry of the run whose lease it names. OK, Stale, Refused
	VSignal                                      // Key: an ID; Val: runs.Signal without a number. OK: Num is its number; Refused
)

// A of VSubmit.
const (
	SubmitWaits   = 1 << iota // in line, when the executor is full; VAbandon takes back what waits
	SubmitWatches             // the session is told of the end of each
	SubmitRuns                // they are runs of durable events: one that is known under its ID, with another kind or input, makes the answer Refused, and none is taken up
)

// A of VTask.
const (
	TaskCancel = 1 + iota
	TaskRetry
	TaskPark
)

// A of VWatch.
const (
	WatchOnce = iota // look, and no more
	WatchOn          // tell of the end, at once if it has ended
	WatchOff
	WatchRun // look at a run: Val is runs.AppendView
)

// What an executor tells a session that has it open (Req 0) has the code
// machine.Message. Num is the task's number, Aux a tasks.Code, and Val:
//
//	Run               words.AppendGrant; Key: of a run, runs.AppendLease
//	Recall, Stop      words.AppendLease
//	Finished          words.AppendEnd
//	Advanced          words.AppendAdvance
//	Refused           words.AppendRefusal: of a task that was submitted
//	Next              words.AppendAsk: one session that has the executor open is asked
//
// A Recall is answered by VGiveBack, unless the report is on its way.

type executor struct {
	m     *tasks.Machine[string]
	out   tasks.Out[string]
	items []tasks.Item[string]
	dones []tasks.Report[string]
	buf   []byte
	rate  rate
	runs  map[uint64]*runs.Run // by number; see run
}

func newExecutor(_, floor uint64) thing {
	return &executor{m: tasks.New[string](tasks.Limits{}, floor)}
}

// wall is the time that executors go by: ledger time, corrected by EntryClock. So
// what is due while no hub runs is due when one does again.
func (s *Shard) wall() int64 { return max(s.now+s.drift, 0) }

func (x *executor) apply(c *call) {
	o, who := &c.op, c.who()
	x.m.Advance(c.wall())
	switch o.Verb {
	case VConfigure:
		l, err := words.ParseLimits(o.Val)
		if err == nil {
			x.m.Configure(&x.out, l)
		}
		x.answer(c, err)
	case VSubmit:
		x.submit(c)
	case VWork:
		offer, err := words.ParseOffer(o.Val)
		if err == nil {
			x.m.Work(&x.out, who.Session, offer)
			c.works(who.Session)
		}
		x.answer(c, err)
	case VUnwork:
		x.m.Unwork(&x.out, who.Session)
		c.works(who.Session)
		x.answer(c, nil)
	case VDone:
		x.done(c)
	case VGiveBack:
		ls, err := words.ParseLeases(o.Val)
		if err == nil && o.A == 1 {
			x.m.Kept(&x.out, who.Session, ls)
		} else if err == nil {
			x.m.GiveBack(&x.out, who.Session, ls)
		}
		x.answer(c, err)
	case VProgress:
		err := words.ParseProgress(o.Val, func(tasks.Lease, int64, int64) {})
		if err == nil {
			_ = words.ParseProgress(o.Val, func(l tasks.Lease, done, total int64) { x.m.Progress(&x.out, who.Session, l, done, total) })
		}
		x.answer(c, err)
	case VTask, VWatch:
		x.task(c)
	case VBatch:
		x.m.WatchBatch(&x.out, who, string(o.Key))
	case VPause:
		if len(o.Key) > 0 {
			x.m.Pause(string(o.Key))
		} else {
			x.m.Resume(&x.out)
		}
		x.answer(c, nil)
	case VSchedule:
		s, err := words.ParseSchedule(string(o.Key), o.Val)
		if err != nil {
			c.invalid()
			return
		}
		x.answer(c, x.m.Schedule(&x.out, tasks.Schedule[string]{Name: s.Name, Text: s.Text, Spec: s.Spec, Val: string(s.Val), Next: s.Next, Last: s.Last, Skip: s.Skip}))
	case VUnschedule:
		x.answer(c, x.m.Unschedule(string(o.Key)))
	case VNextTime:
		x.m.NextTime(&x.out, string(o.Key), int64(o.A), int64(o.B))
		x.answer(c, nil)
	case VAppend:
		x.append(c)
	case VSignal:
		x.signal(c)
	default:
		c.invalid()
	}
	x.tell(c)
}

// answer is OK, Refused with the number of an error, or Invalid.
func (x *executor) answer(c *call, err error) {
	switch n := words.Number(err); {
	case err == nil:
		c.answer(machine.OK, 0, 0)
	case n > 0:
		c.answer(machine.Refused, 0, n)
	default:
		c.invalid()
	}
}

func (x *executor) submit(c *call) {
	now, bad := c.wall(), false
	err := words.ParseSpecs(c.op.Val, func(s *tasks.Spec, val []byte) {
		x.items = append(x.items, tasks.Item[string]{Task: &tasks.Task[string]{}, Spec: *s, Val: string(val)})
		spec := &x.items[len(x.items)-1].Spec
		for _, at := range []*int64{&spec.NotBefore, &spec.Deadline} {
			if *at > 0 {
				*at = min(*at, maxDelay) + now
			}
		}
		bad = bad || s.ID == ""
	})
	defer func() {
		clear(x.items)
		x.items = x.items[:0]
	}()
	if err != nil || bad {
		c.invalid()
		return
	}
	if c.op.A&SubmitRuns != 0 && !x.raised() {
		x.answer(c, tasks.ErrConflict)
		return
	}
	how := tasks.How{Wait: c.op.A&SubmitWaits != 0, Watch: c.op.A&SubmitWatches != 0}
	n, waits := x.m.Submit(&x.out, c.who(), how, x.items)
	if c.op.A&SubmitRuns == 0 {
		x.tell(c) // what is refused by itself is told before the answer
	}
	switch {
	case waits: // the answer comes later
	case n == len(x.items):
		x.begin(c)
		c.answer(machine.OK, uint64(n), 0)
	default:
		c.answer(machine.Refused, uint64(n), words.Number(tasks.ErrFull))
	}
}

// maxDelay is how far away a task's times may be, in ms: 100 years.
const maxDelay = 100 * 366 * 86_400_000

func (x *executor) done(c *call) {
	err := words.ParseReports(c.op.Val, func(r *tasks.Report[[]byte]) {
		x.dones = append(x.dones, tasks.Report[string]{Lease: r.Lease, Outcome: r.Outcome, Permanent: r.Permanent, After: r.After, Message: r.Message, Val: string(r.Val)})
	})
	if err != nil {
		c.invalid()
	} else {
		c.answer(machine.OK, uint64(x.m.Done(&x.out, c.ses.id, x.dones)), 0)
	}
	clear(x.dones)
	x.dones = x.dones[:0]
}

// task does what is for one task.
func (x *executor) task(c *call) {
	o := &c.op
	t := x.m.Find(string(o.Key))
	if o.Verb == VTask && len(o.Key) == 0 {
		t = x.m.Numbered(o.B)
	}
	if t == nil {
		x.answer(c, tasks.ErrNoTask)
		return
	}
	if o.Verb == VWatch {
		x.watch(c, t)
		return
	}
	switch o.A {
	case TaskCancel:
		x.answer(c, x.m.Cancel(&x.out, t))
	case TaskRetry:
		x.answer(c, x.m.Retry(&x.out, t))
	case TaskPark:
		x.answer(c, x.m.Park(&x.out, t, string(o.Val)))
	default:
		x.operate(c, t)
	}
}

func (x *executor) watch(c *call, t *tasks.Task[string]) {
	c.said = Output{Code: machine.OK, Num: t.Number, Aux: uint64(t.State)}
	switch c.op.A {
	case WatchOnce:
		if t.State >= tasks.Parked {
			x.buf = appendEnd(x.buf[:0], t)
			c.said.Val = x.buf
		}
	case WatchOn:
		x.m.Watch(&x.out, c.ses.id, t)
	case WatchOff:
		x.m.Unwatch(c.ses.id, t)
	case WatchRun:
		x.buf = x.view(c, t, x.buf[:0])
		c.said.Val = x.buf
	default:
		c.invalid()
		return
	}
	if c.op.Req != 0 {
		c.put(c.who(), &c.said, "")
	}
}

func appendEnd(b []byte, t *tasks.Task[string]) []byte {
	e := words.End{ID: t.ID, State: t.State, Outcome: t.Outcome, Cause: t.Cause, Attempts: uint32(t.Attempts), Reason: t.Reason()}
	if v, failed := t.Failure(); t.Outcome == tasks.OK {
		e.Val = []byte(t.Val)
	} else if failed {
		e.Val = []byte(v)
	}
	return words.AppendEnd(b, &e)
}

// tell moves what the machine said into the outboxes.
func (x *executor) tell(c *call) {
	for i := range x.out.Effects {
		e := &x.out.Effects[i]
		to, b := machine.Who{Session: e.To.Session}, x.buf[:0]
		c.said = Output{Code: machine.Message, Aux: uint64(e.Code)}
		if e.Task != nil {
			c.said.Num = e.Task.Number
		}
		switch e.Code {
		case tasks.Run:
			t := e.Task
			g := words.Grant{Lease: e.Lease, ID: t.ID, Kind: t.Kind(), Key: t.Key(), Attempt: uint32(t.Attempts) + 1, Timeout: t.Timeout, Input: []byte(t.Val)}
			if r := x.runs[t.Number]; r != nil {
				c.said.Key = r.AppendLease(nil)
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
			to, c.said = e.To, Output{Code: machine.OK}
		case tasks.BatchEnd:
			to, c.said = e.To, Output{Code: machine.OK, Num: uint64(e.OK), Aux: uint64(e.Failed)}
		case tasks.Refused:
			b = words.AppendRefusal(b, e.Text, e.Why)
		case tasks.Next:
			to.Session = c.opener()
			b = words.AppendAsk(b, &words.Ask{Name: e.Schedule.Name, Text: e.Schedule.Text, Last: e.Schedule.Last, After: e.Time})
		}
		x.buf, c.said.Val = b, b
		c.put(to, &c.said, "")
	}
	x.out.Reset()
	x.rate.note(c.wall(), x.m.Total())
}

// opener is the first session that has the object open, but for that of the call,
// which may be about to end; else that, if it is there; 0: there is none.
func (c *call) opener() (first machine.Session) {
	for id, ses := range c.sessions {
		if c.obj.of(ses) != 0 && (ses != c.ses || c.op.Handle != 0) && (first == 0 || id < first) {
			first = id
		}
	}
	return first
}

func (x *executor) abandon(c *call, who machine.Who) {
	x.m.Advance(c.wall())
	in, ok := x.m.Abandon(&x.out, who)
	if ok || x.m.UnwatchBatch(who) {
		c.said = Output{Code: machine.Refused, Num: uint64(in)}
		c.put(who, &c.said, "")
	}
	x.tell(c)
}

func (x *executor) expire(c *call) {
	x.m.Advance(c.wall())
	x.m.Expire(&x.out, c.ses.id)
	c.works(c.ses.id)
	x.out.Effects = slices.DeleteFunc(x.out.Effects, func(e tasks.Effect[string]) bool { return e.Code == tasks.Next })
	asked := *c // nobody asks who goes
	asked.op = Op{}
	x.m.AskNext(&x.out)
	x.tell(&asked)
}

func (x *executor) destroy(c *call) {
	c.goneToAll()
	had := x.m.Workers()
	x.m = tasks.New[string](tasks.Limits{}, x.m.Last())
	for _, w := range had {
		c.works(w.Session)
	}
}

// opened is told that a session has opened the executor.
func (x *executor) opened(c *call) {
	x.m.AskNext(&x.out)
	x.tell(c)
}

// quiet is told that a session was not heard of for a while, or is again.
func (x *executor) quiet(c *call, quiet bool) {
	x.m.Advance(c.wall())
	if quiet {
		x.m.Quiet(&x.out, c.ses.id)
	} else {
		x.m.Heard(&x.out, c.ses.id)
	}
	x.tell(c)
}

func (x *executor) floor() uint64 { return x.m.Last() }
func (x *executor) due() int64    { return x.m.Due() }

func (x *executor) tick(c *call) {
	now := c.wall()
	for {
		x.m.Tick(&x.out, now)
		x.tell(c)
		if d := x.m.Due(); d == 0 || d > now {
			return
		}
	}
}

// Idle implements thing.
func (x *executor) Idle() bool { return x.m.Idle() }

// AppendBinary implements thing.
func (x *executor) AppendBinary(b []byte) []byte {
	m := x.m.AppendBinary(nil, func(b []byte, v string) []byte { return append(b, v...) })
	return x.appendRuns(pack.AppendBytes(b, m))
}

// Restore implements thing.
func (x *executor) Restore(b []byte) error {
	r := pack.Read(b)
	if err := x.m.Restore(r.Bytes(), func(b []byte) (string, error) { return string(b), nil }); err != nil {
		return err
	}
	if err := x.restoreRuns(&r); err != nil || !r.End() {
		return pack.ErrMalformed
	}
	return nil
}

// hush tells the executors of a session that it is quiet, or is heard of again.
func (s *Shard) hush(ses *session, quiet bool) {
	ses.quiet = quiet
	for _, o := range ses.handles {
		if o == nil || o.gone || o.of(ses) == 0 {
			continue
		}
		if x, ok := o.thing.(*executor); ok {
			x.quiet(&call{Shard: s, ses: ses, obj: o}, quiet)
			s.timing(o)
		}
	}
}

// works tells the desk whether a session works for an executor, if that has changed.
func (s *Shard) works(id machine.Session) {
	ses := s.sessions[id]
	on := ses != nil && ses.works()
	if on != s.working[id] {
		if on {
			s.working[id] = true
		} else {
			delete(s.working, id)
		}
		if s.cfg.Works != nil && s.epoch != 0 {
			s.cfg.Works(id, on)
		}
	}
}

// Working are the sessions that work for executors.
func (s *Shard) Working() []machine.Session { return slices.Sorted(maps.Keys(s.working)) }

func (ses *session) works() bool {
	return slices.ContainsFunc(ses.handles, func(o *object) bool {
		if o == nil || o.gone {
			return false
		}
		x, ok := o.thing.(*executor)
		return ok && x.m.Works(ses.id)
	})
}

// clock sets how far ledger time is from the hub's.
func (s *Shard) clock(wall uint64) {
	s.drift = int64(min(wall, maxDelay)) - s.now
	s.due = 0
	for o := range maps.Keys(s.timed) {
		s.timing(o)
	}
}

// rate counts what ended in the last seconds, for people: it is no part of the state.
type rate struct {
	marks [16]mark // by second
}

type mark struct {
	second int64
	total  uint64 // when it began
}

func (r *rate) note(now int64, total uint64) {
	if m := &r.marks[now/1000%16]; m.second != now/1000 {
		*m = mark{now / 1000, total}
	}
}

// perSecond is the average of the last ten seconds.
func (r *rate) perSecond(now int64, total uint64) float64 {
	first := mark{second: now / 1000, total: total}
	for _, m := range r.marks {
		if m.second > now/1000-10 && m.second < first.second {
			first = m
		}
	}
	if took := now - first.second*1000; took > 0 && first.total < total {
		return float64(total-first.total) / float64(took) * 1000
	}
	return 0
}
