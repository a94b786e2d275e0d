// Package wire is the format of what travels between endpoints: messages that
// carry many frames, built by appending and parsed in place.
//
// A message is a header (version, life and name of its source) followed by
// frames until its end:
//
//	message = version(1 byte) life(8 bytes, little endian) name frame*
//	frame   = type(1 byte) …            see the Append functions
//	name, kind, key, input = uvarint length, bytes
//
// Integers are unsigned LEB128 (encoding/binary's uvarint) unless said.
// Other languages may speak it: nothing here depends on Go.
//
// # Guarantees
//
// Parsing allocates nothing and never panics: what it returns points into the
// message. A message that does not parse yields ErrMalformed and the frames
// before the fault.
package wire

import (
	"encoding/binary"
	"errors"
)

// Version is the first byte of every message. A receiver drops messages of
// another version and says so once.
const Version = 1

// ErrMalformed is what parsing answers to bytes that are no message.
var ErrMalformed = errors.New("wire: malformed message")

// Outcome is what is known of a command. The zero value is unknown.
type Outcome uint8

// The outcomes; see docs/guarantees.md.
const (
	Unknown  Outcome = iota // nobody confirmed anything
	OK                      // it ran and returned a result
	Clean                   // it ran, failed, and says that it changed nothing
	Dirty                   // it ran, failed, and may have had effects
	NeverRan                // it did not start and will not
)

// Type is a frame's first byte.
type Type uint8

// The frames.
const (
	TCommand Type = 1 + iota // a command in a slot
	TSend                    // a command that wants no report
	TReport                  // the outcome of a command
	TCancel                  // ask the command in a slot to stop
	TAsk                     // ask for the outcome of a slot
	TCredit                  // how many sends have been taken up so far
	THello                   // the source was cut off: ask it for what is missing
)

// Flags of a command.
type Flags uint8

// The flags. The lower four, and the last, say which optional fields follow.
const (
	hasKey Flags = 1 << iota
	hasAttempt
	hasStart
	hasRun
	Undo   // the inverse of the kind is meant; Input is an undo payload
	Nested // the command is a step of a plan: its key names the parent
	Event  // an event is meant: the command began, or shall begin, a run
	hasOwner
)

// Command is a kind of work addressed to an endpoint.
type Command struct {
	Kind    string
	Key     string // idempotency key; empty for a plain call
	Flags   Flags  // Undo, Nested, Event
	Attempt uint32 // counted from 1; zero reads as 1
	Start   int64  // hub time in ms since 1970 before which it must start; zero: no bound
	Run     uint32 // ms it may run; zero: no bound
	Input   []byte
	Owner   Owner // of a step of a durable run
}

// Owner says for whom a command of a durable run is sent. The zero value says
// that the run is not durable.
type Owner struct {
	Epoch  uint64 // of who owns the run; who serves refuses lower ones than it has seen
	Run    uint32 // how many bytes of Key are the run's id
	Number uint32 // of the attempt among all of its plan: a command sent again to be attached has the same
	Attach bool   // nothing is run: the outcome of that attempt is asked for, and Start is when it was sent
}

// Report is the outcome of a command.
type Report struct {
	Outcome Outcome
	Over    bool   // no attempt of the command can be running any more
	Late    bool   // set by the receiver: it follows an earlier unknown
	Payload []byte // the result when OK
	Error   *Error // what went wrong otherwise; nil when nothing is known
}

// Permanent is the flag of an Error that trying again is of no use.
const Permanent uint8 = 1

// Error is an error that crosses the wire.
type Error struct {
	Message string
	Stack   string   // of a panic; empty otherwise
	Chain   []string // identities of the errors it wraps, outermost first
	Flags   uint8    // Permanent; the meaning of the others belongs to the root package
	AfterMS uint32   // wish of the handler: retry no earlier than this
}

// Frame is one parsed frame. Its byte slices point into the message.
type Frame struct {
	Type    Type
	Slot    uint32
	Gen     uint64 // of the slot; the number of a send; the count of a credit
	Flags   Flags
	Kind    []byte
	Key     []byte
	Attempt uint32
	Start   int64
	Run     uint32
	Input   []byte
	Owner   Owner
	Report  Report
}

// AppendHeader starts a message from the endpoint with that life and name.
// The name may have at most 255 bytes.
func AppendHeader(b []byte, life uint64, name string) []byte {
	b = append(b, Version)
	b = binary.LittleEndian.AppendUint64(b, life)
	if len(name) > 255 {
		name = name[:255]
	}
	return append(append(b, byte(len(name))), name...)
}

// AppendCommand appends a command for a slot:
//
//	TCommand slot gen flags kind [key] [attempt] [start: 8 bytes] [run]
//	[epoch, bytes of the run's id, number*2 + attach] input
func AppendCommand(b []byte, slot uint32, gen uint64, c *Command) []byte {
	b = append(b, byte(TCommand))
	b = binary.AppendUvarint(b, uint64(slot))
	b = binary.AppendUvarint(b, gen)
	return appendBody(b, c)
}

// AppendSend appends a one-way command, the n-th from its source to its
// destination: TSend n flags kind … input.
func AppendSend(b []byte, n uint64, c *Command) []byte {
	return appendBody(binary.AppendUvarint(append(b, byte(TSend)), n), c)
}

func appendBody(b []byte, c *Command) []byte {
	f := c.Flags & (Undo | Nested | Event)
	if c.Key != "" {
		f |= hasKey
	}
	if c.Attempt > 1 {
		f |= hasAttempt
	}
	if c.Start != 0 {
		f |= hasStart
	}
	if c.Run != 0 {
		f |= hasRun
	}
	if c.Owner.Epoch != 0 {
		f |= hasOwner
	}
	b = append(b, byte(f))
	b = appendString(b, c.Kind)
	if f&hasKey != 0 {
		b = appendString(b, c.Key)
	}
	if f&hasAttempt != 0 {
		b = binary.AppendUvarint(b, uint64(c.Attempt))
	}
	if f&hasStart != 0 {
		b = binary.LittleEndian.AppendUint64(b, uint64(c.Start))
	}
	if f&hasRun != 0 {
		b = binary.AppendUvarint(b, uint64(c.Run))
	}
	if f&hasOwner != 0 {
		b = appendOwner(b, &c.Owner)
	}
	b = binary.AppendUvarint(b, uint64(len(c.Input)))
	return append(b, c.Input...)
}

func appendOwner(b []byte, o *Owner) []byte {
	b = binary.AppendUvarint(b, o.Epoch)
	b = binary.AppendUvarint(b, uint64(o.Run))
	n := uint64(o.Number) << 1
	if o.Attach {
		n |= 1
	}
	return binary.AppendUvarint(b, n)
}

// AppendReport appends the outcome of a slot:
//
//	TReport slot gen outcome|error<<4 payload
//	[message stack flags after count identity*]
func AppendReport(b []byte, slot uint32, gen uint64, r *Report) []byte {
	b = append(b, byte(TReport))
	b = binary.AppendUvarint(b, uint64(slot))
	b = binary.AppendUvarint(b, gen)
	o := byte(r.Outcome)
	if r.Error != nil {
		o |= 1 << 4
	}
	b = append(b, o)
	b = binary.AppendUvarint(b, uint64(len(r.Payload)))
	b = append(b, r.Payload...)
	if r.Error != nil {
		b = AppendError(b, r.Error)
	}
	return b
}

// AppendError appends an error: message stack flags after count identity*.
func AppendError(b []byte, e *Error) []byte {
	b = appendString(b, e.Message)
	b = appendString(b, e.Stack)
	b = append(b, e.Flags)
	b = binary.AppendUvarint(b, uint64(e.AfterMS))
	b = binary.AppendUvarint(b, uint64(len(e.Chain)))
	for _, s := range e.Chain {
		b = appendString(b, s)
	}
	return b
}

// AppendSlot appends a frame that is only about a slot: TCancel or TAsk.
func AppendSlot(b []byte, t Type, slot uint32, gen uint64) []byte {
	b = append(b, byte(t))
	b = binary.AppendUvarint(b, uint64(slot))
	return binary.AppendUvarint(b, gen)
}

// AppendCredit appends the number of the last send that was taken up.
func AppendCredit(b []byte, count uint64) []byte {
	return binary.AppendUvarint(append(b, byte(TCredit)), count)
}

// AppendHello appends a hello.
func AppendHello(b []byte) []byte { return append(b, byte(THello)) }

// CommandSize bounds the bytes that AppendCommand or AppendSend will add.
func CommandSize(c *Command) int {
	return 80 + len(c.Kind) + len(c.Key) + len(c.Input)
}

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}
