package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/distgear/distgear"
)

func TestRaise(t *testing.T) {
	h := serve(&fake{onRaise: echo}, Config{})
	for in, out := range map[string]string{
		"": "null", " \n": "null", "null": "null", " 1 ": "1", `"a"`: `"a"`, `{"a":[1,2,{"b":"<&>"}]}`: `{"a":[1,2,{"b":"<&>"}]}`, `[]`: `[]`,
		"{\n\"a\": 1}": "{\n\"a\": 1}",
	} {
		a := do(t, h, "POST", "/v1/events/deploy", in)
		if a.status != 200 || a.body != out+"\n" || a.header.Get("Distgear-Run") != "run-deploy" || a.header.Get("Content-Type") != "application/json" {
			t.Errorf("%q: %v", in, a)
		}
	}
	// A name is one segment, decoded.
	if a := do(t, h, "POST", "/v1/events/a%2Fb%20c", ""); a.header.Get("Distgear-Run") != "run-a/b c" {
		t.Error(a)
	}
}

// TestGateway_S17: malformed input and unknown events are a clear error, and nothing is raised.
func TestGateway_S17(t *testing.T) {
	raised := 0
	h := serve(&fake{onRaise: func(string, json.RawMessage, raiseOptions) (pending, error) {
		raised++
		return nil, distgear.ErrNoNode
	}}, Config{MaxBody: 100})
	for _, body := range []string{"{", "1 2", "{}{}", "{} x", "nul", `{"a":}`, "\"\xff\"", "\xef\xbb\xbf{}", "'a'", "[1,]", "NaN", strings.Repeat("[", 99)} {
		do(t, h, "POST", "/v1/events/e", body).problem(t, 400, "bad-request", "never ran")
	}
	for _, q := range []string{"asnyc", "async=maybe", "wait=5", "wait=-1s", "wait=", "wait=x", "delay=-1s", "async&wait=1s", "id=", "%zz", "a;b", "id=%gg"} {
		do(t, h, "POST", "/v1/events/e?"+q, "{}").problem(t, 400, "bad-request", "never ran")
	}
	do(t, h, "POST", "/v1/events/e", strings.Repeat(" ", 101)).problem(t, 413, "too-large", "never ran")
	if raised != 0 {
		t.Errorf("%d events raised", raised)
	}
	do(t, h, "POST", "/v1/events/nobody", "{}").problem(t, 404, "unknown-event", "never ran")
}

func TestMaxBody(t *testing.T) {
	for _, limit := range []int64{0, -1, distgear.MaxPayload + 1} {
		h := serve(&fake{onRaise: echo}, Config{MaxBody: limit})
		fits := `"` + strings.Repeat("x", maxInput-2) + `"`
		if a := do(t, h, "POST", "/v1/events/e", fits); a.status != 200 {
			t.Errorf("MaxBody %d: %d %.200s", limit, a.status, a.body)
		}
		do(t, h, "POST", "/v1/events/e", fits+" ").problem(t, 413, "too-large", "never ran")
	}
}

func TestRaiseOptions(t *testing.T) {
	var got raiseOptions
	h := serve(&fake{onRaise: func(e string, in json.RawMessage, o raiseOptions) (pending, error) {
		got = o
		return newFuture("run 1/2"), nil // never resolved
	}}, Config{})
	for q, want := range map[string]raiseOptions{
		"async":                          {},
		"async=true&id=deploy-7":         {id: "deploy-7"},
		"async=1&delay=1m30s":            {delay: 90 * time.Second},
		"wait=0s&id=a%20b%2Fc&delay=0s":  {id: "a b/c"},
		"wait=1ms&id=deploy-7&delay=1us": {id: "deploy-7", delay: time.Microsecond},
	} {
		a := do(t, h, "POST", "/v1/events/e?"+q, "")
		if a.status != 202 || got != want || a.json(t)["run"] != "run 1/2" || a.header.Get("Location") != "/v1/runs/run%201%2F2" || a.header.Get("Distgear-Run") != "run 1/2" {
			t.Errorf("%s: %+v, %v", q, got, a)
		}
	}
}

// TestWait: the wait is as long as asked for, no longer than the event, and then the run is named.
func TestWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := serve(&fake{onRaise: func(string, json.RawMessage, raiseOptions) (pending, error) {
			f := newFuture("run-1")
			time.AfterFunc(10*time.Second, func() { f.resolve("7", nil) })
			return f, nil
		}}, Config{})
		for q, want := range map[string]struct {
			status int
			after  time.Duration
		}{
			"": {200, 10 * time.Second}, "?wait=9s": {202, 9 * time.Second}, "?wait=11s": {200, 10 * time.Second}, "?async": {202, 0}, "?async=false": {200, 10 * time.Second},
		} {
			start := time.Now()
			a := do(t, h, "POST", "/v1/events/e"+q, "")
			if took := time.Since(start); a.status != want.status || took != want.after {
				t.Errorf("%q: %d after %v", q, a.status, took)
			}
		}
		synctest.Wait()
		time.Sleep(time.Minute) // for the timers of the runs that nobody waited for
	})
}

// TestResultFirst: a result that is there is given, also where the wait was over.
func TestResultFirst(t *testing.T) {
	for range 100 {
		h := serve(&fake{onRaise: echo}, Config{})
		if a := do(t, h, "POST", "/v1/events/e?wait=0s", "7"); a.status != 200 || a.body != "7\n" {
			t.Fatal(a)
		}
	}
}

// TestGoneClient: a client that goes away gets no answer, and its run is not cancelled.
func TestGoneClient(t *testing.T) {
	for _, target := range []string{"/v1/events/e", "/v1/events/e?wait=1h", "/"} {
		ctx, leave := context.WithCancel(t.Context())
		f := newFuture("run-1")
		h := serve(&fake{onRaise: func(string, json.RawMessage, raiseOptions) (pending, error) {
			leave()
			return f, nil // fake.raise checks that leaving does not reach it
		}}, Config{})
		r := httptest.NewRequestWithContext(ctx, "POST", target, strings.NewReader(`{"event":"e"}`))
		r.Host = "localhost"
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Body.Len() != 0 {
			t.Errorf("%s: answered %s", target, w.Body)
		}
	}
}

// TestErrors is the status table.
func TestErrors(t *testing.T) {
	remote := func(o distgear.Outcome, message string) error {
		return &distgear.RemoteError{Node: "node-2", Kind: "e", Message: message, Outcome: o}
	}
	said := func(o distgear.Outcome, target error) error { // as the framework reports it
		return errors.Join(remote(o, target.Error()+": more"), target)
	}
	met := func(o distgear.Outcome, target error) error { // something below the handler did
		return errors.Join(remote(o, "plan 1: step a: "+target.Error()), target)
	}
	for _, c := range []struct {
		err           error
		status        int
		slug, outcome string
		node          any
		clean         any
	}{
		{distgear.ErrNoNode, 404, "unknown-event", "never ran", nil, nil},
		{fmt.Errorf("raise e: %w", distgear.ErrNoNode), 404, "unknown-event", "never ran", nil, nil},
		{distgear.ErrLeft, 503, "unavailable", "never ran", nil, nil},
		{distgear.ErrRefused, 503, "unavailable", "never ran", nil, nil},
		{distgear.ErrOverloaded, 503, "overloaded", "never ran", nil, nil},
		{distgear.ErrQueueTimeout, 503, "overloaded", "never ran", nil, nil},
		{distgear.ErrUnknown, 504, "outcome-unknown", "unknown", nil, nil},
		{errors.New("whatever"), 504, "outcome-unknown", "unknown", nil, nil},
		{remote(distgear.FailedDirty, "no room"), 422, "event-failed", "failed", "node-2", nil},
		{remote(distgear.FailedClean, "no room"), 422, "event-failed", "failed", "node-2", true},
		{remote(distgear.Unknown, "?"), 504, "outcome-unknown", "unknown", "node-2", nil},
		{remote(distgear.NeverRan, "?"), 503, "unavailable", "never ran", "node-2", nil},
		{said(distgear.FailedClean, distgear.ErrInvalid), 400, "wrong-input", "failed", "node-2", true},
		{said(distgear.NeverRan, distgear.ErrInvalid), 400, "wrong-input", "never ran", "node-2", nil},
		{said(distgear.FailedDirty, distgear.ErrInvalid), 422, "event-failed", "failed", "node-2", nil}, // a faulty plan
		{said(distgear.FailedClean, distgear.ErrConflict), 409, "conflict", "failed", "node-2", true},
		{said(distgear.FailedDirty, distgear.ErrTimeout), 422, "event-timed-out", "failed", "node-2", nil},
		{said(distgear.FailedDirty, distgear.ErrCancelled), 409, "cancelled", "failed", "node-2", nil},
		{said(distgear.NeverRan, distgear.ErrCancelled), 409, "cancelled", "never ran", "node-2", nil},
		{said(distgear.NeverRan, distgear.ErrQueueTimeout), 503, "overloaded", "never ran", "node-2", nil},
		{said(distgear.NeverRan, distgear.ErrNoNode), 404, "unknown-event", "never ran", "node-2", nil},
		{said(distgear.NeverRan, distgear.ErrLeft), 503, "unavailable", "never ran", "node-2", nil},
		// What the handler met is the event's failure, and not that of raising it.
		{said(distgear.FailedDirty, distgear.ErrNoNode), 422, "event-failed", "failed", "node-2", nil},
		{met(distgear.FailedDirty, distgear.ErrOverloaded), 422, "event-failed", "failed", "node-2", nil},
		{met(distgear.FailedDirty, distgear.ErrTimeout), 422, "event-failed", "failed", "node-2", nil},
		{met(distgear.FailedDirty, distgear.ErrCancelled), 422, "event-failed", "failed", "node-2", nil},
		{met(distgear.FailedClean, distgear.ErrInvalid), 422, "event-failed", "failed", "node-2", true}, // rolled back
		{met(distgear.FailedClean, distgear.ErrConflict), 422, "event-failed", "failed", "node-2", true},
	} {
		for _, late := range []bool{false, true} {
			h := serve(&fake{onRaise: func(string, json.RawMessage, raiseOptions) (pending, error) {
				if late {
					return newFuture("run-1").resolve("", c.err), nil
				}
				return nil, c.err
			}}, Config{})
			a := do(t, h, "POST", "/v1/events/e", "{}")
			m := a.problem(t, c.status, c.slug, c.outcome)
			if m["node"] != c.node || m["clean"] != c.clean || m["detail"] != c.err.Error() || m["title"] == "" || late != (m["run"] == "run-1") {
				t.Errorf("%v: %v", c.err, m)
			}
			if (a.status == 503) != (a.header.Get("Retry-After") != "") {
				t.Errorf("%v: Retry-After %q", c.err, a.header.Get("Retry-After"))
			}
			// The same for a program of the original.
			if a := do(t, h, "POST", "/", `{"event":"e"}`); a.status != 200 || a.json(t)["status"] != "fail" || a.json(t)["result"] != c.err.Error() {
				t.Errorf("%v: %v", c.err, a)
			}
		}
	}
}

func TestLegacy(t *testing.T) {
	h := serve(&fake{onRaise: func(e string, in json.RawMessage, o raiseOptions) (pending, error) {
		if e == "nobody" {
			return nil, distgear.ErrNoNode
		}
		return echo(e, in, o)
	}}, Config{MaxBody: 200})
	for body, want := range map[string]string{
		`{"event":"e","parameters":{"a":1}}`:           `{"status":"success","result":{"a":1}}`,
		`{"event":"e"}`:                                `{"status":"success","result":null}`,
		` {"parameters":"x","event":"e","more":1} `:    `{"status":"success","result":"x"}`,
		`{"event":"e","parameters":null}`:              `{"status":"success","result":null}`,
		`{"event":"x","event":"e","parameters":[1,2]}`: `{"status":"success","result":[1,2]}`,
	} {
		if a := do(t, h, "POST", "/", body, "Content-Type: application/x-www-form-urlencoded"); a.status != 200 || a.body != want+"\n" {
			t.Errorf("%s: %v", body, a)
		}
	}
	for body, want := range map[string]string{
		"": "no JSON", "{": "no JSON", "nope": "no JSON", `{"event":"e"} {}`: "no JSON", "\xff": "UTF-8",
		"null": "no object", "[]": "no object", "1": "no object", `"event"`: "no object", `[{"event":"e"}]`: "no object",
		"{}": "name of an event", `{"event":1}`: "name of an event", `{"event":""}`: "name of an event", `{"event":null}`: "name of an event", `{"EVENT":"e"}`: "name of an event",
		`{"event":"nobody"}`: "no node", strings.Repeat(" ", 201): "larger than 200",
	} {
		a := do(t, h, "POST", "/", body)
		m := a.json(t)
		if result, _ := m["result"].(string); a.status != 200 || m["status"] != "fail" || !strings.Contains(result, want) {
			t.Errorf("%.20q: %v", body, a)
		}
	}
	if a := do(t, h, "POST", "/?x=1", `{"event":"e"}`); a.status != 200 || a.json(t)["status"] != "success" {
		t.Error(a)
	}
}

// TestErrors_Invalid: what the raise itself found is the request's fault; what
// comes after it was sent says nothing of whether it ran.
func TestErrors_Invalid(t *testing.T) {
	h := serve(&fake{onRaise: func(string, json.RawMessage, raiseOptions) (pending, error) {
		return nil, distgear.ErrInvalid
	}}, Config{})
	do(t, h, "POST", "/v1/events/e", "{}").problem(t, 400, "bad-request", "never ran")
	h = serve(&fake{onRaise: failing(distgear.ErrInvalid)}, Config{})
	do(t, h, "POST", "/v1/events/e", "{}").problem(t, 504, "outcome-unknown", "unknown")
}

// TestHubsEvents: what the hub raises about nodes nobody else does.
func TestHubsEvents(t *testing.T) {
	h := serve(&fake{onRaise: echo}, Config{})
	for _, name := range []string{distgear.NodeJoin, distgear.NodeLost} {
		do(t, h, "POST", "/v1/events/"+name, "{}").problem(t, 404, "unknown-event", "never ran")
		if a := do(t, h, "POST", "/", `{"event":"`+name+`"}`); a.json(t)["status"] != "fail" {
			t.Error(a)
		}
	}
}

// TestTornBody: a body that breaks off is not taken for a shorter one.
func TestTornBody(t *testing.T) {
	h := serve(&fake{onRaise: echo}, Config{})
	r := httptest.NewRequestWithContext(t.Context(), "POST", "/v1/events/e", iotest.TimeoutReader(iotest.OneByteReader(strings.NewReader("1234"))))
	r.Host = "localhost"
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	answer{w.Code, w.Header(), w.Body.String()}.problem(t, http.StatusBadRequest, "bad-request", "never ran")
}
