package shard

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/distgear/distgear/internal/machine"
	"github.com/distgear/distgear/internal/machine/locks"
	"github.com/distgear/distgear/internal/operation"
)

// world is a shard and what it sent, by session.
type world struct {
	*Shard
	sent map[machine.Session][][]byte
}

func newWorld() *world {
	w := &world{sent: map[machine.Session][][]byte{}}
	w.Shard = New(Config{Send: func(to machine.Session, frame []byte) {
		w.sent[to] = append(w.sent[to], bytes.Clone(frame))
	}})
	w.Lead(1)
	return w
}

func (w *world) cut() {
	if r := w.Cut(); r != nil {
		r.Release()
	}
}

// told takes what a session was told, and forgets it.
func (w *world) told(t *testing.T, id machine.Session) (all []operation.Output, last operation.Frame) {
	t.Helper()
	for _, b := range w.sent[id] {
		f, err := operation.ParseFrame(b)
		if err != nil {
			t.Fatal(err)
		}
		last = f
		var o operation.Output
		for f.Next(&o) {
			o.Key, o.Val = bytes.Clone(o.Key), bytes.Clone(o.Val)
			all = append(all, o)
		}
	}
	delete(w.sent, id)
	return all, last
}

func opening(id machine.Session) []byte {
	return operation.AppendEntry(nil, &operation.Entry{Type: operation.EntryOpen, Session: id, TTL: 1000, Name: []byte(fmt.Sprint("n", id))})
}

func entry(id machine.Session, first, ack uint64, ops ...operation.Op) []byte {
	b := operation.AppendEntry(nil, &operation.Entry{Type: operation.EntryOps, Session: id, First: first, Ack: ack})
	for i := range ops {
		b = operation.AppendOp(b, &ops[i])
	}
	return b
}

func TestShard_ResentOperationsAreAppliedOnce(t *testing.T) {
	w := newWorld()
	w.Apply(1, opening(7))
	e := entry(7, 1, 0, operation.Op{Verb: operation.VOpen, Handle: 1, A: uint64(operation.KCounter), Key: []byte("c")}, operation.Op{Verb: operation.VCounterAdd, Handle: 1, Req: 2, A: 5})
	w.Apply(2, e)
	w.Apply(3, e)
	w.Apply(4, entry(7, 4, 0, operation.Op{Verb: operation.VCounterAdd, Handle: 1, Req: 4, A: 5})) // 3 is missing: not applied
	w.cut()
	all, f := w.told(t, 7)
	if len(all) != 1 || all[0].Num != 5 || f.Applied != 2 {
		t.Fatalf("%+v, applied %d", all, f.Applied)
	}
	w.Apply(5, operation.AppendEntry(nil, &operation.Entry{Type: operation.EntryAsk, Session: 7, First: 3, Ack: 0}))
	w.cut()
	if all, _ = w.told(t, 7); len(all) != 1 || all[0].Num != 5 {
		t.Fatalf("told again: %+v", all)
	}
	w.Apply(6, entry(7, 3, 1, operation.Op{Verb: operation.VCounterAdd, Handle: 1, Req: 3, A: 1}))
	w.Lead(2) // another writer tells again what was not acknowledged, and nothing else
	w.cut()
	if all, f = w.told(t, 7); len(all) != 1 || all[0].Num != 6 || f.Epoch != 2 || f.First != 2 {
		t.Fatalf("%+v %+v", all, f)
	}
}

func TestShard_UnknownSessionIsOver(t *testing.T) {
	w := newWorld()
	w.Apply(1, entry(9, 1, 0, operation.Op{Verb: operation.VOpen, Handle: 1, A: uint64(operation.KCounter), Key: []byte("c")}))
	w.cut()
	if _, f := w.told(t, 9); f.Type != operation.FrameOver {
		t.Fatalf("%+v", f)
	}
}

func TestShard_NamesAreOfOneKindAndFreeAgainWhenIdle(t *testing.T) {
	w := newWorld()
	w.Apply(1, opening(7))
	w.Apply(1, entry(7, 1, 0,
		operation.Op{Verb: operation.VOpen, Handle: 1, Req: 1, A: uint64(operation.KCounter), Key: []byte("c")},
		operation.Op{Verb: operation.VOpen, Handle: 2, Req: 2, A: uint64(operation.KQueue), Key: []byte("c")},
		operation.Op{Verb: operation.VCounterAdd, Handle: 1, Req: 3, A: 1},
		operation.Op{Verb: operation.VClose, Handle: 1, Req: 4},
		operation.Op{Verb: operation.VOpen, Handle: 2, Req: 5, A: uint64(operation.KQueue), Key: []byte("c")}, // it is not 0: it stays
		operation.Op{Verb: operation.VOpen, Handle: 1, Req: 6, A: uint64(operation.KCounter), Key: []byte("c")},
		operation.Op{Verb: operation.VDestroy, Handle: 1, Req: 7},
		operation.Op{Verb: operation.VCounterLoad, Handle: 1, Req: 8},
		operation.Op{Verb: operation.VOpen, Handle: 2, Req: 9, A: uint64(operation.KQueue), Key: []byte("c")},
		operation.Op{Verb: operation.VClose, Handle: 2, Req: 10},
	))
	w.cut()
	all, _ := w.told(t, 7)
	var codes []machine.Code
	for _, o := range all {
		if o.Req != 0 { // not what is told by handle
			codes = append(codes, o.Code)
		}
	}
	want := []machine.Code{machine.OK, machine.Invalid, machine.OK, machine.OK, machine.Invalid, machine.OK, machine.OK, machine.Gone, machine.OK, machine.OK}
	if !slices.Equal(codes, want) {
		t.Fatalf("%v", codes)
	}
	if len(w.names) != 0 {
		t.Fatal("an idle object that nobody has open is kept")
	}
}

// An object that a session has opened twice is closed when both are: else another session would have another
// lock of that name meanwhile.
func TestShard_OpenTwiceIsClosedTwice(t *testing.T) {
	open := func(h, req uint64) operation.Op {
		return operation.Op{Verb: operation.VOpen, Handle: h, Req: req, A: uint64(operation.KLock), Key: []byte("l")}
	}
	want := operation.LockOp(locks.Op{Verb: locks.DoWant, Mode: locks.Write})
	w := newWorld()
	w.Apply(1, opening(7))
	w.Apply(1, opening(8))
	w.Apply(2, entry(7, 1, 0, open(1, 0), open(2, 0)))
	if err := w.Restore(w.Snapshot()); err != nil {
		t.Fatal(err)
	}
	w.Lead(2)
	want.Handle = 2
	w.Apply(2, entry(7, 3, 0, operation.Op{Verb: operation.VClose, Handle: 1}, want))
	want.Handle = 1
	w.Apply(3, entry(8, 1, 0, open(1, 0), want))
	w.cut()
	all, _ := w.told(t, 7)
	var codes []machine.Code
	for _, o := range all {
		if o.Req == 0 && o.Handle != 2 {
			t.Errorf("told of number %d", o.Handle)
		}
		codes = append(codes, o.Code)
	}
	if len(codes) != 2 || codes[0] != machine.Granted || codes[1] != machine.Recall {
		t.Errorf("the first is told %v", codes)
	}
	if all, _ := w.told(t, 8); len(all) != 0 {
		t.Errorf("the second has the lock too: %+v", all)
	}
	w.Apply(4, entry(7, 5, 0, operation.Op{Verb: operation.VClose, Handle: 2}))
	w.cut()
	if all, _ := w.told(t, 8); len(all) != 1 || all[0].Code != machine.Granted {
		t.Errorf("the second is told %+v", all)
	}
}

func TestShard_AnOutboxThatIsNotAcknowledgedEndsItsSession_H2(t *testing.T) {
	w := newWorld()
	w.Apply(1, opening(7))
	w.Apply(1, entry(7, 1, 0, operation.Op{Verb: operation.VOpen, Handle: 1, A: uint64(operation.KMap), Key: []byte("m")}))
	n, val := uint64(2), make([]byte, 512<<10)
	for range 2 * maxOutbox / len(val) {
		w.Apply(1, entry(7, n, 0, operation.Op{Verb: operation.VMapStore, Handle: 1, Key: []byte("k"), Val: val}, operation.Op{Verb: operation.VMapLoad, Handle: 1, Req: n + 1, Key: []byte("k")}))
		n += 2
	}
	w.cut()
	if _, f := w.told(t, 7); f.Type != operation.FrameOver || w.sessions[7] != nil {
		t.Fatalf("%+v", f)
	}
}

// One that is silent is not waited for either: what is told to it is bounded, whoever makes it be told.
func TestShard_ASilentSessionIsBounded_L12(t *testing.T) {
	w := newWorld()
	w.Apply(1, opening(7))
	w.Apply(1, opening(8))
	open := func(h uint64, kind operation.Kind) operation.Op {
		return operation.Op{Verb: operation.VOpen, Handle: h, A: uint64(kind), Key: fmt.Append(nil, kind)}
	}
	w.Apply(1, entry(7, 1, 0, open(1, operation.KTopic), operation.Op{Verb: operation.VSubscribe, Handle: 1, Req: 2}, operation.Op{Verb: operation.VSubscribe, Handle: 1, Req: 3},
		open(2, operation.KMap), operation.Op{Verb: operation.VMapWatch, Handle: 2, Req: 5, A: 1}, open(3, operation.KQueue)))
	w.Apply(1, entry(8, 1, 0, open(1, operation.KTopic), open(2, operation.KMap), open(3, operation.KQueue)))
	val := make([]byte, 512<<10)
	n := uint64(4)
	do := func(op operation.Op) {
		op.Val = val
		w.Apply(2, entry(8, n, 0, op))
		w.cut()
		n++
	}
	for range 2 * maxBehind / len(val) {
		do(operation.Op{Verb: operation.VPublish, Handle: 1})
		do(operation.Op{Verb: operation.VMapStore, Handle: 2, Key: []byte("k")})
	}
	all, _ := w.told(t, 7)
	if n := len(all) - 3; n < 1 || n*len(val) > maxWay+2*len(val) { // the first three are answers
		t.Errorf("%d outputs are on the way", n)
	}
	ses := w.sessions[7]
	if ses == nil || ses.out.size < maxBehind || ses.out.size > maxBehind+2*len(val) {
		t.Fatal("kept:", ses != nil)
	}
	refused := map[uint64]int{}
	for got := uint64(0); len(all) > 0; all, _ = w.told(t, 7) { // it wakes up
		for _, o := range all {
			if o.Code == machine.Refused {
				refused[o.Req]++
			}
		}
		got += uint64(len(all))
		w.Apply(3, operation.AppendEntry(nil, &operation.Entry{Type: operation.EntryOps, Session: 7, First: 7, Ack: got}))
		w.cut()
	}
	if len(refused) != 3 || refused[2] != 1 || refused[3] != 1 || refused[5] != 1 {
		t.Errorf("cut off: %v", refused)
	}
	w.Apply(3, entry(8, n, 0, operation.Op{Verb: operation.VPublish, Handle: 1, Req: n}))
	n++
	w.cut()
	if all, _ := w.told(t, 8); all[len(all)-1].Aux != 0 {
		t.Errorf("%d subscriptions are left", all[len(all)-1].Aux)
	}
	take := uint64(7) // what it asked for is told, as far as that goes
	for range 2 * maxOutbox / len(val) {
		w.Apply(4, entry(7, take, 0, operation.Op{Verb: operation.VTake, Handle: 3, Req: take, A: 1}))
		take++
	}
	if w.sessions[7] == nil {
		t.Fatal("it is over")
	}
	for range 2 * maxOutbox / len(val) {
		do(operation.Op{Verb: operation.VPut, Handle: 3})
		if s := w.sessions[7]; s != nil && s.out.size > maxOutbox {
			t.Fatal("kept:", s.out.size)
		}
	}
	if w.sessions[7] != nil || w.sessions[8] == nil {
		t.Error("the wrong one is over")
	}
}

func TestShard_AStandbyKeepsNothingOfSessionsThatComeAndGo(t *testing.T) {
	w := newWorld()
	w.Apply(1, opening(1)) // a writer with something to tell
	w.Apply(1, opening(2))
	w.Apply(1, entry(3, 1, 0))
	w.Follow()
	if len(w.dirty) != 0 || len(w.over) != 0 || w.sessions[1].dirty {
		t.Fatalf("who is to be told: %d sessions, %d that are over", len(w.dirty), len(w.over))
	}
	const sessions = 200_000 // of five entries each
	for i := range machine.Session(sessions) {
		id := 10 + i
		w.Apply(2, opening(id))
		w.Apply(2, entry(id, 1, 0, operation.Op{Verb: operation.VOpen, Handle: 1, Req: 1, A: uint64(operation.KCounter), Key: []byte("c")}))
		w.Apply(2, entry(id, 2, 1, operation.Op{Verb: operation.VCounterLoad, Handle: 1, Req: 2}))
		w.Apply(2, operation.AppendEntry(nil, &operation.Entry{Type: operation.EntryExpire, Session: id}))
		w.Apply(2, entry(id, 3, 1))
	}
	if cap(w.dirty) != 0 || cap(w.over) != 0 || len(w.owing) != 0 || len(w.sessions) != 2 || len(w.names) != 0 {
		t.Fatalf("kept: %d to be told, %d over, %d owing, %d sessions, %d names", cap(w.dirty), cap(w.over), len(w.owing), len(w.sessions), len(w.names))
	}
	w.Lead(2)
	w.Apply(3, entry(1, 1, 0, operation.Op{Verb: operation.VOpen, Handle: 1, Req: 1, A: uint64(operation.KCounter), Key: []byte("c")}))
	w.Apply(3, entry(10, 3, 1)) // one that ended meanwhile asks
	w.cut()
	for id, want := range map[machine.Session]operation.FrameType{1: operation.FrameOutputs, 2: operation.FrameOutputs, 10: operation.FrameOver} {
		if n := len(w.sent[id]); n != 1 {
			t.Errorf("session %d is told %d times", id, n)
		}
		if _, f := w.told(t, id); f.Type != want || f.Epoch != 2 {
			t.Errorf("session %d: %+v", id, f)
		}
	}
	if len(w.sent) != 0 {
		t.Errorf("others are told: %v", w.sent)
	}
}

// randomEntry makes up an entry, mostly a sensible one.
func randomEntry(r *rand.Rand, next map[machine.Session]uint64) []byte {
	id := machine.Session(1 + r.IntN(3))
	switch r.IntN(40) {
	case 0:
		next[id] = 0
		return operation.AppendEntry(nil, &operation.Entry{Type: operation.EntryExpire, Session: id})
	case 1:
		return operation.AppendEntry(nil, &operation.Entry{Type: operation.EntryAsk, Session: id, First: next[id] + 1, Ack: uint64(r.IntN(30))})
	}
	if next[id] == 0 {
		next[id] = 1
		return opening(id)
	}
	e := operation.AppendEntry(nil, &operation.Entry{Type: operation.EntryOps, Session: id, First: next[id], Ack: uint64(r.IntN(50)), Stamp: r.Uint64N(100)})
	for range r.IntN(4) {
		o := operation.Op{Handle: 1 + r.Uint64N(10), Req: next[id], A: r.Uint64N(4), B: r.Uint64N(3), Key: []byte{byte('a' + r.IntN(3))}}
		next[id]++
		switch r.IntN(8) {
		case 0, 1, 2:
			kind := 1 + r.Uint64N(uint64(operation.KEnd)-1)
			o.Verb, o.A, o.B, o.Key = operation.VOpen, kind, kind%3+1, []byte(fmt.Sprint("o", kind, r.IntN(2)))
			o.Handle = kind
		case 3:
			o.Verb = operation.Verb(1 + r.IntN(3))
		default:
			o.Verb = operation.Verb(o.Handle<<4) + operation.Verb(r.IntN(12))
			if o.Handle == uint64(operation.KLock) {
				o = operation.LockOp(locks.Op{Verb: locks.Verb(1 + r.IntN(9)), Mode: locks.Mode(1 + r.IntN(2)), Token: r.Uint64N(50), Ticket: 1 + r.Uint64N(3)})
				o.Handle = uint64(operation.KLock)
			}
			if r.IntN(2) == 0 {
				o.Val = []byte("some value")
			}
		}
		e = operation.AppendOp(e, &o)
	}
	return e
}

func TestShard_AStandbyAndASnapshotAreTheSameState(t *testing.T) {
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 1))
	for round := range 60 {
		a, b := newWorld(), newWorld()
		b.Follow()
		next := map[machine.Session]uint64{}
		for i := range 300 {
			now := int64(i * 3)
			e := randomEntry(r, next)
			a.Apply(now, e)
			b.Apply(now, e)
			if r.IntN(3) == 0 {
				a.cut()
			}
			if r.IntN(50) == 0 {
				c := newWorld()
				if err := c.Restore(b.Snapshot()); err != nil {
					t.Fatalf("seed %d round %d: %v", seed, round, err)
				}
				b = c
			}
			if r.IntN(20) == 0 && !bytes.Equal(logical(t, a), logical(t, b)) {
				t.Fatalf("seed %d round %d entry %d: the states differ", seed, round, i)
			}
		}
	}
}

// logical is a snapshot without the outboxes' bytes: where they were cut, and so
// how much of what is acknowledged is still there, is each process's own.
func logical(t *testing.T, w *world) []byte {
	t.Helper()
	c := New(Config{})
	if err := c.Restore(w.Snapshot()); err != nil {
		t.Fatal(err)
	}
	for _, ses := range c.sessions {
		ses.out.chunks = nil
	}
	return c.Snapshot()
}

func FuzzApply(f *testing.F) {
	r := rand.New(rand.NewPCG(1, 1))
	next := map[machine.Session]uint64{}
	for range 20 {
		f.Add(randomEntry(r, next))
	}
	f.Add(decisions(f, 1, "a"))
	f.Add([]byte{operation.Version, byte(operation.EntryOps), 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		w := newWorld()
		for id := range machine.Session(3) {
			w.Apply(1, opening(id+1))
		}
		w.Apply(2, b)
		w.Apply(3, decisions(t, w.View()+1, "b"))
		w.cut()
		if err := newWorld().Restore(w.Snapshot()); err != nil {
			t.Fatal(err)
		}
	})
}

func FuzzRestore(f *testing.F) {
	w := newWorld()
	r := rand.New(rand.NewPCG(2, 1))
	next := map[machine.Session]uint64{}
	for i := range 200 {
		w.Apply(int64(i), randomEntry(r, next))
	}
	f.Add(w.Snapshot())
	f.Add([]byte{snapshotVersion})
	f.Fuzz(func(_ *testing.T, b []byte) {
		_ = newWorld().Restore(b) // an error or a state, and no panic
	})
}

func FuzzFrame(f *testing.F) {
	f.Add(operation.AppendOutput(operation.AppendFrame(nil, &operation.Frame{Type: operation.FrameOutputs, First: 1}), &operation.Output{Code: machine.OK, Req: 1, Val: []byte("v")}))
	f.Fuzz(func(_ *testing.T, b []byte) {
		fr, err := operation.ParseFrame(b)
		if err != nil {
			return
		}
		var o operation.Output
		for fr.Next(&o) {
		}
	})
}

// A node whose session was lost opens what it uses under the numbers that it has given: they may be high.
func TestShard_ANewSessionOpensHighHandles(t *testing.T) {
	w := newWorld()
	w.Apply(1, opening(7))
	for i, h := range []uint64{50_000, maxHandles, maxHandles + 1, 3} {
		w.Apply(int64(i)+2, entry(7, uint64(2*i)+1, 0,
			operation.Op{Verb: operation.VOpen, Handle: h, Req: uint64(2*i) + 1, A: uint64(operation.KCounter), Key: fmt.Append(nil, "c", h)},
			operation.Op{Verb: operation.VCounterAdd, Handle: h, Req: uint64(2*i) + 2, A: 5}))
	}
	w.cut()
	all, _ := w.told(t, 7)
	if len(all) != 8 {
		t.Fatalf("%+v", all)
	}
	for i, o := range all {
		if want := i/2 != 2; (o.Code == machine.OK) != want {
			t.Errorf("answer %d: %v", i, o.Code)
		}
	}
}
