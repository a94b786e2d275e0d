// Package session is a node's side of its session with the hub: joining,
// beating, the lease, the hub's time, and the view of the members.
//
//	s, err := session.Open(ctx, session.Config{Name: "a", Endpoint: e, Conn: c, Prefix: "dg.default"})
//	if s.Valid(time.Now()) { … }
//	for _, m := range s.View().Handling("deploy") { … }
//	err = s.Leave(ctx)
//	s.Close()
//
// Beats are sent by a goroutine that does nothing else, and their answers are
// taken up by the connection's: no command a node runs can be in their way.
//
// # Guarantees
//
// The lease ends before the hub may give what the node has to another: it
// counts from when the last renewed beat was sent, less a margin. OnLapse and
// OnRenew alternate. OnChange is told every change that View makes, in order,
// after View shows it; it is told the end of every session whose begin it was
// told, except by Close.
//
// # Failures
//
// While the hub is gone a session tries for ever. With another hub that has taken over,
// or the same one restarted with its ledger, it goes on. A hub that has given the
// session up, or lost its ledger, is joined again: with a new incarnation, and
// without an init event if the lease has not lapsed meanwhile. Members that do
// not follow to a new ledger within a time-to-live are lost. What is refused after
// it was admitted once is asked for again, every time-to-live.
package session

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/distgear/distgear/internal/engine"
	"github.com/distgear/distgear/internal/link"
	"github.com/distgear/distgear/internal/machine/members"
	"github.com/distgear/distgear/internal/wire"
)

// Config says what joins. Name, Endpoint, Conn and Prefix are needed. The
// endpoint must serve already: the init event may run a plan on this node.
type Config struct {
	Name     string
	Version  string // of the program, for people
	Labels   map[string]string
	Endpoint *link.Endpoint
	Conn     *engine.Conn
	Prefix   string // "dg.<cluster>", the endpoint's

	Kinds    func() []string      // kinds of command served; nil means none
	Load     func() members.Load  // called before each beat, must be quick; nil means none
	OnChange func(members.Member) // called in order; slowness delays only further calls
	OnLapse  func()               // the lease has lapsed: what runs must stop
	OnRenew  func()               // it is valid again
	Logger   *slog.Logger         // nil means slog.Default()
}

// waitingAfter is when the log says that a node still waits to join.
const waitingAfter = 3 * time.Second

// RefusedError is the hub's answer to a node it does not admit: by its name,
// its protocol, or because its init event failed. Nothing was changed.
type RefusedError struct{ Reason string }

// Error is the reason, in a sentence.
func (e *RefusedError) Error() string { return "the hub refused this node: " + e.Reason }

// ErrClosed is the answer of a session that was left or closed.
var ErrClosed = errors.New("session: closed")

// Session is a node's session with the hub. It is safe for concurrent use.
type Session struct {
	cfg   Config
	start time.Time // what the lease counts from
	clock *clock
	lease atomic.Int64 // ns after start at which the lease ends
	ttl   atomic.Int64
	view  atomic.Pointer[View]
	rev   atomic.Uint64 // of Config.Kinds' answer

	ctx     context.Context // of the session's goroutines
	cancel  context.CancelFunc
	wg      sync.WaitGroup
	stop    func() // the subscription
	answers chan answer
	wake    chan struct{} // 1: beat now
	renewed chan struct{} // 1: lease was set
	news    *mailbox[news]
	notes   *mailbox[members.Member]
	badOnce sync.Once

	mu      sync.Mutex
	now     standing
	changed chan struct{} // closed and replaced when now changes
}

// standing is where the session stands.
type standing struct {
	hub         uint64 // or ledger: Stamp.Hub
	incarnation uint64
	joined      bool // the hub has the session, as far as we know
	admitted    bool // it was alive once
	rev         uint64
	viewOf      uint64 // hub whose view there is
	refused     *RefusedError
	left        bool
}

// Open joins and waits until the node is admitted and has a view, or is
// refused (*RefusedError), or ctx ends. On error nothing is left behind but,
// when ctx ended, a session at the hub that will lapse.
func Open(ctx context.Context, cfg Config) (*Session, error) {
	s := newSession(cfg)
	if err := members.CheckName(cfg.Name); err != nil {
		return nil, &RefusedError{Reason: err.Error()}
	}
	stop, err := cfg.Conn.Subscribe(ViewSubject(cfg.Prefix), func(data []byte) { s.news.put(news{data: data}) })
	if err != nil {
		s.cancel()
		return nil, err
	}
	s.stop = stop
	s.wg.Go(s.beats)
	s.wg.Go(s.follow)
	s.wg.Go(s.notify)
	s.wg.Go(s.keep)
	impatient := time.AfterFunc(waitingAfter, func() { s.cfg.Logger.Warn("still waiting to join", "err", s.notYet()) })
	defer impatient.Stop()
	err = s.await(ctx, func(n *standing) (bool, error) {
		if n.refused != nil && !n.admitted {
			return false, n.refused
		}
		return n.admitted && n.viewOf != 0, nil
	})
	if err == nil {
		return s, nil
	}
	s.Close()
	if refused, ok := errors.AsType[*RefusedError](err); ok {
		return nil, refused
	}
	return nil, fmt.Errorf("%w: %w", s.notYet(), err)
}

// notYet says what a node that is not admitted waits for.
func (s *Session) notYet() error {
	switch name := s.cfg.Name; {
	case s.session().joined:
		return fmt.Errorf("joining as %q: the hub has not admitted this node yet (its init event runs, or its name is taken)", name)
	case !s.cfg.Conn.Up():
		return fmt.Errorf("joining as %q: not connected", name)
	default:
		return fmt.Errorf("joining as %q: no hub of %q answered", name, strings.TrimPrefix(s.cfg.Prefix, "dg."))
	}
}

func newSession(cfg Config) *Session {
	cfg.Logger = cmp.Or(cfg.Logger, slog.Default())
	if cfg.Kinds == nil {
		cfg.Kinds = func() []string { return nil }
	}
	if cfg.Load == nil {
		cfg.Load = func() members.Load { return members.Load{} }
	}
	if cfg.OnChange == nil {
		cfg.OnChange = func(members.Member) {}
	}
	if cfg.OnLapse == nil {
		cfg.OnLapse = func() {}
	}
	if cfg.OnRenew == nil {
		cfg.OnRenew = func() {}
	}
	s := &Session{
		cfg: cfg, start: time.Now(),
		answers: make(chan answer, 256), // far more than are in flight; one that finds no room is lost, as on the way
		wake:    make(chan struct{}, 1),
		renewed: make(chan struct{}, 1),
		news:    newMailbox[news](),
		notes:   newMailbox[members.Member](),
		changed: make(chan struct{}),
	}
	s.clock = newClock(s.start)
	s.ttl.Store(int64(3 * time.Second))
	s.view.Store(build(0, 0, nil, nil))
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s
}

// TTL is the time-to-live of the session; the hub says it.
func (s *Session) TTL() time.Duration { return time.Duration(s.ttl.Load()) }

// Valid tells whether the lease is valid at a time, which must come from
// time.Now in this process.
func (s *Session) Valid(now time.Time) bool { return int64(now.Sub(s.start)) < s.lease.Load() }

// View is who is a member. It is never nil.
func (s *Session) View() *View { return s.view.Load() }

// LifeState says where a life stands, also for a while after the hub forgot
// it. A life whose session ended may join again, and then is alive again; its
// incarnation tells.
func (s *Session) LifeState(life uint64) Life { return s.view.Load().state(life) }

// HubTime estimates the hub's clock at a local time, which must come from
// time.Now. The error is at most half the shortest of the last eight beats'
// round trips.
func (s *Session) HubTime(now time.Time) time.Time { return s.clock.at(now) }

// Incarnation is the number of the session that the hub gave last.
func (s *Session) Incarnation() uint64 { return s.session().incarnation }

// SetKinds tells the hub that Config.Kinds answers differently now. It returns
// when the hub knows, or with the cause of ctx's end; the hub is told all the
// same with the next join.
func (s *Session) SetKinds(ctx context.Context) error {
	rev := s.rev.Add(1)
	for {
		now := s.session()
		switch {
		case now.left || s.ctx.Err() != nil:
			return ErrClosed
		case now.joined && now.rev >= rev:
			return nil
		case now.joined:
			var r BeatReply
			err := s.call(ctx, KindKinds, KindsRequest{Life: s.life(), Incarnation: now.incarnation, Kinds: s.cfg.Kinds(), Rev: rev}, &r)
			switch {
			case err == nil && r.Reason != "" && !r.Again:
				return &RefusedError{Reason: r.Reason}
			case err == nil && !r.Again:
				return nil
			case err == nil:
				signal(s.wake) // the beats find out and join again
			}
		}
		if err := s.awaitChange(ctx, 100*time.Millisecond); err != nil {
			return err
		}
	}
}

// Leave ends the session at the hub. On error the session is over here all the
// same, and will lapse at the hub. OnLapse is not called.
func (s *Session) Leave(ctx context.Context) error {
	s.mu.Lock()
	now := s.now
	s.now.left = true
	s.tellLocked()
	s.mu.Unlock()
	if now.left || s.ctx.Err() != nil {
		return nil //nolint:nilerr // it is over already, as it should be
	}
	for now.joined {
		var r BeatReply
		err := s.call(ctx, KindLeave, BeatRequest{Life: s.life(), Incarnation: now.incarnation}, &r)
		if err == nil {
			break
		}
		if ctx.Err() != nil {
			s.lease.Store(0)
			return fmt.Errorf("leaving: the hub did not answer: %w", context.Cause(ctx))
		}
		if s.ctx.Err() != nil {
			return ErrClosed
		}
		if err := pause(ctx, 20*time.Millisecond); err != nil {
			continue // ctx ended, which the next call will say
		}
	}
	s.lease.Store(0)
	return nil
}

// Close stops the session's goroutines and waits for them, and so for a
// callback that runs: no callback may call it. It does not tell the hub: that
// is Leave's.
func (s *Session) Close() {
	if s.stop != nil {
		s.stop()
	}
	s.cancel()
	s.wg.Wait()
	s.lease.Store(0)
	s.update(func(*standing) {})
}

func (s *Session) life() uint64 { return uint64(s.cfg.Endpoint.ID()) }

func (s *Session) session() standing {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now
}

func (s *Session) update(f func(*standing)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f(&s.now)
	s.tellLocked()
}

func (s *Session) tellLocked() {
	close(s.changed)
	s.changed = make(chan struct{})
}

func (s *Session) haveView(hub uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.now.viewOf != hub {
		s.now.viewOf = hub
		s.tellLocked()
	}
}

// await waits until done says so.
func (s *Session) await(ctx context.Context, done func(*standing) (bool, error)) error {
	for {
		s.mu.Lock()
		ok, err := done(&s.now)
		changed := s.changed
		s.mu.Unlock()
		if ok || err != nil {
			return err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (s *Session) awaitChange(ctx context.Context, atMost time.Duration) error {
	s.mu.Lock()
	changed := s.changed
	s.mu.Unlock()
	t := time.NewTimer(atMost)
	defer t.Stop()
	select {
	case <-changed:
	case <-t.C:
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-s.ctx.Done():
		return ErrClosed
	}
	return nil
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// call sends one request to the hub and reads its answer. It tries once, for
// at least a second.
func (s *Session) call(ctx context.Context, kind string, in, out any) error {
	limit := max(s.TTL(), time.Second)
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	defer context.AfterFunc(s.ctx, cancel)()
	var input []byte
	if in != nil {
		var err error
		if input, err = json.Marshal(in); err != nil {
			return err
		}
	}
	rep, err := s.cfg.Endpoint.Do(ctx, link.Hub, &wire.Command{Kind: kind, Input: input}, limit)
	if err != nil {
		return err
	}
	return read(&rep, out)
}

// read takes the answer out of a report.
func read(rep *wire.Report, out any) error {
	if rep.Outcome != wire.OK {
		if rep.Error != nil {
			return fmt.Errorf("the hub: %s", rep.Error.Message)
		}
		return errors.New("the hub did not answer")
	}
	if err := json.Unmarshal(rep.Payload, out); err != nil {
		return fmt.Errorf("the hub's answer: %w", err)
	}
	return nil
}

func (s *Session) complain(what string, err error) {
	s.badOnce.Do(func() { s.cfg.Logger.Warn(what+" (told once)", "err", err) })
}
