package ledger

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

// kind of a record.
type kind byte

const (
	genesis kind = 1 + iota // the first record of all; its time is the wall clock
	opening                 // an epoch begins; the body is the writer's name
	round                   // entries
	piece                   // of a snapshot
)

// A record is a header of 40 bytes and a body, integers little-endian:
//
//	0  'D' 'L'  version 1  kind
//	4  CRC-32C of all that follows
//	8  epoch
//	16 index: counts the records of its epoch from 0, the opening
//	24 nonce of the epoch, drawn by its writer
//	32 ledger time in ms
//
// The body of a round is a byte of flags and the entries, each after its length
// as a uvarint; that of a piece is described at pieceHead.
const (
	headLen = 40
	version = 1
)

// flagTick: the state was given a tick before the entries.
const flagTick = 1

// maxEntry is the size of the largest entry, in bytes: with its round's header
// it fits into the 1 MiB that a NATS server takes by default.
const maxEntry = 768 << 10

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// record is a parsed record. The body is part of what was parsed.
type record struct {
	kind  kind
	epoch uint64
	index uint64
	nonce uint64
	now   int64
	body  []byte
}

// errRecord is of whatever is no record.
var errRecord = errors.New("not a record of a ledger")

// seal writes the header into the first headLen bytes of b, whose body is
// complete.
func seal(b []byte, k kind, epoch, index, nonce uint64, now int64) {
	b[0], b[1], b[2], b[3] = 'D', 'L', version, byte(k)
	binary.LittleEndian.PutUint64(b[8:], epoch)
	binary.LittleEndian.PutUint64(b[16:], index)
	binary.LittleEndian.PutUint64(b[24:], nonce)
	binary.LittleEndian.PutUint64(b[32:], uint64(now))
	binary.LittleEndian.PutUint32(b[4:], crc32.Checksum(b[8:], castagnoli))
}

// parse reads a record. Of a round it checks the entries too, so that reading
// them cannot fail.
func parse(b []byte) (r record, err error) {
	switch {
	case len(b) < headLen || b[0] != 'D' || b[1] != 'L':
		return r, errRecord
	case b[2] != version:
		return r, fmt.Errorf("%w that this version can read: its format is %d", errRecord, b[2])
	case binary.LittleEndian.Uint32(b[4:]) != crc32.Checksum(b[8:], castagnoli):
		return r, fmt.Errorf("%w: its checksum is wrong", errRecord)
	}
	r = record{
		kind:  kind(b[3]),
		epoch: binary.LittleEndian.Uint64(b[8:]),
		index: binary.LittleEndian.Uint64(b[16:]),
		nonce: binary.LittleEndian.Uint64(b[24:]),
		now:   int64(binary.LittleEndian.Uint64(b[32:])),
		body:  b[headLen:],
	}
	ok := false
	switch r.kind {
	case genesis:
		ok = len(r.body) == 0 && r.epoch == 0
	case opening:
		ok = r.epoch > 0 && r.index == 0
	case round:
		ok = r.index > 0 && len(r.body) > 0 && entriesWell(r.body[1:])
	case piece:
		ok = r.index > 0 && pieceWell(r.body)
	}
	if !ok {
		return r, fmt.Errorf("%w: kind %d is malformed", errRecord, r.kind)
	}
	return r, nil
}

func entriesWell(b []byte) bool {
	for len(b) > 0 {
		n, w := binary.Uvarint(b)
		if w <= 0 || n > uint64(len(b)-w) {
			return false
		}
		b = b[w+int(n):]
	}
	return true
}

// appendEntry adds an entry to the body of a round.
func appendEntry(b, entry []byte) []byte {
	b = binary.AppendUvarint(b, uint64(len(entry)))
	return append(b, entry...)
}

// tick tells whether a round begins with one.
func (r *record) tick() bool { return r.body[0]&flagTick != 0 }

// entries yields what a round holds.
func (r *record) entries(yield func([]byte) bool) { eachEntry(r.body[1:], yield) }

func eachEntry(b []byte, yield func([]byte) bool) {
	for len(b) > 0 {
		n, w := binary.Uvarint(b)
		end := w + int(n)
		if !yield(b[w:end:end]) {
			return
		}
		b = b[end:]
	}
}

// pieceHead is what each piece of a snapshot begins with, 32 bytes: the sequence
// number of the record after which the snapshot was taken, the index of the one
// after that, the wall clock at the beginning of the log, the number of the
// piece and how many there are. The epoch is the piece's own, the time that of
// the round.
type pieceHead struct {
	at, index   uint64
	base        int64
	part, parts uint32
}

const (
	pieceHeadLen = 32
	maxPiece     = 512 << 10 // bytes of the state in a piece
)

func (h *pieceHead) append(b []byte) []byte {
	b = binary.LittleEndian.AppendUint64(b, h.at)
	b = binary.LittleEndian.AppendUint64(b, h.index)
	b = binary.LittleEndian.AppendUint64(b, uint64(h.base))
	b = binary.LittleEndian.AppendUint32(b, h.part)
	return binary.LittleEndian.AppendUint32(b, h.parts)
}

func pieceWell(b []byte) bool {
	if len(b) < pieceHeadLen {
		return false
	}
	h := parsePiece(b)
	return h.part < h.parts && h.at > 0 && h.index > 0
}

func parsePiece(b []byte) pieceHead {
	le := binary.LittleEndian
	return pieceHead{le.Uint64(b), le.Uint64(b[8:]), int64(le.Uint64(b[16:])), le.Uint32(b[24:]), le.Uint32(b[28:])}
}

// chain tells which records of the log count. A record that its writer had
// given up may be stored late, where it fits by accident; all who read the log
// skip it, because it is not the next of the epoch in force.
type chain struct {
	epoch uint64
	nonce uint64
	next  uint64 // index of the next record of the epoch
	now   int64  // time of the last record
}

// accept tells whether the record counts, and goes on if so.
func (c *chain) accept(r *record) bool {
	switch r.kind {
	case genesis:
		if c.now != 0 {
			return false
		}
		c.now = r.now
		return true
	case opening:
		if r.epoch <= c.epoch {
			return false
		}
		*c = chain{r.epoch, r.nonce, 1, max(c.now, r.now)}
		return true
	case round, piece:
		if r.epoch != c.epoch || r.nonce != c.nonce || r.index != c.next {
			return false
		}
		c.next++
		if r.kind == round {
			c.now = max(c.now, r.now)
		}
		return true
	}
	return false
}

// begin takes the first record of a log that was purged, which counts.
func (c *chain) begin(r *record) { *c = chain{r.epoch, r.nonce, r.index + 1, r.now} }

// collector puts the pieces of a snapshot together.
type collector struct {
	head  pieceHead
	data  []byte
	bytes uint64 // of the log, at the first piece
}

// add takes the next piece and tells whether the snapshot is complete. Without
// keep only the count is taken. A piece out of its order, of a snapshot whose
// writer is gone, is dropped.
func (c *collector) add(r *record, keep bool, bytes uint64) (complete bool) {
	h := parsePiece(r.body)
	switch {
	case h.part == 0:
		*c = collector{head: h, bytes: bytes}
	case h.at != c.head.at || h.parts != c.head.parts || h.part != c.head.part+1:
		*c = collector{}
		return false
	default:
		c.head.part = h.part
	}
	if keep {
		c.data = append(c.data, r.body[pieceHeadLen:]...)
	}
	return h.part+1 == h.parts
}
