// Package client is a node's side of its session with the ledger: operations
// on shared objects go out in order, answers and grants come in in order.
//
//	c := client.New(client.Config{Conn: conn, Prefix: "dg.default", Name: "a", TTL: 9 * time.Second})
//	o := c.Object(operation.KCounter, "hits", 0, nil)
//	answer, err := o.Do(ctx, operation.Op{Verb: operation.VCounterAdd, A: 1}, false)
//	c.Close()
//
// It needs no other part of the library: whoever brings a connection may use
// the ledger.
//
// # Guarantees
//
// Operations of one session are applied in the order in which Start was called,
// each at most once. Outputs are delivered in the ledger's order, from one
// goroutine. Both survive lost messages, a new connection and another writer at
// the hub. The session is lost, and told to be, before the hub may give what it
// holds to another: it counts from when the last entry that the ledger confirmed
// was sent, less a margin of an eighth.
//
// # Failures
//
// After the loss of the session what was not confirmed is unknown: receivers
// are told so (Lost, and Client.Loss tells what it was), and a new session is
// opened, with nothing held.
package client

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strconv"
	"sync"
	"time"

	"github.com/distgear/distgear/internal/engine"
	"github.com/distgear/distgear/internal/machine"
	"github.com/distgear/distgear/internal/operation"
)

// The errors of Start.
var (
	ErrClosed     = errors.New("client: closed")
	ErrLost       = errors.New("client: the session with the ledger is lost")
	ErrOverloaded = errors.New("client: too many operations are under way")
	ErrTooLarge   = errors.New("client: operation is larger than a message may be")
)

// MaxOp is how large the operations of one Start may be, in bytes: what the
// ledger takes as one entry, less its head.
const MaxOp = 700 << 10

const (
	maxEntry   = 60 << 10 // bytes of operations in one entry, but for one that is larger by itself
	maxSpare   = 8        // buffers that are kept
	ackAfter   = 1 << 20  // bytes that were heard are acknowledged
	maxPending = 64 << 20 // bytes of operations that may be unconfirmed
	resend     = 300 * time.Millisecond
)

// EntrySubject is where the writer of a cluster's ledger listens.
func EntrySubject(prefix string) string { return prefix + ".ledger" }

// FrameSubject is where a session listens.
func FrameSubject(prefix string, s machine.Session) string {
	return prefix + ".session." + strconv.FormatUint(uint64(s), 16)
}

// Receiver is told what became of an operation. Its methods are called from
// one goroutine in the order of the ledger: they must not block.
type Receiver interface {
	// Output is called with each answer; true when no more will come. The
	// bytes of o are only lent.
	Output(o *operation.Output) (done bool)
	// Lost is called instead when the session was lost: what became of the
	// operation is unknown.
	Lost()
}

// Config says whose session it is. Conn, Prefix, Name and TTL are needed.
type Config struct {
	Conn   *engine.Conn
	Prefix string
	Name   string        // of the node, for people
	TTL    time.Duration // of the session
	Logger *slog.Logger  // nil means slog.Default()
}

// Client is a node's session with the ledger. It is safe for concurrent use.
type Client struct {
	cfg   Config
	start time.Time
	alone *alone // instead of all below but objects; see Alone

	dmu sync.Mutex // held while receivers are called; before mu

	mu      sync.Mutex
	life    *life         // nil before the first
	opened  chan struct{} // closed when there is a session
	running bool
	closed  bool
	past    []past          // sessions that are over here, and maybe not yet at the hub
	loss    Loss            // the last one
	store   *engine.Objects // nil before the first use
	busy    int             // see Busy

	kick chan struct{} // 1: there is something to publish

	omu     sync.Mutex
	objects []*Object // by handle-1; nil: free
	free    []uint64  // handles, those that were closed first in front
	askings sync.Pool

	quit chan struct{}
	wg   sync.WaitGroup
}

// life is one session. Its fields are under Client.mu but for what is said.
type life struct {
	id   machine.Session
	stop func() // the subscription
	open bool
	lost bool

	number  uint64 // of the last operation
	applied uint64 // as told
	wait    map[uint64]Receiver
	spare   [][]byte // of batches that were applied, to be used again
	pending []batch  // not applied, oldest first; the last may be open to more
	sent    int      // of pending, how many were published
	bytes   int
	got     uint64 // number of the last output taken up
	acked   uint64 // as told to the ledger
	weight  int    // bytes of frames since then
	epoch   uint64
	ask     bool   // something was missed
	asked   int64  // ms after start, when that was told last
	known   uint64 // number of the last output that there is, as far as we were told
	renew   bool   // say that we are here
	lease   int64  // ms after start at which it ends
	spoke   int64  // ms after start, when an entry was sent last
	stuck   int64  // ms after start, when it last went on with something pending
	tries   int    // how often all was sent again since
}

// batch is the operations first … first+n-1.
type batch struct {
	first uint64
	n     uint64
	ops   []byte
}

// New returns a client that opens its session when it is first needed. It does
// no I/O.
func New(cfg Config) *Client {
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	return &Client{cfg: cfg, start: time.Now(), opened: make(chan struct{}), kick: make(chan struct{}, 1), quit: make(chan struct{})}
}

// run starts the goroutines, once.
func (c *Client) run() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.running || c.closed {
		return
	}
	c.running = true
	c.wg.Go(c.flusher)
	c.wg.Go(c.keeper)
}

var errDown = errors.New("client: no connection")

// begin starts a life, when everybody has been told that the one before is over.
// An error means that there is no connection.
func (c *Client) begin() error {
	if !c.cfg.Conn.Up() {
		return errDown // to subscribe would wait for seconds
	}
	var last machine.Session
	c.dmu.Lock() // see lose
	c.mu.Lock()
	if c.life != nil {
		last = c.life.id
	}
	c.mu.Unlock()
	c.dmu.Unlock()
	l := &life{id: sessionAt(time.Now(), rand.Uint32(), last), wait: map[uint64]Receiver{}}
	l.lease = c.ms() + c.cfg.TTL.Milliseconds()*7/8 // to be opened by then
	stop, err := c.cfg.Conn.Subscribe(FrameSubject(c.cfg.Prefix, l.id), func(data []byte) { c.receive(l, data) })
	if err != nil {
		return err
	}
	l.stop = stop
	c.mu.Lock()
	c.life = l
	c.mu.Unlock()
	c.wake()
	return nil
}

// sessionAt is the number of a session that begins now: of a client later ones are
// higher, also if the clock was turned back.
func sessionAt(now time.Time, random uint32, last machine.Session) machine.Session {
	const bits = 22
	ms := max(uint64(now.UnixMilli()), uint64(last)>>bits+1)
	return machine.Session(ms<<bits | uint64(random>>(32-bits)))
}

func (c *Client) ms() int64 { return time.Since(c.start).Milliseconds() }

// Wall is the time in ms since 1970, by the clock as it was when the client was made:
// it never goes back.
func (c *Client) Wall() int64 { return c.start.Add(time.Since(c.start)).UnixMilli() }

// Ready waits until there is a session.
func (c *Client) Ready(ctx context.Context) error {
	if c.alone != nil {
		return nil
	}
	for {
		c.mu.Lock()
		opened, running := c.opened, c.running
		ready := c.life != nil && c.life.open && !c.life.lost
		c.mu.Unlock()
		if ready {
			return nil
		}
		if !running {
			c.run()
		}
		select {
		case <-opened:
		case <-ctx.Done():
			return fmt.Errorf("no session with the hub's ledger yet (does a hub run?): %w", context.Cause(ctx))
		case <-c.quit:
			return ErrClosed
		}
	}
}

// Session is the session there is now; false while there is none.
func (c *Client) Session() (machine.Session, bool) {
	if c.alone != nil {
		return 1, true
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.life == nil || !c.life.open || c.life.lost {
		return 0, false
	}
	return c.life.id, true
}

// Valid tells whether the session's lease holds now: whoever was away (a
// stopped process) asks before it acts on what it holds.
func (c *Client) Valid(of machine.Session) bool {
	if c.alone != nil {
		return true
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	l := c.life
	return l != nil && l.id == of && l.open && !l.lost && c.ms() < l.lease
}

// Start sends operations, one right behind the other. Their Req is set by
// Start: the answers of the last one go to r; with r nil it has none. Operations
// for a session that is gone (of is not 0 and not the session of now) are
// refused with ErrLost. It returns the number of the last one, which is its
// request. An error means that nothing was done, and r is not called. With r nil
// there is no ErrOverloaded: what gives back, takes back a wait, or ends what is told
// (Object.End), cannot fail while the session lasts.
func (c *Client) Start(of machine.Session, r Receiver, ops ...operation.Op) (uint64, error) {
	return c.startOn(nil, of, r, ops)
}

// startOn is Start for an object: ErrGone when it was closed.
func (c *Client) startOn(o *Object, of machine.Session, r Receiver, ops []operation.Op) (uint64, error) {
	if c.alone != nil {
		return c.alone.run(c, o, of, r, ops)
	}
	size := 0
	for i := range ops {
		size += operation.OpSize(&ops[i])
	}
	if size > MaxOp {
		return 0, ErrTooLarge
	}
	c.mu.Lock()
	l := c.life
	switch {
	case c.closed:
		c.mu.Unlock()
		return 0, ErrClosed
	case l == nil || !l.open || l.lost || of != 0 && of != l.id:
		c.mu.Unlock()
		return 0, ErrLost
	case l.bytes+size > maxPending && !givesBack(r): // refused, that would be lost
		c.mu.Unlock()
		return 0, ErrOverloaded
	case !o.admit(of, ops):
		c.mu.Unlock()
		return 0, ErrGone
	}
	for i := range ops {
		op := &ops[i]
		l.number++
		op.Req = 0
		if r != nil && i == len(ops)-1 {
			op.Req = l.number
			l.wait[l.number] = r
		}
		l.add(op, c)
	}
	number, kick := l.number, l.sent < len(l.pending)
	c.mu.Unlock()
	if kick {
		c.wake()
	}
	return number, nil
}

// givesBack tells by who waits for its answer that an operation gives something back.
func givesBack(r Receiver) bool {
	switch r.(type) {
	case nil, *ending, *closing:
		return true
	}
	return false
}

func (l *life) add(op *operation.Op, c *Client) {
	n := len(l.pending)
	if n == l.sent || len(l.pending[n-1].ops)+operation.OpSize(op) > maxEntry {
		b := batch{first: l.number}
		if k := len(l.spare); k > 0 {
			b.ops, l.spare = l.spare[k-1], l.spare[:k-1]
		}
		l.pending = append(l.pending, b)
		n++
	}
	b := &l.pending[n-1]
	before := len(b.ops)
	b.ops = operation.AppendOp(b.ops, op)
	b.n++
	if l.bytes == 0 {
		l.stuck = c.ms()
	}
	l.bytes += len(b.ops) - before
}

func (c *Client) wake() {
	select {
	case c.kick <- struct{}{}:
	default:
	}
}

// held is how many bytes of operations are not confirmed: what is to be sent adds to them.
func (c *Client) held() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.life == nil {
		return 0
	}
	return c.life.bytes
}

// flusher publishes what piled up; see package link for why it yields.
func (c *Client) flusher() {
	var buf []byte
	held := c.held // bound once
	for {
		select {
		case <-c.kick:
		case <-c.quit:
			return
		}
		c.cfg.Conn.Gather(held)
		for {
			var more bool
			if buf, more = c.next(buf[:0]); len(buf) > 0 {
				_ = c.cfg.Conn.Publish(EntrySubject(c.cfg.Prefix), buf) // what is lost is sent again
			}
			if !more {
				break
			}
		}
		c.cfg.Conn.Settle()
	}
}

// next makes up the next entry to publish, if there is one, and tells whether
// there may be more.
func (c *Client) next(buf []byte) (entry []byte, more bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	l := c.life
	if l == nil || l.lost {
		return buf, false
	}
	now := c.ms()
	e := operation.Entry{Type: operation.EntryOps, Session: l.id, Stamp: uint64(now), Ack: l.got, First: l.number + 1}
	switch {
	case !l.open:
		if !l.renew && l.spoke != 0 {
			return buf, false
		}
		e.Type, e.TTL, e.Name = operation.EntryOpen, uint64(c.cfg.TTL.Milliseconds()), []byte(c.cfg.Name)
		l.renew, l.spoke = false, now
		return operation.AppendEntry(buf, &e), false
	case l.sent < len(l.pending):
		b := &l.pending[l.sent]
		l.sent++
		e.First = b.first
		if l.ask { // not behind all that is to be sent: there may be no end of it
			e.Type, l.ask = operation.EntryAsk, false
		}
		buf = append(operation.AppendEntry(buf, &e), b.ops...)
	case l.ask:
		l.ask = false
		e.Type = operation.EntryAsk
		buf = operation.AppendEntry(buf, &e)
	case l.renew:
		buf = operation.AppendEntry(buf, &e)
	default:
		return buf, false
	}
	l.renew, l.spoke, l.acked, l.weight = false, now, l.got, 0
	return buf, l.sent < len(l.pending) || l.ask
}

// receive takes up a frame. It runs on the connection's goroutine.
func (c *Client) receive(l *life, data []byte) {
	f, err := operation.ParseFrame(data)
	if err != nil {
		c.cfg.Logger.Warn("dropped a malformed message of the ledger; does the hub have another version?", "bytes", len(data))
		return
	}
	c.mu.Lock()
	if l != c.life || l.lost {
		c.mu.Unlock()
		return
	}
	if f.Type == operation.FrameOver {
		known := l.open
		c.mu.Unlock()
		if known {
			c.lose(l, "the hub ended it", true)
		}
		return
	}
	first := !l.open
	l.open = true
	if f.Stamp > 0 {
		l.lease = max(l.lease, int64(f.Stamp)+c.cfg.TTL.Milliseconds()*7/8)
	}
	l.confirm(f.Applied, c.ms())
	if f.Epoch > l.epoch { // another writer: what the one before took up may be lost
		if l.epoch != 0 {
			l.again()
		}
		l.epoch = f.Epoch
	}
	missed := f.First > l.got+1
	l.known = max(l.known, f.First-1)
	if now := c.ms(); missed && now-l.asked >= 50 {
		l.ask, l.asked = true, now
	}
	kick := l.ask || l.sent < len(l.pending)
	opened := c.opened
	c.mu.Unlock()
	if first {
		close(opened)
	}
	if !missed {
		c.outputs(l, &f)
	}
	c.mu.Lock()
	l.weight += len(data)
	if l.got-l.acked > 1<<10 || l.weight > ackAfter { // a session that only listens
		l.renew, kick = true, true
	}
	c.mu.Unlock()
	if kick {
		c.wake()
	}
}

func (c *Client) outputs(l *life, f *operation.Frame) {
	c.dmu.Lock()
	defer c.dmu.Unlock()
	var o operation.Output
	for n := f.First; f.Next(&o); n++ {
		c.mu.Lock()
		if n <= l.got || l.lost {
			c.mu.Unlock()
			continue
		}
		l.got = n
		r := l.wait[o.Req]
		c.mu.Unlock()
		if o.Req == 0 {
			c.event(&o)
			continue
		}
		if r != nil && r.Output(&o) {
			c.mu.Lock()
			delete(l.wait, o.Req)
			c.mu.Unlock()
		}
	}
}

// confirm drops what was applied.
func (l *life) confirm(applied uint64, now int64) {
	if applied <= l.applied {
		return
	}
	l.applied, l.stuck, l.tries = applied, now, 0
	i := 0
	for i < len(l.pending) && l.pending[i].first+l.pending[i].n-1 <= applied {
		ops := l.pending[i].ops
		l.bytes -= len(ops)
		if len(l.spare) < maxSpare && cap(ops) <= 2*maxEntry {
			l.spare = append(l.spare, ops[:0])
		}
		i++
	}
	if i > 0 {
		clear(l.pending[:i])
		l.pending = l.pending[i:]
		l.sent = max(l.sent-i, 0)
		if len(l.pending) == 0 {
			l.pending = nil
		}
	}
}

// again makes the flusher publish everything that is not confirmed.
func (l *life) again() { l.sent = 0 }
