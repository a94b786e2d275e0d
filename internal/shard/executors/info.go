package executors

import (
	"strings"

	"github.com/distgear/distgear/internal/look"
	"github.com/distgear/distgear/internal/machine"
	"github.com/distgear/distgear/internal/machine/runs"
	"github.com/distgear/distgear/internal/machine/tasks"
	"github.com/distgear/distgear/internal/machine/words"
)

// State tells how the executor stands. Times are its own.
func (x *Executor) State(name string, now int64) look.ExecutorState {
	st := look.StateOfExecutor(name, x.m)
	st.Rate = x.rate.perSecond(now, st.Total)
	return st
}

// Tasks are those that a query asks for, or the one with its ID, and the After of the
// next page. Times are the executor's.
func (x *Executor) Tasks(q look.Query, node func(machine.Session) string) (sts []look.TaskState, next string) {
	if q.ID == "" {
		sts, next = look.LatestTasks(x.m, q, node)
		for i := range sts {
			st := &sts[i]
			if t := x.m.Find(st.ID); t != nil && t.State == tasks.Ended && x.runs[t.Number] != nil {
				text, failed := t.Failure()
				if !failed {
					text = t.Val
				}
				st.Node = runs.Reporter(text)
			}
		}
		return sts, next
	}
	t := x.m.Find(q.ID)
	if t == nil {
		return nil, ""
	}
	st := look.StateOfTask(t, node)
	st.Val = []byte(t.Val)
	if v, ok := t.Failure(); ok {
		st.Failure = []byte(v)
	}
	return []look.TaskState{st}, ""
}

// Schedules are those after q.After, by name, and the After of the next page; or the one that q.ID names, whole.
func (x *Executor) Schedules(q look.Query) (all []look.ScheduleState, next string) {
	size := 0
	for _, s := range x.m.Schedules() {
		if s.Name <= q.After || q.ID != "" && s.Name != q.ID {
			continue
		}
		if len(all) == q.Limit || size > look.MaxPage {
			return all, next
		}
		size += 128 + len(s.Name) + len(s.Text) + len(s.Spec.Kind)
		st := look.ScheduleState{Name: s.Name, Text: s.Text, Kind: s.Spec.Kind, Next: s.Next, Last: s.Last, Skip: s.Skip, All: s.All, Paused: s.Paused}
		if q.ID != "" {
			st.Whole = words.AppendSchedule(nil, &tasks.Schedule[[]byte]{Text: s.Text, Spec: s.Spec, Val: []byte(s.Val)})
		}
		all, next = append(all, st), s.Name
	}
	return all, ""
}

// Len is how many tasks have not ended.
func (x *Executor) Len() int { return x.m.Len() }

// Refers tells whether a task is known, and whether the value that it has now, its input or
// its result, is val; of a run, whether what is kept of it refers to val.
func (x *Executor) Refers(id, val string) (known, refers bool) {
	t := x.m.Find(id)
	if t == nil {
		return false, false
	}
	if r := x.runs[t.Number]; r != nil {
		return true, strings.Contains(t.Val, val) || r.Refers([]byte(val))
	}
	return true, t.Val == val
}
