package gateway

import (
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/distgear/distgear/cluster"
	"github.com/distgear/distgear/executor"
	"github.com/distgear/distgear/internal/scheduled"
	"github.com/distgear/distgear/lifecycle"
	"github.com/distgear/distgear/record"
	"github.com/distgear/distgear/shared"
)

type object = map[string]any

var document = sync.OnceValue(func() object {
	var d object
	if err := json.Unmarshal(openAPI, &d); err != nil {
		panic(err)
	}
	return d
})

// at follows keys into the document, and references on the way.
func at(v any, keys ...string) any {
	for _, k := range append([]string{""}, keys...) {
		if k != "" {
			o, _ := v.(object)
			v = o[k]
		}
		if o, ok := v.(object); ok {
			if ref, ok := o["$ref"].(string); ok {
				v = at(document(), strings.Split(strings.TrimPrefix(ref, "#/"), "/")...)
			}
		}
	}
	return v
}

// operation finds what the document says about a request; nil for nothing.
func operation(method, path string) any {
	segments := strings.Split(path, "/")
	var best string
next:
	for template := range at(document(), "paths").(object) {
		want := strings.Split(template, "/")
		if len(want) != len(segments) {
			continue
		}
		for i, s := range want {
			if s != segments[i] && (!strings.HasPrefix(s, "{") || segments[i] == "") {
				continue next
			}
		}
		if best == "" || strings.Count(template, "{") < strings.Count(best, "{") {
			best = template
		}
	}
	if method == http.MethodHead {
		method = http.MethodGet
	}
	return at(document(), "paths", best, strings.ToLower(method))
}

// documented checks an answer against the document: that its status and media
// type are there, that its body has the shape, and headers that are promised.
func documented(t testing.TB, r *http.Request, a answer) {
	t.Helper()
	responses, _ := at(operation(r.Method, r.URL.EscapedPath()), "responses").(object)
	response := at(responses, strconv.Itoa(a.status))
	if response == nil {
		response = at(document(), "components", "responses", "Problem")
	}
	kind := a.header.Get("Content-Type")
	if a.status == http.StatusNoContent || r.Method == http.MethodHead {
		return
	}
	media := at(response, "content", kind)
	if media == nil {
		t.Errorf("%s %s answers %d %s, which is not documented: %s", r.Method, r.URL, a.status, kind, a.body)
		return
	}
	if headers, ok := at(response, "headers").(object); ok {
		for name := range headers {
			if a.header.Get(name) == "" {
				t.Errorf("%s %s answers %d without the header %s", r.Method, r.URL, a.status, name)
			}
		}
	}
	if kind == "text/event-stream" {
		return // its test looks at the events
	}
	var v any
	if err := json.Unmarshal([]byte(a.body), &v); err != nil {
		t.Errorf("%s %s answers %d with %q: %v", r.Method, r.URL, a.status, a.body, err)
		return
	}
	for _, fault := range faults(v, at(media, "schema"), "body") {
		t.Errorf("%s %s answers %d, %s: %s", r.Method, r.URL, a.status, fault, a.body)
	}
}

// faults checks v against a schema: the part of JSON Schema that the document uses.
func faults(v, schema any, where string) (fs []string) {
	fail := func(format string, args ...any) { fs = append(fs, where+": "+fmt.Sprintf(format, args...)) }
	s, ok := at(schema).(object)
	if !ok {
		return []string{where + ": no schema"}
	}
	if want, ok := s["type"].(string); ok && want != typeOf(v) && (want != "number" || typeOf(v) != "integer") {
		fail("%v is %s, not %s", v, typeOf(v), want)
		return fs
	}
	fits := func(one any) bool { return len(faults(v, one, where)) == 0 }
	if want, ok := s["anyOf"].([]any); ok && !slices.ContainsFunc(want, fits) {
		fail("%v is none of %v", v, want)
	}
	if want, ok := s["const"]; ok && !reflect.DeepEqual(v, want) {
		fail("%v is not %v", v, want)
	}
	if want, ok := s["enum"].([]any); ok && !slices.Contains(want, v) {
		fail("%v is not among %v", v, want)
	}
	if s["format"] == "date-time" {
		if _, err := time.Parse(time.RFC3339Nano, fmt.Sprint(v)); err != nil {
			fail("%v", err)
		}
	}
	switch x := v.(type) {
	case []any:
		for i, e := range x {
			if s["items"] != nil {
				fs = append(fs, faults(e, s["items"], fmt.Sprintf("%s[%d]", where, i))...)
			}
		}
	case object:
		required, _ := s["required"].([]any)
		for _, name := range required {
			if _, ok := x[name.(string)]; !ok {
				fail("no %s", name)
			}
		}
		properties, _ := s["properties"].(object)
		for name, e := range x {
			switch more := s["additionalProperties"].(type) {
			case object:
				fs = append(fs, faults(e, more, where+"."+name)...)
			default:
				if p, ok := properties[name]; ok {
					fs = append(fs, faults(e, p, where+"."+name)...)
				} else if more == false {
					fail("%s is not documented", name)
				}
			}
		}
	}
	return fs
}

func typeOf(v any) string {
	switch x := v.(type) {
	case nil:
		return "null"
	case bool:
		return "boolean"
	case string:
		return "string"
	case []any:
		return "array"
	case float64:
		if x == math.Trunc(x) {
			return "integer"
		}
		return "number"
	default:
		return "object"
	}
}

// TestOpenAPI_Routes: what the mux serves is what the document lists, and every
// placeholder is a parameter.
func TestOpenAPI_Routes(t *testing.T) {
	var served, listed []string
	for _, r := range serve(&fake{}, Config{}).routes() {
		served = append(served, r.method+" "+strings.TrimSuffix(r.path, "{$}"))
	}
	for path, item := range at(document(), "paths").(object) {
		for method := range item.(object) {
			if method == "parameters" {
				continue
			}
			listed = append(listed, strings.ToUpper(method)+" "+path)
			var in []string
			for _, ps := range []any{at(item, "parameters"), at(item, method, "parameters")} {
				list, _ := ps.([]any)
				for _, p := range list {
					if at(p, "in") == "path" {
						in = append(in, "{"+at(p, "name").(string)+"}")
					}
				}
			}
			want := regexp.MustCompile(`{\w+}`).FindAllString(path, -1)
			slices.Sort(in)
			slices.Sort(want)
			if !slices.Equal(in, want) {
				t.Errorf("%s has %v, and its parameters are %v", path, want, in)
			}
		}
	}
	slices.Sort(served)
	slices.Sort(listed)
	if !slices.Equal(served, listed) {
		t.Errorf("served %q\nlisted %q", served, listed)
	}
}

// TestOpenAPI_References: no reference leads nowhere, and no component is unused.
func TestOpenAPI_References(t *testing.T) {
	used := map[string]bool{}
	var walk func(v any)
	walk = func(v any) {
		switch x := v.(type) {
		case object:
			if ref, ok := x["$ref"].(string); ok {
				used[ref] = true
				if at(x) == nil {
					t.Errorf("%s is not there", ref)
				}
			}
			for _, e := range x {
				walk(e)
			}
		case []any:
			for _, e := range x {
				walk(e)
			}
		}
	}
	walk(document())
	for group, list := range at(document(), "components").(object) {
		for name := range list.(object) {
			if ref := "#/components/" + group + "/" + name; !used[ref] && group != "securitySchemes" {
				t.Errorf("%s is not used", ref)
			}
		}
	}
}

// TestOpenAPI_Fields: the documented fields are those of the Go types.
func TestOpenAPI_Fields(t *testing.T) {
	for name, v := range map[string]any{
		"RunRecord": record.Run{}, "PlanRecord": record.Plan{}, "StepRecord": record.Step{}, "StepAttempt": record.Attempt{},
		"Member": cluster.Member{}, "Load": cluster.Load{}, "Problem": problem{}, "LegacyAnswer": legacyAnswer{},
		"Lock": shared.LockInfo{}, "LockParty": shared.LockParty{}, "LockWaiter": shared.LockWaiter{}, "Object": shared.ObjectInfo{}, "Queue": shared.QueueInfo{},
		"Session": shared.SessionInfo{}, "Cycle": shared.Cycle{}, "CycleWait": shared.CycleWait{}, "Doctor": shared.Health{}, "Finding": shared.Finding{},
		"Hub": shared.HubInfo{}, "Ledger": shared.LedgerInfo{}, "Node": shared.NodeInfo{},
		"Executor": executor.Info{}, "Task": executor.TaskInfo{}, "Attempt": executor.AttemptInfo{}, "TaskList": taskList{}, "ExecutorList": executorList{},
		"Journal": journalOf{}, "JournalEntry": record.Entry{}, "AcceptedTask": acceptedTask{}, "PausedExecutor": pausedExecutor{},
		"LifecycleEvent": lifecycle.Event{}, "Schedule": scheduled.Info{}, "ScheduleList": scheduleList{}, "ChangedSchedule": changedSchedule{},
		"LockList": lockList{}, "ObjectList": objectList{}, "QueueList": queueList{}, "SessionList": sessionList{},
	} {
		var fields, listed []string
		for f := range reflect.TypeOf(v).Fields() {
			if tag, _, _ := strings.Cut(f.Tag.Get("json"), ","); f.IsExported() && tag != "-" {
				fields = append(fields, tag)
			}
		}
		for p := range at(document(), "components", "schemas", name, "properties").(object) {
			listed = append(listed, p)
		}
		slices.Sort(fields)
		slices.Sort(listed)
		if !slices.Equal(fields, listed) {
			t.Errorf("%s has %q\nlisted %q", name, fields, listed)
		}
	}
	var states []string
	for _, s := range at(document(), "components", "schemas", "RunState", "enum").([]any) {
		states = append(states, s.(string))
	}
	for _, s := range runStates() {
		if !slices.Contains(states, string(s)) || len(states) != len(runStates()) {
			t.Errorf("run states %v, listed %v", runStates(), states)
		}
	}
}

// TestProblemTable: the package comment lists each type of problem.
func TestProblemTable(t *testing.T) {
	src, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	listed := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^//\t([45]\d\d) ([a-z-]+) `).FindAllStringSubmatch(string(src), -1) {
		listed[m[2]] = true
		if titles[m[2]] == "" {
			t.Errorf("%s is listed, and there is none", m[2])
		}
	}
	for slug := range titles {
		if !listed[slug] {
			t.Errorf("%s is not listed", slug)
		}
	}
}
