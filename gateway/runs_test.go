package gateway

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/distgear/distgear"
	"github.com/distgear/distgear/cluster"
	"github.com/distgear/distgear/record"
)

// TestListRuns_Stream: the list is told again when it has changed.
func TestListRuns_Stream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &fake{records: []record.Run{run1, run2}}
		h := serve(b, Config{})
		go func() {
			time.Sleep(3 * lookEvery / 2)
			b.mu.Lock()
			b.records = []record.Run{run3, run2, run1}
			b.mu.Unlock()
		}()
		ctx, cancel := context.WithTimeout(t.Context(), 5*lookEvery/2)
		defer cancel()
		body := stream1(ctx, h, []string{"/v1/runs?event=deploy", "Accept: text/event-stream"})
		if strings.Count(body, "event: runs\n") != 2 || strings.Index(body, "run-3") < strings.Index(body, "run-1") || strings.Contains(body, "run-2") {
			t.Error(body)
		}
	})
	do(t, serve(&fake{listErr: distgear.ErrNoNode}, Config{}), "GET", "/v1/runs", "", "Accept: text/event-stream").problem(t, 503, "unavailable", "never ran")
}

func TestListRuns(t *testing.T) {
	h := serve(&fake{records: []record.Run{run1, run2, run3}}, Config{})
	for q, want := range map[string]string{
		"": "run-1 run-2 run-3", "?limit=2": "run-1 run-2", "?event=deploy": "run-1 run-3", "?event=deploy&event=stop": "run-1 run-2 run-3", "?event=": "",
		"?state=ok": "run-2", "?state=rolled%20back": "run-3", "?state=ok&state=running": "run-1 run-2", "?event=deploy&state=ok": "", "?event=deploy&limit=1": "run-1",
	} {
		a := do(t, h, "GET", "/v1/runs"+q, "")
		if more := strings.Contains(a.body, `"more":true`); more != strings.Contains(q, "limit=") {
			t.Errorf("%s: %s", q, a.body)
		}
		var ids []string
		for _, r := range a.json(t)["runs"].([]any) {
			ids = append(ids, r.(object)["id"].(string))
			for _, heavy := range []string{"plans", "input", "result"} {
				if _, ok := r.(object)[heavy]; ok {
					t.Errorf("%s: %s in a list", q, heavy)
				}
			}
		}
		if got := strings.Join(ids, " "); got != want {
			t.Errorf("%s: %s, want %s", q, got, want)
		}
	}
	for _, q := range []string{"limit=0", "limit=-1", "limit=x", "limit=10001", "limit=", "state=done", "state=", "sate=ok"} {
		do(t, h, "GET", "/v1/runs?"+q, "").problem(t, 400, "bad-request", "never ran")
	}
	// A list that could not be completed is no list.
	h = serve(&fake{records: []record.Run{run1}, listErr: distgear.ErrUnknown}, Config{})
	do(t, h, "GET", "/v1/runs", "").problem(t, 504, "outcome-unknown", "unknown")
}

func TestFindRun(t *testing.T) {
	h := serve(&fake{records: []record.Run{run1, run2}}, Config{})
	m := do(t, h, "GET", "/v1/runs/run-1", "").json(t)
	steps := m["plans"].([]any)[0].(object)["steps"].([]any)
	if m["state"] != "running" || len(steps) != 2 || steps[1].(object)["node"] != "node-2" || m["input"].(object)["name"] != "data" {
		t.Error(m)
	}
	if a := do(t, h, "HEAD", "/v1/runs/run-1", "", "Accept: text/event-stream"); a.status != 200 || a.header.Get("Content-Type") != "application/json" {
		t.Error(a)
	}
	do(t, h, "GET", "/v1/runs/run-9", "").problem(t, 404, "unknown-run", "never ran")
	do(t, h, "GET", "/v1/runs/run-1?x", "").problem(t, 400, "bad-request", "never ran")
}

// TestRunVerbs: cancel and undo reach the run, and say what keeps them from it.
func TestRunVerbs(t *testing.T) {
	var got []string
	var err error
	h := serve(&fake{onRun: func(verb string, id record.RunID, args ...string) error {
		got = append([]string{verb, string(id)}, args...)
		return err
	}}, Config{})
	for _, c := range []struct{ target, body, want string }{
		{"/v1/runs/run-1/cancel", "", "cancel run-1"},
		{"/v1/runs/run-1/cancel", "{}", "cancel run-1"},
		{"/v1/runs/run-1/undo/mount", `{"how":"retry"}`, "undo run-1 mount retry "},
		{"/v1/runs/run-1/undo/plan%2Fmount%201", `{"how":"skip","reason":"gone"}`, "undo run-1 plan/mount 1 skip gone"},
		{"/v1/runs/run-1/undo/mount", `{"reason":"by hand","how":"done"}`, "undo run-1 mount done by hand"},
	} {
		a := do(t, h, "POST", c.target, c.body)
		if a.status != 202 || a.json(t)["run"] != "run-1" || a.header.Get("Location") != "/v1/runs/run-1" || strings.Join(got, " ") != c.want {
			t.Errorf("%s: %q, %v", c.target, got, a)
		}
	}
	got = nil
	for _, body := range []string{"", "null", "{}", "[]", "x", `{"how":"Retry"}`, `{"how":1}`, `{"how":"undo"}`, `{"how":"skip"}`, `{"how":"done","reason":""}`, `{"how":"retry","resaon":"x"}`, `{"how":"retry","reason":1}`} {
		do(t, h, "POST", "/v1/runs/run-1/undo/mount", body).problem(t, 400, "bad-request", "never ran")
	}
	do(t, h, "POST", "/v1/runs/run-1/undo/mount?how=retry", `{"how":"retry"}`).problem(t, 400, "bad-request", "never ran")
	do(t, h, "POST", "/v1/runs/run-1/cancel?now", "").problem(t, 400, "bad-request", "never ran")
	if got != nil {
		t.Errorf("reached the run: %q", got)
	}
	for _, c := range []struct {
		err           error
		status        int
		slug, outcome string
	}{
		{distgear.ErrNoRun, 404, "unknown-run", "never ran"},
		{fmt.Errorf("step x: %w", distgear.ErrInvalid), 409, "conflict", "never ran"},
		{&distgear.RemoteError{Node: "node-2", Kind: "cancel", Message: "it is over", Outcome: distgear.NeverRan}, 409, "conflict", "never ran"},
		{distgear.ErrOverloaded, 503, "overloaded", "never ran"},
		{distgear.ErrNoNode, 503, "unavailable", "never ran"},
		{distgear.ErrLeft, 503, "unavailable", "never ran"},
		{distgear.ErrUnknown, 504, "outcome-unknown", "unknown"},
		{context.DeadlineExceeded, 504, "outcome-unknown", "unknown"},
		{context.Canceled, 503, "stopping", "unknown"},
	} {
		err = c.err
		do(t, h, "POST", "/v1/runs/run-1/cancel", "").problem(t, c.status, c.slug, c.outcome)
		do(t, h, "POST", "/v1/runs/run-1/undo/mount", `{"how":"retry"}`).problem(t, c.status, c.slug, c.outcome)
	}
}

// sequence is a watch that yields rs and then err, if there is one.
func sequence(err error, rs ...record.Run) func(context.Context, record.RunID) iter.Seq2[record.Run, error] {
	return func(context.Context, record.RunID) iter.Seq2[record.Run, error] {
		return func(yield func(record.Run, error) bool) {
			for _, r := range rs {
				if !yield(r, nil) {
					return
				}
			}
			if err != nil {
				yield(record.Run{}, err)
			}
		}
	}
}

func versions(state string, vs ...uint64) (rs []record.Run) {
	for i, v := range vs {
		r := run1
		if r.Version = v; i == len(vs)-1 {
			r.State = record.RunState(state)
		}
		rs = append(rs, r)
	}
	return rs
}

// sketch is a stream as id:event lines, data left out but for its shape.
func sketch(t *testing.T, body string) string {
	t.Helper()
	var lines []string
	if body == "" {
		return ""
	}
	if !strings.HasSuffix(body, "\n\n") {
		t.Errorf("a stream is torn: %q", body)
	}
	for block := range strings.SplitSeq(strings.TrimSuffix(body, "\n\n"), "\n\n") {
		var id, event string
		for line := range strings.SplitSeq(block, "\n") {
			name, value, _ := strings.Cut(line, ": ")
			switch name {
			case "id":
				id = value
			case "event":
				event = value
			case "data":
				var schema string
				switch event {
				case "run":
					schema = "RunRecord"
				case "member":
					schema = "Member"
				case "error":
					schema = "Problem"
				}
				v := answer{body: value}.json(t)
				if schema != "" {
					for _, f := range faults(v, at(document(), "components", "schemas", schema), event) {
						t.Error(f)
					}
				} else if event != "end" || v["id"] != "run-1" || v["state"] == nil {
					t.Errorf("event %s: %s", event, value)
				}
			case "":
				event = "(" + value + ")"
			default:
				t.Errorf("line %q", line)
			}
		}
		lines = append(lines, strings.TrimPrefix(id+":"+event, ":"))
	}
	return strings.Join(lines, " ")
}

func TestStream(t *testing.T) {
	for _, c := range []struct {
		name, last, want string
		watch            func(context.Context, record.RunID) iter.Seq2[record.Run, error]
	}{
		{"all", "", "3:run 4:run 7:run end:end", sequence(nil, versions("ok", 3, 4, 7)...)},
		{"over already", "", "7:run end:end", sequence(nil, versions("failed", 7)...)},
		{"resumed", "4", "7:run end:end", sequence(nil, versions("ok", 3, 4, 7)...)},
		{"resumed at the last", "7", "end:end", sequence(nil, versions("ok", 7)...)},
		{"an id of somebody else's", "x", "7:run end:end", sequence(nil, versions("ok", 7)...)},
		{"version 0 seen", "0", "1:run end:end", sequence(nil, versions("ok", 0, 1)...)},
		{"from version 0", "", "0:run 1:run end:end", sequence(nil, versions("ok", 0, 1)...)},
		{"broken", "", "3:run error", sequence(distgear.ErrUnknown, versions("running", 3)...)},
	} {
		h := serve(&fake{onWatch: c.watch}, Config{})
		for _, target := range [][]string{{"/v1/runs/run-1/events"}, {"/v1/runs/run-1", "Accept: text/html, Text/Event-Stream;q=0.9"}} {
			a := do(t, h, "GET", target[0], "", append(target[1:], "Last-Event-ID: "+c.last)...)
			if got := sketch(t, a.body); a.status != 200 || a.header.Get("Content-Type") != "text/event-stream" || got != c.want {
				t.Errorf("%s: %d %s, want %s", c.name, a.status, got, c.want)
			}
		}
	}
	h := serve(&fake{onWatch: sequence(distgear.ErrNoRun)}, Config{})
	do(t, h, "GET", "/v1/runs/run-9/events", "").problem(t, 404, "unknown-run", "never ran")
	do(t, h, "GET", "/v1/runs/run-9/events?from=1", "").problem(t, 400, "bad-request", "never ran")
	if a := do(t, h, "GET", "/v1/runs/run-1/events", "", "Last-Event-ID: end"); a.status != 204 || a.body != "" {
		t.Error(a)
	}
}

// TestStream_Heartbeat: a stream that has nothing to say says so.
func TestStream_Heartbeat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := serve(&fake{onWatch: func(ctx context.Context, _ record.RunID) iter.Seq2[record.Run, error] {
			return func(yield func(record.Run, error) bool) {
				for i, r := range versions("ok", 1, 2, 3) {
					time.Sleep(time.Duration(i) * 35 * time.Second)
					if !yield(r, nil) {
						return
					}
				}
			}
		}}, Config{})
		want := "1:run (still here) (still here) 2:run (still here) (still here) (still here) (still here) (still here) 3:run end:end"
		if got := sketch(t, do(t, h, "GET", "/v1/runs/run-1/events", "").body); got != want {
			t.Error(got)
		}
	})
}

// TestStream_Ends: with the client, and with the gateway; nothing of it is left (goleak).
func TestStream_Ends(t *testing.T) {
	quit := make(chan struct{})
	watching := make(chan struct{}, 4) // one for each stream below
	silent := func(ctx context.Context) { watching <- struct{}{}; <-ctx.Done() }
	b := &fake{
		onWatch: func(ctx context.Context, _ record.RunID) iter.Seq2[record.Run, error] {
			return func(func(record.Run, error) bool) { silent(ctx) }
		},
		onMembers: func(ctx context.Context) iter.Seq2[cluster.Member, error] {
			return func(yield func(cluster.Member, error) bool) {
				if yield(node1, nil) {
					silent(ctx)
				}
			}
		},
	}
	streams := [][]string{{"/v1/runs/run-1/events"}, {"/v1/members", "Accept: text/event-stream"}}
	for _, byClient := range []bool{true, false} {
		ctx, leave := context.WithCancel(t.Context())
		h := newHandler(b, Config{}, quit)
		done := make(chan string)
		for _, s := range streams {
			go func() { done <- stream1(ctx, h, s) }()
		}
		<-watching
		<-watching
		if byClient {
			leave()
		} else {
			close(quit)
		}
		got := []string{sketch(t, <-done), sketch(t, <-done)}
		slices.Sort(got)
		want := []string{"", "member"}
		if !byClient {
			want = []string{"(the gateway is stopping)", "member (the gateway is stopping)"}
		}
		if !slices.Equal(got, want) {
			t.Errorf("by client %v: %q", byClient, got)
		}
		leave()
	}
}

// TestStream_SlowClient: one that does not take what is sent ends its stream only.
func TestStream_SlowClient(t *testing.T) {
	h := serve(&fake{onWatch: sequence(nil, versions("ok", 1, 2, 3)...)}, Config{})
	w := &brokenWriter{}
	h.ServeHTTP(w, request(t.Context(), "GET", "/v1/runs/run-1/events"))
	if w.writes != 2 { // the empty one that sends the header, and the first event
		t.Errorf("%d writes", w.writes)
	}
}

type brokenWriter struct {
	statusOnly
	writes int
}

func (b *brokenWriter) Write(p []byte) (int, error) {
	if b.writes++; len(p) > 0 {
		return 0, errors.New("broken pipe")
	}
	return 0, nil
}
