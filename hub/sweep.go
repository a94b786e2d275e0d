package hub

import (
	"context"
	"time"

	"github.com/distgear/distgear/internal/client"
	"github.com/distgear/distgear/internal/engine"
	"github.com/distgear/distgear/internal/wire"
)

const (
	// sweepEvery is how often the writer looks for stored values that no task
	// refers to any more.
	sweepEvery = 30 * time.Second
	// sweepAge is how old such a value is, at least, that is deleted: whoever stored it
	// may not have told the ledger yet.
	sweepAge = 10 * time.Minute
	// orphanAge is the same for one of a task that was never known: it may wait in
	// line.
	orphanAge = 24 * time.Hour
)

// sweeper deletes the large inputs and results that no task refers to any more,
// while this hub writes the ledger.
type sweeper struct {
	d     *desk
	store *engine.Objects
	known map[string]bool // of what was seen: its task was there
}

// sweep looks now and then until the hub ends.
func (h *Hub) sweep(d *desk) {
	s := &sweeper{d: d, store: h.conn.Objects(client.LogName(h.cfg.Cluster)), known: map[string]bool{}}
	t := time.NewTicker(sweepEvery)
	defer t.Stop()
	for {
		select {
		case <-t.C:
		case <-h.ctx.Done():
			return
		}
		if !d.ledger.Writer() {
			clear(s.known)
			continue
		}
		if err := s.once(h.ctx, time.Now()); err != nil && h.ctx.Err() == nil {
			h.log.Warn("large values that nobody needs are not deleted yet", "err", err)
		}
	}
}

// once looks at all that is stored.
func (s *sweeper) once(ctx context.Context, now time.Time) error {
	ctx, cancel := context.WithTimeout(ctx, sweepEvery)
	defer cancel()
	all, err := s.store.List(ctx)
	if err != nil {
		return err
	}
	known := make(map[string]bool, len(all))
	for _, o := range all {
		executor, id, ok := wire.ParseTaskObject(o.Name)
		if !ok {
			continue // somebody else's
		}
		var is, refers bool
		val := string(wire.AppendRef(nil, wire.Ref{Name: o.Name, Size: o.Size}))
		if err := s.d.ledger.Do(ctx, func() { is, refers = s.d.shard.Refers(executor, id, val) }); err != nil {
			return err
		}
		age := now.Sub(o.At)
		known[o.Name] = is || s.known[o.Name]
		if refers || age < sweepAge || !known[o.Name] && age < orphanAge {
			continue
		}
		delete(known, o.Name)
		if err := s.store.Delete(ctx, o.Name); err != nil {
			return err
		}
	}
	s.known = known
	return nil
}
