package tasks

import (
	"bytes"
	"math/rand/v2"
	"os"
	"testing"
)

// TestGolden: a state that another build has written is read, and written as the
// same bytes. Whoever changes the format gives it another version.
func TestGolden(t *testing.T) {
	const file = "testdata/state.golden"
	if *rewrite {
		r := rand.New(rand.NewPCG(7, 1))
		w := newTestWorld(Limits{Capacity: 40, KeyRunning: 3, Rate: 50_000, Retain: 5000})
		for i := range 120 {
			if err := step(w, r, i, true); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.m.Schedule(&w.out, Schedule[string]{Name: "s", Text: "@daily", Spec: Spec{Kind: "k"}, Val: "in", Next: 1 << 40}); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, w.bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	m := New[string](Limits{}, 0)
	if err := m.Restore(want, parseText); err != nil {
		t.Fatal(err)
	}
	if s := m.Stats(); s.Leased == 0 || s.Ready == 0 || s.Parked == 0 || s.Workers == 0 || s.Schedules != 1 {
		t.Errorf("a poor example: %+v", s)
	}
	if got := m.AppendBinary(nil, func(b []byte, v string) []byte { return append(b, v...) }); !bytes.Equal(got, want) {
		t.Error("it is written as other bytes")
	}
}

// FuzzRestore: bytes that are no state are refused, and those that are can be gone on with.
func FuzzRestore(f *testing.F) {
	golden, err := os.ReadFile("testdata/state.golden")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(golden)
	f.Fuzz(func(t *testing.T, b []byte) {
		m := New[string](Limits{}, 0)
		if m.Restore(b, parseText) != nil {
			return
		}
		var out Out[string]
		m.Resume(&out)
		m.Work(&out, 1, Offer{Slots: 2})
		for range 3 {
			m.Tick(&out, m.Due())
		}
		m.Expire(&out, 1, "")
		again := m.AppendBinary(nil, func(b []byte, v string) []byte { return append(b, v...) })
		if err := New[string](Limits{}, 0).Restore(again, parseText); err != nil {
			t.Fatal(err)
		}
	})
}
