package journal

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/distgear/distgear/internal/wire"
)

// happened is a journal of the diamond in which these records followed.
func happened(t *testing.T, recs ...Record) *Past {
	t.Helper()
	var u Unit
	u.Add(&Record{Kind: Planned, Shape: diamond()})
	for i := range recs {
		u.Add(&recs[i])
	}
	p, err := Read([][]byte{u.Bytes(1)})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func sent(step, number uint32) Record {
	return Record{Kind: Sent, Step: step, Number: number, Node: "w1", HasIn: step == 1}
}

func came(step, number uint32, o wire.Outcome) Record {
	return Record{Kind: Reported, Step: step, Number: number, Report: Report{Outcome: o, Over: true}}
}

// Steps of the same name and kind keep what is recorded of them.
func TestAdopt(t *testing.T) {
	// c is gone, f is new, and comes after b; d comes after it.
	has := &Plan{Name: "deploy", Steps: []Step{
		{Name: "a", Kind: "op", Undo: true, Input: []byte("other")}, {Name: "f", Kind: "op"}, {Name: "b", Kind: "op", After: []uint32{0}},
		{Name: "d", Kind: "inner", Event: true, After: []uint32{1, 2}},
	}}
	for _, c := range []struct {
		name string
		recs []Record
		want string // kind step number
		err  string
	}{
		{"nothing was sent", nil, "adopted 0 0", ""},
		{"a is ok, b runs", []Record{sent(0, 0), came(0, 0, wire.OK), sent(1, 1)}, "adopted 0 2; sent 0 0; reported 0 0; sent 2 1", ""},
		{"a was tried twice", []Record{sent(0, 0), came(0, 0, wire.Clean), sent(0, 1), came(0, 1, wire.OK)}, "adopted 0 2; sent 0 1; reported 0 1", ""},
		{"what is ok and gone stays done", []Record{sent(0, 0), came(0, 0, wire.OK), sent(2, 1), came(2, 1, wire.OK)}, "adopted 0 2; sent 0 0; reported 0 0", ""},
		{"what runs is gone", []Record{sent(0, 0), came(0, 0, wire.OK), sent(2, 1)}, "", "step c is sent to w1; run the version that made it"},
		{"a step failed", []Record{sent(0, 0), came(0, 0, wire.Dirty)}, "", "step a is failed, dirty"},
		{"it is undone", []Record{sent(0, 0), came(0, 0, wire.OK), {Kind: Cancelled}}, "", "it does not go forward any more"},
		{"a was given up, and its result came late", []Record{sent(0, 0), {Kind: Reported}, came(0, 0, wire.OK)}, "", "it does not go forward any more"},
		{"d comes after what is not ok", []Record{sent(0, 0), came(0, 0, wire.OK), sent(1, 1), came(1, 1, wire.OK), sent(2, 2), came(2, 2, wire.OK), sent(3, 3)}, "",
			"step d is ok and comes after f now, which is not"},
	} {
		t.Run(c.name, func(t *testing.T) {
			recs, err := happened(t, c.recs...).Plans[0].Adopt(0, has)
			if (err != nil) != (c.err != "") || err != nil && !strings.Contains(err.Error(), c.err) {
				t.Fatalf("%v, want %q", err, c.err)
			}
			var got []string
			for _, r := range recs {
				got = append(got, r.Kind.String()+" "+string(rune('0'+r.Step))+" "+string(rune('0'+r.Number)))
			}
			if s := strings.Join(got, "; "); s != c.want {
				t.Errorf("%s, want %s", s, c.want)
			}
			if len(recs) > 1 && string(recs[0].Shape.Steps[0].Input) != "1" {
				t.Errorf("the input of a step that was sent is %q", recs[0].Shape.Steps[0].Input)
			}
		})
	}
}

// What the handler takes from its run comes back in the order of its calls.
func TestRead_Values(t *testing.T) {
	var u Unit
	for _, v := range []string{"1", "2"} {
		u.Add(&Record{Kind: Value, Name: "now", Input: []byte(v)})
	}
	u.Add(&Record{Kind: Slept, Until: 7})
	u.Add(&Record{Kind: Value, Name: "sleep 2 was broken off", Input: []byte("why")})
	p, err := Read([][]byte{u.Bytes(1)})
	if err != nil {
		t.Fatal(err)
	}
	a, _ := p.Value("now")
	b, _ := p.Value("now")
	if _, more := p.Value("now"); string(a) != "1" || string(b) != "2" || more {
		t.Errorf("%s, %s, more: %v", a, b, more)
	}
	n := p.Nap()
	for now, want := range map[int64]bool{6: false, 7: true} {
		if over := n.Over(time.Unix(0, now)); over != want || n.Broke != nil {
			t.Errorf("at %d: over: %v, %+v", now, over, n)
		}
	}
	if n = p.Nap(); n.Over(time.Unix(9, 0)) || n.Name != "sleep 2 was broken off" || string(n.Broke) != "why" {
		t.Errorf("%+v", n)
	}
}

// Records that do not fit together are malformed.
func TestRead_Malformed(t *testing.T) {
	for _, r := range []Record{sent(0, 0), {Kind: Sent, Plan: 1}} {
		var u Unit
		u.Add(&r)
		if _, err := Read([][]byte{u.Bytes(1)}); !errors.Is(err, ErrMalformed) {
			t.Errorf("%v: %v", r.Kind, err)
		}
	}
	var u Unit
	u.Add(&Record{Kind: Planned, Shape: diamond()})
	r := sent(5, 0)
	u.Add(&r)
	if _, err := Read([][]byte{u.Bytes(1)}); !errors.Is(err, ErrMalformed) || !strings.Contains(err.Error(), "has no step 5") {
		t.Errorf("%v", err)
	}
}

// Attempts are numbered one after the other: what says otherwise would have who goes on
// make room for as many.
func TestRead_AttemptsThatJump(t *testing.T) {
	for name, recs := range map[string][]Record{
		"sent":    {sent(0, 0), sent(1, 2)},
		"adopted": {sent(0, 0), {Kind: Adopted, Number: 1 << 31, Shape: diamond()}},
	} {
		var u Unit
		u.Add(&Record{Kind: Planned, Shape: diamond()})
		for i := range recs {
			u.Add(&recs[i])
		}
		if _, err := Read([][]byte{u.Bytes(1)}); !errors.Is(err, ErrMalformed) || !strings.Contains(err.Error(), "comes after 1 others") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
