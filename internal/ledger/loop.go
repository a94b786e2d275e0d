package ledger

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/distgear/distgear/internal/engine"
)

// loop is what the ledger's goroutine keeps to itself. The chain and next are of
// what is surely in the log; what the writer has in flight comes after.
type loop struct {
	chain      chain
	base       int64     // ms: the wall clock at the beginning of the log
	next       uint64    // sequence number of the record after; 0: the log is empty
	col        collector // of the pieces that go by
	bytes      uint64    // of the records that were accepted
	snapBytes  uint64    // bytes at the last snapshot
	snapSize   uint64    // of the last snapshot
	snapshotAt time.Time // when it was complete; under mu
	ticks      uint64    // of the loop

	// A standby's.
	misses    int // ticks without a word of the writer
	patience  int // ticks
	sincePoll int // ticks
	seenBeats uint64
	failed    int // take-overs that did not work out

	writing
	rate
	releases chan released
	unheard  atomic.Int64 // releases that are not done
	held     atomic.Bool  // the loop waits for one
}

// released goes to the releaser.
type released struct {
	r Release
	n int // entries
}

// rate counts rounds per second.
type rate struct {
	at     time.Time
	rounds uint64
}

var errLeft = errors.New("left")

// run is the goroutine that owns the State.
func (l *Ledger) run() {
	tick := time.NewTicker(tickEvery)
	defer tick.Stop()
	l.due = time.NewTimer(time.Hour)
	defer l.due.Stop()
	err := l.turn(tick)
	if errors.Is(err, errLeft) || l.ctx.Err() != nil {
		err = nil
	}
	l.leading.Store(false)
	l.smu.Lock()
	l.refuse.Store(&errClosed)
	l.pending, l.waiting = nil, 0
	l.smu.Unlock()
	l.closePipe()
	close(l.releases)
	l.mu.Lock()
	l.err = err
	l.stats.Writer = false
	l.mu.Unlock()
	if err != nil {
		l.slog.Error("the ledger has ended", "err", err)
	}
	close(l.done)
}

var errClosed = ErrClosed // for a pointer to it

func (l *Ledger) turn(tick *time.Ticker) error {
	l.rearm()
	for {
		ticked := false
		select {
		case <-l.ctx.Done():
			return nil
		case <-l.kick:
		case <-l.due.C:
		case <-tick.C:
			ticked = true
			l.ticks++
		}
		l.progress.Add(1)
		l.runFuncs()
		var err error
		if l.leading.Load() {
			err = l.write(ticked)
		} else {
			err = l.follow(ticked)
		}
		if err != nil {
			return err
		}
		l.tell(ticked)
	}
}

func (l *Ledger) runFuncs() {
	l.mu.Lock()
	funcs := l.funcs
	l.funcs = nil
	l.mu.Unlock()
	for _, f := range funcs {
		f()
	}
}

// tell brings Stats up to date.
func (l *Ledger) tell(ticked bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := &l.stats
	s.Writer, s.Epoch, s.Last, s.Now = l.leading.Load(), l.chain.epoch, max(l.next, 1)-1, l.chain.now
	s.InFlight, s.LogBytes = len(l.flight), l.bytes-l.snapBytes
	if now := time.Now(); ticked && now.Sub(l.rate.at) >= time.Second {
		s.Rate = float64(s.Rounds-l.rate.rounds) / now.Sub(l.rate.at).Seconds()
		l.rate = rate{now, s.Rounds}
	}
}

// releaser tells what the rounds want told.
func (l *Ledger) releaser() {
	for r := range l.releases {
		if r.r != nil {
			r.r.Release()
		}
		l.mu.Lock()
		l.stats.Rounds++
		l.stats.Entries += uint64(r.n)
		l.mu.Unlock()
		if l.unheard.Add(-1) == 0 || l.held.Load() {
			l.wake()
		}
	}
}

// rearm draws how long this standby is patient.
func (l *Ledger) rearm() {
	n := max(int(l.cfg.Patience/tickEvery), 2)
	l.patience = n + rand.IntN(n/2+1)
}

// damage is a record that the ledger cannot read.
func (l *Ledger) damage(seq uint64, err error) error {
	return fmt.Errorf("record %d of the log %s: %w: another program wrote to %s, or the store is damaged; "+
		"restore the store directory from a copy, or stop all hubs and remove the log (stream %s) to begin a new one without what this one held",
		seq, l.cfg.Name, err, l.cfg.Subject, l.cfg.Name)
}

// read calls f with the records that count, from next on, as far as a replica
// has them. One that f refuses is not taken.
func (l *Ledger) read(ctx context.Context, f func(r *record) error) error {
	_, err := l.log.Read(ctx, l.next, func(seq uint64, data []byte) error {
		r, err := parse(data)
		if err != nil {
			return l.damage(seq, err)
		}
		if c := l.chain; c.accept(&r) {
			if err := f(&r); err != nil {
				return err
			}
			l.chain = c
			l.bytes += uint64(len(data))
			if r.kind == piece && l.col.add(&r, false, l.bytes) {
				l.snapshotDone(l.col.bytes)
			}
		}
		l.next = seq + 1
		return nil
	})
	return err
}

func (l *Ledger) snapshotDone(bytes uint64) {
	l.snapBytes = bytes
	l.mu.Lock()
	l.snapshotAt = time.Now()
	l.mu.Unlock()
}

// replay applies a record of another writer.
func (l *Ledger) replay(r *record) error {
	if r.kind == round {
		if r.tick() {
			l.cfg.State.Apply(r.now, nil)
		}
		for e := range r.entries {
			l.cfg.State.Apply(r.now, e)
		}
	}
	return nil
}

var (
	errComplete   = errors.New("the snapshot is complete")
	errNoSnapshot = errors.New("the log begins in the middle and no snapshot in it is complete")
)

// load builds the state from the log.
func (l *Ledger) load(ctx context.Context) error {
	for try := 0; ; try++ {
		err := l.loadOnce(ctx)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, errNoSnapshot) && try < 20: // the replica that answered may be behind
		case errors.Is(err, engine.ErrTruncated), errors.Is(err, engine.ErrUnavailable):
		default:
			return err
		}
		l.progress.Add(1)
		select {
		case <-ctx.Done():
			return errors.Join(context.Cause(ctx), err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func (l *Ledger) loadOnce(ctx context.Context) error {
	l.chain, l.next, l.col, l.bytes, l.snapBytes, l.snapSize = chain{}, 0, collector{}, 0, 0, 0
	var last record
	fresh, purged := true, false
	_, err := l.log.Read(ctx, 0, func(seq uint64, data []byte) error {
		r, err := parse(data)
		if err != nil {
			return l.damage(seq, err)
		}
		if fresh {
			fresh = false
			if r.kind == genesis {
				return errComplete // from here on it is read as any log
			}
			purged = true
			l.chain.begin(&r)
			return nil
		}
		if l.chain.accept(&r) && r.kind == piece && l.col.add(&r, true, 0) {
			last = r
			return errComplete
		}
		return nil
	})
	switch {
	case err != nil && !errors.Is(err, errComplete):
		return err
	case fresh: // empty
		return l.restore(nil)
	case !purged:
		if err := l.restore(nil); err != nil {
			return err
		}
		l.chain, l.next = chain{}, 1
	case err == nil:
		return fmt.Errorf("log %s: %w", l.cfg.Name, errNoSnapshot)
	default:
		h, data := l.col.head, l.col.data
		l.col = collector{}
		if err := l.restore(data); err != nil {
			return err
		}
		l.chain = chain{last.epoch, last.nonce, h.index, last.now}
		l.base, l.next, l.snapSize = h.base, h.at+1, uint64(len(data))
		l.snapshotDone(0)
	}
	return l.read(ctx, l.taken)
}

// taken is replay that knows the first record.
func (l *Ledger) taken(r *record) error {
	if r.kind == genesis {
		l.base = r.now
	}
	return l.replay(r)
}

func (l *Ledger) restore(snapshot []byte) error {
	if err := l.cfg.State.Restore(snapshot); err != nil {
		return fmt.Errorf("log %s: snapshot of %d bytes: %w", l.cfg.Name, len(snapshot), err)
	}
	return nil
}

// catchUp reads what is new. That the log does not answer is no error: it is
// tried again.
func (l *Ledger) catchUp(ctx context.Context) error {
	if l.next == 0 {
		return l.load(ctx)
	}
	err := l.read(ctx, l.taken)
	switch {
	case errors.Is(err, engine.ErrTruncated):
		return l.load(ctx)
	case errors.Is(err, engine.ErrUnavailable):
		return nil
	}
	return err
}

// follow is a standby's look around.
func (l *Ledger) follow(ticked bool) error {
	l.mu.Lock()
	w, beats, leaving := l.writer, l.beats, l.leaving
	l.mu.Unlock()
	if leaving {
		return errLeft
	}
	if ticked {
		l.misses++
		l.sincePoll++
	}
	if w.last >= l.next || l.sincePoll >= pollTicks {
		l.sincePoll = 0
		was, began := l.next, time.Now()
		if err := l.catchUp(l.ctx); err != nil {
			return err
		}
		if l.next != was {
			l.misses = 0
		} else { // a replica that did not answer is no word of the writer either
			l.misses += min(int(time.Since(began)/tickEvery), l.patience/2)
		}
	}
	if beats != l.seenBeats && w.epoch >= l.chain.epoch {
		l.misses = 0
		if w.flags&beatLeaving != 0 {
			l.misses = l.patience - rand.IntN(2)
		}
	}
	l.seenBeats = beats
	if l.misses < l.patience {
		return nil
	}
	err := l.takeOver(l.ctx)
	if l.leading.Load() {
		l.failed = 0
		return err
	}
	l.rearm()
	l.misses = l.patience - 1 - rand.IntN(4)
	if l.failed++; err == nil && l.failed%20 == 0 {
		err = l.exists()
	}
	return err
}
