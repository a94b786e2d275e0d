package client

import (
	"bytes"
	"sync"
	"time"

	"github.com/distgear/distgear/internal/look"
	"github.com/distgear/distgear/internal/machine"
	"github.com/distgear/distgear/internal/operation"
	"github.com/distgear/distgear/internal/shard"
)

// alone is the ledger of a process that is alone: the same machines, called
// directly. Nothing is encoded, and values are handed on as they are. Of its
// objects only the runs of durable events go by the time: maps and queues of a
// process that is alone keep their own state (internal/collections).
type alone struct {
	mu      sync.Mutex
	timer   *time.Timer // has done what is due; nil before the first
	due     int64       // what it was set to
	shard   *shard.Shard
	number  uint64
	wait    map[uint64]Receiver
	outs    []operation.Output // said, not delivered
	spare   []operation.Output
	serving bool // somebody delivers
	closed  bool
}

// Alone returns a client of a ledger of its own, in this process only.
func Alone() *Client {
	a := &alone{wait: map[uint64]Receiver{}}
	a.shard = shard.New(shard.Config{Deliver: func(o *operation.Output) {
		a.outs = append(a.outs, *o)
		if len(o.Val) > 0 { // only lent, and delivered later
			a.outs[len(a.outs)-1].Val = bytes.Clone(o.Val)
		}
	}})
	a.shard.Apply(time.Now().UnixMilli(), nil) // told again only for executors: tokens grow from here, also over restarts of the process, and if it moves to a hub
	return &Client{alone: a, start: time.Now(), quit: make(chan struct{})}
}

// Alone tells whether the ledger is this process's own.
func (c *Client) Alone() bool { return c.alone != nil }

// Page is what there is in a ledger of this process, to a Query. Its times are ms
// since 1970.
func (c *Client) Page(q Query) look.Page {
	c.alone.mu.Lock()
	defer c.alone.mu.Unlock()
	p, _ := c.alone.shard.Page(q)
	return p
}

func (a *alone) run(c *Client, o *Object, of machine.Session, r Receiver, ops []operation.Op) (uint64, error) {
	a.mu.Lock()
	if a.closed {
		a.mu.Unlock()
		return 0, ErrClosed
	}
	if !o.admit(of, ops) {
		a.mu.Unlock()
		return 0, ErrGone
	}
	if ops[0].Verb.Kind() == operation.KExecutor {
		a.shard.Apply(time.Now().UnixMilli(), nil)
	}
	for i := range ops {
		op := &ops[i]
		a.number++
		op.Req = 0
		if r != nil && i == len(ops)-1 {
			op.Req = a.number
			a.wait[a.number] = r
		}
		a.shard.Do(op)
	}
	n := a.number
	if due := a.shard.Due(); due != a.due {
		a.wake(c, due)
	}
	a.serve(c)
	return n, nil
}

// wake has what is due done at that time.
func (a *alone) wake(c *Client, due int64) {
	a.due = due
	if due == 0 {
		return
	}
	const most = int64(time.Hour / time.Millisecond) // what is never due, as a run that waits for a signal, is 2^50 ms ahead: more than a Duration holds
	wait := time.Duration(min(max(due-time.Now().UnixMilli(), 1), most)) * time.Millisecond
	if a.timer != nil {
		a.timer.Reset(wait)
		return
	}
	a.timer = time.AfterFunc(wait, func() {
		a.mu.Lock()
		if a.closed {
			a.mu.Unlock()
			return
		}
		a.shard.Apply(time.Now().UnixMilli(), nil)
		a.wake(c, a.shard.Due())
		a.serve(c)
	})
}

// serve delivers what was said, in order, unless somebody does, and unlocks. A
// receiver may start operations.
func (a *alone) serve(c *Client) {
	if a.serving {
		a.mu.Unlock()
		return
	}
	a.serving = true
	for len(a.outs) > 0 {
		outs := a.outs
		a.outs = a.spare[:0]
		for i := range outs {
			o := &outs[i]
			r := a.wait[o.Req]
			delete(a.wait, o.Req) // close must not tell it meanwhile
			a.mu.Unlock()
			lost := false
			if o.Req == 0 {
				c.event(o)
			} else if r != nil && !r.Output(o) {
				a.mu.Lock()
				if lost = a.closed; !lost {
					a.wait[o.Req] = r
				}
				a.mu.Unlock()
			}
			if lost {
				r.Lost()
			}
			a.mu.Lock()
			*o = operation.Output{}
		}
		a.spare = outs
	}
	a.serving = false
	a.mu.Unlock()
}

func (a *alone) close(c *Client) {
	a.mu.Lock()
	a.closed = true
	if a.timer != nil {
		a.timer.Stop()
	}
	wait := a.wait
	a.wait = map[uint64]Receiver{}
	a.mu.Unlock()
	c.lostObjects()
	for _, r := range wait {
		r.Lost()
	}
}
