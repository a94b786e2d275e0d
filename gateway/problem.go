package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"

	"github.com/distgear/distgear"
	"github.com/distgear/distgear/cluster"
	"github.com/distgear/distgear/executor"
	"github.com/distgear/distgear/record"
)

// problem is an RFC 9457 problem document.
type problem struct {
	Type    string           `json:"type"`
	Title   string           `json:"title"`
	Status  int              `json:"status"`
	Detail  string           `json:"detail,omitempty"`
	Outcome string           `json:"outcome,omitempty"` // "never ran", "failed", "unknown"
	Clean   bool             `json:"clean,omitempty"`   // failed, and nothing was changed
	Node    cluster.NodeName `json:"node,omitempty"`
	Run     record.RunID     `json:"run,omitempty"`
	Task    executor.TaskID  `json:"task,omitempty"`

	slug string // the last part of Type
}

const typeBase = "https://pkg.go.dev/github.com/distgear/distgear/gateway#"

// titles of the problems by slug. The package comment's table lists them.
var titles = map[string]string{
	"bad-request":        "The request is malformed",
	"wrong-input":        "The input is not what the event or action takes",
	"unauthorized":       "A bearer token is needed",
	"forbidden":          "The request may come from another site",
	"not-found":          "There is no such thing",
	"unknown-event":      "No node handles this event",
	"unknown-run":        "No node remembers this run",
	"method-not-allowed": "The method is not allowed here",
	"slow-body":          "The body did not arrive in time",
	"unknown-executor":   "Nobody has this executor",
	"unknown-task":       "The executor does not know this task",
	"unknown-schedule":   "There is no such schedule",
	"task-failed":        "The task failed",
	"task-timed-out":     "The task ran out of time",
	"conflict":           "The state of the run or task forbids it",
	"cancelled":          "The run was cancelled",
	"too-large":          "The body is too large",
	"event-failed":       "The event's handler failed",
	"event-timed-out":    "The event's handler ran out of time",
	"overloaded":         "The cluster has no room now",
	"unavailable":        "The cluster cannot be asked now",
	"stopping":           "The gateway is stopping",
	"outcome-unknown":    "Nobody could say what became of the event",
	"fault":              "The gateway has a fault",
}

// refusal is a problem of a request that had no effect.
func refusal(status int, slug, detail string) *problem {
	return &problem{Status: status, slug: slug, Detail: detail, Outcome: "never ran"}
}

// problem writes p. Nobody is left to be told when writing fails.
func (h *handler) problem(w http.ResponseWriter, r *http.Request, p *problem) {
	p.Type, p.Title = typeBase+p.slug, titles[p.slug]
	body, err := json.Marshal(p)
	if err != nil {
		panic(err) // strings and numbers only
	}
	head := w.Header()
	head.Set("Content-Type", "application/problem+json")
	if p.Run != "" {
		head.Set("Distgear-Run", string(p.Run))
	}
	if p.Task != "" {
		head.Set("Distgear-Task", string(p.Task))
	}
	switch p.Status {
	case http.StatusUnauthorized:
		if r.ContentLength != 0 { // or net/http would wait for the body before it answers
			head.Set("Connection", "close")
		}
		head.Set("WWW-Authenticate", `Bearer realm="distgear"`)
	case http.StatusServiceUnavailable:
		head.Set("Retry-After", "1")
	}
	h.write(w, r, p.Status, body)
}

// outcomeText is the word of a problem for o.
func outcomeText(o distgear.Outcome) string {
	switch o {
	case distgear.NeverRan:
		return "never ran"
	case distgear.FailedClean, distgear.FailedDirty:
		return "failed"
	default:
		return "unknown"
	}
}

// problemOf says what err, of a raise or (with its run) of its future, is to a
// client. What ran is told from what did not first: the handler of an event may
// itself have met any of the sentinels.
func problemOf(err error, run record.RunID) *problem {
	o := distgear.OutcomeOf(err)
	p := &problem{Detail: err.Error(), Run: run}
	remote, reported := errors.AsType[*distgear.RemoteError](err)
	if reported {
		p.Node = remote.Node
	} else if run != "" && errors.Is(err, distgear.ErrInvalid) {
		o = distgear.Unknown // it was sent; what came back could not be read
	}
	p.Outcome, p.Clean = outcomeText(o), o == distgear.FailedClean
	// says is true where target is what became of this event, and not only
	// among what its handler met: the framework puts it in front.
	says := func(target error) bool {
		return errors.Is(err, target) && (!reported || strings.HasPrefix(remote.Message, target.Error()))
	}
	switch ran := o == distgear.FailedClean || o == distgear.FailedDirty; {
	case o == distgear.Unknown:
		p.Status, p.slug = http.StatusGatewayTimeout, "outcome-unknown"
	case says(distgear.ErrCancelled):
		p.Status, p.slug = http.StatusConflict, "cancelled"
	case says(distgear.ErrConflict):
		p.Status, p.slug = http.StatusConflict, "conflict"
	case says(distgear.ErrInvalid) && !reported:
		p.Status, p.slug = http.StatusBadRequest, "bad-request"
	case says(distgear.ErrInvalid) && o != distgear.FailedDirty:
		p.Status, p.slug = http.StatusBadRequest, "wrong-input"
	case ran && says(distgear.ErrTimeout):
		p.Status, p.slug = http.StatusUnprocessableEntity, "event-timed-out"
	case ran:
		p.Status, p.slug = http.StatusUnprocessableEntity, "event-failed"
	case says(distgear.ErrNoNode):
		p.Status, p.slug = http.StatusNotFound, "unknown-event"
	case says(distgear.ErrOverloaded), says(distgear.ErrQueueTimeout):
		p.Status, p.slug = http.StatusServiceUnavailable, "overloaded"
	default: // ErrLeft, ErrRefused, and what a node may refuse for besides
		p.Status, p.slug = http.StatusServiceUnavailable, "unavailable"
	}
	return p
}

// problemOfRun is problemOf for requests about a run rather than an event.
func problemOfRun(err error, run record.RunID) *problem {
	p := &problem{Detail: err.Error(), Run: run, Outcome: outcomeText(distgear.OutcomeOf(err))}
	switch is := func(target error) bool { return errors.Is(err, target) }; {
	case is(distgear.ErrNoRun):
		p.Status, p.slug, p.Outcome, p.Run = http.StatusNotFound, "unknown-run", "never ran", ""
	case is(distgear.ErrOverloaded):
		p.Status, p.slug = http.StatusServiceUnavailable, "overloaded"
	case is(distgear.ErrUnknown), is(distgear.ErrTimeout), is(context.DeadlineExceeded):
		p.Status, p.slug = http.StatusGatewayTimeout, "outcome-unknown"
	case is(distgear.ErrNoNode), is(distgear.ErrLeft), is(distgear.ErrRefused):
		p.Status, p.slug = http.StatusServiceUnavailable, "unavailable"
	case is(context.Canceled): // of the client nobody is left to read it
		p.Status, p.slug = http.StatusServiceUnavailable, "stopping"
	case is(distgear.ErrInvalid): // what a node, or the ledger, said about the run as it is
		p.Status, p.slug, p.Outcome = http.StatusConflict, "conflict", "never ran"
		if remote, ok := errors.AsType[*distgear.RemoteError](err); ok {
			p.Detail, p.Node = remote.Message, remote.Node // its kind is of nobody's program
		}
	default:
		p.Status, p.slug = http.StatusConflict, "conflict"
	}
	return p
}
