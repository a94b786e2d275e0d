package shared

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/distgear/distgear"
	"github.com/distgear/distgear/internal/client"
	"github.com/distgear/distgear/internal/machine"
	"github.com/distgear/distgear/internal/machine/greedy"
	"github.com/distgear/distgear/internal/shard"
)

// lock is a named lock as one node knows it: its goroutines, and the grant that
// the node holds for them between uses.
type lock struct {
	*base

	mu      sync.Mutex
	state   greedy.Lock
	out     greedy.Out
	session machine.Session
	lost    map[greedy.Token][]func() // to be told when an acquisition is lost
}

// The parameters of a lock: which kind of it the name is.
const (
	plainLock = iota
	rwLock
)

func newLock(n *distgear.Node, name string, param uint64) *lock {
	r := n.Room()
	return r.Value(key{shard.KLock, name, param}, func() any {
		l := &lock{}
		l.base = makeBase(r, shard.KLock, name, param, l)
		if r.Ledger.Alone() {
			l.state = greedy.Alone(uint64(time.Now().UnixMilli()) << shard.TokenBits)
		}
		return l
	}).(*lock)
}

// waiter is a goroutine that waits for a lock.
type waiter struct {
	greedy.Waiter
	told chan struct{} // 1: whoever tells does not wait
}

var waiters = sync.Pool{New: func() any {
	w := &waiter{told: make(chan struct{}, 1)}
	w.By = w
	return w
}}

// acquire gets the lock at once, or waits.
func (l *lock) acquire(ctx context.Context, m greedy.Mode) (greedy.Token, error) {
	l.mu.Lock()
	t, ok := l.state.Acquire(m)
	l.mu.Unlock()
	if ok {
		return t, nil
	}
	t, _, err := l.line(ctx, m, false)
	return t, err
}

// try gets the lock if nobody uses it.
func (l *lock) try(ctx context.Context, m greedy.Mode) (greedy.Token, bool, error) {
	l.mu.Lock()
	t, ok := l.state.Acquire(m)
	l.mu.Unlock()
	if ok {
		return t, true, nil
	}
	return l.line(ctx, m, true)
}

// line stands in line for the lock.
func (l *lock) line(ctx context.Context, m greedy.Mode, try bool) (greedy.Token, bool, error) {
	what := "lock"
	if m == greedy.Read {
		what = "read lock"
	}
	if l.err != nil {
		return 0, false, l.err
	}
	for {
		if err := context.Cause(ctx); err != nil {
			return 0, false, err
		}
		session, err := l.object().Open(ctx)
		if err != nil {
			return 0, false, l.fault(what, err)
		}
		w := waiters.Get().(*waiter)
		w.Mode, w.Try = m, try
		l.mu.Lock()
		held, _ := ctx.Value(holding{l}).(greedy.Token)
		if err := l.state.Check(held, m); err != nil {
			l.mu.Unlock()
			waiters.Put(w)
			return 0, false, l.misuse(what, err)
		}
		if session < l.session { // it was lost, and another goroutine has the next
			l.mu.Unlock()
			waiters.Put(w)
			continue
		}
		l.session = session // what was of the one before was lost with it: see Lost
		l.state.Enqueue(&w.Waiter, &l.out)
		sent := l.flush()
		l.mu.Unlock()
		if done := l.nested(ctx, w, m); done != nil {
			l.await(ctx, w)
			done()
		} else {
			l.await(ctx, w)
		}
		state, token := w.State, w.Token
		w.Reset()
		waiters.Put(w)
		switch state {
		case greedy.Held:
			if !l.room.Ledger.Valid(session) { // L5: it may have lapsed while we waited
				_ = l.release(token) // lost, or as good as
				continue
			}
			if err := context.Cause(ctx); err != nil { // both came at once
				return 0, false, errors.Join(err, l.release(token))
			}
			return token, true, nil
		case greedy.Refused:
			return 0, false, nil
		case greedy.Abandoned:
			return 0, false, context.Cause(ctx)
		case greedy.Gone:
			return 0, false, l.fault(what, client.ErrGone)
		case greedy.Lost:
			if errors.Is(sent, client.ErrLost) {
				continue // it was not even asked for
			}
			if sent != nil {
				return 0, false, l.fault(what, sent)
			}
			return 0, false, fmt.Errorf("%w while waiting for lock %q", ErrSessionLost, l.name)
		case greedy.Fresh, greedy.Queued, greedy.Parked:
		}
		return 0, false, fmt.Errorf("%w: lock %q is in a state that cannot be: %d", ErrInvalid, l.name, state)
	}
}

// await waits until w is told, or takes it back when ctx ends.
func (l *lock) await(ctx context.Context, w *waiter) {
	select {
	case <-w.told:
		return
	case <-ctx.Done():
	}
	l.mu.Lock()
	left := l.state.Abandon(&w.Waiter, &l.out)
	_ = l.flush() // what could not be sent was of a session that is lost: who waits is told
	l.mu.Unlock()
	if !left {
		<-w.told
	}
}

// flush sends what is to be sent and tells who is to be told. It is called with
// mu held. An error means that the session is lost, and everybody was told.
func (l *lock) flush() (err error) {
	for i := range l.out.Ops {
		if _, err = l.object().Start(l.session, nil, shard.LockOp(l.out.Ops[i])); err != nil {
			break
		}
	}
	if err != nil {
		l.out.Ops = l.out.Ops[:0]
		l.state.Lose(&l.out)
	}
	for _, w := range l.out.Tell {
		w.By.(*waiter).told <- struct{}{}
	}
	for _, t := range l.out.Ended {
		for _, f := range l.lost[t] {
			f()
		}
		delete(l.lost, t)
	}
	l.out.Reset()
	return err
}

// Event implements client.Sink.
func (l *lock) Event(o *shard.Output) {
	l.mu.Lock()
	l.state.Told(machine.Effect[machine.None]{Code: o.Code, Num: o.Num, Aux: o.Aux}, &l.out)
	_ = l.flush() // the loss of the session comes as Lost too
	l.mu.Unlock()
}

// Lost implements client.Sink.
func (l *lock) Lost() {
	l.mu.Lock()
	l.state.Lose(&l.out)
	_ = l.flush() // nothing is to be sent
	l.mu.Unlock()
}

func (l *lock) release(t greedy.Token) error {
	l.mu.Lock()
	err := l.state.Unlock(t, &l.out)
	if len(l.out.Ops) > 0 || len(l.out.Tell) > 0 {
		_ = l.flush() // what a lost session held is free without our word
	}
	if l.lost != nil {
		delete(l.lost, t)
	}
	l.mu.Unlock()
	if err != nil {
		return l.misuse("unlock", err)
	}
	return nil
}

func (l *lock) misuse(what string, err error) error {
	is := ErrNotHeld
	switch {
	case errors.Is(err, greedy.ErrLost):
		is = ErrSessionLost
	case errors.Is(err, greedy.ErrHeld):
		is = ErrHeld
	case errors.Is(err, greedy.ErrUpgrade):
		is = ErrUpgrade
	}
	return fmt.Errorf("%w: %s of %q", is, what, l.name)
}

// onLost calls f when the acquisition is lost, maybe at once; from an internal
// goroutine: f must not block.
func (l *lock) onLost(t greedy.Token, f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.state.Holds(t) {
		f()
		return
	}
	if l.lost == nil {
		l.lost = map[greedy.Token][]func(){}
	}
	l.lost[t] = append(l.lost[t], f)
}

func (l *lock) destroy(ctx context.Context) error {
	if l.room.Ledger.Alone() {
		l.Event(&shard.Output{Code: machine.Gone})
		return nil
	}
	return l.base.destroy(ctx)
}

// holding is the key of a context that runs under a lock: the Token.
type holding struct{ l *lock }

// Lease is a lock that is held. Its zero value holds nothing. It may be copied;
// any goroutine may unlock it, once.
type Lease struct {
	l *lock
	t greedy.Token
}

// Token fences what is done under the lease.
func (s Lease) Token() Token { return Token(s.t) }

// Unlock releases the lock. ErrSessionLost: it was lost before; ErrNotHeld: it
// is not held, or not any more. It does not block: what was done under the lock
// is on its way before it.
func (s Lease) Unlock() error {
	if s.l == nil {
		return ErrNotHeld
	}
	return s.l.release(s.t)
}

// Lost is closed when the lock is gone without an Unlock: the session with the
// hub was lost, or the lock was destroyed. It is closed before the hub may give
// the lock to another, unless this process was stopped at that moment: only the
// Token is safe against that. After Unlock it is closed too, if it was not asked
// for before.
func (s Lease) Lost() <-chan struct{} {
	c := make(chan struct{})
	if s.l == nil {
		close(c)
	} else {
		s.l.onLost(s.t, func() { close(c) })
	}
	return c
}

// under runs f under the lease. Its context ends when the lease is lost, and
// tells nested calls what is held.
func (s Lease) under(ctx context.Context, f func(context.Context, Token) error) (err error) {
	ctx, cancel := context.WithCancelCause(&held{ctx, s.l, s.t})
	defer cancel(nil)
	s.l.onLost(s.t, func() { cancel(ErrSessionLost) })
	defer func() { err = errors.Join(err, s.Unlock()) }()
	return f(ctx, s.Token())
}
