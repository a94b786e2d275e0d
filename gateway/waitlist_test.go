package gateway

import (
	"encoding/json"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/distgear/distgear"
	"github.com/distgear/distgear/record"
)

// accepts is a backend that accepts every event for f.
func accepts(f *future) *fake {
	return &fake{onRaise: func(string, json.RawMessage, raiseOptions) (pending, error) { return f, nil }}
}

// TestAccepted: a run that was answered with 202 can be asked for at once, also
// before any node knows of it, and where none ever will.
func TestAccepted(t *testing.T) {
	for _, c := range []struct {
		err   error
		state string
	}{
		{nil, "ok"}, {distgear.ErrLeft, "failed"}, {&distgear.RemoteError{Node: "node-2", Kind: "e", Message: "no", Outcome: distgear.NeverRan}, "failed"},
	} {
		f := newFuture("run-1")
		h := serve(accepts(f), Config{})
		do(t, h, "GET", "/v1/runs/run-1", "").problem(t, 404, "unknown-run", "never ran")
		if a := do(t, h, "POST", "/v1/events/deploy?async&delay=1h", ""); a.status != 202 {
			t.Fatal(a)
		}
		if m := do(t, h, "GET", "/v1/runs/run-1", "").json(t); m["state"] != "waiting" || m["event"] != "deploy" || m["version"] != 0.0 {
			t.Error(m)
		}
		h.b.(*fake).onRun = func(string, record.RunID, ...string) error { return distgear.ErrNoRun }
		do(t, h, "POST", "/v1/runs/run-1/cancel", "").problem(t, 409, "conflict", "never ran")
		do(t, h, "POST", "/v1/runs/run-2/cancel", "").problem(t, 404, "unknown-run", "never ran")
		f.resolve("7", c.err)
		m := do(t, h, "GET", "/v1/runs/run-1", "").json(t)
		if m["state"] != c.state || (c.err == nil) != (m["result"] == 7.0) || c.err != nil && m["error"] != c.err.Error() {
			t.Errorf("%v: %v", c.err, m)
		}
		if got := sketch(t, do(t, h, "GET", "/v1/runs/run-1/events", "").body); got != "1:run end:end" {
			t.Errorf("%v: %s", c.err, got)
		}
	}
}

// TestAccepted_ByID: a run whose id the client gave can be watched while the
// client waits for its result.
func TestAccepted_ByID(t *testing.T) {
	f := newFuture("deploy-7")
	h := serve(accepts(f), Config{})
	result := make(chan answer)
	go func() { result <- do(t, h, "POST", "/v1/events/e?id=deploy-7", "") }()
	for do(t, h, "GET", "/v1/runs/deploy-7", "").status == 404 { // until it is raised
		runtime.Gosched()
	}
	if m := do(t, h, "GET", "/v1/runs/deploy-7", "").json(t); m["state"] != "waiting" {
		t.Error(m)
	}
	f.resolve("7", nil)
	if a := <-result; a.body != "7\n" {
		t.Error(a)
	}
}

// TestAccepted_Stream: a watch of a run that has not begun goes over into that
// of the run, or ends with what kept it from beginning.
func TestAccepted_Stream(t *testing.T) {
	for name, c := range map[string]struct {
		after func(*fake, *future)
		want  string
	}{
		"begins": {func(b *fake, _ *future) {
			b.records, b.onWatch = versions("", 1), sequence(nil, versions("ok", 1, 2, 3)...)
		}, "0:run 1:run 2:run 3:run end:end"},
		"is refused":        {func(_ *fake, f *future) { f.resolve("", distgear.ErrNoNode) }, "0:run 1:run end:end"},
		"cannot be watched": {func(b *fake, _ *future) { b.listErr = distgear.ErrUnknown }, "0:run error"},
	} {
		synctest.Test(t, func(t *testing.T) {
			f := newFuture("run-1")
			b := accepts(f)
			h := serve(b, Config{})
			do(t, h, "POST", "/v1/events/e?async", "")
			body := make(chan string)
			go func() { body <- stream1(t.Context(), h, []string{"/v1/runs/run-1/events"}) }()
			time.Sleep(10 * time.Second)
			b.mu.Lock()
			c.after(b, f)
			b.mu.Unlock()
			if got := sketch(t, <-body); got != c.want {
				t.Errorf("%s: %s, want %s", name, got, c.want)
			}
		})
	}
}
