package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"time"

	"github.com/distgear/distgear"
	"github.com/distgear/distgear/executor"
	"github.com/distgear/distgear/internal/scheduled"
	"github.com/distgear/distgear/record"
	"github.com/distgear/distgear/shared"
)

// lookEvery is how often a stream of what the hub knows asks the hub.
const lookEvery = time.Second

// lookQuery says which names are listed.
type lookQuery struct {
	prefix string
	limit  int
}

// What a look may ask for: the last part of the path.
const (
	lookLocks    = "locks"
	lookObjects  = "objects"
	lookQueues   = "queues"
	lookSessions = "sessions"
	lookDoctor   = "doctor"

	lookExecutors = "executors"
	lookSchedules = "schedules"
)

type lockList struct {
	Locks  []shared.LockInfo `json:"locks"`
	Cycles []shared.Cycle    `json:"cycles"`
	More   bool              `json:"more,omitempty"`
}

type objectList struct {
	Objects []shared.ObjectInfo `json:"objects"`
	More    bool                `json:"more,omitempty"`
}

type queueList struct {
	Queues []shared.QueueInfo `json:"queues"`
	More   bool               `json:"more,omitempty"`
}

type executorList struct {
	Executors []executor.Info `json:"executors"`
	More      bool            `json:"more,omitempty"`
}

type sessionList struct {
	Sessions []shared.SessionInfo `json:"sessions"`
	More     bool                 `json:"more,omitempty"`
}

// look asks the hub of the node.
func (b node) look(ctx context.Context, what string, q lookQuery) (v any, err error) {
	switch what {
	case lookLocks:
		var l lockList
		if l.Locks, l.More, err = first(shared.Locks(ctx, b.n, q.prefix), q.limit); err == nil {
			l.Cycles, err = shared.Cycles(ctx, b.n)
		}
		return l, err
	case lookObjects:
		var l objectList
		l.Objects, l.More, err = first(shared.Objects(ctx, b.n, q.prefix), q.limit)
		return l, err
	case lookQueues:
		var l queueList
		l.Queues, l.More, err = first(shared.Queues(ctx, b.n, q.prefix), q.limit)
		return l, err
	case lookSessions:
		var l sessionList
		l.Sessions, l.More, err = first(shared.Sessions(ctx, b.n), q.limit)
		return l, err
	case lookDoctor:
		return shared.Doctor(ctx, b.n)
	case lookExecutors:
		var l executorList
		l.Executors, l.More, err = first(executor.Operate(b.n).List(ctx, q.prefix), q.limit)
		return l, err
	case lookSchedules:
		var l scheduleList
		l.Schedules, l.More, err = first(scheduled.List(ctx, b.n, q.prefix), q.limit)
		return l, err
	}
	return nil, fmt.Errorf("%w: no %s", distgear.ErrInvalid, what)
}

// first takes so many, and tells whether there are more.
func first[T any](seq iter.Seq2[T, error], limit int) (all []T, more bool, err error) {
	all = []T{}
	for v, err := range seq {
		switch {
		case err != nil:
			return all, false, err
		case len(all) == limit:
			return all, true, nil
		}
		all = append(all, v)
	}
	return all, false, nil
}

// lookAt serves GET /v1/ and what.
func (h *handler) lookAt(what string) http.HandlerFunc {
	names := []string{"prefix", "limit"}
	switch what {
	case lookDoctor:
		names = nil
	case lookSessions:
		names = names[1:]
	}
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Vary", "Accept")
		q, p := query(r, names...)
		if p != nil {
			h.problem(w, r, p)
			return
		}
		limit, p := limitOf(q)
		if p != nil {
			h.problem(w, r, p)
			return
		}
		look := lookQuery{prefix: q.Get("prefix"), limit: limit}
		if wantsStream(r) {
			h.poll(w, r, what, problemOfLook, func(ctx context.Context) (any, error) { return h.b.look(ctx, what, look) })
			return
		}
		v, err := h.b.look(r.Context(), what, look)
		if err != nil {
			h.problem(w, r, problemOfLook(err))
			return
		}
		h.json(w, r, http.StatusOK, v)
	}
}

func problemOfLook(err error) *problem { return problemOfRun(err, "") }

// poll tells what look finds now, and again whenever it differs from what it found before.
func (h *handler) poll(w http.ResponseWriter, r *http.Request, name string, says func(error) *problem, look func(context.Context) (any, error)) {
	s := stream{h: h, w: w, r: r, says: says}
	watch := func(ctx context.Context, _ record.RunID) iter.Seq2[json.RawMessage, error] {
		return func(yield func(json.RawMessage, error) bool) {
			tick := time.NewTicker(lookEvery)
			defer tick.Stop()
			var last []byte
			for {
				v, err := look(ctx)
				switch {
				case err == nil:
					now, err := json.Marshal(v)
					if err != nil {
						panic(fmt.Errorf("encode %T: %w", v, err))
					}
					if !bytes.Equal(now, last) && !yield(now, nil) {
						return
					}
					last = now
				case last != nil && errors.Is(err, distgear.ErrNoNode): // the hub is away: what was told is the latest
				default:
					yield(nil, err)
					return
				}
				select {
				case <-tick.C:
				case <-ctx.Done():
					return
				case <-h.b.done():
					yield(nil, distgear.ErrLeft)
					return
				}
			}
		}
	}
	pump(&s, watch, func(v json.RawMessage) { s.event(name, "", v) })
}
