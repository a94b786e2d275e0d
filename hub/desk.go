package hub

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"sync"
	"time"

	"github.com/distgear/distgear/internal/client"
	"github.com/distgear/distgear/internal/engine"
	"github.com/distgear/distgear/internal/ledger"
	"github.com/distgear/distgear/internal/machine"
	"github.com/distgear/distgear/internal/operation"
	"github.com/distgear/distgear/internal/shard"
)

// desk is where sessions hand in their entries while this hub is the writer of
// the ledger, and where it is judged which of them are over.
type desk struct {
	conn   *engine.Conn
	prefix string
	log    *slog.Logger
	shard  *shard.Shard
	ledger *ledger.Ledger
	cut    time.Time // of the last round; the State's goroutine's, as is
	zero   int64     // when the ledger's time was 0; see look

	view    uint64 // the last change of the members that was cut; the State's goroutine's
	several bool   // there may be other writers
	confirm confirm

	lead  func(t *term) error
	ready chan struct{} // closed when ledger is set
	roles chan *term    // 1: this hub becomes the writer; nil: it is not any more
	quit  chan struct{}
	wg    sync.WaitGroup

	wmu   sync.Mutex
	works map[machine.Session]bool // sessions that work for executors

	mu    sync.Mutex
	term  uint64                     // its number, when this hub became the writer last
	heard map[machine.Session]*pulse // nil while another is the writer
}

// pulse is when a session was heard of.
type pulse struct {
	at    time.Time
	ttl   time.Duration
	quiet bool // its executors do not wait for it
	over  bool // it is to be ended, and the ledger has not taken that yet
}

// quietAfter is how long a session that works for executors may be silent before
// what it has goes to others: it says something at least twice a second
// (client.Client.Busy).
const quietAfter = 1500 * time.Millisecond

// clockEvery is how often the ledger is told the time of this hub.
const clockEvery = time.Minute

// openDesk opens the ledger. lead is called by one goroutine when this hub becomes
// the writer, and with nil when it is not any more.
func openDesk(ctx context.Context, conn *engine.Conn, prefix string, cfg ledger.Config, lead func(t *term) error) (*desk, error) {
	d := &desk{
		conn: conn, prefix: prefix, log: cfg.Logger.With("room", "ledger"), several: !cfg.Eager,
		ready: make(chan struct{}), roles: make(chan *term, 1), quit: make(chan struct{}),
	}
	d.shard = shard.New(shard.Config{Send: d.send, Works: d.work})
	cfg.Conn, cfg.State, cfg.Subject = conn, state{d.shard, d}, prefix+".log"
	d.lead = lead
	d.wg.Go(d.loop)
	var err error
	if d.ledger, err = ledger.Open(ctx, cfg); err != nil {
		close(d.quit)
		d.wg.Wait()
		return nil, err
	}
	close(d.ready)
	d.wg.Go(d.expirer)
	return d, nil
}

// close hands the ledger over, if it is this hub's, and ends the desk.
func (d *desk) close() {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	d.ledger.Leave(ctx)
	close(d.quit)
	d.wg.Wait()
}

// state is the shard as the ledger sees it.
type state struct {
	*shard.Shard
	d *desk
}

// Cut implements ledger.State.
func (s state) Cut() ledger.Release {
	s.d.cut = time.Now()
	r := s.Shard.Cut()
	if v := s.View(); v != s.d.view || s.d.several {
		s.d.view = v
		c := &confirmed{d: s.d, version: v, cut: s.d.cut}
		if r != nil {
			c.told = r
		}
		return c
	}
	if r != nil {
		return r
	}
	return nil
}

// Lead implements ledger.State.
func (s state) Lead(epoch uint64, base int64) {
	s.d.cut = time.Now()
	s.Shard.Lead(epoch)
	s.d.workers(s.Working())
	s.d.role(s.d.begins(epoch, base))
}

// Follow implements ledger.State.
func (s state) Follow() {
	s.Shard.Follow()
	s.d.role(nil)
}

// role tells the loop what this hub is now; what it was told before and has not
// taken up is void.
func (d *desk) role(t *term) {
	for {
		select {
		case d.roles <- t:
			return
		default:
		}
		select {
		case <-d.roles:
		default:
		}
	}
}

// loop listens while this hub is the writer.
func (d *desk) loop() {
	select {
	case <-d.ready:
	case <-d.quit:
		return
	}
	var (
		t     *term
		stop  func() // what listens; nil: nothing does
		led   bool   // lead was told that this hub is the writer
		again <-chan time.Time
	)
	for {
		select {
		case t = <-d.roles:
			if stop != nil {
				stop()
				stop = nil
			}
			d.begin(nil)
			led = false
			_ = d.lead(nil) // it cannot fail
		case <-again:
		case <-d.quit:
			if stop != nil {
				stop()
			}
			return
		}
		if again = nil; t == nil {
			continue
		}
		var err error
		if stop == nil {
			d.begin(t)
			if stop, err = d.conn.Subscribe(client.EntrySubject(d.prefix), d.take); err != nil {
				d.begin(nil) // who cannot be heard is not silent
			} else {
				d.mu.Lock()
				d.submit(nothing()) // but all are told who is the writer now
				d.submit(clock())
				d.mu.Unlock()
			}
		}
		if err == nil && !led {
			err = d.lead(t)
			led = err == nil
		}
		if err != nil {
			d.log.Error("the writer cannot serve yet; nodes wait for it", "err", err)
			again = time.After(100 * time.Millisecond)
		}
	}
}

// begin says whose silence is judged from now on: each has its whole
// time-to-live again. Nil: this is not the writer.
func (d *desk) begin(t *term) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.heard = nil
	if t == nil {
		return
	}
	d.heard = make(map[machine.Session]*pulse, len(t.sessions))
	now := time.Now()
	for _, s := range t.sessions {
		d.heard[s.ID] = &pulse{at: now, ttl: s.TTL}
	}
}

// take takes an entry in. It runs on the connection's goroutine.
func (d *desk) take(entry []byte) {
	e, err := operation.ParseEntry(entry)
	if err != nil || e.Type >= operation.EntryMembers { // those are this hub's alone to decide
		d.log.Warn("dropped a malformed entry; does a node have another version?", "bytes", len(entry))
		return
	}
	d.mu.Lock() // until it is submitted: what the expirer ends after it comes after it
	defer d.mu.Unlock()
	p := d.heard[e.Session]
	switch {
	case d.heard == nil, p != nil && p.over:
		return
	case e.Type == operation.EntryExpire:
		d.expire(e.Session)
		return
	case p != nil:
		p.at, p.quiet = time.Now(), false
	case e.Type == operation.EntryOpen:
		d.heard[e.Session] = &pulse{at: time.Now(), ttl: operation.TTL(e.TTL)}
	}
	d.submit(entry)
}

// submit hands an entry to the ledger, with mu held. What it does not take is
// sent again by the session.
func (d *desk) submit(entry []byte) (taken bool) {
	err := d.ledger.Submit(entry)
	if err != nil && !errors.Is(err, ledger.ErrBusy) && !errors.Is(err, ledger.ErrNotWriter) && !errors.Is(err, ledger.ErrClosed) && !errors.Is(err, ledger.ErrStorage) {
		d.log.Warn("an entry is not taken", "err", err)
	}
	return err == nil
}

// expire ends a session, with mu held. When the ledger does not take that the
// expirer tries again: nobody else would.
func (d *desk) expire(id machine.Session) {
	taken := d.submit(operation.AppendEntry(nil, &operation.Entry{Type: operation.EntryExpire, Session: id}))
	if p := d.heard[id]; taken {
		delete(d.heard, id)
	} else if p != nil {
		p.over = true
	}
}

func (d *desk) send(to machine.Session, frame []byte) {
	_ = d.conn.Publish(client.FrameSubject(d.prefix, to), frame) // what is lost is asked for
}

// expirer ends the sessions that were silent for their time-to-live.
func (d *desk) expirer() {
	t := time.NewTicker(50 * time.Millisecond)
	defer t.Stop()
	last := time.Now()
	told := last // the time
	var works map[machine.Session]bool
	for {
		select {
		case <-t.C:
		case <-d.quit:
			return
		}
		works = d.working(works)
		now := time.Now()
		away := now.Sub(last) > time.Second // this process stood still: what was sent meanwhile is not read yet
		last = now
		d.mu.Lock()
		for id, p := range d.heard {
			switch {
			case p.over:
				d.expire(id)
			case away:
				p.at = now
			case now.Sub(p.at) > p.ttl:
				d.log.Info("a session was silent for its time-to-live", "session", uint64(id))
				d.expire(id)
			case works[id] && !p.quiet && now.Sub(p.at) > quietAfter:
				d.log.Info("a session that works for executors is quiet; what it has goes to others", "session", uint64(id))
				p.quiet = d.submit(operation.AppendEntry(nil, &operation.Entry{Type: operation.EntryQuiet, Session: id}))
			}
		}
		if d.heard != nil && now.Sub(told) > clockEvery {
			d.submit(clock())
			told = now
		}
		d.mu.Unlock()
	}
}

// clock is the entry that tells the time: executors go by it, also when the ledger
// did not run for a while.
func clock() []byte {
	return operation.AppendEntry(nil, &operation.Entry{Type: operation.EntryClock, Session: operation.Nobody, Stamp: uint64(time.Now().UnixMilli())})
}

// work notes that a session works for executors, or does no more.
func (d *desk) work(s machine.Session, works bool) {
	d.wmu.Lock()
	defer d.wmu.Unlock()
	if works {
		d.works[s] = true
	} else {
		delete(d.works, s)
	}
}

// workers says which sessions work when this hub becomes the writer.
func (d *desk) workers(all []machine.Session) {
	d.wmu.Lock()
	defer d.wmu.Unlock()
	d.works = make(map[machine.Session]bool, len(all))
	for _, s := range all {
		d.works[s] = true
	}
}

// working is which sessions work now; into is used again.
func (d *desk) working(into map[machine.Session]bool) map[machine.Session]bool {
	d.wmu.Lock()
	defer d.wmu.Unlock()
	clear(into)
	if into == nil && len(d.works) > 0 {
		into = make(map[machine.Session]bool, len(d.works))
	}
	maps.Copy(into, d.works)
	return into
}
