package shard

import (
	"github.com/distgear/distgear/internal/machine"
	"github.com/distgear/distgear/internal/machine/elections"
	"github.com/distgear/distgear/internal/operation"
)

type election struct {
	plain
	elections.Election
}

func newElection(uint64, uint64) thing { return &election{} }

func (x *election) apply(c *call) {
	switch c.op.Verb {
	case operation.VCampaign:
		x.Campaign(&c.none, c.nextToken, c.who(), string(c.op.Key), c.op.B != 0)
	case operation.VResign:
		x.Resign(&c.none, c.nextToken, machine.Who{Session: c.ses.id, Req: c.op.A})
		c.answer(machine.OK, 0, 0)
	case operation.VLeader:
		x.Load(&c.none, c.who())
	case operation.VObserve:
		x.Watch(&c.none, c.who())
	default:
		c.invalid()
	}
}

func (x *election) abandon(c *call, who machine.Who) { x.Abandon(&c.none, who) }
func (x *election) expire(c *call)                   { x.Expire(&c.none, c.nextToken, c.ses.id) }
func (x *election) destroy(c *call)                  { c.goneToAll(); x.Destroy(&c.none) }
