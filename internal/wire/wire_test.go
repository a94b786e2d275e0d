package wire

import (
	"bytes"
	"reflect"
	"testing"
)

func message() []byte {
	b := AppendHeader(nil, 0xdeadbeef12345678, "node-1")
	b = AppendCommand(b, 3, 70000, &Command{Kind: "mount", Key: "r/p/mount/do", Flags: Undo | Nested, Attempt: 2, Start: -5, Run: 30000, Input: []byte("j1")})
	b = AppendCommand(b, 4, 1, &Command{Kind: "mount", Key: "r/p/mount/do", Owner: Owner{Epoch: 300, Run: 1, Number: 9, Attach: true}})
	b = AppendSend(b, 77, &Command{Kind: "ping", Input: []byte("j7")})
	b = AppendReport(b, 300, 1, &Report{Outcome: OK, Payload: []byte("rhello")})
	b = AppendReport(b, 1, 2, &Report{Outcome: Dirty, Error: &Error{Message: "m", Stack: "s", Flags: 3, AfterMS: 900, Chain: []string{"a", "b"}}})
	b = AppendSlot(b, TCancel, 9, 10)
	b = AppendSlot(b, TAsk, 11, 12)
	b = AppendCredit(b, 1<<40)
	return AppendHello(b)
}

func frames(t testing.TB, data []byte) ([]Frame, error) {
	t.Helper()
	r, err := Read(data)
	if err != nil {
		return nil, err
	}
	var fs []Frame
	var f Frame
	for r.Next(&f) {
		fs = append(fs, f)
	}
	return fs, r.Err()
}

func TestFramesRoundTrip(t *testing.T) {
	fs, err := frames(t, message())
	if err != nil {
		t.Fatal(err)
	}
	all := hasKey | hasAttempt | hasStart | hasRun
	want := []Frame{
		{Type: TCommand, Slot: 3, Gen: 70000, Flags: Undo | Nested | all, Kind: []byte("mount"), Key: []byte("r/p/mount/do"), Attempt: 2, Start: -5, Run: 30000, Input: []byte("j1")},
		{Type: TCommand, Slot: 4, Gen: 1, Flags: hasKey | hasOwner, Kind: []byte("mount"), Key: []byte("r/p/mount/do"), Attempt: 1, Input: []byte{},
			Owner: Owner{Epoch: 300, Run: 1, Number: 9, Attach: true}},
		{Type: TSend, Gen: 77, Kind: []byte("ping"), Attempt: 1, Input: []byte("j7")},
		{Type: TReport, Slot: 300, Gen: 1, Report: Report{Outcome: OK, Over: true, Payload: []byte("rhello")}},
		{Type: TReport, Slot: 1, Gen: 2, Report: Report{Outcome: Dirty, Over: true, Payload: []byte{}, Error: &Error{Message: "m", Stack: "s", Flags: 3, AfterMS: 900, Chain: []string{"a", "b"}}}},
		{Type: TCancel, Slot: 9, Gen: 10},
		{Type: TAsk, Slot: 11, Gen: 12},
		{Type: TCredit, Gen: 1 << 40},
		{Type: THello},
	}
	if !reflect.DeepEqual(fs, want) {
		t.Fatalf("frames\n got %+v\nwant %+v", fs, want)
	}
	r, _ := Read(message())
	if r.Life != 0xdeadbeef12345678 || string(r.Name) != "node-1" {
		t.Fatalf("header: %x %q", r.Life, r.Name)
	}
}

// Every prefix of a message is either refused or yields a prefix of its frames.
func TestTruncatedMessages_S17(t *testing.T) {
	data := message()
	all, _ := frames(t, data)
	for n := range data {
		fs, err := frames(t, data[:n])
		if len(fs) > len(all) || !reflect.DeepEqual(fs, all[:len(fs)]) && len(fs) > 0 {
			t.Fatalf("prefix of %d bytes: frames %v", n, fs)
		}
		if err == nil && n > 16 && len(fs) == len(all) {
			t.Fatalf("prefix of %d bytes has all frames", n)
		}
	}
}

// A command that belongs to no durable run costs no byte more.
func TestOwnerCostsNothingElsewhere(t *testing.T) {
	c := Command{Kind: "echo", Key: "k", Input: []byte("x")}
	if b := AppendCommand(nil, 1, 1, &c); len(b) != 3+1+5+2+2 {
		t.Errorf("%d bytes: %x", len(b), b)
	}
	c.Owner = Owner{Epoch: 1, Run: 1, Number: 1}
	if b := AppendCommand(nil, 1, 1, &c); len(b) != 3+1+5+2+2+3 {
		t.Errorf("with an owner %d bytes: %x", len(b), b)
	}
	b := AppendHeader(nil, 1, "n")
	for _, o := range []Owner{{Epoch: 1, Run: 2}} {
		c.Owner = o
		if _, err := frames(t, AppendCommand(b, 1, 1, &c)); err == nil {
			t.Errorf("%+v of key %q was taken", o, c.Key)
		}
	}
}

func TestParseAllocatesNothing(t *testing.T) {
	b := AppendHeader(nil, 1, "n")
	for i := range 64 {
		b = AppendCommand(b, uint32(i), 1, &Command{Kind: "echo", Input: bytes.Repeat([]byte("x"), 100)})
	}
	n := testing.AllocsPerRun(100, func() {
		r, _ := Read(b)
		var f Frame
		for r.Next(&f) {
		}
	})
	if n != 0 {
		t.Fatalf("%v allocations", n)
	}
}

// FuzzRead: arbitrary bytes never panic, and what parses is stable when it is
// written again.
func FuzzRead(f *testing.F) {
	f.Add(message())
	f.Add([]byte{})
	f.Add([]byte{Version})
	f.Add(append(AppendHeader(nil, 1, ""), 0xff, 0xff))
	f.Add(append(AppendHeader(nil, 1, "x"), byte(TReport), 1, 1, 0x11, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0x0f))
	f.Fuzz(func(t *testing.T, data []byte) {
		fs, _ := frames(t, data)
		b := AppendHeader(nil, 1, "n")
		for _, f := range fs {
			switch f.Type {
			case TCommand, TSend:
				c := Command{Kind: string(f.Kind), Key: string(f.Key), Flags: f.Flags, Attempt: f.Attempt, Start: f.Start, Run: f.Run, Input: f.Input, Owner: f.Owner}
				if f.Type == TSend {
					b = AppendSend(b, f.Gen, &c)
				} else {
					b = AppendCommand(b, f.Slot, f.Gen, &c)
				}
			case TReport:
				b = AppendReport(b, f.Slot, f.Gen, &f.Report)
			case TCancel, TAsk:
				b = AppendSlot(b, f.Type, f.Slot, f.Gen)
			case TCredit:
				b = AppendCredit(b, f.Gen)
			case THello:
				b = AppendHello(b)
			}
		}
		again, err := frames(t, b)
		if err != nil || len(again) != len(fs) {
			t.Fatalf("written again: %d frames of %d, %v", len(again), len(fs), err)
		}
	})
}
