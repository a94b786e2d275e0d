package gateway

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/distgear/distgear"
	"github.com/distgear/distgear/executor"
	"github.com/distgear/distgear/schedule"
)

// What can be done with a task or an executor.
const (
	verbCancel = "cancel"
	verbRetry  = "retry"
	verbPark   = "park"
	verbPause  = "pause"
	verbResume = "resume"
)

type taskList struct {
	Tasks []executor.TaskInfo `json:"tasks"`
	Next  string              `json:"next,omitempty"` // after of the page that follows
}

type acceptedTask struct {
	Executor string          `json:"executor"`
	Task     executor.TaskID `json:"task"`
}

type pausedExecutor struct {
	Executor string `json:"executor"`
	Paused   string `json:"paused"` // why; empty: it is not
}

// listTasks serves GET /v1/executors/{name}/tasks.
func (h *handler) listTasks(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Vary", "Accept")
	q, p := query(r, "state", "action", "key", "prefix", "after", "limit")
	limit := 0
	if p == nil {
		limit, p = limitOf(q)
	}
	if state := q.Get("state"); p == nil && state != "" && !slices.Contains(executor.TaskStates(), state) {
		p = badRequest(fmt.Sprintf("state=%s is not among %q", state, executor.TaskStates()))
	}
	if p != nil {
		h.problem(w, r, p)
		return
	}
	f := executor.TaskFilter{State: q.Get("state"), Action: q.Get("action"), Key: q.Get("key"), Prefix: q.Get("prefix"), After: q.Get("after")}
	look := func(ctx context.Context) (any, error) {
		l := taskList{Tasks: []executor.TaskInfo{}}
		for t, err := range h.b.tasks(ctx, r.PathValue("name"), f) {
			if err != nil {
				return nil, err
			}
			if len(l.Tasks) == limit {
				l.Next = l.Tasks[limit-1].Place()
				break
			}
			l.Tasks = append(l.Tasks, t)
		}
		return l, nil
	}
	h.found(w, r, "tasks", look)
}

// findTask serves GET /v1/executors/{name}/tasks/{id}.
func (h *handler) findTask(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Vary", "Accept")
	if _, p := query(r); p != nil {
		h.problem(w, r, p)
		return
	}
	h.found(w, r, "task", func(ctx context.Context) (any, error) {
		return h.b.task(ctx, r.PathValue("name"), executor.TaskID(r.PathValue("id")))
	})
}

// found answers with what look finds, or streams it.
func (h *handler) found(w http.ResponseWriter, r *http.Request, name string, look func(context.Context) (any, error)) {
	if wantsStream(r) {
		h.poll(w, r, name, problemOfTask, look)
		return
	}
	v, err := look(r.Context())
	if err != nil {
		h.problem(w, r, problemOfTask(err))
		return
	}
	h.json(w, r, http.StatusOK, v)
}

// changeTask serves POST /v1/executors/{name}/tasks/{id}/ and verb.
func (h *handler) changeTask(verb string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		reason, p := h.reason(w, r, verb == verbPark)
		if p == nil && verb == verbPark && reason == "" {
			p = badRequest(`park needs a body {"reason": …}, which the task keeps`)
		}
		if p != nil {
			h.problem(w, r, p)
			return
		}
		name, id := r.PathValue("name"), executor.TaskID(r.PathValue("id"))
		if err := h.b.operate(r.Context(), verb, name, id, reason); err != nil {
			h.problem(w, r, problemOfTask(err))
			return
		}
		h.acceptedTask(w, r, name, id)
	}
}

func (h *handler) pauseExecutor(w http.ResponseWriter, r *http.Request) {
	reason, p := h.reason(w, r, true)
	if p != nil {
		h.problem(w, r, p)
		return
	}
	if reason == "" {
		reason = "paused"
	}
	h.pause(w, r, verbPause, reason)
}

func (h *handler) resumeExecutor(w http.ResponseWriter, r *http.Request) {
	if _, p := h.reason(w, r, false); p != nil {
		h.problem(w, r, p)
		return
	}
	h.pause(w, r, verbResume, "")
}

func (h *handler) pause(w http.ResponseWriter, r *http.Request, verb, reason string) {
	name := r.PathValue("name")
	if err := h.b.operate(r.Context(), verb, name, "", reason); err != nil {
		h.problem(w, r, problemOfTask(err))
		return
	}
	h.json(w, r, http.StatusOK, pausedExecutor{name, reason})
}

// reason reads a body that has a reason, if it may, or nothing.
func (h *handler) reason(w http.ResponseWriter, r *http.Request, may bool) (reason string, p *problem) {
	if _, p := query(r); p != nil {
		return "", p
	}
	body, p := h.body(w, r)
	if p != nil || len(body) == 0 {
		return "", p
	}
	to := map[string]any{}
	if may {
		to["reason"] = &reason
	}
	return reason, readMembers(body, `{"reason": …}`, to)
}

// readMembers reads the members of a JSON object, each into what to has for it. Names
// are matched exactly, and there are no others.
func readMembers(body []byte, shape string, to map[string]any) *problem {
	if p := checkJSON(body); p != nil {
		return p
	}
	var d map[string]json.RawMessage
	if err := json.Unmarshal(body, &d); err != nil || d == nil {
		return badRequest("the body is no object " + shape)
	}
	for name, v := range d {
		if to[name] == nil {
			return badRequest(fmt.Sprintf("unknown member %q", name))
		}
		if err := json.Unmarshal(v, to[name]); err != nil {
			return badRequest(fmt.Sprintf("%s: %v", name, strings.TrimPrefix(err.Error(), "json: ")))
		}
	}
	return nil
}

// submitTask serves POST /v1/executors/{name}/tasks.
func (h *handler) submitTask(w http.ResponseWriter, r *http.Request) {
	o, wait, p := raiseQuery(r)
	if p != nil {
		h.problem(w, r, p)
		return
	}
	body, p := h.body(w, r)
	if p != nil {
		h.problem(w, r, p)
		return
	}
	t, durably, p := readTask(body)
	if p != nil {
		h.problem(w, r, p)
		return
	}
	id := o.id
	if id == "" {
		id = "http-" + rand.Text() // so that it can be found
	}
	t.Options = append(t.Options, executor.ID(id))
	if o.delay > 0 {
		t.Options = append(t.Options, executor.Delay(o.delay))
	}
	name := r.PathValue("name")
	f, err := h.b.submit(r.Context(), name, t, durably)
	if err != nil {
		h.problem(w, r, problemOfTask(err))
		return
	}
	w.Header().Set("Distgear-Task", string(f.ID()))
	out, err := await(r.Context(), f, wait)
	switch {
	case errors.Is(err, errWaited), errors.Is(err, errStopping):
		h.acceptedTask(w, r, name, f.ID())
	case errors.Is(err, errGone):
	case err != nil:
		h.problem(w, r, problemOfResult(err, f.ID()))
	default:
		h.write(w, r, http.StatusOK, out)
	}
}

// readTask reads the body of a submission.
func readTask(body []byte) (t executor.Named, durably bool, p *problem) {
	var key, batch string
	var labels []string
	var priority int
	var timeout, retain textDuration
	var deadline time.Time
	p = readMembers(body, `{"action": NAME, "input": ANY, …}`, map[string]any{
		"action": &t.Action, "input": &t.Input, "idempotent": &t.Idempotent, "retries": &t.Retries, "timeout": &timeout,
		"key": &key, "batch": &batch, "labels": &labels, "priority": &priority, "deadline": &deadline, "retain": &retain, "durable": &durably,
	})
	switch {
	case p != nil:
	case t.Action == "":
		p = badRequest(`"action" is not the name of an action`)
	case t.Retries < 0 || t.Retries > math.MaxUint16:
		p = badRequest(fmt.Sprintf("retries: %d is not from 0 to %d", t.Retries, math.MaxUint16))
	case priority < math.MinInt8 || priority > math.MaxInt8:
		p = badRequest(fmt.Sprintf("priority: %d is not from -128 to 127", priority))
	}
	if p != nil {
		return t, false, p
	}
	t.Timeout = time.Duration(timeout)
	option := func(given bool, o executor.TaskOption) {
		if given {
			t.Options = append(t.Options, o)
		}
	}
	option(key != "", executor.Key(key))
	option(batch != "", executor.Batch(batch))
	option(len(labels) > 0, executor.Labels(labels))
	option(priority != 0, executor.Priority(priority))
	option(!deadline.IsZero(), executor.Deadline(deadline))
	option(retain > 0, executor.Retain(retain))
	return t, durably, nil
}

// textDuration is a duration such as "5s".
type textDuration time.Duration

// UnmarshalJSON implements json.Unmarshaler.
func (d *textDuration) UnmarshalJSON(b []byte) error {
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return errors.New("want a duration such as \"5s\"")
	}
	v, err := time.ParseDuration(s)
	if err != nil || v < 0 {
		return fmt.Errorf("%q is no duration such as \"5s\"", s)
	}
	*d = textDuration(v)
	return nil
}

// acceptedTask answers 202 with where to look.
func (h *handler) acceptedTask(w http.ResponseWriter, r *http.Request, name string, id executor.TaskID) {
	w.Header().Set("Distgear-Task", string(id))
	w.Header().Set("Location", "/v1/executors/"+url.PathEscape(name)+"/tasks/"+url.PathEscape(string(id)))
	h.json(w, r, http.StatusAccepted, acceptedTask{name, id})
}

// problemOfTask says what err, of a question about an executor or of what is to be
// done with it, is to a client. What was refused was not done.
func problemOfTask(err error) *problem {
	p := &problem{Detail: err.Error(), Outcome: "never ran"}
	switch is := func(target error) bool { return errors.Is(err, target) }; {
	case is(executor.ErrNoExecutor):
		p.Status, p.slug = http.StatusNotFound, "unknown-executor"
	case is(executor.ErrNoTask):
		p.Status, p.slug = http.StatusNotFound, "unknown-task"
	case is(schedule.ErrNoSchedule), is(executor.ErrNoSchedule):
		p.Status, p.slug = http.StatusNotFound, "unknown-schedule"
	case is(distgear.ErrUnknown), is(distgear.ErrTimeout), is(context.DeadlineExceeded):
		p.Status, p.slug, p.Outcome = http.StatusGatewayTimeout, "outcome-unknown", "unknown"
	case is(executor.ErrState), is(distgear.ErrConflict):
		p.Status, p.slug = http.StatusConflict, "conflict"
	case is(distgear.ErrInvalid):
		p.Status, p.slug = http.StatusBadRequest, "bad-request"
	case is(executor.ErrFull), is(distgear.ErrOverloaded):
		p.Status, p.slug = http.StatusServiceUnavailable, "overloaded"
	case is(context.Canceled): // of the client nobody is left to read it
		p.Status, p.slug, p.Outcome = http.StatusServiceUnavailable, "stopping", "unknown"
	default: // ErrNoNode, ErrLeft, ErrRefused, ErrShutdown
		p.Status, p.slug = http.StatusServiceUnavailable, "unavailable"
	}
	return p
}

// problemOfResult says what err, of a task that was taken up, is to a client.
func problemOfResult(err error, id executor.TaskID) *problem {
	p := problemOf(err, "")
	p.Task = id
	if _, ran := errors.AsType[*distgear.RemoteError](err); !ran && errors.Is(err, distgear.ErrCancelled) {
		p.Status, p.slug, p.Outcome = http.StatusConflict, "cancelled", "never ran"
	}
	switch p.slug {
	case "event-failed":
		p.slug = "task-failed"
	case "event-timed-out":
		p.slug = "task-timed-out"
	case "unknown-event": // it never ran: whoever could have done it is gone
		p.Status, p.slug = http.StatusServiceUnavailable, "unavailable"
	}
	return p
}
