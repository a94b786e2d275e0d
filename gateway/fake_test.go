package gateway

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/distgear/distgear"
	"github.com/distgear/distgear/cluster"
	"github.com/distgear/distgear/executor"
	"github.com/distgear/distgear/internal/scheduled"
	"github.com/distgear/distgear/lifecycle"
	"github.com/distgear/distgear/record"
	"github.com/distgear/distgear/schedule"
)

// fake is a backend of which a test says what it does. The zero value knows no
// event, run or member.
type fake struct {
	onRaise   func(event string, in json.RawMessage, o raiseOptions) (pending, error)
	onWatch   func(ctx context.Context, id record.RunID) iter.Seq2[record.Run, error]
	onMembers func(ctx context.Context) iter.Seq2[cluster.Member, error]
	onRun     func(verb string, id record.RunID, args ...string) error // cancel and resolve
	onLook    func(what string, q lookQuery) (any, error)
	onTasks   func(name string, f executor.TaskFilter) iter.Seq2[executor.TaskInfo, error]
	onOperate func(verb, name string, id executor.TaskID, reason string) error // task too: verb ""
	onSubmit  func(name string, t executor.Named, durably bool) (pendingTask, error)
	mu        sync.Mutex // guards what follows, and onWatch, where a test changes them meanwhile
	records   []record.Run
	listErr   error
	gone      chan struct{}
	why       error
}

func (f *fake) raise(ctx context.Context, event string, in json.RawMessage, o raiseOptions) (pending, error) {
	if ctx.Done() != nil {
		panic("a raise must not end with its request")
	}
	if f.onRaise == nil {
		return nil, distgear.ErrNoNode
	}
	return f.onRaise(event, in, o)
}

func (f *fake) runs(context.Context) iter.Seq2[record.Run, error] {
	return func(yield func(record.Run, error) bool) {
		f.mu.Lock()
		records := f.records
		f.mu.Unlock()
		for _, r := range records {
			if !yield(r, nil) {
				return
			}
		}
		if f.listErr != nil {
			yield(record.Run{}, f.listErr)
		}
	}
}

func (f *fake) find(_ context.Context, id record.RunID) (record.Run, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, r := range f.records {
		if r.ID == id {
			return r, nil
		}
	}
	if f.listErr != nil {
		return record.Run{}, f.listErr
	}
	return record.Run{}, distgear.ErrNoRun
}

func (f *fake) watch(ctx context.Context, id record.RunID) iter.Seq2[record.Run, error] {
	f.mu.Lock()
	on := f.onWatch
	f.mu.Unlock()
	if on != nil {
		return on(ctx, id)
	}
	return func(yield func(record.Run, error) bool) { yield(f.find(ctx, id)) }
}

func (f *fake) cancel(_ context.Context, id record.RunID) error {
	if f.onRun == nil {
		return distgear.ErrNoRun
	}
	return f.onRun("cancel", id)
}

func (f *fake) resolve(_ context.Context, id record.RunID, step string, how record.Resolution, reason string) error {
	if f.onRun == nil {
		return distgear.ErrNoRun
	}
	words := map[record.Resolution]string{record.Retry: "retry", record.Skip: "skip", record.MarkDone: "done"}
	return f.onRun("undo", id, step, words[how], reason)
}

func (f *fake) signal(_ context.Context, id record.RunID, name string, value json.RawMessage) error {
	if f.onRun == nil {
		return distgear.ErrNoRun
	}
	return f.onRun("signal", id, name, string(value))
}

func (f *fake) approve(_ context.Context, id record.RunID, name string, a record.Approval) error {
	if f.onRun == nil {
		return distgear.ErrNoRun
	}
	return f.onRun("approve", id, name, fmt.Sprint(a.Approved), a.By, a.Reason)
}

func (f *fake) fork(_ context.Context, id record.RunID, from string, in json.RawMessage, as string) (record.RunID, error) {
	if f.onRun == nil {
		return "", distgear.ErrNoRun
	}
	return "run-1", f.onRun("fork", id, from, string(in), as)
}

func (f *fake) adopt(_ context.Context, id record.RunID) error {
	if f.onRun == nil {
		return distgear.ErrNoRun
	}
	return f.onRun("adopt", id)
}

func (f *fake) terminate(_ context.Context, id record.RunID, reason string) error {
	if f.onRun == nil {
		return distgear.ErrNoRun
	}
	return f.onRun("terminate", id, reason)
}

func (f *fake) members(ctx context.Context) iter.Seq2[cluster.Member, error] {
	return f.watchMembers(ctx)
}

func (f *fake) watchMembers(ctx context.Context) iter.Seq2[cluster.Member, error] {
	if f.onMembers == nil {
		return func(func(cluster.Member, error) bool) {}
	}
	return f.onMembers(ctx)
}

func (f *fake) look(_ context.Context, what string, q lookQuery) (any, error) {
	if f.onLook == nil {
		return nil, distgear.ErrNoNode
	}
	return f.onLook(what, q)
}

func (f *fake) tasks(_ context.Context, name string, q executor.TaskFilter) iter.Seq2[executor.TaskInfo, error] {
	if f.onTasks == nil {
		return func(yield func(executor.TaskInfo, error) bool) { yield(executor.TaskInfo{}, executor.ErrNoExecutor) }
	}
	return f.onTasks(name, q)
}

func (f *fake) task(ctx context.Context, name string, id executor.TaskID) (executor.TaskInfo, error) {
	if err := f.operate(ctx, "", name, id, ""); err != nil {
		return executor.TaskInfo{}, err
	}
	return executor.TaskInfo{ID: id, Executor: name, Class: executor.Durable, State: "ready"}, nil
}

func (f *fake) operate(_ context.Context, verb, name string, id executor.TaskID, reason string) error {
	if f.onOperate == nil {
		return executor.ErrNoExecutor
	}
	return f.onOperate(verb, name, id, reason)
}

func (f *fake) submit(_ context.Context, name string, t executor.Named, durably bool) (pendingTask, error) {
	if f.onSubmit == nil {
		return nil, executor.ErrNoExecutor
	}
	return f.onSubmit(name, t, durably)
}

func (f *fake) findSchedule(ctx context.Context, name scheduled.Name) (scheduled.Info, error) {
	_, err := f.changeSchedule(ctx, "", name)
	return scheduled.Info{Executor: name.Executor, Name: name.Own, Event: "e"}, err
}

func (f *fake) changeSchedule(_ context.Context, verb scheduled.Verb, name scheduled.Name) (string, error) {
	if f.onOperate == nil {
		return "", fmt.Errorf("%w: %w", distgear.ErrInvalid, schedule.ErrNoSchedule)
	}
	return "begun", f.onOperate(string(verb), "schedule "+name.String(), "", "")
}

func (f *fake) hear(context.Context) iter.Seq2[lifecycle.Event, error] {
	return func(yield func(lifecycle.Event, error) bool) { yield(lifecycle.Event{}, distgear.ErrLeft) }
}

func (f *fake) name() cluster.NodeName { return "node-1" }
func (f *fake) done() <-chan struct{}  { return f.gone }
func (f *fake) err() error             { return f.why }

// future is a pending that a test resolves.
type future struct {
	id   record.RunID
	over chan struct{}
	once sync.Once
	out  json.RawMessage
	err  error
}

func newFuture(id record.RunID) *future { return &future{id: id, over: make(chan struct{})} }

func (f *future) resolve(out string, err error) *future {
	f.once.Do(func() {
		f.out, f.err = json.RawMessage(out), err
		close(f.over)
	})
	return f
}

func (f *future) ID() record.RunID      { return f.id }
func (f *future) Done() <-chan struct{} { return f.over }

func (f *future) Wait(ctx context.Context) (json.RawMessage, error) {
	select {
	case <-f.over:
		return f.out, f.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// echo answers every event with its input.
func echo(event string, in json.RawMessage, _ raiseOptions) (pending, error) {
	return newFuture(record.RunID("run-"+event)).resolve(string(in), nil), nil
}

// failing answers every event with err.
func failing(err error) func(string, json.RawMessage, raiseOptions) (pending, error) {
	return func(string, json.RawMessage, raiseOptions) (pending, error) {
		return newFuture("run-1").resolve("", err), nil
	}
}

// answer is what came back, with the body read.
type answer struct {
	status int
	header http.Header
	body   string
}

func (a answer) json(t testing.TB) map[string]any {
	t.Helper()
	var m map[string]any
	if err := json.Unmarshal([]byte(a.body), &m); err != nil {
		t.Fatalf("%d %q: %v", a.status, a.body, err)
	}
	return m
}

// problem checks status and type.
func (a answer) problem(t testing.TB, status int, slug, outcome string) map[string]any {
	t.Helper()
	m := a.json(t)
	if a.status != status || m["type"] != typeBase+slug || m["outcome"] != outcome || m["status"] != float64(status) {
		t.Errorf("got %d %v, want %d %s %s", a.status, m, status, slug, outcome)
	}
	return m
}

// do sends one request to h, as a local client does, and checks that the
// OpenAPI document knows the answer. head is "Name: value" lines.
func do(t testing.TB, h http.Handler, method, target, body string, head ...string) answer {
	t.Helper()
	var in io.Reader
	if body != "" {
		in = strings.NewReader(body)
	}
	r := httptest.NewRequestWithContext(t.Context(), method, target, in)
	r.Host = "localhost:8422"
	for _, line := range head {
		name, value, _ := strings.Cut(line, ": ")
		if name == "Host" {
			r.Host = value
		} else {
			r.Header.Set(name, value)
		}
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	a := answer{w.Code, w.Result().Header, w.Body.String()}
	documented(t, r, a)
	return a
}

func serve(b *fake, cfg Config) *handler { return newHandler(b, cfg, nil) }

var (
	t0   = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	run1 = record.Run{ID: "run-1", Event: "deploy", Node: "node-1", State: "running", Version: 3, Started: t0,
		Input: json.RawMessage(`{"name":"data"}`),
		Plans: []record.Plan{{Name: "plan-1", Rollback: true, Steps: []record.Step{
			{Name: "mount", Kind: "mount", Target: "node-1", State: "ok", Node: "node-1", Attempt: 1, Started: t0, Ended: t0},
			{Name: "start", Kind: "start", Target: "any", After: []string{"mount"}, State: "running", Node: "node-2", Attempt: 2, UndoAttempt: 1, Started: t0, Error: "once"},
		}}}}
	run2 = record.Run{ID: "run-2", Event: "stop", Node: "node-2", State: "ok", Version: 9, Started: t0, Ended: t0, Result: json.RawMessage("7")}
	run3 = record.Run{ID: "run-3", Event: "deploy", Node: "node-2", State: "rolled back", Version: 4, Started: t0, Ended: t0, Error: "no room"}

	node1 = cluster.Member{Name: "node-1", Incarnation: 1, State: cluster.Alive, Since: t0, Labels: map[string]string{"zone": "a"}, Kinds: []string{"deploy"}, Version: "v1",
		Load: cluster.Load{CPU: 0.25, Memory: 1 << 20, MemoryTotal: 1 << 30, InFlight: 2, Kinds: map[string]int{"deploy": 2}}}
)

func members(ms ...cluster.Member) func(context.Context) iter.Seq2[cluster.Member, error] {
	return func(context.Context) iter.Seq2[cluster.Member, error] {
		return func(yield func(cluster.Member, error) bool) {
			for _, m := range ms {
				if !yield(m, nil) {
					return
				}
			}
		}
	}
}

func request(ctx context.Context, method, target string, head ...string) *http.Request {
	r := httptest.NewRequestWithContext(ctx, method, target, nil)
	r.Host = "localhost"
	for _, line := range head {
		name, value, _ := strings.Cut(line, ": ")
		r.Header.Set(name, value)
	}
	return r
}

// stream1 is the body of one stream, target and header lines in args, once it has ended.
func stream1(ctx context.Context, h http.Handler, args []string) string {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, request(ctx, "GET", args[0], args[1:]...))
	return w.Body.String()
}
