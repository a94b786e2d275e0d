package shard

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/distgear/distgear/internal/machine"
	"github.com/distgear/distgear/internal/machine/pack"
	"github.com/distgear/distgear/internal/operation"
)

// The formats: the first has no roster, the first two know no executors.
const (
	snapshotVersion = 3
	snapshotSecond  = 2
	snapshotFirst   = 1
)

var errSnapshot = errors.New("shard: malformed snapshot")

// Snapshot is the whole state: equal states give equal bytes.
func (s *Shard) Snapshot() []byte {
	b := []byte{snapshotVersion}
	b = binary.AppendUvarint(b, uint64(s.now))
	b = binary.AppendUvarint(b, s.token)
	b = binary.AppendVarint(b, s.drift)
	b = binary.AppendUvarint(b, uint64(len(s.floors)))
	for _, f := range s.floors {
		b = binary.AppendUvarint(b, f)
	}
	b = binary.AppendUvarint(b, uint64(len(s.names)))
	index := make(map[*object]uint64, len(s.names))
	var state []byte
	for _, name := range slices.Sorted(maps.Keys(s.names)) {
		o := s.names[name]
		index[o] = uint64(len(index)) + 1
		b = pack.AppendBytes(b, o.name)
		b = append(b, byte(o.kind))
		b = binary.AppendUvarint(b, o.param)
		state = o.AppendBinary(state[:0])
		b = pack.AppendBytes(b, state)
	}
	b = binary.AppendUvarint(b, uint64(len(s.sessions)))
	for _, id := range slices.Sorted(maps.Keys(s.sessions)) {
		b = s.sessions[id].append(b, index)
	}
	return pack.AppendBytes(b, s.roster.AppendBinary(nil))
}

func (ses *session) append(b []byte, index map[*object]uint64) []byte {
	b = binary.AppendUvarint(b, uint64(ses.id))
	b = pack.AppendBytes(b, ses.name)
	b = pack.AppendBool(b, ses.quiet)
	for _, v := range []uint64{ses.ttl, ses.stamp, ses.applied, ses.out.last, uint64(len(ses.handles))} {
		b = binary.AppendUvarint(b, v)
	}
	for i, o := range ses.handles {
		switch {
		case o == nil:
			b = append(b, handleFree)
		case o.gone:
			b = append(b, handleGone, byte(o.kind))
		case o.of(ses) == uint64(i)+1:
			b = binary.AppendUvarint(append(b, handleOpen), index[o])
		default:
			b = binary.AppendUvarint(append(b, handleSecond), index[o])
		}
	}
	chunks := ses.out.chunks
	if ses.out.cur.n > 0 {
		chunks = append(slices.Clip(chunks), ses.out.cur)
	}
	b = binary.AppendUvarint(b, uint64(len(chunks)))
	for _, c := range chunks {
		b = binary.AppendUvarint(b, c.first)
		b = binary.AppendUvarint(b, c.n)
		b = pack.AppendBytes(b, c.bytes)
	}
	return b
}

// What a handle stands for, in a snapshot.
const (
	handleFree   = iota
	handleGone   // an object that was destroyed
	handleOpen   // an object of the snapshot
	handleSecond // the same, once more
)

// Restore replaces the state. An empty snapshot is the state of a new log. With
// an error the state is empty.
func (s *Shard) Restore(snapshot []byte) error {
	s.reset()
	if len(snapshot) == 0 {
		return nil
	}
	r := pack.Read(snapshot)
	err := s.restore(&r)
	if err != nil {
		s.reset()
	}
	return err
}

func (s *Shard) restore(r *pack.Reader) error {
	v := r.Byte()
	if v < snapshotFirst || v > snapshotVersion {
		return fmt.Errorf("%w: version %d, and this program knows %d: run the hub with the version that wrote it, or a newer one", errSnapshot, v, snapshotVersion)
	}
	s.now, s.token = int64(r.Uvarint()), r.Uvarint()
	floors := uint64(operation.KExecutor)
	if v > snapshotSecond {
		s.drift = r.Varint()
		if floors = r.Count(1); floors > uint64(len(s.floors)) {
			return errSnapshot
		}
	}
	for i := range floors {
		s.floors[i] = r.Uvarint()
	}
	var all []*object
	for range r.Count(1) {
		o := &object{name: string(r.Bytes()), kind: operation.Kind(r.Byte()), param: r.Uvarint()}
		state := r.Bytes()
		if r.Bad() || !o.kind.Known() || s.names[o.name] != nil {
			return errSnapshot
		}
		o.thing = makers[o.kind](o.param, 0)
		if err := o.Restore(state); err != nil {
			return fmt.Errorf("%s %q: %w", o.kind, o.name, err)
		}
		s.names[o.name] = o
		all = append(all, o)
		s.timing(o)
	}
	for range r.Count(1) {
		ses, err := parseSession(r, v, all)
		if err != nil {
			return err
		}
		if s.sessions[ses.id] != nil {
			return errSnapshot
		}
		s.sessions[ses.id] = ses
		if ses.works() {
			s.working[ses.id] = true
		}
	}
	if v > snapshotFirst {
		if err := s.roster.Restore(r.Bytes()); err != nil {
			return err
		}
	}
	if !r.End() {
		return errSnapshot
	}
	return nil
}

func parseSession(r *pack.Reader, version byte, all []*object) (*session, error) {
	ses := &session{id: machine.Session(r.Uvarint()), name: string(r.Bytes())}
	if version > snapshotSecond {
		ses.quiet = r.Bool()
	}
	ses.ttl, ses.stamp, ses.applied, ses.out.last = r.Uvarint(), r.Uvarint(), r.Uvarint(), r.Uvarint()
	for i := range r.Count(1) {
		var o *object
		switch r.Byte() {
		case handleFree:
		case handleGone:
			o = &object{kind: operation.Kind(r.Byte()), gone: true}
		case handleOpen:
			if o = pick(all, r.Uvarint()); o == nil || o.of(ses) != 0 || i >= maxHandles {
				return nil, errSnapshot
			}
			o.set(ses, i+1)
		case handleSecond:
			if o = pick(all, r.Uvarint()); o == nil {
				return nil, errSnapshot
			}
			ses.twice++
		default:
			return nil, errSnapshot
		}
		ses.handles = append(ses.handles, o)
	}
	next := uint64(0)
	for range r.Count(1) {
		c := chunk{first: r.Uvarint(), n: r.Uvarint(), bytes: slices.Clone(r.Bytes())}
		if r.Bad() || c.n == 0 || c.first < next || c.end() > ses.out.last {
			return nil, errSnapshot
		}
		next = c.end() + 1
		ses.out.chunks = append(ses.out.chunks, c)
		ses.out.size += len(c.bytes)
	}
	if r.Bad() || ses.id == 0 {
		return nil, errSnapshot
	}
	return ses, nil
}

func pick(all []*object, i uint64) *object {
	if i == 0 || i > uint64(len(all)) {
		return nil
	}
	return all[i-1]
}
