package shard

// openers is who has an object open, and under which number. Most objects are
// open in one session: that costs nothing beside the object.
type openers struct {
	ses    *session
	more   map[*session]uint32 // the others; nil: none
	handle uint32              // of ses
}

// of is the session's number for the object; 0: it has none.
func (p *openers) of(ses *session) uint64 {
	if p.ses == ses && ses != nil {
		return uint64(p.handle)
	}
	return uint64(p.more[ses])
}

// set notes a session's number, at most maxHandles.
func (p *openers) set(ses *session, handle uint64) {
	switch {
	case p.ses == nil:
		p.ses, p.handle = ses, uint32(handle)
	case p.more == nil:
		p.more = map[*session]uint32{ses: uint32(handle)}
	default:
		p.more[ses] = uint32(handle)
	}
	ses.open++
}

// drop forgets a session.
func (p *openers) drop(ses *session) {
	if p.ses == ses {
		p.ses, p.handle = nil, 0
	} else {
		delete(p.more, ses)
		if len(p.more) == 0 {
			p.more = nil
		}
	}
	ses.open--
}

// count is how many sessions there are.
func (p *openers) count() int {
	if p.ses != nil {
		return 1 + len(p.more)
	}
	return len(p.more)
}
