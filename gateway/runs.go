package gateway

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"

	"github.com/distgear/distgear"
	"github.com/distgear/distgear/cluster"
	"github.com/distgear/distgear/record"
)

const (
	listed    = 100   // runs in a list that does not say how many
	maxListed = 10000 // runs in a list at most
)

// listRuns serves GET /v1/runs.
func (h *handler) listRuns(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Vary", "Accept")
	q, p := query(r, "event", "state", "limit")
	if p != nil {
		h.problem(w, r, p)
		return
	}
	limit, p := limitOf(q)
	if p != nil {
		h.problem(w, r, p)
		return
	}
	for _, s := range q["state"] {
		if !slices.Contains(runStates(), record.RunState(s)) {
			h.problem(w, r, badRequest(fmt.Sprintf("state=%s is not among %q", s, runStates())))
			return
		}
	}
	look := func(ctx context.Context) (any, error) {
		list := struct {
			Runs []record.Run `json:"runs"`
			More bool         `json:"more,omitempty"`
		}{Runs: []record.Run{}}
		for rec, err := range h.b.runs(ctx) {
			if err != nil {
				return nil, err
			}
			if q.Has("event") && !slices.Contains(q["event"], rec.Event) ||
				q.Has("state") && !slices.Contains(q["state"], string(rec.State)) {
				continue
			}
			if list.More = len(list.Runs) == limit; list.More {
				break
			}
			rec.Input, rec.Result, rec.Plans = nil, nil, nil // a list is for finding; 10 000 inputs are not
			list.Runs = append(list.Runs, rec)
		}
		return list, nil
	}
	if wantsStream(r) {
		h.poll(w, r, "runs", problemOfLook, look)
		return
	}
	list, err := look(r.Context())
	if err != nil {
		h.problem(w, r, problemOfLook(err))
		return
	}
	h.json(w, r, http.StatusOK, list)
}

// limitOf is how many things a list may have.
func limitOf(q url.Values) (int, *problem) {
	if !q.Has("limit") {
		return listed, nil
	}
	limit, err := strconv.Atoi(q.Get("limit"))
	if err != nil || limit < 1 || limit > maxListed {
		return 0, badRequest(fmt.Sprintf("limit=%s is not from 1 to %d", q.Get("limit"), maxListed))
	}
	return limit, nil
}

// runStates lists the states in which a run may be asked for.
func runStates() []record.RunState {
	return []record.RunState{
		record.Running, record.Cancelling, record.RollingBack, record.Stuck, record.Waiting, record.Parked,
		record.OK, record.Failed, record.RolledBack, record.Cancelled,
	}
}

// findRun serves GET /v1/runs/{id}.
func (h *handler) findRun(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Vary", "Accept")
	if wantsStream(r) {
		h.watchRun(w, r)
		return
	}
	if _, p := query(r); p != nil {
		h.problem(w, r, p)
		return
	}
	id := record.RunID(r.PathValue("id"))
	rec, err := h.find(r.Context(), id)
	if err != nil {
		h.problem(w, r, problemOfRun(err, id))
		return
	}
	h.json(w, r, http.StatusOK, rec)
}

// cancelRun serves POST /v1/runs/{id}/cancel.
func (h *handler) cancelRun(w http.ResponseWriter, r *http.Request) {
	if _, p := query(r); p != nil {
		h.problem(w, r, p)
		return
	}
	if _, p := h.body(w, r); p != nil { // there is nothing to say, but some clients send {}
		h.problem(w, r, p)
		return
	}
	id := record.RunID(r.PathValue("id"))
	if rec, err := h.find(r.Context(), id); err == nil && rec.State.Final() {
		p := refusal(http.StatusConflict, "conflict", fmt.Sprintf("run %s has ended already: it is %s", id, rec.State))
		p.Run = id
		h.problem(w, r, p)
		return
	}
	h.told(w, r, id, h.b.cancel(r.Context(), id))
}

// told answers that a run was told something, or why not.
func (h *handler) told(w http.ResponseWriter, r *http.Request, id record.RunID, err error) {
	if err == nil {
		h.accepted(w, r, id)
		return
	}
	p := problemOfRun(err, id)
	if errors.Is(err, distgear.ErrNoRun) && h.wait.Get(id) != nil {
		p = refusal(http.StatusConflict, "conflict", "the run has not begun, so nobody can be told")
		p.Run = id
	}
	h.problem(w, r, p)
}

// resolveUndo serves POST /v1/runs/{id}/undo/{step}.
func (h *handler) resolveUndo(w http.ResponseWriter, r *http.Request) {
	how, reason, p := h.undoDecision(w, r)
	if p != nil {
		h.problem(w, r, p)
		return
	}
	id := record.RunID(r.PathValue("id"))
	if err := h.b.resolve(r.Context(), id, r.PathValue("step"), how, reason); err != nil {
		h.problem(w, r, problemOfRun(err, id))
		return
	}
	h.accepted(w, r, id)
}

func (h *handler) undoDecision(w http.ResponseWriter, r *http.Request) (how record.Resolution, reason string, p *problem) {
	var word string
	if p := h.order(w, r, `{"how": …, "reason": …}`, map[string]any{"how": &word, "reason": &reason}); p != nil {
		return how, "", p
	}
	switch word {
	case "retry":
		return record.Retry, reason, nil
	case "skip":
		how = record.Skip
	case "done":
		how = record.MarkDone
	default:
		return how, "", badRequest(fmt.Sprintf(`how is %q, and not "retry", "skip" or "done"`, word))
	}
	if reason == "" {
		return how, "", badRequest(word + " needs a reason, which the run's record keeps")
	}
	return how, reason, nil
}

// listMembers serves GET /v1/members.
func (h *handler) listMembers(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Vary", "Accept")
	if _, p := query(r); p != nil {
		h.problem(w, r, p)
		return
	}
	if wantsStream(r) {
		h.watchMembers(w, r)
		return
	}
	list := struct {
		Members []cluster.Member `json:"members"`
	}{[]cluster.Member{}}
	for m, err := range h.b.members(r.Context()) {
		if err != nil {
			h.problem(w, r, problemOfRun(err, ""))
			return
		}
		list.Members = append(list.Members, m)
	}
	h.json(w, r, http.StatusOK, list)
}

// openAPI serves GET /v1/openapi.json.
func (h *handler) openAPI(w http.ResponseWriter, r *http.Request) {
	h.write(w, r, http.StatusOK, slices.Clone(openAPI))
}

// health serves GET /healthz.
func (h *handler) health(w http.ResponseWriter, r *http.Request) {
	select {
	case <-h.b.done():
		detail := "the node is out of its cluster"
		if err := h.b.err(); err != nil {
			detail += ": " + err.Error()
		}
		p := refusal(http.StatusServiceUnavailable, "unavailable", detail)
		p.Node = h.b.name()
		h.problem(w, r, p)
	default:
		h.json(w, r, http.StatusOK, struct {
			Status string           `json:"status"`
			Node   cluster.NodeName `json:"node"`
		}{"ok", h.b.name()})
	}
}
