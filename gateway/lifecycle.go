package gateway

import (
	"context"
	"iter"
	"net/http"
	"slices"

	"github.com/distgear/distgear/lifecycle"
	"github.com/distgear/distgear/record"
)

// watchLifecycle serves GET /v1/lifecycle: what becomes of durable runs from now on.
func (h *handler) watchLifecycle(w http.ResponseWriter, r *http.Request) {
	q, p := query(r, "event")
	if p != nil {
		h.problem(w, r, p)
		return
	}
	s := stream{h: h, w: w, r: r, says: problemOfLook}
	watch := func(ctx context.Context, _ record.RunID) iter.Seq2[lifecycle.Event, error] { return h.b.hear(ctx) }
	pump(&s, watch, func(e lifecycle.Event) {
		if e.ID == "" { // it listens
			s.open()
		} else if !q.Has("event") || slices.Contains(q["event"], e.Event) {
			s.event("lifecycle", "", e)
		}
	})
}

// hear yields first an empty event, when what follows is heard.
func (b node) hear(ctx context.Context) iter.Seq2[lifecycle.Event, error] {
	return func(yield func(lifecycle.Event, error) bool) {
		sub, err := lifecycle.Subscribe(ctx, b.n, 0)
		if err != nil {
			yield(lifecycle.Event{}, err)
			return
		}
		defer sub.Close()
		if yield(lifecycle.Event{}, nil) {
			sub.All(ctx)(yield)
		}
	}
}
