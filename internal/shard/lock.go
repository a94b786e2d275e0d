package shard

import (
	"github.com/distgear/distgear/internal/machine"
	"github.com/distgear/distgear/internal/machine/locks"
	"github.com/distgear/distgear/internal/operation"
)

type lock struct {
	plain
	locks.Lock
}

func newLock(uint64, uint64) thing { return &lock{} }

func (c *call) at() locks.At { return locks.At{Now: c.now, Next: c.nextToken} }

func (x *lock) apply(c *call)              { x.Do(&c.none, c.who(), c.at(), operation.OfLock(&c.op)) }
func (x *lock) abandon(*call, machine.Who) {}
func (x *lock) expire(c *call)             { x.Expire(&c.none, c.at(), c.ses.id) }
func (x *lock) destroy(c *call)            { c.goneToAll(); x.Lock = locks.Lock{} } // who holds it or waits is among them

// Restore implements thing.
func (x *lock) Restore(b []byte) error {
	l, err := locks.Parse(b)
	if err == nil {
		x.Lock = *l
	}
	return err
}
