package find

import (
	"log/slog"

	"github.com/distgear/distgear/cluster"
	"github.com/distgear/distgear/internal/fault"
	"github.com/distgear/distgear/internal/graph"
	"github.com/distgear/distgear/internal/journal"
	"github.com/distgear/distgear/internal/place"
	"github.com/distgear/distgear/internal/runs"
	"github.com/distgear/distgear/internal/wire"
	"github.com/distgear/distgear/record"
)

// shown is the record of a run that has not ended, as its journal tells it.
func shown(rec record.Run, input []byte, units [][]byte) (record.Run, error) {
	past, err := journal.Read(units)
	if err != nil {
		return rec, err
	}
	h := &runs.Host{Here: place.Place{Node: rec.Node}, Log: slog.New(slog.DiscardHandler), Error: func(r wire.Report, _ cluster.NodeName, _ string) error { return fault.Told(r.Error) }}
	plans := make([]*runs.Plan, len(past.Plans))
	for i, x := range past.Plans {
		plans[i] = graph.Of(x)
	}
	return runs.Shown(h, rec, input, past, plans)
}
