package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/distgear/distgear"
	"github.com/distgear/distgear/record"
)

// Causes that end the wait for a result; the run goes on.
var (
	errWaited   = errors.New("waited as long as asked to")
	errStopping = errors.New("the gateway is stopping")
)

// raise serves POST /v1/events/{name}.
func (h *handler) raise(w http.ResponseWriter, r *http.Request) {
	o, wait, p := raiseQuery(r)
	if p != nil {
		h.problem(w, r, p)
		return
	}
	in, p := h.body(w, r)
	if p == nil && len(in) == 0 {
		in = json.RawMessage("null")
	}
	if p == nil {
		p = checkJSON(in)
	}
	if p != nil {
		h.problem(w, r, p)
		return
	}
	f, err := h.accept(r, r.PathValue("name"), in, o)
	if err != nil {
		h.problem(w, r, problemOf(err, ""))
		return
	}
	if o.id != "" {
		h.wait.Add(f, r.PathValue("name"))
	}
	w.Header().Set("Distgear-Run", string(f.ID()))
	out, err := await(r.Context(), f, wait)
	switch {
	case errors.Is(err, errWaited), errors.Is(err, errStopping):
		h.wait.Add(f, r.PathValue("name"))
		h.accepted(w, r, f.ID())
	case errors.Is(err, errGone):
	case err != nil:
		h.problem(w, r, problemOf(err, f.ID()))
	default:
		h.write(w, r, http.StatusOK, out)
	}
}

// raiseQuery reads the query of a raise; wait is negative for no bound.
func raiseQuery(r *http.Request) (o raiseOptions, wait time.Duration, p *problem) {
	wait = -1
	q, p := query(r, "async", "wait", "id", "delay")
	if p != nil {
		return o, wait, p
	}
	duration := func(name string, d *time.Duration) {
		if !q.Has(name) || p != nil {
			return
		}
		var err error
		if *d, err = time.ParseDuration(q.Get(name)); err != nil || *d < 0 {
			p = badRequest(fmt.Sprintf("%s=%s is no duration such as 5s", name, q.Get(name)))
		}
	}
	duration("wait", &wait)
	duration("delay", &o.delay)
	if p != nil {
		return o, wait, p
	}
	if q.Has("async") {
		async := q.Get("async") == ""
		if !async {
			var err error
			if async, err = strconv.ParseBool(q.Get("async")); err != nil {
				return o, wait, badRequest("async=" + q.Get("async") + " is neither true nor false")
			}
		}
		if q.Has("wait") {
			return o, wait, badRequest("async and wait exclude each other")
		}
		if async {
			wait = 0
		}
	}
	if o.id = q.Get("id"); q.Has("id") && o.id == "" {
		return o, wait, badRequest("id is empty")
	}
	return o, wait, nil
}

// accept raises an event. From here on it does not matter whether the client
// is still there: what was accepted runs.
func (h *handler) accept(r *http.Request, event string, in json.RawMessage, o raiseOptions) (pending, error) {
	if event == distgear.NodeJoin || event == distgear.NodeLost { // what is said there about a node would be believed
		return nil, fmt.Errorf("%w: %s is the hub's to raise", distgear.ErrNoNode, event)
	}
	return h.b.raise(context.WithoutCancel(r.Context()), event, in, o)
}

// errGone says that the client went away before there was an answer.
var errGone = errors.New("the client is gone")

// await returns f's result, or errWaited, errStopping or errGone when it stops
// waiting; a negative wait has no bound.
func await(ctx context.Context, f result, wait time.Duration) (json.RawMessage, error) {
	if wait >= 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, wait, errWaited)
		defer cancel()
	}
	select {
	case <-f.Done():
	case <-ctx.Done():
		select {
		case <-f.Done(): // both: the result is worth more
		default:
			if err := context.Cause(ctx); errors.Is(err, errWaited) || errors.Is(err, errStopping) {
				return nil, err
			}
			return nil, errGone
		}
	}
	out, err := f.Wait(context.WithoutCancel(ctx))
	if len(out) == 0 { // no bytes at all are how results write nil and struct{}
		out = json.RawMessage("null")
	}
	return out, err
}

// accepted answers 202 with where to look.
func (h *handler) accepted(w http.ResponseWriter, r *http.Request, id record.RunID) {
	w.Header().Set("Distgear-Run", string(id))
	w.Header().Set("Location", "/v1/runs/"+url.PathEscape(string(id)))
	h.json(w, r, http.StatusAccepted, map[string]record.RunID{"run": id})
}

// legacy serves POST /, the original's way: always 200, success or fail.
func (h *handler) legacy(w http.ResponseWriter, r *http.Request) {
	body, p := h.body(w, r)
	if p == nil {
		p = checkJSON(body)
	}
	if p != nil {
		h.legacyFail(w, r, p.Detail)
		return
	}
	// A map, because names are matched exactly: a struct would take "EVENT" too.
	var call map[string]json.RawMessage
	if err := json.Unmarshal(body, &call); err != nil || call == nil {
		h.legacyFail(w, r, `the body is no object {"event": NAME, "parameters": ANY}`)
		return
	}
	var name string
	if err := json.Unmarshal(call["event"], &name); err != nil || name == "" {
		h.legacyFail(w, r, `"event" is not the name of an event`)
		return
	}
	in := call["parameters"]
	if in == nil {
		in = json.RawMessage("null")
	}
	f, err := h.accept(r, name, in, raiseOptions{})
	if err != nil {
		h.legacyFail(w, r, err.Error())
		return
	}
	w.Header().Set("Distgear-Run", string(f.ID()))
	out, err := await(r.Context(), f, -1)
	switch {
	case errors.Is(err, errGone):
	case errors.Is(err, errStopping):
		h.legacyFail(w, r, fmt.Sprintf("%v; run %s goes on", err, f.ID()))
	case err != nil:
		h.legacyFail(w, r, err.Error())
	default:
		h.json(w, r, http.StatusOK, legacyAnswer{"success", out})
	}
}

type legacyAnswer struct {
	Status string `json:"status"`
	Result any    `json:"result"`
}

func (h *handler) legacyFail(w http.ResponseWriter, r *http.Request, why string) {
	h.json(w, r, http.StatusOK, legacyAnswer{"fail", why})
}

func badRequest(detail string) *problem {
	return refusal(http.StatusBadRequest, "bad-request", detail)
}

// query is the request's query, which may have these names only: a misspelt
// parameter must not be a request for something else.
func query(r *http.Request, names ...string) (url.Values, *problem) {
	q, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, badRequest("the query is malformed: " + err.Error())
	}
next:
	for name := range q {
		for _, known := range names {
			if name == known {
				continue next
			}
		}
		return nil, badRequest(fmt.Sprintf("unknown query parameter %q", name))
	}
	return q, nil
}

// body reads the whole body, at most MaxBody of it, in at most Read.
func (h *handler) body(w http.ResponseWriter, r *http.Request) ([]byte, *problem) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, h.cfg.MaxBody))
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return nil, refusal(http.StatusRequestEntityTooLarge, "too-large", fmt.Sprintf("the body is larger than %d bytes", h.cfg.MaxBody))
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return nil, refusal(http.StatusRequestTimeout, "slow-body", fmt.Sprintf("the body did not arrive within %v", h.cfg.Read))
	}
	if err != nil {
		return nil, badRequest("the body could not be read: " + err.Error())
	}
	// From now on only the client's going away ends a read of the connection.
	_ = http.NewResponseController(w).SetReadDeadline(time.Time{})
	return bytes.TrimSpace(body), nil
}

// checkJSON says what keeps body from being one JSON value, or nil.
func checkJSON(body []byte) *problem {
	if !utf8.Valid(body) {
		return badRequest("the body is no JSON: it is not UTF-8")
	}
	var v json.RawMessage
	if err := json.Unmarshal(body, &v); err != nil {
		if s, ok := errors.AsType[*json.SyntaxError](err); ok {
			return badRequest(fmt.Sprintf("the body is no JSON: at byte %d: %v", s.Offset, err))
		}
		return badRequest("the body is no JSON: " + err.Error())
	}
	return nil
}

// json answers with v.
func (h *handler) json(w http.ResponseWriter, r *http.Request, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Errorf("encode %T: %w", v, err)) // what a backend gave is not JSON
	}
	h.write(w, r, status, body)
}

// write answers with body, in at most Write. Nobody is left to be told when it fails.
func (h *handler) write(w http.ResponseWriter, _ *http.Request, status int, body []byte) {
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(h.cfg.Write))
	head := w.Header()
	if head.Get("Content-Type") == "" {
		head.Set("Content-Type", "application/json")
	}
	head.Set("Content-Length", strconv.Itoa(len(body)+1))
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n'))
}
