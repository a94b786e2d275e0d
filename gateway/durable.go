package gateway

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"net/http"

	"github.com/distgear/distgear"
	"github.com/distgear/distgear/audit"
	"github.com/distgear/distgear/internal/tail"
	"github.com/distgear/distgear/record"
)

// journalOf is what happened in a durable run.
type journalOf struct {
	Run     record.RunID    `json:"run"`
	State   record.RunState `json:"state"`
	Entries []record.Entry  `json:"entries"`
}

// journal serves GET /v1/runs/{id}/journal.
func (h *handler) journal(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Vary", "Accept")
	if _, p := query(r); p != nil {
		h.problem(w, r, p)
		return
	}
	id := record.RunID(r.PathValue("id"))
	if wantsStream(r) {
		h.watchJournal(w, r, id)
		return
	}
	rec, err := h.find(r.Context(), id)
	if err == nil && !rec.Durable {
		err = errNotDurable
	}
	if err != nil {
		h.problem(w, r, problemOfRun(err, id))
		return
	}
	j := journalOf{id, rec.State, rec.Journal}
	if j.Entries == nil {
		j.Entries = []record.Entry{}
	}
	h.json(w, r, http.StatusOK, j)
}

// errNotDurable says that a run has no journal, and takes no signals.
var errNotDurable = fmt.Errorf("%w: the run's event is not durable (Event.Durable), so nothing is kept of the run but its record", distgear.ErrInvalid)

// watchJournal is that as a stream: each entry once.
func (h *handler) watchJournal(w http.ResponseWriter, r *http.Request, id record.RunID) {
	if r.Header.Get("Last-Event-ID") == ended {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	watch := func(ctx context.Context, id record.RunID) iter.Seq2[record.Run, error] {
		return func(yield func(record.Run, error) bool) {
			for rec, err := range h.watch(ctx, id) {
				if err == nil && !rec.Durable && rec.State != record.Waiting { // of one that has not begun it is not known
					err = errNotDurable
				}
				if !yield(rec, err) || err != nil {
					return
				}
			}
		}
	}
	s := stream{h: h, w: w, r: r, run: id}
	var state record.RunState
	var t tail.Tail
	pump(&s, watch, func(rec record.Run) {
		state = rec.State
		s.open()
		for _, e := range t.News(rec.Journal) {
			s.event("entry", "", e)
		}
	})
	if s.whole() {
		s.event("end", ended, struct {
			ID    record.RunID    `json:"id"`
			State record.RunState `json:"state"`
		}{id, state})
	}
}

// operated answers what came of an order to a durable run.
func (h *handler) operated(w http.ResponseWriter, r *http.Request, id record.RunID, err error) {
	if errors.Is(err, distgear.ErrNoRun) {
		if rec, e := h.b.find(r.Context(), id); e == nil && !rec.Durable {
			err = errNotDurable
		}
	}
	h.told(w, r, id, err)
}

// order reads the body of an order to a run, each member into what to has for it.
func (h *handler) order(w http.ResponseWriter, r *http.Request, shape string, to map[string]any) *problem {
	if _, p := query(r); p != nil {
		return p
	}
	body, p := h.body(w, r)
	if p == nil {
		p = readMembers(body, shape, to)
	}
	return p
}

// signalRun serves POST /v1/runs/{id}/signal.
func (h *handler) signalRun(w http.ResponseWriter, r *http.Request) {
	var name string
	var value json.RawMessage
	p := h.order(w, r, `{"name": NAME, "value": ANY}`, map[string]any{"name": &name, "value": &value})
	if p == nil && name == "" {
		p = badRequest(`"name" is not the name of a signal`)
	}
	if p != nil {
		h.problem(w, r, p)
		return
	}
	id := record.RunID(r.PathValue("id"))
	h.operated(w, r, id, h.b.signal(r.Context(), id, name, value))
}

// approveRun serves POST /v1/runs/{id}/approve.
func (h *handler) approveRun(w http.ResponseWriter, r *http.Request) {
	var name string
	var a record.Approval
	var approved *bool
	p := h.order(w, r, `{"name": NAME, "approved": BOOLEAN, "by": WHO, "reason": WHY}`,
		map[string]any{"name": &name, "approved": &approved, "by": &a.By, "reason": &a.Reason})
	switch {
	case p != nil:
	case name == "":
		p = badRequest(`"name" is not the name of what is decided about`)
	case approved == nil:
		p = badRequest(`"approved" is neither true nor false`)
	}
	if p != nil {
		h.problem(w, r, p)
		return
	}
	a.Approved, a.By = *approved, cmp.Or(a.By, audit.Who(r.Context()))
	id := record.RunID(r.PathValue("id"))
	h.operated(w, r, id, h.b.approve(r.Context(), id, name, a))
}

// forkRun serves POST /v1/runs/{id}/fork.
func (h *handler) forkRun(w http.ResponseWriter, r *http.Request) {
	var from, as string
	var in json.RawMessage
	p := h.order(w, r, `{"from": STEP, "input": ANY, "id": ID}`, map[string]any{"from": &from, "input": &in, "id": &as})
	if p == nil && from == "" {
		p = badRequest(`"from" is not the name of a step, or PLAN/STEP`)
	}
	if p != nil {
		h.problem(w, r, p)
		return
	}
	id := record.RunID(r.PathValue("id"))
	fork, err := h.b.fork(r.Context(), id, from, in, as)
	if err != nil {
		fork = id
	}
	h.operated(w, r, fork, err)
}

// adoptRun serves POST /v1/runs/{id}/adopt.
func (h *handler) adoptRun(w http.ResponseWriter, r *http.Request) {
	if _, p := h.reason(w, r, false); p != nil {
		h.problem(w, r, p)
		return
	}
	id := record.RunID(r.PathValue("id"))
	h.operated(w, r, id, h.b.adopt(r.Context(), id))
}

// terminateRun serves POST /v1/runs/{id}/terminate.
func (h *handler) terminateRun(w http.ResponseWriter, r *http.Request) {
	reason, p := h.reason(w, r, true)
	if p == nil && reason == "" {
		p = badRequest(`terminate needs a body {"reason": …}, which the run's record keeps`)
	}
	if p != nil {
		h.problem(w, r, p)
		return
	}
	id := record.RunID(r.PathValue("id"))
	h.operated(w, r, id, h.b.terminate(r.Context(), id, reason))
}
