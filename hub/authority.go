package hub

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"sync"
	"sync/atomic"
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

// authority decides who is a member, in one term of this hub. It goes on with what
// the ledger has: nodes do not notice, and join again only in another ledger.
type authority struct {
	cfg    *Config
	term   *term
	prefix string
	log    *slog.Logger
	conn   *engine.Conn
	alone  bool // nothing else keeps a second hub away

	pool     *runner.Pool
	requests *link.Endpoint // answers as link.Hub, in whatever life
	own      *link.Endpoint // raises; its life is the number of the term
	unview   func()         // ends the subscription to the view

	machine *members.Machine
	roster  *members.Roster   // what the log has: what may be told
	decided members.Decisions // the ledger is to take it
	flight  []members.Changed // the ledger has taken it
	held    []held
	again   <-chan time.Time // when the ledger is asked again; nil: it takes what it is given
	stuck   bool             // that it does not was logged
	proving int64            // when prove asked last, after began

	began     time.Time
	kept      atomic.Uint64 // the last change that is in the log
	proved    atomic.Int64  // when the last round that is in the log was cut, after began
	waiting   atomic.Bool   // something is held
	confirmed chan struct{} // 1: look at kept and proved

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

// startAuthority returns when nodes can join.
func (h *Hub) startAuthority(ctx context.Context, t *term) (_ *authority, err error) {
	now, alone := time.Now(), t.desk == nil
	a := &authority{
		cfg: &h.cfg, term: t, prefix: h.prefix, log: h.log, conn: h.conn, alone: alone,
		pool:    runner.New(),
		machine: members.From(members.Config{TTL: h.cfg.TTL, Grace: t.grace(h.cfg.TTL)}, now, t.roster),
		roster:  t.roster, began: now, proving: math.MinInt64 / 2, confirmed: make(chan struct{}, 1),
		inbox:   make(chan *link.Inbound, 256), // a round of the loop
		posted:  make(chan struct{}, 1),
		touched: make(map[uint64]bool),
		logged:  make(map[uint64]members.State),
		skews:   make(map[uint64]int64),
		look:    h.look,
		done:    make(chan struct{}),
	}
	a.kept.Store(a.machine.Version())
	a.proved.Store(math.MinInt64 / 2)
	for _, m := range t.roster.Members() {
		a.logged[m.Life] = m.State
	}
	a.ctx, a.cancel = context.WithCancelCause(context.Background())
	defer func() {
		if err != nil {
			a.release()
		}
	}()
	a.own, err = link.Open(link.Config{ID: link.ID(t.number), Name: "hub", Prefix: a.prefix, Conn: a.conn, Runner: a.pool, Serve: refuse, Logger: a.cfg.Logger})
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
	if t.desk != nil {
		t.desk.confirming(a.confirm)
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
	if h.term.desk != nil {
		h.term.desk.confirming(nil)
	}
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
	h.hello() // nodes that wait for a hub hear that there is one
	h.prove(time.Now())
	for n := 0; ; h.settle() {
		select {
		case <-h.ctx.Done():
			return
		case <-h.posted:
			for _, f := range h.takePosts() {
				f()
			}
		case <-h.confirmed:
		case <-h.again:
			h.again = nil
		case now := <-tick.C:
			h.apply(h.machine.Tick(time.Now()))
			h.prove(now)
			n++
			loads := map[uint64]members.Load(nil)
			if n%2 == 0 {
				loads = h.machine.Loads()
			}
			if loads != nil || n%10 == 0 {
				h.broadcast(session.Broadcast{Version: h.roster.Version(), Loads: loads})
			}
		case in := <-h.inbox:
			for more, n := true, 0; more && n < round; n++ {
				h.request(in)
				select {
				case in = <-h.inbox:
				default:
					more = false
				}
			}
		}
	}
}

// request applies one request. Its answer is held until the log has what it tells.
func (h *authority) request(in *link.Inbound) {
	now := time.Now()
	stamp := func() session.Stamp { return session.StampAt(h.term.ledger, h.term.number, now, time.Now()) }
	reply := func(v any) {
		data, err := json.Marshal(v)
		if err != nil {
			in.Reply(wire.Report{Outcome: wire.Dirty, Error: &wire.Error{Message: err.Error()}})
			return
		}
		in.Reply(wire.Report{Outcome: wire.OK, Over: true, Payload: data})
	}
	understood := func(q any) bool {
		err := json.Unmarshal(in.Input, q)
		if err != nil {
			in.Reply(failure(fmt.Sprintf("malformed input of %s: %v", in.Kind, err)))
		}
		return err == nil
	}
	stand := func(m members.Member, err error) func() {
		return func() {
			r := session.BeatReply{Stamp: stamp(), Version: h.roster.Version(), State: m.State, Reason: m.Reason, Again: errors.Is(err, members.ErrJoinAgain)}
			if err != nil && !r.Again {
				r.Reason = err.Error()
			}
			reply(r)
		}
	}
	hold := func(do func()) {
		h.held = append(h.held, held{version: h.machine.Version(), do: do, in: in, at: now})
	}
	switch in.Kind {
	case session.KindJoin:
		var q session.JoinRequest
		if !understood(&q) {
			return
		}
		r := session.JoinReply{TTL: h.cfg.TTL}
		switch {
		case q.Protocol != session.Protocol:
			r.Refused = fmt.Sprintf("it speaks protocol %d, the hub %d: run the same version of DistGear on both", q.Protocol, session.Protocol)
		case q.Prefix != h.prefix:
			r.Refused = fmt.Sprintf("it wants to join %q, this is the hub of %q", q.Prefix, h.prefix)
		case link.ID(q.Life) != in.From():
			r.Refused = fmt.Sprintf("it joins as life %x and sends as %v", q.Life, in.From())
		default:
			m, effects, err := h.machine.Join(now, q.Request)
			if err != nil {
				r.Refused = err.Error()
			}
			r.Member = m
			h.apply(effects)
		}
		if r.Refused != "" {
			h.log.Warn("refused a node", "node", q.Name, "life", in.From(), "reason", r.Refused)
		}
		h.held = append(h.held, held{version: h.machine.Version(), in: in, at: now, renews: true, do: func() {
			r.Stamp = stamp()
			reply(r)
		}})
	case session.KindBeat:
		var q session.BeatRequest
		if !understood(&q) {
			return
		}
		m, effects, err := h.machine.Beat(now, q.Life, q.Incarnation, q.Load)
		h.apply(effects)
		if err != nil {
			hold(stand(m, err))
			return
		}
		h.skews[q.Life] = q.Skew
		h.held = append(h.held, held{in: in, at: now, renews: true, do: func() {
			if k, ok := h.roster.Member(q.Life); ok && k.Incarnation == q.Incarnation {
				m = k // what the log does not have is not told
			}
			stand(m, nil)()
		}})
	case session.KindKinds:
		var q session.KindsRequest
		if !understood(&q) {
			return
		}
		m, effects, err := h.machine.SetKinds(now, q.Life, q.Incarnation, q.Kinds, q.Rev)
		h.apply(effects)
		hold(stand(m, err))
	case session.KindLeave:
		var q session.BeatRequest
		if !understood(&q) {
			return
		}
		h.apply(h.machine.Leave(now, q.Life, q.Incarnation))
		m, _ := h.machine.Member(q.Life)
		hold(stand(m, nil))
	case session.KindView:
		var q session.ViewRequest
		if !understood(&q) {
			return
		}
		r := h.view(q)
		r.Stamp = stamp()
		reply(r)
	case session.KindProbe:
		reply(stamp())
	case client.KindInspect:
		var q client.Query
		if understood(&q) {
			h.inspect(q, reply)
		}
	case client.KindWaits:
		var q client.WaitsReport
		if understood(&q) {
			reply(h.report(now, uint64(in.From()), q))
		}
	default:
		in.Reply(failure("a hub does not serve " + in.Kind))
	}
}

// raise runs an event of a member on a handler, and has ended called by the
// loop with what became of it.
func (h *authority) raise(kind string, m, handler members.Member, ended func(m, handler members.Member, rep wire.Report, err error)) {
	if now, _ := h.machine.Member(handler.Life); now.Incarnation != handler.Incarnation || !now.State.Live() {
		return // its session is over, and the machine has asked another
	}
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
	h.hello()
}

// overhear notices another hub of the cluster. Of two, the later ends.
func (h *authority) overhear(data []byte) {
	var b struct {
		Hub uint64 `json:"hub"`
	}
	if json.Unmarshal(data, &b) != nil || b.Hub == 0 || b.Hub == h.term.ledger {
		return
	}
	if b.Hub > h.term.ledger {
		h.post(h.hello) // it shall hear of us
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
