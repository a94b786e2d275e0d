package wire

// UndoInput is the input of a command with the flag Undo: what is known of the
// attempt to be undone.
type UndoInput struct {
	In, Out []byte // payloads; Out is empty unless the outcome is OK
	Outcome Outcome
	Message string // of the error; empty when there was none
	Node    string // where it was
	Key     string // its own, if that is not the command's: another run did it
}

// AppendUndo appends u: in out outcome message node, and key if there is one.
func AppendUndo(b []byte, u *UndoInput) []byte {
	b = appendString(b, string(u.In))
	b = appendString(b, string(u.Out))
	b = append(b, byte(u.Outcome))
	b = appendString(b, u.Message)
	if b = appendString(b, u.Node); u.Key != "" {
		b = appendString(b, u.Key)
	}
	return b
}

// KeyOf is the key that a command's handler is told: to undo what another run did, that
// of its command.
func KeyOf(c *Command) string {
	if c.Flags&Undo != 0 {
		if u, err := ParseUndo(c.Input); err == nil && u.Key != "" {
			return u.Key
		}
	}
	return c.Key
}

// ParseUndo is the inverse of AppendUndo; In and Out point into b.
func ParseUndo(b []byte) (u UndoInput, err error) {
	r := Reader{b: b}
	u.In, u.Out, u.Outcome = r.bytes(), r.bytes(), Outcome(r.byte())
	u.Message, u.Node = string(r.bytes()), string(r.bytes())
	if r.err == nil && len(r.b) > 0 {
		u.Key = string(r.bytes())
	}
	if r.err == nil && (len(r.b) > 0 || u.Outcome > NeverRan) {
		r.err = ErrMalformed
	}
	return u, r.err
}
