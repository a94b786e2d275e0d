package gateway

import (
	"context"
	"net/http"

	"github.com/distgear/distgear/executor"
	"github.com/distgear/distgear/internal/scheduled"
	"github.com/distgear/distgear/record"
)

type scheduleList struct {
	Schedules []scheduled.Info `json:"schedules"`
	More      bool             `json:"more,omitempty"`
}

type changedSchedule struct {
	Executor string `json:"executor,omitempty"`
	Schedule string `json:"schedule"`
	State    string `json:"state"` // "paused", "on" or "removed"
}

func scheduleOf(r *http.Request) scheduled.Name {
	return scheduled.Name{Executor: r.PathValue("name"), Own: r.PathValue("schedule")}
}

// findSchedule serves GET /v1/schedules/{schedule}, and below /v1/executors/{name}.
func (h *handler) findSchedule(w http.ResponseWriter, r *http.Request) {
	if _, p := query(r); p != nil {
		h.problem(w, r, p)
		return
	}
	s, err := h.b.findSchedule(r.Context(), scheduleOf(r))
	if err != nil {
		h.problem(w, r, problemOfTask(err))
		return
	}
	h.json(w, r, http.StatusOK, s)
}

// changeSchedule serves POST to that and verb, and DELETE.
func (h *handler) changeSchedule(verb scheduled.Verb) http.HandlerFunc {
	state := map[scheduled.Verb]string{scheduled.Pause: "paused", scheduled.Resume: "on", scheduled.Remove: "removed"}[verb]
	return func(w http.ResponseWriter, r *http.Request) {
		if _, p := h.reason(w, r, false); p != nil {
			h.problem(w, r, p)
			return
		}
		name := scheduleOf(r)
		id, err := h.b.changeSchedule(r.Context(), verb, name)
		switch {
		case err != nil:
			h.problem(w, r, problemOfTask(err))
		case verb != scheduled.Run:
			h.json(w, r, http.StatusOK, changedSchedule{name.Executor, name.Own, state})
		case name.Executor == "":
			h.accepted(w, r, record.RunID(id))
		default:
			h.acceptedTask(w, r, name.Executor, executor.TaskID(id))
		}
	}
}

func (b node) findSchedule(ctx context.Context, name scheduled.Name) (scheduled.Info, error) {
	return scheduled.Find(ctx, b.n, name)
}

func (b node) changeSchedule(ctx context.Context, verb scheduled.Verb, name scheduled.Name) (id string, err error) {
	return scheduled.Do(ctx, b.n, verb, name)
}
