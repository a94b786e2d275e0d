package gateway

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/distgear/distgear"
	"github.com/distgear/distgear/record"
)

type volume struct {
	Name string `json:"name"`
	Size int    `json:"size"`
}

// joined is a node alone that handles hs and leaves when the test is over.
func joined(t testing.TB, hs ...distgear.Handler) *distgear.Node {
	t.Helper()
	n, err := distgear.Join(t.Context(), distgear.Config{Name: "node-1"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := n.Leave(ctx); err != nil {
			t.Error(err)
		}
	})
	if err := n.Handle(hs...); err != nil {
		t.Fatal(err)
	}
	return n
}

func event[In, Out any](name string, on func(ctx context.Context, r *distgear.Run, in In) (Out, error)) *distgear.Event[In, Out] {
	return &distgear.Event[In, Out]{Name: name, On: on}
}

// TestNode_Values: JSON goes in and comes out, whatever type the handler has.
func TestNode_Values(t *testing.T) {
	n := joined(t,
		event("volume", func(_ context.Context, _ *distgear.Run, v volume) (volume, error) { return v, nil }),
		event("string", func(_ context.Context, _ *distgear.Run, v string) (string, error) { return v + "!", nil }),
		event("bytes", func(_ context.Context, _ *distgear.Run, v []byte) ([]byte, error) { return append(v, 0xff), nil }),
		event("int", func(_ context.Context, _ *distgear.Run, v int) (int, error) { return v + 1, nil }),
		event("any", func(_ context.Context, _ *distgear.Run, v any) (any, error) { return v, nil }),
		event("raw", func(_ context.Context, _ *distgear.Run, v json.RawMessage) (json.RawMessage, error) { return v, nil }),
		event("none", func(context.Context, *distgear.Run, struct{}) (struct{}, error) { return struct{}{}, nil }),
		event("pointer", func(context.Context, *distgear.Run, *volume) (*volume, error) { return nil, nil }),
	)
	url, _ := running(t, node{n}, Config{})
	for _, c := range []struct{ event, in, out string }{
		{"volume", `{"name":"data","size":3}`, `{"name":"data","size":3}`}, {"volume", "", `{"name":"","size":0}`}, {"volume", "null", `{"name":"","size":0}`},
		{"string", `"a"`, `"a!"`}, {"string", "", `"!"`}, {"bytes", `"YQ=="`, `"Yf8="`}, {"int", "41", "42"}, {"int", "", "1"},
		{"any", `{"a":[1,null]}`, `{"a":[1,null]}`}, {"any", "", "null"}, {"raw", `[1, 2]`, `[1, 2]`}, {"raw", "", "null"},
		{"none", "{}", "null"}, {"none", "", "null"}, {"pointer", "", "null"}, {"pointer", "{}", "null"},
	} {
		if a := ask(t, "POST", url+"/v1/events/"+c.event, c.in); a.status != 200 || a.body != c.out+"\n" {
			t.Errorf("%s(%s): %d %s", c.event, c.in, a.status, a.body)
		}
		if c.in == "" {
			continue
		}
		if a := ask(t, "POST", url+"/", fmt.Sprintf(`{"event":%q,"parameters":%s}`, c.event, c.in)); a.json(t)["status"] != "success" {
			t.Errorf("%s(%s) by POST /: %s", c.event, c.in, a.body)
		}
	}
	// S17: a wrong type is the caller's fault and no event ran.
	for _, c := range []struct{ event, in string }{{"volume", `[]`}, {"volume", `{"size":"x"}`}, {"string", "{}"}, {"int", `"1"`}, {"int", "1.5"}, {"bytes", "7"}} {
		a := ask(t, "POST", url+"/v1/events/"+c.event, c.in)
		if m := a.json(t); a.status != 400 || m["type"] != typeBase+"wrong-input" || m["node"] != "node-1" || m["outcome"] != "never ran" {
			t.Errorf("%s(%s): %v", c.event, c.in, a)
		}
		if a := ask(t, "POST", url+"/", fmt.Sprintf(`{"event":%q,"parameters":%s}`, c.event, c.in)); a.status != 200 || a.json(t)["status"] != "fail" {
			t.Errorf("%s(%s) by POST /: %v", c.event, c.in, a)
		}
	}
	ask(t, "POST", url+"/v1/events/nobody", "{}").problem(t, 404, "unknown-event", "never ran")
	ask(t, "POST", url+"/v1/events/_cancel", "{}").problem(t, 404, "unknown-event", "never ran")
	ask(t, "POST", url+"/v1/events/int?id=a%20b", "1").problem(t, 400, "bad-request", "never ran")
	// The largest input that fits, and one byte more.
	fits := `"` + strings.Repeat("x", maxInput-2) + `"`
	if a := ask(t, "POST", url+"/v1/events/raw", fits); a.status != 200 || len(a.body) != maxInput+1 {
		t.Errorf("%d, %d bytes", a.status, len(a.body))
	}
	ask(t, "POST", url+"/v1/events/raw", fits+" ").problem(t, 413, "too-large", "never ran")
}

// TestNode_Failures: what became of the event is what the answer says.
func TestNode_Failures(t *testing.T) {
	step := &distgear.Action[int, int]{Name: "step", Do: func(_ context.Context, in int) (int, error) {
		if in < 0 {
			return 0, errors.New("negative")
		}
		return in, nil
	}, Undo: func(context.Context, distgear.Did[int, int]) error { return nil }}
	plan := func(r *distgear.Run, ctx context.Context, in ...any) error {
		p := distgear.Plan{Rollback: true}
		var after []distgear.Dep
		for i, v := range in {
			n, _ := v.(int)
			s := step.Step(&p, distgear.Any(), n, after...).Named(fmt.Sprint(i))
			after = []distgear.Dep{s}
		}
		return r.Do(ctx, &p)
	}
	gone := &distgear.Action[int, int]{Name: "gone"}
	n := joined(t, step,
		event("dirty", func(context.Context, *distgear.Run, int) (int, error) { return 0, errors.New("no room") }),
		event("clean", func(context.Context, *distgear.Run, int) (int, error) {
			return 0, distgear.Clean(errors.New("no room"))
		}),
		event("panics", func(context.Context, *distgear.Run, int) (int, error) { panic("boo") }),
		event("rolled", func(ctx context.Context, r *distgear.Run, _ int) (int, error) { return 0, plan(r, ctx, 1, -1) }),
		event("faulty", func(ctx context.Context, r *distgear.Run, _ int) (int, error) {
			p := distgear.Plan{}
			gone.Step(&p, distgear.Any(), 1)
			return 0, r.Do(ctx, &p)
		}),
		event("large", func(context.Context, *distgear.Run, int) (string, error) {
			return strings.Repeat("x", distgear.MaxPayload), nil
		}),
		event("met", func(ctx context.Context, r *distgear.Run, _ int) (int, error) {
			return gone.Call(ctx, r.Node(), distgear.Any(), 1)
		}),
	)
	url, _ := running(t, node{n}, Config{})
	for _, c := range []struct {
		event, slug, detail string
		clean               any
		status              int
	}{
		{"dirty", "event-failed", "dirty on node-1: no room", nil, 422},
		{"clean", "event-failed", "clean on node-1: no room", true, 422},
		{"panics", "event-failed", "panic: boo", nil, 422},
		{"rolled", "event-failed", "rolled back", true, 422},
		{"faulty", "event-failed", "gone", nil, 422},
		{"large", "event-failed", "by reference", nil, 422},
		{"met", "event-failed", "no node", nil, 422},
	} {
		m := ask(t, "POST", url+"/v1/events/"+c.event, "1").problem(t, c.status, c.slug, "failed")
		if m["clean"] != c.clean || m["node"] != "node-1" || m["run"] == nil || !strings.Contains(fmt.Sprint(m["detail"]), c.detail) {
			t.Errorf("%s: %v", c.event, m)
		}
		if id := m["run"]; c.event == "rolled" {
			if m := ask(t, "GET", url+"/v1/runs/"+id.(string), "").json(t); m["state"] != "rolled back" {
				t.Error(m)
			}
		}
		if a := ask(t, "POST", url+"/", fmt.Sprintf(`{"event":%q,"parameters":1}`, c.event)); a.status != 200 || a.json(t)["status"] != "fail" || !strings.Contains(a.body, c.detail) {
			t.Errorf("%s by POST /: %v", c.event, a)
		}
	}
}

// gate is an event that tells when it began and ends when it is let.
type gate struct {
	began chan record.RunID
	let   chan struct{}
}

func newGate() *gate { return &gate{make(chan record.RunID), make(chan struct{})} }

func (g *gate) event(name string) *distgear.Event[int, int] {
	return event(name, func(ctx context.Context, r *distgear.Run, in int) (int, error) {
		g.began <- r.ID()
		select {
		case <-g.let:
			return in, nil
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		}
	})
}

// TestNode_Runs: a run is accepted, found, listed, watched, cancelled, and raised again under its id.
func TestNode_Runs(t *testing.T) {
	g := newGate()
	n := joined(t, g.event("gate"))
	url, _ := running(t, node{n}, Config{})
	accepted := ask(t, "POST", url+"/v1/events/gate?async&id=deploy-7", "7")
	if accepted.status != 202 || accepted.json(t)["run"] != "deploy-7" {
		t.Fatal(accepted)
	}
	if state := ask(t, "GET", url+accepted.header.Get("Location"), "").json(t)["state"]; state != "running" && state != "waiting" {
		t.Error(state) // it is there at once
	}
	<-g.began
	if m := ask(t, "GET", url+"/v1/runs/deploy-7", "").json(t); m["state"] != "running" || m["event"] != "gate" || m["node"] != "node-1" || m["input"] != 7.0 {
		t.Error(m)
	}
	if list := ask(t, "GET", url+"/v1/runs?event=gate&state=running", "").json(t)["runs"].([]any); len(list) != 1 || list[0].(object)["id"] != "deploy-7" {
		t.Error(list)
	}
	ask(t, "POST", url+"/v1/runs/deploy-7/undo/mount", `{"how":"retry"}`).problem(t, 409, "conflict", "never ran")
	if a := ask(t, "POST", url+"/v1/events/gate?wait=1ms&id=deploy-7", "7"); a.status != 202 {
		t.Error(a)
	}
	ask(t, "POST", url+"/v1/events/gate?id=deploy-7", "8").problem(t, 409, "conflict", "failed")

	first := get(t, "GET", url+"/v1/runs/deploy-7/events", "")
	defer first.Body.Close()
	second := get(t, "GET", url+"/v1/runs/deploy-7", "", "Accept: text/event-stream")
	defer second.Body.Close()
	streams := []*http.Response{first, second}
	heads := make([]*bufio.Reader, len(streams))
	for i, s := range streams {
		heads[i] = bufio.NewReader(s.Body)
		if line, err := heads[i].ReadString('\n'); err != nil || !strings.HasPrefix(line, "id: ") {
			t.Errorf("%q, %v", line, err)
		}
	}
	close(g.let)
	if a := ask(t, "POST", url+"/v1/events/gate?id=deploy-7", "7"); a.status != 200 || a.body != "7\n" {
		t.Error(a)
	}
	for i := range streams {
		rest, err := io.ReadAll(heads[i])
		if err != nil || !strings.Contains(string(rest), `"state":"ok"`) || !strings.HasSuffix(string(rest), "id: end\nevent: end\ndata: {\"id\":\"deploy-7\",\"state\":\"ok\"}\n\n") {
			t.Errorf("%s, %v", rest, err)
		}
	}
	last := fmt.Sprint(ask(t, "GET", url+"/v1/runs/deploy-7", "").json(t)["version"])
	if a := ask(t, "GET", url+"/v1/runs/deploy-7/events", "", "Last-Event-ID: "+last); !strings.HasPrefix(a.body, "id: end\n") {
		t.Error(a.body)
	}
	// To cancel what is over does nothing, and says so.
	if m := ask(t, "POST", url+"/v1/runs/deploy-7/cancel", "").problem(t, 409, "conflict", "never ran"); m["detail"] != "run deploy-7 has ended already: it is ok" {
		t.Error(m)
	}
	for _, path := range []string{"GET /v1/runs/none", "GET /v1/runs/none/events", "POST /v1/runs/none/cancel"} {
		method, path, _ := strings.Cut(path, " ")
		ask(t, method, url+path, "").problem(t, 404, "unknown-run", "never ran")
	}
	ask(t, "POST", url+"/v1/runs/none/undo/s", `{"how":"retry"}`).problem(t, 404, "unknown-run", "never ran")
}

// TestNode_Cancel: a cancelled run answers who waits for it.
func TestNode_Cancel(t *testing.T) {
	g := newGate()
	n := joined(t, g.event("gate"))
	url, _ := running(t, node{n}, Config{})
	waiting := make(chan answer)
	go func() { waiting <- ask(t, "POST", url+"/v1/events/gate", "1") }()
	id := <-g.began
	if a := ask(t, "POST", url+"/v1/runs/"+string(id)+"/cancel", "{}"); a.status != 202 {
		t.Error(a)
	}
	if m := (<-waiting).problem(t, 409, "cancelled", "failed"); m["run"] != string(id) {
		t.Error(m)
	}
	if m := ask(t, "GET", url+"/v1/runs/"+string(id), "").json(t); m["state"] != "cancelled" {
		t.Error(m)
	}
}

// TestNode_GoneClient: the run of a client that went away goes on to its end.
func TestNode_GoneClient(t *testing.T) {
	g := newGate()
	n := joined(t, g.event("gate"))
	url, _ := running(t, node{n}, Config{})
	ctx, leave := context.WithCancel(t.Context())
	r, err := http.NewRequestWithContext(ctx, "POST", url+"/v1/events/gate", strings.NewReader("1"))
	if err != nil {
		t.Fatal(err)
	}
	left := make(chan error)
	go func() {
		resp, err := http.DefaultClient.Do(r)
		if err == nil {
			resp.Body.Close()
		}
		left <- err
	}()
	id := <-g.began
	leave()
	if err := <-left; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	resp := get(t, "GET", url+"/v1/runs/"+string(id)+"/events", "")
	defer resp.Body.Close()
	close(g.let)
	if body, err := io.ReadAll(resp.Body); err != nil || !strings.HasSuffix(string(body), `"state":"ok"}`+"\n\n") {
		t.Errorf("%s, %v", body, err)
	}
}

// TestNode_Delayed: a delayed run is waiting until it begins, and one whose node
// leaves before that says so.
func TestNode_Delayed(t *testing.T) {
	n := joined(t, event("e", func(_ context.Context, _ *distgear.Run, in int) (int, error) { return in, nil }))
	url, _ := running(t, node{n}, Config{})
	if a := ask(t, "POST", url+"/v1/events/e?async&delay=1ms&id=soon", "7"); a.status != 202 {
		t.Error(a)
	}
	if a := ask(t, "GET", url+"/v1/runs/soon/events", ""); !strings.HasSuffix(a.body, `"state":"ok"}`+"\n\n") {
		t.Error(a.body)
	}
	if a := ask(t, "POST", url+"/v1/events/e?async&delay=1h&id=late", "7"); a.status != 202 {
		t.Error(a)
	}
	if m := ask(t, "GET", url+"/v1/runs/late", "").json(t); m["state"] != "waiting" {
		t.Error(m)
	}
	ask(t, "POST", url+"/v1/runs/late/cancel", "").problem(t, 409, "conflict", "never ran")
	resp := get(t, "GET", url+"/v1/runs/late/events", "")
	defer resp.Body.Close()
	if err := n.Leave(t.Context()); err != nil {
		t.Error(err)
	}
	if body, err := io.ReadAll(resp.Body); err != nil || !strings.Contains(string(body), "has left") || !strings.HasSuffix(string(body), `"state":"failed"}`+"\n\n") {
		t.Errorf("%s, %v", body, err)
	}
	ask(t, "GET", url+"/healthz", "").problem(t, 503, "unavailable", "never ran")
	ask(t, "POST", url+"/v1/events/e", "1").problem(t, 503, "unavailable", "never ran")
}

func TestNode_Members(t *testing.T) {
	n := joined(t, event("e", func(_ context.Context, _ *distgear.Run, in int) (int, error) { return in, nil }))
	url, stop := running(t, node{n}, Config{})
	list := ask(t, "GET", url+"/v1/members", "").json(t)["members"].([]any)
	if len(list) != 1 || list[0].(object)["name"] != "node-1" || list[0].(object)["state"] != "alive" || fmt.Sprint(list[0].(object)["kinds"]) != "[e]" {
		t.Error(list)
	}
	resp := get(t, "GET", url+"/v1/members", "", "Accept: text/event-stream")
	defer resp.Body.Close()
	body := bufio.NewReader(resp.Body)
	if line, err := body.ReadString('\n'); line != "event: member\n" {
		t.Errorf("%q, %v", line, err)
	}
	if m := ask(t, "GET", url+"/healthz", "").json(t); m["node"] != "node-1" {
		t.Error(m)
	}
	if err := stop(); err != nil { // with a stream open that has no end of its own
		t.Error(err)
	}
	if _, err := io.ReadAll(body); err != nil {
		t.Error(err)
	}
}

// TestNode_TenThousand: 10 000 events at once through HTTP, handled by a node
// while all of them are in flight: each is answered with its own result.
func TestNode_TenThousand(t *testing.T) {
	const n = 10_000
	var seen sync.Map
	var in sync.WaitGroup
	in.Add(n)
	b := joined(t, event("e", func(_ context.Context, _ *distgear.Run, v int) (int, error) {
		if _, twice := seen.LoadOrStore(v, true); twice {
			return 0, errors.New("raised twice")
		}
		in.Done()
		in.Wait()
		return v, nil
	}))
	ids := make([]string, n)
	tenThousand(t, node{b}, n, func(i int, a answer) error {
		if ids[i] = a.header.Get("Distgear-Run"); a.status != 200 || a.body != fmt.Sprintln(i) {
			return fmt.Errorf("event %d: %v", i, a)
		}
		return nil
	})
	slices.Sort(ids)
	if d := len(slices.Compact(ids)); d != n {
		t.Errorf("%d runs for %d events", d, n)
	}
}

// TestNode_Mixed: 10 000 events at once of every fate; each has the answer that is due to it.
func TestNode_Mixed(t *testing.T) {
	const n = 10_000
	var ran atomic.Int64
	b := joined(t, event("e", func(_ context.Context, _ *distgear.Run, v int) (int, error) {
		ran.Add(1)
		switch v % 4 {
		case 1:
			return 0, errors.New("no room")
		case 2:
			return 0, distgear.Clean(errors.New("no room"))
		case 3:
			panic("boo")
		}
		return v, nil
	}))
	var mu sync.Mutex
	got := map[string]int{}
	tenThousand(t, node{b}, n, func(i int, a answer) error {
		key := fmt.Sprint(i%4, " ", a.status)
		if a.status != 200 {
			var p problem
			if err := json.Unmarshal([]byte(a.body), &p); err != nil {
				return err
			}
			key += fmt.Sprint(" ", p.Outcome, " ", p.Clean)
		}
		mu.Lock()
		defer mu.Unlock()
		got[key]++
		return nil
	})
	if want := map[string]int{"0 200": n / 4, "1 422 failed false": n / 4, "2 422 failed true": n / 4, "3 422 failed false": n / 4}; ran.Load() != n || !maps.Equal(got, want) {
		t.Errorf("%d ran: %v", ran.Load(), got)
	}
}
