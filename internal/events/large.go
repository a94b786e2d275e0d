package events

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"sync"
	"time"

	"github.com/distgear/distgear/internal/fault"
	"github.com/distgear/distgear/internal/journal"
	"github.com/distgear/distgear/internal/machine/pack"
	"github.com/distgear/distgear/internal/machine/runs"
	"github.com/distgear/distgear/internal/wire"
)

const (
	// inline is how large an input, a result or an entry of a journal may be that
	// the ledger keeps, in bytes. What is larger goes to the engine's object store,
	// and the ledger has a reference to it (D10); the hub deletes what no run refers to.
	// Alone there is no such store, and no need of one.
	inline = 64 << 10
	// storeTime is how long it may take to store or to fetch such a value.
	storeTime = 2 * time.Minute
	// maxFetched is how many bytes of fetched values are kept for the next look.
	maxFetched = 16 << 20
)

// keep stores a value of a run if it is large: then what it returns is a reference.
// The same value has the same one.
func (d *Desk) keep(ctx context.Context, id string, val []byte) ([]byte, error) {
	s := d.h.Room.Ledger.Store()
	if len(val) <= inline || s == nil {
		return val, nil
	}
	ctx, cancel := context.WithTimeout(ctx, storeTime)
	defer cancel()
	sum := sha256.Sum256(val)
	ref := wire.Ref{Name: wire.TaskObject(Name, id, hex.EncodeToString(sum[:16])), Size: uint64(len(val))}
	if err := s.Put(ctx, ref.Name, val); err != nil {
		return nil, fmt.Errorf("storing %d bytes of run %s: %w", len(val), id, err)
	}
	return wire.AppendRef(nil, ref), nil
}

// fetched are values that were fetched lately.
type fetched struct {
	mu   sync.Mutex
	vals map[string][]byte
	size int
}

// fetch is a value, wherever it is kept.
func (d *Desk) fetch(ctx context.Context, val []byte) ([]byte, error) {
	s := d.h.Room.Ledger.Store()
	if len(val) > inline || s == nil {
		return val, nil
	}
	ref, ok := wire.ParseRef(string(val))
	if !ok {
		return val, nil
	}
	f := &d.fetched
	f.mu.Lock()
	b := f.vals[ref.Name]
	f.mu.Unlock()
	if b != nil {
		return b, nil
	}
	ctx, cancel := context.WithTimeout(ctx, storeTime)
	defer cancel()
	b, err := s.Get(ctx, ref.Name)
	switch {
	case err != nil:
		return nil, fmt.Errorf("fetching %d bytes of a run: %w", ref.Size, err)
	case uint64(len(b)) != ref.Size:
		return nil, fmt.Errorf("%w: %d bytes of a run were stored, %d are there", fault.ErrInvalid, ref.Size, len(b))
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.size += len(b); f.size > maxFetched || f.vals == nil {
		f.vals, f.size = map[string][]byte{}, len(b)
	}
	f.vals[ref.Name] = b
	return b, nil
}

// fetchUnits fetches those units that are kept elsewhere.
func (d *Desk) fetchUnits(ctx context.Context, units [][]byte) error {
	for i, u := range units {
		ref := journal.Elsewhere(u)
		if ref == nil {
			continue
		}
		b, err := d.fetch(ctx, ref)
		if err != nil {
			return err
		}
		units[i] = b
	}
	return nil
}

// fetchView fetches what a view refers to.
func (d *Desk) fetchView(ctx context.Context, v *runs.View) (err error) {
	if v.Input, err = d.fetch(ctx, v.Input); err != nil {
		return err
	}
	if v.Summary, err = d.fetch(ctx, v.Summary); err != nil {
		return err
	}
	units, bad := runs.Units(v.Journal)
	if bad != nil {
		return nil //nolint:nilerr // who reads the journal says so
	}
	if err = d.fetchUnits(ctx, units); err != nil {
		return err
	}
	v.Journal = nil
	for _, u := range units {
		v.Journal = pack.AppendBytes(v.Journal, u)
	}
	return nil
}

// fetch fetches what the lease refers to.
func (l *Lease) fetch(d *Desk) (err error) {
	if l.Input, err = d.fetch(d.ctx, l.Input); err != nil {
		return err
	}
	return d.fetchUnits(d.ctx, l.Units)
}

// telling tells a result that is kept elsewhere, on a goroutine of the node.
type telling struct {
	d    *Desk
	id   string
	to   Ender
	node string
	rep  wire.Report
}

// Run implements runner.Task.
func (t *telling) Run() {
	b, err := t.d.fetch(t.d.ctx, t.rep.Payload)
	if t.rep.Payload = b; err != nil {
		t.rep = fault.Report(fmt.Errorf("run %s is ok, but its result cannot be had: %w", t.id, err))
	}
	t.to.Ended(t.node, t.rep)
}

// entry is one that waits until it can be sent.
type entry struct {
	journal.Entry
	then    func(error)
	summary []byte
}

func (e *entry) large() bool {
	g := e.Give
	return len(e.Unit) > inline || g != nil && (len(g.Report.Payload) > inline || len(e.summary) > inline)
}

// keep stores what is large of an entry.
func (e *entry) keep(d *Desk, id string) error {
	if len(e.Unit) > inline {
		ref, err := d.keep(d.ctx, id, e.Unit)
		if err != nil {
			return err
		}
		e.Unit = journal.Stand(e.Unit, ref)
	}
	if e.Give == nil {
		return nil
	}
	g := *e.Give
	e.Give = &g
	var err error
	if g.Report.Payload, err = d.keep(d.ctx, id, g.Report.Payload); err != nil {
		return err
	}
	e.summary, err = d.keep(d.ctx, id, e.summary)
	return err
}

// storer sends the entries of a run that wait because one of them is large, on a
// goroutine of the node.
type storer owned

// Run implements runner.Task.
func (s *storer) Run() {
	a := (*owned)(s)
	for {
		a.mu.Lock()
		if len(a.queue) == 0 {
			a.storing = false
			a.mu.Unlock()
			return
		}
		e := a.queue[0]
		a.queue = a.queue[1:]
		over := a.over
		a.mu.Unlock()
		if e.large() && !over {
			if err := e.keep(a.d, string(a.id)); err != nil {
				s.fail(e, err)
				continue
			}
		}
		a.send(e)
	}
}

// fail refuses an entry and all that wait behind it.
func (s *storer) fail(e *entry, err error) {
	a := (*owned)(s)
	a.mu.Lock()
	all := append([]*entry{e}, a.queue...)
	a.queue = nil
	a.mu.Unlock()
	a.d.h.Room.Logger.Error("a durable run is parked", "run", a.id, "why", err)
	for _, e := range all {
		a.d.acks.put(func() { e.then(err) })
	}
	a.d.acks.put(func() { a.park(err.Error() + ": adopt the run when the store can be reached") })
}
