package work

import (
	"cmp"
	"context"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/distgear/distgear/internal/client"
	"github.com/distgear/distgear/internal/look"
	"github.com/distgear/distgear/internal/machine"
	"github.com/distgear/distgear/internal/orders"
	"github.com/distgear/distgear/internal/room"
)

// queues are those of a process, by name.
type queues struct {
	mu  sync.Mutex
	all map[string]*Fast
}

type queuesKey struct{}

func queuesOf(r *room.Room) *queues {
	return r.Value(queuesKey{}, func() any {
		q := &queues{all: map[string]*Fast{}}
		orders.Serve(r, q.carryOut)
		return q
	}).(*queues) //nolint:forcetypeassert // it is ours
}

func (q *queues) add(f *Fast) {
	q.mu.Lock()
	q.all[f.name] = f
	q.mu.Unlock()
}

// sorted are those that somebody has used, by name.
func (q *queues) sorted() []*Fast {
	q.mu.Lock()
	defer q.mu.Unlock()
	fs := make([]*Fast, 0, len(q.all))
	for _, f := range q.all {
		if f.used() {
			fs = append(fs, f)
		}
	}
	slices.SortFunc(fs, func(a, b *Fast) int { return cmp.Compare(a.name, b.name) })
	return fs
}

// carryOut answers with times in ms since 1970.
func (q *queues) carryOut(o *orders.Order) (in client.Inspection) {
	if o.What == look.Executors {
		for _, f := range q.sorted() {
			if strings.HasPrefix(f.name, o.Prefix) {
				in.Page.Executors = append(in.Page.Executors, f.standing())
			}
		}
		return in
	}
	q.mu.Lock()
	f := q.all[o.Executor]
	q.mu.Unlock()
	if f == nil || !f.used() {
		return in
	}
	in.Page.Executors = []look.ExecutorState{f.standing()}
	switch o.Do {
	case orders.DoPause, orders.DoResume:
		_ = f.Pause(context.Background(), o.Reason)
		in.Page.Executors[0] = f.standing()
	case "", orders.DoCancel:
		if o.ID == "" {
			in.Page.Tasks, in.Page.Next = f.latest(o.Query)
		} else if st, ok := f.byID(o.ID, o.Do == orders.DoCancel); ok {
			in.Page.Tasks = []look.TaskState{st}
		}
	default:
		in.Error = "this node does not know " + o.Do
	}
	return in
}

// used tells whether there is something to tell: many queues are there only in case.
func (f *Fast) used() bool {
	f.mu.Lock()
	defer f.unlock()
	f.gather()
	s := f.m.Stats()
	return f.m.Last() > 0 || s.Line > 0 || s.Paused != ""
}

func (f *Fast) zero() int64 { return f.start.UnixMilli() - 1 }

// standing tells how the queue stands. Its rate is that since somebody looked before.
func (f *Fast) standing() look.ExecutorState {
	f.mu.Lock()
	defer f.unlock()
	f.gather()
	st := look.StateOfExecutor(f.name, f.m)
	now := f.now()
	if f.looked.at == 0 || now-f.looked.at >= 500 {
		f.looked.rate = 0
		if took := now - f.looked.at; f.looked.at != 0 && took < 15_000 {
			f.looked.rate = float64(st.Total-f.looked.total) / float64(took) * 1000
		}
		f.looked.at, f.looked.total = now, st.Total
	}
	st.Rate = f.looked.rate
	st.Shift(f.zero())
	return st
}

// lookedAt is what was seen when somebody looked last.
type lookedAt struct {
	at    int64 // ms of the machine; 0: nobody looked
	total uint64
	rate  float64
}

func (f *Fast) latest(q look.Query) (sts []look.TaskState, next string) {
	f.mu.Lock()
	defer f.unlock()
	f.gather()
	q.Limit = min(max(q.Limit, 1), 1000)
	sts, next = look.LatestTasks(f.m, q, f.nodeLocked)
	for i := range sts {
		f.completeLocked(&sts[i])
	}
	return sts, next
}

// completeLocked adds what the machine does not know.
func (f *Fast) completeLocked(st *look.TaskState) {
	if t := f.m.Numbered(st.Number); t != nil {
		st.ID = t.Val.ID()
		st.Done, st.Goal = t.Val.Progress()
	}
	st.Shift(f.zero())
}

// byID is a task by its ID, or by its name; with cancel it is cancelled.
func (f *Fast) byID(id string, cancel bool) (st look.TaskState, ok bool) {
	f.mu.Lock()
	f.gather()
	t := f.m.Find(id)
	if origin, number, named := strings.Cut(id, "."); t == nil && named && origin == strconv.FormatUint(f.origin, 36) {
		if n, err := strconv.ParseUint(number, 36, 64); err == nil {
			t = f.m.Numbered(n)
		}
	}
	if t == nil {
		f.unlock()
		return st, false
	}
	st = look.StateOfTask(t, f.nodeLocked)
	f.completeLocked(&st)
	j := t.Val
	f.unlock()
	if cancel && st.State != "ok" {
		f.Cancel(j)
	}
	if in, err := j.Input(nil); err == nil && len(in) <= 64<<10 && st.State != "ok" {
		st.Val = in
	}
	return st, true
}

// nodeLocked is where a worker is; empty: it is gone.
func (f *Fast) nodeLocked(s machine.Session) string {
	switch b := f.benches[s]; {
	case b == nil:
		return ""
	case b.life != nil:
		return b.life.node
	}
	return f.room.Node
}
