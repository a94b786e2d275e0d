// Package tail tells what is new in the journal of a run that is looked at again and
// again.
//
//	var t tail.Tail
//	for _, e := range t.News(rec.Journal) { … }
//
// # Guarantees
//
// Each entry is told once, also when the run has ended and less is kept of it.
package tail

import (
	"time"

	"github.com/distgear/distgear/cluster"
	"github.com/distgear/distgear/record"
)

// entryKey tells entries apart that are not alike, over the end of a run: what is
// kept then is written by its owner's clock.
type entryKey struct {
	what    record.Happening
	plan    string
	step    string
	undo    bool
	attempt int
	name    string
	node    cluster.NodeName // of owners
	began   time.Time
}

// Tail is what was told of a journal; the zero value is usable. One goroutine uses it.
type Tail struct{ told map[entryKey]int }

// News are the entries that are more of their kind than were told before. They count
// as told.
func (t *Tail) News(es []record.Entry) (news []record.Entry) {
	if t.told == nil {
		t.told = map[entryKey]int{}
	}
	seen := map[entryKey]int{}
	for _, e := range es {
		k := entryKey{what: e.What, plan: e.Plan, step: e.Step, undo: e.Undo, attempt: e.Attempt, name: e.Name}
		switch e.What {
		case record.Owned:
			k.began = e.At
		case record.OwnerGone, record.SetAside:
			k.node, k.began = e.Node, e.At
		}
		seen[k]++
		if seen[k] > t.told[k] {
			t.told[k] = seen[k]
			news = append(news, e)
		}
	}
	return news
}
