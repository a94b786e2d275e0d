package hub

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/distgear/distgear/internal/client"
	"github.com/distgear/distgear/internal/engine"
	"github.com/distgear/distgear/internal/link"
	"github.com/distgear/distgear/internal/machine/members"
	"github.com/distgear/distgear/internal/runner"
	"github.com/distgear/distgear/internal/session"
	"github.com/distgear/distgear/internal/wire"
)

const (
	// round is how many requests are applied before their changes are
	// published and their answers sent.
	round = 256
	// maxBroadcast is the size in bytes after which a broadcast is cut.
	maxBroadcast = 256 << 10
	// raiseTime is how long the init event or the loss event may run.
	raiseTime = 30 * time.Second
)

// authority decides who is a member, while this hub is the one that does: all
// the time, or where there is a ledger with several hubs as long as it is the
// writer. Each has a life of its own, later than those before it, whatever hub
// they were at: by it nodes know that they have to join again.
type authority struct {
	cfg    *Config
	life   link.ID
	prefix string
	log    *slog.Logger
	conn   *engine.Conn
	alone  bool // nothing else keeps a second hub away

	pool     *runner.Pool
	requests *link.Endpoint // answers as link.Hub, in whatever life
	own      *link.Endpoint // raises, as this life
	unview   func()         // ends the subscription to the view

	machine *members.Machine
	inbox   chan *link.Inbound
	touched map[uint64]bool          // lives that own has ever sent to
	logged  map[uint64]members.State // by life: what the log says
	skews   map[uint64]int64         // by life: ns that its clock is ahead
	waits   waits
	look    func(context.Context, client.Query) client.Inspection

	pmu    sync.Mutex
	posts  []func()      // for the loop
	posted chan struct{} // 1: there are posts

	ctx    context.Context // of the goroutines
	cancel context.CancelCauseFunc
	wg     sync.WaitGroup // loop
	raises sync.WaitGroup // started by loop only
	done   chan struct{}
	mu     sync.Mutex
	err    error
}

// startAuthority returns when nodes can join. term is the ledger's, and the life of
// the authority: the later epoch has the higher one, whatever the clocks of the
// hubs say. 0: this is the only hub.
func (h *Hub) startAuthority(ctx context.Context, term uint64) (_ *authority, err error) {
	now, alone, life := time.Now(), term == 0, link.ID(term)
	if alone {
		life = link.NewID(now)
	}
	a := &authority{
		cfg: &h.cfg, life: life, prefix: h.prefix, log: h.log, conn: h.conn, alone: alone,
		pool:    runner.New(),
		machine: members.New(members.Config{TTL: h.cfg.TTL}, now),
		inbox:   make(chan *link.Inbound, 256), // a round of the loop
		posted:  make(chan struct{}, 1),
		touched: make(map[uint64]bool),
		logged:  make(map[uint64]members.State),
		skews:   make(map[uint64]int64),
		look:    h.look,
		done:    make(chan struct{}),
	}
	a.ctx, a.cancel = context.WithCancelCause(context.Background())
	defer func() {
		if err != nil {
			a.release()
		}
	}()
	a.own, err = link.Open(link.Config{ID: a.life, Name: "hub", Prefix: a.prefix, Conn: a.conn, Runner: a.pool, Serve: refuse, Logger: a.cfg.Logger})
	if err != nil {
		return nil, err
	}
	if alone && h.server == nil {
		if err = a.probe(ctx); err != nil {
			return nil, err
		}
	}
	a.requests, err = link.Open(link.Config{ID: link.Hub, Name: "hub", Prefix: a.prefix, Conn: a.conn, Runner: a.pool, Serve: a.serve, Logger: a.cfg.Logger})
	if err != nil {
		return nil, err
	}
	if alone {
		a.unview, err = a.conn.Subscribe(session.ViewSubject(a.prefix), a.overhear)
		if err != nil {
			return nil, err
		}
	}
	a.wg.Go(a.loop)
	return a, nil
}

// probe asks whether a hub is there already.
func (h *authority) probe(ctx context.Context) error {
	if err := h.conn.Flush(ctx); err != nil {
		return fmt.Errorf("NATS at %s: %w", h.cfg.URLs, err)
	}
	wait, cancel := context.WithTimeout(ctx, probeTime)
	defer cancel()
	rep, err := h.own.Do(wait, link.Hub, &wire.Command{Kind: session.KindProbe}, 0)
	switch {
	case err == nil && rep.Outcome == wire.OK:
		return fmt.Errorf("cluster %q has a hub already on the NATS at %s: stop that one, or name another cluster", h.cfg.Cluster, h.cfg.URLs)
	case ctx.Err() != nil:
		return context.Cause(ctx)
	}
	return nil
}

// close ends the authority and returns when its goroutines are gone.
func (h *authority) close() {
	h.cancel(errors.New("hub: closed"))
	h.wg.Wait() // first: it uses what is released
	h.release()
}

// release gives back what start took, in reverse order.
func (h *authority) release() {
	h.cancel(nil)
	if h.unview != nil {
		h.unview()
	}
	if h.requests != nil {
		h.requests.Close()
	}
	h.raises.Wait()
	if h.own != nil {
		h.own.Close()
	}
	h.pool.Close()
}

// refuse answers commands to the hub's own life: there are none.
func refuse(in *link.Inbound) { in.Reply(failure("a hub does not serve " + in.Kind)) }

func failure(why string) wire.Report {
	return wire.Report{Outcome: wire.NeverRan, Over: true, Error: &wire.Error{Message: why}}
}

// serve hands a request to the loop.
func (h *authority) serve(in *link.Inbound) {
	select {
	case h.inbox <- in:
	case <-h.ctx.Done():
		in.Reply(failure("the hub is closing"))
	}
}

// post has f called by the loop, unless the hub ends first. It does not block.
func (h *authority) post(f func()) {
	h.pmu.Lock()
	h.posts = append(h.posts, f)
	h.pmu.Unlock()
	select {
	case h.posted <- struct{}{}:
	default:
	}
}

func (h *authority) takePosts() []func() {
	h.pmu.Lock()
	defer h.pmu.Unlock()
	posts := h.posts
	h.posts = nil
	return posts
}

// loop owns the machine. When it ends the hub is deaf: a request that nobody
// answers is one the other hub, if there is one, can answer.
func (h *authority) loop() {
	defer close(h.done)
	defer h.requests.Close()
	tick := time.NewTicker(h.cfg.TTL / 10)
	defer tick.Stop()
	h.broadcast(session.Broadcast{}) // nodes that wait for a hub hear that there is one
	var replies []func()
	for n := 0; ; {
		select {
		case <-h.ctx.Done():
			return
		case <-h.posted:
			for _, f := range h.takePosts() {
				f()
			}
		case <-tick.C:
			h.apply(h.machine.Tick(time.Now()))
			n++
			loads := map[uint64]members.Load(nil)
			if n%2 == 0 {
				loads = h.machine.Loads()
			}
			if loads != nil || n%10 == 0 {
				h.broadcast(session.Broadcast{Loads: loads})
			}
		case in := <-h.inbox:
			var effects []members.Effect
			for more := true; more && len(replies) < round; {
				reply, e := h.request(in)
				replies, effects = append(replies, reply), append(effects, e...)
				select {
				case in = <-h.inbox:
				default:
					more = false
				}
			}
			h.apply(effects)
			for i, reply := range replies {
				reply()
				replies[i] = nil
			}
			replies = replies[:0]
		}
	}
}

// request applies one request and returns what sends its answer.
func (h *authority) request(in *link.Inbound) (reply func(), effects []members.Effect) {
	now := time.Now()
	answer := func(v any) func() {
		return func() {
			data, err := json.Marshal(v)
			if err != nil {
				in.Reply(wire.Report{Outcome: wire.Dirty, Error: &wire.Error{Message: err.Error()}})
				return
			}
			in.Reply(wire.Report{Outcome: wire.OK, Over: true, Payload: data})
		}
	}
	malformed := func(err error) func() {
		return func() { in.Reply(failure(fmt.Sprintf("malformed input of %s: %v", in.Kind, err))) }
	}
	stamp := session.StampAt(uint64(h.life), now, now)
	stand := func(m members.Member, err error) func() {
		r := session.BeatReply{Stamp: stamp, Version: h.machine.Version(), State: m.State, Reason: m.Reason, Again: errors.Is(err, members.ErrJoinAgain)}
		if err != nil && !r.Again {
			r.Reason = err.Error()
		}
		return answer(r)
	}
	switch in.Kind {
	case session.KindJoin:
		var q session.JoinRequest
		if err := json.Unmarshal(in.Input, &q); err != nil {
			return malformed(err), nil
		}
		r := session.JoinReply{Stamp: stamp, TTL: h.cfg.TTL}
		switch {
		case q.Protocol != session.Protocol:
			r.Refused = fmt.Sprintf("it speaks protocol %d, the hub %d: run the same version of DistGear on both", q.Protocol, session.Protocol)
		case q.Prefix != h.prefix:
			r.Refused = fmt.Sprintf("it wants to join %q, this is the hub of %q", q.Prefix, h.prefix)
		case link.ID(q.Life) != in.From():
			r.Refused = fmt.Sprintf("it joins as life %x and sends as %v", q.Life, in.From())
		default:
			var err error
			r.Member, effects, err = h.machine.Join(now, q.Request)
			if err != nil {
				r.Refused = err.Error()
			}
		}
		if r.Refused != "" {
			h.log.Warn("refused a node", "node", q.Name, "life", in.From(), "reason", r.Refused)
		}
		return answer(r), effects
	case session.KindBeat:
		var q session.BeatRequest
		if err := json.Unmarshal(in.Input, &q); err != nil {
			return malformed(err), nil
		}
		m, effects, err := h.machine.Beat(now, q.Life, q.Incarnation, q.Load)
		if err == nil {
			h.skews[q.Life] = q.Skew
		}
		return stand(m, err), effects
	case session.KindKinds:
		var q session.KindsRequest
		if err := json.Unmarshal(in.Input, &q); err != nil {
			return malformed(err), nil
		}
		m, effects, err := h.machine.SetKinds(now, q.Life, q.Incarnation, q.Kinds, q.Rev)
		return stand(m, err), effects
	case session.KindLeave:
		var q session.BeatRequest
		if err := json.Unmarshal(in.Input, &q); err != nil {
			return malformed(err), nil
		}
		effects := h.machine.Leave(now, q.Life, q.Incarnation)
		m, _ := h.machine.Member(q.Life)
		return stand(m, nil), effects
	case session.KindView:
		r := session.ViewReply{Stamp: stamp}
		r.Version, r.Members = h.machine.Snapshot()
		return answer(r), nil
	case session.KindProbe:
		return answer(stamp), nil
	case client.KindInspect:
		var q client.Query
		if err := json.Unmarshal(in.Input, &q); err != nil {
			return malformed(err), nil
		}
		return h.inspect(q, answer), nil
	case client.KindWaits:
		var q client.WaitsReport
		if err := json.Unmarshal(in.Input, &q); err != nil {
			return malformed(err), nil
		}
		return answer(h.report(now, uint64(in.From()), q)), nil
	}
	return func() { in.Reply(failure("a hub does not serve " + in.Kind)) }, nil
}

// apply does what the machine wants done.
func (h *authority) apply(effects []members.Effect) {
	var b session.Broadcast
	size := 0
	for _, e := range effects {
		c, ok := e.(members.Changed)
		if !ok {
			continue
		}
		h.changed(c)
		b.Changes = append(b.Changes, c)
		if size += weigh(&c.Member); size > maxBroadcast {
			h.broadcast(b)
			b, size = session.Broadcast{}, 0
		}
	}
	if b.Changes != nil {
		h.broadcast(b)
	}
	for _, e := range effects {
		switch e := e.(type) {
		case members.NeedInit:
			h.raise(members.KindJoin, e.Member, e.Handler, h.initEnded)
		case members.RaiseLost:
			h.raise(members.KindLost, e.Member, e.Handler, h.lossEnded)
		}
	}
}

// weigh estimates the bytes of a member in a broadcast.
func weigh(m *members.Member) int {
	n := 512 + 32*len(m.Load.Kinds)
	for _, k := range m.Kinds {
		n += len(k) + 3
	}
	for k, v := range m.Labels {
		n += len(k) + len(v) + 6
	}
	return n
}

// changed logs a change of the view, and keeps the links in step with it.
func (h *authority) changed(c members.Changed) {
	m := &c.Member
	switch {
	case c.Dropped:
		h.requests.Forget(link.ID(m.Life))
	case m.State.Over() && h.touched[m.Life]:
		h.own.Over(link.ID(m.Life)) // who waits for it, a raise, waits no more
	case m.State == members.Joining && h.touched[m.Life]:
		h.own.Back(link.ID(m.Life))
	}
	if c.Dropped {
		delete(h.logged, m.Life)
		delete(h.skews, m.Life)
		return
	}
	if h.logged[m.Life] == m.State { // other kinds, say: nothing for the log
		return
	}
	h.logged[m.Life] = m.State
	level := h.log.Info
	if m.State == members.Joining {
		level = h.log.Debug
	}
	if m.State == members.Suspect || m.State == members.Lost || m.Refused() {
		level = h.log.Warn
	}
	args := []any{"node", m.Name, "state", m.State, "incarnation", m.Incarnation, "life", link.ID(m.Life)}
	if m.Reason != "" {
		args = append(args, "reason", m.Reason)
	}
	level("member", args...)
}

// broadcast publishes to every session. One that is lost is found missing by
// the next beat of each.
func (h *authority) broadcast(b session.Broadcast) {
	b.Hub = uint64(h.life)
	data, err := json.Marshal(b)
	if err != nil {
		h.log.Error("cannot encode a broadcast", "err", err) // a load that is no number
		return
	}
	_ = h.conn.Publish(session.ViewSubject(h.prefix), data)
}

// raise runs an event of a member on a handler, and has ended called by the
// loop with what became of it.
func (h *authority) raise(kind string, m, handler members.Member, ended func(m, handler members.Member, rep wire.Report, err error)) {
	h.touched[handler.Life] = true
	data, err := json.Marshal(m)
	if err != nil {
		h.log.Error("cannot encode a member", "node", m.Name, "err", err)
		return
	}
	cmd := &wire.Command{
		Kind:  kind,
		Key:   fmt.Sprintf("%s/%x/%d", kind, m.Life, m.Incarnation),
		Run:   uint32(raiseTime / time.Millisecond),
		Input: append([]byte{'j'}, data...),
	}
	h.raises.Go(func() {
		// The handler itself ends the event at raiseTime; this bound is for
		// one that does not.
		ctx, cancel := context.WithTimeout(h.ctx, raiseTime+h.cfg.TTL)
		defer cancel()
		rep, err := h.own.Do(ctx, link.ID(handler.Life), cmd, 0)
		h.post(func() { ended(m, handler, rep, err) })
	})
}

func (h *authority) initEnded(m, handler members.Member, rep wire.Report, err error) {
	now := time.Now()
	switch {
	case err == nil && rep.Outcome == wire.OK:
		h.apply(h.machine.Admit(now, m.Life, m.Incarnation, handler.Life))
	case err == nil && (rep.Outcome == wire.Clean || rep.Outcome == wire.Dirty || useless(rep)):
		h.apply(h.machine.Refuse(now, m.Life, m.Incarnation, handler.Life, reason(rep)))
	default:
		h.log.Warn("the init event could not be run", "node", m.Name, "on", handler.Name, "reason", cause(rep, err))
		h.apply(h.machine.InitFailed(now, m.Life, m.Incarnation, handler.Life))
	}
}

func (h *authority) lossEnded(m, handler members.Member, rep wire.Report, err error) {
	now := time.Now()
	if err != nil || rep.Outcome == wire.Unknown || rep.Outcome == wire.NeverRan && !useless(rep) {
		h.log.Warn("a loss could not be told", "node", m.Name, "to", handler.Name, "reason", cause(rep, err))
		h.apply(h.machine.LossFailed(now, m.Life, m.Incarnation, handler.Life))
		return
	}
	if rep.Outcome != wire.OK {
		h.log.Warn("the handler of a loss failed", "node", m.Name, "on", handler.Name, "reason", reason(rep))
	}
	h.apply(h.machine.LossTold(now, m.Life, m.Incarnation))
}

// useless tells that asking the handler again would not help: it takes another
// input than a member, say.
func useless(rep wire.Report) bool {
	return rep.Outcome == wire.NeverRan && rep.Error != nil && rep.Error.Flags&wire.Permanent != 0
}

func reason(rep wire.Report) string {
	if rep.Error == nil {
		return "its handler failed"
	}
	return cmp.Or(rep.Error.Message, "its handler failed")
}

func cause(rep wire.Report, err error) string {
	switch {
	case err != nil:
		return err.Error()
	case rep.Error != nil:
		return rep.Error.Message
	}
	return "no answer"
}

// reconnected makes up for what the hub may have missed while its connection
// was down.
func (h *authority) reconnected() {
	h.requests.Reconnected()
	h.own.Reconnected()
	h.broadcast(session.Broadcast{})
}

// overhear notices another hub of the cluster. Of two, the later ends.
func (h *authority) overhear(data []byte) {
	var b struct {
		Hub uint64 `json:"hub"`
	}
	if json.Unmarshal(data, &b) != nil || b.Hub == 0 || b.Hub == uint64(h.life) {
		return
	}
	if b.Hub > uint64(h.life) {
		h.post(func() { h.broadcast(session.Broadcast{}) }) // it shall hear of us
		return
	}
	h.fail(fmt.Errorf("hub: an earlier hub of cluster %q serves on the same NATS (life %v)", h.cfg.Cluster, link.ID(b.Hub)))
}

// fail ends the hub by itself: it stops deciding at once, and holds what it
// has until Close.
func (h *authority) fail(err error) {
	h.mu.Lock()
	first := h.err == nil && h.ctx.Err() == nil
	if first {
		h.err = err
	}
	h.mu.Unlock()
	if first {
		h.log.Error("the hub ends", "err", err)
		h.cancel(err)
	}
}

// failed says why the authority ended by itself.
func (h *authority) failed() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.err
}
