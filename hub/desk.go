package hub

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/distgear/distgear/internal/client"
	"github.com/distgear/distgear/internal/engine"
	"github.com/distgear/distgear/internal/ledger"
	"github.com/distgear/distgear/internal/machine"
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

	lead  func(writer bool)        // nil: nobody wants to know
	ready chan struct{}            // closed when ledger is set
	roles chan []shard.SessionInfo // 1: the sessions there are when this hub becomes the writer; nil: it is not any more
	quit  chan struct{}
	wg    sync.WaitGroup

	mu    sync.Mutex
	heard map[machine.Session]*pulse // nil while another is the writer
}

// pulse is when a session was heard of.
type pulse struct {
	at  time.Time
	ttl time.Duration
}

// opening is after how long it is said that the ledger does not open.
const opening = 30 * time.Second

// openDesk opens the ledger. lead, unless it is nil, is called by one goroutine
// when this hub becomes the writer, and when it is not any more.
func openDesk(ctx context.Context, conn *engine.Conn, prefix string, cfg ledger.Config, lead func(bool)) (*desk, error) {
	d := &desk{
		conn: conn, prefix: prefix, log: cfg.Logger.With("room", "ledger"),
		ready: make(chan struct{}), roles: make(chan []shard.SessionInfo, 1), quit: make(chan struct{}),
	}
	d.shard = shard.New(shard.Config{Send: d.send})
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
	if r := s.Shard.Cut(); r != nil {
		return r
	}
	return nil
}

// Lead implements ledger.State.
func (s state) Lead(epoch uint64, _ int64) {
	s.d.cut = time.Now()
	s.Shard.Lead(epoch)
	s.d.role(s.Sessions())
}

// Follow implements ledger.State.
func (s state) Follow() {
	s.Shard.Follow()
	s.d.role(nil)
}

// role tells the loop what this hub is now; what it was told before and has not
// taken up is void.
func (d *desk) role(sessions []shard.SessionInfo) {
	for {
		select {
		case d.roles <- sessions:
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
	var stop func()
	for {
		var sessions []shard.SessionInfo
		select {
		case sessions = <-d.roles:
		case <-d.quit:
			if stop != nil {
				stop()
			}
			return
		}
		if stop != nil {
			stop()
			stop = nil
		}
		d.mu.Lock()
		d.heard = nil
		if sessions != nil { // each has its whole time-to-live again
			d.heard = make(map[machine.Session]*pulse, len(sessions))
			now := time.Now()
			for _, s := range sessions {
				d.heard[s.ID] = &pulse{now, s.TTL}
			}
		}
		d.mu.Unlock()
		if d.lead != nil {
			d.lead(sessions != nil)
		}
		if sessions == nil {
			continue
		}
		var err error
		if stop, err = d.conn.Subscribe(client.EntrySubject(d.prefix), d.take); err != nil {
			d.log.Error("cannot listen to the sessions; nodes go on when the connection is back", "err", err)
			continue
		}
		d.submit(shard.AppendEntry(nil, &shard.Entry{Type: shard.EntryExpire, Session: 1})) // nobody: but all are told who is the writer now
	}
}

// take takes an entry in. It runs on the connection's goroutine.
func (d *desk) take(entry []byte) {
	e, err := shard.ParseEntry(entry)
	if err != nil {
		d.log.Warn("dropped a malformed entry; does a node have another version?", "bytes", len(entry))
		return
	}
	d.mu.Lock()
	if d.heard == nil {
		d.mu.Unlock()
		return
	}
	switch p := d.heard[e.Session]; {
	case e.Type == shard.EntryExpire:
		delete(d.heard, e.Session)
	case p != nil:
		p.at = time.Now()
	case e.Type == shard.EntryOpen:
		d.heard[e.Session] = &pulse{time.Now(), shard.TTL(e.TTL)}
	}
	d.mu.Unlock()
	d.submit(entry)
}

// submit hands an entry to the ledger. What it does not take is sent again by
// the session.
func (d *desk) submit(entry []byte) {
	if err := d.ledger.Submit(entry); err != nil && !errors.Is(err, ledger.ErrBusy) && !errors.Is(err, ledger.ErrNotWriter) && !errors.Is(err, ledger.ErrClosed) {
		d.log.Warn("an entry is not taken", "err", err)
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
	for {
		select {
		case <-t.C:
		case <-d.quit:
			return
		}
		now := time.Now()
		away := now.Sub(last) > time.Second // this process stood still: what was sent meanwhile is not read yet
		last = now
		var over []machine.Session
		d.mu.Lock()
		for id, p := range d.heard {
			switch {
			case away:
				p.at = now
			case now.Sub(p.at) > p.ttl:
				over = append(over, id)
				delete(d.heard, id)
			}
		}
		d.mu.Unlock()
		for _, id := range over {
			d.log.Info("a session was silent for its time-to-live", "session", uint64(id))
			d.submit(shard.AppendEntry(nil, &shard.Entry{Type: shard.EntryExpire, Session: id}))
		}
	}
}
