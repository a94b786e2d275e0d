package work

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/distgear/distgear/internal/client"
	"github.com/distgear/distgear/internal/fault"
	"github.com/distgear/distgear/internal/link"
	"github.com/distgear/distgear/internal/look"
	"github.com/distgear/distgear/internal/machine"
	"github.com/distgear/distgear/internal/room"
	"github.com/distgear/distgear/internal/wire"
)

// kindLook is by what nodes ask each other for the queues in their memory: JSON,
// Order → client.Inspection.
const kindLook = "_executors"

// Order is a question about the queues in a process, or something to be done with one.
type Order struct {
	client.Query // What: look.Executors or look.Tasks

	Do     string `json:"do,omitempty"`     // a word below; empty: look only
	Reason string `json:"reason,omitempty"` // of Pause
}

// What an Order may want done.
const (
	DoCancel = "cancel" // the task ID of Executor
	DoPause  = "pause"  // Executor
	DoResume = "resume"
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
		r.SetRaw(kindLook, q.serve)
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

func (q *queues) serve(in *link.Inbound) {
	var o Order
	if err := json.Unmarshal(in.Input, &o); err != nil {
		in.Reply(fault.NeverRan(fmt.Errorf("%w: %w", fault.ErrInvalid, err), 0))
		return
	}
	b, err := json.Marshal(q.carryOut(&o))
	if err != nil {
		in.Reply(fault.Report(err))
		return
	}
	in.Reply(wire.Report{Outcome: wire.OK, Over: true, Payload: b})
}

// carryOut answers with times in ms since 1970.
func (q *queues) carryOut(o *Order) (in client.Inspection) {
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
	case DoPause, DoResume:
		_ = f.Pause(context.Background(), o.Reason)
		in.Page.Executors[0] = f.standing()
	case "", DoCancel:
		if o.ID == "" {
			in.Page.Tasks, in.Page.Next = f.latest(o.Query)
		} else if st, ok := f.byID(o.ID, o.Do == DoCancel); ok {
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

// At is what one process answered to an Order.
type At struct {
	Node string
	client.Inspection
}

// lookTime is how long nodes are waited for.
const lookTime = 2 * time.Second

// OrderAll carries an Order out in this process and in those of all live nodes,
// or of the one named. Those that have no such queues, or do not answer, are left
// out; silent names the latter. Answers are by node, this one first.
func OrderAll(ctx context.Context, r *room.Room, node string, o *Order) (all []At, silent []string, err error) {
	if node == "" || node == r.Node {
		if in := queuesOf(r).carryOut(o); len(in.Page.Executors) > 0 || in.Error != "" {
			all = append(all, At{r.Node, in})
		}
	}
	if r.Links == nil {
		return all, nil, nil
	}
	b, err := json.Marshal(o)
	if err != nil {
		return nil, nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, lookTime)
	defer cancel()
	var mu sync.Mutex
	var wg sync.WaitGroup
	var others []At
	for _, m := range r.Live() {
		if id := link.ID(m.Life); id != r.Links.ID() && (node == "" || node == m.Name) {
			wg.Go(func() {
				in, ok := askOne(ctx, r, id, b)
				mu.Lock()
				defer mu.Unlock()
				if !ok {
					silent = append(silent, m.Name)
				} else if len(in.Page.Executors) > 0 || in.Error != "" {
					others = append(others, At{m.Name, in})
				}
			})
		}
	}
	wg.Wait()
	slices.SortFunc(others, func(a, b At) int { return cmp.Compare(a.Node, b.Node) })
	slices.Sort(silent)
	return append(all, others...), silent, nil
}

func askOne(ctx context.Context, r *room.Room, id link.ID, b []byte) (in client.Inspection, ok bool) {
	rep, err := r.Links.Do(ctx, id, &wire.Command{Kind: kindLook, Input: b}, lookTime)
	switch {
	case err != nil || rep.Outcome == wire.Unknown:
		return in, false
	case rep.Outcome != wire.OK:
		return in, true // it has no executors
	}
	return in, json.Unmarshal(rep.Payload, &in) == nil
}

// What hubs and nodes tell, in their words.
type (
	Query         = client.Query
	Inspection    = client.Inspection
	ExecutorState = look.ExecutorState
	TaskState     = look.TaskState
)

// What a Query may ask for.
const (
	Executors = look.Executors
	Tasks     = look.Tasks
)

// Pages asks the hub, page by page. The node must not be alone.
func Pages(ctx context.Context, r *room.Room, q Query) iter.Seq2[Inspection, error] {
	return func(yield func(Inspection, error) bool) {
		for q := q; ; {
			var in Inspection
			b, err := json.Marshal(q)
			if err == nil {
				if b, err = r.Ask(ctx, client.KindInspect, b); err == nil {
					err = json.Unmarshal(b, &in)
				}
			}
			if err == nil && in.Error != "" {
				err = fmt.Errorf("%w: %s", fault.ErrNoNode, in.Error)
			}
			if err != nil {
				yield(in, err)
				return
			}
			if !yield(in, nil) || in.Page.Next == "" {
				return
			}
			q.After = in.Page.Next
		}
	}
}

// Standing is how one executor stands, in the ledger or in the memory of a node.
type Standing struct {
	ExecutorState

	Node string // empty: the ledger
	Zero int64  // ms since 1970 of its time 0
}

// Standings are the executors whose names begin with prefix: those in the ledger
// first, each by name.
func Standings(ctx context.Context, r *room.Room, prefix string) (all []Standing, err error) {
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	q := Query{What: Executors, Prefix: prefix}
	if !r.Ledger.Alone() {
		for p, err := range Pages(ctx, r, q) {
			if err != nil {
				return nil, err
			}
			for _, e := range p.Page.Executors {
				all = append(all, Standing{e, "", p.Zero})
			}
		}
	}
	nodes, _, err := OrderAll(ctx, r, "", &Order{Query: q})
	for _, at := range nodes {
		for _, e := range at.Page.Executors {
			all = append(all, Standing{e, at.Node, 0})
		}
	}
	return all, err
}
