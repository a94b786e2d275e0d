package wire

import "encoding/binary"

// Reader walks the frames of one message.
//
//	r, err := wire.Read(data)
//	for r.Next(&f) { … }
//	err = r.Err()
//
// The zero value is an empty message. It is not safe for concurrent use.
type Reader struct {
	Life uint64 // of the source
	Name []byte // of the source
	b    []byte
	err  error
}

// Read parses the header of a message.
func Read(data []byte) (Reader, error) {
	if len(data) < 10 || data[0] != Version {
		return Reader{}, ErrMalformed
	}
	n := int(data[9])
	if len(data) < 10+n {
		return Reader{}, ErrMalformed
	}
	return Reader{
		Life: binary.LittleEndian.Uint64(data[1:]),
		Name: data[10 : 10+n : 10+n],
		b:    data[10+n:],
	}, nil
}

// Err tells why Next stopped: nil at the end of the message.
func (r *Reader) Err() error { return r.err }

// Next parses one frame into f, all of whose fields it sets. It answers false
// at the end of the message or at a fault.
func (r *Reader) Next(f *Frame) bool {
	if len(r.b) == 0 || r.err != nil {
		return false
	}
	*f = Frame{Type: Type(r.b[0])}
	r.b = r.b[1:]
	switch f.Type {
	case TCommand:
		f.Slot = r.uint32()
		f.Gen = r.uvarint()
		r.body(f)
	case TSend:
		f.Gen = r.uvarint()
		r.body(f)
	case TReport:
		f.Slot = r.uint32()
		f.Gen = r.uvarint()
		r.report(&f.Report)
	case TCancel, TAsk:
		f.Slot = r.uint32()
		f.Gen = r.uvarint()
	case TCredit:
		f.Gen = r.uvarint()
	case THello:
	default:
		r.err = ErrMalformed
	}
	return r.err == nil
}

func (r *Reader) body(f *Frame) {
	f.Flags = Flags(r.byte())
	f.Kind = r.bytes()
	if f.Flags&hasKey != 0 {
		f.Key = r.bytes()
	}
	f.Attempt = 1
	if f.Flags&hasAttempt != 0 {
		f.Attempt = r.uint32()
	}
	if f.Flags&hasStart != 0 {
		if len(r.b) < 8 {
			r.fail()
			return
		}
		f.Start = int64(binary.LittleEndian.Uint64(r.b))
		r.b = r.b[8:]
	}
	if f.Flags&hasRun != 0 {
		f.Run = r.uint32()
	}
	if f.Flags&hasOwner != 0 {
		r.owner(f)
	}
	f.Input = r.bytes()
}

// owner parses for whom a command is sent. An epoch of zero, and a run's id
// longer than the key, are faults: nobody could tell what is meant.
func (r *Reader) owner(f *Frame) {
	f.Owner.Epoch, f.Owner.Run = r.uvarint(), r.uint32()
	n := r.uvarint()
	if f.Owner.Epoch == 0 || uint64(f.Owner.Run) > uint64(len(f.Key)) || n>>1 > 1<<32-1 {
		r.fail()
		return
	}
	f.Owner.Number, f.Owner.Attach = uint32(n>>1), n&1 != 0
}

func (r *Reader) report(p *Report) {
	o := r.byte()
	p.Outcome = Outcome(o & 0xf)
	p.Over = true
	if p.Outcome > NeverRan {
		r.fail()
		return
	}
	p.Payload = r.bytes()
	if o>>4 == 0 {
		return
	}
	p.Error = r.error()
}

// ParseError reads what AppendError appended, and nothing else.
func ParseError(b []byte) (*Error, error) {
	r := Reader{b: b}
	e := r.error()
	if len(r.b) > 0 {
		r.fail()
	}
	return e, r.err
}

func (r *Reader) error() *Error {
	e := &Error{Message: string(r.bytes()), Stack: string(r.bytes()), Flags: r.byte(), AfterMS: r.uint32()}
	n := r.uvarint()
	if n > uint64(len(r.b)) { // each identity has at least its length byte
		r.fail()
		return e
	}
	for range n {
		e.Chain = append(e.Chain, string(r.bytes()))
	}
	return e
}

func (r *Reader) fail() {
	r.err, r.b = ErrMalformed, nil
}

func (r *Reader) byte() byte {
	if len(r.b) == 0 {
		r.fail()
		return 0
	}
	c := r.b[0]
	r.b = r.b[1:]
	return c
}

func (r *Reader) uvarint() uint64 {
	if len(r.b) > 0 && r.b[0] < 0x80 { // the common case
		v := uint64(r.b[0])
		r.b = r.b[1:]
		return v
	}
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.fail()
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *Reader) uint32() uint32 {
	v := r.uvarint()
	if v > 1<<32-1 {
		r.fail()
		return 0
	}
	return uint32(v)
}

func (r *Reader) bytes() []byte {
	n := r.uvarint()
	if n > uint64(len(r.b)) {
		r.fail()
		return nil
	}
	s := r.b[:n:n]
	r.b = r.b[n:]
	return s
}
