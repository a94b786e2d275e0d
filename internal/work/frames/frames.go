// Package frames is what nodes that submit fast tasks, and those that work, say to
// each other besides commands, as bytes. It is pure.
//
// # Guarantees
//
// Any bytes may be parsed: nothing panics.
//
// # Failures
//
// pack.ErrMalformed.
package frames

import (
	"encoding/binary"
	"maps"
	"math"
	"slices"
	"strconv"

	"github.com/distgear/distgear/internal/machine/pack"
	"github.com/distgear/distgear/internal/machine/tasks"
)

// The kinds of command between a queue and workers elsewhere; the executor's name
// follows.
const (
	KindOffer    = "_offer:"    // a worker's node says what it offers; answered when that is not what the input tells
	KindTask     = "_task:"     // an attempt; the number of the worker and the action follow too
	KindRecall   = "_recall:"   // one way: give an attempt back if it has not started
	KindProgress = "_progress:" // one way, back: how far an attempt is
)

// TaskPrefix is the kind of commands to one worker of an executor, but for the action.
func TaskPrefix(executor string, worker uint64) string {
	return KindTask + executor + ":" + strconv.FormatUint(worker, 10) + ":"
}

// What may be on the wire of one worker's offer.
const (
	maxOffers = 1 << 10
	maxKinds  = 1 << 12
	maxSlots  = 1 << 20
)

// AppendLease appends the name of an attempt: number epoch.
func AppendLease(b []byte, l tasks.Lease) []byte {
	return binary.AppendUvarint(binary.AppendUvarint(b, l.Number), uint64(l.Epoch))
}

// ParseLease parses the name of an attempt, and tells what follows.
func ParseLease(b []byte) (l tasks.Lease, rest []byte, err error) {
	r := pack.Read(b)
	l.Number, l.Epoch = r.Uint(math.MaxUint64), uint32(r.Uint(math.MaxUint32))
	if r.Bad() {
		return tasks.Lease{}, nil, pack.ErrMalformed
	}
	return l, r.Rest(), nil
}

// ParseTwo parses two numbers.
func ParseTwo(b []byte) (one, two int64, err error) {
	r := pack.Read(b)
	one, two = int64(r.Uint(math.MaxInt64)), int64(r.Uint(math.MaxInt64))
	if !r.End() {
		return 0, 0, pack.ErrMalformed
	}
	return one, two, nil
}

// AppendOffers tells what the workers of a node offer:
//
//	version count (number slots prefetch bytes count kind* count (label value)*)*
func AppendOffers(version uint64, offers map[uint64]tasks.Offer) []byte {
	b := binary.AppendUvarint(nil, version)
	b = binary.AppendUvarint(b, uint64(len(offers)))
	for _, number := range slices.Sorted(maps.Keys(offers)) {
		o := offers[number]
		for _, n := range []uint64{number, uint64(o.Slots), uint64(o.Prefetch), uint64(o.Bytes), uint64(len(o.Kinds))} {
			b = binary.AppendUvarint(b, n)
		}
		for _, k := range o.Kinds {
			b = pack.AppendBytes(b, k)
		}
		b = binary.AppendUvarint(b, uint64(len(o.Labels)))
		for _, k := range slices.Sorted(maps.Keys(o.Labels)) {
			b = pack.AppendBytes(pack.AppendBytes(b, k), o.Labels[k])
		}
	}
	return b
}

// ParseOffers parses what AppendOffers wrote.
func ParseOffers(b []byte) (version uint64, offers map[uint64]tasks.Offer, err error) {
	r := pack.Read(b)
	version = r.Uint(math.MaxUint64)
	offers = map[uint64]tasks.Offer{}
	for range r.Uint(maxOffers) {
		number := r.Uint(math.MaxUint64)
		o := tasks.Offer{Slots: int(r.Uint(maxSlots)), Prefetch: int(r.Uint(maxSlots)), Bytes: int(r.Uint(math.MaxInt32))}
		for range r.Uint(maxKinds) {
			if k := string(r.Bytes()); !r.Bad() {
				o.Kinds = append(o.Kinds, k)
			}
		}
		for range r.Uint(maxKinds) {
			k := string(r.Bytes())
			if v := string(r.Bytes()); !r.Bad() {
				if o.Labels == nil {
					o.Labels = map[string]string{}
				}
				o.Labels[k] = v
			}
		}
		if r.Bad() || len(o.Kinds) == 0 { // none would mean any
			return 0, nil, pack.ErrMalformed
		}
		offers[number] = o
	}
	if !r.End() {
		return 0, nil, pack.ErrMalformed
	}
	return version, offers, nil
}
