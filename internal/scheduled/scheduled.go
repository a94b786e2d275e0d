// Package scheduled is the schedules of durable events and of executors, as operators
// see both: in one list, with the same verbs.
//
//	for s, err := range scheduled.List(ctx, n, "render/") { … }
//	_, err := scheduled.Do(ctx, n, scheduled.Pause, scheduled.Name{Executor: "render", Own: "nightly"})
//
// # Failures
//
// They are those of packages schedule and executor.
package scheduled

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"strings"
	"time"

	"github.com/distgear/distgear"
	"github.com/distgear/distgear/executor"
	"github.com/distgear/distgear/schedule"
)

// Name names a schedule.
type Name struct {
	Executor string // empty: it is one of events
	Own      string
}

// String is Own, or EXECUTOR/Own: what one of them is called has no /.
func (n Name) String() string {
	if n.Executor != "" {
		return n.Executor + "/" + n.Own
	}
	return n.Own
}

// Info is a schedule as it stands.
type Info struct {
	Executor string          `json:"executor,omitempty"` // whose; empty: of events
	Name     string          `json:"name"`
	When     string          `json:"when"`
	Event    string          `json:"event,omitempty"` // or an action
	Action   string          `json:"action,omitempty"`
	Missed   schedule.Missed `json:"missed,omitempty"`
	Paused   bool            `json:"paused,omitempty"`
	Next     time.Time       `json:"next,omitzero"`
	Last     time.Time       `json:"last,omitzero"`
	Input    json.RawMessage `json:"input,omitempty"` // not in a list
}

// Full is the name of a schedule.
func (s *Info) Full() Name { return Name{s.Executor, s.Name} }

func ofEvents(s schedule.Info) Info {
	return Info{"", s.Name, s.When, s.Event, "", s.Missed, s.Paused, s.Next, s.Last, s.Input}
}

func ofTasks(s executor.ScheduleInfo) Info {
	return Info{s.Executor, string(s.Name), s.When, "", s.Action, schedule.Missed(s.Missed), s.Paused, s.Next, s.Last, s.Input}
}

// List yields those of events, and then those of executors, whose names begin with
// prefix, each by name.
func List(ctx context.Context, n *distgear.Node, prefix string) iter.Seq2[Info, error] {
	return func(yield func(Info, error) bool) {
		all, err := schedule.List(ctx, n)
		if err != nil {
			yield(Info{}, err)
			return
		}
		for _, s := range all {
			if strings.HasPrefix(s.Name, prefix) && !yield(ofEvents(s), nil) {
				return
			}
		}
		for s, err := range executor.Operate(n).Schedules(ctx, prefix) {
			if !yield(ofTasks(s), err) {
				return
			}
		}
	}
}

// Find tells of one schedule.
func Find(ctx context.Context, n *distgear.Node, name Name) (Info, error) {
	if name.Executor == "" {
		s, err := schedule.Find(ctx, n, name.Own)
		return ofEvents(s), err
	}
	s, err := executor.Operate(n).Schedule(ctx, name.Executor, executor.ScheduleID(name.Own))
	return ofTasks(s), err
}

// Verb is what can be done with a schedule.
type Verb string

// The verbs.
const (
	Pause  Verb = "pause"
	Resume Verb = "resume"
	Run    Verb = "run"
	Remove Verb = "remove"
)

// Do does something with a schedule. id is the run or task that was begun, by Run.
func Do(ctx context.Context, n *distgear.Node, verb Verb, name Name) (id string, err error) {
	if name.Executor != "" {
		return doTasks(ctx, executor.Operate(n), verb, name.Executor, executor.ScheduleID(name.Own))
	}
	switch verb {
	case Pause:
		return "", schedule.Pause(ctx, n, name.Own)
	case Resume:
		return "", schedule.Resume(ctx, n, name.Own)
	case Run:
		run, err := schedule.Run(ctx, n, name.Own)
		return string(run), err
	case Remove:
		return "", schedule.Remove(ctx, n, name.Own)
	}
	return "", unknown(verb)
}

func doTasks(ctx context.Context, o executor.Ops, verb Verb, of string, name executor.ScheduleID) (id string, err error) {
	switch verb {
	case Pause:
		return "", o.PauseSchedule(ctx, of, name)
	case Resume:
		return "", o.ResumeSchedule(ctx, of, name)
	case Run:
		task, err := o.RunSchedule(ctx, of, name)
		return string(task), err
	case Remove:
		return "", o.Unschedule(ctx, of, name)
	}
	return "", unknown(verb)
}

func unknown(verb Verb) error {
	return fmt.Errorf("%w: nothing is done to schedules that is called %q", distgear.ErrInvalid, verb)
}
