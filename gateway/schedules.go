package gateway

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"

	"github.com/distgear/distgear"
	"github.com/distgear/distgear/schedule"
)

// verbRemove is what can be done with a schedule besides pausing it.
const verbRemove = "remove"

type scheduleList struct {
	Schedules []schedule.Info `json:"schedules"`
	More      bool            `json:"more,omitempty"`
}

type changedSchedule struct {
	Schedule string `json:"schedule"`
	State    string `json:"state"` // "paused", "on" or "removed"
}

// listSchedules is what GET /v1/schedules answers.
func listSchedules(ctx context.Context, n *distgear.Node, q lookQuery) (l scheduleList, err error) {
	all, err := schedule.List(ctx, n)
	all = slices.DeleteFunc(all, func(s schedule.Info) bool { return !strings.HasPrefix(s.Name, q.prefix) })
	l.More = len(all) > q.limit
	l.Schedules = all[:min(len(all), q.limit)]
	return l, err
}

// changeSchedule serves POST /v1/schedules/{name}/ and verb, and DELETE /v1/schedules/{name}.
func (h *handler) changeSchedule(verb string) http.HandlerFunc {
	state := map[string]string{verbPause: "paused", verbResume: "on", verbRemove: "removed"}[verb]
	return func(w http.ResponseWriter, r *http.Request) {
		if _, p := h.reason(w, r, false); p != nil {
			h.problem(w, r, p)
			return
		}
		name := r.PathValue("name")
		if err := h.b.schedule(r.Context(), verb, name); err != nil {
			p := problemOfTask(err)
			if errors.Is(err, schedule.ErrNoSchedule) {
				p.Status, p.slug = http.StatusNotFound, "unknown-schedule"
			}
			h.problem(w, r, p)
			return
		}
		h.json(w, r, http.StatusOK, changedSchedule{name, state})
	}
}

func (b node) schedule(ctx context.Context, verb, name string) error {
	switch verb {
	case verbPause:
		return schedule.Pause(ctx, b.n, name)
	case verbResume:
		return schedule.Resume(ctx, b.n, name)
	}
	return schedule.Remove(ctx, b.n, name)
}
