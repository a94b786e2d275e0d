package gateway

import (
	"context"
	"strings"
	"testing"

	"github.com/distgear/distgear"
	"github.com/distgear/distgear/executor"
	"github.com/distgear/distgear/geartest"
	"github.com/distgear/distgear/schedule"
)

// Schedules are listed, paused, resumed and removed over HTTP.
func TestSchedules(t *testing.T) {
	event := &distgear.Event[string, string]{Name: "backup", Durable: true, On: func(_ context.Context, _ *distgear.Run, in string) (string, error) { return in, nil }}
	hs := geartest.Nodes{Handlers: func(*distgear.Node) []distgear.Handler { return []distgear.Handler{event} }}
	body := func(t *testing.T, n *distgear.Node) {
		h := newHandler(node{n}, Config{}, nil)
		if a := do(t, h, "GET", "/v1/schedules", ""); a.body != `{"schedules":[]}`+"\n" {
			t.Error(a)
		}
		for name, missed := range map[string]schedule.Missed{"nightly": schedule.CatchUpAll, "weekly": schedule.CatchUp, "night/ly?": ""} {
			err := schedule.Every(t.Context(), n, name, "TZ=Europe/Vienna 0 3 * * *", event, "all", missed)
			if (err == nil) != (name != "night/ly?") {
				t.Fatal(err)
			}
		}
		list := func(query string) string { return do(t, h, "GET", "/v1/schedules"+query, "").body }
		if got := list("?prefix=n"); !strings.Contains(got, `{"name":"nightly","when":"TZ=Europe/Vienna 0 3 * * *","event":"backup","missed":"all","next":"20`) || strings.Contains(got, "weekly") {
			t.Error(got)
		}
		if got := list("?limit=1"); !strings.Contains(got, `"more":true`) || strings.Contains(got, "weekly") {
			t.Error(got)
		}
		for _, c := range []struct{ method, path, answer, listed string }{
			{"POST", "/v1/schedules/nightly/pause", `{"schedule":"nightly","state":"paused"}`, `"paused":true`},
			{"POST", "/v1/schedules/nightly/pause", `{"schedule":"nightly","state":"paused"}`, `"paused":true`},
			{"POST", "/v1/schedules/nightly/resume", `{"schedule":"nightly","state":"on"}`, `"event":"backup","missed":"all","next"`},
			{"DELETE", "/v1/schedules/nightly", `{"schedule":"nightly","state":"removed"}`, `{"schedules":[]}`},
		} {
			if a := do(t, h, c.method, c.path, ""); a.status != 200 || a.body != c.answer+"\n" {
				t.Errorf("%s %s: %+v", c.method, c.path, a)
			}
			if got := list("?prefix=n"); !strings.Contains(got, c.listed) {
				t.Errorf("after %s %s: %s", c.method, c.path, got)
			}
		}
		for _, c := range [][2]string{{"POST", "/v1/schedules/nightly/pause"}, {"POST", "/v1/schedules/nobody/resume"}, {"DELETE", "/v1/schedules/nightly"}} {
			do(t, h, c[0], c[1], "").problem(t, 404, "unknown-schedule", "never ran")
		}
	}
	t.Run("alone", func(t *testing.T) { body(t, geartest.Alone(t, hs).Here()) })
	t.Run("nodes", func(t *testing.T) { body(t, geartest.StartCluster(t, hs).Here()) })
}

// What is malformed does not reach the schedules.
func TestSchedules_Bad(t *testing.T) {
	b := &fake{onOperate: func(verb, name string, _ executor.TaskID, _ string) error {
		t.Errorf("%s %s", verb, name)
		return nil
	}}
	h := serve(b, Config{})
	do(t, h, "POST", "/v1/schedules/a/pause?why", "").problem(t, 400, "bad-request", "never ran")
	do(t, h, "POST", "/v1/schedules/a/pause", `{"reason":"lunch"}`).problem(t, 400, "bad-request", "never ran")
	do(t, h, "DELETE", "/v1/schedules/a?all", "").problem(t, 400, "bad-request", "never ran")
	do(t, h, "DELETE", "/v1/schedules/a", "{").problem(t, 400, "bad-request", "never ran")
	do(t, h, "GET", "/v1/schedules?limit=0", "").problem(t, 400, "bad-request", "never ran")
	do(t, h, "PUT", "/v1/schedules/a", "").problem(t, 405, "method-not-allowed", "never ran")
}
