package objects

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/distgear/distgear/internal/client"
	"github.com/distgear/distgear/internal/machine"
	"github.com/distgear/distgear/internal/machine/greedy"
	"github.com/distgear/distgear/internal/operation"
	"github.com/distgear/distgear/internal/room"
)

// Lock is a named lock as one node knows it: its goroutines, and the grant that
// the node holds for them between uses.
type Lock struct {
	*Base

	mu      sync.Mutex
	state   greedy.Lock
	out     greedy.Out
	session machine.Session
	lost    map[greedy.Token][]func() // to be told when an acquisition is lost
	gone    map[greedy.Token]bool     // lost when the lock was destroyed, and not released yet
	at      *client.Object            // in which what is sent is meant; open in session
	open    bool                      // it is one of opened
	seen    greedy.Token              // the last one when tidy came by
}

// The parameters of a lock: which kind of it the name is.
const (
	Plain = iota
	ReadWrite
)

// NewLock returns the node's lock with that name.
func NewLock(h Host, name string, param uint64) *Lock {
	id := ID{operation.KLock, name, param}
	return room.Shared(h.Room, id, func() *Lock {
		l := &Lock{}
		l.state.Turn = turn
		l.Base = New(h, id, l)
		return l
	})
}

// turn is how many goroutines of a node get a lock before it goes on to a node
// that waits: four times as many have it for the same messages. So who waits may be
// passed by up to three that came later, for each turn of another node.
const turn = 4

// NoLock returns a lock that nobody can use, because of err.
func NoLock(h Host, name string, err error) *Lock {
	l := &Lock{Base: New(h, ID{operation.KLock, name, Plain}, nil)}
	l.Err = err
	return l
}

// waiter is a goroutine that waits for a lock.
type waiter struct {
	greedy.Waiter
	told chan struct{} // 1: whoever tells does not wait
}

// waiter is a space for one, of the node's own.
func (l *Lock) waiter() *waiter {
	if w, ok := l.Room.Waiters.Get().(*waiter); ok {
		return w
	}
	w := &waiter{told: make(chan struct{}, 1)}
	w.By = w
	return w
}

// Acquire gets the lock at once, or waits.
func (l *Lock) Acquire(ctx context.Context, m greedy.Mode) (greedy.Token, error) {
	l.mu.Lock()
	t, ok := l.state.Acquire(m)
	l.mu.Unlock()
	if ok {
		return t, nil
	}
	t, _, err := l.line(ctx, m, false)
	return t, err
}

// Try gets the lock if nobody uses it.
func (l *Lock) Try(ctx context.Context, m greedy.Mode) (greedy.Token, bool, error) {
	l.mu.Lock()
	t, ok := l.state.Acquire(m)
	l.mu.Unlock()
	if ok {
		return t, true, nil
	}
	return l.line(ctx, m, true)
}

// line stands in line for the lock.
func (l *Lock) line(ctx context.Context, m greedy.Mode, try bool) (greedy.Token, bool, error) {
	what := "lock"
	if m == greedy.Read {
		what = "read lock"
	}
	if l.Err != nil {
		return 0, false, l.Err
	}
	for {
		if err := context.Cause(ctx); err != nil {
			return 0, false, err
		}
		obj := l.Object()
		session, err := obj.Open(ctx)
		if errors.Is(err, client.ErrGone) && l.stale(obj) {
			continue // closed since, or destroyed from here
		}
		if err != nil {
			return 0, false, l.Fault(what, err)
		}
		w := l.waiter()
		w.Mode, w.Try = m, try
		l.mu.Lock()
		held, _ := ctx.Value(holding{l}).(greedy.Token)
		if err := l.state.Check(held, m); err != nil {
			l.mu.Unlock()
			l.Room.Waiters.Put(w)
			return 0, false, l.misuse(what, 0, err)
		}
		if session < l.session { // it was lost, and another goroutine has the next
			l.mu.Unlock()
			l.Room.Waiters.Put(w)
			continue
		}
		if obj.Gone() { // closed or destroyed since
			l.mu.Unlock()
			l.Room.Waiters.Put(w)
			continue
		}
		l.begin()
		l.session, l.at = session, obj // what was of the one before was lost with it: see Lost
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
		l.Room.Waiters.Put(w)
		switch state {
		case greedy.Held:
			if !l.Room.Ledger.Valid(session) { // L5: it may have lapsed while we waited
				_ = l.Release(token) // lost, or as good as
				continue
			}
			if err := context.Cause(ctx); err != nil { // both came at once
				return 0, false, errors.Join(err, l.Release(token))
			}
			return token, true, nil
		case greedy.Refused:
			return 0, false, nil
		case greedy.Abandoned:
			return 0, false, context.Cause(ctx)
		case greedy.Gone:
			return 0, false, l.Fault(what, client.ErrGone)
		case greedy.Lost:
			if errors.Is(sent, client.ErrLost) {
				continue // it was not even asked for
			}
			if sent != nil {
				return 0, false, l.Fault(what, sent)
			}
			return 0, false, fmt.Errorf("%w while waiting for lock %q", ErrSessionLost, l.Name)
		case greedy.Fresh, greedy.Queued, greedy.Parked:
		}
		return 0, false, fmt.Errorf("%w: lock %q is in a state that cannot be: %d", ErrInvalid, l.Name, state)
	}
}

// await waits until w is told, or takes it back when ctx ends.
func (l *Lock) await(ctx context.Context, w *waiter) {
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
func (l *Lock) flush() (err error) {
	for i := range l.out.Ops {
		if _, err = l.at.Start(l.session, nil, operation.LockOp(l.out.Ops[i])); err != nil {
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
func (l *Lock) Event(o *operation.Output) {
	l.mu.Lock()
	l.state.Told(machine.Effect[machine.None]{Code: o.Code, Num: o.Num, Aux: o.Aux}, &l.out)
	if o.Code == machine.Gone {
		l.destroyed()
	}
	_ = l.flush() // the loss of the session comes as Lost too
	l.mu.Unlock()
}

// Lost implements client.Sink.
func (l *Lock) Lost() {
	l.mu.Lock()
	l.state.Lose(&l.out)
	_ = l.flush() // nothing is to be sent
	l.mu.Unlock()
}

// Release releases what was acquired under a token.
func (l *Lock) Release(t greedy.Token) error {
	l.mu.Lock()
	err := l.state.Unlock(t, &l.out)
	if len(l.out.Ops) > 0 || len(l.out.Tell) > 0 {
		_ = l.flush() // what a lost session held is free without our word
	}
	if l.lost != nil {
		delete(l.lost, t)
	}
	if err != nil {
		err = l.misuse("unlock", t, err)
		delete(l.gone, t)
	}
	l.mu.Unlock()
	return err
}

// destroyed notes what was held when the lock was destroyed. Under mu.
func (l *Lock) destroyed() {
	for _, t := range l.out.Ended {
		if l.gone == nil {
			l.gone = map[greedy.Token]bool{}
		}
		l.gone[t] = true
	}
}

// loss is how what was acquired under a token is lost. Under mu.
func (l *Lock) loss(t greedy.Token) error {
	if l.gone[t] {
		return ErrDestroyed
	}
	return ErrSessionLost
}

// misuse says what is wrong with a token in the words of users. Under mu.
func (l *Lock) misuse(what string, t greedy.Token, err error) error {
	is := ErrNotHeld
	switch {
	case errors.Is(err, greedy.ErrLost):
		is = l.loss(t)
	case errors.Is(err, greedy.ErrHeld):
		is = ErrHeld
	case errors.Is(err, greedy.ErrUpgrade):
		is = ErrUpgrade
	}
	return fmt.Errorf("%w: %s of %q", is, what, l.Name)
}

// OnLost calls f, under mu, when the acquisition is lost, maybe at once; from an
// internal goroutine: f must not block.
func (l *Lock) OnLost(t greedy.Token, f func()) {
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

// Destroy destroys the lock for everybody.
func (l *Lock) Destroy(ctx context.Context) error {
	err := l.Base.Destroy(ctx)
	if err == nil && l.Room.Ledger.Alone() {
		l.mu.Lock()
		l.state.Told(machine.Effect[machine.None]{Code: machine.Gone}, &l.out)
		l.destroyed()
		l.state.End()
		_ = l.flush() // nothing is to be sent
		l.mu.Unlock()
	}
	return err
}

// Downgrade makes a writer a reader.
func (l *Lock) Downgrade(t greedy.Token) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	err := l.state.Downgrade(t, &l.out)
	_ = l.flush() // of a lost session: told by Lost
	if err != nil {
		return l.misuse("downgrade", t, err)
	}
	return nil
}

// Park releases the lock, which must be held for writing, and waits on a
// condition; it has the lock again, under the Token that it returns, with nil or the
// cause of ctx. It was not parked, and t is as it was, if parked is false.
func (l *Lock) Park(ctx context.Context, t greedy.Token, cond uint32) (now greedy.Token, parked bool, err error) {
	const what = "wait on a condition"
	w := l.waiter()
	l.mu.Lock()
	if err := l.state.Wait(t, cond, &w.Waiter, &l.out); err != nil {
		err = l.misuse(what, t, err)
		l.mu.Unlock()
		l.Room.Waiters.Put(w)
		return t, false, err
	}
	session, sent := l.session, l.flush()
	l.mu.Unlock()
	l.await(ctx, w)
	state, token, notified := w.State, w.Token, w.Notified
	w.Reset()
	l.Room.Waiters.Put(w)
	if state == greedy.Held && !l.Room.Ledger.Valid(session) { // L5: it may have lapsed while we waited
		_ = l.Release(token) // lost, or as good as
		state = greedy.Lost
	}
	switch {
	case state == greedy.Held && notified:
		return token, true, nil
	case state == greedy.Held:
		return token, true, context.Cause(ctx)
	case state == greedy.Gone:
		return 0, true, l.Fault(what, client.ErrGone)
	case sent != nil:
		return 0, true, l.Fault(what, sent)
	}
	return 0, true, l.Fault(what, client.ErrLost)
}

// Notify wakes the n that have waited longest on a condition, all if n is -1.
func (l *Lock) Notify(t greedy.Token, cond uint32, n int) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	err := l.state.Notify(t, cond, n, &l.out)
	_ = l.flush() // of a lost session: who waited was told
	if err != nil {
		return l.misuse("notify", t, err)
	}
	return nil
}

// Info describes the lock as this node knows it; of each list at most so many.
func (l *Lock) Info(most int) greedy.Info {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.state.Info(most)
}

// Counts says how many goroutines of this node have the lock, want it, and wait
// on its conditions.
func (l *Lock) Counts() (holding, queued, parked int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.state.Counts()
}

// Under runs f under what was acquired, and releases it. The context of f ends
// when it is lost, and tells nested calls what is held.
func (l *Lock) Under(ctx context.Context, t greedy.Token, f func(context.Context) error) (err error) {
	ctx, cancel := context.WithCancelCause(&held{ctx, l, t})
	defer cancel(nil)
	l.OnLost(t, func() { cancel(l.loss(t)) })
	defer func() { err = errors.Join(err, l.Release(t)) }()
	return f(ctx)
}

// holding is the key of a context that runs under a lock: the Token.
type holding struct{ l *Lock }
