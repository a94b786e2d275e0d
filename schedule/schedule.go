// Package schedule has durable events raised again and again, by the ledger: nobody
// leads, and no node need stay.
//
//	err := schedule.Every(ctx, n, "nightly", "TZ=Europe/Vienna 0 3 * * *", Backup, "all")
//	err = schedule.Pause(ctx, n, "nightly") // until Resume
//	all, err := schedule.List(ctx, n)
//
// # Guarantees
//
// Each time has one run, whose ID is name@time in ms since 1970, whichever node reads the
// timetable. Schedules are in the ledger, and survive nodes and hubs as runs do; alone they end
// with the process. A schedule goes on while some node is there that raises or handles durable
// events: timetables are read by those.
//
// # Failures
//
// A timetable that cannot be read is distgear.ErrInvalid; so is a name that no schedule has, which is ErrNoSchedule too.
// distgear.ErrUnknown says that the ledger has not answered: ask again, it does no harm.
package schedule

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/distgear/distgear"
	"github.com/distgear/distgear/internal/codec"
	"github.com/distgear/distgear/internal/events"
	"github.com/distgear/distgear/internal/look"
	"github.com/distgear/distgear/record"
)

// ErrNoSchedule says that there is no schedule of events of this name.
var ErrNoSchedule = events.ErrNoSchedule

// Missed says what becomes of times at which nobody could raise an event: no hub ran, or no
// node that could read the timetable.
type Missed string

// What becomes of missed times.
const (
	CatchUp    Missed = ""     // one run makes up for all of them
	CatchUpAll Missed = "all"  // each of the last day is made up for, and those before by one run
	LeaveOut   Missed = "none" // those that are more than a minute ago are left out
)

// Every has a durable event raised with in as often as when says. It returns when that was written
// down. A schedule of the same name is replaced; one that is paused stays so, and with the same when
// it makes up for what it has missed, so a program may call Every whenever it starts.
//
// when is a cron text of five fields ("30 9 * * mon-fri"), @hourly, @daily, @weekly, @monthly or
// @yearly, or @every and a duration of at least a second, with "TZ=Europe/Vienna " in front for a
// time zone; otherwise it is UTC. What is due in an hour that is left out when the clock is put
// forward is due an hour later, and what is due in one that comes twice is due once. The name has at most
// 100 bytes, without / and blanks, and the input 64 KiB, encoded.
func Every[In, Out any](ctx context.Context, n *distgear.Node, name, when string, e *distgear.Event[In, Out], in In, missed ...Missed) error {
	if !e.Durable {
		return fmt.Errorf("%w: schedule %q: event %s is not durable", distgear.ErrInvalid, name, e.Name)
	}
	b, err := codec.Append(nil, in)
	if err != nil {
		return fmt.Errorf("%w: input of %s: %w", distgear.ErrInvalid, e.Name, err)
	}
	s := &events.Schedule{Name: name, Text: when, Kind: e.Name, Input: b}
	for _, m := range missed {
		if m != CatchUp && m != CatchUpAll && m != LeaveOut {
			return fmt.Errorf("%w: schedule %q: missed times %q: want CatchUp, CatchUpAll or LeaveOut", distgear.ErrInvalid, name, m)
		}
		s.Skip, s.All = m == LeaveOut, m == CatchUpAll
	}
	return events.Of(n.Room()).Schedule(ctx, s)
}

// Remove ends a schedule. Its runs stay. ErrNoSchedule.
func Remove(ctx context.Context, n *distgear.Node, name string) error {
	return events.Of(n.Room()).Unschedule(ctx, name)
}

// Pause has the times of a schedule left out until Resume. ErrNoSchedule.
func Pause(ctx context.Context, n *distgear.Node, name string) error {
	return events.Of(n.Room()).PauseSchedule(ctx, name, true)
}

// Resume ends a pause. What was due meanwhile stays left out. ErrNoSchedule.
func Resume(ctx context.Context, n *distgear.Node, name string) error {
	return events.Of(n.Room()).PauseSchedule(ctx, name, false)
}

// Run raises a run of a schedule now, paused or not, besides its times, and tells its ID: name@now
// in ms since 1970, and -now. It returns when the ledger has it. ErrNoSchedule.
func Run(ctx context.Context, n *distgear.Node, name string) (record.RunID, error) {
	id, err := events.Of(n.Room()).RunSchedule(ctx, name)
	return record.RunID(id), err
}

// Info is a schedule as it stands.
type Info struct {
	Name   string          `json:"name"`
	When   string          `json:"when"`
	Event  string          `json:"event"`
	Missed Missed          `json:"missed,omitempty"`
	Paused bool            `json:"paused,omitempty"`
	Next   time.Time       `json:"next,omitzero"`   // zero: some node is asked for it
	Last   time.Time       `json:"last,omitzero"`   // zero: it was not due yet
	Input  json.RawMessage `json:"input,omitempty"` // of its runs; List leaves it out
}

// List tells of the schedules, by name. It asks the hub.
func List(ctx context.Context, n *distgear.Node) ([]Info, error) {
	all, err := events.Of(n.Room()).Schedules(ctx, "")
	infos := make([]Info, len(all))
	for i := range all {
		infos[i] = info(&all[i])
	}
	return infos, err
}

// Find tells of one schedule. ErrNoSchedule.
func Find(ctx context.Context, n *distgear.Node, name string) (Info, error) {
	st, s, err := events.Of(n.Room()).FindSchedule(ctx, name)
	if err != nil {
		return Info{}, err
	}
	in := info(&st)
	in.Input = codec.Show(s.Val, maxInput)
	return in, nil
}

// maxInput bounds an input of a schedule, in bytes.
const maxInput = 64 << 10

func info(s *look.ScheduleState) Info {
	next, last := s.Times()
	return Info{Name: s.Name, When: s.Text, Event: s.Kind, Missed: Missed(s.Missed()), Paused: s.Paused, Next: next, Last: last}
}
