package runner

import (
	"context"
	"sync"
	"time"
)

// Context is the context of one command: cancelled by Cancel or at its
// deadline. It starts its timer and makes its channel only when somebody
// looks, since most commands never do. Embed it in what lives as long as the
// command. The zero value has no deadline, no values and is not cancelled.
//
// It implements the AfterFunc method that package context looks for, so that
// contexts derived from it need no goroutine.
type Context struct {
	Values   context.Context // where Value looks; nil means nowhere
	Self     any             // the value of the key Self{}: the command itself
	deadline time.Time

	mu    sync.Mutex
	done  chan struct{}
	err   error
	timer *time.Timer
	after map[int]func()
	next  int
}

// Self is the key of the field Self.
type Self struct{}

// SetDeadline sets the deadline; call it before the context is shared.
func (c *Context) SetDeadline(t time.Time) { c.deadline = t }

// Deadline implements context.Context.
func (c *Context) Deadline() (time.Time, bool) { return c.deadline, !c.deadline.IsZero() }

// Value implements context.Context.
func (c *Context) Value(key any) any {
	if _, ok := key.(Self); ok {
		return c.Self
	}
	if c.Values == nil {
		return nil
	}
	return c.Values.Value(key)
}

// Done implements context.Context.
func (c *Context) Done() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.done == nil {
		c.done = make(chan struct{})
		if c.err != nil {
			close(c.done)
		}
	}
	c.armLocked()
	return c.done
}

// Err implements context.Context.
func (c *Context) Err() error {
	c.mu.Lock()
	err := c.err
	c.mu.Unlock()
	if err == nil && !c.deadline.IsZero() && !time.Now().Before(c.deadline) {
		c.Cancel(context.DeadlineExceeded)
		return c.Err()
	}
	return err
}

// AfterFunc runs f in its own goroutine once the context is done; stop keeps
// it from running and tells whether it did.
func (c *Context) AfterFunc(f func()) (stop func() bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		go f()
		return func() bool { return false }
	}
	if c.after == nil {
		c.after = map[int]func(){}
	}
	id := c.next
	c.next++
	c.after[id] = f
	c.armLocked()
	return func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		_, ok := c.after[id]
		delete(c.after, id)
		return ok
	}
}

// Cancel ends the context with err, which should be context.Canceled or
// context.DeadlineExceeded. Only the first call counts.
func (c *Context) Cancel(err error) {
	c.mu.Lock()
	if c.err != nil {
		c.mu.Unlock()
		return
	}
	c.err = err
	if c.done != nil {
		close(c.done)
	}
	if c.timer != nil {
		c.timer.Stop()
	}
	after := c.after
	c.after = nil
	c.mu.Unlock()
	for _, f := range after {
		go f()
	}
}

// Cancelled tells the error the context was cancelled with so far, without
// looking at the clock.
func (c *Context) Cancelled() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

func (c *Context) armLocked() {
	if c.timer != nil || c.err != nil || c.deadline.IsZero() {
		return
	}
	c.timer = time.AfterFunc(time.Until(c.deadline), func() { c.Cancel(context.DeadlineExceeded) })
}
