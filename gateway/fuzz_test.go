package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"iter"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/distgear/distgear"
	"github.com/distgear/distgear/executor"
	"github.com/distgear/distgear/record"
)

// FuzzGateway: no method, path, query, header or body makes a panic or a 5xx of
// the gateway's own, and every answer is documented.
func FuzzGateway(f *testing.F) {
	for _, seed := range [][5]string{
		{"POST", "/", "", "", `{"event":"e","parameters":[1]}`}, {"POST", "/", "", "", `{`}, {"POST", "/", "", "", `[]`},
		{"POST", "/v1/events/e", "async", "", `{"a":1}`}, {"POST", "/v1/events/e", "wait=0s&id=x&delay=1s", "", "null x"}, {"POST", "/v1/events/fails", "", "", ""},
		{"GET", "/v1/runs", "event=deploy&state=ok&limit=2", "", ""}, {"GET", "/v1/runs/run-1", "", "text/event-stream", ""}, {"GET", "/v1/runs/run-1/events", "", "", ""},
		{"POST", "/v1/runs/run-1/cancel", "", "", ""}, {"POST", "/v1/runs/run-1/undo/a%2Fb", "", "", `{"how":"skip","reason":"x"}`},
		{"GET", "/v1/executors", "prefix=a&limit=1", "", ""}, {"GET", "/v1/executors/x/tasks", "state=ended&after=3@", "", ""}, {"GET", "/v1/executors/x/tasks", "", "text/event-stream", ""},
		{"POST", "/v1/executors/x/tasks", "async&id=a", "", `{"action":"a","input":{"b":1},"retries":2,"timeout":"1s","labels":["k=v"],"deadline":"2030-01-01T00:00:00Z"}`},
		{"POST", "/v1/executors/x/tasks", "", "", `{"action":7}`}, {"GET", "/v1/executors/x/tasks/a%2Fb", "", "", ""}, {"POST", "/v1/executors/x/tasks/t/park", "", "", `{"reason":"r"}`},
		{"POST", "/v1/executors/x/tasks/t/retry", "", "", "{}"}, {"POST", "/v1/executors/x/pause", "", "", `{"reason":"lunch"}`}, {"POST", "/v1/executors/x/resume", "", "", ""},
		{"GET", "/v1/members", "", "text/event-stream;q=1,*/*", ""}, {"HEAD", "/healthz", "", "", ""}, {"GET", "/v1/openapi.json", "", "", ""},
		{"CONNECT", "/v1/runs", "", "", ""}, {"OPTIONS", "//v1/../%2e%2e/", "%zz", "", "\xff"}, {"", "", "", "", ""},
	} {
		f.Add(seed[0], seed[1], seed[2], seed[3], []byte(seed[4]))
	}
	h := serve(&fake{
		records: []record.Run{run1, run2, run3}, onMembers: members(node1), onWatch: sequence(nil, run2),
		onRun: func(string, record.RunID, ...string) error { return nil },
		onTasks: func(_ string, f executor.TaskFilter) iter.Seq2[executor.TaskInfo, error] {
			return func(yield func(executor.TaskInfo, error) bool) {
				if f.State == "" {
					yield(executor.TaskInfo{}, executor.ErrNoExecutor)
					return
				}
				yield(executor.TaskInfo{ID: "t", Class: executor.Fast, State: "ready"}, nil)
			}
		},
		onLook: func(what string, _ lookQuery) (any, error) {
			if what != lookExecutors {
				return nil, distgear.ErrConflict
			}
			return executorList{Executors: []executor.Info{{Class: executor.Fast}}}, nil
		},
		onOperate: func(string, string, executor.TaskID, string) error { return nil },
		onSubmit: func(_ string, task executor.Named, _ bool) (pendingTask, error) {
			if task.Action == "" || len(task.Input) > 0 && !json.Valid(task.Input) {
				panic("submitted without an action, or with what is no JSON")
			}
			return taskFuture{newFuture("t").resolve("null", nil)}, nil
		},
		onRaise: func(e string, in json.RawMessage, o raiseOptions) (pending, error) {
			if !json.Valid(in) {
				panic("raised with what is no JSON")
			}
			if e == "fails" {
				return failing(&distgear.RemoteError{Outcome: distgear.FailedDirty})(e, in, o)
			}
			return echo(e, in, o)
		},
	}, Config{MaxBody: 1 << 10})
	over := make(chan struct{})
	close(over) // so that streams of the real node end
	alone := newHandler(node{joined(f,
		event("e", func(_ context.Context, _ *distgear.Run, v any) (any, error) { return v, nil }),
		event("fails", func(_ context.Context, _ *distgear.Run, v volume) (volume, error) { return v, errors.New("no room") }),
	)}, Config{MaxBody: 1 << 10}, over)
	f.Fuzz(func(t *testing.T, method, path, query, accept string, body []byte) {
		requestURI := path
		if query != "" {
			requestURI += "?" + query
		}
		u, err := url.ParseRequestURI(requestURI)
		if err != nil || method == "" || strings.ContainsAny(method, " \r\n\t") {
			return // net/http answers those itself
		}
		for _, h := range []*handler{h, alone} {
			if h == alone && u.Query().Has("delay") {
				continue // would wait for it
			}
			r := httptest.NewRequestWithContext(context.Background(), "POST", "/", strings.NewReader(string(body)))
			r.Method, r.URL, r.RequestURI, r.Host = method, u, requestURI, "localhost"
			r.Header.Set("Accept", accept)
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			if w.Code >= 500 {
				t.Errorf("%s %q %q: %d %s", method, requestURI, body, w.Code, w.Body)
			}
			if w.Code != http.StatusTemporaryRedirect {
				documented(t, r, answer{w.Code, w.Result().Header, w.Body.String()})
			}
		}
	})
}
