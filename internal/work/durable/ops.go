package durable

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/distgear/distgear/internal/client"
	"github.com/distgear/distgear/internal/fault"
	"github.com/distgear/distgear/internal/look"
	"github.com/distgear/distgear/internal/machine/tasks"
	"github.com/distgear/distgear/internal/machine/words"
	"github.com/distgear/distgear/internal/operation"
	"github.com/distgear/distgear/internal/timetable"
	"github.com/distgear/distgear/internal/work"
)

// What operators may do with one task, besides Cancel by who submitted it.
const (
	CancelTask = operation.TaskCancel // it ends; what runs is told to stop first
	RetryTask  = operation.TaskRetry  // one that is parked or failed is ready again
	ParkTask   = operation.TaskPark   // it waits for a person; what runs is told to stop
)

// Task does something with the task that has an ID; why is for people, and needed to park
// it. It returns when the ledger has taken that down. ErrNoTask: nobody knows it (any more).
func (d *Queue) Task(ctx context.Context, id string, what uint64, why string) error {
	if what == ParkTask && why == "" {
		return fmt.Errorf("%w: say why task %q is parked", fault.ErrInvalid, id)
	}
	err := d.q.do(ctx, fmt.Sprintf("task %q", id), operation.Op{Verb: operation.VTask, Key: []byte(id), A: what, Val: []byte(why)})
	return err
}

// Configure tells the ledger other limits. They hold until somebody tells others, also
// over restarts.
func (d *Queue) Configure(ctx context.Context, l work.Limits) error {
	err := d.q.do(ctx, "configure", operation.Op{Verb: operation.VConfigure, Val: words.AppendLimits(nil, &l)})
	if err == nil {
		d.q.mu.Lock()
		d.q.limits = l
		d.q.unlock()
	}
	return err
}

// Pause implements Class.
func (d *Queue) Pause(ctx context.Context, reason string) error {
	err := d.q.do(ctx, "pause", operation.Op{Verb: operation.VPause, Key: []byte(reason)})
	return err
}

var _ work.Class = (*Queue)(nil)

// Schedule is a task that is submitted again and again.
type Schedule struct {
	Name string
	Text string // see timetable.Parse
	Skip bool   // what becomes of missed times is words.Schedule's to say
	All  bool
	Spec work.Spec
	Val  []byte // the encoded input
}

// ErrNoSchedule is that of executors.
var ErrNoSchedule = errors.New("executor: there is no schedule of this name")

// Schedule keeps a schedule, instead of one of the same name. Its tasks have the
// IDs Name@ and the time in ms since 1970.
func (d *Queue) Schedule(ctx context.Context, s *Schedule) error {
	t, err := timetable.Parse(s.Text)
	if err != nil {
		return fmt.Errorf("%w: schedule %q: %w", fault.ErrInvalid, s.Name, err)
	}
	if len(s.Val) > inline {
		return fmt.Errorf("%w: the input of schedule %q has %d bytes encoded, %d are allowed", fault.ErrInvalid, s.Name, len(s.Val), inline)
	}
	spec := s.Spec
	spec.ID = "" // each has its own
	val := words.AppendSchedule(nil, &tasks.Schedule[[]byte]{Text: s.Text, Spec: spec, Val: s.Val, Next: t.Next(time.Now()).UnixMilli(), Skip: s.Skip, All: s.All})
	err = d.q.do(ctx, fmt.Sprintf("schedule %q", s.Name), operation.Op{Verb: operation.VSchedule, Key: []byte(s.Name), Val: val})
	return err
}

// Unschedule ends a schedule; its tasks go on.
func (d *Queue) Unschedule(ctx context.Context, name string) error {
	return d.unschedule(ctx, name, 0)
}

// PauseSchedule has what comes due of a schedule left out until it is resumed.
func (d *Queue) PauseSchedule(ctx context.Context, name string, on bool) error {
	if on {
		return d.unschedule(ctx, name, operation.SchedulePause)
	}
	return d.unschedule(ctx, name, operation.ScheduleResume)
}

func (d *Queue) unschedule(ctx context.Context, name string, how uint64) error {
	err := d.q.do(ctx, fmt.Sprintf("schedule %q", name), operation.Op{Verb: operation.VUnschedule, Key: []byte(name), A: how})
	if errors.Is(err, tasks.ErrNoSchedule) {
		err = fmt.Errorf("%w: %w: %q of executor %q", fault.ErrInvalid, ErrNoSchedule, name, d.q.name)
	}
	return err
}

// Stats implements Class.
func (d *Queue) Stats(ctx context.Context) (s work.Stats, err error) {
	in, err := d.q.inspect(ctx, client.Query{What: look.Executors, Prefix: d.q.name, Limit: 1})
	if err != nil || len(in.Page.Executors) == 0 || in.Page.Executors[0].Name != d.q.name {
		return s, err
	}
	x := &in.Page.Executors[0]
	s = work.Stats{
		Waiting: x.Line + x.Delayed + x.Ready, Ready: x.Ready, Leased: x.Leased, Parked: x.Parked, Ended: x.Ended,
		Workers: x.Workers, Slots: x.Slots, Paused: x.Paused, Unserved: x.Unserved,
	}
	if x.Oldest > 0 {
		s.Oldest = time.Duration(max(in.Page.Now-x.Oldest, 0)) * time.Millisecond
	}
	return s, nil
}

// inspect asks the hub what it knows.
func (q *queue) inspect(ctx context.Context, query client.Query) (in client.Inspection, err error) {
	b, err := json.Marshal(query)
	if err != nil {
		return in, err
	}
	if b, err = q.room.Ask(ctx, client.KindInspect, b); err != nil {
		return in, err
	}
	if err = json.Unmarshal(b, &in); err == nil && in.Error != "" {
		err = fmt.Errorf("executor %q: %s", q.name, in.Error)
	}
	return in, err
}
