package ledger

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/distgear/distgear/internal/engine"
)

// writing is what the loop keeps while it is the writer.
type writing struct {
	pipe   *engine.Pipe
	gen    uint64 // of the pipe: answers to an earlier one are not looked at
	epoch  uint64
	nonce  uint64
	index  uint64 // of the next record
	head   uint64 // sequence number that the last record in flight will have
	flight []*flying
	broken error // why the last record could not be sent

	began    time.Time // when the lead began
	beganNow int64     // and the ledger's time then
	lastNow  int64     // of the last round
	tickNow  int64     // of the last tick
	due      *time.Timer

	taking  *taking // the snapshot that is being written
	between bool    // a round was sent since the last piece
	keep    uint64  // purge what is before; 0: nothing to purge
	purging bool
	purgeAt uint64 // ticks when it may be tried (again)
}

// flying is a record on its way to the log.
type flying struct {
	buf     []byte
	kind    kind
	index   uint64
	now     int64
	release Release
	n       int     // entries
	sent    uint64  // ticks
	seq     uint64  // it has; 0: not known
	last    *taking // the snapshot of which it is the last piece
}

// ack is the answer to an append.
type ack struct {
	gen uint64
	f   *flying
	seq uint64
	err error
}

// taking is a snapshot that is being written.
type taking struct {
	head  pieceHead
	data  []byte
	now   int64
	size  uint64
	bytes uint64 // of the log, where it was taken
}

// takeOver opens an epoch behind all that the log holds. Nil does not mean that
// it worked; an error ends the ledger.
func (l *Ledger) takeOver(ctx context.Context) error {
	if err := l.catchUp(ctx); err != nil {
		return err
	}
	if err := l.openPipe(); err != nil {
		return nil //nolint:nilerr // the connection is down: it is tried again
	}
	if l.next == 0 {
		b := make([]byte, headLen)
		seal(b, genesis, 0, 0, rand.Uint64(), time.Now().UnixMilli())
		if _, err := l.appendWait(ctx, 0, b); err != nil {
			l.note(err)
		}
		// Whether it is ours or another's, it is read.
		if err := l.catchUp(ctx); err != nil || l.next == 0 {
			return err
		}
	}
	seq, err := l.openEpoch(ctx)
	if err != nil {
		l.note(err)
		l.closePipe()
		return nil
	}
	l.began, l.beganNow, l.lastNow, l.tickNow = time.Now(), l.chain.now, l.chain.now, 0
	l.flight, l.taking, l.broken = nil, nil, nil
	l.leads(seq)
	l.cfg.State.Lead(l.epoch, l.base)
	l.leading.Store(true)
	l.accept(nil)
	l.tell(false)
	l.wake()
	l.slog.Info("this hub is the writer", "epoch", l.epoch, "sequence", seq)
	l.sendBeat(true, 0)
	return nil
}

// openEpoch appends an opening behind next, with a new epoch and nonce, which it
// leaves in l.
func (l *Ledger) openEpoch(ctx context.Context) (seq uint64, err error) {
	l.mu.Lock()
	heard := l.writer.epoch
	l.mu.Unlock()
	l.epoch, l.nonce = max(l.chain.epoch, heard)+1, rand.Uint64()
	b := append(make([]byte, headLen), l.cfg.Hub...)
	seal(b, opening, l.epoch, 0, l.nonce, l.chain.now)
	return l.appendWait(ctx, l.next-1, b)
}

// leads goes on from the opening that has the number seq.
func (l *Ledger) leads(seq uint64) {
	l.chain = chain{l.epoch, l.nonce, 1, l.chain.now}
	l.next, l.head, l.index = seq+1, seq, 1
	l.note(nil)
	l.trouble.Store(0)
}

// accept says what Submit says from now on; nil: it takes entries.
func (l *Ledger) accept(why error) {
	l.smu.Lock()
	defer l.smu.Unlock()
	if why == nil {
		l.refuse.Store(nil)
		return
	}
	l.refuse.Store(&why)
}

// note keeps why nothing can be appended.
func (l *Ledger) note(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stats.Trouble = ""
	if err != nil {
		l.stats.Trouble = err.Error()
	}
}

func (l *Ledger) openPipe() (err error) {
	l.closePipe()
	l.pipe, err = l.log.Pipe()
	return err
}

func (l *Ledger) closePipe() {
	if l.pipe != nil {
		l.pipe.Close()
		l.pipe = nil
	}
	l.gen++
}

// appendWait appends a record and waits for the answer.
func (l *Ledger) appendWait(ctx context.Context, last uint64, b []byte) (uint64, error) {
	answer := make(chan ack, 1)
	if err := l.pipe.Append(last, b, func(seq uint64, err error) { answer <- ack{seq: seq, err: err} }); err != nil {
		return 0, err
	}
	t := time.NewTimer(openTimeout)
	defer t.Stop()
	select {
	case a := <-answer:
		return a.seq, a.err
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	case <-t.C:
		return 0, fmt.Errorf("log %s: %w within %v", l.cfg.Name, engine.ErrUnavailable, openTimeout)
	}
}

// write is the writer's look around.
func (l *Ledger) write(ticked bool) error {
	l.mu.Lock()
	acks, other, leaving := l.acks, l.writer.epoch, l.leaving
	l.acks = nil
	l.mu.Unlock()
	if leaving {
		l.accept(ErrClosed)
	}
	unknown := l.landed(acks)
	if unknown == nil && len(l.flight) > 0 && l.ticks-l.flight[0].sent > ackTicks {
		unknown = fmt.Errorf("log %s: %w", l.cfg.Name, engine.ErrUnavailable)
	}
	if unknown == nil && ticked && len(l.flight) > 0 && !l.cfg.Conn.Up() {
		unknown = fmt.Errorf("log %s: %w: the connection is down", l.cfg.Name, engine.ErrUnavailable)
	}
	if unknown == nil && other > l.epoch {
		unknown = errors.New("another writer was heard")
	}
	for unknown == nil && l.broken == nil && l.room() && l.send() {
	}
	if unknown == nil {
		unknown = l.broken
	}
	if unknown != nil {
		return l.recover(unknown)
	}
	if ticked {
		l.purge()
	}
	l.schedule()
	if leaving && len(l.flight) == 0 && l.unheard.Load() == 0 && l.empty() {
		l.tell(false)
		l.sendBeat(true, beatLeaving)
		return errLeft
	}
	return nil
}

func (l *Ledger) empty() bool {
	l.smu.Lock()
	defer l.smu.Unlock()
	return len(l.pending) == 0
}

// room tells whether a round may be sent now.
func (l *Ledger) room() bool {
	if len(l.flight) >= l.cfg.Window {
		return false
	}
	full := func() bool { return len(l.flight)+len(l.releases) >= cap(l.releases) }
	if !full() {
		return true
	}
	l.held.Store(true)
	if full() { // the releaser has not got on before it could see held
		return false
	}
	l.held.Store(false)
	return true
}

// landed takes answers. An error means that something is unknown.
func (l *Ledger) landed(acks []ack) (unknown error) {
	for _, a := range acks {
		if a.gen != l.gen {
			continue
		}
		if a.err != nil {
			unknown = a.err
			break
		}
		a.f.seq = a.seq
	}
	for len(l.flight) > 0 && l.flight[0].seq != 0 {
		if f := l.flight[0]; f.seq != l.next {
			return fmt.Errorf("log %s: record %d was acknowledged as %d", l.cfg.Name, l.next, f.seq)
		}
		l.land()
	}
	return unknown
}

// land is for the first record in flight, which is in the log.
func (l *Ledger) land() {
	f := l.flight[0]
	l.flight[0] = nil
	l.flight = l.flight[1:]
	l.next++
	l.chain.next = f.index + 1
	l.chain.now = max(l.chain.now, f.now)
	l.bytes += uint64(len(f.buf))
	if f.kind == round {
		l.unheard.Add(1)
		l.releases <- released{f.release, f.n} // there is room: see room
	}
	if t := f.last; t != nil {
		l.snapshotDone(t.bytes)
		l.snapSize, l.keep, l.purgeAt = t.size, t.head.at, l.ticks
		l.taking = nil
		l.purge()
	}
}

// send sends a record, and tells false if there was nothing to send.
func (l *Ledger) send() bool {
	if t := l.taking; t != nil && len(t.data) > 0 && (l.between || !l.wanted()) {
		l.between = false
		l.sendPiece(t)
		return true
	}
	now := max(l.lastNow, l.beganNow+time.Since(l.began).Milliseconds())
	due := l.nextDue()
	tick := due != 0 && due <= now && now > l.tickNow
	l.smu.Lock()
	var c *chunk
	if len(l.pending) > 0 && (tick || !l.better()) {
		c = l.pending[0]
		l.pending[0] = nil
		l.pending = l.pending[1:]
		l.waiting -= len(c.buf) - headLen - 1
		l.roundCap = min(max(len(c.buf)+len(c.buf)/4, 512), maxRound)
		if len(l.pending) == 0 {
			l.pending = nil
		}
	}
	l.smu.Unlock()
	if c == nil {
		if !tick {
			return false
		}
		c = &chunk{buf: make([]byte, headLen+1)}
	}
	if tick {
		c.buf[headLen] |= flagTick
		l.tickNow = now
		l.cfg.State.Apply(now, nil)
	}
	l.lastNow, l.between = now, true
	eachEntry(c.buf[headLen+1:], func(e []byte) bool { l.cfg.State.Apply(now, e); return true })
	l.fly(&flying{buf: c.buf, kind: round, now: now, n: c.n, release: l.cfg.State.Cut()})
	if l.taking == nil && l.keep == 0 && l.bytes-l.snapBytes >= max(uint64(l.cfg.SnapshotBytes), l.snapSize) {
		l.take()
	}
	return true
}

// better tells whether what is pending had better wait for more to come, or for the answer to the
// latest round, whichever is first: a smaller round behind it costs a sync of its own and is not in the
// log much earlier (group commit; DeWitt et al., Implementation Techniques for Main Memory Database Systems, 1984,
// §5.2). A log in the memory of one server has nothing to wait for. It is called with smu held.
func (l *Ledger) better() bool {
	l.want = 0
	if l.cfg.Memory && l.cfg.Replicas <= 1 {
		return false
	}
	if n := len(l.flight); n > 0 && l.flight[n-1].kind == round && len(l.pending) == 1 && len(l.pending[0].buf) < len(l.flight[n-1].buf) {
		l.want = len(l.flight[n-1].buf)
	}
	return l.want > 0
}

// nextDue is when the next tick is wanted. A writer among several has one each
// second at least: so it notices that it has no majority any more.
func (l *Ledger) nextDue() int64 {
	due := l.cfg.State.Due()
	if sure := l.lastNow + sureEvery; l.cfg.Replicas > 1 && (due == 0 || sure < due) {
		return sure
	}
	return due
}

// wanted tells whether a round is wanted now.
func (l *Ledger) wanted() bool {
	if !l.empty() {
		return true
	}
	due := l.nextDue()
	return due != 0 && due <= l.beganNow+time.Since(l.began).Milliseconds()
}

// fly seals a record and sends it behind those in flight.
func (l *Ledger) fly(f *flying) {
	f.index = l.index
	l.index++
	f.sent, f.seq = l.ticks, 0
	seal(f.buf, f.kind, l.epoch, f.index, l.nonce, f.now)
	l.flight = append(l.flight, f)
	last, gen := l.head, l.gen
	l.head++
	if l.broken == nil { // else the place of those before is open
		l.broken = l.pipe.Append(last, f.buf, func(seq uint64, err error) {
			l.mu.Lock()
			l.acks = append(l.acks, ack{gen, f, seq, err})
			l.mu.Unlock()
			l.wake()
		})
	}
}

// schedule wakes the loop when a tick is due.
func (l *Ledger) schedule() {
	if due := l.nextDue(); due != 0 {
		now := l.beganNow + time.Since(l.began).Milliseconds()
		const most = int64(time.Hour / time.Millisecond) // a state may name a time that no Duration reaches
		l.due.Reset(time.Duration(min(max(due-now, 1), most)) * time.Millisecond)
	}
}

// recover is called when an append is unknown. It finds out what the log holds,
// and goes on behind it, or finds that another has, and follows.
func (l *Ledger) recover(why error) error {
	l.slog.Warn("an append is unknown; reading the log", "err", why)
	var mine []uint64 // nonces of openings that were tried
	began, said := l.ticksNow(), false
	for try := 0; ; try++ {
		l.progress.Add(1)
		l.runFuncs()
		l.trouble.Store(l.ticksNow() - began)
		l.note(why)
		foreign, err := l.reread(mine)
		if foreign {
			return l.stepDown()
		}
		if err == nil {
			if err = l.openPipe(); err == nil {
				seq, e := l.openEpoch(l.ctx)
				mine = append(mine[max(0, len(mine)-64):], l.nonce)
				if err = e; err == nil && l.resume(seq) {
					l.accept(nil)
					l.slog.Info("this hub is the writer again", "epoch", l.epoch, "sequence", seq)
					return nil
				}
			}
		}
		if err != nil && try%20 == 19 {
			err = errors.Join(err, l.exists())
		}
		if err != nil && fatal(err) {
			return err
		}
		if l.ctx.Err() != nil {
			return context.Cause(l.ctx)
		}
		if err != nil {
			why = err
		}
		if errors.Is(why, engine.ErrStorage) {
			l.accept(ErrStorage)
			if !said {
				said = true
				l.slog.Error("the log cannot store: nothing is accepted until it can", "err", why)
			}
		}
		select {
		case <-l.ctx.Done():
			return nil
		case <-time.After(time.Duration(min(50+10*try, 200)) * time.Millisecond):
		}
	}
}

// ticksNow counts by the clock what the loop's ticker cannot while it waits.
func (l *Ledger) ticksNow() uint64 { return uint64(time.Since(l.began) / tickEvery) }

// exists asks for the log, of which nothing is heard, and tells ErrGone only.
func (l *Ledger) exists() error {
	ask := func() error {
		ctx, cancel := context.WithTimeout(l.ctx, openTimeout)
		defer cancel()
		_, err := l.log.Bounds(ctx)
		return err
	}
	for range 2 { // a server that opens its store does not know it for a moment
		if err := ask(); !errors.Is(err, engine.ErrGone) {
			return nil
		}
		select {
		case <-l.ctx.Done():
			return nil
		case <-time.After(openTimeout):
		}
	}
	if err := ask(); errors.Is(err, engine.ErrGone) {
		return fmt.Errorf("%w: what it held is lost; start the hubs again to begin a new one", err)
	}
	return nil
}

// fatal tells whether it is of no use to try again.
func fatal(err error) bool {
	return errors.Is(err, errRecord) || errors.Is(err, engine.ErrDamaged) || errors.Is(err, engine.ErrGone)
}

var errForeign = errors.New("another writer's epoch")

// reread takes what the log holds of the flight, and tells whether another
// writer has begun an epoch.
func (l *Ledger) reread(mine []uint64) (foreign bool, err error) {
	err = l.read(l.ctx, func(r *record) error {
		if r.kind == opening {
			if !slices.Contains(mine, r.nonce) {
				return errForeign
			}
			return nil
		}
		// It is the next of an epoch of ours, so it is the first in flight.
		if len(l.flight) == 0 || l.flight[0].index != r.index || l.flight[0].kind != r.kind {
			return fmt.Errorf("log %s: %w: record %d of epoch %d is not what was sent", l.cfg.Name, errRecord, r.index, r.epoch)
		}
		f := l.flight[0]
		l.flight = l.flight[1:]
		if f.kind == round {
			l.unheard.Add(1)
			l.releases <- released{f.release, f.n}
		}
		return nil
	})
	switch {
	case errors.Is(err, errForeign), errors.Is(err, engine.ErrTruncated):
		return true, nil
	}
	return false, err
}

// resume sends the flight again behind the opening seq. Pieces are dropped: the
// place where their snapshot was taken has another number now.
func (l *Ledger) resume(seq uint64) bool {
	flight := l.flight
	l.leads(seq)
	l.flight, l.taking, l.broken = nil, nil, nil
	l.ticks = max(l.ticks, 1)
	for _, f := range flight {
		if f.kind == round {
			l.fly(f)
		}
	}
	l.wake()
	return true
}

// stepDown makes this process a standby.
func (l *Ledger) stepDown() error {
	l.accept(ErrNotWriter)
	l.smu.Lock()
	l.pending, l.waiting = nil, 0
	l.smu.Unlock()
	l.leading.Store(false)
	l.closePipe()
	ahead := len(l.flight)
	l.flight, l.taking, l.broken, l.misses = nil, nil, nil, 0
	l.trouble.Store(0)
	l.note(nil)
	l.rearm()
	l.cfg.State.Follow()
	l.tell(false)
	l.slog.Warn("another hub is the writer", "epoch", l.epoch, "dropped", ahead)
	if ahead > 0 {
		return l.load(l.ctx) // the state ran ahead of the log
	}
	return nil
}
