package outcome

import (
	"encoding/binary"
	"errors"
	"time"
)

// AppendGone appends a run that has ended, and the epoch of its last owner, to what
// LetGoOf takes.
func AppendGone(b []byte, id string, epoch uint64) []byte {
	b = binary.AppendUvarint(b, epoch)
	return append(binary.AppendUvarint(b, uint64(len(id))), id...)
}

var errGone = errors.New("malformed list of runs that have ended")

// LetGoOf is LetGo for each of the runs in b; those before one that is malformed are let go of.
func (t *Table) LetGoOf(b []byte, now time.Time) error {
	for len(b) > 0 {
		epoch, n := binary.Uvarint(b)
		if n <= 0 {
			return errGone
		}
		b = b[n:]
		size, n := binary.Uvarint(b)
		if n <= 0 || size > uint64(len(b)-n) {
			return errGone
		}
		t.LetGo(string(b[n:n+int(size)]), epoch, now)
		b = b[n+int(size):]
	}
	return nil
}
