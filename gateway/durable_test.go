package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/distgear/distgear"
	"github.com/distgear/distgear/record"
)

// TestDurableVerbs: signals, decisions and the rest reach the run, and say what
// keeps them from it.
func TestDurableVerbs(t *testing.T) {
	var got []string
	var err error
	f := &fake{
		onRun: func(verb string, id record.RunID, args ...string) error {
			got = append([]string{verb, string(id)}, args...)
			return err
		},
		records: []record.Run{{ID: "fleeting", Event: "e", State: record.Running}},
	}
	h := serve(f, Config{})
	for _, c := range []struct{ verb, body, want string }{
		{"signal", `{"name":"go"}`, "signal run-1 go "},
		{"signal", `{"name":"go","value":{"a":1}}`, `signal run-1 go {"a":1}`},
		{"approve", `{"name":"ship","approved":true,"by":"anna","reason":"it is fine"}`, "approve run-1 ship true anna it is fine"},
		{"approve", `{"name":"ship","approved":false}`, "approve run-1 ship false  "},
		{"fork", `{"from":"plan/pack"}`, "fork run-1 plan/pack  "}, {"fork", `{"from":"pack","input":[1],"id":"f1"}`, "fork run-1 pack [1] f1"},
		{"adopt", "", "adopt run-1"}, {"adopt", "{}", "adopt run-1"},
		{"terminate", `{"reason":"no use"}`, "terminate run-1 no use"},
	} {
		a := do(t, h, "POST", "/v1/runs/run-1/"+c.verb, c.body)
		if a.status != 202 || a.json(t)["run"] != "run-1" || a.header.Get("Location") != "/v1/runs/run-1" || strings.Join(got, " ") != c.want {
			t.Errorf("%s %s: %q, %v", c.verb, c.body, got, a)
		}
	}
	got = nil
	for verb, bodies := range map[string][]string{
		"signal":    {"", "{}", "null", "[]", "x", `{"name":1}`, `{"name":""}`, `{"name":"go","valeu":1}`},
		"approve":   {"", `{"name":"ship"}`, `{"approved":true}`, `{"name":"ship","approved":null}`, `{"name":"ship","approved":"yes"}`},
		"fork":      {"", "{}", `{"from":""}`, `{"from":1}`, `{"from":"a","inptu":1}`},
		"adopt":     {`{"reason":"x"}`, "x"},
		"terminate": {"", "{}", `{"reason":""}`, `{"reason":1}`},
	} {
		for _, body := range bodies {
			do(t, h, "POST", "/v1/runs/run-1/"+verb, body).problem(t, 400, "bad-request", "never ran")
		}
		do(t, h, "POST", "/v1/runs/run-1/"+verb+"?x", `{}`).problem(t, 400, "bad-request", "never ran")
	}
	if got != nil {
		t.Errorf("reached the run: %q", got)
	}
	for _, c := range []struct {
		err           error
		status        int
		slug, outcome string
	}{
		{distgear.ErrNoRun, 404, "unknown-run", "never ran"},
		{distgear.ErrInvalid, 409, "conflict", "never ran"},
		{distgear.ErrOverloaded, 503, "overloaded", "never ran"},
		{distgear.ErrUnknown, 504, "outcome-unknown", "unknown"},
	} {
		err = c.err
		for verb, body := range map[string]string{"signal": `{"name":"go"}`, "approve": `{"name":"go","approved":true}`, "fork": `{"from":"a"}`, "adopt": "", "terminate": `{"reason":"x"}`} {
			do(t, h, "POST", "/v1/runs/run-1/"+verb, body).problem(t, c.status, c.slug, c.outcome)
		}
	}
	err = distgear.ErrNoRun // as the ledger says of one that is not durable
	do(t, h, "POST", "/v1/runs/fleeting/signal", `{"name":"go"}`).problem(t, 409, "conflict", "never ran")
	do(t, h, "GET", "/v1/runs/fleeting/journal", "").problem(t, 409, "conflict", "never ran")
	do(t, h, "GET", "/v1/runs/nobody/journal", "").problem(t, 404, "unknown-run", "never ran")
	do(t, h, "GET", "/v1/runs/nobody/journal?x", "").problem(t, 400, "bad-request", "never ran")
}

// TestDurableRaise: over HTTP a durable event is accepted once for its ID, waits,
// is told what it waits for, and its journal says what happened.
func TestDurableRaise(t *testing.T) {
	pack := &distgear.Action[int, int]{Name: "pack", Do: func(_ context.Context, in int) (int, error) { return in + 1, nil }}
	order := &distgear.Event[int, string]{Name: "order", Durable: true, On: func(ctx context.Context, r *distgear.Run, in int) (string, error) {
		p := distgear.Plan{Name: "pack"}
		pack.Step(&p, distgear.Any(), in)
		if err := r.Do(ctx, &p); err != nil {
			return "", err
		}
		var to string
		if err := r.Signal(ctx, "address", &to); err != nil {
			return "", err
		}
		a, err := r.Approve(ctx, "ship")
		if err == nil && !a.Approved {
			err = errors.New("refused by " + a.By)
		}
		return to, err
	}}
	n := joined(t, pack, order)
	url, _ := running(t, node{n}, Config{})
	if a := ask(t, "POST", url+"/v1/events/order?id=o1&async", "7"); a.status != 202 || a.header.Get("Distgear-Run") != "o1" {
		t.Fatal(a)
	}
	if a := ask(t, "POST", url+"/v1/events/order?id=o1&async", "7"); a.status != 202 {
		t.Errorf("again: %v", a)
	}
	ask(t, "POST", url+"/v1/events/order?id=o1&async", "8").problem(t, 409, "conflict", "failed")
	for name, body := range map[string]string{"approve": `{"name":"ship","approved":true,"by":"anna"}`, "signal": `{"name":"address","value":"Berlin"}`} {
		if a := ask(t, "POST", url+"/v1/runs/o1/"+name, body); a.status != 202 {
			t.Fatal(a)
		}
	}
	if a := ask(t, "POST", url+"/v1/events/order?id=o1", "7"); a.status != 200 || a.body != "\"Berlin\"\n" {
		t.Errorf("the result: %v", a)
	}
	if a := ask(t, "POST", url+"/v1/runs/o1/fork", `{"from":"pack","id":"o2"}`); a.status != 202 || a.json(t)["run"] != "o2" {
		t.Errorf("a fork: %v", a)
	}
	ask(t, "POST", url+"/v1/runs/o1/fork", `{"from":"nostep"}`).problem(t, 409, "conflict", "never ran")
	req, err := http.NewRequestWithContext(t.Context(), "POST", url+"/v1/runs/o2/terminate", strings.NewReader(`{"reason":"seen"}`))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Distgear-By", "anna")
	if res, err := http.DefaultClient.Do(req); err != nil || res.StatusCode != 202 || res.Body.Close() != nil {
		t.Errorf("the fork is not there: %v %v", res, err)
	}
	if a := ask(t, "GET", url+"/v1/runs/o2/journal", ""); !strings.Contains(a.body, `"name":"terminate","text":"seen","by":"anna"`) {
		t.Errorf("who terminated it: %s", a.body)
	}
	ask(t, "POST", url+"/v1/runs/o1/signal", `{"name":"address"}`).problem(t, 409, "conflict", "never ran")
	ask(t, "POST", url+"/v1/runs/o1/terminate", `{"reason":"late"}`).problem(t, 409, "conflict", "never ran")
	a := ask(t, "GET", url+"/v1/runs/o1/journal", "")
	var j journalOf
	if err := json.Unmarshal([]byte(a.body), &j); err != nil || a.status != 200 || j.State != record.OK {
		t.Fatalf("%v, %v", a, err)
	}
	var whats []string
	for _, e := range j.Entries {
		whats = append(whats, string(e.What))
	}
	if got := strings.Join(whats, ", "); got != "accepted, planned, sent, reported, signal, signal, finished, operator" {
		t.Errorf("the journal is %s", got)
	}
	ask(t, "POST", url+"/v1/runs/nobody/signal", `{"name":"address"}`).problem(t, 404, "unknown-run", "never ran")
}
