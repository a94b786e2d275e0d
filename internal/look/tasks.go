package look

import (
	"cmp"
	"strconv"
	"time"

	"github.com/distgear/distgear/internal/machine"
	"github.com/distgear/distgear/internal/machine/tasks"
)

// ExecutorState is one executor. Rates of its limits are per 1000 s.
type ExecutorState struct {
	Name      string       `json:"name"`
	Line      int          `json:"line,omitempty"` // tasks that wait for room
	Delayed   int          `json:"delayed,omitempty"`
	Ready     int          `json:"ready,omitempty"`
	Leased    int          `json:"leased,omitempty"`
	Parked    int          `json:"parked,omitempty"`
	Ended     int          `json:"ended,omitempty"`   // and still known
	Total     uint64       `json:"total,omitempty"`   // that ended since it began
	Rate      float64      `json:"rate,omitempty"`    // that ended per second, over the last ten
	Oldest    int64        `json:"oldest,omitempty"`  // ledger ms, when the oldest that is ready was submitted, about
	Workers   int          `json:"workers,omitempty"` // sessions
	Quiet     int          `json:"quiet,omitempty"`   // of those
	Slots     int          `json:"slots,omitempty"`
	Paused    string       `json:"paused,omitempty"`   // why; empty: it is not
	Unserved  []string     `json:"unserved,omitempty"` // actions that wait and that nobody offers, the first 16
	Schedules int          `json:"schedules,omitempty"`
	Limits    tasks.Limits `json:"limits,omitzero"`
}

// TaskState is one task. Times are ledger ms.
type TaskState struct {
	Number     uint64          `json:"number"`
	ID         string          `json:"id"`
	Kind       string          `json:"kind"`
	State      string          `json:"state"` // tasks.Words
	Key        string          `json:"key,omitempty"`
	Labels     string          `json:"labels,omitempty"`
	Batch      string          `json:"batch,omitempty"`
	Priority   int8            `json:"priority,omitempty"`
	Idempotent bool            `json:"idempotent,omitempty"`
	Attempts   int             `json:"attempts,omitempty"` // that were reported
	Retries    int             `json:"retries,omitempty"`
	Timeout    uint32          `json:"timeout,omitempty"`
	Outcome    tasks.Outcome   `json:"outcome,omitempty"`
	Cause      tasks.Cause     `json:"cause,omitempty"`
	Reason     string          `json:"reason,omitempty"`  // of who parked it
	Message    string          `json:"message,omitempty"` // of the last failure
	Submitted  int64           `json:"submitted"`
	Since      int64           `json:"since"` // in its state; of a delayed one: until when
	Deadline   int64           `json:"deadline,omitempty"`
	Node       string          `json:"node,omitempty"` // that has it
	Session    machine.Session `json:"session,omitempty"`
	Done       int64           `json:"done,omitempty"`
	Goal       int64           `json:"goal,omitempty"` // of Done
	History    []TryState      `json:"history,omitempty"`

	Val     []byte `json:"val,omitempty"`     // with an ID in the query: the input; the result, if its State is ok
	Failure []byte `json:"failure,omitempty"` // and what the last failed report said
}

// TryState is an attempt that failed or was lost.
type TryState struct {
	Node    string          `json:"node,omitempty"` // empty: its session has ended, and it was not lost
	Session machine.Session `json:"session"`
	Began   int64           `json:"began"`
	Ended   int64           `json:"ended"`
	Outcome tasks.Outcome   `json:"outcome"`
	Lost    bool            `json:"lost,omitempty"`
	Message string          `json:"message,omitempty"`
}

// ScheduleState is one schedule. Times are ms since 1970.
type ScheduleState struct {
	Name string `json:"name"`
	Text string `json:"text"`
	Kind string `json:"kind"`
	Next int64  `json:"next,omitempty"` // 0: it is not known yet
	Last int64  `json:"last,omitempty"` // 0: it was not due yet
	Skip bool   `json:"skip,omitempty"` // what was missed is left out
	All  bool   `json:"all,omitempty"`  // all that was missed is made up for

	Paused bool   `json:"paused,omitempty"`
	Whole  []byte `json:"whole,omitempty"` // with an ID in the query: words.AppendSchedule
}

// Missed is what becomes of missed times, in the word of users.
func (s *ScheduleState) Missed() string {
	switch {
	case s.Skip:
		return "none"
	case s.All:
		return "all"
	}
	return ""
}

// Times are Next and Last; zero, if these are.
func (s *ScheduleState) Times() (next, last time.Time) {
	at := func(ms int64) time.Time {
		if ms == 0 {
			return time.Time{}
		}
		return time.UnixMilli(ms).UTC()
	}
	return at(s.Next), at(s.Last)
}

// StateOfExecutor tells how a machine stands.
func StateOfExecutor[V any](name string, m *tasks.Machine[V]) ExecutorState {
	s := m.Stats()
	return ExecutorState{
		Name: name, Line: s.Line, Delayed: s.Delayed, Ready: s.Ready, Leased: s.Leased, Parked: s.Parked, Ended: s.Ended, Total: s.Total,
		Oldest: s.Oldest, Workers: s.Workers, Quiet: s.Quiet, Slots: s.Slots, Paused: s.Paused, Unserved: s.Unserved, Schedules: s.Schedules, Limits: m.Limits(),
	}
}

// StateOfTask tells of a task, but for its values. node tells a session's.
func StateOfTask[V any](t *tasks.Task[V], node func(machine.Session) string) TaskState {
	st := TaskState{
		Number: t.Number, ID: t.ID, Kind: t.Kind(), State: t.Word(), Key: t.Key(), Labels: t.Labels(), Batch: t.Batch(), Priority: t.Priority(),
		Idempotent: t.Idempotent(), Attempts: int(t.Attempts), Retries: int(t.Retries), Timeout: t.Timeout, Outcome: t.Outcome, Cause: t.Cause,
		Reason: t.Reason(), Submitted: t.Submitted, Since: t.Since, Deadline: t.Deadline(), Session: t.Worker(),
	}
	if st.Session != 0 {
		st.Node = node(st.Session)
	}
	st.Done, st.Goal = t.Progress()
	for _, a := range t.History() {
		x := TryState{node(a.Worker), a.Worker, a.Began, a.Ended, a.Outcome, a.Lost, a.Message}
		if a.Lost {
			x.Node, x.Message = cmp.Or(a.Message, x.Node), ""
		}
		st.History = append(st.History, x)
		st.Message = x.Message
	}
	return st
}

// Shift adds to the times that are not zero.
func (e *ExecutorState) Shift(by int64) { shift(by, &e.Oldest) }

// Shift adds to the times that are not zero.
func (t *TaskState) Shift(by int64) {
	shift(by, &t.Submitted, &t.Since, &t.Deadline)
	for i := range t.History {
		shift(by, &t.History[i].Began, &t.History[i].Ended)
	}
}

func shift(by int64, times ...*int64) {
	for _, t := range times {
		if *t != 0 {
			*t = max(*t+by, 1)
		}
	}
}

// LatestTasks are the tasks that a query asks for, the newest first, and the
// After of the next page.
func LatestTasks[V any](m *tasks.Machine[V], q Query, node func(machine.Session) string) (sts []TaskState, next string) {
	after, _ := strconv.ParseUint(q.After, 10, 64) // 0: from the newest
	ts, more := m.Latest(tasks.Filter{Kind: q.Kind, Key: q.Key, Prefix: q.Prefix}, q.State, after, q.Limit)
	size := 0
	for _, t := range ts {
		if size > MaxPage {
			more = sts[len(sts)-1].Number
			break
		}
		st := StateOfTask(t, node)
		st.History = nil // a list is for finding
		size += 512 + len(st.ID) + len(st.Kind) + len(st.Key) + len(st.Labels) + len(st.Batch) + len(st.Message)
		sts = append(sts, st)
	}
	if more != 0 {
		next = strconv.FormatUint(more, 10)
	}
	return sts, next
}
