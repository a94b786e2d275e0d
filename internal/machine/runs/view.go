package runs

import (
	"encoding/binary"

	"github.com/distgear/distgear/internal/machine/pack"
	"github.com/distgear/distgear/internal/machine/tasks"
)

// View is what the hub tells of a run to who looks at it. Times are the ledger's,
// in ms.
type View struct {
	Kind    string // the event
	State   tasks.State
	Outcome tasks.Outcome // of one that has ended
	Now     int64
	Started int64
	Since   int64  // in its state; of a delayed one: until when
	Node    string // that owns it; empty: nobody does
	Reason  string // why it is parked, or was ended by a person
	Waits   []string
	Input   []byte  // if its journal is kept
	Summary []byte  // of one that has ended
	Journal []byte  // see Run.Units
	Epoch   uint32  // of its last owner
	Report  []byte  // of one that has ended, without a summary
	Owners  []Owner // those before that were lost, or could not go on: the last of them
	Notes   []Note
}

// Owner is one that a run had.
type Owner struct {
	Node         string // empty: it is not known any more
	Began, Ended int64
	Lost         bool   // its session was lost, or silent for too long
	Text         string // else why it gave the run back
}

// AppendView appends a view.
func AppendView(b []byte, v *View) []byte {
	b = append(b, byte(v.State), byte(v.Outcome))
	b = binary.AppendUvarint(b, uint64(max(v.Started, 0)))
	b = binary.AppendUvarint(b, uint64(max(v.Since, 0)))
	b = pack.AppendBytes(b, v.Kind)
	b = pack.AppendBytes(b, v.Node)
	b = pack.AppendBytes(b, v.Reason)
	b = binary.AppendUvarint(b, uint64(len(v.Waits)))
	for _, name := range v.Waits {
		b = pack.AppendBytes(b, name)
	}
	b = pack.AppendBytes(b, v.Input)
	b = pack.AppendBytes(b, v.Summary)
	b = pack.AppendBytes(b, v.Journal)
	b = binary.AppendUvarint(b, uint64(max(v.Now, 0)))
	b = binary.AppendUvarint(b, uint64(v.Epoch))
	b = binary.AppendUvarint(b, uint64(len(v.Owners)))
	for i := range v.Owners {
		o := &v.Owners[i]
		b = pack.AppendBytes(b, o.Node)
		b = binary.AppendUvarint(b, uint64(max(o.Began, 0)))
		b = binary.AppendUvarint(b, uint64(max(o.Ended, 0)))
		b = pack.AppendBool(b, o.Lost)
		b = pack.AppendBytes(b, o.Text)
	}
	b = pack.AppendBytes(b, v.Report)
	return appendNotes(b, v.Notes)
}

// ParseView parses a view. What it returns points into b.
func ParseView(b []byte) (v View, err error) {
	r := pack.Read(b)
	v.State, v.Outcome = tasks.State(r.Byte()), tasks.Outcome(r.Byte())
	v.Started, v.Since = r.Int(), r.Int()
	v.Kind, v.Node, v.Reason = string(r.Bytes()), string(r.Bytes()), string(r.Bytes())
	for n := r.Count(1); n > 0; n-- {
		v.Waits = append(v.Waits, string(r.Bytes()))
	}
	v.Input, v.Summary, v.Journal = r.Bytes(), r.Bytes(), r.Bytes()
	v.Now, v.Epoch = r.Int(), uint32(r.Uint(1<<32-1))
	for n := r.Count(5); n > 0; n-- {
		v.Owners = append(v.Owners, Owner{Node: string(r.Bytes()), Began: r.Int(), Ended: r.Int(), Lost: r.Bool(), Text: string(r.Bytes())})
	}
	v.Report = r.Bytes()
	v.Notes = readNotes(&r)
	if v.State < tasks.Delayed || v.State > tasks.Ended || v.Outcome > tasks.NeverRan {
		r.Fail()
	}
	if !r.End() {
		return View{}, pack.ErrMalformed
	}
	return v, nil
}

// Whole tells whether a journal can be taken apart.
func Whole(b []byte) bool {
	_, err := Units(b)
	return err == nil
}

// Units takes a journal apart.
func Units(b []byte) (units [][]byte, err error) {
	for r := pack.Read(b); len(r.Rest()) > 0; {
		u := r.Bytes()
		if r.Bad() {
			return nil, pack.ErrMalformed
		}
		units = append(units, u)
	}
	return units, nil
}

// Reporter is the node that a run's report comes from, which begins with its name; empty:
// nobody reported.
func Reporter(report string) string {
	n, k := binary.Uvarint([]byte(report[:min(len(report), binary.MaxVarintLen64)]))
	if k <= 0 || n > uint64(len(report)-k) {
		return ""
	}
	return report[k : k+int(n)]
}
