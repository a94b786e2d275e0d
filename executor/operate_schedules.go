package executor

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/distgear/distgear"
	"github.com/distgear/distgear/internal/codec"
	"github.com/distgear/distgear/internal/machine/words"
	"github.com/distgear/distgear/internal/orders"
	"github.com/distgear/distgear/internal/work/durable"
)

// Schedules yields the schedules of the executors in the ledger of which EXECUTOR/NAME begins
// with prefix, in that order.
func (o Ops) Schedules(ctx context.Context, prefix string) iter.Seq2[ScheduleInfo, error] {
	return func(yield func(ScheduleInfo, error) bool) {
		executor, name, whole := strings.Cut(prefix, "/")
		infos, err := o.list(ctx, executor)
		if err != nil {
			yield(ScheduleInfo{}, err)
			return
		}
		for _, in := range infos {
			if in.Class != Durable || in.Schedules == 0 || strings.Contains(in.Name, ":") || whole && in.Name != executor { // with a : it is that of events, see package schedule
				continue
			}
			for s, err := range scheduled(ctx, o.n, in.Name, "") {
				if err == nil && !strings.HasPrefix(s.Name, name) {
					continue
				}
				if !yield(scheduleInfo(in.Name, &s), err) || err != nil {
					return
				}
			}
		}
	}
}

// Schedule is a schedule of an executor, with the input of its tasks. ErrNoExecutor, ErrNoSchedule.
func (o Ops) Schedule(ctx context.Context, executor string, name ScheduleID) (ScheduleInfo, error) {
	st, s, err := o.schedule(ctx, executor, name)
	if err != nil {
		return ScheduleInfo{}, err
	}
	in := scheduleInfo(executor, &st)
	in.Input = value(s.Val)
	return in, nil
}

// schedule finds a schedule, as it stands and as it was kept.
func (o Ops) schedule(ctx context.Context, executor string, name ScheduleID) (st orders.ScheduleState, s words.Schedule[[]byte], err error) {
	if _, err := o.scheduler(ctx, executor, name); err != nil {
		return st, s, err
	}
	for st, err := range scheduled(ctx, o.n, executor, string(name)) {
		if err == nil && len(st.Whole) == 0 {
			err = fmt.Errorf("%w: the hub is of a version that does not tell what schedule %q submits", distgear.ErrRefused, name)
		}
		if err == nil {
			s, err = words.ParseSchedule(st.Name, st.Whole)
		}
		return st, s, err
	}
	var names []string
	for s, err := range scheduled(ctx, o.n, executor, "") {
		if err != nil {
			break
		}
		names = append(names, s.Name)
	}
	return st, s, fmt.Errorf("%w: %w: %q of executor %q%s", distgear.ErrInvalid, ErrNoSchedule, name, executor, meant(string(name), names))
}

// scheduler is the queue of an executor in the ledger. ErrNoExecutor; ErrNoSchedule: it is
// not durable.
func (o Ops) scheduler(ctx context.Context, executor string, name ScheduleID) (*durable.Queue, error) {
	infos, err := o.named(ctx, executor)
	switch {
	case err != nil:
		return nil, err
	case name == "":
		return nil, fmt.Errorf("%w: the name of the schedule is empty", distgear.ErrInvalid)
	case strings.Contains(executor, ":"):
		return nil, fmt.Errorf("%w: %q has schedules of durable events: see package schedule", ErrNoExecutor, executor)
	case !slices.ContainsFunc(infos, func(in Info) bool { return in.Class == Durable }):
		return nil, fmt.Errorf("%w: %w: executor %q is not durable, so it has none", distgear.ErrInvalid, ErrNoSchedule, executor)
	}
	return o.ledger(executor), nil
}

// Unschedule ends a schedule of an executor. Its tasks stay. ErrNoExecutor, ErrNoSchedule.
func (o Ops) Unschedule(ctx context.Context, executor string, name ScheduleID) error {
	q, err := o.scheduler(ctx, executor, name)
	if err != nil {
		return err
	}
	return q.Unschedule(ctx, string(name))
}

// PauseSchedule has the times of a schedule left out until ResumeSchedule; what was due
// meanwhile stays left out. ErrNoExecutor, ErrNoSchedule.
func (o Ops) PauseSchedule(ctx context.Context, executor string, name ScheduleID) error {
	return o.pauseSchedule(ctx, executor, name, true)
}

// ResumeSchedule ends a pause. ErrNoExecutor, ErrNoSchedule.
func (o Ops) ResumeSchedule(ctx context.Context, executor string, name ScheduleID) error {
	return o.pauseSchedule(ctx, executor, name, false)
}

func (o Ops) pauseSchedule(ctx context.Context, executor string, name ScheduleID, on bool) error {
	q, err := o.scheduler(ctx, executor, name)
	if err != nil {
		return err
	}
	return q.PauseSchedule(ctx, string(name), on)
}

// RunSchedule submits a task of a schedule now, paused or not, besides its times, and tells its
// ID: name@now in ms since 1970, and -now. ErrNoExecutor, ErrNoSchedule, and the errors of the
// function Submit.
func (o Ops) RunSchedule(ctx context.Context, executor string, name ScheduleID) (TaskID, error) {
	_, s, err := o.schedule(ctx, executor, name)
	if err != nil {
		return "", err
	}
	type raw = json.RawMessage
	e := &core{n: o.n, room: o.n.Room(), name: executor, cfg: Config{Durable: true}, class: o.ledger(executor)}
	t := &task[raw, raw]{raw: s.Val, p: &prepared[raw, raw]{a: &distgear.Action[raw, raw]{Name: s.Spec.Kind}, spec: s.Spec, in: codec.For[raw](), out: codec.For[raw]()}}
	t.core = e
	id := words.NowID(s.Name, time.Now().UnixMilli())
	t.job.Init(&s.Spec, id, t.p.a, t)
	if err := e.class.Submit(ctx, &t.job); err != nil {
		return "", e.notTaken(err)
	}
	return TaskID(id), nil
}
