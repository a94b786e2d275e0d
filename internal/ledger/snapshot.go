package ledger

import (
	"context"
	"time"
)

// take takes a snapshot of the state after the last record that was sent.
func (l *Ledger) take() {
	data := l.cfg.State.Snapshot()
	if len(data) == 0 {
		return // as good as the empty log: nothing can be removed for it
	}
	bytes := l.bytes
	for _, f := range l.flight {
		bytes += uint64(len(f.buf))
	}
	l.taking = &taking{
		head:  pieceHead{at: l.head, index: l.index, base: l.base, parts: uint32((len(data) + maxPiece - 1) / maxPiece)},
		data:  data,
		now:   l.lastNow,
		size:  uint64(len(data)),
		bytes: bytes,
	}
}

// sendPiece sends the next piece of a snapshot.
func (l *Ledger) sendPiece(t *taking) {
	part := t.data[:min(maxPiece, len(t.data))]
	t.data = t.data[len(part):]
	f := &flying{buf: make([]byte, headLen, headLen+pieceHeadLen+len(part)), kind: piece, now: t.now}
	f.buf = append(t.head.append(f.buf), part...)
	t.head.part++
	if len(t.data) == 0 {
		f.last = t
	}
	l.fly(f)
}

// purge removes from the log what the last snapshot holds, but for the record
// after which it was taken: so the first record of the log always counts.
func (l *Ledger) purge() {
	if l.keep == 0 || l.purging || l.ticks < l.purgeAt {
		return
	}
	l.purging = true
	keep := l.keep
	l.wg.Go(func() {
		ctx, cancel := context.WithTimeout(l.ctx, 5*time.Second)
		defer cancel()
		err := l.log.Purge(ctx, keep)
		l.mu.Lock()
		defer l.mu.Unlock()
		l.funcs = append(l.funcs, func() {
			l.purging = false
			l.purgeAt = l.ticks + uint64(2*time.Second/tickEvery)
			if err == nil && l.keep == keep {
				l.keep = 0
			}
		})
		if err != nil && l.ctx.Err() == nil {
			l.slog.Warn("what a snapshot holds could not be removed from the log yet", "err", err)
		}
		l.wake()
	})
}
