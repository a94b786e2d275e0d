package link

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/distgear/distgear/internal/engine"
	"github.com/distgear/distgear/internal/runner"
	"github.com/distgear/distgear/internal/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

// net is a server and the endpoints on it.
type network struct {
	t testing.TB
	s *engine.Server
}

func newNetwork(t testing.TB) *network {
	s, err := engine.StartServer(engine.ServerConfig{Listen: "127.0.0.1:0", Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return &network{t, s}
}

func (n *network) open(name string, serve func(*Inbound)) *Endpoint {
	c, err := engine.Dial(context.Background(), engine.ConnConfig{URLs: n.s.URL(), Name: name, Logger: quiet})
	if err != nil {
		n.t.Fatal(err)
	}
	p := runner.New()
	e, err := Open(Config{ID: NewID(time.Now()), Name: name, Prefix: "dg.test", Conn: c, Runner: p, Serve: serve, Logger: quiet})
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { e.Close(); c.Close(); p.Close() })
	return e
}

func echo(in *Inbound) { in.Reply(wire.Report{Outcome: wire.OK, Payload: in.Input}) }

func TestEcho(t *testing.T) {
	n := newNetwork(t)
	a, b := n.open("a", nil), n.open("b", echo)
	var wg sync.WaitGroup
	for i := range 200 {
		wg.Go(func() {
			want := strings.Repeat(fmt.Sprint(i, " "), i)
			r, err := a.Do(t.Context(), b.ID(), &wire.Command{Kind: "echo", Input: []byte(want)}, time.Minute)
			if err != nil || r.Outcome != wire.OK || string(r.Payload) != want {
				t.Errorf("%d: %v %v %q", i, err, r.Outcome, r.Payload)
			}
		})
	}
	wg.Wait()
	if n := a.Load(b.ID()); n != 0 {
		t.Fatalf("%d slots are still taken", n)
	}
}

func TestErrorsCross(t *testing.T) {
	n := newNetwork(t)
	want := wire.Error{Message: "m", Stack: "s", Chain: []string{"x"}, Flags: 5, AfterMS: 7}
	a := n.open("a", nil)
	b := n.open("b", func(in *Inbound) { in.Reply(wire.Report{Outcome: wire.Clean, Error: &want}) })
	r, err := a.Do(t.Context(), b.ID(), &wire.Command{Kind: "x"}, 0)
	if err != nil || r.Outcome != wire.Clean || r.Error == nil || r.Error.Message != "m" || r.Error.AfterMS != 7 {
		t.Fatalf("%+v %v", r, err)
	}
}

// A command whose caller stopped waiting is cancelled, and frees its slot when
// it ends.
func TestCancelReachesTheHandler(t *testing.T) {
	n := newNetwork(t)
	started := make(chan struct{})
	a := n.open("a", nil)
	b := n.open("b", func(in *Inbound) {
		close(started)
		<-in.Done()
		in.Reply(wire.Report{Outcome: wire.Dirty})
	})
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-started; cancel() }()
	if _, err := a.Do(ctx, b.ID(), &wire.Command{Kind: "x"}, 0); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	eventually(t, func() bool { return a.Load(b.ID()) == 0 })
}

// A resent command is answered and not run again; what never arrived is
// refused from then on.
func TestAtMostOnce(t *testing.T) {
	n := newNetwork(t)
	var ran atomic.Int64
	b := n.open("b", func(in *Inbound) { ran.Add(1); echo(in) })
	a := n.open("a", nil)
	got := make(chan wire.Frame, 16)
	raw, err := engine.Dial(t.Context(), engine.ConnConfig{URLs: n.s.URL(), Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	const life = 42
	stop, err := raw.Subscribe("dg.test.n.2a", func(data []byte) {
		r, _ := wire.Read(data)
		var f wire.Frame
		for r.Next(&f) {
			got <- f
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	send := func(f func(b []byte) []byte) {
		if err := raw.Publish("dg.test.n."+b.ID().String(), f(wire.AppendHeader(nil, life, "raw"))); err != nil {
			t.Fatal(err)
		}
	}
	cmd := wire.Command{Kind: "x", Input: []byte("hi")}
	for range 3 {
		send(func(b []byte) []byte { return wire.AppendCommand(b, 0, 1, &cmd) })
		if f := <-got; f.Report.Outcome != wire.OK || string(f.Report.Payload) != "hi" {
			t.Fatalf("%+v", f)
		}
	}
	send(func(b []byte) []byte { return wire.AppendSlot(b, wire.TAsk, 0, 1) })
	if f := <-got; f.Report.Outcome != wire.OK {
		t.Fatalf("asked: %+v", f)
	}
	send(func(b []byte) []byte { return wire.AppendSlot(b, wire.TAsk, 0, 2) }) // never arrived
	if f := <-got; f.Report.Outcome != wire.NeverRan {
		t.Fatalf("asked for what never arrived: %+v", f)
	}
	send(func(b []byte) []byte { return wire.AppendCommand(b, 0, 2, &cmd) }) // too late now
	if f := <-got; f.Report.Outcome != wire.NeverRan {
		t.Fatalf("came after it was refused: %+v", f)
	}
	if ran.Load() != 1 {
		t.Fatalf("ran %d times", ran.Load())
	}
	// Garbage harms nobody (S17).
	for _, g := range [][]byte{nil, {0}, {9, 9, 9}, append(wire.AppendHeader(nil, life, ""), 0xff), wire.AppendSlot(wire.AppendHeader(nil, life, ""), wire.TAsk, 1<<31, 1)} {
		_ = raw.Publish("dg.test.n."+b.ID().String(), g)
	}
	if r, err := a.Do(t.Context(), b.ID(), &cmd, 0); err != nil || r.Outcome != wire.OK {
		t.Fatal(r, err)
	}
}

// Reports that were lost on the way are asked for.
func TestLostReportsAreAskedFor(t *testing.T) {
	n := newNetwork(t)
	a := n.open("a", nil)
	b := n.open("b", func(in *Inbound) {
		if string(in.Input) == "lose" { // done, and its report vanishes
			in.box.mu.Lock()
			s := &in.box.slots[in.ref.slot]
			s.state, s.in, s.at = done, nil, in.box.e.now()
			s.rep = wire.Report{Outcome: wire.OK, Payload: []byte("found")}
			in.box.mu.Unlock()
			return
		}
		echo(in)
	})
	r, err := a.Do(t.Context(), b.ID(), &wire.Command{Kind: "x", Input: []byte("lose")}, 0)
	if err != nil || string(r.Payload) != "found" {
		t.Fatal(r, err)
	}
}

// What a handler gave its context to may keep it: the command after it in the
// same slot has another, though it uses the rest again. Its result does not
// show through either.
func TestFreedCommandsAreUsedAgain(t *testing.T) {
	n := newNetwork(t)
	var kept []*runner.Context
	seen := map[*Inbound]bool{}
	hang := make(chan struct{}, 1)
	a := n.open("a", nil)
	b := n.open("b", func(in *Inbound) {
		kept, seen[in] = append(kept, in.Context), true
		if string(in.Input) == "hang" {
			hang <- struct{}{}
			<-in.Done()
		}
		echo(in)
		in.Free()
	})
	for i := range 50 {
		want := strings.Repeat("x", 10*(50-i))
		r, err := a.Do(t.Context(), b.ID(), &wire.Command{Kind: "x", Input: []byte(want)}, 0)
		if err != nil || string(r.Payload) != want {
			t.Fatal(r, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-hang; cancel() }()
	if _, err := a.Do(ctx, b.ID(), &wire.Command{Kind: "x", Input: []byte("hang")}, 0); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	eventually(t, func() bool { return a.Load(b.ID()) == 0 })
	for i, c := range kept {
		if last := i == len(kept)-1; (c.Err() != nil) != last {
			t.Errorf("context %d of %d: %v", i, len(kept), c.Err())
		}
	}
	if len(seen) > 40 {
		t.Errorf("%d commands for %d calls, one after the other", len(seen), len(kept))
	}
}

// recorder keeps what it is told.
type recorder chan wire.Report

func (c recorder) Report(r wire.Report) { c <- r }

// A command that is not reported in time is unknown; what comes later is told
// as late (S12). The end of a session says that it can no longer be running.
func TestUnknownThenLate_S12(t *testing.T) {
	n := newNetwork(t)
	release := make(chan struct{})
	a := n.open("a", nil)
	b := n.open("b", func(in *Inbound) { <-release; echo(in) })
	rec := make(recorder, 4)
	if _, err := a.Start(b.ID(), &wire.Command{Kind: "x", Input: []byte("1")}, time.Millisecond, rec); err != nil {
		t.Fatal(err)
	}
	if r := <-rec; r.Outcome != wire.Unknown || r.Over {
		t.Fatalf("%+v", r)
	}
	a.Over(b.ID())
	if r := <-rec; r.Outcome != wire.Unknown || !r.Over {
		t.Fatalf("%+v", r)
	}
	if _, err := a.Start(b.ID(), &wire.Command{Kind: "x"}, 0, rec); !errors.Is(err, ErrOver) {
		t.Fatalf("sent to a node that is over: %v", err)
	}
	a.Back(b.ID())
	close(release)
	if r := <-rec; r.Outcome != wire.OK || !r.Late {
		t.Fatalf("%+v", r)
	}
}

// The credits are an error, not a drop; undoing has room of its own (S13).
func TestOverload_S13(t *testing.T) {
	n := newNetwork(t)
	release := make(chan struct{})
	a := n.open("a", nil)
	b := n.open("b", func(in *Inbound) {
		if in.Flags&wire.Undo == 0 {
			<-release
		}
		echo(in)
	})
	rec := make(recorder, Slots+10)
	c := &wire.Command{Kind: "x"}
	sent := 0
	for {
		_, err := a.Start(b.ID(), c, 0, rec)
		if errors.Is(err, ErrOverloaded) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		sent++
	}
	if sent < Slots/2 {
		t.Fatalf("only %d", sent)
	}
	undo := make(recorder, 1)
	if _, err := a.Start(b.ID(), &wire.Command{Kind: "x", Flags: wire.Undo}, 0, undo); err != nil {
		t.Fatal(err)
	}
	if r := <-undo; r.Outcome != wire.OK {
		t.Fatalf("%+v", r)
	}
	close(release)
	for range sent {
		if r := <-rec; r.Outcome != wire.OK {
			t.Fatalf("%+v", r)
		}
	}
}

// Sends arrive in any number, the sender is held back and none is lost.
func TestSends(t *testing.T) {
	n := newNetwork(t)
	var sum, count atomic.Int64
	all := make(chan struct{})
	const each, senders = 50_000, 2
	a := n.open("a", nil)
	b := n.open("b", func(in *Inbound) {
		sum.Add(int64(len(in.Input)))
		if count.Add(1) == each*senders {
			close(all)
		}
	})
	for range senders {
		go func() {
			for i := range each {
				if err := a.Send(t.Context(), b.ID(), &wire.Command{Kind: "x", Input: make([]byte, i%3)}); err != nil {
					t.Error(err)
				}
			}
		}()
	}
	<-all
	want := int64(0)
	for i := range each {
		want += int64(i % 3)
	}
	if sum.Load() != want*senders {
		t.Fatal(sum.Load())
	}
}

// What does not fit into a message is refused before it is sent.
func TestTooLarge(t *testing.T) {
	n := newNetwork(t)
	a, b := n.open("a", nil), n.open("b", func(in *Inbound) {
		in.Reply(wire.Report{Outcome: wire.OK, Payload: make([]byte, 5<<20)})
	})
	if _, err := a.Do(t.Context(), b.ID(), &wire.Command{Kind: "x", Input: make([]byte, 5<<20)}, 0); !errors.Is(err, ErrTooLarge) {
		t.Fatal(err)
	}
	r, err := a.Do(t.Context(), b.ID(), &wire.Command{Kind: "x"}, 0)
	if err != nil || r.Outcome != wire.Dirty {
		t.Fatal(r, err)
	}
}

func eventually(t *testing.T, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(10 * time.Second); !ok(); <-tick.C {
		if time.Now().After(end) {
			t.Fatal("not within 10s")
		}
	}
}

func BenchmarkDo(b *testing.B) {
	n := newNetwork(b)
	a, z := n.open("a", nil), n.open("b", echo)
	in := []byte(strings.Repeat("x", 100))
	b.Run("sequential", func(b *testing.B) {
		for b.Loop() {
			_, _ = a.Do(context.Background(), z.ID(), &wire.Command{Kind: "echo", Input: in}, time.Minute)
		}
	})
	b.Run("1024", func(b *testing.B) {
		b.SetParallelism(512)
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				_, _ = a.Do(context.Background(), z.ID(), &wire.Command{Kind: "echo", Input: in}, time.Minute)
			}
		})
	})
	b.Run("send", func(b *testing.B) {
		for b.Loop() {
			_ = a.Send(context.Background(), z.ID(), &wire.Command{Kind: "echo", Input: in[:8]})
		}
	})
}
