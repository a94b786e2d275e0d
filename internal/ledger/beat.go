package ledger

import (
	"encoding/binary"
	"time"
)

// A beat tells the others that a ledger lives: the writer's that nobody need
// take over. It is 'D' 'B', the version, flags, and as little-endian integers of
// 64 bits the life of the sender, the epoch and the last sequence number that it
// knows to be in the log; then the hub's name.
type beat struct {
	flags byte
	life  uint64
	epoch uint64
	last  uint64
	hub   string
}

const (
	beatWriter  = 1
	beatLeaving = 2 // the writer's last: take over
)

func (b *beat) append(buf []byte) []byte {
	buf = append(buf, 'D', 'B', version, b.flags)
	buf = binary.LittleEndian.AppendUint64(buf, b.life)
	buf = binary.LittleEndian.AppendUint64(buf, b.epoch)
	buf = binary.LittleEndian.AppendUint64(buf, b.last)
	return append(buf, b.hub...)
}

func parseBeat(p []byte) (b beat, ok bool) {
	if len(p) < 28 || p[0] != 'D' || p[1] != 'B' || p[2] != version {
		return b, false
	}
	le := binary.LittleEndian
	return beat{p[3], le.Uint64(p[4:]), le.Uint64(p[12:]), le.Uint64(p[20:]), string(p[28:])}, true
}

// peer is what was heard of another ledger.
type peer struct {
	beat
	at time.Time
}

// peerForget is when a standby that says nothing is no longer counted.
const peerForget = 3 * time.Second

// hear is called by the connection.
func (l *Ledger) hear(data []byte) {
	b, ok := parseBeat(data)
	if !ok || b.life == l.life {
		return
	}
	now := time.Now()
	l.mu.Lock()
	for life, p := range l.peers {
		if now.Sub(p.at) > peerForget {
			delete(l.peers, life)
		}
	}
	if len(l.peers) < 64 || b.flags&beatWriter != 0 { // more standbys than anybody runs are not counted
		l.peers[b.life] = peer{b, now}
	}
	if b.flags&beatWriter != 0 && b.epoch >= l.writer.epoch {
		l.writer = b
		l.beats++
	}
	l.mu.Unlock()
	l.wake()
}

// beater sends beats while the ledger's goroutine gets on.
func (l *Ledger) beater() {
	t := time.NewTicker(beatEvery)
	defer t.Stop()
	var seen uint64
	still := 0
	for n := 0; ; n++ {
		select {
		case <-l.ctx.Done():
			return
		case <-t.C:
		}
		if p := l.progress.Load(); p != seen {
			seen, still = p, 0
		} else {
			still++
		}
		writer := l.leading.Load() && l.trouble.Load() < troubleTicks
		if time.Duration(still)*beatEvery > l.cfg.stall || !writer && n%5 != 0 {
			continue
		}
		l.sendBeat(writer, 0)
	}
}

func (l *Ledger) sendBeat(writer bool, flags byte) {
	l.mu.Lock()
	b := beat{flags, l.life, l.stats.Epoch, l.stats.Last, l.cfg.Hub}
	l.mu.Unlock()
	if writer {
		b.flags |= beatWriter
	}
	_ = l.cfg.Conn.Publish(l.beatSubject(), b.append(nil)) // who does not hear it takes over, or waits for the next
}
