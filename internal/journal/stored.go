package journal

import "encoding/binary"

// Stand is the unit that stands in the journal for one which is kept elsewhere,
// because it is large; ref says where.
func Stand(unit, ref []byte) []byte {
	at, _ := binary.Varint(unit[1:])
	var u Unit
	u.Add(&Record{Kind: Stored, Input: ref})
	return u.Bytes(at)
}

// Elsewhere is where the unit is kept that this one stands for; nil: it stands for
// none.
func Elsewhere(unit []byte) (ref []byte) {
	if len(unit) == 0 || unit[0] != Version {
		return nil
	}
	if _, n := binary.Varint(unit[1:]); n <= 0 || 1+n >= len(unit) || Kind(unit[1+n]) != Stored {
		return nil
	}
	if _, recs, err := Parse(unit); err == nil && len(recs) == 1 {
		return recs[0].Input
	}
	return nil
}
