package client_test

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/distgear/distgear/internal/client"
	"github.com/distgear/distgear/internal/engine"
	"github.com/distgear/distgear/internal/machine"
	"github.com/distgear/distgear/internal/operation"
	"github.com/distgear/distgear/internal/shard"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// desk is a writer without a log: what it applies it releases at once.
type desk struct {
	conn  *engine.Conn
	mu    sync.Mutex
	shard *shard.Shard
	drop  func(entry []byte) bool // what shall be lost on the way
	mute  func(frame []byte) bool
	stop  func()
	to    machine.Session // of the last frame
}

const prefix = "dg.test"

func newDesk(t *testing.T) (*desk, *engine.Server) {
	t.Helper()
	s, err := engine.StartServer(engine.ServerConfig{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	conn, err := engine.Dial(t.Context(), engine.ConnConfig{Server: s})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	d := &desk{conn: conn}
	d.shard = shard.New(shard.Config{Send: d.send})
	d.shard.Lead(1)
	d.stop, err = conn.Subscribe(client.EntrySubject(prefix), d.apply)
	if err != nil {
		t.Fatal(err)
	}
	quit := make(chan struct{})
	var ticker sync.WaitGroup
	ticker.Go(func() {
		for {
			select {
			case <-time.After(10 * time.Millisecond):
				d.tick()
			case <-quit:
				return
			}
		}
	})
	t.Cleanup(func() { close(quit); ticker.Wait() })
	return d, s
}

func (d *desk) send(to machine.Session, frame []byte) {
	d.to = to
	if d.mute == nil || !d.mute(frame) {
		_ = d.conn.Publish(client.FrameSubject(prefix, to), frame)
	}
}

func (d *desk) apply(entry []byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.drop != nil && d.drop(entry) {
		return
	}
	d.shard.Apply(time.Now().UnixMilli(), entry)
	if r := d.shard.Cut(); r != nil {
		r.Release()
	}
}

// tick is what a ledger does when the state wants one.
func (d *desk) tick() {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := time.Now().UnixMilli()
	if due := d.shard.Due(); due == 0 || due > now {
		return
	}
	d.shard.Apply(now, nil)
	if r := d.shard.Cut(); r != nil {
		r.Release()
	}
}

func join(t *testing.T, s *engine.Server, ttl time.Duration) *client.Client {
	t.Helper()
	conn, err := engine.Dial(t.Context(), engine.ConnConfig{Server: s})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	c := client.New(client.Config{Conn: conn, Prefix: prefix, Name: t.Name(), TTL: ttl})
	t.Cleanup(c.Close)
	return c
}

func add(n int64) operation.Op { return operation.Op{Verb: operation.VCounterAdd, A: uint64(n)} }

func TestClient_EachOperationIsAppliedOnceInOrder(t *testing.T) {
	d, s := newDesk(t)
	seed := rand.Uint64()
	t.Log("seed", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	d.drop = func([]byte) bool { return r.IntN(5) == 0 }
	d.mute = func([]byte) bool { return r.IntN(5) == 0 }
	c := join(t, s, 30*time.Second)
	o := c.Object(operation.KCounter, "n", 0, nil)
	var wg sync.WaitGroup
	const each = 3
	for range 8 {
		wg.Go(func() {
			for range each {
				if _, err := o.Do(t.Context(), add(1), false); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	a, err := o.Do(t.Context(), add(0), false)
	if err != nil || a.Num != 8*each {
		t.Fatalf("%d, %v", a.Num, err)
	}
}

func TestClient_ASilentHubEndsTheSessionAndAnotherBegins(t *testing.T) {
	d, s := newDesk(t)
	c := join(t, s, 400*time.Millisecond)
	o := c.Object(operation.KCounter, "n", 0, nil)
	if _, err := o.Do(t.Context(), add(1), false); err != nil {
		t.Fatal(err)
	}
	before, _ := c.Session()
	d.mu.Lock() // the hub takes up nothing
	_, err := o.Do(t.Context(), add(1), false)
	d.mu.Unlock()
	if !errors.Is(err, client.ErrLost) {
		t.Fatalf("want lost, got %v", err)
	}
	a, err := o.Do(t.Context(), add(1), false)
	if err != nil || a.Num < 2 || a.Num > 3 {
		t.Fatalf("%+v, %v", a, err)
	}
	if now, ok := c.Session(); !ok || now == before {
		t.Fatalf("session %d after %d", now, before)
	}
}

func TestClient_AnotherKindUnderTheNameIsAnError(t *testing.T) {
	_, s := newDesk(t)
	c := join(t, s, time.Minute)
	if _, err := c.Object(operation.KCounter, "n", 0, nil).Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	_, err := c.Object(operation.KCounter, "n", 7, nil).Open(t.Context())
	var k *client.KindError
	if !errors.As(err, &k) {
		t.Fatalf("got %v", err)
	}
}

func TestClient_ContextEndsAWait(t *testing.T) {
	d, s := newDesk(t)
	c := join(t, s, time.Minute)
	o := c.Object(operation.KCounter, "n", 0, nil)
	if _, err := o.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := o.Do(ctx, add(1), false); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("got %v", err)
	}
}

func TestClient_GivingBackIsNeverRefused(t *testing.T) {
	d, s := newDesk(t)
	c := join(t, s, 30*time.Second)
	o := c.Object(operation.KTopic, "t", 0, nil)
	now, err := o.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	d.mu.Lock() // the hub takes up nothing
	defer d.mu.Unlock()
	large := operation.Op{Verb: operation.VPublish, Val: make([]byte, 600<<10)}
	for err == nil {
		_, err = o.Start(now, ignore{}, large)
	}
	if !errors.Is(err, client.ErrOverloaded) {
		t.Fatal(err)
	}
	if _, err := o.Start(now, nil, operation.Op{Verb: operation.VUnsubscribe, A: 1}); err != nil {
		t.Fatal(err)
	}
}

// Nor is the end of a watcher: the hub would go on telling one that nobody listens to.
func TestClient_EndingIsNeverRefused(t *testing.T) {
	d, s := newDesk(t)
	c := join(t, s, 30*time.Second)
	o := c.Object(operation.KMap, "m", 0, nil)
	now, err := o.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var told counted
	req, err := o.Start(now, &told, operation.Op{Verb: operation.VMapWatch, A: 1})
	if err != nil {
		t.Fatal(err)
	}
	store := operation.Op{Verb: operation.VMapStore, Key: []byte("k"), Val: make([]byte, 600<<10)}
	for range 2 { // the change comes behind the answer of what made it
		if _, err := o.Do(t.Context(), store, false); err != nil {
			t.Fatal(err)
		}
	}
	d.mu.Lock() // the hub takes up nothing
	for err == nil {
		_, err = o.Start(now, ignore{}, operation.Op{Verb: operation.VMapLoad, Key: make([]byte, 600<<10)})
	}
	if !errors.Is(err, client.ErrOverloaded) {
		t.Fatal(err)
	}
	o.End(now, req, operation.Op{Verb: operation.VMapUnwatch, A: req})
	d.mu.Unlock()
	for {
		_, err := o.Do(t.Context(), store, false)
		if err == nil {
			break
		}
		if !errors.Is(err, client.ErrOverloaded) { // until the hub has taken up some of it
			t.Fatal(err)
		}
	}
	if n := told.n.Load(); n > 3 { // its answer and two changes
		t.Fatalf("one that has ended was told %d times", n)
	}
	if n := c.Waiting(); n > 0 {
		t.Fatalf("%d receivers are kept", n)
	}
}

// counted counts what it is told.
type counted struct{ n atomic.Int32 }

func (c *counted) Output(*operation.Output) bool { c.n.Add(1); return false }
func (*counted) Lost()                           {}

// ignore waits for an answer that does not matter.
type ignore struct{}

func (ignore) Output(*operation.Output) bool { return true }
func (ignore) Lost()                         {}

func BenchmarkDo(b *testing.B) {
	s, err := engine.StartServer(engine.ServerConfig{})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	conn, _ := engine.Dial(b.Context(), engine.ConnConfig{Server: s})
	defer conn.Close()
	d := &desk{conn: conn}
	d.shard = shard.New(shard.Config{Send: d.send})
	d.shard.Lead(1)
	stop, _ := conn.Subscribe(client.EntrySubject(prefix), d.apply)
	defer stop()
	conn2, _ := engine.Dial(b.Context(), engine.ConnConfig{Server: s})
	defer conn2.Close()
	c := client.New(client.Config{Conn: conn2, Prefix: prefix, Name: "b", TTL: time.Minute})
	defer c.Close()
	o := c.Object(operation.KCounter, "n", 0, nil)
	b.ReportAllocs()
	b.SetParallelism(128)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := o.Do(b.Context(), add(1), false); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

// sink notes when its object is lost.
type sink struct{ lost chan time.Time }

func (*sink) Event(*operation.Output) {}
func (s *sink) Lost()                 { s.lost <- time.Now() }

// L3: whoever lost a session has its margin to stop before the hub is told that what it held is free.
func TestClient_WhatIsLostIsNotFreeAtOnce(t *testing.T) {
	d, s := newDesk(t)
	var deaf atomic.Bool
	over := make(chan time.Time, 1)
	d.drop = func(entry []byte) bool {
		e, err := operation.ParseEntry(entry)
		if err == nil && e.Type == operation.EntryExpire {
			select {
			case over <- time.Now():
			default:
			}
		}
		return deaf.Load() && e.Type != operation.EntryOpen
	}
	const ttl = 800 * time.Millisecond
	c := join(t, s, ttl)
	lost := &sink{make(chan time.Time, 8)}
	if _, err := c.Object(operation.KLock, "l", 0, lost).Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	deaf.Store(true) // what it sends arrives no more
	at := <-lost.lost
	deaf.Store(false)
	if told := <-over; told.Sub(at) < ttl/8*9/10 {
		t.Fatalf("the hub was told %v after it was lost, the margin is %v", told.Sub(at), ttl/8)
	}
}

// What opens a session is lost, and comes twice.
func TestClient_OpeningIsLostAndRepeated(t *testing.T) {
	d, s := newDesk(t)
	var opens, frames atomic.Int32
	d.drop = func(entry []byte) bool {
		e, _ := operation.ParseEntry(entry)
		if e.Type != operation.EntryOpen {
			return false
		}
		if opens.Add(1) > 1 { // and the third time once more
			d.shard.Apply(time.Now().UnixMilli(), entry)
		}
		return opens.Load() == 1
	}
	d.mute = func([]byte) bool { return frames.Add(1) <= 2 }
	c := join(t, s, 10*time.Second)
	o := c.Object(operation.KCounter, "n", 0, nil)
	for i := range uint64(3) {
		if a, err := o.Do(t.Context(), add(1), false); err != nil || a.Num != i+1 {
			t.Fatal(a, err)
		}
	}
	if opens.Load() < 2 {
		t.Fatal("nothing was lost")
	}
}

// Every message arrives twice, both ways.
func TestClient_EverythingTwice(t *testing.T) {
	d, s := newDesk(t)
	d.drop = func(entry []byte) bool {
		d.shard.Apply(time.Now().UnixMilli(), entry)
		return false
	}
	conn := d.conn
	d.mute = func(frame []byte) bool {
		f := bytes.Clone(frame)
		if to := d.to; to != 0 {
			_ = conn.Publish(client.FrameSubject(prefix, to), f)
		}
		return false
	}
	c := join(t, s, 10*time.Second)
	o := c.Object(operation.KCounter, "n", 0, nil)
	for i := range uint64(100) {
		if a, err := o.Do(t.Context(), add(1), false); err != nil || a.Num != i+1 {
			t.Fatal(a, err)
		}
	}
}

// A session that the hub ended while its operations are sent again: they are unknown, and none of them is done in the next session.
func TestClient_ExpiredWhileItSendsAgain(t *testing.T) {
	d, s := newDesk(t)
	c := join(t, s, 10*time.Second)
	o := c.Object(operation.KCounter, "n", 0, nil)
	if _, err := o.Do(t.Context(), add(1), false); err != nil {
		t.Fatal(err)
	}
	id, _ := c.Session()
	var dropped atomic.Int32
	d.mu.Lock()
	d.drop = func(entry []byte) bool {
		e, _ := operation.ParseEntry(entry)
		return e.Session == id && dropped.Add(1) <= 3
	}
	d.mu.Unlock()
	const each = 8
	var wg sync.WaitGroup
	var unknown atomic.Int32
	for range each {
		wg.Go(func() {
			if _, err := o.Do(t.Context(), add(1), false); errors.Is(err, client.ErrLost) {
				unknown.Add(1)
			} else if err != nil {
				t.Error(err)
			}
		})
	}
	d.mu.Lock()
	d.shard.Apply(time.Now().UnixMilli(), operation.AppendEntry(nil, &operation.Entry{Type: operation.EntryExpire, Session: id}))
	d.mu.Unlock()
	wg.Wait()
	a, err := o.Do(t.Context(), add(0), false)
	if err != nil || a.Num > 1+each || int32(a.Num) < 1+each-unknown.Load() {
		t.Fatalf("%d, %v; %d unknown", a.Num, err, unknown.Load())
	}
	if now, ok := c.Session(); !ok || now == id {
		t.Fatal("the session is not another one")
	}
}

// A loss names what was not confirmed, and not more of it than anybody reads.
func TestClient_LossNamesWhatIsUnknown(t *testing.T) {
	d, s := newDesk(t)
	c := join(t, s, 600*time.Millisecond)
	o := c.Object(operation.KCounter, "n", 0, nil)
	if _, err := o.Do(t.Context(), add(1), false); err != nil {
		t.Fatal(err)
	}
	id, _ := c.Session()
	d.mu.Lock() // the hub takes up nothing
	var wg sync.WaitGroup
	for range client.MaxLoss + 6 {
		wg.Go(func() {
			if _, err := o.Do(t.Context(), add(1), false); !errors.Is(err, client.ErrLost) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	d.mu.Unlock()
	loss := c.Loss()
	if loss.Session != id || len(loss.Unconfirmed) != client.MaxLoss || loss.More != 6 || loss.Unconfirmed[0] != `counter add of "n"` {
		t.Fatalf("%+v", loss)
	}
}
