package shard

import "github.com/distgear/distgear/internal/operation"

// outbox is what is told to one session: numbered outputs, kept until the
// session acknowledges them.
type outbox struct {
	chunks []chunk // full ones, oldest first
	cur    chunk   // being filled
	last   uint64  // number of the last output ever appended
	sent   uint64  // the last one that the writer gave to Cut
	size   int     // bytes kept
}

// chunk is the outputs first … first+n-1 in a row.
type chunk struct {
	first uint64
	n     uint64
	bytes []byte
}

func (c *chunk) end() uint64 { return c.first + c.n - 1 }

const (
	maxChunk  = 48 << 10 // bytes of outputs in one frame, but for one that is larger by itself
	maxOutbox = 16 << 20 // bytes that a session may leave unacknowledged
)

func (o *outbox) add(out *operation.Output) {
	o.last++
	if o.cur.n == 0 {
		o.cur.first = o.last
	}
	n := len(o.cur.bytes)
	o.cur.bytes = operation.AppendOutput(o.cur.bytes, out)
	o.cur.n++
	o.size += len(o.cur.bytes) - n
	if len(o.cur.bytes) >= maxChunk {
		o.seal()
	}
}

// seal ends the chunk that is being filled: its bytes are not touched again.
func (o *outbox) seal() {
	if o.cur.n > 0 {
		o.chunks = append(o.chunks, o.cur)
		o.cur = chunk{}
	}
}

// ack forgets what the session has.
func (o *outbox) ack(n uint64) {
	i := 0
	for i < len(o.chunks) && o.chunks[i].end() <= n {
		o.size -= len(o.chunks[i].bytes)
		i++
	}
	if i > 0 {
		clear(o.chunks[:i])
		o.chunks = o.chunks[i:]
	}
	if o.cur.n > 0 && o.cur.end() <= n {
		o.size -= len(o.cur.bytes)
		o.cur = chunk{}
	}
	if len(o.chunks) == 0 {
		o.chunks = nil
	}
}

// unsent are the chunks that Cut has not given out yet.
func (o *outbox) unsent() []chunk {
	o.seal()
	i := len(o.chunks)
	for i > 0 && o.chunks[i-1].end() > o.sent {
		i--
	}
	o.sent = o.last
	return o.chunks[i:]
}
