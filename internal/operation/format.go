package operation

import (
	"encoding/binary"
	"errors"
	"time"

	"github.com/distgear/distgear/internal/machine"
	"github.com/distgear/distgear/internal/machine/pack"
)

// What travels between a session and the shard, both ways in messages of many
// parts:
//
//	entry = version ops|ask session(8 bytes) stamp ack first op*     to the shard
//	      | version open session(8 bytes) stamp ttl name
//	      | version expire session(8 bytes)
//	      | version members nobody(8 bytes) decisions
//	op    = verb handle req a b key val
//	frame = version type epoch stamp applied first output*           to a session
//	output = code handle req num aux key val
//
// Integers are uvarints unless said; key, val and name are a uvarint length and
// bytes.

// Version is the first byte of every entry and frame.
const Version = 1

// ErrMalformed is the answer to bytes that are no entry or frame.
var ErrMalformed = errors.New("shard: malformed message")

// EntryType is the second byte of an entry.
type EntryType uint8

// The entries.
const (
	EntryOps     EntryType = 1 + iota // operations of a session; none: it renews
	EntryOpen                         // a session begins
	EntryExpire                       // a session is over: it says so, or the writer judged
	EntryAsk                          // as EntryOps, of a session that missed something: all it has not acknowledged is told again
	EntryMembers                      // what the authority of the writer's hub decided; no session may hand it in
	EntryQuiet                        // a session that works for executors was not heard of for a while: the writer judged
	EntryClock                        // the time of the writer's hub; no session may hand it in
)

// Nobody is the session of entries that are of none.
const Nobody machine.Session = 1

// Entry is the head of an entry; the operations follow.
type Entry struct {
	Type    EntryType
	Session machine.Session
	Stamp   uint64 // of the session's own clock, when it was sent; echoed. EntryClock: ms since 1970
	Ack     uint64 // the last output that the session has taken up
	First   uint64 // number of the first operation
	TTL     uint64 // ms; EntryOpen
	Name    []byte // of the node; EntryOpen

	Decisions []byte // members.Decisions as JSON, to the end; EntryMembers

	ops []byte
}

// TTL is a time-to-live as an entry has it: in ms, at most a day.
func TTL(ms uint64) time.Duration { return time.Duration(min(ms, 86_400_000)) * time.Millisecond }

// Op is one operation on an object. Handle 0 means the session itself.
type Op struct {
	Verb   Verb
	Handle uint64 // the session's number for the object; see VOpen
	Req    uint64 // who waits for the answer; 0: nobody
	A, B   uint64
	Key    []byte
	Val    []byte
	X      any // instead of Val, in a process that is alone
}

// FrameType is the second byte of a frame.
type FrameType uint8

// The frames.
const (
	FrameOutputs FrameType = 1 + iota // what is told to a session, and what was applied
	FrameOver                         // there is no such session, or it is over
)

// Frame is the head of a frame; the outputs follow.
type Frame struct {
	Type    FrameType
	Epoch   uint64 // of the writer
	Stamp   uint64 // the latest one of the session that the log holds
	Applied uint64 // the last operation applied
	First   uint64 // number of the first output
	outputs []byte
}

// Output is one thing told to a session: the answer to request Req, or with
// Req 0 something about the object that the session calls Handle.
type Output struct {
	Code   machine.Code
	Handle uint64
	Req    uint64
	Num    uint64
	Aux    uint64
	Key    []byte
	Val    []byte
	X      any    // instead of Val, in a process that is alone
	Str    string // instead of Val, where there are strings
}

// AppendEntry appends the head of an entry.
func AppendEntry(b []byte, e *Entry) []byte {
	b = append(b, Version, byte(e.Type))
	b = binary.LittleEndian.AppendUint64(b, uint64(e.Session))
	switch e.Type {
	case EntryOps, EntryAsk:
		b = binary.AppendUvarint(b, e.Stamp)
		b = binary.AppendUvarint(b, e.Ack)
		b = binary.AppendUvarint(b, e.First)
	case EntryOpen:
		b = binary.AppendUvarint(b, e.Stamp)
		b = binary.AppendUvarint(b, e.TTL)
		b = pack.AppendBytes(b, e.Name)
	case EntryMembers:
		b = append(b, e.Decisions...)
	case EntryClock:
		b = binary.AppendUvarint(b, e.Stamp)
	}
	return b
}

// Batch is an entry of which there are only the operations, for Next.
func Batch(ops []byte) Entry { return Entry{ops: ops} }

// AppendOp appends an operation to an entry.
func AppendOp(b []byte, o *Op) []byte {
	b = append(b, byte(o.Verb))
	b = binary.AppendUvarint(b, o.Handle)
	b = binary.AppendUvarint(b, o.Req)
	b = binary.AppendUvarint(b, o.A)
	b = binary.AppendUvarint(b, o.B)
	b = pack.AppendBytes(b, o.Key)
	return pack.AppendBytes(b, o.Val)
}

// OpSize bounds what AppendOp adds.
func OpSize(o *Op) int { return 1 + 6*binary.MaxVarintLen64 + len(o.Key) + len(o.Val) }

// ParseEntry parses the head of an entry; Next walks the operations.
func ParseEntry(b []byte) (e Entry, err error) {
	if len(b) < 10 || b[0] != Version {
		return e, ErrMalformed
	}
	e.Type = EntryType(b[1])
	e.Session = machine.Session(binary.LittleEndian.Uint64(b[2:]))
	r := pack.Read(b[10:])
	switch e.Type {
	case EntryOps, EntryAsk:
		e.Stamp, e.Ack, e.First = r.Uvarint(), r.Uvarint(), r.Uvarint()
		e.ops = r.Rest()
	case EntryOpen:
		e.Stamp, e.TTL, e.Name = r.Uvarint(), r.Uvarint(), r.Bytes()
	case EntryExpire, EntryQuiet:
	case EntryClock:
		e.Stamp = r.Uvarint()
	case EntryMembers:
		e.Decisions = r.Rest()
	default:
		r.Fail()
	}
	if r.Bad() || e.Session == 0 {
		return e, ErrMalformed
	}
	return e, nil
}

// Next parses the next operation; false at the end or at a fault.
func (e *Entry) Next(o *Op) bool {
	if len(e.ops) == 0 {
		return false
	}
	r := pack.Read(e.ops)
	*o = Op{Verb: Verb(r.Byte()), Handle: r.Uvarint(), Req: r.Uvarint(), A: r.Uvarint(), B: r.Uvarint()}
	o.Key, o.Val = r.Bytes(), r.Bytes()
	e.ops = r.Rest()
	return !r.Bad()
}

// Empty tells that no operation follows.
func (e *Entry) Empty() bool { return len(e.ops) == 0 }

// AppendFrame appends the head of a frame.
func AppendFrame(b []byte, f *Frame) []byte {
	b = append(b, Version, byte(f.Type))
	b = binary.AppendUvarint(b, f.Epoch)
	b = binary.AppendUvarint(b, f.Stamp)
	b = binary.AppendUvarint(b, f.Applied)
	return binary.AppendUvarint(b, f.First)
}

// AppendOutput appends an output to a frame.
func AppendOutput(b []byte, o *Output) []byte {
	b = append(b, byte(o.Code))
	b = binary.AppendUvarint(b, o.Handle)
	b = binary.AppendUvarint(b, o.Req)
	b = binary.AppendUvarint(b, o.Num)
	b = binary.AppendUvarint(b, o.Aux)
	b = pack.AppendBytes(b, o.Key)
	if o.Str != "" {
		return pack.AppendBytes(b, o.Str)
	}
	return pack.AppendBytes(b, o.Val)
}

// ParseFrame parses the head of a frame; Next walks the outputs.
func ParseFrame(b []byte) (f Frame, err error) {
	if len(b) < 2 || b[0] != Version {
		return f, ErrMalformed
	}
	f.Type = FrameType(b[1])
	r := pack.Read(b[2:])
	f.Epoch, f.Stamp, f.Applied, f.First = r.Uvarint(), r.Uvarint(), r.Uvarint(), r.Uvarint()
	f.outputs = r.Rest()
	if r.Bad() || f.Type != FrameOutputs && f.Type != FrameOver {
		return f, ErrMalformed
	}
	return f, nil
}

// Next parses the next output, whose bytes point into the frame; false at the
// end or at a fault.
func (f *Frame) Next(o *Output) bool {
	if len(f.outputs) == 0 {
		return false
	}
	r := pack.Read(f.outputs)
	*o = Output{Code: machine.Code(r.Byte()), Handle: r.Uvarint(), Req: r.Uvarint(), Num: r.Uvarint(), Aux: r.Uvarint()}
	o.Key, o.Val = r.Bytes(), r.Bytes()
	f.outputs = r.Rest()
	return !r.Bad()
}
