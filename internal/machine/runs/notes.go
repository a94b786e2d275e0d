package runs

import (
	"encoding/binary"
	"slices"
	"strings"

	"github.com/distgear/distgear/internal/machine/pack"
	"github.com/distgear/distgear/internal/machine/words"
)

// Note is what somebody has done with a run from outside, or its owner could not go on
// without somebody: it is kept as long as the run is known.
type Note struct {
	At   int64  // ledger time, ms
	Verb string // such as "cancel"
	Node string // through which it came
	By   string // who, as that node was told; empty: nobody said
	Text string // to what, or why
}

// maxNotes is how many notes of a run are kept: the latest.
const maxNotes = 32

// Note keeps a note.
func (r *Run) Note(n Note) {
	for _, s := range []*string{&n.Verb, &n.Node, &n.By, &n.Text} {
		*s = strings.Clone(words.Short(*s))
	}
	m := r.rest()
	if len(m.notes) == maxNotes {
		m.notes = slices.Delete(m.notes, 0, 1)
	}
	m.notes = append(m.notes, n)
}

// Notes are the notes, in order.
func (r *Run) Notes() []Note {
	if r.more == nil {
		return nil
	}
	return r.more.notes
}

// appendNotes appends notes, unless there are none: states and views without them are as
// they were before there were any.
func appendNotes(b []byte, ns []Note) []byte {
	if len(ns) == 0 {
		return b
	}
	b = binary.AppendUvarint(b, uint64(len(ns)))
	for i := range ns {
		n := &ns[i]
		b = binary.AppendUvarint(b, uint64(max(n.At, 0)))
		for _, s := range []string{n.Verb, n.Node, n.By, n.Text} {
			b = pack.AppendBytes(b, s)
		}
	}
	return b
}

// readNotes reads what appendNotes appended, up to the end.
func readNotes(r *pack.Reader) (ns []Note) {
	if r.Bad() || len(r.Rest()) == 0 {
		return nil
	}
	n := r.Count(5)
	if n == 0 { // it would have been left out
		r.Fail()
	}
	for ; n > 0; n-- {
		ns = append(ns, Note{At: r.Int(), Verb: string(r.Bytes()), Node: string(r.Bytes()), By: string(r.Bytes()), Text: string(r.Bytes())})
	}
	return ns
}
