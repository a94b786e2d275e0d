package runs

import (
	"time"

	"github.com/distgear/distgear/internal/fault"
	"github.com/distgear/distgear/internal/journal"
	"github.com/distgear/distgear/internal/wire"
	"github.com/distgear/distgear/record"
)

// Shown is the record of a durable run as its journal tells it, for who does not own
// it. rec says of which run, and plans are those of the
// journal, with policies that allow what was done. Of h only Error and Log are used.
func Shown(h *Host, rec record.Run, input []byte, past *journal.Past, plans []*Plan) (record.Run, error) {
	r := &Run{id: rec.ID, host: h, event: rec.Event, input: input, started: rec.Started.UnixNano(), stopped: past.Stopped, log: &durable{past: past}}
	r.log.r = r
	for i, x := range past.Plans {
		d := newDrive(r, h, plans[i])
		d.log = &planLog{number: uint32(i), folding: true, due: map[int]time.Time{}, sent: make([]*attempt, x.Next), history: make([]record.Attempt, x.Next)}
		r.plans = append(r.plans, planned{d.p, d})
		d.now = time.Unix(0, x.Began)
		d.start()
		for k := range x.Records {
			d.now = time.Unix(0, x.Records[k].At)
			if err := d.fold(&x.Records[k].Record); err != nil {
				return rec, err
			}
			d.act()
		}
		r.version += uint32(len(x.Records)) + 1
	}
	r.end = closed(past)
	return r.recordLocked(true), nil
}

// closed is how the journal says that the run ended; nil: it did not.
func closed(past *journal.Past) *ending {
	c := past.Closed
	if c == nil {
		return nil
	}
	e := &ending{at: past.Ended, out: c.Payload, outcome: c.Outcome}
	if c.Outcome != wire.OK {
		e.err = fault.Told(c.Error)
	}
	return e
}
