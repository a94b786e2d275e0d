package work

import (
	"encoding/binary"
	"errors"
	"maps"
	"math"
	"slices"

	"github.com/distgear/distgear/internal/machine/tasks"
)

var errMalformed = errors.New("malformed")

// What may be on the wire of one worker's offer.
const (
	maxOffers = 1 << 10
	maxKinds  = 1 << 12
	maxSlots  = 1 << 20
)

// appendLease appends the name of an attempt: number epoch.
func appendLease(b []byte, l tasks.Lease) []byte {
	return binary.AppendUvarint(binary.AppendUvarint(b, l.Number), uint64(l.Epoch))
}

func parseLease(b []byte) (l tasks.Lease, rest []byte, err error) {
	r := reader{b: b}
	l.Number, l.Epoch = r.uint(math.MaxUint64), uint32(r.uint(math.MaxUint32))
	if r.bad {
		return tasks.Lease{}, nil, errMalformed
	}
	return l, r.b, nil
}

func parseTwo(b []byte) (one, two int64, err error) {
	r := reader{b: b}
	one, two = int64(r.uint(math.MaxInt64)), int64(r.uint(math.MaxInt64))
	if r.bad || len(r.b) > 0 {
		return 0, 0, errMalformed
	}
	return one, two, nil
}

// appendOffers tells what the workers of a node offer:
//
//	version count (number slots prefetch bytes count kind* count (label value)*)*
func appendOffers(version uint64, offers map[uint64]tasks.Offer) []byte {
	b := binary.AppendUvarint(nil, version)
	b = binary.AppendUvarint(b, uint64(len(offers)))
	for _, number := range slices.Sorted(maps.Keys(offers)) {
		o := offers[number]
		for _, n := range []uint64{number, uint64(o.Slots), uint64(o.Prefetch), uint64(o.Bytes), uint64(len(o.Kinds))} {
			b = binary.AppendUvarint(b, n)
		}
		for _, k := range o.Kinds {
			b = appendString(b, k)
		}
		b = binary.AppendUvarint(b, uint64(len(o.Labels)))
		for _, k := range slices.Sorted(maps.Keys(o.Labels)) {
			b = appendString(appendString(b, k), o.Labels[k])
		}
	}
	return b
}

func parseOffers(b []byte) (version uint64, offers map[uint64]tasks.Offer, err error) {
	r := reader{b: b}
	version = r.uint(math.MaxUint64)
	offers = map[uint64]tasks.Offer{}
	for range r.uint(maxOffers) {
		number := r.uint(math.MaxUint64)
		o := tasks.Offer{Slots: int(r.uint(maxSlots)), Prefetch: int(r.uint(maxSlots)), Bytes: int(r.uint(math.MaxInt32))}
		for range r.uint(maxKinds) {
			if k := r.string(); !r.bad {
				o.Kinds = append(o.Kinds, k)
			}
		}
		for range r.uint(maxKinds) {
			k := r.string()
			if v := r.string(); !r.bad {
				if o.Labels == nil {
					o.Labels = map[string]string{}
				}
				o.Labels[k] = v
			}
		}
		if r.bad || len(o.Kinds) == 0 { // none would mean any
			return 0, nil, errMalformed
		}
		offers[number] = o
	}
	if r.bad || len(r.b) > 0 {
		return 0, nil, errMalformed
	}
	return version, offers, nil
}

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// reader takes bytes apart.
type reader struct {
	b   []byte
	bad bool
}

// uint is the next number; 0 if it is larger than most, or there is none.
func (r *reader) uint(most uint64) uint64 {
	v, n := binary.Uvarint(r.b)
	if r.bad || n <= 0 || v > most {
		r.bad = true
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) string() string {
	n := r.uint(uint64(len(r.b)))
	if r.bad || n > uint64(len(r.b)) {
		r.bad = true
		return ""
	}
	s := string(r.b[:n])
	r.b = r.b[n:]
	return s
}
