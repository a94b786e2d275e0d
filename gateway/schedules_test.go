package gateway

import (
	"context"
	"encoding/json"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/distgear/distgear"
	"github.com/distgear/distgear/executor"
	"github.com/distgear/distgear/geartest"
	"github.com/distgear/distgear/record"
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
		for _, c := range [][2]string{
			{"GET", "nightly"}, {"POST", "nightly/pause"}, {"POST", "nobody/resume"}, {"POST", "nobody/run"}, {"DELETE", "nightly"},
		} {
			do(t, h, c[0], "/v1/schedules/"+c[1], "").problem(t, 404, "unknown-schedule", "never ran")
		}
		if a := do(t, h, "GET", "/v1/schedules/weekly", ""); a.status != 200 || !strings.Contains(a.body, `"event":"backup"`) || !strings.Contains(a.body, `"input":"all"`) {
			t.Error(a)
		}
		a := do(t, h, "POST", "/v1/schedules/weekly/run", "")
		run := record.RunID(a.header.Get("Distgear-Run"))
		if a.status != 202 || !strings.HasPrefix(string(run), "weekly@") || !strings.HasSuffix(string(run), "-now") {
			t.Fatal(a)
		}
		geartest.Eventually(t, 30*time.Second, "the run has ended", func() bool {
			rec, err := n.FindRun(t.Context(), run)
			return err == nil && rec.State == record.OK && string(rec.Result) == `"all"`
		})
		if !strings.Contains(list(""), "weekly") {
			t.Error("what was run now is removed")
		}
	}
	t.Run("alone", func(t *testing.T) { body(t, geartest.Alone(t, hs).Here()) })
	t.Run("nodes", func(t *testing.T) { body(t, geartest.StartCluster(t, hs).Here()) })
}

// Those of executors are listed beside, and are changed below their executor.
func TestSchedules_OfExecutors(t *testing.T) {
	n := geartest.StartCluster(t, geartest.Nodes{}).Here()
	ctx := t.Context()
	h := newHandler(node{n}, Config{}, nil)
	render := executor.Config{Durable: true, Retain: time.Minute}.New(n, "render")
	flip := &distgear.Action[string, string]{Name: "flip", Do: func(_ context.Context, s string) (string, error) { return s + "!", nil }}
	work, stop := context.WithCancel(ctx)
	var ended sync.WaitGroup
	ended.Go(func() { _ = render.Work(work, 1, flip) })
	defer ended.Wait()
	defer stop()
	for _, name := range []executor.ScheduleID{"nightly", "a/b?"} {
		if err := executor.Every(ctx, render, name, "0 3 * * *", flip, "all", executor.LeaveOut, executor.Key("anna")); err != nil {
			t.Fatal(err)
		}
	}
	fast := executor.New(n, "thumbs")
	ended.Go(func() { _ = fast.Work(work, 1, flip) })
	if _, err := executor.Submit(ctx, fast, flip, "x"); err != nil {
		t.Fatal(err)
	}
	const base = "/v1/executors/render/schedules/"
	for query, want := range map[string]string{"": "a/b? nightly", "?prefix=render/n": "nightly", "?prefix=ren": "a/b? nightly", "?prefix=n": "", "?prefix=rende/": "", "?limit=1": "a/b? more"} {
		var l scheduleList
		if err := json.Unmarshal([]byte(do(t, h, "GET", "/v1/schedules"+query, "").body), &l); err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, s := range l.Schedules {
			if got = append(got, s.Name); s.Executor != "render" || s.Action != "flip" || s.Missed != schedule.LeaveOut || s.Next.Hour() != 3 || s.Event != "" || s.Input != nil {
				t.Errorf("%+v", s)
			}
		}
		if l.More {
			got = append(got, "more")
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%q: %q, want %q", query, got, want)
		}
	}
	if a := do(t, h, "GET", base+"a%2Fb%3F", ""); a.status != 200 || !strings.Contains(a.body, `"name":"a/b?"`) || !strings.Contains(a.body, `"input":"all"`) {
		t.Error(a)
	}
	for _, c := range []struct{ method, path, answer, listed string }{
		{"POST", "nightly/pause", `{"executor":"render","schedule":"nightly","state":"paused"}`, `"paused":true`},
		{"POST", "nightly/resume", `{"executor":"render","schedule":"nightly","state":"on"}`, `"missed":"none","next"`},
		{"DELETE", "a%2Fb%3F", `{"executor":"render","schedule":"a/b?","state":"removed"}`, `"schedules":[{"executor":"render","name":"nightly"`},
	} {
		if a := do(t, h, c.method, base+c.path, ""); a.status != 200 || a.body != c.answer+"\n" {
			t.Errorf("%s %s: %+v", c.method, c.path, a)
		}
		if got := do(t, h, "GET", "/v1/schedules", "").body; !strings.Contains(got, c.listed) {
			t.Errorf("after %s %s: %s", c.method, c.path, got)
		}
	}
	// What is run now is a task as that of the schedule, besides its times.
	if a := do(t, h, "POST", base+"nightly/pause", ""); a.status != 200 {
		t.Error(a)
	}
	a := do(t, h, "POST", base+"nightly/run", "")
	id := executor.TaskID(a.header.Get("Distgear-Task"))
	if a.status != 202 || !strings.HasPrefix(string(id), "nightly@") || !strings.HasSuffix(string(id), "-now") {
		t.Fatal(a)
	}
	geartest.Eventually(t, 30*time.Second, "the task has ended", func() bool {
		task, err := executor.Operate(n).Task(ctx, "render", id)
		return err == nil && task.State == "ok" && string(task.Result) == `"all!"` && task.Key == "anna"
	})
	for path, want := range map[string][2]string{
		"nobody/schedules/nightly":          {"unknown-executor", `\"nobody\"`},
		"rende/schedules/nightly":           {"unknown-executor", `did you mean \"render\"?`},
		"thumbs/schedules/nightly":          {"unknown-schedule", "is not durable"},
		"render/schedules/nihgtly":          {"unknown-schedule", `did you mean \"nightly\"?`},
		"distgear:events/schedules/nightly": {"unknown-executor", ""},
	} {
		a := do(t, h, "GET", "/v1/executors/"+path, "")
		a.problem(t, 404, want[0], "never ran")
		if !strings.Contains(a.body, want[1]) {
			t.Errorf("%s: %s", path, a.body)
		}
	}
	for _, c := range [][2]string{{"POST", "nobody/pause"}, {"POST", "nobody/resume"}, {"POST", "nobody/run"}, {"DELETE", "nobody"}} {
		do(t, h, c[0], base+c[1], "").problem(t, 404, "unknown-schedule", "never ran")
	}
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
	do(t, h, "POST", "/v1/executors/e/schedules/a/run", `{"input":1}`).problem(t, 400, "bad-request", "never ran")
	do(t, h, "GET", "/v1/executors/e/schedules/a?all", "").problem(t, 400, "bad-request", "never ran")
	do(t, h, "PUT", "/v1/schedules/a", "").problem(t, 405, "method-not-allowed", "never ran")
}
