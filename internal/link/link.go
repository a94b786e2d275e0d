package link

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/distgear/distgear/internal/wire"
)

const (
	// Slots is how many commands may be in flight from one endpoint to
	// another.
	Slots = 1 << 18
	// window is how many sends may be on their way from one endpoint to
	// another without having been taken up.
	window = 1 << 14
	// maxBatch is the size of a message, in bytes, after which a new one begins.
	maxBatch = 64 << 10
	// maxBuffered is how many bytes may wait for one destination.
	maxBuffered = 64 << 20
	// forget is how long the source keeps a slot after the destination's
	// session is over, and the destination an outcome that nobody asked for.
	forget = 10 * time.Minute
	// forgetPayload is how long the destination keeps a result.
	forgetPayload = time.Minute
)

// Receiver is told what became of a command. Report may be called more than
// once: first with unknown, and later with what came to be known (Late). It is
// called from the connection's goroutine: it must not block, and the payload
// is its to keep.
type Receiver interface{ Report(r wire.Report) }

// Ref names a command in flight.
type Ref struct {
	slot uint32
	gen  uint64
}

// slot is a place for one command at a time; see the package comment.
type slot struct {
	gen   uint64
	to    Receiver // nil: nobody waits any more
	sent  int64    // ns since the endpoint's start
	lost  int64    // when to report unknown; 0: never, or done
	asks  uint8    // how often it was asked for
	taken bool
	told  bool // unknown was reported
	over  bool // the end of the session was reported
}

// out is the way to one destination.
type out struct {
	e       *Endpoint
	to      ID
	subject string

	mu     sync.Mutex // also of the inbox that answers this way
	buf    []byte     // the message being filled; empty means none
	full   [][]byte   // messages ready to go
	spare  [][]byte   // empty buffers to use again
	bytes  int        // buffered in all
	queued bool       // on the endpoint's list of who has something to send

	slots []slot
	free  []uint32 // last in, first out: few slots, used often
	used  int
	over  int64 // ns since start when its session was told to be over; 0: it is not

	sent   uint64 // sends
	taken  uint64 // sends taken up there
	credit chan struct{}

	load atomic.Int64 // used slots, for balancing
}

// append adds a small frame to the message being filled, unless there is no
// room: then whoever misses an answer asks again. f appends it.
func (o *out) append(size int, f func(b []byte) []byte) {
	o.mu.Lock()
	if o.bytes+size > maxBuffered {
		o.mu.Unlock()
		return
	}
	o.reserve(size)
	n := len(o.buf)
	o.buf = f(o.buf)
	o.bytes += len(o.buf) - n
	o.kickLocked()
}

func (o *out) reserve(size int) {
	if len(o.buf) > 0 && len(o.buf)+size > maxBatch {
		o.full = append(o.full, o.buf)
		o.buf = nil
	}
	if len(o.buf) == 0 {
		if n := len(o.spare); n > 0 {
			o.buf, o.spare = o.spare[n-1], o.spare[:n-1]
		} else {
			o.buf = make([]byte, 0, 4096)
		}
		o.buf = append(o.buf[:0], o.e.header...)
	}
}

// kickLocked puts o on the flusher's list and unlocks.
func (o *out) kickLocked() {
	kick := !o.queued
	o.queued = true
	o.mu.Unlock()
	if kick {
		o.e.dirty(o)
	}
}

// flush publishes what piled up. An error loses the frames: who misses an
// answer asks for it.
func (o *out) flush() {
	o.mu.Lock()
	full, buf := o.full, o.buf
	o.full, o.buf, o.bytes, o.queued = nil, nil, 0, false
	o.mu.Unlock()
	for _, b := range full {
		_ = o.e.cfg.Conn.Publish(o.subject, b)
		o.keep(b)
	}
	if len(buf) > 0 {
		_ = o.e.cfg.Conn.Publish(o.subject, buf)
		o.keep(buf)
	}
}

// maxSpare is how many empty buffers of at most twice maxBatch are kept.
const maxSpare = 4

func (o *out) keep(b []byte) {
	if cap(b) > 2*maxBatch {
		return
	}
	o.mu.Lock()
	if len(o.spare) < maxSpare {
		o.spare = append(o.spare, b[:0])
	}
	o.mu.Unlock()
}

// takeLocked occupies a slot for a command of that many bytes.
func (o *out) takeLocked(r Receiver, now, lost int64, reserve, size int) (Ref, error) {
	if o.over != 0 {
		return Ref{}, ErrOver
	}
	if o.used >= Slots-reserve || o.bytes+size > maxBuffered && reserve > 0 {
		return Ref{}, ErrOverloaded
	}
	var i uint32
	if n := len(o.free); n > 0 {
		i = o.free[n-1]
		o.free = o.free[:n-1]
	} else {
		i = uint32(len(o.slots))
		o.slots = append(o.slots, slot{})
	}
	s := &o.slots[i]
	*s = slot{gen: s.gen + 1, to: r, sent: now, lost: lost, taken: true}
	o.used++
	o.load.Store(int64(o.used))
	return Ref{i, s.gen}, nil
}

// releaseLocked frees a slot whose outcome is known and returns who waits for it.
func (o *out) releaseLocked(ref Ref) (to Receiver, late bool) {
	s := o.find(ref)
	if s == nil {
		return nil, false
	}
	to, late = s.to, s.told
	o.freeLocked(ref.slot)
	return to, late
}

func (o *out) freeLocked(i uint32) {
	s := &o.slots[i]
	s.taken, s.to = false, nil
	o.free = append(o.free, i)
	o.used--
	o.load.Store(int64(o.used))
}

func (o *out) find(ref Ref) *slot {
	if int(ref.slot) >= len(o.slots) {
		return nil
	}
	if s := &o.slots[ref.slot]; s.taken && s.gen == ref.gen {
		return s
	}
	return nil
}

// sweep asks for what is outstanding, reports what is lost, and forgets what
// is hopeless. With all it asks for everything at once.
func (o *out) sweep(now int64, all bool) {
	var lost, over []Receiver
	var asks []Ref
	o.mu.Lock()
	if o.used > 0 {
		for i := range o.slots {
			s := &o.slots[i]
			if !s.taken {
				continue
			}
			if o.over != 0 {
				if !s.over && now-o.over >= int64(time.Second) { // see Leaving
					s.lost, s.told, s.over = 0, true, true
					if s.to != nil {
						over = append(over, s.to)
					}
				}
				if now-o.over > int64(forget) {
					o.freeLocked(uint32(i))
				}
				continue
			}
			if s.lost != 0 && now >= s.lost {
				s.lost, s.told = 0, true
				if s.to != nil {
					lost = append(lost, s.to)
				}
			}
			if all || now-s.sent > askAfter(s.asks) {
				if s.asks < 200 {
					s.asks++
				}
				asks = append(asks, Ref{uint32(i), s.gen})
			}
		}
	}
	o.mu.Unlock()
	for _, r := range asks {
		o.append(32, func(b []byte) []byte { return wire.AppendSlot(b, wire.TAsk, r.slot, r.gen) })
	}
	for _, r := range lost {
		r.Report(wire.Report{})
	}
	for _, r := range over {
		r.Report(wire.Report{Over: true})
	}
}

// askAfter is the age in ns at which a slot is asked for the (n+1)th time:
// 1 s, 3 s, 7 s, 15 s, 31 s, then every 30 s.
func askAfter(n uint8) int64 {
	if n < 5 {
		return int64(time.Second) * (2<<n - 1)
	}
	return int64(time.Second) * (31 + 30*(int64(n)-4))
}

// end reports every slot as unknown and over: the destination's session has
// ended. The slots stay taken for a while: what comes late is still told.
func (o *out) end(now int64) {
	var to []Receiver
	o.mu.Lock()
	if o.over == 0 {
		o.over = now
	}
	for i := range o.slots {
		if s := &o.slots[i]; s.taken && !s.over {
			s.lost, s.told, s.over = 0, true, true
			if s.to != nil {
				to = append(to, s.to)
			}
		}
	}
	o.mu.Unlock()
	o.wakeSenders()
	for _, r := range to {
		r.Report(wire.Report{Over: true})
	}
}

// refuse takes no new commands.
func (o *out) refuse(now int64) {
	o.mu.Lock()
	if o.over == 0 {
		o.over = now
	}
	o.mu.Unlock()
	o.wakeSenders()
}

// credited notes how many sends have been taken up.
func (o *out) credited(count uint64) {
	o.mu.Lock()
	if count > o.taken && count <= o.sent {
		o.taken = count
	}
	o.mu.Unlock()
	o.wakeSenders()
}

// forgive counts all sends as taken up: some may have been lost.
func (o *out) forgive() {
	o.mu.Lock()
	o.taken = o.sent
	o.mu.Unlock()
	o.wakeSenders()
}

func (o *out) wakeSenders() {
	select {
	case o.credit <- struct{}{}:
	default:
	}
}
