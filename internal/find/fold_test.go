package find

import (
	"testing"
	"time"

	"github.com/distgear/distgear/internal/journal"
	machine "github.com/distgear/distgear/internal/machine/runs"
	"github.com/distgear/distgear/internal/machine/tasks"
	"github.com/distgear/distgear/internal/wire"
	"github.com/distgear/distgear/record"
)

// madeUp makes a journal of bytes: a shape, and records that may happen in any order.
func madeUp(b []byte) [][]byte {
	at := 0
	next := func(below int) int {
		if at >= len(b) {
			return 0
		}
		at++
		return int(b[at-1]) % below
	}
	var units [][]byte
	put := func(r journal.Record) {
		var u journal.Unit
		u.Add(&r)
		units = append(units, u.Bytes(int64(len(units))*int64(time.Second)))
	}
	shape := func(name string) *journal.Plan {
		p := &journal.Plan{Name: name, Rollback: next(4) > 0}
		for i := range 1 + next(5) {
			s := journal.Step{Name: string(rune('a' + i)), Kind: "op", Undo: next(4) > 0, Pivot: next(8) == 7, Event: next(8) == 7, Computed: next(4) == 3}
			for k := range i {
				if next(2) == 1 {
					s.After = append(s.After, uint32(k))
				}
			}
			p.Steps = append(p.Steps, s)
		}
		return p
	}
	put(journal.Record{Kind: journal.Planned, Shape: shape("p")})
	for at < len(b) {
		r := journal.Record{Kind: journal.Kind(1 + next(14)), Plan: uint32(next(8) / 7), Step: uint32(next(6)), Undo: next(3) == 2, Number: uint32(next(8)), Node: "w", Life: 7}
		switch r.Kind {
		case journal.Planned, journal.Adopted:
			r.Shape = shape("q")
		case journal.Reported, journal.Ended, journal.Closed:
			r.Report = wire.Report{Outcome: wire.Outcome(next(5)), Over: next(4) > 0, Payload: []byte("did")}
			if r.Report.Outcome != wire.OK {
				r.Report.Error = &wire.Error{Message: "boom", Flags: uint8(next(64)), AfterMS: uint32(next(9))}
			}
		case journal.Decided:
			r.How = uint8(next(5))
		case journal.Forked:
			r.Name = "run/p/a/do"
		case journal.Sent:
			r.HasIn, r.Input = next(2) == 1, []byte("in")
		}
		put(r)
	}
	return units
}

// FuzzFold: a journal is folded, or does not fit together; whatever its records are,
// nothing panics.
func FuzzFold(f *testing.F) {
	f.Add([]byte{}, false)
	f.Add([]byte{3, 2, 1, 0, 0, 0, 1, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 1, 1, 1, 0, 1, 0, 1, 0, 2, 0, 1, 0, 1, 3, 1, 5}, false)
	f.Add([]byte{3, 1, 1, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 1, 1, 6, 0, 0, 0, 0, 1, 0, 0, 2, 1, 2, 0, 0, 2, 1, 1, 1, 4, 0, 0, 2, 1, 1, 10, 0, 0, 0, 0, 3, 1, 9}, false)
	var u journal.Unit
	u.Add(&journal.Record{Kind: journal.Planned, Shape: &journal.Plan{Name: "p", Steps: []journal.Step{{Name: "a", Kind: "op"}}}})
	u.Add(&journal.Record{Kind: journal.Adopted, Number: 3, Shape: &journal.Plan{Name: "p", Steps: []journal.Step{{Name: "a", Kind: "op"}}}})
	f.Add(u.Bytes(1), true)
	f.Fuzz(func(t *testing.T, b []byte, raw bool) {
		units := [][]byte{b}
		if !raw {
			units = madeUp(b)
		}
		v := &machine.View{State: tasks.Leased, Node: "n"}
		rec, err := shown(record.Run{ID: "run"}, nil, units)
		if es, told := entries(v, 0, units); told == nil && len(es) == 0 {
			t.Error("a journal that can be read tells nothing")
		} else if err == nil && told != nil {
			t.Errorf("it is shown as %+v, and not told: %v", rec, told)
		}
	})
}
