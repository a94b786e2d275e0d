package words

import (
	"bytes"
	"errors"
	"reflect"
	"testing"
)

func full() Spec {
	return Spec{ID: "a", Kind: "render", Key: "k", Labels: "gpu=yes", Batch: "b", Priority: -3, Idempotent: true, Retries: 7, Timeout: 30_000, NotBefore: 5, Deadline: 6, Retain: 7, Size: 2}
}

func TestSpecs(t *testing.T) {
	other := full()
	other.ID, other.Size = "b", 0
	want := []Spec{{Kind: "noop", ID: "x"}, full(), other, {Kind: "noop", ID: "y", Idempotent: true, Size: 3}}
	vals := []string{"", "in", "", "abc"}
	var b []byte
	var before *Spec
	for i := range want {
		b = AppendSpec(b, &want[i], before, []byte(vals[i]))
		before = &want[i]
	}
	i := 0
	if err := ParseSpecs(b, func(s *Spec, val []byte) {
		if *s != want[i] || string(val) != vals[i] {
			t.Errorf("%+v %q, want %+v %q", *s, val, want[i], vals[i])
		}
		i++
	}); err != nil || i != len(want) {
		t.Fatal(i, err)
	}
	for n := range len(b) {
		if err := ParseSpecs(b[:n], func(*Spec, []byte) {}); err != nil && !errors.Is(err, ErrMalformed) {
			t.Fatal(err)
		}
	}
}

// again checks that what was parsed is written as the same bytes.
func again[T any](t *testing.T, v T, b []byte, parse func([]byte) (T, error)) {
	t.Helper()
	got, err := parse(b)
	if err != nil || !reflect.DeepEqual(got, v) {
		t.Errorf("%+v, want %+v: %v", got, v, err)
	}
	if _, err := parse(append(bytes.Clone(b), 0)); !errors.Is(err, ErrMalformed) {
		t.Errorf("%T: what follows is not seen: %v", v, err)
	}
	for n := range len(b) {
		if _, err := parse(b[:n]); !errors.Is(err, ErrMalformed) {
			t.Errorf("%T: the first %d of %d bytes are read: %v", v, n, len(b), err)
		}
	}
}

func TestMessages(t *testing.T) {
	g := Grant{Lease: Lease{9, 4}, ID: "a", Kind: "render", Key: "k", Attempt: 2, Timeout: 5, Input: []byte("in")}
	again(t, g, AppendGrant(nil, &g), func(b []byte) (Grant, error) { return ParseGrant(9, b) })
	e := End{ID: "a", State: Parked, Outcome: Dirty, Cause: ByHand, Attempts: 3, Reason: "why", Val: []byte("v")}
	again(t, e, AppendEnd(nil, &e), ParseEnd)
	a := Advance{"a", -1, 1 << 40}
	again(t, a, AppendAdvance(nil, &a), ParseAdvance)
	o := Offer{Kinds: []string{"a", "b"}, Labels: map[string]string{"gpu": "yes", "zone": ""}, Slots: 3, Prefetch: 4, Bytes: 5}
	again(t, o, AppendOffer(nil, &o), ParseOffer)
	l := Limits{Capacity: 1, Rate: 2, Burst: 3, Running: 4, KeyRate: 5, KeyRunning: 6, Sticky: true, Retain: 7, MaxRetained: 8, MaxLosses: 9}
	again(t, l, AppendLimits(nil, &l), ParseLimits)
	s := Schedule[[]byte]{Name: "n", Text: "@daily", Spec: full(), Val: []byte("in"), Next: 5, Last: 4, Skip: true}
	again(t, s, AppendSchedule(nil, &s), func(b []byte) (Schedule[[]byte], error) { return ParseSchedule("n", b) })
	s.Skip, s.All, s.Paused = false, true, true
	again(t, s, AppendSchedule(nil, &s), func(b []byte) (Schedule[[]byte], error) { return ParseSchedule("n", b) })
	k := Ask{"n", "@daily", 4, 5}
	again(t, k, AppendAsk(nil, &k), ParseAsk)
	for n := uint64(1); Error(n) != nil; n++ {
		if Number(Error(n)) != n {
			t.Errorf("error %d", n)
		}
		id, why, err := ParseRefusal(AppendRefusal(nil, "a", Error(n)))
		if id != "a" || !errors.Is(why, Error(n)) || err != nil {
			t.Error(id, why, err)
		}
	}
}

func TestLists(t *testing.T) {
	want := []Report[[]byte]{
		{Lease: Lease{1, 1}, Outcome: OK, Val: []byte("out")},
		{Lease: Lease{2, 9}, Outcome: Dirty, Permanent: true, After: 5, Message: "m", Val: []byte("e")},
	}
	var b []byte
	for i := range want {
		b = AppendReport(b, &want[i])
	}
	var got []Report[[]byte]
	if err := ParseReports(b, func(p *Report[[]byte]) { got = append(got, *p) }); err != nil || !reflect.DeepEqual(got, want) {
		t.Fatalf("%+v %v", got, err)
	}
	ls, err := ParseLeases(AppendLease(AppendLease(nil, Lease{1, 2}), Lease{3, 4}))
	if err != nil || !reflect.DeepEqual(ls, []Lease{{1, 2}, {3, 4}}) {
		t.Fatal(ls, err)
	}
	if err := ParseProgress(AppendProgress(nil, Lease{1, 2}, 3, 4), func(l Lease, done, total int64) {
		if l != (Lease{1, 2}) || done != 3 || total != 4 {
			t.Error(l, done, total)
		}
	}); err != nil {
		t.Fatal(err)
	}
}

// FuzzParse: any bytes may come.
func FuzzParse(f *testing.F) {
	s := full()
	f.Add(AppendSpec(nil, &s, nil, []byte("in")))
	f.Add(AppendReport(nil, &Report[[]byte]{Lease: Lease{1, 2}, Outcome: Clean, Message: "m"}))
	f.Add(AppendOffer(nil, &Offer{Kinds: []string{"a"}, Labels: map[string]string{"k": "v"}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		_ = ParseSpecs(b, func(*Spec, []byte) {})
		_ = ParseReports(b, func(*Report[[]byte]) {})
		_ = ParseProgress(b, func(Lease, int64, int64) {})
		_, _ = ParseLeases(b)
		_, _ = ParseGrant(1, b)
		_, _ = ParseEnd(b)
		_, _ = ParseAdvance(b)
		_, _, _ = ParseRefusal(b)
		_, _ = ParseLimits(b)
		_, _ = ParseSchedule("n", b)
		_, _ = ParseAsk(b)
		if o, err := ParseOffer(b); err == nil {
			if got := AppendOffer(nil, &o); !bytes.Equal(got, b) {
				t.Fatalf("%x is written as %x", b, got)
			}
		}
	})
}
