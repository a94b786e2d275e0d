package gateway

import (
	"bufio"
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/distgear/distgear"
)

// member joins a cluster; leave may be called early.
func member(t *testing.T, cfg distgear.Config, hs ...distgear.Handler) (n *distgear.Node, leave func()) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	n, err := distgear.Join(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	leave = func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := n.Leave(ctx); err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(leave)
	if err := n.Handle(hs...); err != nil {
		t.Fatal(err)
	}
	return n, leave
}

// TestCluster: a gateway at the hub's node serves events that another node handles.
func TestCluster(t *testing.T) {
	hub, _ := member(t, distgear.Config{Name: "hub", Serve: "127.0.0.1:0"})
	url, _ := running(t, node{hub}, Config{})
	resp := get(t, "GET", url+"/v1/members", "", "Accept: text/event-stream")
	defer resp.Body.Close()
	changes := bufio.NewScanner(resp.Body)
	until := func(name, state string) {
		t.Helper()
		for changes.Scan() {
			if s := changes.Text(); strings.Contains(s, `"name":"`+name+`"`) && strings.Contains(s, `"state":"`+state+`"`) && (state != "alive" || strings.Contains(s, "gate")) {
				return
			}
		}
		t.Fatalf("%s was not %s: %v", name, state, changes.Err())
	}

	g := newGate()
	_, leave := member(t, distgear.Config{Name: "worker", Hub: hub.HubURL()}, g.event("gate"),
		event("echo", func(_ context.Context, _ *distgear.Run, v any) (any, error) { return v, nil }))
	until("worker", "alive")
	if a := ask(t, "POST", url+"/v1/events/echo", `{"a":[1]}`); a.status != 200 || a.body != `{"a":[1]}`+"\n" {
		t.Error(a)
	}
	ask(t, "POST", url+"/v1/events/gate", `{}`).problem(t, 400, "wrong-input", "never ran")

	// Accepted is found at once, and told of until it is over.
	for i := range 20 {
		id := fmt.Sprint("run-", i)
		if a := ask(t, "POST", url+"/v1/events/gate?async&id="+id, "7"); a.status != 202 {
			t.Fatal(a)
		}
		if m := ask(t, "GET", url+"/v1/runs/"+id, "").json(t); m["state"] != "waiting" && m["state"] != "running" {
			t.Error(m)
		}
		<-g.began
		if m := ask(t, "GET", url+"/v1/runs/"+id, "").json(t); m["state"] != "running" || m["node"] != "worker" {
			t.Error(m)
		}
		g.let <- struct{}{}
		if a := ask(t, "GET", url+"/v1/runs/"+id+"/events", ""); !strings.HasSuffix(a.body, `"state":"ok"}`+"\n\n") {
			t.Error(a.body)
		}
	}
	if list := ask(t, "GET", url+"/v1/runs?event=gate&state=ok", "").json(t)["runs"].([]any); len(list) != 20 {
		t.Errorf("%d runs", len(list))
	}

	waiting := make(chan answer)
	go func() { waiting <- ask(t, "POST", url+"/v1/events/gate?id=cancelled", "7") }()
	<-g.began
	if a := ask(t, "POST", url+"/v1/runs/cancelled/cancel", ""); a.status != 202 {
		t.Error(a)
	}
	(<-waiting).problem(t, 409, "cancelled", "failed")

	leave()
	until("worker", "left")
	ask(t, "POST", url+"/v1/events/echo", "1").problem(t, 404, "unknown-event", "never ran")
}
