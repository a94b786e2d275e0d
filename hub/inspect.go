package hub

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/distgear/distgear/internal/client"
	"github.com/distgear/distgear/internal/engine"
	"github.com/distgear/distgear/internal/machine/members"
	"github.com/distgear/distgear/internal/session"
)

// inspectTime is how long a look at the ledger may take.
const inspectTime = 3 * time.Second

// inspect answers a query. What the loop owns is looked at now, the ledger
// beside the loop.
func (h *authority) inspect(q client.Query, reply func(any)) {
	var nodes []client.NodeStatus
	var loops []client.Loop
	switch q.What {
	case client.Status:
		nodes = h.nodes()
	case client.Loops:
		loops = h.waits.loops(time.Now())
	}
	h.raises.Go(func() {
		ctx, cancel := context.WithTimeout(h.ctx, inspectTime)
		defer cancel()
		r := h.look(ctx, q)
		r.Loops = loops
		if r.Hub != nil {
			r.Hub.Nodes = nodes
		}
		reply(r)
	})
}

// nodes are the members and what is known of their clocks: of each name who has it, or
// had it last. Who was refused was none.
func (h *authority) nodes() []client.NodeStatus {
	ms := slices.DeleteFunc(h.roster.Members(), func(m members.Member) bool { return m.Refused() })
	last := make(map[string]uint64, len(ms)) // incarnations
	for _, m := range ms {
		last[m.Name] = max(last[m.Name], m.Incarnation)
	}
	all := make([]client.NodeStatus, 0, len(ms))
	for _, m := range ms {
		if m.State.Over() && m.Incarnation < last[m.Name] {
			continue
		}
		n := client.NodeStatus{Name: m.Name, State: m.State.String(), Version: m.Version}
		if skew, ok := h.skews[m.Life]; ok && m.State.Live() {
			n.Skew = &skew
		}
		all = append(all, n)
	}
	slices.SortFunc(all, func(a, b client.NodeStatus) int { return cmp.Compare(a.Name, b.Name) })
	return all
}

// look answers a query about the ledger. One looks at a time, and then nobody
// for nine times as long: queries hold the writer up for at most a tenth of its time.
func (h *Hub) look(ctx context.Context, q client.Query) (r client.Inspection) {
	h.mu.Lock()
	d := h.desk
	h.mu.Unlock()
	if q.What == client.Status {
		r.Hub = h.status(ctx, d)
		return r
	}
	if q.What == client.Loops {
		return r
	}
	if d == nil {
		return client.Inspection{Error: "the hub has no ledger, or it is not open yet"}
	}
	select {
	case h.looking <- struct{}{}:
	case <-ctx.Done():
		return client.Inspection{Error: "too many look at the ledger: " + context.Cause(ctx).Error()}
	}
	var ok bool
	var took time.Duration
	err := d.ledger.Do(ctx, func() {
		now := time.Now()
		r.Page, ok = d.shard.Page(q)
		r.Page.Now += max(now.Sub(d.cut).Milliseconds(), 0)
		if zero := now.UnixMilli() - r.Page.Now; max(zero-d.zero, d.zero-zero) > 50 {
			d.zero = zero // it differs by a ms or so each time: what did not change shall look so
		}
		r.Zero = d.zero
		took = time.Since(now)
	})
	if err != nil { // f did not run, and will not
		<-h.looking
		return client.Inspection{Error: "the ledger: " + err.Error()}
	}
	time.AfterFunc(9*took, func() { <-h.looking })
	if !ok {
		return client.Inspection{Error: "there are no " + q.What}
	}
	return r
}

// status tells how the hub and its ledger are; d may be nil.
func (h *Hub) status(ctx context.Context, d *desk) *client.HubStatus {
	st := &client.HubStatus{
		Name: cmp.Or(h.cfg.Name, "hub"), Cluster: h.cfg.Cluster, Version: h.cfg.Version, Protocol: session.Protocol,
		Engine: h.conn.ServerVersion(), Time: time.Now().UnixNano(), Peers: len(h.cfg.Peers), Foreign: h.server == nil, Dir: h.cfg.Dir,
	}
	if d == nil {
		return st
	}
	s := d.ledger.Stats()
	l := client.LedgerStatus{
		Open: true, Writer: s.WriterHub, Epoch: s.Epoch, Last: s.Last, Now: s.Now, Rounds: s.Rounds, Entries: s.Entries, Rate: s.Rate,
		Pending: s.Pending, InFlight: s.InFlight, Tier: s.Tier, Replicas: s.Replicas, LogBytes: s.LogBytes, Snapshot: s.Snapshot.Milliseconds(),
		Standbys: s.Standbys, Trouble: s.Trouble,
	}
	if h.server != nil && h.server.Tier() == engine.Sync {
		l.Tier = "file, synced always"
	}
	ctx, cancel := context.WithTimeout(ctx, inspectTime/3) // a ledger in trouble may be busy; the rest is told all the same
	defer cancel()
	if s.Replicas > 1 {
		l.Behind, _ = d.ledger.Behind(ctx) // a log that does not answer is Trouble
	}
	var sessions, objects int
	if d.ledger.Do(ctx, func() { sessions, objects = d.shard.Totals() }) == nil {
		l.Sessions, l.Objects = sessions, objects
	}
	st.Ledger = l
	return st
}
