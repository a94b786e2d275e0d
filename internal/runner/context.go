package runner

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"
)

// Context is the context of one command: cancelled by Cancel or at its
// deadline. It starts its timer and makes its channel only when somebody
// looks, since most commands never do. Embed it in what lives as long as the
// command. The zero value has no deadline, no value and is not cancelled.
//
// It implements the AfterFunc method that package context looks for, so that
// contexts derived from it need no goroutine.
type Context struct {
	CommandKey string // the value of the key Key{}: the command's idempotency key
	deadline   int64
	looked     atomic.Pointer[looked]
	hook       atomic.Pointer[Hook]
	err        atomic.Uint32 // index into errs
}

// looked is what is needed once somebody looked at Done.
type looked struct {
	mu    sync.Mutex
	done  chan struct{}
	timer *time.Timer
	after map[int]func()
	next  int
	over  bool
}

var errs = [...]error{nil, context.Canceled, context.DeadlineExceeded}

// Key is the key of the field CommandKey.
type Key struct{}

// Hook is told that a context was cancelled. It must not block.
type Hook interface{ Cancelled() }

// SetHook registers the one hook of a context without a deadline, at less
// than Done costs. False means that there is one, a deadline, or that the
// context was cancelled already: then use Done. ClearHook must follow.
func (c *Context) SetHook(h *Hook) bool {
	if c.deadline != 0 || !c.hook.CompareAndSwap(nil, h) {
		return false
	}
	if c.err.Load() != 0 {
		c.hook.CompareAndSwap(h, nil)
		return false
	}
	return true
}

// ClearHook undoes SetHook. False means that a Cancel has taken the hook up,
// and tells it now, has told it, or will in a moment: it must not serve another
// purpose then.
func (c *Context) ClearHook(h *Hook) bool { return c.hook.CompareAndSwap(h, nil) }

// SetDeadline sets the deadline; call it before the context is shared.
func (c *Context) SetDeadline(t time.Time) { c.deadline = t.UnixNano() }

// Deadline implements context.Context.
func (c *Context) Deadline() (time.Time, bool) {
	if c.deadline == 0 {
		return time.Time{}, false
	}
	return time.Unix(0, c.deadline), true
}

// Value implements context.Context.
func (c *Context) Value(key any) any {
	if _, ok := key.(Key); ok {
		return c.CommandKey
	}
	return nil
}

// look makes what Done and AfterFunc need, and starts the timer.
func (c *Context) look() *looked {
	if l := c.looked.Load(); l != nil {
		return l
	}
	l := &looked{done: make(chan struct{})}
	if !c.looked.CompareAndSwap(nil, l) {
		return c.looked.Load()
	}
	if c.err.Load() != 0 {
		c.end(l)
		return l
	}
	if c.deadline != 0 {
		l.mu.Lock()
		if !l.over {
			l.timer = time.AfterFunc(time.Until(time.Unix(0, c.deadline)), func() { c.Cancel(context.DeadlineExceeded) })
		}
		l.mu.Unlock()
	}
	return l
}

// Done implements context.Context.
func (c *Context) Done() <-chan struct{} { return c.look().done }

// Err implements context.Context.
func (c *Context) Err() error {
	if c.err.Load() == 0 && c.deadline != 0 && time.Now().UnixNano() >= c.deadline {
		c.Cancel(context.DeadlineExceeded)
	}
	return c.Cancelled()
}

// AfterFunc runs f in its own goroutine once the context is done; stop keeps
// it from running and tells whether it did.
func (c *Context) AfterFunc(f func()) (stop func() bool) {
	l := c.look()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.over {
		go f()
		return func() bool { return false }
	}
	if l.after == nil {
		l.after = map[int]func(){}
	}
	id := l.next
	l.next++
	l.after[id] = f
	return func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		_, ok := l.after[id]
		delete(l.after, id)
		return ok
	}
}

// Cancel ends the context with err: context.Canceled or
// context.DeadlineExceeded. Only the first call counts.
func (c *Context) Cancel(err error) {
	i := uint32(1)
	if errors.Is(err, context.DeadlineExceeded) {
		i = 2
	}
	if !c.err.CompareAndSwap(0, i) {
		return
	}
	if h := c.hook.Swap(nil); h != nil {
		(*h).Cancelled()
	}
	if l := c.looked.Load(); l != nil {
		c.end(l)
	}
}

// end tells who looked. It may come twice: from Cancel and from a look.
func (c *Context) end(l *looked) {
	l.mu.Lock()
	if l.over {
		l.mu.Unlock()
		return
	}
	l.over = true
	close(l.done)
	if l.timer != nil {
		l.timer.Stop()
	}
	after := l.after
	l.after = nil
	l.mu.Unlock()
	for _, f := range after {
		go f()
	}
}

// Cancelled tells the error the context was cancelled with so far, without
// looking at the clock.
func (c *Context) Cancelled() error { return errs[c.err.Load()] }
