package executor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"strings"
	"time"

	"github.com/distgear/distgear"
	"github.com/distgear/distgear/internal/orders"
	"github.com/distgear/distgear/internal/work"
	"github.com/distgear/distgear/internal/work/durable"
)

// ScheduleID names a schedule of an executor. At most 100 bytes, without blanks.
type ScheduleID string

// Missed says what becomes of times at which nobody could submit a task: no hub
// ran, or no process that has the executor open. It is an option of Every.
type Missed string

// What becomes of missed times.
const (
	CatchUp    Missed = ""     // one task makes up for all of them
	CatchUpAll Missed = "all"  // each of the last day is made up for, and those before by one task
	LeaveOut   Missed = "none" // those that are more than a minute ago are left out
)

func (m Missed) set(o *options) {
	o.fault(m != CatchUp && m != CatchUpAll && m != LeaveOut, "Missed %.20q: want CatchUp, CatchUpAll or LeaveOut", string(m))
	o.missed, o.repeats = m, true
}

// Every has a task submitted again and again, by the ledger: ex must be Durable, and the
// process not alone. It returns when that was written down. A schedule of the same name is
// replaced; one that is paused stays so, and with the same when it makes up for what it has missed.
// Each task has the ID name@time, in ms since 1970, so a time has one task; nobody leads.
//
// when is a cron text of five fields ("30 9 * * mon-fri"), @hourly, @daily, @weekly, @monthly or
// @yearly, or @every and a duration of at least a second, with "TZ=Europe/Vienna " in front for
// a time zone; otherwise it is UTC. If both the day of the month and that of the week are given, one of
// them is enough. What is due in an hour that is left out when the clock is put forward is due an hour
// later, and what is due in one that comes twice is due once. The input has at most 64 KiB, encoded.
//
// A schedule goes on while some process that has used the executor is there: cron texts are read
// by those. Options are those of a task but for ID, Delay and Deadline, and Missed.
func Every[In, Out any](ctx context.Context, ex *Executor, name ScheduleID, when string, a *distgear.Action[In, Out], in In, opts ...TaskOption) error {
	if err := ready(ctx, ex); err != nil {
		return err
	}
	d, err := ex.durable("a schedule")
	if err != nil {
		return err
	}
	p := prepare(ex.core, a)
	if p.fault != nil {
		return p.fault
	}
	o, err := readSchedule(&p.spec, name, opts)
	if err != nil {
		return err
	}
	val, err := p.in.Append(nil, in)
	if err != nil {
		return fmt.Errorf("%w: input of %s: %w", distgear.ErrInvalid, p.spec.Kind, err)
	}
	return d.Schedule(ctx, &durable.Schedule{Name: string(name), Text: when, Skip: o.missed == LeaveOut, All: o.missed == CatchUpAll, Spec: o.spec, Val: val})
}

// readSchedule reads the options of Every.
func readSchedule(base *work.Spec, name ScheduleID, opts []TaskOption) (*options, error) {
	o := &options{spec: *base}
	for _, opt := range opts {
		if !o.fault(opt == nil, "an option is nil") {
			opt.set(o)
		}
	}
	o.fault(name == "" || len(name) > maxName || strings.ContainsAny(string(name), " \t\r\n"), "its name %.20q: 1 to %d bytes, without blanks", string(name), maxName)
	o.fault(o.bulk, "Ahead and Ordered are for Map")
	o.fault(o.id != "" || o.spec.NotBefore != 0 || o.spec.Deadline != 0, "ID, Delay and Deadline are for one task")
	if len(o.faults) > 0 {
		return nil, fmt.Errorf("%w: schedule %.20q of %s: %w", distgear.ErrInvalid, string(name), base.Kind, errors.Join(o.faults...))
	}
	return o, nil
}

// Unschedule ends a schedule. Its tasks stay. ErrNoSchedule.
func (e *Executor) Unschedule(ctx context.Context, name ScheduleID) error {
	if e.fault != nil {
		return e.fault
	}
	d, err := e.durable("a schedule")
	if err != nil {
		return err
	}
	return d.Unschedule(ctx, string(name))
}

// PauseSchedule has the times of a schedule left out until ResumeSchedule; what was due
// meanwhile stays left out. ErrNoSchedule.
func (e *Executor) PauseSchedule(ctx context.Context, name ScheduleID) error {
	return e.pauseSchedule(ctx, name, true)
}

// ResumeSchedule ends a pause. ErrNoSchedule.
func (e *Executor) ResumeSchedule(ctx context.Context, name ScheduleID) error {
	return e.pauseSchedule(ctx, name, false)
}

func (e *Executor) pauseSchedule(ctx context.Context, name ScheduleID, on bool) error {
	if e.fault != nil {
		return e.fault
	}
	d, err := e.durable("a schedule")
	if err != nil {
		return err
	}
	return d.PauseSchedule(ctx, string(name), on)
}

// ScheduleInfo is a schedule as it stands.
type ScheduleInfo struct {
	Executor string          `json:"executor"`
	Name     ScheduleID      `json:"name"`
	When     string          `json:"when"`
	Action   string          `json:"action"`
	Missed   Missed          `json:"missed,omitempty"`
	Paused   bool            `json:"paused,omitempty"`
	Next     time.Time       `json:"next,omitzero"`   // zero: some process that has the executor open is asked for it
	Last     time.Time       `json:"last,omitzero"`   // zero: it was not due yet
	Input    json.RawMessage `json:"input,omitempty"` // of its tasks; lists leave it out
}

// Schedules are the schedules of a durable executor, by name. It asks the hub.
func (e *Executor) Schedules(ctx context.Context) ([]ScheduleInfo, error) {
	if e.fault != nil {
		return nil, e.fault
	}
	if _, err := e.durable("a list of schedules"); err != nil {
		return nil, err
	}
	var infos []ScheduleInfo
	for s, err := range scheduled(ctx, e.n, e.name, "") {
		if err != nil {
			return nil, err
		}
		infos = append(infos, scheduleInfo(e.name, &s))
	}
	return infos, nil
}

// scheduled yields the schedules of an executor in the ledger, by name; or the one of a
// name, whole.
func scheduled(ctx context.Context, n *distgear.Node, executor, name string) iter.Seq2[orders.ScheduleState, error] {
	return func(yield func(orders.ScheduleState, error) bool) {
		for p, err := range orders.Pages(ctx, n.Room(), orders.Query{What: orders.Schedules, Executor: executor, ID: name, Limit: 1000}) {
			if err != nil {
				yield(orders.ScheduleState{}, err)
				return
			}
			for _, s := range p.Page.Schedules {
				if (name == "" || s.Name == name) && !yield(s, nil) { // an older hub tells all
					return
				}
			}
		}
	}
}

func scheduleInfo(executor string, s *orders.ScheduleState) ScheduleInfo {
	next, last := s.Times()
	return ScheduleInfo{Executor: executor, Name: ScheduleID(s.Name), When: s.Text, Action: s.Kind, Missed: Missed(s.Missed()), Paused: s.Paused, Next: next, Last: last}
}

// durable is the executor's class if its queue is in the ledger.
func (e *core) durable(what string) (*durable.Queue, error) {
	if d, ok := e.class.(*durable.Queue); ok {
		return d, nil
	}
	why := "alone nothing outlives the process"
	if !e.cfg.Durable {
		why = "set Durable in its Config"
	}
	return nil, fmt.Errorf("%w: executor %q: %s needs a durable executor in a cluster: %s", distgear.ErrInvalid, e.name, what, why)
}
