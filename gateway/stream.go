package gateway

import (
	"context"
	"encoding/json"
	"iter"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/distgear/distgear/cluster"
	"github.com/distgear/distgear/record"
)

// wantsStream says whether the client accepts server-sent events.
func wantsStream(r *http.Request) bool {
	if r.Method != http.MethodGet { // the answer to HEAD has no end to wait for
		return false
	}
	for _, accept := range r.Header.Values("Accept") {
		for kind := range strings.SplitSeq(accept, ",") {
			kind, _, _ = strings.Cut(kind, ";")
			if strings.EqualFold(strings.TrimSpace(kind), "text/event-stream") {
				return true
			}
		}
	}
	return false
}

// ended is the id of a stream's last event: a client that saw it and comes back,
// as browsers do, is told by 204 that there is no more.
const ended = "end"

// watchRun serves GET /v1/runs/{id}/events.
func (h *handler) watchRun(w http.ResponseWriter, r *http.Request) {
	if _, p := query(r); p != nil {
		h.problem(w, r, p)
		return
	}
	id := record.RunID(r.PathValue("id"))
	last := r.Header.Get("Last-Event-ID")
	if last == ended {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	seen, err := strconv.ParseUint(last, 10, 64)
	resumed := err == nil
	s := stream{h: h, w: w, r: r, run: id}
	var state record.RunState
	pump(&s, h.watch, func(rec record.Run) {
		state = rec.State
		if !resumed || rec.Version > seen {
			s.event("run", strconv.FormatUint(rec.Version, 10), rec)
		} else {
			s.open() // what there is was seen: nothing to say yet, but the stream stands
		}
	})
	if s.whole() {
		s.event("end", ended, struct {
			ID    record.RunID    `json:"id"`
			State record.RunState `json:"state"`
		}{id, state})
	}
}

// watchMembers is GET /v1/members as a stream.
func (h *handler) watchMembers(w http.ResponseWriter, r *http.Request) {
	s := stream{h: h, w: w, r: r}
	watch := func(ctx context.Context, _ record.RunID) iter.Seq2[cluster.Member, error] {
		return h.b.watchMembers(ctx)
	}
	pump(&s, watch, func(m cluster.Member) { s.event("member", "", m) })
}

// stream writes server-sent events. One goroutine uses it.
type stream struct {
	h      *handler
	w      http.ResponseWriter
	r      *http.Request
	run    record.RunID         // what is watched, if it is a run
	says   func(error) *problem // nil: as of a run
	opened bool                 // the status is written: problems become events
	cut    bool                 // ended before what it tells of did
}

// pump has each called with what watch yields, and keeps the stream alive
// between. It returns when watch ended, failed, the client went away or the
// gateway stops, and the goroutine it started is gone then.
func pump[T any](s *stream, watch func(context.Context, record.RunID) iter.Seq2[T, error], each func(T)) {
	type item struct {
		v   T
		err error
	}
	ctx, cancel := context.WithCancel(s.r.Context())
	items := make(chan item) // unbuffered: a slow client slows the watch, which tells changes together
	defer func() {
		cancel()
		for range items { // until the goroutine has closed it
		}
	}()
	go func() {
		defer close(items)
		for v, err := range watch(ctx, s.run) {
			select {
			case items <- item{v, err}:
			case <-ctx.Done():
				return
			}
			if err != nil {
				return
			}
		}
	}()
	beat := time.NewTicker(s.h.cfg.Heartbeat)
	defer beat.Stop()
	for {
		select {
		case it, ok := <-items:
			if !ok {
				s.cut = s.cut || ctx.Err() != nil
				return
			}
			if it.err != nil {
				s.fail(it.err)
				return
			}
			each(it.v)
		case <-beat.C:
			s.open()
			s.send(": still here\n\n")
		case <-s.h.quit:
			s.cut = true
			s.open()
			s.send(": the gateway is stopping\n\n")
		}
		if s.cut {
			return
		}
	}
}

// whole says that what was watched ended by itself and the client was told all.
func (s *stream) whole() bool { return !s.cut }

// open writes status and header once.
func (s *stream) open() {
	if s.opened {
		return
	}
	s.opened = true
	head := s.w.Header()
	head.Set("Content-Type", "text/event-stream")
	head.Set("X-Accel-Buffering", "no") // nginx would keep events until its buffer is full
	s.w.WriteHeader(http.StatusOK)
	s.send("")
}

// event sends one event; an empty id leaves the client's as it is.
func (s *stream) event(name, id string, v any) {
	data, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	var b strings.Builder
	if id != "" {
		b.WriteString("id: " + id + "\n")
	}
	b.WriteString("event: " + name + "\ndata: ")
	b.Write(data) // one line: JSON has its newlines escaped
	b.WriteString("\n\n")
	s.open()
	s.send(b.String())
}

func (s *stream) send(text string) {
	rc := http.NewResponseController(s.w)
	_ = rc.SetWriteDeadline(time.Now().Add(s.h.cfg.Write))
	_, err := s.w.Write([]byte(text))
	if err == nil {
		err = rc.Flush()
	}
	if err != nil { // the client is gone, or too slow to be waited for
		s.cut = true
	}
	_ = rc.SetWriteDeadline(time.Time{})
}

// fail ends the stream for err: a problem document, as long as there can be one.
func (s *stream) fail(err error) {
	s.cut = true
	if s.r.Context().Err() != nil {
		return
	}
	var p *problem
	if s.says != nil {
		p = s.says(err)
	} else {
		p = problemOfRun(err, s.run)
	}
	if !s.opened {
		s.h.problem(s.w, s.r, p)
		return
	}
	p.Type, p.Title = typeBase+p.slug, titles[p.slug]
	s.event("error", "", p)
}
