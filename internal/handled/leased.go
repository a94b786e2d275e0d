package handled

import (
	"github.com/distgear/distgear/internal/runs"
	"github.com/distgear/distgear/record"
)

// CancelOne cancels a run that is here.
func (g *Registry) CancelOne(id record.RunID) { g.one(id, (*runs.Run).Cancel) }

// Supersede ends this node's part in a durable run.
func (g *Registry) Supersede(id record.RunID) { g.one(id, (*runs.Run).Supersede) }

// Resign gives a durable run back, so that another node goes on with it.
func (g *Registry) Resign(id record.RunID) { g.one(id, (*runs.Run).Quit) }

func (g *Registry) one(id record.RunID, do func(*runs.Run)) {
	g.mu.Lock()
	r := g.runs[id]
	g.mu.Unlock()
	if r != nil {
		do(r)
	}
}
