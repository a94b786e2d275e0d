package events

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/distgear/distgear/internal/client"
	"github.com/distgear/distgear/internal/fault"
	"github.com/distgear/distgear/internal/look"
	"github.com/distgear/distgear/internal/machine/tasks"
	"github.com/distgear/distgear/internal/machine/words"
	"github.com/distgear/distgear/internal/operation"
	"github.com/distgear/distgear/internal/timetable"
	"github.com/distgear/distgear/internal/wire"
)

// ErrNoSchedule is that of package schedule.
var ErrNoSchedule = errors.New("schedule: there is no schedule of events of this name")

// Schedule has runs raised again and again: it is the executor's, whose tasks are
// runs.
type Schedule struct {
	Name  string
	Text  string // see timetable.Parse
	Kind  string // of the event
	Input []byte
	Skip  bool // what becomes of missed times is words.Schedule's to say
	All   bool
}

// Schedule keeps a schedule, instead of one of the same name. Its runs have the IDs
// Name@ and the time in ms since 1970.
func (d *Desk) Schedule(ctx context.Context, s *Schedule) error {
	t, err := timetable.Parse(s.Text)
	switch {
	case err != nil:
		return fmt.Errorf("%w: schedule %q: %w", fault.ErrInvalid, s.Name, err)
	case len(s.Input) > inline:
		return fmt.Errorf("%w: the input of schedule %q has %d bytes encoded, %d are allowed", fault.ErrInvalid, s.Name, len(s.Input), inline)
	}
	if err := Check(s.Name, 0); err != nil || s.Name == "" || len(s.Name) > maxSchedule {
		return fmt.Errorf("%w: schedule %q: its name has 1 to %d bytes, without / and blanks", fault.ErrInvalid, s.Name, maxSchedule)
	}
	x := tasks.Schedule[[]byte]{
		Text: s.Text, Spec: tasks.Spec{Kind: s.Kind, Idempotent: true}, Val: s.Input, Next: t.Next(d.h.Now()).UnixMilli(), Skip: s.Skip, All: s.All,
	}
	return d.schedule(ctx, s.Name, operation.Op{Verb: operation.VSchedule, Val: words.AppendSchedule(nil, &x)})
}

// maxSchedule is how long the name of a schedule may be, in bytes.
const maxSchedule = 100

// Unschedule ends a schedule; its runs go on.
func (d *Desk) Unschedule(ctx context.Context, name string) error {
	return d.schedule(ctx, name, operation.Op{Verb: operation.VUnschedule})
}

// PauseSchedule has what comes due of a schedule left out until it is resumed.
func (d *Desk) PauseSchedule(ctx context.Context, name string, on bool) error {
	op := operation.Op{Verb: operation.VUnschedule, A: operation.ScheduleResume}
	if on {
		op.A = operation.SchedulePause
	}
	return d.schedule(ctx, name, op)
}

func (d *Desk) schedule(ctx context.Context, name string, op operation.Op) error {
	op.Key = []byte(name)
	_, err := d.ask(ctx, name, op, false)
	if errors.Is(err, tasks.ErrNoSchedule) {
		return fmt.Errorf("%w: %w: %q", fault.ErrInvalid, ErrNoSchedule, name)
	}
	return err
}

// Schedules are the schedules, by name; or the one of a name, whole. Times are the hub's.
func (d *Desk) Schedules(ctx context.Context, name string) (all []look.ScheduleState, err error) {
	q := client.Query{What: look.Schedules, Executor: Name, ID: name, Limit: listed}
	for {
		p, err := d.page(ctx, q)
		if err != nil {
			return nil, err
		}
		all = append(all, p.Schedules...)
		if q.After = p.Next; q.After == "" {
			return all, nil
		}
	}
}

// FindSchedule is a schedule as it stands, and as it was kept. ErrNoSchedule.
func (d *Desk) FindSchedule(ctx context.Context, name string) (st look.ScheduleState, s tasks.Schedule[[]byte], err error) {
	all, err := d.Schedules(ctx, name)
	if err != nil {
		return st, s, err
	}
	i := slices.IndexFunc(all, func(s look.ScheduleState) bool { return s.Name == name }) // an older hub tells all
	switch {
	case i < 0:
		return st, s, fmt.Errorf("%w: %w: %q", fault.ErrInvalid, ErrNoSchedule, name)
	case len(all[i].Whole) == 0:
		return st, s, fmt.Errorf("%w: the hub is of a version that does not tell what schedule %q raises", fault.ErrRefused, name)
	}
	s, err = words.ParseSchedule(name, all[i].Whole)
	return all[i], s, err
}

// RunSchedule raises a run of a schedule now, besides its times, and tells its ID.
func (d *Desk) RunSchedule(ctx context.Context, name string) (id string, err error) {
	_, s, err := d.FindSchedule(ctx, name)
	if err != nil {
		return "", err
	}
	id = words.NowID(name, d.h.Now().UnixMilli())
	return id, d.Raise(ctx, &Raise{ID: id, Kind: s.Spec.Kind, Input: s.Val}, nobody{})
}

// nobody is told of ends.
type nobody struct{}

func (nobody) Ended(string, wire.Report) {}

// next answers when a schedule is due after a time.
func (d *Desk) next(b []byte) error {
	a, err := words.ParseAsk(b)
	if err != nil {
		return err
	}
	t, bad := timetable.Parse(a.Text)
	if bad != nil {
		d.h.Room.Logger.Error("a schedule cannot be read here", "executor", Name, "schedule", a.Name, "err", bad)
		return nil
	}
	if n := t.Next(time.UnixMilli(a.After)); !n.IsZero() {
		op := operation.Op{Verb: operation.VNextTime, Key: []byte(a.Name), A: uint64(a.Last), B: uint64(n.UnixMilli())}
		d.acks.put(func() { _, _ = d.obj.Start(0, nil, op) }) // in the session that was asked, or another is
	}
	return nil
}
