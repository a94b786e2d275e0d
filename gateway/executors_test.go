package gateway

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/distgear/distgear"
	"github.com/distgear/distgear/executor"
	"github.com/distgear/distgear/geartest"
)

// taskFuture is a pendingTask that a test resolves.
type taskFuture struct{ *future }

func (f taskFuture) ID() executor.TaskID { return executor.TaskID(f.id) }

func submitted(out string, err error) func(string, executor.Named, bool) (pendingTask, error) {
	return func(string, executor.Named, bool) (pendingTask, error) {
		return taskFuture{newFuture("t-1").resolve(out, err)}, nil
	}
}

// TestTasks_Requests: what is asked reaches the backend as it is meant, and what
// is malformed does not.
func TestTasks_Requests(t *testing.T) {
	var told []string
	b := &fake{
		onTasks: func(name string, f executor.TaskFilter) iter.Seq2[executor.TaskInfo, error] {
			told = append(told, fmt.Sprintf("tasks %s %+v", name, f))
			return func(yield func(executor.TaskInfo, error) bool) {
				for n := uint64(3); n > 0 && yield(executor.TaskInfo{ID: executor.TaskID(fmt.Sprint("t-", n)), Class: executor.Durable, Number: n, State: "ready", Submitted: t0, Since: t0}, nil); n-- {
				}
			}
		},
		onOperate: func(verb, name string, id executor.TaskID, reason string) error {
			told = append(told, fmt.Sprintf("%s %s %s %s", verb, name, id, reason))
			return nil
		},
		onSubmit: func(name string, task executor.Named, durably bool) (pendingTask, error) {
			told = append(told, fmt.Sprintf("submit %s %s %s %v %d %v %v %v", name, task.Action, task.Input, task.Idempotent, task.Retries, task.Timeout, task.Options, durably))
			return taskFuture{newFuture("t-1").resolve(`{"a":1}`, nil)}, nil
		},
	}
	h := serve(b, Config{MaxBody: 1 << 10})
	for _, c := range []struct{ request, body, answer, told string }{
		{"GET /v1/executors/x/tasks", "", `{"tasks":[{"id":"t-3"`, "tasks x {State: Action: Key: Prefix: After:}"},
		{"GET /v1/executors/a%2Fb/tasks?state=parked&action=r&key=k&prefix=p&after=7%40n&limit=2", "", `"next":"2@"`, "tasks a/b {State:parked Action:r Key:k Prefix:p After:7@n}"},
		{"GET /v1/executors/x/tasks/t%2F1", "", `{"id":"t/1"`, " x t/1 "},
		{"POST /v1/executors/x/tasks/t/cancel", "", `{"executor":"x","task":"t"}`, "cancel x t "},
		{"POST /v1/executors/x/tasks/t/retry", "{}", `{"executor":"x","task":"t"}`, "retry x t "},
		{"POST /v1/executors/x/tasks/t/park", `{"reason":"why"}`, `{"executor":"x","task":"t"}`, "park x t why"},
		{"POST /v1/executors/x/pause", "", `{"executor":"x","paused":"paused"}`, "pause x  paused"},
		{"POST /v1/executors/x/pause", `{"reason":"lunch"}`, `{"executor":"x","paused":"lunch"}`, "pause x  lunch"},
		{"POST /v1/executors/x/resume", "", `{"executor":"x","paused":""}`, "resume x  "},
		{"POST /v1/executors/x/tasks?id=i", `{"action":"a"}`, `{"a":1}`, "submit x a  false 0 0s [i] false"},
		{"POST /v1/executors/x/tasks?id=i&delay=2s", `{"action":"a","input":[1],"idempotent":true,"retries":3,"timeout":"5s","key":"k","batch":"b","labels":["z=a"],"priority":-2,"retain":"1h","durable":true}`,
			`{"a":1}`, "submit x a [1] true 3 5s [k b [z=a] -2 3600000000000 i 2000000000] true"},
	} {
		told = nil
		method, target, _ := strings.Cut(c.request, " ")
		a := do(t, h, method, target, c.body)
		if a.status >= 300 || !strings.Contains(a.body, c.answer) || strings.Join(told, "|") != c.told {
			t.Errorf("%s %s: %d %s, and told %q, want %q", c.request, c.body, a.status, a.body, told, c.told)
		}
	}
	told = nil
	for _, c := range []struct{ request, body, detail string }{
		{"GET /v1/executors/x/tasks?state=lost", "", `not among`}, {"GET /v1/executors/x/tasks?limit=0", "", "limit"}, {"GET /v1/executors/x/tasks?stat=ok", "", "unknown query"},
		{"GET /v1/executors/x/tasks/t?a=1", "", "unknown query"}, {"POST /v1/executors/x/tasks/t/cancel", `{"reason":"a"}`, "unknown member"},
		{"POST /v1/executors/x/tasks/t/park", "", "reason"}, {"POST /v1/executors/x/tasks/t/park", `{"reason":1}`, "reason"}, {"POST /v1/executors/x/tasks/t/park", `[]`, "no object"},
		{"POST /v1/executors/x/pause", "{", "no JSON"}, {"POST /v1/executors/x/resume?x", "", "unknown query"},
		{"POST /v1/executors/x/tasks", "", "no JSON"}, {"POST /v1/executors/x/tasks", "null", "no object"}, {"POST /v1/executors/x/tasks", `{"input":1}`, "action"},
		{"POST /v1/executors/x/tasks", `{"action":"a","Retries":1}`, `"Retries"`}, {"POST /v1/executors/x/tasks", `{"action":"a","retries":-1}`, "retries"},
		{"POST /v1/executors/x/tasks", `{"action":"a","timeout":"soon"}`, "duration"}, {"POST /v1/executors/x/tasks", `{"action":"a","timeout":5}`, "duration"},
		{"POST /v1/executors/x/tasks", `{"action":"a","priority":200}`, "priority"}, {"POST /v1/executors/x/tasks", `{"action":"a","deadline":"noon"}`, "deadline"},
		{"POST /v1/executors/x/tasks?async&wait=5s", `{"action":"a"}`, "async"},
	} {
		method, target, _ := strings.Cut(c.request, " ")
		if m := do(t, h, method, target, c.body).problem(t, 400, "bad-request", "never ran"); !strings.Contains(fmt.Sprint(m["detail"]), c.detail) {
			t.Errorf("%s %s: %v", c.request, c.body, m)
		}
	}
	do(t, h, "POST", "/v1/executors/x/tasks", `{"action":"a","input":"`+strings.Repeat("x", 2000)+`"}`).problem(t, 413, "too-large", "never ran")
	do(t, serve(b, Config{Token: "t"}), "POST", "/v1/executors/x/tasks", `{"action":"a"}`).problem(t, 401, "unauthorized", "never ran")
	do(t, h, "DELETE", "/v1/executors/x/tasks/t", "").problem(t, 405, "method-not-allowed", "never ran")
	if told != nil {
		t.Errorf("told %q", told)
	}
	if a := do(t, serve(&fake{onSubmit: func(string, executor.Named, bool) (pendingTask, error) { return taskFuture{newFuture("t/1")}, nil }}, Config{}),
		"POST", "/v1/executors/x/tasks?async", `{"action":"a"}`); a.status != 202 || a.header.Get("Location") != "/v1/executors/x/tasks/t%2F1" {
		t.Error(a)
	}
}

// TestTasks_Problems: each error has its status, and says what was done.
func TestTasks_Problems(t *testing.T) {
	wrap := func(err error) error { return fmt.Errorf("%w: more", err) }
	for _, c := range []struct {
		err     error
		status  int
		slug    string
		outcome string
	}{
		{executor.ErrNoExecutor, 404, "unknown-executor", "never ran"}, {executor.ErrNoTask, 404, "unknown-task", "never ran"}, {distgear.ErrConflict, 409, "conflict", "never ran"},
		{distgear.ErrInvalid, 400, "bad-request", "never ran"}, {executor.ErrFull, 503, "overloaded", "never ran"}, {executor.ErrShutdown, 503, "unavailable", "never ran"},
		{distgear.ErrNoNode, 503, "unavailable", "never ran"}, {distgear.ErrLeft, 503, "unavailable", "never ran"}, {distgear.ErrUnknown, 504, "outcome-unknown", "unknown"},
		{context.DeadlineExceeded, 504, "outcome-unknown", "unknown"}, {context.Canceled, 503, "stopping", "unknown"},
	} {
		h := serve(&fake{
			onOperate: func(string, string, executor.TaskID, string) error { return wrap(c.err) },
			onSubmit:  func(string, executor.Named, bool) (pendingTask, error) { return nil, wrap(c.err) },
		}, Config{})
		do(t, h, "GET", "/v1/executors/x/tasks/t", "").problem(t, c.status, c.slug, c.outcome)
		do(t, h, "POST", "/v1/executors/x/tasks/t/retry", "").problem(t, c.status, c.slug, c.outcome)
		do(t, h, "POST", "/v1/executors/x/tasks", `{"action":"a"}`).problem(t, c.status, c.slug, c.outcome)
	}
	for _, c := range []struct {
		err     error
		status  int
		slug    string
		outcome string
	}{
		{&distgear.RemoteError{Outcome: distgear.FailedDirty, Message: "no room"}, 422, "task-failed", "failed"},
		{&distgear.RemoteError{Outcome: distgear.FailedClean, Message: "no room"}, 422, "task-failed", "failed"},
		{distgear.ErrCancelled, 409, "cancelled", "never ran"},
		{distgear.ErrUnknown, 504, "outcome-unknown", "unknown"},
	} {
		a := do(t, serve(&fake{onSubmit: submitted("", c.err)}, Config{}), "POST", "/v1/executors/x/tasks", `{"action":"a"}`)
		if m := a.json(t); a.status != c.status || m["type"] != typeBase+c.slug || m["task"] != "t-1" || a.header.Get("Distgear-Task") != "t-1" {
			t.Errorf("%v: %v", c.err, a)
		}
	}
}

var half = &distgear.Action[int, int]{Name: "half", Do: func(_ context.Context, in int) (int, error) {
	if in%2 != 0 {
		return 0, distgear.Permanent(distgear.Clean(errors.New("odd")))
	}
	return in / 2, nil
}}

// TestTasks_Node: an executor of a node, alone and in a cluster: tasks are submitted,
// listed, shown, cancelled, retried and parked.
func TestTasks_Node(t *testing.T) {
	hub, _ := member(t, distgear.Config{Name: "hub", Serve: "127.0.0.1:0"})
	for _, n := range []*distgear.Node{joined(t), hub} {
		durable := n == hub
		ctx, cancel := context.WithCancel(t.Context())
		ex := executor.Config{Durable: true}.New(n, "sums")
		ended := make(chan error, 1)
		go func() { ended <- ex.Work(ctx, 77, half) }()
		h := newHandler(node{n}, Config{}, nil)
		works := func() {
			t.Helper()
			geartest.Eventually(t, 10*time.Second, "somebody works", func() bool {
				return strings.Contains(do(t, h, "GET", "/v1/executors", "").body, `"slots":77`)
			})
		}
		if durable {
			works() // what is submitted now is durable
		}
		if a := do(t, h, "POST", "/v1/executors/sums/tasks?async&id=late&delay=1h", `{"action":"half","input":2,"key":"k"}`); a.status != 202 {
			t.Error(a)
		}
		if !durable {
			works() // a queue in memory is there with its first task
		}
		if a := do(t, h, "POST", "/v1/executors/sums/tasks?id=good", `{"action":"half","input":8}`); a.status != 200 || a.body != "4\n" {
			t.Error(a)
		}
		if a := do(t, h, "POST", "/v1/executors/sums/tasks?id=good", `{"action":"half","input":8}`); a.status != 200 || a.body != "4\n" { // the same task
			t.Error(a)
		}
		do(t, h, "POST", "/v1/executors/sums/tasks?id=bad", `{"action":"half","input":7}`).problem(t, 422, "task-failed", "failed")
		if m := do(t, h, "GET", "/v1/executors/sums/tasks/late", "").json(t); m["state"] != "delayed" || m["key"] != "k" || m["input"] != 2.0 {
			t.Error(m)
		}
		m := do(t, h, "GET", "/v1/executors/sums/tasks/bad", "").json(t)
		if m["state"] != "failed" || m["error"] != "odd" || m["history"] == nil || m["history"].([]any)[0].(object)["node"] != string(n.Name()) {
			t.Error(m)
		}
		if m := do(t, h, "GET", "/v1/executors/sums/tasks/good", "").json(t); m["state"] != "ok" || durable && m["result"] != 4.0 {
			t.Error(m)
		}
		// The newest first, and page by page.
		var ids []string
		for after := ""; ; {
			l := do(t, h, "GET", "/v1/executors/sums/tasks?limit=1&after="+url.QueryEscape(after), "").json(t)
			for _, x := range l["tasks"].([]any) {
				ids = append(ids, x.(object)["id"].(string))
			}
			if after, _ = l["next"].(string); after == "" {
				break
			}
		}
		if fmt.Sprint(ids) != "[bad good late]" {
			t.Error(ids)
		}
		for filter, want := range map[string]string{"state=ended": "bad good", "state=failed": "bad", "state=ok&prefix=go": "good", "key=k": "late", "action=x": "", "state=parked": ""} {
			var got []string
			for _, x := range do(t, h, "GET", "/v1/executors/sums/tasks?"+filter, "").json(t)["tasks"].([]any) {
				got = append(got, x.(object)["id"].(string))
			}
			if strings.Join(got, " ") != want {
				t.Errorf("%s: %q, want %q", filter, got, want)
			}
		}
		do(t, h, "GET", "/v1/executors/sum/tasks", "").problem(t, 404, "unknown-executor", "never ran")
		if m := do(t, h, "GET", "/v1/executors/sums/tasks/goodd", "").problem(t, 404, "unknown-task", "never ran"); !strings.Contains(fmt.Sprint(m["detail"]), `did you mean "good"`) {
			t.Error(m)
		}
		do(t, h, "POST", "/v1/executors/sums/tasks/good/cancel", "").problem(t, 409, "conflict", "never ran")
		do(t, h, "POST", "/v1/executors/sums/tasks/good/retry", "").problem(t, 409, "conflict", "never ran")
		if durable {
			operateDurable(t, h)
		} else {
			do(t, h, "POST", "/v1/executors/sums/tasks/bad/retry", "").problem(t, 409, "conflict", "never ran")
			do(t, h, "POST", "/v1/executors/sums/tasks/late/park", `{"reason":"x"}`).problem(t, 409, "conflict", "never ran")
		}
		late := "late"
		if durable {
			late = "late2" // the other has run
		}
		if a := do(t, h, "POST", "/v1/executors/sums/tasks/"+late+"/cancel", ""); a.status != 202 {
			t.Error(a)
		}
		if m := do(t, h, "GET", "/v1/executors/sums/tasks/"+late, "").json(t); m["state"] != "cancelled" {
			t.Error(m)
		}
		if a := do(t, h, "POST", "/v1/executors/sums/pause", `{"reason":"lunch"}`); a.status != 200 {
			t.Error(a)
		}
		if a := do(t, h, "GET", "/v1/executors?prefix=su", ""); !strings.Contains(a.body, `"paused":"lunch"`) {
			t.Error(a.body)
		}
		if a := do(t, h, "POST", "/v1/executors/sums/resume", ""); a.status != 200 || strings.Contains(do(t, h, "GET", "/v1/executors", "").body, "lunch") {
			t.Error(a)
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}

func operateDurable(t *testing.T, h *handler) {
	t.Helper()
	state := func(id, want string) {
		t.Helper()
		geartest.Eventually(t, 10*time.Second, id+" is "+want, func() bool {
			return do(t, h, "GET", "/v1/executors/sums/tasks/"+id, "").json(t)["state"] == want
		})
	}
	for _, c := range [][]string{{"late", "park", `{"reason":"ask first"}`, "parked"}, {"late", "retry", "", "ok"}, {"bad", "retry", "", "failed"}} {
		if a := do(t, h, "POST", "/v1/executors/sums/tasks/"+c[0]+"/"+c[1], c[2]); a.status != 202 {
			t.Error(c, a)
		}
		state(c[0], c[3])
		if c[1] == "park" {
			if m := do(t, h, "GET", "/v1/executors/sums/tasks/late", "").json(t); m["reason"] != "ask first" {
				t.Error(m)
			}
			if a := do(t, h, "GET", "/v1/doctor", ""); !strings.Contains(a.body, `"code":"parked"`) {
				t.Error(a.body)
			}
		}
	}
	if a := do(t, h, "POST", "/v1/executors/sums/tasks?async&id=late2&delay=1h", `{"action":"half","input":2}`); a.status != 202 {
		t.Error(a)
	}
}

// TestTasks_Stream: a task is told now, and when it has changed.
func TestTasks_Stream(t *testing.T) {
	n := 0
	url, _ := running(t, &fake{gone: make(chan struct{}), onTasks: func(string, executor.TaskFilter) iter.Seq2[executor.TaskInfo, error] {
		return func(yield func(executor.TaskInfo, error) bool) {
			if n++; n == 3 {
				yield(executor.TaskInfo{}, executor.ErrNoExecutor)
				return
			}
			yield(executor.TaskInfo{ID: "t", State: []string{"", "ready", "leased"}[n], Submitted: t0, Since: t0}, nil)
		}
	}}, Config{Heartbeat: time.Hour})
	resp := get(t, http.MethodGet, url+"/v1/executors/x/tasks", "", "Accept: text/event-stream")
	defer resp.Body.Close()
	var got []string
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		if text, ok := strings.CutPrefix(lines.Text(), "data: "); ok {
			got = append(got, text)
		}
	}
	if len(got) != 3 || !strings.Contains(got[0], "ready") || !strings.Contains(got[1], "leased") || !strings.Contains(got[2], "unknown-executor") || !json.Valid([]byte(got[1])) {
		t.Errorf("%q", got)
	}
}
