// Package ledger is a replicated log of entries with one writer at a time,
// which applies them to a State, and standbys which follow and take over. It
// does not look into the entries.
//
//	l, err := ledger.Open(ctx, ledger.Config{Conn: c, Name: "default", Hub: "a", State: s})
//	err = l.Submit(entry) // at the writer: applied, appended, and then s.Cut's Release is released
//	l.Leave(ctx)          // another takes over at once
//
// Entries that pile up while earlier ones are on their way travel as one
// record, a round: there is no timer. docs/adr/0004 tells how the log is used.
//
// # Guarantees
//
// A release happens only after its round is in the log at the tier of the
// servers, in the order of the rounds. Every ledger applies the same entries in
// the same order with the same times. Two writers are never both acknowledged:
// the log itself refuses one of them, whatever the clocks say, and who was
// refused reads the log before it does anything else.
//
// # Failures
//
// An append that was rejected or not answered is unknown. The writer reads the
// log behind the last round it is sure of, opens an epoch of its own there and
// appends what is missing; or finds that another has begun an epoch, drops what
// was not released, and follows. What Submit took and was not released then is
// lost, or not: whoever submits must know by what is released, and submit again.
// A writer that cannot store refuses entries and goes on trying.
package ledger

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/distgear/distgear/internal/engine"
)

// The errors of Submit: nothing was taken.
var (
	ErrNotWriter = errors.New("ledger: another is the writer, or nobody is yet")
	ErrBusy      = errors.New("ledger: too many entries wait for the log")
	ErrTooLarge  = errors.New("ledger: the entry is larger than 768 KiB")
	ErrClosed    = errors.New("ledger: closed")
	ErrStorage   = errors.New("ledger: the log cannot store (is the disk full?)") // it is tried again: at what was taken before, too
)

// State is what the entries are applied to. All its methods are called by one
// goroutine at a time.
type State interface {
	// Apply applies an entry, or a tick if it is empty, at ledger time now in
	// ms, which never goes back. It must depend on nothing but the state. The
	// entry is never written again, but who keeps a part of it keeps its
	// whole round, up to 256 KiB.
	Apply(now int64, entry []byte)
	// Cut returns what the entries since the last Cut want told, or nil.
	// It is called at the writer, once for each round.
	Cut() Release
	// Due is the ledger time in ms when a tick is wanted; 0 is never.
	Due() int64
	// Snapshot is the whole state. The ledger keeps it until it is in the log.
	// Everything waits while it is made; if that takes 5 s, another takes over.
	Snapshot() []byte
	// Restore replaces the state by a snapshot, or by the empty one at the
	// beginning of a log if it is empty. An error ends the ledger.
	Restore(snapshot []byte) error
	// Lead tells that this process became the writer, before it applies its
	// first entry as such. base is the wall clock in ms at the beginning of
	// the log, with which the ledger's time began.
	Lead(epoch uint64, base int64)
	// Follow tells that it is not the writer any more.
	Follow()
}

// Release is what a round wants told.
type Release interface {
	// Release is called when the round is in the log, in the order of the
	// rounds, from one goroutine, beside the State's. While it blocks, rounds wait.
	// A round that was in the log in time may be released late, when another
	// is the writer already and has told the same.
	Release()
}

// Config says what a ledger is. Conn, Name, Hub and State are needed.
type Config struct {
	Conn   *engine.Conn // not closed by the ledger
	Name   string       // of the log: letters, digits, '-' and '_'
	Hub    string       // name of this process for the others
	State  State
	Logger *slog.Logger // nil means slog.Default()

	Subject  string // of the log; beats go to it with ".beat" added; zero: "dg.ledger." and the name
	Replicas int    // zero: 1
	Memory   bool   // keep the log in memory only
	MaxBytes int64  // of the log, several times SnapshotBytes; zero: what the servers allow

	// Eager takes the lead before Open returns if it can, without waiting for a
	// word of another writer first: for the only hub on a server of its own.
	Eager bool
	// Patience is how long a standby hears nothing before it takes over; up to
	// half as much again is added by chance. Zero: 700 ms.
	Patience time.Duration
	// SnapshotBytes is how much is appended before the state is written into
	// the log again and what was before is removed, or as much as the last
	// snapshot was, if that is more. Zero: 64 MiB.
	SnapshotBytes int64
	// MaxPending is how many bytes of entries may wait for the log. Zero: 32 MiB.
	MaxPending int
	// Window is how many rounds may be on their way to the log. Zero: 4; more
	// made smaller rounds and no more entries per second.
	Window int

	stall time.Duration // how long the goroutine may stand still before its beats stop; zero: 5 s
}

// Times and sizes.
const (
	beatEvery    = 100 * time.Millisecond
	tickEvery    = 50 * time.Millisecond // the loop's look around
	ackTicks     = 20                    // of silence until an append is unknown
	openTimeout  = 500 * time.Millisecond
	sureEvery    = 1000      // ms between the records of an idle writer among several
	troubleTicks = 40        // of recovery until the writer's beats stop
	pollTicks    = 5         // between a standby's looks into the log without a beat
	maxRound     = 256 << 10 // bytes; one entry may be larger
	maxEntries   = 4096      // of a round
)

// Stats is what a ledger knows of itself.
type Stats struct {
	Writer    bool
	Epoch     uint64
	Last      uint64  // sequence number of the last record that was applied and is in the log
	Now       int64   // ledger time in ms of that record
	Rounds    uint64  // released by this process
	Entries   uint64  // in those
	Rate      float64 // rounds/s, over the last second
	Pending   int     // bytes that wait for the log
	InFlight  int     // rounds on their way to it
	Tier      string  // "memory" or "file"; the server knows how often it syncs
	Replicas  int
	LogBytes  uint64        // appended since the last snapshot
	Snapshot  time.Duration // age of the last snapshot that this process saw; negative: none
	Standbys  int           // heard of within 3 s
	WriterHub string        // who is the writer, as far as this process heard
	Trouble   string        // why nothing can be appended now; empty: nothing is wrong
}

// Ledger is one process's part in a log. It is safe for concurrent use.
type Ledger struct {
	cfg    Config
	log    *engine.Log
	slog   *slog.Logger
	life   uint64
	unbeat func()

	ctx    context.Context // of the goroutines
	cancel context.CancelCauseFunc
	wg     sync.WaitGroup
	done   chan struct{} // closed when the loop has ended
	kick   chan struct{} // 1: something is there for the loop

	leading  atomic.Bool
	refuse   atomic.Pointer[error] // why Submit takes nothing; nil: it takes
	progress atomic.Uint64         // the loop gets on
	trouble  atomic.Uint64         // ticks that a recovery takes; 0: none

	smu      sync.Mutex
	pending  []*chunk
	waiting  int // bytes in pending
	roundCap int // bytes that a new chunk has room for: a bit more than the last round had
	want     int // bytes that the loop waits for; 0: it does not

	mu      sync.Mutex
	acks    []ack
	funcs   []func()
	peers   map[uint64]peer
	writer  beat   // the last of the highest epoch
	beats   uint64 // of a writer that were heard
	leaving bool   // Leave was called
	stats   Stats
	err     error

	loop
}

// chunk is a round being filled: a record whose header is not sealed.
type chunk struct {
	buf []byte
	n   int // entries
}

// Open opens the log and applies what it holds. It tries until ctx ends.
func Open(ctx context.Context, cfg Config) (*Ledger, error) {
	cfg.Logger = cmp.Or(cfg.Logger, slog.Default())
	cfg.Subject = cmp.Or(cfg.Subject, "dg.ledger."+cfg.Name)
	cfg.Patience = cmp.Or(cfg.Patience, 700*time.Millisecond)
	cfg.SnapshotBytes = cmp.Or(cfg.SnapshotBytes, 64<<20)
	cfg.MaxPending = cmp.Or(cfg.MaxPending, 32<<20)
	cfg.Window = min(cmp.Or(cfg.Window, 4), 60) // of a pipe's 64
	cfg.stall = cmp.Or(cfg.stall, 5*time.Second)
	l := &Ledger{
		cfg:   cfg,
		slog:  cfg.Logger.With("room", "ledger", "log", cfg.Name, "hub", cfg.Hub),
		life:  rand.Uint64(),
		done:  make(chan struct{}),
		kick:  make(chan struct{}, 1),
		peers: map[uint64]peer{},
	}
	l.releases = make(chan released, 4*cfg.Window) // so that a slow Release holds up nothing at once
	l.refuse.Store(&errNotWriter)
	l.ctx, l.cancel = context.WithCancelCause(context.Background())
	if err := l.open(ctx); err != nil {
		l.cancel(err)
		if l.unbeat != nil {
			l.unbeat()
		}
		return nil, fmt.Errorf("ledger %s: %w", cfg.Name, err)
	}
	l.wg.Go(l.beater)
	l.wg.Go(l.releaser)
	l.wg.Go(l.run)
	return l, nil
}

var errNotWriter = ErrNotWriter // for a pointer to it

func (l *Ledger) beatSubject() string { return l.cfg.Subject + ".beat" }

func (l *Ledger) open(ctx context.Context) (err error) {
	l.log, err = engine.OpenLog(ctx, l.cfg.Conn, engine.LogConfig{
		Name: l.cfg.Name, Subject: l.cfg.Subject, Replicas: l.cfg.Replicas, Memory: l.cfg.Memory, MaxBytes: l.cfg.MaxBytes,
	})
	if err != nil {
		return err
	}
	if l.unbeat, err = l.cfg.Conn.Subscribe(l.beatSubject(), l.hear); err != nil {
		return err
	}
	l.stats.Replicas, l.stats.Tier = max(l.cfg.Replicas, 1), "file"
	if l.cfg.Memory {
		l.stats.Tier = "memory"
	}
	if err := l.load(ctx); err != nil {
		return err
	}
	if l.cfg.Eager {
		return l.takeOver(ctx)
	}
	return nil
}

// Submit hands an entry to the log; it copies it, and does not wait. Nil means
// that it was taken, not that it will be in the log. An error means that it
// was not taken: ErrBusy is over when some of what waits is in the log.
func (l *Ledger) Submit(entry []byte) error {
	if len(entry) > maxEntry {
		return ErrTooLarge
	}
	l.smu.Lock()
	if why := l.refuse.Load(); why != nil {
		l.smu.Unlock()
		return *why
	}
	need := len(entry) + 4
	if l.waiting+need > l.cfg.MaxPending && l.waiting > 0 {
		l.smu.Unlock()
		return ErrBusy
	}
	var c *chunk
	if n := len(l.pending); n > 0 {
		c = l.pending[n-1]
	}
	if c == nil || c.n == maxEntries || len(c.buf)+need > maxRound {
		c = &chunk{buf: make([]byte, headLen+1, max(headLen+1+need, l.roundCap))}
		l.pending = append(l.pending, c)
	}
	was := len(c.buf)
	c.buf = appendEntry(c.buf, entry)
	c.n++
	l.waiting += len(c.buf) - was
	look := len(l.pending) == 1 && c.n == 1
	if l.want > 0 && (len(l.pending) > 1 || len(c.buf) >= l.want) {
		look, l.want = true, 0
	}
	l.smu.Unlock()
	if look {
		l.wake()
	}
	return nil
}

// wake makes the loop look around.
func (l *Ledger) wake() {
	select {
	case l.kick <- struct{}{}:
	default:
	}
}

// Do runs f on the State's goroutine, between entries, and returns when it has
// run: the state is as of all entries applied, of which the last may not be in
// the log yet. An error means that f did not run, and will not.
func (l *Ledger) Do(ctx context.Context, f func()) error {
	var once sync.Once // f runs, or is given up
	ran := make(chan struct{})
	l.mu.Lock()
	l.funcs = append(l.funcs, func() { once.Do(func() { f(); close(ran) }) })
	l.mu.Unlock()
	l.wake()
	var err error
	select {
	case <-ran:
		return nil
	case <-ctx.Done():
		err = context.Cause(ctx)
	case <-l.done:
		err = ErrClosed
	}
	once.Do(func() {})
	select {
	case <-ran:
		return nil
	default:
		return err
	}
}

// Writer tells whether this process is the writer, as far as it knows.
func (l *Ledger) Writer() bool { return l.leading.Load() }

// Stats tells how the ledger is.
func (l *Ledger) Stats() Stats {
	l.smu.Lock()
	pending := l.waiting
	l.smu.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.stats
	s.Pending = pending
	s.Snapshot = -1
	if !l.snapshotAt.IsZero() {
		s.Snapshot = time.Since(l.snapshotAt)
	}
	for _, p := range l.peers {
		if p.flags&beatWriter == 0 && time.Since(p.at) < peerForget {
			s.Standbys++
		}
	}
	s.WriterHub = l.writer.hub
	if s.Writer {
		s.WriterHub = l.cfg.Hub
	}
	return s
}

// Behind asks the log which servers run and do not keep their replica up, because
// their disk is full, say, or their directory was lost and is being filled.
func (l *Ledger) Behind(ctx context.Context) ([]string, error) {
	b, err := l.log.Bounds(ctx)
	return b.Behind, err
}

// Done is closed when the ledger has ended: by Close, or by an error.
func (l *Ledger) Done() <-chan struct{} { return l.done }

// Err tells why the ledger ended by itself; nil before that and after Close.
func (l *Ledger) Err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

// Close ends the ledger at once and returns when its goroutines are gone. What
// waits for the log is dropped; what is on its way may be in it. Others notice
// by the silence.
func (l *Ledger) Close() {
	l.cancel(ErrClosed)
	l.wg.Wait()
	l.unbeat()
}

// Leave takes no more entries, waits until what was taken is in the log and
// released, or ctx ends, tells the standbys to take over, and closes.
func (l *Ledger) Leave(ctx context.Context) {
	l.mu.Lock()
	l.leaving = true
	l.mu.Unlock()
	l.wake()
	select {
	case <-l.done:
	case <-ctx.Done():
	}
	l.Close()
}
