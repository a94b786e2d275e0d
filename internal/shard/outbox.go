package shard

import "github.com/distgear/distgear/internal/operation"

// outbox is what is told to one session: numbered outputs, kept until the
// session acknowledges them.
type outbox struct {
	chunks []chunk // full ones, oldest first
	cur    chunk   // being filled
	last   uint64  // number of the last output ever appended
	size   int     // bytes kept
	next   int     // the first of chunks that the writer has not given to Cut
	way    int     // bytes of those before it
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
	maxWay    = 8 << 20  // bytes that are on the way to a session: far less than for what NATS ends a connection
	maxBehind = 32 << 20 // with more than that, its watchers and subscriptions are cut off
	maxOutbox = 64 << 20 // bytes that a session may leave unacknowledged: twice what the ledger takes in before the log has it
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
		if i < o.next {
			o.way -= len(o.chunks[i].bytes)
		}
		i++
	}
	o.next = max(o.next-i, 0)
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

// unsent are the chunks that Cut has not given out yet, as far as there is room on
// the way; the others follow when the session has acknowledged some.
func (o *outbox) unsent() []chunk {
	o.seal()
	first := o.next
	for o.next < len(o.chunks) && o.way < maxWay {
		o.way += len(o.chunks[o.next].bytes)
		o.next++
	}
	return o.chunks[first:o.next]
}

// again makes unsent begin with what is not acknowledged.
func (o *outbox) again() { o.next, o.way = 0, 0 }

// following is the number of the first output that was not given out.
func (o *outbox) following() uint64 {
	if o.next < len(o.chunks) {
		return o.chunks[o.next].first
	}
	return o.last + 1
}
