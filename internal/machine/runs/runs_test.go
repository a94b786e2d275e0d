package runs_test

import (
	"bytes"
	"errors"
	"reflect"
	"testing"

	"github.com/distgear/distgear/internal/machine/runs"
	"github.com/distgear/distgear/internal/machine/tasks"
)

func TestRun_LeaseBringsTheJournalAndWhatIsNotTaken(t *testing.T) {
	var r runs.Run
	for _, name := range []string{"go", "stop", "go"} {
		if _, wake, err := r.Signal(name, []byte(name)); err != nil || wake {
			t.Fatal(wake, err)
		}
	}
	for _, u := range []string{"one", "two"} {
		if err := r.Append([]byte(u), nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.Append(nil, []uint64{1}); err != nil {
		t.Fatal(err)
	}
	r.Cancel()
	l, err := runs.ParseLease(r.AppendLease(nil))
	want := runs.Lease{
		Cancelled: true, Units: [][]byte{[]byte("one"), []byte("two")},
		Signals: []runs.Signal{{Number: 2, Name: "stop", Value: []byte("stop")}, {Number: 3, Name: "go", Value: []byte("go")}},
	}
	if err != nil || !reflect.DeepEqual(l, want) {
		t.Fatalf("%+v, %v; not %+v", l, err, want)
	}
}

func TestRun_SignalWakesWhoWaitsForIt(t *testing.T) {
	var r runs.Run
	if r.Suspend([]string{"a", "b"}) {
		t.Fatal("ready without a signal")
	}
	if _, wake, _ := r.Signal("c", nil); wake {
		t.Error("woken by another signal")
	}
	if _, wake, _ := r.Signal("b", nil); !wake {
		t.Error("not woken")
	}
	if _, wake, _ := r.Signal("b", nil); wake {
		t.Error("woken twice")
	}
	if !r.Suspend([]string{"b"}) {
		t.Error("the signal is there, and it waits all the same")
	}
	if err := r.Append(nil, []uint64{2, 3}); err != nil {
		t.Fatal(err)
	}
	if r.Suspend([]string{"b"}) {
		t.Error("ready for a signal that was taken")
	}
	if r.Suspend(nil) {
		t.Error("ready before its time")
	}
	if _, wake, _ := r.Signal("b", nil); wake {
		t.Error("woken by what it waited for before")
	}
	r.Cancel()
	if !r.Suspend(nil) {
		t.Error("a cancelled run rests")
	}
}

func TestRun_PanicsInARowPark(t *testing.T) {
	var r runs.Run
	twice := func() {
		t.Helper()
		for range 2 {
			if r.Panicked() {
				t.Fatal("parked too early")
			}
		}
	}
	twice()
	if err := r.Append([]byte("u"), nil); err != nil {
		t.Fatal(err)
	}
	if twice(); !r.Panicked() {
		t.Error("want the third in a row")
	}
}

func TestRun_Bounds(t *testing.T) {
	var r runs.Run
	if err := r.Append(make([]byte, runs.MaxJournal+1), nil); !errors.Is(err, tasks.ErrJournal) {
		t.Error(err)
	}
	for range runs.MaxSignals {
		if _, _, err := r.Signal("s", nil); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := r.Signal("s", nil); !errors.Is(err, tasks.ErrSignals) {
		t.Error(err)
	}
}

func TestRun_Snapshot(t *testing.T) {
	var r runs.Run
	states := []func(){
		func() {},
		func() { _ = r.Append([]byte("unit"), nil) },
		func() { _, _, _ = r.Signal("s", []byte("v")) },
		func() { r.Suspend([]string{"x", "y"}) },
		func() { r.Panicked() },
		func() { r.Cancel(); r.Adopt() },
		func() { r.Begin(1<<63 | 5) },
		func() { r.Note(runs.Note{At: 5, Verb: "cancel", Node: "n", By: "anna", Text: "why"}) },
		func() { r.End([]byte("summary"), []byte("in"), true) },
		func() { r.Unwind() },
	}
	for i, f := range states {
		f()
		b := r.AppendBinary(nil)
		var o runs.Run
		if err := o.Restore(b); err != nil {
			t.Fatal(i, err)
		}
		if !reflect.DeepEqual(r, o) || !bytes.Equal(o.AppendBinary(nil), b) {
			t.Errorf("%d: %+v, not %+v", i, o, r)
		}
	}
}

func entries() []runs.Entry {
	l := tasks.Lease{Number: 7, Epoch: 3}
	return []runs.Entry{
		{Lease: l, Unit: []byte("unit"), Took: []uint64{1, 300}},
		{Lease: l, Unit: []byte{}, Why: runs.Suspended, In: 5000, Signals: []string{"a", "b"}},
		{Lease: l, Unit: []byte{}, Why: runs.Suspended},
		{Lease: l, Unit: []byte("u"), Why: runs.Parked, Text: "waiting for version"},
		{Lease: l, Unit: []byte{}, Why: runs.Panicked, Text: "boom"},
		{Lease: l, Unit: []byte("u"), Why: runs.Ended, Outcome: tasks.OK, Report: []byte("r"), Summary: []byte("{}"), Keep: true},
		{Lease: l, Unit: []byte("u"), Why: runs.Ended, Outcome: tasks.Dirty, Report: []byte("r"), Summary: []byte("{}"), State: "rolled back"},
		{Lease: l, Unit: []byte("u"), Stuck: "pay"},
	}
}

func TestEntry(t *testing.T) {
	for _, e := range entries() {
		got, err := runs.ParseEntry(runs.AppendEntry(nil, &e))
		if err != nil || !reflect.DeepEqual(got, e) {
			t.Errorf("%+v, %v; not %+v", got, err, e)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, e := range entries() {
		f.Add(runs.AppendEntry(nil, &e))
	}
	var r runs.Run
	_ = r.Append([]byte("unit"), nil)
	_, _, _ = r.Signal("s", []byte("v"))
	f.Add(r.AppendLease(nil))
	f.Add(r.AppendBinary(nil))
	r.Note(runs.Note{At: 5, Verb: "cancel", By: "anna"})
	f.Add(r.AppendBinary(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		if e, err := runs.ParseEntry(b); err == nil {
			if !bytes.Equal(runs.AppendEntry(nil, &e), b) {
				t.Errorf("entry %x reads as %+v", b, e)
			}
		}
		_, _ = runs.ParseLease(b)
		_, _ = runs.ParseSignal(b)
		var r runs.Run
		if r.Restore(b) == nil && !bytes.Equal(r.AppendBinary(nil), b) {
			t.Errorf("state %x is written otherwise", b)
		}
	})
}
