// Package link carries commands and reports between endpoints, over one NATS
// subject for each endpoint.
//
//	e, err := link.Open(link.Config{ID: link.NewID(now), Name: "a", Prefix: "dg.default", Conn: c, Runner: p, Serve: serve})
//	rep, err := e.Do(ctx, to, wire.Command{Kind: "echo", Input: in})
//
// A command occupies a slot of the table that its source keeps for its
// destination until its outcome is known there; the destination keeps the
// latest generation of each slot with its outcome, so that a command asked for
// again is answered and not run again. This is the slot table of NFSv4.1
// sessions (RFC 5661, section 2.10.6); docs/design.md tells what it gives.
//
// Frames for one destination pile up in a buffer which the endpoint's flusher
// publishes as one message. The flusher waits for no timer: it yields to the
// scheduler once, so that whatever is ready to send has joined the buffer, and
// takes up the next batch when the one before is on the wire.
//
// # Guarantees
//
// A command runs at most once. Its source learns its outcome, or that it is
// unknown because nothing came in the time the caller gave or because the
// destination's session is over; what comes later is told as Late. A
// destination that cannot be reached costs memory only up to the credits.
//
// # Failures
//
// Messages may be lost when a connection breaks. What is missing is asked for:
// after 1 s, 3 s, 7 s …, after each reconnection and when the destination says
// hello after one of its own. Sends (one way) that were lost stay lost.
package link

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/distgear/distgear/internal/engine"
	"github.com/distgear/distgear/internal/runner"
	"github.com/distgear/distgear/internal/wire"
)

// The errors of commands that were not sent.
var (
	ErrOverloaded = errors.New("link: too many commands in flight to this destination")
	ErrTooLarge   = errors.New("link: command is larger than a message may be")
	ErrOver       = errors.New("link: the destination's session is over")
	ErrClosed     = errors.New("link: endpoint is closed")
)

// ID is the life of an endpoint: it is never used again. Hub means whoever is
// the hub now.
type ID uint64

// Hub is where the hub listens whatever its life.
const Hub ID = 0

// NewID makes a life of the time and 22 random bits.
func NewID(now time.Time) ID {
	return ID(uint64(now.UnixMilli())<<22 | uint64(rand.Uint32()>>10))
}

// String is the form used in subjects.
func (id ID) String() string { return strconv.FormatUint(uint64(id), 16) }

// Config says what an endpoint is. Conn, Runner, Serve and ID are needed.
type Config struct {
	ID     ID             // Hub for the endpoint that answers as the hub, in whatever life
	Name   string         // told to those it sends to; at most 255 bytes
	Prefix string         // of all subjects
	Conn   *engine.Conn   // not closed by the endpoint
	Runner *runner.Pool   // runs Serve
	Serve  func(*Inbound) // runs a command and replies once
	Logger *slog.Logger   // nil means slog.Default()
}

// Endpoint sends and receives. It is safe for concurrent use.
type Endpoint struct {
	cfg    Config
	header []byte // of every message it sends
	stop   func() // receiving

	outs  atomic.Pointer[map[ID]*out] // replaced as a whole, under mu
	mu    sync.RWMutex
	boxes map[ID]*inbox

	dmu   sync.Mutex
	queue []*out        // those with something to send
	kick  chan struct{} // 1: something was added to queue

	recv    receiver
	waiters sync.Pool
	quit    chan struct{}
	wg      sync.WaitGroup
	badOnce sync.Once
	closed  atomic.Bool
	coarse  atomic.Int64 // see now
}

// Open starts an endpoint; it can be sent to when Open returns.
func Open(cfg Config) (*Endpoint, error) {
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	e := &Endpoint{
		cfg:    cfg,
		header: wire.AppendHeader(nil, uint64(cfg.ID), cfg.Name),
		boxes:  map[ID]*inbox{},
		kick:   make(chan struct{}, 1),
		quit:   make(chan struct{}),
	}
	e.outs.Store(&map[ID]*out{})
	e.tick()
	stop, err := cfg.Conn.Subscribe(e.subject(cfg.ID), e.receive)
	if err != nil {
		return nil, err
	}
	e.stop = stop
	e.wg.Go(e.flusher)
	e.wg.Go(e.sweeper)
	return e, nil
}

// ID is the life of the endpoint.
func (e *Endpoint) ID() ID { return e.cfg.ID }

// Close stops the endpoint after a last flush. Commands in flight are reported
// as unknown. It does not wait for handlers that run.
func (e *Endpoint) Close() {
	if e.closed.Swap(true) {
		return
	}
	e.stop()
	close(e.quit)
	e.wg.Wait()
	for _, o := range e.allOuts() {
		o.flush()
		o.end(e.now())
	}
}

func (e *Endpoint) subject(id ID) string {
	if id == Hub {
		return e.cfg.Prefix + ".hub"
	}
	return e.cfg.Prefix + ".n." + id.String()
}

// now is ns since 1970, as of the last round of the sweeper: near enough for
// what the links do with it, and free.
func (e *Endpoint) now() int64 { return e.coarse.Load() }

func (e *Endpoint) tick() { e.coarse.Store(time.Now().UnixNano()) }

// Start sends a command. Its outcome goes to r; with lost > 0, r is told
// unknown when nothing was heard for that long. An error means that nothing
// was sent and r is not called.
func (e *Endpoint) Start(to ID, c *wire.Command, lost time.Duration, r Receiver) (Ref, error) {
	if e.closed.Load() {
		return Ref{}, ErrClosed
	}
	size := wire.CommandSize(c)
	if size > maxBatch && size > e.cfg.Conn.MaxPayload()-512 { // the smaller ones save MaxPayload's lock
		return Ref{}, ErrTooLarge
	}
	o := e.out(to)
	now, reserve := e.now(), Slots/64
	until := int64(0)
	if lost > 0 {
		until = now + int64(lost)
	}
	if c.Flags&wire.Undo != 0 {
		reserve = 0 // undoing has room that doing cannot take (S13)
	}
	o.mu.Lock()
	ref, err := o.takeLocked(r, now, until, reserve, size)
	if err != nil {
		o.mu.Unlock()
		return Ref{}, err
	}
	o.reserve(size)
	n := len(o.buf)
	o.buf = wire.AppendCommand(o.buf, ref.slot, ref.gen, c)
	o.bytes += len(o.buf) - n
	o.kickLocked()
	return ref, nil
}

// Cancel asks the destination to stop a command. Its outcome still comes.
func (e *Endpoint) Cancel(to ID, ref Ref) {
	e.out(to).append(32, func(b []byte) []byte { return wire.AppendSlot(b, wire.TCancel, ref.slot, ref.gen) })
}

// Detach says that nobody waits for a command any more.
func (e *Endpoint) Detach(to ID, ref Ref) {
	o := e.out(to)
	o.mu.Lock()
	if s := o.find(ref); s != nil {
		s.to, s.lost = nil, 0
	}
	o.mu.Unlock()
}

// Do sends a command and waits for its outcome. When ctx ends first the
// command is cancelled, and the error is the cause: its outcome is unknown.
// Other errors mean that it was not sent.
func (e *Endpoint) Do(ctx context.Context, to ID, c *wire.Command, lost time.Duration) (r wire.Report, err error) {
	w, ref, err := e.Ask(to, c, lost)
	if err != nil {
		return r, err
	}
	if !e.Await(ctx, to, w, ref, &r) {
		return r, context.Cause(ctx)
	}
	return r, nil
}

// Ask is the first half of Do: it sends. Await must follow.
func (e *Endpoint) Ask(to ID, c *wire.Command, lost time.Duration) (*Waiter, Ref, error) {
	w, _ := e.waiters.Get().(*Waiter)
	if w == nil {
		w = NewWaiter()
	}
	ref, err := e.Start(to, c, lost, w)
	return w, ref, err
}

// Await is the second half of Do. False means that ctx ended first; then the
// command is cancelled and its outcome unknown.
func (e *Endpoint) Await(ctx context.Context, to ID, w *Waiter, ref Ref, r *wire.Report) bool {
	if !w.Wait(ctx, r) {
		e.Cancel(to, ref)
		e.Detach(to, ref)
		return false
	}
	if r.Outcome != wire.Unknown && !w.hooked { // nothing comes after it
		w.reset()
		e.waiters.Put(w)
	}
	return true
}

// Send sends a command that wants no report. It blocks while the destination
// is too far behind. No error does not mean that it arrived.
func (e *Endpoint) Send(ctx context.Context, to ID, c *wire.Command) error {
	size := wire.CommandSize(c)
	if size > maxBatch && size > e.cfg.Conn.MaxPayload()-512 {
		return ErrTooLarge
	}
	o := e.out(to)
	for {
		if e.closed.Load() {
			return ErrClosed
		}
		o.mu.Lock()
		if o.over != 0 {
			o.mu.Unlock()
			return ErrOver
		}
		if o.sent-o.taken < window {
			o.sent++
			more := o.sent-o.taken < window
			o.reserve(size)
			n := len(o.buf)
			o.buf = wire.AppendSend(o.buf, o.sent, c)
			o.bytes += len(o.buf) - n
			o.kickLocked()
			if more {
				o.wakeSenders() // the next who waits
			}
			return nil
		}
		o.mu.Unlock()
		select {
		case <-o.credit:
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", ErrOverloaded, context.Cause(ctx))
		case <-e.quit:
			return ErrClosed
		}
	}
}

// Load is how many commands are in flight to a destination.
func (e *Endpoint) Load(to ID) int {
	o := (*e.outs.Load())[to]
	if o == nil {
		return 0
	}
	return int(o.load.Load())
}

// Over says that the session of an endpoint is over: commands in flight to it
// are unknown, and new ones are refused.
func (e *Endpoint) Over(id ID) { e.out(id).end(e.now()) }

// Leaving says that an endpoint's session was ended by itself, after it had
// reported everything: new commands are refused at once, and those in flight
// are unknown once the reports that are on their way have had time to come.
func (e *Endpoint) Leaving(id ID) { e.out(id).refuse(e.now()) }

// Back says that an endpoint whose session was over has joined again in the
// same life: it is asked for what is outstanding.
func (e *Endpoint) Back(id ID) {
	o := e.out(id)
	o.mu.Lock()
	o.over = 0
	o.mu.Unlock()
	o.sweep(e.now(), true)
}

// Reconnected asks for everything that is outstanding and invites the sources
// to do so too.
func (e *Endpoint) Reconnected() {
	for _, o := range e.allOuts() {
		o.append(1, wire.AppendHello)
		o.forgive()
		o.sweep(e.now(), true)
	}
}

// CancelRunning cancels the context of every command that runs here and for
// which pick says so; pick must not call the endpoint.
func (e *Endpoint) CancelRunning(pick func(*Inbound) bool) {
	e.mu.RLock()
	boxes := make([]*inbox, 0, len(e.boxes))
	for _, b := range e.boxes {
		boxes = append(boxes, b)
	}
	e.mu.RUnlock()
	for _, b := range boxes {
		b.cancelRunning(pick)
	}
}

func (e *Endpoint) out(id ID) *out {
	if o := (*e.outs.Load())[id]; o != nil {
		return o
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	outs := *e.outs.Load()
	o := outs[id]
	if o == nil {
		o = &out{e: e, to: id, subject: e.subject(id), credit: make(chan struct{}, 1)}
		outs = maps.Clone(outs)
		outs[id] = o
		e.outs.Store(&outs)
	}
	return o
}

func (e *Endpoint) allOuts() []*out {
	return slices.Collect(maps.Values(*e.outs.Load()))
}

func (e *Endpoint) box(id ID, name []byte) *inbox {
	e.mu.RLock()
	b := e.boxes[id]
	e.mu.RUnlock()
	if b != nil {
		return b
	}
	back := e.out(id)
	e.mu.Lock()
	defer e.mu.Unlock()
	if b = e.boxes[id]; b == nil {
		b = &inbox{e: e, id: id, name: string(name), back: back, mu: &back.mu}
		e.boxes[id] = b
	}
	return b
}

// dirty puts o on the flusher's list.
func (e *Endpoint) dirty(o *out) {
	e.dmu.Lock()
	e.queue = append(e.queue, o)
	e.dmu.Unlock()
	select {
	case e.kick <- struct{}{}:
	default:
	}
}

// buffered is how many bytes wait for those who have something to send.
func (e *Endpoint) buffered() (n int) {
	e.dmu.Lock()
	defer e.dmu.Unlock()
	for _, o := range e.queue {
		o.mu.Lock()
		n += o.bytes
		o.mu.Unlock()
	}
	return n
}

func (e *Endpoint) flusher() {
	var batch []*out
	buffered := e.buffered // bound once
	for {
		select {
		case <-e.kick:
		case <-e.quit:
			return
		}
		e.cfg.Conn.Gather(buffered)
		e.dmu.Lock()
		batch, e.queue = e.queue, batch[:0]
		e.dmu.Unlock()
		for i, o := range batch {
			o.flush()
			batch[i] = nil
		}
		e.cfg.Conn.Settle()
	}
}

func (e *Endpoint) sweeper() {
	t := time.NewTicker(250 * time.Millisecond)
	defer t.Stop()
	for n := 0; ; n++ {
		select {
		case <-t.C:
		case <-e.quit:
			return
		}
		e.tick()
		now := e.now()
		for _, o := range e.allOuts() {
			o.sweep(now, false)
		}
		if n%40 == 0 { // every 10 s
			e.mu.RLock()
			boxes := make([]*inbox, 0, len(e.boxes))
			for _, b := range e.boxes {
				boxes = append(boxes, b)
			}
			e.mu.RUnlock()
			for _, b := range boxes {
				b.sweep(now)
			}
		}
	}
}

// Forget drops what is kept for a life that is over for good. A life that may
// come back must not be forgotten: its slots would start at generation 1 again
// and be answered with old outcomes.
func (e *Endpoint) Forget(id ID) {
	e.Over(id)
	e.mu.Lock()
	outs := maps.Clone(*e.outs.Load())
	delete(outs, id)
	e.outs.Store(&outs)
	delete(e.boxes, id)
	e.mu.Unlock()
}
