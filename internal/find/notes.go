package find

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/distgear/distgear/cluster"
	machine "github.com/distgear/distgear/internal/machine/runs"
	"github.com/distgear/distgear/record"
)

// lag is by how much the clock of the ledger may be behind that of an owner, about, as both
// tell of the same.
const lag = 10 * time.Millisecond

// noted puts what the hub has noted of a run where it belongs.
func noted(es []record.Entry, notes []machine.Note, at clock) []record.Entry {
	for i := range notes {
		n := &notes[i]
		e := record.Entry{At: at.time(n.At), What: record.Operated, Name: n.Verb, Text: n.Text, By: n.By, Node: cluster.NodeName(n.Node)}
		if n.Verb == string(record.BeginStuck) {
			e.What, e.Name, e.Step, e.Text = record.BeginStuck, "", n.Text, ""
		}
		last := e.At
		follows := e.What == record.BeginStuck || n.Verb == "fork" // what an owner has noted, whose clock is another
		if follows {
			last = last.Add(lag)
		}
		k := len(es)
		for k > 0 && (es[k-1].At.After(last) || !follows && es[k-1].What == record.Finished && !es[k-1].At.Before(e.At)) {
			k--
		}
		es = slices.Insert(es, max(k, min(1, len(es))), e) // nothing is before it was accepted
	}
	return es
}

// resolved has it noted who has decided about a stuck undo. A run that is not durable has
// no notes.
func (f Finder) resolved(ctx context.Context, id record.RunID, step string, how record.Resolution, reason string) {
	ctx, cancel := context.WithTimeout(ctx, ledgerTime)
	defer cancel()
	text := fmt.Sprintf("%s: %s", step, how)
	if reason != "" {
		text += ", " + reason
	}
	_ = f.Desk.Note(ctx, string(id), "undo", text) // the decision itself is in the journal
}
